"""A large picture through a network of bounded memory: overlapping tiles, blended."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.nn import ops


def translator(
    model: Any, weights: Any, direction: str = "a2b", tile: int = 512, overlap: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that translates one picture uint8 [h, w, c] of any size by a CycleGAN; a large one in tiles.

    All tiles are normalised as the whole picture is, made small enough for one tile: by themselves each would have a contrast of its own.
    A network that must see the whole picture, and is light, gets it.
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
    """The image, or if it does not fit into tile x tile a copy that does, of its proportions."""
    height, width, channels = image.shape
    scale = tile / max(height, width)
    if scale >= 1:
        return image
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), channels)
    return np.asarray(jax.image.resize(image, shape, "linear"))


def tiled(
    apply: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: int = 512, overlap: int = 64
) -> np.ndarray:
    """`apply`, [1, h, w, c] -> the same height and width, of `image` [h, w, c] in tiles of at most tile x tile pixels, float32.

    Tiles lie evenly, at least `overlap` pixels over each other, where they fade into each other along a line. An image that fits into
    one is done in one. All are of one size, so `apply` is compiled once. Raises ValueError unless 0 <= 2 * overlap <= tile.
    """
    if not 0 <= 2 * overlap <= tile:
        raise ValueError(f"overlap {overlap}: from 0 to half of the tile, {tile}")
    sizes = [min(tile, size) for size in image.shape[:2]]
    starts = [
        _starts(size, length, overlap) for size, length in zip(image.shape[:2], sizes, strict=True)
    ]
    weight = np.multiply.outer(*(_fade(length, overlap) for length in sizes))[:, :, None]
    total, weights = None, np.zeros((*image.shape[:2], 1), np.float32)
    for top in starts[0]:
        for left in starts[1]:
            place = slice(top, top + sizes[0]), slice(left, left + sizes[1])
            done = np.asarray(apply(image[place][None]), np.float32)[0]
            total = (
                np.zeros((*image.shape[:2], done.shape[2]), np.float32) if total is None else total
            )
            total[place] += weight * done
            weights[place] += weight
    assert total is not None
    return total / weights


def _starts(size: int, length: int, overlap: int) -> list[int]:
    count = 1 if size == length else -(-(size - overlap) // max(1, length - overlap))
    return np.rint(np.linspace(0, size - length, count)).astype(int).tolist()


def _fade(length: int, overlap: int) -> np.ndarray:
    """Rising over the first `overlap` pixels, falling over the last, never 0."""
    rising = np.minimum(np.arange(1, length + 1) / (overlap + 1), 1.0)
    return np.minimum(rising, rising[::-1]).astype(np.float32)
