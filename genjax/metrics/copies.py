"""Find the images of a model that look most like copies of its training images.

`nearest(real, fake)` returns them beside their nearest training images, to be looked
at.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import ConfigError
from genjax.metrics import extractors, features, neighbours, sets
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.features import Track
from genjax.metrics.neighbours import Neighbours

MOST_SHOWN = 1000  # samples in the result


class Nearest(NamedTuple):
    """The samples that look most like copies, and the neighbours of all samples."""

    samples: np.ndarray  # uint8 [shown, h, w, c]: most like copies first
    training: np.ndarray  # uint8 [shown, k, h, w, c]: nearest training images, nearest first
    order: np.ndarray  # int [shown]: index of each among all samples
    found: Neighbours  # of all samples, in their order
    real: str
    fake: str

    def sheet(self) -> np.ndarray:
        """Return the rows of a picture, uint8 [shown * (1 + k), h, w, c].

        Each row is a sample followed by its nearest training images.
        """
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
    """Find the k nearest training images of each sample.

    Samples are ranked by the distance to their nearest training image over that to
    their k-th, because plain images are near to many (after Carlini et al. 2023, arXiv
    2301.13188; for k = 1 by the distance). Images are compared at their own size.

    Args:
        real: the training images, as in `evaluate`
        fake: the samples, as in `evaluate`
        count: number of samples; None: all, of a run 1000
        shown: number of samples in the result
        k: neighbours per sample
        held_out: images from the data that the model was not trained on. Each sample's
            distance is then also given as its ratio to their median distance: near 0
            for a model that copies, near 1 for one that does not; no such number proves
            that nothing is memorised
        held_out_split: split of `held_out`; None: "test" if `held_out` is the SPEC
            `real`, else "train"
        extractor: pixels, or the network whose features are compared
        weights: file of its weights; None: in the folder that GENJAX_WEIGHTS names
        split: split of `real`
        fake_split: split of `fake`
        truncation: of the images that a run draws
        step: checkpoint step of a run; None: its final weights
        seed: of the images that a run draws, and of the choice of `count`
        max_bad: share of images of a SPEC that may be unreadable, 0 to 1
        track: shows progress

    Raises:
        InputError: a set or the weights cannot be used
        ConfigError: another argument is out of range
    """
    if not 1 <= shown <= MOST_SHOWN:
        raise ConfigError("shown", shown, f"must be from 1 to {MOST_SHOWN}")
    if k < 1:
        raise ConfigError("k", k, "must be at least 1")
    if isinstance(extractor, str):
        extractor = extractors.extractor(extractor, weights)
    training, [drawn] = sets.open_pair(
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
    if training.shape != drawn.shape and extractor.name == "pixels":
        shapes = f"{training.shape} and {drawn.shape}"
        raise ConfigError(
            "extractor",
            extractor.name,
            f"images of {shapes} do not compare; use the features of a network",
        )

    # Features of the training set, of the held-out images, of the samples
    training_features = features.kept(training, extractor, ("features",), track=track)["features"]
    held_out_features = None
    if held_out is not None:
        same = isinstance(real, str | Path) and str(held_out) == str(real)
        held_out_set = sets.open_set(
            held_out,
            split=held_out_split or ("test" if same else "train"),
            shape=drawn.shape if sets.is_run(fake) else (),
            field="held_out",
            max_bad=max_bad,
        )
        held_out_features = features.kept(held_out_set, extractor, ("features",), track=track)[
            "features"
        ]
    images = np.concatenate(list(drawn.batches(0)))
    in_memory = drawn._replace(batches=lambda start=0: iter([images[start:]]))
    samples = features.extract(in_memory, extractor, track=track)["features"]

    try:
        neighbour = neighbours.nearest_neighbours(
            samples, training_features, k, held_out=held_out_features
        )
    except ValueError as error:
        raise ConfigError("k", k, str(error)) from None
    first, last = neighbour.distances[:, 0], neighbour.distances[:, -1]
    rank = first / np.maximum(last, np.finfo(np.float32).tiny) if k > 1 else first
    order = np.argsort(rank, kind="stable")[:shown]
    pictures = _gather(training, neighbour.indices[order])
    return Nearest(images[order], pictures, order, neighbour, training.name, drawn.name)


def _gather(images: sets.Images, indices: np.ndarray) -> np.ndarray:
    """The images at these indices, uint8 [*indices.shape, h, w, c], in one pass."""
    by_index, start = {}, 0
    for batch in images.batches(0):
        by_index |= {
            index: batch[index - start]
            for index in np.unique(indices)
            if start <= index < start + len(batch)
        }
        start += len(batch)
    gathered = np.stack([by_index[index] for index in indices.ravel()])
    return gathered.reshape(*indices.shape, *images.shape)
