"""Process a large picture in overlapping, blended tiles, within bounded memory."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.errors import ConfigError
from genjax.nn import ops


def translator(
    model: Any, weights: Any, direction: str = "a2b", tile: int = 512, overlap: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function that translates a uint8 [h, w, c] picture by a CycleGAN.

    Pictures may have any size; those larger than `tile` are processed in tiles. All
    tiles are normalised by the statistics of the full picture, reduced to the size of
    one tile: normalised separately, each would get a different contrast. A model
    without `statistics` (the affine network, which needs little memory) gets the full
    picture at once.

    Args:
        model: a CycleGAN
        weights: its weights
        direction: "a2b" or "b2a"
        tile: largest height and width of a tile, in pixels
        overlap: least overlap of neighbouring tiles, in pixels
    """
    translate = functools.partial(model.translate, weights, direction=direction)
    if model.statistics is None:
        return lambda image: np.asarray(
            ops.to_uint8(translate((image.astype(np.float32) / 127.5 - 1)[None]))
        )[0]
    statistics = functools.partial(model.statistics, weights, direction=direction)

    def translated(image: np.ndarray) -> np.ndarray:
        values = image.astype(np.float32) / 127.5 - 1
        small = _reduced(values, tile)
        apply = (
            translate
            if small is values
            else functools.partial(translate, statistics=statistics(small[None]))
        )
        return np.asarray(ops.to_uint8(tiled(apply, values, tile, overlap)))

    return translated


def _reduced(image: np.ndarray, tile: int) -> np.ndarray:
    """Shrink the image to fit into tile x tile, preserving its aspect ratio."""
    height, width, channels = image.shape
    scale = tile / max(height, width)
    if scale >= 1:
        return image
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), channels)
    return np.asarray(jax.image.resize(image, shape, "linear"))


def tiled(
    apply: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: int = 512, overlap: int = 64
) -> np.ndarray:
    """Apply a function to `image` in tiles of at most tile x tile pixels; float32.

    Tiles are evenly spaced and cross-fade linearly over `overlap` pixels or more. All
    have the same size, so `apply` is compiled once; an image that fits into one tile is
    processed at once.

    Args:
        apply: maps [1, h, w, c] to the same height and width
        image: array [h, w, c]
        tile: largest height and width of a tile, in pixels
        overlap: least overlap of neighbouring tiles, in pixels

    Raises:
        ValueError: not 0 <= 2 * overlap <= tile.
    """
    if not 0 <= 2 * overlap <= tile:
        raise ConfigError("overlap", overlap, f"must be from 0 to half of `tile`, {tile}")
    sizes = [min(tile, size) for size in image.shape[:2]]
    pairs = zip(image.shape[:2], sizes, strict=True)
    tops, lefts = [_starts(size, length, overlap) for size, length in pairs]
    weight = np.multiply.outer(*(_fade(length, overlap) for length in sizes))[:, :, None]
    total, weights = None, np.zeros((*image.shape[:2], 1), np.float32)
    for top, left in itertools.product(tops, lefts):
        window = slice(top, top + sizes[0]), slice(left, left + sizes[1])
        result = np.asarray(apply(image[window][None]), np.float32)[0]
        if total is None:
            total = np.zeros((*image.shape[:2], result.shape[2]), np.float32)
        total[window] += weight * result
        weights[window] += weight
    assert total is not None
    return total / weights


def _starts(size: int, length: int, overlap: int) -> list[int]:
    count = 1 if size == length else -(-(size - overlap) // max(1, length - overlap))
    return np.rint(np.linspace(0, size - length, count)).astype(int).tolist()


def _fade(length: int, overlap: int) -> np.ndarray:
    """Weights rising over the first `overlap` pixels and falling over the last, > 0."""
    rising = np.minimum(np.arange(1, length + 1) / (overlap + 1), 1.0)
    return np.minimum(rising, rising[::-1]).astype(np.float32)
