"""What a trained CycleGAN does: pure, compiled functions over weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from genjax.core import Array, Batch, PyTree, Weights
from genjax.models.cyclegan import step as training
from genjax.models.cyclegan.config import DIRECTIONS, Config, multiple


def _padded(config: Config, images: Array) -> Array:
    """Reflect the images to sides that the generators take."""
    height, width = images.shape[1:3]
    missing = [-size % multiple(config) for size in (height, width)]
    if not any(missing):
        return images
    pads = [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)]
    mode = "reflect" if min(height, width) > max(missing) else "edge"
    return jnp.pad(images, pads, mode=mode)


def _variables(weights: Weights, direction: str) -> dict[str, Any]:
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is a2b or b2a, not {direction!r}")
    return {"params": weights["params"][f"gen_{direction}"]}


@functools.partial(jax.jit, static_argnames=("config", "direction"))
def translate(
    config: Config,
    weights: Weights,
    images: Array,
    direction: str = "a2b",
    statistics: PyTree | None = None,
) -> Array:
    """Translate images [n, h, w, c] in [-1, 1] of any height and width; the same shape.

    direction: a2b or b2a; ValueError for another
    statistics: of the normalisations, from `statistics` of a larger image of which
        `images` are tiles; None computes them from each image
    """
    given = {} if statistics is None else {"instance": statistics}
    padded, (height, width) = _padded(config, images), images.shape[1:3]
    variables = {**_variables(weights, direction), **given}
    translated = training.generator(config).apply(variables, padded)
    top, left = ((padded.shape[i] - images.shape[i]) // 2 for i in (1, 2))
    return translated[:, top : top + height, left : left + width]


@functools.partial(jax.jit, static_argnames=("config", "direction"))
def statistics(config: Config, weights: Weights, image: Array, direction: str = "a2b") -> PyTree:
    """Return the statistics of the generator's normalisations on an image [1, h, w, c].

    For `translate`, of tiles of a larger copy of the image.
    """
    variables, padded = _variables(weights, direction), _padded(config, image)
    apply = training.generator(config).apply
    return apply(variables, padded, mutable=["instance"])[1]["instance"]


@functools.partial(jax.jit, static_argnames=("config", "direction"))
def cycle(config: Config, weights: Weights, images: Array, direction: str = "a2b") -> Array:
    """Translate images [n, h, w, c] in [-1, 1] and back; the same shape."""
    back = DIRECTIONS[1 - DIRECTIONS.index(direction)]
    there = translate(config, weights, images, direction)
    return translate(config, weights, there, back)


@functools.partial(jax.jit, static_argnames=("config", "side"))
def discriminate(config: Config, weights: Weights, images: Array, side: str = "b") -> Array:
    """Return the logits of patches [n, h', w'] of the discriminator of side a or b.

    High for real images. images: float32 [n, h, w, c] in [-1, 1]
    """
    return training.discriminate(config, weights["params"][f"disc_{side}"], images)


def preview(config: Config, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]:
    """Return up to 16 images of each side beside their translation and the way back."""
    sheets = {}
    for there, back, name in (("a2b", "b2a", "images"), ("b2a", "a2b", "images_b")):
        images = batch[name][:16]
        translated = translate(config, weights, images, there)
        cycled = translate(config, weights, translated, back)
        sheets[there] = jnp.concatenate([images, translated, cycled], axis=2)
    return sheets
