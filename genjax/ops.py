"""Parameter-free functions of arrays: convolution lowerings, FIR resampling, image values. Images are NHWC, kernels HWIO.

Convolutions go through here, so that a model says what it computes and this file says how. A convolution is a form of three arguments,
<y, x * kernel>, linear in each: its value, its gradient to the image and its gradient to the kernel are the form's three partial
derivatives, and the derivatives of those are the same three again. So each of the three is one function here, which picks its own
lowering (`lowering`, the one place of that choice) and names the other two as its gradients, to any order.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.shapes import AnyArray, Array, Float, UInt8

FEW = 4  # channels of an image, beside those of features
WIDE = {  # by kernel and stride: the channels and features from which on Winograd's form is the fastest ...
    (3, 1): {"value": 96, "image": 96, "kernel": 16},
    (4, 2): {"value": 16, "image": 16, "kernel": 16},
}
MANY = 128  # ... where there are as many tiles of y, or its sums over the kernel cost more than they save


class Geometry(NamedTuple):
    """y[i] = sum over a in 0..k-1 of x[stride i + a - low] w[a] on both axes, zeros outside x."""

    k: int
    stride: int
    low: int
    x: tuple[int, int]  # height and width
    y: tuple[int, int]


# The public operators


def conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], pad: int | None = None) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation at stride 1 with `pad` zeros on each side: PyTorch's `conv2d(padding=pad)`; by default its `padding="same"`."""
    k = kernel.shape[0]
    low, both = ((k - 1) // 2, k - 1) if pad is None else (pad, 2 * pad)
    return _correlate(Geometry(k, 1, low, _size(x), _size(x, lambda n: n + both - k + 1)), x, kernel)


def down_conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"]) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation at stride 2 to ceil(size / 2): PyTorch's `conv2d(stride=2, padding=(k - 1) // 2)`, zeros at the far edge of odd sizes."""
    k = kernel.shape[0]
    return _correlate(Geometry(k, 2, (k - 1) // 2, _size(x), _size(x, lambda n: -(-n // 2))), x, kernel)


def up_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], size: tuple[int, int] | None = None
) -> Float[Array, "n h2 w2 o"]:
    """Transposed convolution at stride 2, y[2i + a - (k - 1) // 2] += x[i] w[a]: PyTorch's `conv_transpose2d(stride=2, padding=(k - 1) // 2)`.

    k is at least 2. `size` is the output's (height, width), each 2 n or 2 n - 1 (by default 2 n).
    """
    k = kernel.shape[0]
    height, width = size or _size(x, lambda n: 2 * n)
    return _transposed(Geometry(k, 2, (k - 1) // 2, (height, width), _size(x)), x, jnp.swapaxes(kernel, 2, 3))


def grouped_conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k i o"], groups: int) -> Float[Array, "n h w o"]:
    """`conv` of each of `groups` equal parts of the channels apart, concatenated: PyTorch's `conv2d(padding="same", groups=groups)`."""
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )
    # XLA's own is 5 times slower on a CPU, its gradients more: products batched over the groups.
    x = jnp.moveaxis(x.reshape(*x.shape[:3], groups, -1), 3, 0)
    kernel = jnp.moveaxis(kernel.reshape(*kernel.shape[:3], groups, -1), 3, 0)
    y = jnp.moveaxis(jax.vmap(conv)(x, kernel), 0, 3)
    return y.reshape(*y.shape[:3], -1)


def blur(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h w c"]:
    """The separable FIR filter `taps`, symmetric and normalised to sum 1, zeros outside; the size kept, len // 2 zeros before (StyleGAN, 2019)."""
    return _fir(_normalised(taps), 1, 1, len(taps) // 2, _size(x), x)


def upsample(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h2 w2 c"]:
    """A zero after each row and column, then the FIR with gain 4, (len + 1) // 2 zeros before: StyleGAN2's `upsample2d`."""
    return _fir(_normalised(taps, 2.0), 2, 1, (len(taps) + 1) // 2, _size(x, lambda n: 2 * n), x)


def downsample(x: Float[Array, "n h w c"], taps: Sequence[int]) -> Float[Array, "n h2 w2 c"]:
    """The FIR after (len - 1) // 2 zeros, then every second row and column, floor(size / 2) of them: StyleGAN2's `downsample2d`."""
    return _fir(_normalised(taps), 1, 2, (len(taps) - 1) // 2, _size(x, lambda n: n // 2), x)


def up_conv_fir(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], taps: Sequence[int]) -> Float[Array, "n h2 w2 o"]:
    """y[2i + a] += x[i] w[a] (PyTorch's `conv_transpose2d(stride=2)`, the kernel as stored), then the FIR with gain 4, to twice the size.

    The up-convolution of StyleGAN2 and, with (1, 2, 1), of StyleGAN.
    """
    k = kernel.shape[0]
    full = _size(x, lambda n: 2 * n + k - 2)
    y = _transposed(Geometry(k, 2, 0, full, _size(x)), x, jnp.swapaxes(kernel, 2, 3))
    return _fir(_normalised(taps, 2.0), 1, 1, (len(taps) - k) // 2 + 1, _size(x, lambda n: 2 * n), y)


def fir_down_conv(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c o"], taps: Sequence[int]) -> Float[Array, "n h2 w2 o"]:
    """The FIR, then cross-correlation at stride 2 with no more padding, to floor(size / 2): the down-convolution of StyleGAN2."""
    k = kernel.shape[0]
    x = _fir(_normalised(taps), 1, 1, (len(taps) + k - 2) // 2, _size(x, lambda n: n + k - 2), x)
    return _correlate(Geometry(k, 2, 0, _size(x), _size(x, lambda n: (n - k) // 2 + 1)), x, kernel)


def fir(
    x: Float[Array, "n h w c"], taps: Sequence[float], size: tuple[int, int], up: int = 1, down: int = 1, low: int = 0
) -> Float[Array, "n h2 w2 c"]:
    """y[i] = sum over a of taps[a] z[down i + a - low] for 0 <= i < size on both axes, z[up i] = x[i] and zeros elsewhere.

    Any taps, as they are: what the named filters here are made of. `up` and `down` are 1 or 2, and one of them is 1.
    """
    return _fir(tuple(taps), up, down, low, size, x)


def _size(x: Array, change: Callable[[int], int] = lambda n: n) -> tuple[int, int]:
    return change(x.shape[1]), change(x.shape[2])


# The choice


def lowering(role: str, backend: str, geometry: Geometry, batch: int, channels: int, features: int, dtype: jnp.dtype) -> str:
    """Which form computes `role` ("value", "image", "kernel"). The CPU's are measured (benchmarks/ops.py); others take XLA's own, not measured.

    On a CPU: Winograd's where the products are wide and many enough to pay for its sums; where one side has few channels, the k * k taps are
    taken of that side; at stride 2 the value and the kernel's gradient share their patches; else what copied least when measured.
    """
    if backend != "cpu":
        return "xla"
    k, stride, _, _, (height, width) = geometry
    wide = (k, stride) in WIDE and min(channels, features) >= WIDE[k, stride][role] and dtype == jnp.float32
    if wide and batch * -(-height // 2) * -(-width // 2) >= MANY:
        return "winograd_turned" if role == "image" and stride == 1 else "winograd"
    match role:
        case "value" if stride == 1 and features <= FEW and k > 1:
            return "overlap"
        case "value":
            return "patches" if stride == 2 or k == 1 or channels >= 128 else "xla"
        case "image":
            return "overlap" if stride == 2 or k == 1 or channels <= FEW or features >= 256 else "turned"
        case _ if stride == 1 and features <= FEW and k > 1:
            return "turned"
        case _:
            return "patches" if stride == 2 or k == 1 or batch * height * width <= 1024 else "taps"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The value y."""
    chosen = lowering("value", jax.default_backend(), geometry, len(x), kernel.shape[2], kernel.shape[3], x.dtype)
    return VALUE[chosen](geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The gradient to the image, from y's: x[stride i + a - low] += y[i] w[a]^T."""
    chosen = lowering("image", jax.default_backend(), geometry, len(y), kernel.shape[2], kernel.shape[3], y.dtype)
    return IMAGE[chosen](geometry, y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    """The gradient to the kernel, from y's: w[a] = sum over i of x[stride i + a - low]^T y[i]."""
    chosen = lowering("kernel", jax.default_backend(), geometry, len(x), x.shape[3], y.shape[3], x.dtype)
    return KERNEL[chosen](geometry, x, y)


def _derivatives(value, to_first, to_second):
    def forward(geometry, first, second):
        return value(geometry, first, second), (first, second)

    def backward(geometry, saved, g):
        first, second = saved
        return to_first(geometry, g, second), to_second(geometry, first, g)

    value.defvjp(forward, backward)


_derivatives(_correlate, _transposed, _kernel_gradient)
_derivatives(_transposed, _correlate, lambda geometry, y, g: _kernel_gradient(geometry, g, y))
_derivatives(_kernel_gradient, lambda geometry, g, y: _transposed(geometry, y, g), _correlate)


# XLA's own form


def _xla_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    strides, numbers = (geometry.stride,) * 2, ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, _pads(geometry), dimension_numbers=numbers)


def _xla_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    x = jax.ShapeDtypeStruct((len(y), *geometry.x, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _xla_value(geometry, x, kernel), x)(y)[0]


def _xla_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    kernel = jax.ShapeDtypeStruct((geometry.k, geometry.k, x.shape[3], y.shape[3]), y.dtype)
    return jax.linear_transpose(lambda kernel: _xla_value(geometry, x, kernel), kernel)(y)[0]


def _pads(geometry: Geometry) -> list[tuple[int, int]]:
    k, stride, low, x, y = geometry
    return [(low, stride * (out - 1) + k - low - size) for size, out in zip(x, y, strict=True)]


# At stride 1 the transpose is the correlation with the kernel turned by half a circle, its channels swapped.


def _turned(geometry: Geometry) -> Geometry:
    return geometry._replace(low=geometry.k - 1 - geometry.low, x=geometry.y, y=geometry.x)


def _turn(kernel: Array) -> Array:
    return _materialised(jnp.swapaxes(kernel[::-1, ::-1], 2, 3))


def _turned_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    return _correlate(_turned(geometry), y, _turn(kernel))


def _turned_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """The taps of y instead of those of x: fewer, where y has fewer channels."""
    return _turn(_product_of_patches(_turned(geometry), y, x))


# Taps and one product, or one product and taps


def _taps(geometry: Geometry, x: Array) -> list[Array]:
    """The k * k views t[i] = x[stride i + a - low] that the kernel sees."""
    k, stride, _, _, (height, width) = geometry
    x = _pad(x, _pads(geometry))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return [x[:, i : i + rows : stride, j : j + columns : stride] for i in range(k) for j in range(k)]


def _patches(geometry: Geometry, x: Array) -> Array:
    """The taps as channels, [n, h, w, k * k * c]: along the width and then along the height, which takes 2 k slices in place of k * k."""
    k, stride, _, _, (height, width) = geometry
    for axis, size in ((2, width), (1, height)):
        x = _pad_axis(x, axis, *_pads(geometry)[axis - 1])
        taps = [jax.lax.slice_in_dim(x, a, a + stride * (size - 1) + 1, stride, axis) for a in range(k)]
        x = jnp.concatenate(taps, axis=-1)
    return x


def _patches_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return _product(_patches(geometry, x), kernel.reshape(-1, kernel.shape[3]))


def _patches_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """y^T patches: a transpose of the smaller matrix, made first, for XLA's products of a transposed one are slow on a CPU."""
    patches = _matrix(_patches(geometry, x))
    product = _materialised(_materialised(_matrix(y).T) @ patches)
    return jnp.transpose(product.reshape(y.shape[3], geometry.k, geometry.k, x.shape[3]), (1, 2, 3, 0))


def _product_of_patches(geometry: Geometry, x: Array, y: Array) -> Array:
    """The same as patches^T y: a third faster where y, turned, is the wider side."""
    patches = _matrix(_patches(geometry, x))
    return (patches.T @ _matrix(y)).reshape(geometry.k, geometry.k, x.shape[3], y.shape[3])


def _taps_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    few, y_matrix = x.shape[3] <= FEW, _matrix(y)
    taps = [_matrix(tap).T for tap in _taps(geometry, x)]
    products = [(_materialised(tap) if few else tap) @ y_matrix for tap in taps]
    return jnp.stack(products).reshape(geometry.k, geometry.k, x.shape[3], y.shape[3])


def _overlap_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Stride 1: the product to k * k * o channels, shifted and added."""
    k, features = geometry.k, kernel.shape[3]
    x = _pad(x, _pads(geometry))
    products = _product(x, jnp.transpose(kernel, (2, 0, 1, 3)).reshape(kernel.shape[2], -1))
    return _shifted_sum(products.reshape(*x.shape[:3], k, k, features), geometry.y)


def _overlap_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The product to k * k * c channels, whose taps are then shifted and added."""
    k, (channels, features) = geometry.k, kernel.shape[2:]
    if geometry.stride == 1:
        y = _pad(y, _pads(_turned(geometry)))
        kernel = kernel[::-1, ::-1]
    products = _product(y, kernel.reshape(-1, features).T).reshape(*y.shape[:3], k, k, channels)
    if geometry.stride == 1:
        return _shifted_sum(products, geometry.x)
    rows = _overlap_add([products[:, :, :, a] for a in range(k)], 1, geometry.low, geometry.x[0])
    return _overlap_add([rows[:, :, :, a] for a in range(k)], 2, geometry.low, geometry.x[1])


def _shifted_sum(taps: Array, size: tuple[int, int]) -> Array:
    """y[i, j] = sum over a, b of taps[i + a, j + b, a, b], for y of `size`: along the width and then along the height."""
    height, width = size
    rows = _total(taps[:, :, b : b + width, :, b] for b in range(taps.shape[4]))
    return _total(rows[:, a : a + height, :, a] for a in range(taps.shape[3]))


def _overlap_add(taps: list[Array], axis: int, low: int, size: int) -> Array:
    """y[2i + a - low] += taps[a][i] along `axis`, for 0 <= y < size. Even and odd outputs are sums of shifted taps, then interleaved."""
    shifts = (len(taps) + 1) // 2
    shifted = [_pad_axis(tap, axis, a // 2, shifts - 1 - a // 2) for a, tap in enumerate(taps)]
    y = _interleave([_total(shifted[0::2]), _total(shifted[1::2] or [jnp.zeros_like(shifted[0])])], axis)
    return _pad_axis(y, axis, -low, size + low - y.shape[axis])  # a 2x2 or 3x3 kernel may reach no further: the rest is zeros


def _interleave(parts: Sequence[Array], axis: int) -> Array:
    y = jnp.stack(parts, axis=axis + 1)
    return y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])


# Winograd's F(2x2, 3x3) at stride 1 (Lavin and Gray 2015, arXiv 1509.09308, section 4.1): a 2x2 tile of y from 4x4 of x, y = A^T [(G w) * (B^T x)]
# on both axes, 16 products instead of 36. And F(2x2, 2x2) for 4x4 kernels at stride 2: of each of the four phases (even or odd rows and columns
# of x and of w) a 2x2 convolution at stride 1, whose sum, with the phases as channels, takes 36 products instead of 64.


class Transforms(NamedTuple):
    """Along one axis, from a list of arrays to a list of arrays. The backward ones are the transposed matrices."""

    x: Callable  # B^T
    x_back: Callable  # B
    kernel: Callable  # G
    kernel_back: Callable  # G^T
    y: Callable  # A^T
    y_back: Callable  # A


TRANSFORMS = {  # by the taps of a phase
    2: Transforms(
        x=lambda x: [x[0] - x[1], x[1], x[1] - x[2]],
        x_back=lambda m: [m[0], m[1] + m[2] - m[0], -m[2]],
        kernel=lambda w: [w[0], w[0] + w[1], w[1]],
        kernel_back=lambda m: [m[0] + m[1], m[1] + m[2]],
        y=lambda m: [m[0] + m[1], m[1] - m[2]],
        y_back=lambda y: [y[0], y[0] + y[1], -y[1]],
    ),
    3: Transforms(
        x=lambda x: [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]],
        x_back=lambda m: [m[0], m[1] - m[2] + m[3], m[1] + m[2] - m[0], -m[3]],
        kernel=lambda w: [w[0], (w[0] + w[2]) / 2 + w[1] / 2, (w[0] + w[2]) / 2 - w[1] / 2, w[2]],
        kernel_back=lambda m: [m[0] + (m[1] + m[2]) / 2, (m[1] - m[2]) / 2, (m[1] + m[2]) / 2 + m[3]],
        y=lambda m: [m[0] + m[1] + m[2], m[1] - m[2] - m[3]],
        y_back=lambda y: [y[0], y[0] + y[1], y[0] - y[1], -y[1]],
    ),
}


def _transforms(geometry: Geometry) -> Transforms:
    return TRANSFORMS[geometry.k // geometry.stride]


# Along one axis and then along the other, each time into one array, and the products in one call: a sixth of the kernels to compile that one
# for each of the 16 takes, and as fast in a network, whose activations would else be computed again in each of them.


def _winograd_x(geometry: Geometry, x: Array) -> Array:
    """[span * span, n * tiles, phases * c], x transformed: tile (i, j) starts at x[2 stride i - low, 2 stride j - low]."""
    k, stride, low, size, y_size = geometry
    span = k // stride + 1
    height, width = (-(-n // 2) for n in y_size)
    x = _pad(x, [(low, 2 * stride * (out - 1) + stride * span - low - n) for out, n in zip((height, width), size, strict=True)])
    n, rows, columns, c = x.shape
    x = jnp.swapaxes(x.reshape(n, rows // stride, stride, columns // stride, stride, c), 2, 3)
    x = _materialised(x.reshape(n, rows // stride, columns // stride, -1))
    x = _tiles(_transforms(geometry).x, x, 1, span, height)
    return _products(_tiles(_transforms(geometry).x, x, 3, span, width))


def _winograd_y(geometry: Geometry, y: Array) -> Array:
    """[span * span, n * tiles, o]: the gradients to the products."""
    y = _pad(y, [(0, size % 2) for size in geometry.y])
    y = _tiles(_transforms(geometry).y_back, y, 1, 2, y.shape[1] // 2)
    return _products(_tiles(_transforms(geometry).y_back, y, 3, 2, y.shape[3] // 2))


def _winograd_kernel(geometry: Geometry, kernel: Array) -> Array:
    """[span * span, phases * c, o]: the kernel transformed."""
    k, stride = geometry.k, geometry.stride
    kernel = kernel.reshape(k // stride, stride, k // stride, stride, *kernel.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(k // stride, k // stride, -1, kernel.shape[-1])
    kernel = _both_axes(_transforms(geometry).kernel, kernel)
    return kernel.reshape(-1, *kernel.shape[2:])


def _both_axes(transform: Callable, taps: Array) -> Array:
    """`transform` along both of the first two axes, which change places."""
    for axis in (0, 1):
        taps = jnp.stack(transform(jnp.unstack(taps, axis=axis)))
    return taps


def _tiles(transform: Callable, x: Array, axis: int, taps: int, size: int) -> Array:
    """`transform` of the `taps` elements from every second place on, `size` places along `axis`, on a new first axis."""
    return jnp.stack(transform([jax.lax.slice_in_dim(x, a, a + 2 * size - 1, 2, axis) for a in range(taps)]))


def _products(x: Array) -> Array:
    """[columns, rows, n, h, w, c] -> [columns * rows, n * h * w, c]."""
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _winograd_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return _winograd_tiles(geometry, len(x), _winograd_x(geometry, x) @ _winograd_kernel(geometry, kernel))


def _winograd_tiles(geometry: Geometry, n: int, products: Array) -> Array:
    """y of n images, from the products."""
    (height, width), span = (-(-size // 2) for size in geometry.y), geometry.k // geometry.stride + 1
    y = products.reshape(span, span, n, height, width, -1)
    for axis in (3, 1):
        y = _interleave(_transforms(geometry).y(list(y)), axis)
    return y[:, : geometry.y[0], : geometry.y[1]]


def _winograd_turned(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """As `_turned_image`; the kernel's channels are swapped by the product, for the transform of a swapped kernel reads with strides."""
    turned, kernel = _turned(geometry), _winograd_kernel(geometry, kernel[::-1, ::-1])
    return _winograd_tiles(turned, len(y), _winograd_x(turned, y) @ jnp.swapaxes(kernel, 1, 2))


def _winograd_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    (height, width), stride, span = (-(-size // 2) for size in geometry.y), geometry.stride, geometry.k // geometry.stride + 1
    x = _winograd_y(geometry, y) @ jnp.swapaxes(_winograd_kernel(geometry, kernel), 1, 2)
    x = x.reshape(span, span, len(y), height, width, stride, stride, -1)
    for axis in (3, 1):
        x = _interleave(_overlapped(_transforms(geometry).x_back(list(x)), axis), axis)
    x = jnp.swapaxes(x, 2, 3).reshape(len(y), 2 * stride * (height + 1), 2 * stride * (width + 1), -1)
    return _pad(x, [(-geometry.low, geometry.low + size - got) for size, got in zip(geometry.x, x.shape[1:3], strict=True)])


def _overlapped(parts: Sequence[Array], axis: int) -> list[Array]:
    """Tiles overlap: what is beyond the second element of one is the start of the next."""
    head, tail = ([_pad_axis(part, axis, *pads) for part in some] for some, pads in ((parts[:2], (0, 1)), (parts[2:], (1, 0))))
    return [a if b is None else a + b for a, b in itertools.zip_longest(head, tail)]


def _winograd_kernel_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    k, stride = geometry.k, geometry.stride
    span, transposed = k // stride + 1, lambda matrices: jnp.swapaxes(matrices, 1, 2)
    x_tiles, y_tiles = _winograd_x(geometry, x), _winograd_y(geometry, y)
    # At stride 2 x's matrices have 4 times its channels: the product is of y's transposed, the smaller ones.
    products = transposed(x_tiles) @ y_tiles if stride == 1 else transposed(transposed(y_tiles) @ x_tiles)
    taps = _both_axes(_transforms(geometry).kernel_back, products.reshape(span, span, *products.shape[1:]))
    taps = taps.reshape(k // stride, k // stride, stride, stride, x.shape[3], y.shape[3])
    return jnp.transpose(taps, (0, 2, 1, 3, 4, 5)).reshape(k, k, x.shape[3], y.shape[3])


VALUE = {"xla": _xla_value, "patches": _patches_value, "overlap": _overlap_value, "winograd": _winograd_value}
IMAGE = {
    "xla": _xla_image,
    "turned": _turned_image,
    "overlap": _overlap_image,
    "winograd": _winograd_image,
    "winograd_turned": _winograd_turned,
}
KERNEL = {
    "xla": _xla_kernel,
    "turned": _turned_kernel,
    "patches": _patches_kernel,
    "taps": _taps_kernel,
    "winograd": _winograd_kernel_gradient,
}


# FIR filters. The transpose of (insert zeros by `up`, filter, keep every `down`-th) is the same with up and down swapped.


def _normalised(taps: Sequence[int], gain: float = 1.0) -> tuple[float, ...]:
    if tuple(taps) != tuple(reversed(taps)):
        raise ValueError(f"taps {tuple(taps)}: a symmetric filter, such as (1, 2, 1) or (1, 3, 3, 1)")
    return tuple(gain * tap / sum(taps) for tap in taps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3, 4))
def _fir(taps: tuple[float, ...], up: int, down: int, low: int, size: tuple[int, int], x: Array) -> Array:
    """y[i] = sum over a of taps[a] z[down i + a - low] for 0 <= i < size on both axes, z[up i] = x[i] and zeros elsewhere. up or down is 1."""
    for axis in (1, 2):
        x = _materialised(_fir_axis(taps, up, down, low, size[axis - 1], x, axis))
    return x


def _fir_axis(taps: tuple[float, ...], up: int, down: int, low: int, size: int, x: Array, axis: int) -> Array:
    if up == 2:  # the even and the odd outputs each see half of the taps
        halves = []
        for parity in (0, 1):
            first = (low - parity) % 2
            count = -(-(size - parity) // 2)
            halves.append(_fir_axis(taps[first::2], 1, 1, (low - parity - first) // 2, count, x, axis))
        halves[1] = _pad_axis(halves[1], axis, 0, size % 2)
        return _pad_axis(_interleave(halves, axis), axis, 0, -(size % 2))
    x = _pad_axis(x, axis, low, down * (size - 1) + len(taps) - low - x.shape[axis])
    stop = down * (size - 1) + 1
    return _total(tap * jax.lax.slice_in_dim(x, a, a + stop, down, axis) for a, tap in enumerate(taps))


def _fir_forward(taps, up, down, low, size, x):
    return _fir(taps, up, down, low, size, x), x


def _fir_backward(taps, up, down, low, size, x, g):
    return (_fir(taps[::-1], down, up, len(taps) - 1 - low, _size(x), g),)


_fir.defvjp(_fir_forward, _fir_backward)


# Sums, matrices and padding


def sum_first(x: Float[Array, "n c o"]) -> Float[Array, "c o"]:
    """x summed over its first axis, a short one that no devices share: XLA's own reduction to many sums is a hundred times slower on a CPU."""
    return _total(jax.lax.split(x, (1,) * len(x)))[0]


def _total(arrays: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, arrays)


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _product(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices: with more axes it falls off XLA's fast path on a CPU."""
    return (_matrix(x) @ weight).reshape(*x.shape[:-1], -1)


def _materialised(x: Array) -> Array:
    """On a CPU, apart from what uses it as XLA simplifies: a transpose, say, stays out of a product. Later fusion may join them all the same."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def _pad_axis(x: Array, axis: int, low: int, high: int) -> Array:
    """Zeros, or fewer elements where negative."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(low, high, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])


def _pad(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """The same on height and width."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])


def second_moment_normalized(x: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Each row over its root mean square: the pixel norm of latents and of embedded labels. Karras et al. 2018 (arXiv 1710.10196), section 4.2."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=1, keepdims=True) + 1e-8)


def minibatch_stddev(x: Float[Array, "n h w c"], group: int) -> Float[Array, "n h w 1"]:
    """How unlike the images of a group are: the standard deviation over it, mean over pixels and channels, as a plane for each of its members.

    Groups are of min(group, n) images, every (n / group)th of the batch, whatever the devices it is split over: n must be a multiple. float32.
    Karras et al. 2018 (arXiv 1710.10196), section 3; StyleGAN2 has groups of 4.
    """
    n, height, width, channels = x.shape
    group = min(group, n)
    y = x.astype(jnp.float32).reshape(group, n // group, height * width * channels)
    y = y - jnp.mean(y, axis=0, keepdims=True)
    deviation = jnp.mean(jnp.sqrt(jnp.mean(jnp.square(y), axis=0) + 1e-8), axis=1)
    return jnp.broadcast_to(jnp.tile(deviation, group)[:, None, None, None], (n, height, width, 1))


def slerp(first: Float[AnyArray, "n d"], second: Float[AnyArray, "n d"], t: AnyArray | float) -> Float[Array, "n d"]:
    """The point at t, or t [n, 1], of the great circle's way from first to second, its length between both lengths. Shoemake 1985 (SIGGRAPH 19-3)."""
    lengths = [jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (first, second)]
    a, b = first / lengths[0], second / lengths[1]
    across = b - jnp.sum(a * b, axis=-1, keepdims=True) * a
    sine = jnp.linalg.norm(across, axis=-1, keepdims=True)
    angle = t * jnp.arctan2(sine, jnp.sum(a * b, axis=-1, keepdims=True))
    direction = a * jnp.cos(angle) + across / jnp.where(sine > 0, sine, 1) * jnp.sin(angle)
    return direction * ((1 - t) * lengths[0] + t * lengths[1])


def to_uint8(images: Float[AnyArray, "*shape"]) -> UInt8[Array, "*shape"]:
    """[-1, 1] to 0..255, rounded to the nearest and clipped: the one rounding that this library uses, the inverse of x / 127.5 - 1."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
