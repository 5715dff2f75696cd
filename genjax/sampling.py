"""From weights to pictures: load a run, draw images by seed, in batches, by label.

A seed's latent is that of `model.sample(weights, jax.random.key(seed), 1)`, whatever is
drawn beside it.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import __version__, core, models
from genjax.core import Sampler, Weights
from genjax.errors import ConfigError, InputError, printable
from genjax.nn import ops
from genjax.runtime.shell import say
from genjax.training import checkpoint, run_folder

MOST = 65_536  # images per command
TRUNCATION = 100  # beyond which latents overflow rather than draw
BATCH = 64  # images at once, and ...
BATCH_PIXELS = 2**22  # ... pixels at once, so that memory is bounded for large images as well

DrawLatents = Callable[[Weights, jax.Array, Any], jax.Array]  # (weights, latents, labels)


def load(directory: str | Path, step: int | None = None) -> tuple[Any, Weights]:
    """Load a run's folder: `model, weights = genjax.load("runs/vae")`.

    Reads config.json and model.safetensors only, or the checkpoint of `step`, which
    works during training too. `model` is the tuple of pure functions of its kind, such
    as `models.vae.VAE`. Runs of version 0.1 are read too.

    Raises InputError, a ValueError, if the folder has no finished run, or no such
    checkpoint.
    """
    run = Path(directory)
    settings = run_folder.read_config(run, say)
    try:
        model = models.build(settings["model"], settings["config"])
    except InputError as error:
        written = settings.get("genjax", "an unknown version")
        versions = f"written by genjax {written}, this is {__version__}"
        raise InputError(f"{run / run_folder.CONFIG}: {error} ({versions})") from None
    like = jax.eval_shape(model.init, jax.random.key(0))
    if step is not None:
        return model, core.weights(checkpoint.read(run, like, step))
    return model, run_folder.read_weights(run, core.weights(like))


# --- what users type ------------------------------------------------------------------


def numbers(field: str, text: str, limit: int = 2**32) -> list[int]:
    """Parse `0-3,7,9-12` into a list in that order.

    Raises ConfigError, naming the field, for other text and for `limit` or more.
    """
    chosen: list[int] = []
    for entry in text.split(","):
        match = re.fullmatch(r" *([0-9]{1,20})(?: *- *([0-9]{1,20}))? *", entry)
        if not match:
            raise ConfigError(field, text, "numbers and ranges such as 0-3,7,9-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            advice = f"{entry.strip()} goes down; ranges go up, such as {last}-{first}"
            raise ConfigError(field, text, advice)
        if last >= limit:
            raise ConfigError(field, text, f"numbers from 0 to {limit - 1}")
        if len(chosen) + last - first >= MOST:
            raise ConfigError(field, text, f"at most {MOST}")
        chosen += range(first, last + 1)
    return chosen


def grid(text: str) -> tuple[int, int]:
    """Parse `8x4` into (columns, rows). Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if not match or not 1 <= int(match[1]) * int(match[2]) <= MOST:
        advice = f"columns x rows such as 8x4, of 1 to {MOST} images"
        raise ConfigError("grid", text, advice)
    return int(match[1]), int(match[2])


def labels(sampler: Sampler, label: int | None, seeds: Sequence[int]) -> np.ndarray | None:
    """Return the label of each seed's image, int32 [n]; None for an unconditional
    model.

    `label`, or where it is None the seed modulo the number of classes.
    """
    if not sampler.num_labels:
        return None
    chosen = [seed % sampler.num_labels if label is None else label for seed in seeds]
    return np.array(chosen, np.int32)


def class_index(sampler: Sampler, label: str, names: Sequence[str]) -> int | None:
    """Return the class that a label names: one of `names`, in their order, or a number.

    None for "". Raises ConfigError for an unconditional model, and for another label.
    """
    if not label:
        return None
    count = sampler.num_labels
    if not count:
        raise ConfigError("label", label, "the model was trained without labels; leave it out")
    names = names[:count]
    if label in names:
        return names.index(label)
    if re.fullmatch("[0-9]{1,9}", label) and int(label) < count:
        return int(label)
    near = difflib.get_close_matches(label, names, 3, 0.5) or names[:3]
    shown = ", ".join(printable(name, 40) for name in near)
    named = f"one of its {len(names)} classes, such as {shown}, or a number " if names else ""
    raise ConfigError("label", label, f"{named}from 0 to {count - 1}")


def check_truncation(sampler: Sampler, truncation: float) -> None:
    """Raise ConfigError for a truncation out of range, or not 1 where the model has
    none.
    """
    if not abs(truncation) <= TRUNCATION:
        advice = f"from -{TRUNCATION} to {TRUNCATION}, such as 0.7"
        raise ConfigError("truncation", truncation, advice)
    if truncation != 1 and not sampler.has_truncation:
        raise ConfigError("truncation", truncation, "the model has no truncation; leave it out")


# --- drawing --------------------------------------------------------------------------


def of_seeds(seeds: Sequence[int], z_dim: int) -> jax.Array:
    """Return latents [n, z_dim], each from its seed only."""
    keys = jax.vmap(jax.random.key)(np.array(seeds, np.uint32))
    return jax.vmap(lambda key: jax.random.normal(key, (1, z_dim))[0])(keys)


def drawer(sampler: Sampler, truncation: float = 1.0) -> DrawLatents:
    """Return (weights, latents, labels) -> images, with this truncation.

    Each is compiled anew: make one, use it often.
    """
    return lambda weights, latents, labels: sampler.draw(weights, latents, labels, truncation)


def batch_size(shape: Sequence[int]) -> int:
    """Return how many images of this shape are drawn at once."""
    return max(1, min(BATCH, BATCH_PIXELS // (shape[0] * shape[1])))


def batches(
    draw: Callable[..., jax.Array],
    weights: Weights,
    fixed: Sequence[Any],
    along: Sequence[Any],
    shape: Sequence[int],
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Yield `draw(weights, *fixed, *along)` as uint8 [b, h, w, c], in batches.

    All batches have one size, the last one filled up, so that there is one program.
    Images before `first` are left out, and the others are the same, bit for bit, as
    with them.

    Args:
        draw: gives images float32 [b, h, w, c] in [-1, 1]
        weights: its first argument
        fixed: arguments that are the same for each batch
        along: arrays [n, ...] with one entry per image, cut into batches; None stays
            None
        shape: (h, w, c) of an image
        first: number of the first image
    """
    count = len(along[0])
    size = min(count, batch_size(shape))
    for start in range(first - first % size, count, size):
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        entries = (array if array is None else array[chosen] for array in along)
        images = _pixels(draw, weights, *fixed, *entries)
        yield np.asarray(images)[max(first - start, 0) : count - start]


@functools.partial(jax.jit, static_argnums=0)
def _pixels(draw: Callable[..., jax.Array], *arrays: Any) -> jax.Array:
    return ops.to_uint8(draw(*arrays))


def drawn(
    sampler: Sampler,
    weights: Weights,
    draw: DrawLatents,
    count: int,
    seed: int,
    classes: np.ndarray | None = None,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """Yield the images of `model.sample(weights, jax.random.key(seed), count)`, in
    batches.

    uint8 [b, h, w, c], drawn by a `drawer` of the same sampler.

    Args:
        sampler: of the model
        weights: of the model
        draw: from `drawer`
        count: number of images
        seed: of all latents
        classes: int32 [count] of a conditional model; None takes each class in turn
        start: number of the first image that is drawn
    """
    z = jax.random.normal(jax.random.key(seed), (count, sampler.z_dim))
    if classes is None:
        classes = labels(sampler, None, range(count))
    along = (z[start:], classes if classes is None else classes[start:])
    return batches(draw, weights, (), along, sampler.shape)
