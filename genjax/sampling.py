"""Images by seed, walks through latents and tables of styles: what the commands that draw have in common. Functions of weights.

A seed's latents are those of `model.sample(weights, jax.random.key(seed), 1)`, whatever else is drawn beside them.
"""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Weights
from genjax.errors import InputError, printable
from genjax.nn import ops

MOST = 65_536  # images a command
TRUNCATION = 100  # beyond which latents overflow rather than draw
BATCH = 64  # images at once, and ...
BATCH_PIXELS = 2**22  # ... pixels at once, so that memory is bounded for large images as well

Draw = Callable[..., Any]  # (weights, latents [n, size], labels [n] or None) -> images [n, h, w, c]


# --- what a person types -------------------------------------------------------------------------------------------------


def numbers(option: str, text: str, limit: int = 2**32) -> list[int]:
    """`0-3,7,9-12` as a list, in that order. Raises InputError, naming the option, on other text and on `limit` or more."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r" *([0-9]{1,20})(?: *- *([0-9]{1,20}))? *", part)
        if not match:
            raise InputError(f"{option} {text}: numbers and ranges such as 0-3,7,9-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(
                f"{option} {text}: {part.strip()} goes down; ranges go up, such as {last}-{first}"
            )
        if last >= limit:
            raise InputError(f"{option} {text}: numbers from 0 to {limit - 1}")
        if len(found) + last - first >= MOST:
            raise InputError(f"{option} {text}: at most {MOST}")
        found += range(first, last + 1)
    return found


def grid(text: str) -> tuple[int, int]:
    """`8x4` as (columns, rows). Raises InputError."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if not match or not 1 <= int(match[1]) * int(match[2]) <= MOST:
        raise InputError(f"--grid {text}: columns x rows such as 8x4, of 1 to {MOST} images")
    return int(match[1]), int(match[2])


def labels(model: Any, label: int | None, seeds: Sequence[int]) -> np.ndarray | None:
    """The label of each seed's image, int32 [n]: the one asked for, else each class in turn. None for a model without.

    Raises InputError.
    """
    if label is None:
        return (
            np.array([seed % model.config.num_labels for seed in seeds], np.int32)
            if conditional(model)
            else None
        )
    return np.full(len(seeds), class_index(model, str(label), ()), np.int32)


def class_index(model: Any, label: str, names: Sequence[str]) -> int | None:
    """The class that --label names: one of `names`, in the order of their numbers, or else a number. None of "".

    Raises InputError for a model without labels, and for what is neither.
    """
    if not label:
        return None
    if not conditional(model):
        raise InputError(f"--label {label}: the model was trained without labels; leave it out")
    names = names[: model.config.num_labels]
    if label in names:
        return names.index(label)
    if re.fullmatch("[0-9]{1,9}", label) and int(label) < model.config.num_labels:
        return int(label)
    near = difflib.get_close_matches(label, names, 3, 0.5) or names[:3]
    named = (
        f"one of its {len(names)} classes, such as {', '.join(printable(name, 40) for name in near)}, or a number "
        if names
        else ""
    )
    raise InputError(f"--label {label}: {named}from 0 to {model.config.num_labels - 1}")


def conditional(model: Any) -> bool:
    return getattr(model.config, "conditional", False) not in (False, "none")


def check_truncation(model: Any, truncation: float) -> None:
    """Raise InputError on one that means nothing, or nothing for this model."""
    if not abs(truncation) <= TRUNCATION:
        raise InputError(
            f"--truncation {truncation}: from -{TRUNCATION} to {TRUNCATION}, such as 0.7"
        )
    if truncation != 1 and "truncation" not in inspect.signature(model.sample).parameters:
        raise InputError(
            f"--truncation {truncation}: the model has none (stylegan2, gan and dcgan have); leave it out"
        )


# --- drawing -------------------------------------------------------------------------------------------------------------


def of_seeds(seeds: Sequence[int], size: int) -> jax.Array:
    """Latents [n, size], each of its seed alone."""
    keys = jax.vmap(jax.random.key)(np.array(seeds, np.uint32))
    return jax.vmap(lambda key: jax.random.normal(key, (1, size))[0])(keys)


def drawer(model: Any, truncation: float = 1.0) -> Draw:
    """What turns latents into images, by the model's own verbs; `sample` is this on random latents. Each is compiled anew: make one, use it often."""
    if hasattr(model, "synthesis"):
        return lambda weights, z, labels: model.synthesis(
            weights, model.mapping(weights, z, labels, truncation)
        )
    if hasattr(model, "generate"):
        return lambda weights, z, labels: model.generate(weights, truncation * z, labels)
    return lambda weights, z, labels: model.decode(weights, z, labels)


def batch_size(shape: Sequence[int]) -> int:
    """Images of this shape that are drawn at once."""
    return max(1, min(BATCH, BATCH_PIXELS // (shape[0] * shape[1])))


def batches(
    draw: Draw,
    weights: Weights,
    fixed: Sequence[Any],
    along: Sequence[Any],
    shape: Sequence[int],
    first: int = 0,
) -> Iterator[np.ndarray]:
    """`draw(weights, *fixed, *along)` as uint8 [b, h, w, c], in batches of the arrays `along` the images [n, ...].

    None stays None. All batches are of one size, the last one filled up, so that there is one program. The images before `first` are left
    out, and the others are the same, bit for bit, as with them.
    """
    count = len(along[0])
    size = min(count, batch_size(shape))
    for start in range(first - first % size, count, size):
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        images = _pixels(
            draw, weights, *fixed, *(part if part is None else part[chosen] for part in along)
        )
        yield np.asarray(images)[max(first - start, 0) : count - start]


@functools.partial(jax.jit, static_argnums=0)
def _pixels(draw: Draw, *arrays: Any) -> jax.Array:
    return ops.to_uint8(draw(*arrays))


def drawn(
    model: Any,
    weights: Weights,
    draw: Draw,
    count: int,
    seed: int,
    classes: np.ndarray | None = None,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """The images of `model.sample(weights, jax.random.key(seed), count)` as uint8 [b, h, w, c] in batches, by a `drawer`.

    A conditional model's are of `classes`, int32 [count], or of each class in turn. `start`: the first that is drawn.
    """
    z = jax.random.normal(jax.random.key(seed), (count, model.config.latent_size))
    along = (z, labels(model, None, range(count)) if classes is None else classes)
    return batches(
        draw, weights, (), tuple(x if x is None else x[start:] for x in along), model.config.shape
    )


# --- walks ---------------------------------------------------------------------------------------------------------------


def loop(stops: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames spread evenly over a round of `stops`: the stop before each, the one after, and the share of the way between.

    [frames] each. The last frame is as far from the first as any from the next.
    """
    place = stops * np.arange(frames)  # in frames, so that a stop is hit exactly
    before = place // frames
    return before, (before + 1) % stops, (place % frames / frames).astype(np.float32)


def walk(
    model: Any,
    weights: Weights,
    latents: jax.Array,
    labels: np.ndarray | None,
    truncation: float,
    space: str,
    frames: int,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Images uint8 [h, w, c], from frame `first` on, on the way from each of some latents [n, size] to the next, and from the last to the first.

    In space z along arcs, in w (a StyleGAN2's) along lines between styles. `labels` [n] are of the latents; in z, on the way
    that of the latents before holds.
    """
    before, after, share = loop(len(latents), frames)
    ends, draw = latents, drawer(model, truncation)
    if space == "w":
        ends = model.mapping(weights, ends, labels, truncation)

    def between(weights, ends, labels, before, after, share):
        first, second = ends[before], ends[after]
        if space == "z":
            return draw(
                weights,
                ops.slerp(first, second, share[:, None]),
                None if labels is None else labels[before],
            )
        return model.synthesis(weights, first + share[:, None, None] * (second - first))

    for images in batches(
        between, weights, (ends, labels), (before, after, share), model.config.shape, first
    ):
        yield from images


# --- tables --------------------------------------------------------------------------------------------------------------


def style_table(
    model: Any, weights: Weights, rows: jax.Array, columns: jax.Array, layers: Sequence[int]
) -> np.ndarray:
    """Styles of rows [r, layers, size] and columns [c, layers, size] -> uint8 [(r + 1) * (c + 1), h, w, channels], row by row.

    The first row is the columns, the first column the rows, their corner white; else a row's styles, a column's in `layers`.
    """
    row, column = (places.ravel()[1:] for places in np.indices((len(rows) + 1, len(columns) + 1)))
    mixed = np.isin(np.arange(rows.shape[1]), layers)
    from_column = np.where((row * column > 0)[:, None], mixed[None], (row == 0)[:, None])

    def draw(weights, rows, columns, row, column, from_column):
        return model.synthesis(
            weights, jnp.where(from_column[..., None], columns[column], rows[row])
        )

    along = (np.maximum(row - 1, 0), np.maximum(column - 1, 0), from_column)
    shape = model.config.shape
    return np.concatenate(
        [
            np.full((1, *shape), 255, np.uint8),
            *batches(draw, weights, (rows, columns), along, shape),
        ]
    )
