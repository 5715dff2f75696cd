"""Parameter-free operators: convolutions, FIR resampling, image values.

Images are NHWC, kernels HWIO. Models say here what they compute; `convolution` decides
how it is computed.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genjax import target
from genjax.nn.convolution import (
    FEW,
    Geometry,
    correlate,
    interleave,
    materialised,
    pad_axis,
    total,
    transposed,
)
from genjax.shapes import AnyArray, Array, Float, UInt8

# --- convolutions and resampling ------------------------------------------------------


def conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], pad: int | None = None
) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation at stride 1 with `pad` zeros on each side.

    PyTorch's `conv2d(padding=pad)`; by default its `padding="same"`.
    """
    k = kernel.shape[0]
    low, both = ((k - 1) // 2, k - 1) if pad is None else (pad, 2 * pad)
    return correlate(Geometry(k, 1, low, _size(x), _size(x, lambda n: n + both - k + 1)), x, kernel)


def down_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"]
) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation at stride 2; the output size is ceil(size / 2).

    PyTorch's `conv2d(stride=2, padding=(k - 1) // 2)`, with zeros at the far edge of
    odd sizes.
    """
    k = kernel.shape[0]
    return correlate(
        Geometry(k, 2, (k - 1) // 2, _size(x), _size(x, lambda n: -(-n // 2))), x, kernel
    )


def up_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], size: tuple[int, int] | None = None
) -> Float[Array, "n h2 w2 o"]:
    """Transposed convolution at stride 2: y[2i + a - (k - 1) // 2] += x[i] w[a].

    PyTorch's `conv_transpose2d(stride=2, padding=(k - 1) // 2)`, for k >= 2. `size` is
    the output's (height, width), each 2 n or 2 n - 1; 2 n by default.
    """
    k = kernel.shape[0]
    height, width = size or _size(x, lambda n: 2 * n)
    return transposed(
        Geometry(k, 2, (k - 1) // 2, (height, width), _size(x)), x, jnp.swapaxes(kernel, 2, 3)
    )


def grouped_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k i o"], groups: int
) -> Float[Array, "n h w o"]:
    """Convolve `groups` equal groups of channels independently; concatenate.

    PyTorch's `conv2d(padding="same", groups=groups)`.
    """
    if target.platform() != "cpu":
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    # On a CPU, XLA's own form is 5 times slower and its gradients more than that: use
    # products batched over the groups.
    x = jnp.moveaxis(x.reshape(*x.shape[:3], groups, -1), 3, 0)
    kernel = jnp.moveaxis(kernel.reshape(*kernel.shape[:3], groups, -1), 3, 0)
    y = jnp.moveaxis(jax.vmap(conv)(x, kernel), 0, 3)
    return y.reshape(*y.shape[:3], -1)


def blur(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h w c"]:
    """Apply a separable FIR filter at unchanged size, with len(taps) // 2 zeros before.

    `taps` are symmetric and are normalised to sum 1. Karras et al. 2019 (StyleGAN,
    arXiv 1812.04948).

    Raises:
        ValueError: the filter is not symmetric.
    """
    return _fir(_normalised(taps), 1, 1, len(taps) // 2, _size(x), x)


def upsample(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h2 w2 c"]:
    """Double the size: insert zeros, then filter with gain 4. StyleGAN2's `upsample2d`.

    A zero follows each row and column; (len(taps) + 1) // 2 zeros are padded before.

    Raises:
        ValueError: the filter is not symmetric.
    """
    return _fir(_normalised(taps, 2.0), 2, 1, (len(taps) + 1) // 2, _size(x, lambda n: 2 * n), x)


def downsample(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h2 w2 c"]:
    """Halve the size: filter, then keep every second row and column.

    StyleGAN2's `downsample2d`: (len(taps) - 1) // 2 zeros are padded before; the output
    size is floor(size / 2).

    Raises:
        ValueError: the filter is not symmetric.
    """
    return _fir(_normalised(taps), 1, 2, (len(taps) - 1) // 2, _size(x, lambda n: n // 2), x)


def up_conv_fir(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], taps: Sequence[int]
) -> Float[Array, "n h2 w2 o"]:
    """Transposed convolution at stride 2, then FIR with gain 4, to twice the size.

    The convolution is y[2i + a] += x[i] w[a], PyTorch's `conv_transpose2d(stride=2)`
    with the kernel as stored. The up-convolution of StyleGAN2 and, with taps (1, 2, 1),
    of StyleGAN.

    Raises:
        ValueError: the filter is not symmetric.
    """
    k = kernel.shape[0]
    full = _size(x, lambda n: 2 * n + k - 2)
    y = transposed(Geometry(k, 2, 0, full, _size(x)), x, jnp.swapaxes(kernel, 2, 3))
    return _fir(
        _normalised(taps, 2.0), 1, 1, (len(taps) - k) // 2 + 1, _size(x, lambda n: 2 * n), y
    )


def fir_down_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], taps: Sequence[int]
) -> Float[Array, "n h2 w2 o"]:
    """FIR, then cross-correlation at stride 2, unpadded, to floor(size / 2).

    The down-convolution of StyleGAN2.

    Raises:
        ValueError: the filter is not symmetric.
    """
    k = kernel.shape[0]
    x = _fir(_normalised(taps), 1, 1, (len(taps) + k - 2) // 2, _size(x, lambda n: n + k - 2), x)
    return correlate(Geometry(k, 2, 0, _size(x), _size(x, lambda n: (n - k) // 2 + 1)), x, kernel)


def fir(
    x: Float[Array, "n h w c"],
    taps: Sequence[float],
    size: tuple[int, int],
    up: int = 1,
    down: int = 1,
    low: int = 0,
) -> Float[Array, "n h2 w2 c"]:
    """Separable FIR filter with zero insertion (`up`) or decimation (`down`).

    y[i] = sum over a of taps[a] z[down i + a - low] for 0 <= i < size, where z[up i] =
    x[i] and z is zero elsewhere. The named filters of this module are special cases.

    Args:
        x: images
        taps: the filter, of any values, used as given
        size: height and width of the output
        up: 1 or 2; at most one of `up` and `down` is 2
        down: 1 or 2
        low: number of zeros padded before
    """
    return _fir(tuple(taps), up, down, low, size, x)


def _size(x: Array, change: Callable[[int], int] = lambda n: n) -> tuple[int, int]:
    return change(x.shape[1]), change(x.shape[2])


# --- FIR filters ----------------------------------------------------------------------
# The transpose of (insert zeros by `up`, filter, keep every `down`-th) is the same
# operation with `up` and `down` swapped and the taps reversed.


def _normalised(taps: Sequence[int], gain: float = 1.0) -> tuple[float, ...]:
    if tuple(taps) != tuple(reversed(taps)):
        raise ValueError(
            f"taps {tuple(taps)}: must be symmetric, such as (1, 2, 1) or (1, 3, 3, 1)"
        )
    return tuple(gain * tap / sum(taps) for tap in taps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3, 4))
def _fir(
    taps: tuple[float, ...], up: int, down: int, low: int, size: tuple[int, int], x: Array
) -> Array:
    """`fir` with a gradient of the same form."""
    if target.platform() == "tpu" and x.shape[3] <= FEW:
        return _fir_products(taps, up, down, low, size, x)
    for axis in (1, 2):
        x = materialised(_fir_axis(taps, up, down, low, size[axis - 1], x, axis))
    return x


def _fir_axis(
    taps: tuple[float, ...], up: int, down: int, low: int, size: int, x: Array, axis: int
) -> Array:
    if up == 2:  # even and odd outputs depend on every second tap each
        halves = []
        for parity in (0, 1):
            first = (low - parity) % 2
            count = -(-(size - parity) // 2)
            halves.append(
                _fir_axis(taps[first::2], 1, 1, (low - parity - first) // 2, count, x, axis)
            )
        halves[1] = pad_axis(halves[1], axis, 0, size % 2)
        return pad_axis(interleave(halves, axis), axis, 0, -(size % 2))
    x = pad_axis(x, axis, low, down * (size - 1) + len(taps) - low - x.shape[axis])
    stop = down * (size - 1) + 1
    return total(
        tap * jax.lax.slice_in_dim(x, a, a + stop, down, axis) for a, tap in enumerate(taps)
    )


def _fir_products(
    taps: tuple[float, ...], up: int, down: int, low: int, size: tuple[int, int], x: Array
) -> Array:
    """The filter as two products with banded matrices.

    For pixels, which fill few of a TPU's lanes: shifted sums cost it more.
    """

    def matrix(out: int, side: int) -> np.ndarray:
        """[out, side]: taps[a] where up i = down o + a - low."""
        a = up * np.arange(side)[None] - down * np.arange(out)[:, None] + low
        inside = (a >= 0) & (a < len(taps))
        return np.where(inside, np.array(taps)[np.where(inside, a, 0)], 0).astype(x.dtype)

    vertical, horizontal = (matrix(*sides) for sides in zip(size, x.shape[1:3], strict=True))
    x = jnp.einsum("oh,nhwc->nowc", vertical, x, precision="highest")
    return jnp.einsum("ow,nhwc->nhoc", horizontal, x, precision="highest")


def _fir_forward(taps, up, down, low, size, x):
    return _fir(taps, up, down, low, size, x), x


def _fir_backward(taps, up, down, low, size, x, g):
    return (_fir(taps[::-1], down, up, len(taps) - 1 - low, _size(x), g),)


_fir.defvjp(_fir_forward, _fir_backward)


# --- sums and image values ------------------------------------------------------------


def sum_first(x: Float[Array, "n c o"]) -> Float[Array, "c o"]:
    """Sum over the first axis, which should be short and not sharded.

    On a CPU, XLA's own reduction into many sums is a hundred times slower.
    """
    return total(jax.lax.split(x, (1,) * len(x)))[0]


def second_moment_normalized(x: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Divide each row by its root mean square: pixel norm of latents and embeddings.

    Karras et al. 2018 (arXiv 1710.10196), section 4.2.
    """
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=1, keepdims=True) + 1e-8)


def minibatch_stddev(x: Float[Array, "n h w c"], group: int) -> Float[Array, "n h w 1"]:
    """Standard deviation over groups of images: one constant float32 plane per image.

    The deviation over a group is averaged over pixels and channels. A group holds
    min(group, n) images, which must divide n: every (n / group)-th image of the batch,
    however the batch is sharded. Karras et al. 2018 (arXiv 1710.10196), section 3;
    StyleGAN2 uses groups of 4.
    """
    n, height, width, channels = x.shape
    group = min(group, n)
    y = x.astype(jnp.float32).reshape(group, n // group, height * width * channels)
    y = y - jnp.mean(y, axis=0, keepdims=True)
    deviation = jnp.mean(jnp.sqrt(jnp.mean(jnp.square(y), axis=0) + 1e-8), axis=1)
    return jnp.broadcast_to(jnp.tile(deviation, group)[:, None, None, None], (n, height, width, 1))


def slerp(
    first: Float[AnyArray, "n d"], second: Float[AnyArray, "n d"], t: AnyArray | float
) -> Float[Array, "n d"]:
    """Interpolate along the great circle from `first` to `second`; lengths linearly.

    `t` is one number or one per row, [n, 1]: 0 gives `first`, 1 gives `second`.
    Shoemake 1985 (SIGGRAPH 19-3).
    """
    lengths = [jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (first, second)]
    a, b = first / lengths[0], second / lengths[1]
    orthogonal = b - jnp.sum(a * b, axis=-1, keepdims=True) * a
    sine = jnp.linalg.norm(orthogonal, axis=-1, keepdims=True)
    angle = t * jnp.arctan2(sine, jnp.sum(a * b, axis=-1, keepdims=True))
    direction = a * jnp.cos(angle) + orthogonal / jnp.where(sine > 0, sine, 1) * jnp.sin(angle)
    return direction * ((1 - t) * lengths[0] + t * lengths[1])


def to_uint8(images: Float[AnyArray, "*shape"]) -> UInt8[Array, "*shape"]:
    """Convert [-1, 1] to 0..255: round to nearest, clip.

    The only rounding of images in this library, the inverse of x / 127.5 - 1.
    """
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
