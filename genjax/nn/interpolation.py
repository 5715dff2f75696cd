"""Bilinear interpolation at arbitrary points: how it is computed on each platform.

CPUs and GPUs gather the four pixels around each point. On a TPU a gather costs as much
per point as thousands of products, so there the points are taken in tiles of
neighbours: the window of the image that a tile needs is cut out as one slice, and the
points are contracted with it by products with the weights of their rows and columns,
almost all of them zero. Both are linear in the images, and each is tested against the
definition with its first and second derivative.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from genjax import target
from genjax.shapes import Array, Float

# Sides of a tile of points and of the window that one pass over it reads. ADA at p = 1
# needs at most 50 pixels in 2048 draws, at 0.6 46. A tile that needs more takes several
# passes.
TILE, WINDOW = 16, 48


def bilinear(
    images: Float[Array, "n h w c"], rows: Float[Array, "n a b"], columns: Float[Array, "n a b"]
) -> Float[Array, "n a b c"]:
    """Interpolate between the 2x2 pixels around each point.

    `rows` and `columns` are in pixels. Extrapolates linearly beyond the edges. The
    images must be at least 2x2. Differentiable in the images to any order; on a TPU,
    not in the points.
    """
    if target.platform() == "tpu":
        size = images.shape[1:3]
        return _untiled(by_windows(size, images, tiled(rows), tiled(columns)), rows.shape)
    return by_gather(images, rows, columns)


def by_gather(images: Array, rows: Array, columns: Array) -> Array:
    """`bilinear` by taking four pixels per point."""
    _, height, width, channels = images.shape
    row, column = _first(rows, height), _first(columns, width)
    below, beside = (
        (rows - row)[..., None].astype(images.dtype),
        (columns - column)[..., None].astype(images.dtype),
    )
    flat, first = images.reshape(len(images), height * width, channels), row * width + column
    # No index is out of range; "clip" saves XLA the handling of those.
    take = jax.vmap(lambda pixels, index: jnp.take(pixels, index, axis=0, mode="clip"))
    above = (1 - beside) * take(flat, first) + beside * take(flat, first + 1)
    return (1 - below) * above + below * (
        (1 - beside) * take(flat, first + width) + beside * take(flat, first + width + 1)
    )


def _first(places: Array, size: int) -> Array:
    """The first of the two pixels around each place, int32."""
    return jnp.clip(jnp.floor(places), 0, size - 2).astype(jnp.int32)


# --- by windows -----------------------------------------------------------------------
# Points are [n, tiles, points]. `by_windows` and `spread` are each other's transpose,
# and so each other's gradient.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def by_windows(size: tuple[int, int], images: Array, rows: Array, columns: Array) -> Array:
    """Values [n, tiles, points, c] of images of this size at points near each other."""
    contract, passes = plan(size, rows, columns)
    return _summed(passes, lambda index: contract(index, images))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def spread(size: tuple[int, int], values: Array, rows: Array, columns: Array) -> Array:
    """Images of this size with each value added to the pixels around its point."""
    contract, passes = plan(size, rows, columns)
    struct = jax.ShapeDtypeStruct((len(values), *size, values.shape[3]), values.dtype)

    def one(index: Array) -> Array:
        return jax.linear_transpose(functools.partial(contract, index), struct)(values)[0]

    return _summed(passes, one)


by_windows.defvjp(
    lambda size, images, rows, columns: (by_windows(size, images, rows, columns), (rows, columns)),
    lambda size, points, g: (spread(size, g, *points), None, None),
)
spread.defvjp(
    lambda size, values, rows, columns: (spread(size, values, rows, columns), (rows, columns)),
    lambda size, points, g: (by_windows(size, g, *points), None, None),
)


def _summed(passes: Array, one: Callable[[Array], Array]) -> Array:
    """Sum of one([i, j]) over all i, j below `passes` [2]: nearly always [1, 1]."""

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        index, total = carry
        return index + 1, total + one(jnp.stack([index // passes[1], index % passes[1]]))

    result = jax.eval_shape(one, jnp.zeros(2, jnp.int32))
    start = jnp.int32(0), jnp.zeros(result.shape, result.dtype)
    return jax.lax.while_loop(lambda carry: carry[0] < passes[0] * passes[1], body, start)[1]


def plan(
    size: tuple[int, int], rows: Array, columns: Array
) -> tuple[Callable[[Array, Array], Array], Array]:
    """What one pass does, and the number of passes down and right.

    The function maps (index of a pass [2], images) to the values of the points whose
    two rows and columns are in that pass's window of their tile, and zeros elsewhere.
    """
    places = rows, columns
    firsts = [_first(place, side) for place, side in zip(places, size, strict=True)]
    starts = [jnp.min(first, axis=2) for first in firsts]
    steps = [
        (first - start[..., None]) // (WINDOW - 1)
        for first, start in zip(firsts, starts, strict=True)
    ]

    def contract(index: Array, images: Array) -> Array:
        n, _, _, channels = images.shape
        short = [(0, max(0, WINDOW - side)) for side in size]
        images = jnp.pad(images, ((0, 0), *short, (0, 0)))
        corners, weights = [], []
        for axis in (0, 1):
            last = images.shape[1 + axis] - WINDOW
            corner = jnp.clip(starts[axis] + index[axis] * (WINDOW - 1), 0, last)
            offset = (firsts[axis] - corner[..., None])[..., None]
            fraction = (places[axis] - firsts[axis])[..., None]
            pixel = jnp.arange(WINDOW)[None, None, None]
            weight = jnp.where(pixel == offset, 1 - fraction, 0)
            weight = jnp.where(pixel == offset + 1, fraction, weight)
            here = (steps[axis] == index[axis])[..., None]
            corners.append(corner)
            weights.append(jnp.where(here, weight, 0).astype(images.dtype))

        def cut(image: Array, top: Array, left: Array) -> Array:
            return jax.lax.dynamic_slice(image, (0, top, left), (channels, WINDOW, WINDOW))

        windows = jax.vmap(jax.vmap(cut, (None, 0, 0)))(jnp.moveaxis(images, 3, 1), *corners)
        # Channels last, and the tiles of all images on one axis: so XLA fuses the
        # second product, a sum over columns, with the first.
        tiles = n * windows.shape[1]
        windows = jnp.moveaxis(windows.reshape(tiles, channels, WINDOW, WINDOW), 1, 3)
        down, right = (weight.reshape(tiles, -1, WINDOW) for weight in weights)
        sums = jnp.einsum("mph,mhwc->mpwc", down, windows, precision="highest")
        values = jnp.einsum("mpwc,mpw->mpc", sums, right, precision="highest")
        return values.reshape(*rows.shape[:2], -1, channels)

    return contract, jnp.stack([jnp.max(step) + 1 for step in steps])


def tiled(x: Array) -> Array:
    """[n, a, b] -> [n, tiles, TILE * TILE]; the last row and column are repeated."""
    n, height, width = x.shape
    down, right = -(-height // TILE), -(-width // TILE)
    pads = ((0, 0), (0, down * TILE - height), (0, right * TILE - width))
    x = jnp.pad(x, pads, mode="edge").reshape(n, down, TILE, right, TILE)
    return jnp.swapaxes(x, 2, 3).reshape(n, down * right, TILE * TILE)


def _untiled(x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `tiled`: [n, tiles, TILE * TILE, c] -> [n, a, b, c]."""
    n, height, width = shape
    down, right = -(-height // TILE), -(-width // TILE)
    x = jnp.swapaxes(x.reshape(n, down, right, TILE, TILE, -1), 2, 3)
    return x.reshape(n, down * TILE, right * TILE, -1)[:, :height, :width]
