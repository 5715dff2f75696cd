"""The resizers that published distances were computed with.

Each is a product with two dense matrices, rows @ image @ columns^T. The choice of
resizer can change a distance more than the choice of model, so each reproduces its
original exactly. `jax.image.resize` is none of them: it antialiases whenever it
shrinks. The matrices are computed on the host in float64 and applied in full float32.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from genjax.metrics.extractors.layers import FULL
from genjax.shapes import AnyArray, Array, Float


def resize(
    images: Float[AnyArray, "n h w c"], size: tuple[int, int], rule: str
) -> Float[Array, "n h2 w2 c"]:
    """Resize images float32 to `size` (height, width) by a rule of RULES.

    Values may overshoot if the kernel of the rule has negative lobes.

    Raises:
        ValueError: an unknown rule, or a size below 1
    """
    # Two large products; with the channels last they would be narrow
    x = jnp.transpose(jnp.asarray(images), (0, 3, 1, 2))
    if images.shape[2] != size[1]:
        x = jnp.matmul(x, np.float32(matrix(rule, images.shape[2], size[1])).T, precision=FULL)
    if images.shape[1] != size[0]:
        rows = np.float32(matrix(rule, images.shape[1], size[0]))
        x = jnp.einsum("Hh,nchw->ncHw", rows, x, precision=FULL)
    return jnp.transpose(x, (0, 2, 3, 1))


def resize_on_host(image: np.ndarray, size: tuple[int, int], rule: str) -> np.ndarray:
    """Resize one image [h, w, c] as `resize`, by NumPy, channel by channel.

    For sets of many image sizes, which would each have to be compiled for.
    """
    rows, columns = (
        matrix(rule, image.shape[axis], size[axis]).astype(np.float32) for axis in (0, 1)
    )
    return np.stack(
        [rows @ (image[:, :, c].astype(np.float32) @ columns.T) for c in range(image.shape[2])], -1
    )


@functools.lru_cache(maxsize=64)
def matrix(rule: str, size: int, out: int) -> np.ndarray:
    """Return float64 [out, size]: the weight of each input pixel in each output pixel.

    Rows sum to 1.

    Raises:
        ValueError: an unknown rule, or a size below 1
    """
    if rule not in RULES:
        raise ValueError(f"resize rule {rule!r}: must be one of {', '.join(RULES)}")
    if min(size, out) < 1:
        raise ValueError(f"resize from {size} to {out}: at least one pixel is needed")
    weights = RULES[rule](size, out)
    weights.setflags(write=False)
    return weights


def _between(source: np.ndarray, size: int) -> np.ndarray:
    """Interpolate linearly at positions `source`; beyond the end, the last pixel."""
    low = np.minimum(np.floor(source).astype(int), size - 1)
    high, share = np.minimum(low + 1, size - 1), source - low
    weights, rows = np.zeros((len(source), size)), np.arange(len(source))
    np.add.at(weights, (rows, low), 1 - share)
    np.add.at(weights, (rows, high), share)
    return weights


def _tf1_bilinear(size: int, out: int) -> np.ndarray:
    """TensorFlow 1's `resize_bilinear`, as in the graph of the FID papers.

    Output i is at i * size / out, so images shift by up to half a pixel.
    """
    return _between(np.arange(out) * (size / out), size)


def _bilinear(size: int, out: int) -> np.ndarray:
    """Half-pixel centres and no antialiasing.

    PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    return _between(np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0), size)


def _antialiased(
    kernel: Callable[[np.ndarray], np.ndarray], support: float, size: int, out: int
) -> np.ndarray:
    """Pillow's `resize`.

    Half-pixel centres; the kernel is widened by the reduction factor, truncated at the
    edges and normalised.
    """
    scale = size / out
    wide = max(scale, 1.0)
    centre = (np.arange(out)[:, None] + 0.5) * scale
    first, last = (
        np.clip(np.floor(centre + sign * support * wide + 0.5), 0, size) for sign in (-1, 1)
    )
    pixel = np.arange(size)[None]
    weights = np.where((pixel >= first) & (pixel < last), kernel((pixel + 0.5 - centre) / wide), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    """The kernel of linear interpolation."""
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys 1981 (IEEE TASSP 29-6), equation 4, with a = -1/2."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x**2 + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    """The Lanczos kernel with 3 lobes."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


RULES: dict[str, Callable[[int, int], np.ndarray]] = {
    "tf1_bilinear": _tf1_bilinear,
    "bilinear": _bilinear,
    "pil_bilinear": functools.partial(_antialiased, _triangle, 1.0),
    "pil_bicubic": functools.partial(_antialiased, _cubic, 2.0),
    "pil_lanczos": functools.partial(_antialiased, _lanczos, 3.0),
}
