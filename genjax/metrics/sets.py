"""Sets of images to be measured, as 8-bit batches: arrays, all that `--data` takes, and what a run draws."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jax.numpy as jnp
import numpy as np

from genjax import data, ops
from genjax.errors import InputError
from genjax.shapes import AnyArray


class Images(NamedTuple):
    """A set of images of one shape, in a fixed order."""

    name: str  # for a person
    count: int
    fingerprint: str  # tells this set from any other
    batches: Callable[[], Iterator[np.ndarray]]  # the set anew: uint8 [b, h, w, c], of any b
    shape: tuple[int, ...] = ()  # (h, w, c), where it is known
    labels: np.ndarray | None = None  # int32 [count], of a labelled set that is resident


def open_set(
    what: "AnyArray | str | Path | data.Source | Images",
    count: int | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    shape: tuple[int, ...] = (),
    option: str = "set",
) -> Images:
    """What is to be measured: an array [n, h, w, c], uint8 or float in [-1, 1]; a data set's SPEC, of which `split`; a run's folder, which draws.

    `count` images: of a set that has more, a choice by `seed` without replacement, in the set's order (None: all); of a run, as many
    (None: 50,000), from latents of `seed`. A SPEC's are brought to `shape`, (h, w, c), as for training; (): as they are, and all of one size.
    Raises InputError, naming `option`, for fewer than there are, and for an array of other numbers.
    """
    if isinstance(what, Images):
        return what
    if is_run(what):
        return open_run(Path(what))[1](50_000 if count is None else count, seed)
    if isinstance(what, (str, Path)):
        form: dict[str, Any] = {"resolution": shape[:2], "channels": shape[2]} if shape else {"crop": "whole"}
        what = data.load(str(what), split=split, option=option, **form)
    size = what.size if isinstance(what, data.Source) else len(what)
    if not size or (count is not None and not 1 <= count <= size):
        raise InputError(f"{option}: has {size} images, and {count or 'some'} are asked for")
    chosen = np.arange(size)
    if count is not None and count < size:
        chosen = np.sort(np.random.default_rng(seed).choice(size, count, replace=False))
    part, labels = "" if len(chosen) == size else f", {count} of seed {seed}", None
    if isinstance(what, data.Source):
        name, fingerprint, arrays = what.name + part, f"{what.fingerprint} {what.shape}{part}", what.arrays
        if arrays is None:  # too large to be read for a digest: the source's stands for it
            return Images(name, len(chosen), fingerprint, lambda: _gathered(what, chosen), what.shape)
        pixels, labels = arrays["images"], arrays["labels"][chosen] if "labels" in arrays else None
    else:
        name, pixels = f"array of {size} images{part}", np.asarray(what)
    if pixels.ndim != 4:
        raise InputError(f"{option}: images are [n, height, width, channels], not {list(pixels.shape)}")
    pixels = np.ascontiguousarray((pixels if pixels.dtype == np.uint8 else _bytes(pixels, option))[chosen])
    digest = f"{hashlib.sha256(pixels.data).hexdigest()} {pixels.shape}"
    return Images(name, len(chosen), digest, lambda: iter([pixels]), pixels.shape[1:], labels)


def _bytes(pixels: np.ndarray, option: str) -> np.ndarray:
    """Images in [-1, 1] as uint8. Raises InputError for what are none, since clipped they would give distances that look like any."""
    if not np.issubdtype(pixels.dtype, np.floating) and pixels.dtype != jnp.bfloat16:
        raise InputError(f"{option}: images are uint8, or float in [-1, 1], not {pixels.dtype}")
    low, high = float(pixels.min()), float(pixels.max())
    if not -1.001 <= low <= high <= 1.001:  # false of NaN too
        raise InputError(f"{option}: float images are in [-1, 1], these in [{low:g}, {high:g}]; scale or clip them")
    if low >= 0:
        warnings.warn(f"{option}: no value of these images is below 0; those in [0, 1] have to be made 2 x - 1", stacklevel=3)
    return np.asarray(ops.to_uint8(pixels))


def open_pair(
    real: Any, fake: Any, count: int | None, *, of_run: int, seeds: Sequence[int], real_count: int | None = None, split: str = "train",
    fake_split: str = "train", truncation: float = 1.0, step: int | None = None,
) -> tuple[Images, list[Images]]:  # fmt: skip
    """The real set and the fake ones, to be compared: of a run a set of each of `seeds`, else the one there is, chosen by the first.

    `count` images of the fake set (None: all, of a run `of_run`). A real SPEC is brought to the shape that a run draws, the longer side cut;
    a conditional run draws classes as often as a labelled real set has them. Raises InputError.
    """
    if not is_run(fake):
        made = open_set(fake, count, seed=seeds[0], split=fake_split, option="fake")
        return open_set(real, real_count, seed=seeds[0], split=split, option="real"), [made]
    shape, draw = open_run(Path(fake), truncation, step)
    truth = open_set(real, real_count, seed=seeds[0], split=split, shape=shape, option="real")
    return truth, [draw(of_run if count is None else count, seed, truth.labels) for seed in seeds]


def _gathered(source: data.Source, chosen: np.ndarray, size: int = 256) -> Iterator[np.ndarray]:
    for start in range(0, len(chosen), size):
        yield data.gather(source, chosen[start : start + size])["images"]


def open_run(run: Path, truncation: float = 1.0, step: int | None = None) -> tuple[tuple[int, ...], Callable[..., Images]]:
    """The shape of the images of a run's model, and a function of (count, seed, labels of the real set or None) that gives so many of them.

    It is the one place where a metric meets models, and only once a run is given. The weights are those that training ended with, or the
    checkpoint of `step`. Of a conditional model each image has the label of a real one at random, without any each class in turn. Raises
    InputError.
    """
    import genjax
    from genjax import latents

    model, weights = genjax.load(run, step)
    if not hasattr(model, "sample"):
        raise InputError(f"{run}: its model draws no images; give a folder of pictures that it has made")
    latents.check_truncation(model, truncation)
    draw = latents.drawer(model, truncation)

    conditional = latents.labels(model, None, [0]) is not None

    def of(count: int, seed: int, labels: np.ndarray | None = None) -> Images:
        if count < 1:
            raise InputError(f"{run}: {count} images are asked for; at least 1")
        given = {"seed": seed, "truncation": None if truncation == 1 else truncation, "step": step}
        said = [f"{count} images of {run}", *(f"{name} {value}" for name, value in given.items() if value is not None)]
        classes = None
        if conditional and labels is not None and labels.max() < model.config.num_labels:
            classes = np.random.default_rng(seed).choice(labels, count).astype(np.int32)
            said.append("labels as often as real ones")
        batches = lambda: latents.drawn(model, weights, draw, count, seed, classes)
        return Images(", ".join(said), count, "", batches, model.config.shape)

    return model.config.shape, of


def is_run(what: Any) -> TypeGuard[str | Path]:
    return isinstance(what, (str, Path)) and (Path(what) / "config.json").is_file()


def rebatched(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same images, `size` at a time, the last ones fewer."""
    rest = None
    for batch in batches:
        batch = batch if rest is None else np.concatenate([rest, batch])
        whole = len(batch) - len(batch) % size
        yield from (batch[start : start + size] for start in range(0, whole, size))
        rest = batch[whole:]
    if rest is not None and len(rest):
        yield rest
