"""Parameter-free functions of arrays: convolution lowerings, resampling, image values and grids. Images are NHWC.

Convolutions go through here, so that a model says what it computes and this file says how. XLA's own strided and dilated
convolutions have slow gradients on CPUs and GPUs (benchmarks/RESULTS.md); as matrix products they are fast everywhere.
"""

import functools

import jax
import jax.numpy as jnp

from genjax.shapes import AnyArray, Array, Float, UInt8


def conv(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c o"]) -> Float[Array, "n h w o"]:
    """Cross-correlation at stride 1, zeros outside, the size kept: PyTorch's `conv2d(padding="same")`."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def down_conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"]) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation at stride 2 to ceil(size / 2): PyTorch's `conv2d(stride=2, padding=(k - 1) // 2)`, zeros at the far edge of odd sizes.

    One matrix product over the concatenated taps.
    """
    k, _, channels, features = kernel.shape
    return _matmul(_patches(x, k, x.shape[1:3]), kernel.reshape(k * k * channels, features))


def up_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], size: tuple[int, int] | None = None
) -> Float[Array, "n h2 w2 o"]:
    """Transposed convolution at stride 2, y[2i + a - (k - 1) // 2] += x[i] w[a]: PyTorch's `conv_transpose2d(stride=2, padding=(k - 1) // 2)`.

    k is at least 2. `size` is the output's (height, width), each 2 n or 2 n - 1 (by default 2 n). One matrix product to k * k * o channels, whose
    taps are then shifted and added.
    """
    k, _, channels, features = kernel.shape
    taps = _matmul(x, jnp.transpose(kernel, (2, 0, 1, 3)).reshape(channels, k * k * features))
    return _overlap(taps, k, tuple(size or (2 * x.shape[1], 2 * x.shape[2])))


def _matmul(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices: with more axes, the gradient to `weight` falls off XLA's fast path on a CPU."""
    return _product(x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(x: Array, weight: Array) -> Array:
    """Matrix product whose gradient to `weight` has its long side last: XLA's product of a transposed matrix is slow on a CPU."""
    return x @ weight


def _product_gradients(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, weight = saved
    across = jax.lax.optimization_barrier(x.T) if jax.default_backend() == "cpu" else x.T
    return g @ weight.T, across @ g


_product.defvjp(lambda x, weight: (x @ weight, (x, weight)), _product_gradients)


# The taps that a stride-2 kernel sees, and the sum of them back onto the image, are linear and each the transpose of the other.
# Autodiff knows that only tap by tap, with k * k padded images to add up: so it is told.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _patches(x: Array, k: int, size: tuple[int, int]) -> Array:
    """[n, *size, c] -> [n, *ceil(size / 2), k * k * c]: t[i, a] = x[2i + a - (k - 1) // 2], zeros outside."""
    low = (k - 1) // 2
    out_h, out_w = (-(-length // 2) for length in size)
    pads = [(low, max(2 * (out - 1) + k - length - low, 0)) for length, out in zip(size, (out_h, out_w), strict=True)]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    taps = [x[:, i : i + 2 * out_h - 1 : 2, j : j + 2 * out_w - 1 : 2] for i in range(k) for j in range(k)]
    return jnp.concatenate(taps, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _overlap(taps: Array, k: int, size: tuple[int, int]) -> Array:
    """[n, h, w, k * k * c] -> [n, *size, c]: y[2i + a - (k - 1) // 2] += t[i, a]."""
    taps = taps.reshape(*taps.shape[:3], k, k, -1)
    rows = _overlap_add([taps[:, :, :, a] for a in range(k)], axis=1, size=size[0])
    return _overlap_add([rows[:, :, :, b] for b in range(k)], axis=2, size=size[1])


_patches.defvjp(lambda x, k, size: (_patches(x, k, size), None), lambda k, size, _, g: (_overlap(g, k, size),))
_overlap.defvjp(lambda taps, k, size: (_overlap(taps, k, size), None), lambda k, size, _, g: (_patches(g, k, size),))


def _overlap_add(taps: list[Array], axis: int, size: int) -> Array:
    """y[2i + a - low] += taps[a][i] along `axis`, for 0 <= y < size. Even and odd outputs are sums of shifted taps, then interleaved."""
    k, n = len(taps), taps[0].shape[axis]
    low, shifts = (k - 1) // 2, (k + 1) // 2

    def shifted(tap, by):
        pads = [(0, 0)] * tap.ndim
        pads[axis] = (by, shifts - 1 - by)
        return jnp.pad(tap, pads)

    phases = [sum(shifted(taps[a], a // 2) for a in range(phase, k, 2)) for phase in (0, 1)]
    y = jnp.stack(phases, axis=axis + 1)
    y = y.reshape(*y.shape[:axis], 2 * (n + shifts - 1), *y.shape[axis + 2 :])
    y = jax.lax.slice_in_dim(y, low, min(low + size, y.shape[axis]), axis=axis)
    pads = [(0, 0)] * y.ndim
    pads[axis] = (0, size - y.shape[axis])  # a 2x2 or 3x3 kernel reaches no further: the rest is zeros
    return jnp.pad(y, pads)


def to_uint8(images: Float[AnyArray, "*shape"]) -> UInt8[Array, "*shape"]:
    """[-1, 1] to 0..255, rounded to the nearest and clipped: the one rounding that this library uses, the inverse of x / 127.5 - 1."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
