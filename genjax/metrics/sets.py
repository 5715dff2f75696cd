"""Sets of images to be measured, as 8-bit batches: arrays, all that `--data` takes, and what a run draws."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from genjax import data
from genjax.errors import InputError, one_line
from genjax.metrics.checks import image_values
from genjax.nn import ops
from genjax.shapes import AnyArray

MOST = 500_000  # images that a run is drawn for: their latents are held at once
GATHERED_PIXELS = 2**24  # of the images of a streamed set that are read at a time

Labels = Callable[
    [np.ndarray], np.ndarray
]  # int [n] places in a set -> int32 [n], the labels of those images


class Images(NamedTuple):
    """A set of images of one shape, in a fixed order."""

    name: str  # for a person
    count: int
    fingerprint: str  # tells this set from any other
    batches: Callable[
        [int], Iterator[np.ndarray]
    ]  # from this image on, each time anew: uint8 [b, h, w, c], of any b
    shape: tuple[int, ...] = ()  # (h, w, c), where it is known
    labels: Labels | None = None  # of a labelled set; they cost no decoding
    num_labels: int = 0
    own_sizes: bool = False  # each of `batches` is one image, of a size of its own
    weights: str = (
        ""  # of a run: SHA-256 of its file of weights, or of a checkpoint's arrays, hexadecimal
    )


def open_set(
    what: "AnyArray | str | Path | data.Source | Images",
    count: int | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    shape: tuple[int, ...] = (),
    option: str = "set",
    max_bad: float = 0.01,
    own_sizes: bool = False,
) -> Images:
    """What is to be measured: an array [n, h, w, c], uint8 or float in [-1, 1]; a data set's SPEC, of which `split`; a run's folder, which draws.

    `count` images: of a set that has more, a choice by `seed` without replacement, in the set's order (None: all); of a run, as many
    (None: 50,000), from latents of `seed`. A SPEC's are brought to `shape`, (h, w, c), as for training; (): as they are, and all of one size,
    or with `own_sizes` of any, if it is a folder, a zip or of tfds. `max_bad`: share of a SPEC's images that may be unreadable.
    Raises InputError, naming `option`, for fewer than there are, and for an array of other numbers (`checks.image_values`).
    """
    if isinstance(what, Images):
        return what
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: from 0 to {2**32 - 1}")
    if is_run(what):
        return open_run(Path(what))[1](50_000 if count is None else count, seed)
    if isinstance(what, (str, Path)):
        form: dict[str, Any] = {"crop": "whole", "own_sizes": own_sizes}
        if shape:
            form = {"resolution": shape[:2], "channels": shape[2]}
        form |= {"field": option.removeprefix("--").replace("-", "_"), "adjustable": ("max_bad",)}
        what = data.load(str(what), split=split, max_bad=max_bad, **form)
    if not isinstance(what, data.Source):
        try:
            what = image_values(what, option)
        except ValueError as error:
            raise InputError(str(error)) from None
    size = what.size if isinstance(what, data.Source) else len(what)
    if not size or (count is not None and not 1 <= count <= size):
        raise InputError(f"{option}: has {size} images, and {count or 'some'} are asked for")
    chosen = np.arange(size)
    if count is not None and count < size:
        chosen = np.sort(np.random.default_rng(seed).choice(size, count, replace=False))
    part, labels, classes = "" if len(chosen) == size else f", {count} of seed {seed}", None, 0
    if isinstance(what, data.Source):
        name, fingerprint, arrays = (
            what.name + part,
            f"{what.fingerprint} {what.shape}{part}",
            what.arrays,
        )
        labels, classes = _labels(what, chosen), what.num_labels
        if arrays is None:  # too large to be read for a digest: the source's stands for it
            own = 0 in what.shape
            batches = lambda start=0: (_one_by_one if own else _gathered)(what, chosen[start:])
            return Images(
                name,
                len(chosen),
                fingerprint,
                batches,
                () if own else what.shape,
                labels,
                classes,
                own,
            )
        pixels = arrays["images"]
    else:
        name, pixels = f"array of {size} images{part}", np.asarray(what)
    pixels = np.ascontiguousarray(
        (pixels if pixels.dtype == np.uint8 else np.asarray(ops.to_uint8(pixels)))[chosen]
    )
    digest = f"{hashlib.sha256(pixels.data).hexdigest()} {pixels.shape}"
    return Images(
        name,
        len(chosen),
        digest,
        lambda start=0: iter([pixels[start:]]),
        pixels.shape[1:],
        labels,
        classes,
    )


def _labels(source: data.Source, chosen: np.ndarray) -> Labels | None:
    """Labels by place among the chosen images; None of a set without."""
    if source.arrays is not None and "labels" in source.arrays:
        known = source.arrays["labels"]
        return lambda places: known[chosen[places]]
    label = source.label
    if label is None:
        return None
    return lambda places: np.fromiter(
        (label(int(index)) for index in chosen[places]), np.int32, len(places)
    )


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
    """The real set and the fake ones, to be compared: of a run a set of each of `seeds`, else the one there is, chosen by the first.

    `count` images of the fake set (None: all, of a run `of_run`). A real SPEC is brought to the shape that a run draws, the longer side cut;
    a conditional run draws classes as often as a labelled real set has them. `max_bad` and `own_sizes` are of SPECs, as in `open_set`. Two runs
    are measured as what both draw, the first from a seed of its own (equal latents would make the sets alike). Raises InputError.
    """
    form: dict[str, Any] = {"seed": seeds[0], "max_bad": max_bad}
    truth = None
    if is_run(real):
        seed = (seeds[-1] + 1) % 2**32
        truth = open_run(Path(real), option="real")[1](
            of_run if real_count is None else real_count, seed
        )
    if not is_run(fake):
        made = open_set(fake, count, split=fake_split, option="fake", own_sizes=own_sizes, **form)
        truth = truth or open_set(
            real, real_count, split=split, option="real", own_sizes=own_sizes, **form
        )
        return truth, [made]
    shape, draw = open_run(Path(fake), truncation, step)
    truth = truth or open_set(real, real_count, split=split, shape=shape, option="real", **form)
    return truth, [draw(of_run if count is None else count, seed, truth) for seed in seeds]


def _gathered(source: data.Source, chosen: np.ndarray) -> Iterator[np.ndarray]:
    size = max(1, min(256, GATHERED_PIXELS // (source.shape[0] * source.shape[1])))
    for start in range(0, len(chosen), size):
        yield data.gather(source, chosen[start : start + size])["images"]


def _one_by_one(source: data.Source, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Each image as [1, h, w, c]; as many are decoded at a time as there are threads."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(chosen), threads):
            for item in pool.map(source.read, chosen[start : start + threads].tolist()):
                yield item["images"][None]


def open_run(
    run: Path, truncation: float = 1.0, step: int | None = None, option: str = "fake"
) -> tuple[tuple[int, ...], Callable[..., Images]]:
    """The shape of the images of a run's model, and a function of (count, seed, real set or None) that gives so many of them.

    It is the one place where a metric meets models, and only once a run is given. The weights are those that training ended with, or the
    checkpoint of `step`. Labels of a conditional model are `class_labels`. Raises InputError.
    """
    import genjax
    from genjax import sampling
    from genjax.training import checkpoint

    model, weights = genjax.load(run, step)
    if not hasattr(model, "sample"):
        raise InputError(
            f"{run}: its model draws no images; give a folder of pictures that it has made"
        )
    sampling.check_truncation(model, truncation)
    draw = sampling.drawer(model, truncation)
    weights_id = (
        checkpoint.weights_id(weights) if step is not None else _sha256(run / checkpoint.WEIGHTS)
    )

    def of(count: int, seed: int, real: Images | None = None) -> Images:
        if not 1 <= count <= MOST:
            raise InputError(
                f"{option} {run}: {count} images are asked for; at least 1, and no more than {MOST}"
            )
        given = {"seed": seed, "truncation": None if truncation == 1 else truncation, "step": step}
        said = [
            f"{count} images of {run}",
            *(f"{name} {value}" for name, value in given.items() if value is not None),
        ]
        classes = class_labels(model, count, seed, real)
        if classes is not None:
            said.append(
                "labels as often as real ones" if real and real.labels else "each class in turn"
            )
        batches = lambda start=0: sampling.drawn(model, weights, draw, count, seed, classes, start)
        identity = [weights_id, type(model).__name__, repr(model.config), count, seed, truncation]
        drawn = hashlib.sha256(
            repr(identity).encode() + (b"" if classes is None else classes.tobytes())
        ).hexdigest()
        return Images(
            one_line(", ".join(said)),
            count,
            f"drawn {drawn}",
            batches,
            model.config.shape,
            None if classes is None else classes.__getitem__,
            0 if classes is None else model.config.num_labels,
            weights=weights_id,
        )

    return model.config.shape, of


def class_labels(
    model: Any, count: int, seed: int, real: Images | None = None
) -> np.ndarray | None:
    """The labels of `count` generated images, int32 [count]; None of a model without labels.

    Each is the label of a real image chosen at random by `seed`, as published evaluations draw them (Karras et al.
    2020, arXiv 2006.06676), so that classes are as frequent as there; without a labelled real set each class in turn.
    Raises InputError where the real set has more classes than the model.
    """
    from genjax import sampling

    turns = sampling.labels(model, None, range(count))
    if turns is None or real is None or real.labels is None:
        return turns
    if real.num_labels > model.config.num_labels:
        raise InputError(
            f"{real.name}: has {real.num_labels} classes, and the model draws {model.config.num_labels}; "
            "give the set that it was trained on, or one without labels"
        )
    places = np.random.default_rng(seed).choice(real.count, count)
    return real.labels(places).astype(np.int32)


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
