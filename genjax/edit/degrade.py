"""Image degradation models from the literature, for making training and test pairs.

Each takes a PRNG key and images [n, h, w, c] in [-1, 1] and returns the same shape and
range. Parameters are drawn per image from the key: the same key gives the same images.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from genjax.nn import ops
from genjax.shapes import Array, Float

Images = Float[Array, "n h w c"]


def _uniform(key: Array, n: int, low: float, high: float) -> Array:
    return jax.random.uniform(key, (n, 1, 1, 1), minval=low, maxval=high)


def _unit(images: Array) -> Array:
    return (images + 1) / 2


def _signed(values: Array) -> Array:
    return jnp.clip(values, 0, 1) * 2 - 1


def depth(key: Array, n: int, height: int, width: int) -> Float[Array, "n h w 1"]:
    """Draw smooth synthetic depth maps in 0..1.

    Depth increases toward the top of the picture, plus cubically upsampled 4x4 noise.
    """
    slope, waves = jax.random.split(key)
    up = jnp.linspace(1.0, 0.0, height)[None, :, None, None]
    noise = jax.image.resize(jax.random.normal(waves, (n, 4, 4, 1)), (n, height, width, 1), "cubic")
    raw = _uniform(slope, n, 0.5, 1.5) * up + 0.35 * noise
    low, high = (f(raw, axis=(1, 2, 3), keepdims=True) for f in (jnp.min, jnp.max))
    return (raw - low) / (high - low)


def haze(
    key: Array,
    images: Images,
    beta: tuple[float, float] = (0.6, 1.8),
    light: tuple[float, float] = (0.7, 1.0),
) -> Images:
    """Haze: I = J t + A (1 - t), t = exp(-beta depth), on values in 0..1.

    The scattering `beta` and the grey airlight A (`light`) are drawn uniformly per
    image. Koschmieder 1924; the ranges are RESIDE's, Li et al. 2019 (arXiv 1712.04143).
    """
    keys = jax.random.split(key, 3)
    n, height, width, _ = images.shape
    transmission = jnp.exp(-_uniform(keys[0], n, *beta) * depth(keys[1], n, height, width))
    return _signed(_unit(images) * transmission + _uniform(keys[2], n, *light) * (1 - transmission))


def lowlight(
    key: Array,
    images: Images,
    gamma: tuple[float, float] = (2.0, 3.5),
    gain: tuple[float, float] = (0.3, 0.9),
    shot: float = 0.002,
    read: float = 0.004,
) -> Images:
    """Low light: gain x^gamma, then sensor noise of variance shot x + read^2.

    On values in 0..1; `gamma` and `gain` are drawn uniformly per image. Darkening as in
    Lv et al. 2018 (MBLLEN), noise as in Foi et al. 2008, equation 2.
    """
    keys = jax.random.split(key, 3)
    n = images.shape[0]
    dark = _uniform(keys[0], n, *gain) * jnp.maximum(_unit(images), 1e-6) ** _uniform(
        keys[1], n, *gamma
    )
    return _signed(
        dark + jnp.sqrt(shot * dark + read**2) * jax.random.normal(keys[2], images.shape)
    )


def blur(key: Array, images: Images, sigma: tuple[float, float] = (0.5, 2.5)) -> Images:
    """Gaussian blur; the standard deviation in pixels is drawn uniformly per image.

    Edges are extended by their last value.
    """
    n, height, width, _ = images.shape
    reach = int(np.ceil(3 * sigma[1]))
    offsets = jnp.arange(-reach, reach + 1)[:, None, None, None, None]
    taps = jnp.exp(-0.5 * jnp.square(offsets / _uniform(key, n, *sigma)[None]))
    taps = taps / jnp.sum(taps, axis=0, keepdims=True)
    for axis, size in ((1, height), (2, width)):
        pads = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(images, pads, mode="edge")
        shifted = (
            taps[i] * jax.lax.slice_in_dim(padded, i, i + size, 1, axis)
            for i in range(2 * reach + 1)
        )
        images = functools.reduce(operator.add, shifted)
    return images


# ITU-T T.81, annex K, table K.1: quantisation steps for luminance at quality 50.
_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_FREQUENCIES = np.arange(8)[:, None]
_SCALES = np.where(_FREQUENCIES == 0, 8**-0.5, 0.5)  # orthonormal
_DCT = np.float32(_SCALES * np.cos((2 * np.arange(8)[None] + 1) * _FREQUENCIES * np.pi / 16))


def blocks(key: Array, images: Images, quality: tuple[float, float] = (10.0, 40.0)) -> Images:
    """JPEG block artefacts: quantised cosine transforms of 8x8 blocks.

    Each channel is quantised like JPEG's luminance, at a quality drawn uniformly per
    image.
    """
    n, height, width, channels = images.shape
    pads = [(0, 0), (0, -height % 8), (0, -width % 8), (0, 0)]
    padded = jnp.pad(images, pads, mode="edge") * 127.5
    grid = padded.reshape(n, padded.shape[1] // 8, 8, padded.shape[2] // 8, 8, channels)
    q = _uniform(key, n, *quality).reshape(n, 1, 1, 1, 1, 1)
    steps = jnp.round(jnp.where(q < 50, 50 / q, 2 - q / 50) * _STEPS[None, None, :, None, :, None])
    steps = jnp.clip(steps, 1, 255)
    transform = functools.partial(jnp.einsum, "ui,naibjc,vj->naubvc")
    coefficients = jnp.round(transform(_DCT, grid, _DCT) / steps) * steps
    restored = transform(_DCT.T, coefficients, _DCT.T).reshape(padded.shape)[:, :height, :width]
    return jnp.clip(restored / 127.5, -1, 1)


DEGRADATIONS = {"haze": haze, "lowlight": lowlight, "blur": blur, "blocks": blocks}


def degraded(name: str, seed: int) -> Callable[[int, np.ndarray], np.ndarray]:
    """Make a function (number, uint8 photo [h, w, c]) -> degraded uint8 photo.

    `name` is one of DEGRADATIONS. The result depends on `seed`, the number and the
    photograph only.
    """
    degrade = jax.jit(DEGRADATIONS[name])

    def change(number: int, photograph: np.ndarray) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(seed), number)
        images = photograph[None].astype(np.float32) / 127.5 - 1
        return np.asarray(ops.to_uint8(degrade(key, images)))[0]

    return change
