"""Which of a model's images are nearest to what it was trained on, to be looked at: `nearest(real, fake)`, and a picture of them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import InputError
from genjax.metrics import extractors, features, neighbours, sets
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.features import Track
from genjax.metrics.neighbours import Neighbours

MOST_SHOWN = 1000  # rows of the picture


class Nearest(NamedTuple):
    """The samples that look most like copies, the most so first, and what was found of all of them."""

    samples: np.ndarray  # uint8 [shown, h, w, c]
    training: np.ndarray  # uint8 [shown, k, h, w, c]: each one's nearest, nearest first
    order: np.ndarray  # int [shown]: which of the measured ones they are
    found: Neighbours  # of all that were measured, in their order
    real: str
    fake: str

    def sheet(self) -> np.ndarray:
        """A row a sample: it, and its nearest training images: uint8 [shown * (1 + k), h, w, c]."""
        rows = np.concatenate([self.samples[:, None], self.training], 1)
        return rows.reshape(-1, *rows.shape[2:])


def nearest(
    real: Any,
    fake: Any,
    *,
    count: int | None = None,
    shown: int = 8,
    k: int = 5,
    held_out: Any = None,
    held_out_split: str | None = None,
    extractor: str | Extractor = "pixels",
    weights: str | Path | None = None,
    split: str = "train",
    fake_split: str = "train",
    truncation: float = 1.0,
    step: int | None = None,
    seed: int = 0,
    max_bad: float = 0.01,
    track: Track = lambda batches, *_: batches,
) -> Nearest:
    """The k nearest training images of each of `count` samples (of a run 1000 if not given, else all), by pixels or an extractor's features.

    `real`, `fake`, `extractor` and the rest are as of `evaluate`. Shown are those that are nearest to one training image beside how near they
    are to the k-th, since plain images are near to many (after Carlini et al. 2023, arXiv 2301.13188; for k = 1 the nearest). With `held_out`,
    images of the data that the model was not trained on (where they are the SPEC `real`, its part "test" if no other is named), each sample's
    distance also comes as its ratio to their median one: a model that copies has ratios near 0, one that does not has them near 1; no such
    number proves that nothing is memorised. Images are compared at the size they have. Raises InputError.
    """
    if not 1 <= shown <= MOST_SHOWN:
        raise InputError(f"--rows {shown}: from 1 to {MOST_SHOWN}")
    if k < 1:
        raise InputError(f"--k {k}: at least 1")
    if isinstance(extractor, str):
        extractor = extractors.extractor(extractor, weights)
    truth, [drawn] = sets.open_pair(
        real,
        fake,
        count,
        of_run=1000,
        seeds=[seed],
        split=split,
        fake_split=fake_split,
        truncation=truncation,
        step=step,
        max_bad=max_bad,
    )
    if truth.shape != drawn.shape and extractor.name == "pixels":
        raise InputError(
            f"--extractor pixels: images of {truth.shape} and {drawn.shape} do not compare; take a network's features"
        )
    known = features.kept(truth, extractor, ("features",), track=track)["features"]
    unseen = None
    if held_out is not None:
        shape = drawn.shape if sets.is_run(fake) else ()
        same = isinstance(real, str | Path) and str(held_out) == str(real)
        part = held_out_split or ("test" if same else "train")
        others = sets.open_set(
            held_out, split=part, shape=shape, option="--held-out", max_bad=max_bad
        )
        unseen = features.kept(others, extractor, ("features",), track=track)["features"]
    images = np.concatenate(list(drawn.batches(0)))
    made = features.extract(
        drawn._replace(batches=lambda start=0: iter([images[start:]])), extractor, track=track
    )["features"]
    try:
        found = neighbours.nearest_neighbours(made, known, k, held_out=unseen)
    except ValueError as error:
        raise InputError(f"--k {k}: {error}") from None
    first, last = found.distances[:, 0], found.distances[:, -1]
    order = np.argsort(
        first / np.maximum(last, np.finfo(np.float32).tiny) if k > 1 else first, kind="stable"
    )[:shown]
    return Nearest(
        images[order], _chosen(truth, found.indices[order]), order, found, truth.name, drawn.name
    )


def _chosen(images: sets.Images, indices: np.ndarray) -> np.ndarray:
    """The images of these places in the set, uint8 [*indices.shape, h, w, c], in one pass over it."""
    parts, start = {}, 0
    for batch in images.batches(0):
        parts |= {
            index: batch[index - start]
            for index in np.unique(indices)
            if start <= index < start + len(batch)
        }
        start += len(batch)
    return np.stack([parts[index] for index in indices.ravel()]).reshape(
        *indices.shape, *images.shape
    )
