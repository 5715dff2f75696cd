"""Sets of images to be measured, as 8-bit batches.

A set is an array, a data set's SPEC (all that `genjax.data.load` opens), or the folder
of a training run, whose model draws the images.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax import data
from genjax.core import Sampler
from genjax.errors import ConfigError, InputError, one_line
from genjax.metrics.checks import image_values
from genjax.nn import ops
from genjax.shapes import AnyArray

MOST = 500_000  # images drawn from a run: their latents are in memory at once
GATHERED_PIXELS = 2**24  # pixels of a streamed set that are read at a time

# int [n] indices into a set -> int32 [n], the labels of those images
Labels = Callable[[np.ndarray], np.ndarray]


class Images(NamedTuple):
    """A set of images of one shape, in a fixed order."""

    name: str  # to show to a person
    count: int
    fingerprint: str  # distinguishes this set from any other
    # (index of the first image) -> uint8 [b, h, w, c], b of any size; a new pass each
    # time
    batches: Callable[[int], Iterator[np.ndarray]]
    shape: tuple[int, ...] = ()  # (h, w, c), if known
    labels: Labels | None = None  # of a labelled set; reading them decodes no image
    num_labels: int = 0
    own_sizes: bool = False  # each of `batches` is one image, at its own size
    # Of a run: SHA-256 of its file of weights, or of the arrays of a checkpoint,
    # hexadecimal
    weights: str = ""


def open_set(
    what: "AnyArray | str | Path | data.Source | Images",
    count: int | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    shape: tuple[int, ...] = (),
    field: str = "set",
    max_bad: float = 0.01,
    own_sizes: bool = False,
) -> Images:
    """Open a set of images to be measured.

    Args:
        what: an array [n, h, w, c], uint8 or float in [-1, 1]; the SPEC of a data set;
            the folder of a run, which draws; an opened set
        count: number of images. Of a larger set, a choice by `seed` without
            replacement, in the order of the set (None: all); of a run, as many as that
            (None: 50,000), from latents of `seed`
        seed: 0 to 2^32 - 1
        split: split of a SPEC
        shape: (h, w, c) that images of a SPEC are resized to, as for training; (): they
            keep their size, which must be the same for all unless `own_sizes`
        field: name of the caller's argument, for messages
        max_bad: share of images of a SPEC that may be unreadable, 0 to 1
        own_sizes: accept images of several sizes, from a folder, a zip or tfds

    Raises:
        InputError: the set cannot be read, or the array does not hold images
            (`checks.image_values`)
        ConfigError: `count` exceeds the number of images, or `seed` is out of range
    """
    if isinstance(what, Images):
        return what
    if not 0 <= seed < 2**32:
        raise ConfigError("seed", seed, f"must be from 0 to {2**32 - 1}")
    if is_run(what):
        return open_run(Path(str(what)))[1](50_000 if count is None else count, seed)
    if isinstance(what, (str, Path)):
        form: dict[str, Any] = {"crop": "whole", "own_sizes": own_sizes}
        if shape:
            form = {"resolution": shape[:2], "channels": shape[2]}
        what = data.load(
            str(what), split=split, field=field, max_bad=max_bad, adjustable=("max_bad",), **form
        )
    if not isinstance(what, data.Source):
        try:
            what = image_values(what, field)
        except ValueError as error:
            raise InputError(str(error)) from None
    size = what.size if isinstance(what, data.Source) else len(what)
    if not size or (count is not None and not 1 <= count <= size):
        wanted = "at least 1 is needed" if count is None else f"{count} were requested"
        raise ConfigError(field, None, f"has {size} images, but {wanted}")
    chosen = np.arange(size)
    if count is not None and count < size:
        chosen = np.sort(np.random.default_rng(seed).choice(size, count, replace=False))
    choice = "" if len(chosen) == size else f", {count} of seed {seed}"
    labels, num_labels = None, 0
    if isinstance(what, data.Source):
        name = what.name + choice
        labels, num_labels = _labels(what, chosen), what.num_labels
        if what.arrays is None:
            return _streamed(what, chosen, name, choice, labels)
        pixels = what.arrays["images"]
    else:
        name, pixels = f"array of {size} images{choice}", np.asarray(what)
    pixels = pixels if pixels.dtype == np.uint8 else np.asarray(ops.to_uint8(pixels))
    pixels = np.ascontiguousarray(pixels[chosen])
    digest = f"{hashlib.sha256(pixels.data).hexdigest()} {pixels.shape}"
    batches = lambda start=0: iter([pixels[start:]])
    return Images(name, len(chosen), digest, batches, pixels.shape[1:], labels, num_labels)


def _streamed(
    source: data.Source, chosen: np.ndarray, name: str, choice: str, labels: Labels | None
) -> Images:
    """A set too large to hash: the fingerprint of the source stands for its pixels."""
    own_sizes = 0 in source.shape
    read = _one_by_one if own_sizes else _gathered
    return Images(
        name,
        len(chosen),
        f"{source.fingerprint} {source.shape}{choice}",
        lambda start=0: read(source, chosen[start:]),
        () if own_sizes else source.shape,
        labels,
        source.num_labels,
        own_sizes,
    )


def _labels(source: data.Source, chosen: np.ndarray) -> Labels | None:
    """Labels by index among the chosen images; None for a set without labels."""
    if source.arrays is not None and "labels" in source.arrays:
        known = source.arrays["labels"]
        return lambda indices: known[chosen[indices]]
    label = source.label
    if label is None:
        return None

    def labels(indices: np.ndarray) -> np.ndarray:
        each = (label(int(index)) for index in chosen[indices])
        return np.fromiter(each, np.int32, len(indices))

    return labels


def open_pair(
    real: Any,
    fake: Any,
    count: int | None,
    *,
    of_run: int,
    seeds: Sequence[int],
    real_count: int | None = None,
    split: str = "train",
    fake_split: str = "train",
    truncation: float = 1.0,
    step: int | None = None,
    max_bad: float = 0.01,
    own_sizes: bool = False,
) -> tuple[Images, list[Images]]:
    """Open the real set and the fake ones, to be compared.

    A run gives one fake set per seed; anything else one set, its choice made by the
    first seed. A real SPEC is resized to the shape that a run draws, the longer side
    cropped; a conditional run draws classes as often as a labelled real set has them. A
    real run draws from a seed of its own, because equal latents would make the two sets
    alike.

    Args:
        real: the real set, as in `open_set`
        fake: the fake set, as in `open_set`
        count: images of each fake set; None: all, of a run `of_run`
        of_run: images drawn from a run if no number is given
        seeds: of the draws
        real_count: images of the real set; None: all
        split: split of a real SPEC
        fake_split: split of a fake SPEC
        truncation: of the images that a fake run draws
        step: checkpoint step of a fake run; None: its final weights
        max_bad: as in `open_set`
        own_sizes: as in `open_set`, unless a run draws

    Raises:
        InputError: as `open_set` and `open_run`
    """
    form: dict[str, Any] = {"seed": seeds[0], "max_bad": max_bad}
    real_set = None
    if is_run(real):
        seed = (seeds[-1] + 1) % 2**32
        draw = open_run(Path(real), field="real")[1]
        real_set = draw(of_run if real_count is None else real_count, seed)
    if not is_run(fake):
        form["own_sizes"] = own_sizes
        fake_set = open_set(fake, count, split=fake_split, field="fake", **form)
        real_set = real_set or open_set(real, real_count, split=split, field="real", **form)
        return real_set, [fake_set]
    shape, draw = open_run(Path(fake), truncation, step)
    if real_set is None:
        real_set = open_set(real, real_count, split=split, shape=shape, field="real", **form)
    return real_set, [draw(of_run if count is None else count, seed, real_set) for seed in seeds]


def _gathered(source: data.Source, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Batches of the chosen images of a streamed source."""
    size = max(1, min(256, GATHERED_PIXELS // (source.shape[0] * source.shape[1])))
    for start in range(0, len(chosen), size):
        yield data.gather(source, chosen[start : start + size])["images"]


def _one_by_one(source: data.Source, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Each image as [1, h, w, c]; one per thread is decoded at a time."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(chosen), threads):
            for item in pool.map(source.read, chosen[start : start + threads].tolist()):
                yield item["images"][None]


def open_run(
    run: Path, truncation: float = 1.0, step: int | None = None, field: str = "fake"
) -> tuple[tuple[int, ...], Callable[..., Images]]:
    """Open a run; return the shape (h, w, c) of its images and a function that draws.

    The function takes (count, seed, real set or None). The labels of a conditional
    model are from `class_labels`. Only here do metrics meet models, whose modules are
    imported when a run is opened.

    Args:
        run: the folder
        truncation: of the images
        step: checkpoint step; None: the final weights
        field: name of the caller's argument, for messages

    Raises:
        InputError: the run cannot be read, its model draws no images, or has no
            truncation
    """
    from genjax import sampling
    from genjax.training import run_folder

    model, weights = sampling.load(run, step)
    sampler = model.sampler
    if sampler is None:
        advice = "give a folder of pictures that it has made"
        raise InputError(f"{run}: its model draws no images of its own; {advice}")
    sampling.check_truncation(sampler, truncation)
    draw = sampling.drawer(sampler, truncation)
    if step is not None:
        weights_id = run_folder.weights_id(weights)
    else:
        weights_id = _sha256(run / run_folder.WEIGHTS)

    def drawn(count: int, seed: int, real: Images | None = None) -> Images:
        """The set of `count` images of `seed`, with labels as frequent as in `real`."""
        if not 1 <= count <= MOST:
            raise ConfigError(
                field, str(run), f"cannot draw {count} images; must be from 1 to {MOST}"
            )
        values = {"seed": seed, "truncation": None if truncation == 1 else truncation, "step": step}
        details = [f"{name} {value}" for name, value in values.items() if value is not None]
        classes = class_labels(sampler, count, seed, real)
        if classes is not None:
            as_real = real is not None and real.labels is not None
            details.append("labels as often as real ones" if as_real else "each class in turn")
        identity = [weights_id, type(model).__name__, repr(model.config), count, seed, truncation]
        label_bytes = b"" if classes is None else classes.tobytes()
        digest = hashlib.sha256(repr(identity).encode() + label_bytes).hexdigest()
        return Images(
            one_line(", ".join([f"{count} images of {run}", *details])),
            count,
            f"drawn {digest}",
            lambda start=0: sampling.drawn(sampler, weights, draw, count, seed, classes, start),
            sampler.shape,
            None if classes is None else classes.__getitem__,
            0 if classes is None else sampler.num_labels,
            weights=weights_id,
        )

    return sampler.shape, drawn


def class_labels(
    sampler: Sampler, count: int, seed: int, real: Images | None = None
) -> np.ndarray | None:
    """Return labels int32 [count] of generated images; None for an unlabelled model.

    Each is the label of a real image chosen at random by `seed`, as in published
    evaluations (Karras et al. 2020, arXiv 2006.06676), so classes are as frequent as in
    the real set. Without a labelled real set, each class in turn.

    Raises:
        InputError: the real set has more classes than the model
    """
    from genjax import sampling

    in_turn = sampling.labels(sampler, None, range(count))
    if in_turn is None or real is None or real.labels is None:
        return in_turn
    if real.num_labels > sampler.num_labels:
        raise InputError(
            f"{real.name}: has {real.num_labels} classes, but the model draws "
            f"{sampler.num_labels}; give the set that it was trained on, "
            "or one without labels"
        )
    indices = np.random.default_rng(seed).choice(real.count, count)
    return real.labels(indices).astype(np.int32)


def _sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_run(what: Any) -> bool:
    """Return whether `what` is the folder of a training run."""
    return isinstance(what, (str, Path)) and (Path(what) / "config.json").is_file()


def rebatched(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield the same images in batches of `size`; the last may be smaller."""
    rest = None
    for batch in batches:
        batch = batch if rest is None else np.concatenate([rest, batch])
        end = len(batch) - len(batch) % size
        yield from (batch[start : start + size] for start in range(0, end, size))
        rest = batch[end:]
    if rest is not None and len(rest):
        yield rest
