"""How convolutions are computed: the lowerings, and the choice of one. Images are NHWC, kernels HWIO. The operators are ops.py's.

A convolution is a form of three arguments, <y, x * kernel>, linear in each: its value, its gradient to the image and its gradient to the
kernel are the form's three partial derivatives, and the derivatives of those are the same three again. So each of the three is one function
here, which picks its own lowering (`lowering`, the one place of that choice) and names the other two as its gradients, to any order.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.shapes import Array

FEW = 4  # channels of an image, beside those of features
WIDE = {  # by kernel and stride: the channels and features from which on Winograd's form is the fastest ...
    (3, 1): {"value": 64, "image": 64, "kernel": 16},
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


# The choice


def lowering(
    role: str,
    backend: str,
    geometry: Geometry,
    batch: int,
    channels: int,
    features: int,
    dtype: jnp.dtype,
) -> str:
    """Which form computes `role` ("value", "image", "kernel"). The CPU's are measured (benchmarks/ops.py); others take XLA's own, not measured.

    On a CPU: Winograd's, in tiles of 4 or else 2, where the products are wide and many enough to pay for its sums; where one side has few
    channels, the k * k taps are taken of that side; at stride 2 the value and the kernel's gradient share their patches, and a large kernel
    is not turned for a few pixels; else what copied least when measured.
    """
    if backend != "cpu":
        return "xla"
    k, stride, _, _, (height, width) = geometry
    wide = (
        (k, stride) in WIDE
        and min(channels, features) >= WIDE[k, stride][role]
        and dtype == jnp.float32
    )
    for m in (4, 2) if wide else ():
        if batch * math.prod(_tile_counts(geometry, m)) >= MANY:
            return ("winograd_turned" if role == "image" and stride == 1 else "winograd") + f"_{m}"
    match role:
        case "value" if stride == 1 and features <= FEW and k > 1:
            return "overlap"
        case "value":
            return "patches" if stride == 2 or k == 1 or channels >= 128 else "xla"
        case "image" if (k, stride) == (
            4,
            2,
        ) and channels * features >= 1024 * batch * height * width:
            return "phases"
        case "image":
            return (
                "overlap"
                if stride == 2 or k == 1 or channels <= FEW or features >= 256
                else "turned"
            )
        case _ if stride == 1 and features <= FEW and k > 1:
            return "turned"
        case _:
            return "patches" if stride == 2 or k == 1 or batch * height * width <= 1024 else "taps"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The value y."""
    chosen = lowering(
        "value", jax.default_backend(), geometry, len(x), kernel.shape[2], kernel.shape[3], x.dtype
    )
    return VALUE[chosen](geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The gradient to the image, from y's: x[stride i + a - low] += y[i] w[a]^T."""
    chosen = lowering(
        "image", jax.default_backend(), geometry, len(y), kernel.shape[2], kernel.shape[3], y.dtype
    )
    return IMAGE[chosen](geometry, y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    """The gradient to the kernel, from y's: w[a] = sum over i of x[stride i + a - low]^T y[i]."""
    chosen = lowering(
        "kernel", jax.default_backend(), geometry, len(x), x.shape[3], y.shape[3], x.dtype
    )
    return KERNEL[chosen](geometry, x, y)


def _derivatives(value, to_first, to_second):
    def forward(geometry, first, second):
        return value(geometry, first, second), (first, second)

    def backward(geometry, saved, g):
        first, second = saved
        return to_first(geometry, g, second), to_second(geometry, first, g)

    value.defvjp(forward, backward)


_derivatives(correlate, transposed, kernel_gradient)
_derivatives(transposed, correlate, lambda geometry, y, g: kernel_gradient(geometry, g, y))
_derivatives(kernel_gradient, lambda geometry, g, y: transposed(geometry, y, g), correlate)


# XLA's own form


def _xla_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    strides, numbers = (geometry.stride,) * 2, ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, _pads(geometry), dimension_numbers=numbers
    )


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
    return materialised(jnp.swapaxes(kernel[::-1, ::-1], 2, 3))


def _turned_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    return correlate(_turned(geometry), y, _turn(kernel))


def _turned_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """The taps of y instead of those of x: fewer, where y has fewer channels."""
    return _turn(_product_of_patches(_turned(geometry), y, x))


# Taps and one product, or one product and taps


def _taps(geometry: Geometry, x: Array) -> list[Array]:
    """The k * k views t[i] = x[stride i + a - low] that the kernel sees."""
    k, stride, _, _, (height, width) = geometry
    x = _pad(x, _pads(geometry))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return [
        x[:, i : i + rows : stride, j : j + columns : stride] for i in range(k) for j in range(k)
    ]


def _patches(geometry: Geometry, x: Array) -> Array:
    """The taps as channels, [n, h, w, k * k * c]: along the width and then along the height, which takes 2 k slices in place of k * k."""
    k, stride, _, _, (height, width) = geometry
    for axis, size in ((2, width), (1, height)):
        x = pad_axis(x, axis, *_pads(geometry)[axis - 1])
        taps = [
            jax.lax.slice_in_dim(x, a, a + stride * (size - 1) + 1, stride, axis) for a in range(k)
        ]
        x = jnp.concatenate(taps, axis=-1)
    return x


def _patches_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    return _product(_patches(geometry, x), kernel.reshape(-1, kernel.shape[3]))


def _patches_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """y^T patches: a transpose of the smaller matrix, made first, for XLA's products of a transposed one are slow on a CPU."""
    patches = _matrix(_patches(geometry, x))
    product = materialised(materialised(_matrix(y).T) @ patches)
    return jnp.transpose(
        product.reshape(y.shape[3], geometry.k, geometry.k, x.shape[3]), (1, 2, 3, 0)
    )


def _product_of_patches(geometry: Geometry, x: Array, y: Array) -> Array:
    """The same as patches^T y: a third faster where y, turned, is the wider side."""
    patches = _matrix(_patches(geometry, x))
    return (patches.T @ _matrix(y)).reshape(geometry.k, geometry.k, x.shape[3], y.shape[3])


def _taps_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    few, y_matrix = x.shape[3] <= FEW, _matrix(y)
    taps = [_matrix(tap).T for tap in _taps(geometry, x)]
    products = [(materialised(tap) if few else tap) @ y_matrix for tap in taps]
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
    rows = total(taps[:, :, b : b + width, :, b] for b in range(taps.shape[4]))
    return total(rows[:, a : a + height, :, a] for a in range(taps.shape[3]))


def _overlap_add(taps: list[Array], axis: int, low: int, size: int) -> Array:
    """y[2i + a - low] += taps[a][i] along `axis`, for 0 <= y < size. Even and odd outputs are sums of shifted taps, then interleaved."""
    shifts = (len(taps) + 1) // 2
    shifted = [pad_axis(tap, axis, a // 2, shifts - 1 - a // 2) for a, tap in enumerate(taps)]
    y = interleave(
        [total(shifted[0::2]), total(shifted[1::2] or [jnp.zeros_like(shifted[0])])], axis
    )
    return pad_axis(
        y, axis, -low, size + low - y.shape[axis]
    )  # a 2x2 or 3x3 kernel may reach no further: the rest is zeros


def interleave(parts: Sequence[Array], axis: int) -> Array:
    y = jnp.stack(parts, axis=axis + 1)
    return y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])


def _phases_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """Stride 2: every second row and column of x by themselves, from the taps that reach them. An up-convolution's kernel is read as it is stored."""
    (k, _, low, (height, width), _), kernel = geometry, jnp.swapaxes(kernel, 2, 3)

    def reaching(axis: int, parity: int) -> list[tuple[int, tuple[int, int]]]:
        """The taps, and what is padded so that y is in place for each."""
        shifts = [(a, (parity + low - a) // 2) for a in range((parity + low) % 2, k, 2)]
        return [
            (a, (-shift, shift + (geometry.x[axis] + 1) // 2 - geometry.y[axis]))
            for a, shift in shifts
        ]

    def phase(i: int, j: int) -> Array:
        taps = itertools.product(reaching(0, i), reaching(1, j))
        return total(
            _product(_pad(y, [rows, columns]), kernel[a, b]) for (a, rows), (b, columns) in taps
        )

    x = interleave([interleave([phase(i, j) for j in (0, 1)], 2) for i in (0, 1)], 1)
    return x[:, :height, :width]


# Winograd's F(m x m, r x r) (Lavin and Gray 2015, arXiv 1509.09308, section 4.1): an m x m tile of y from n x n of x, n = m + r - 1, on both axes
# y = A^T [(G w) * (B^T x)]. At stride 1 r is the kernel's size, and 3x3 takes 16 products instead of 36 for a tile of 2, 36 instead of 144 for one
# of 4. 4x4 kernels at stride 2: of each of the four phases (even or odd rows and columns of x and of w) a 2x2 convolution at stride 1, whose sum,
# with the phases as channels, takes 36 products instead of 64 for a tile of 2, 100 instead of 256 for one of 4.

POINTS = {  # by (m, r): where the polynomials are taken, beside infinity; rounding errors are 1.5 (m = 2) and 2 to 4 times (m = 4) those of a plain sum
    (2, 2): (0.0, 1.0),
    (2, 3): (0.0, 1.0, -1.0),
    (4, 2): (0.0, 0.5, -1.0, 2.0),
    (4, 3): (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)),
}
Matrix = tuple[tuple[float, ...], ...]


class Winograd(NamedTuple):
    """Along one axis. The gradients take the transposed matrices."""

    x: Matrix  # B^T, [n, n]
    kernel: Matrix  # G, [n, r]
    y: Matrix  # A^T, [m, n]


@functools.cache
def _winograd(m: int, r: int) -> Winograd:
    """Toom and Cook's matrices: G and A evaluate polynomials at the points, B^T has the coefficients of those that are 0 at all others."""
    points = POINTS[m, r]
    others = [points[:i] + points[i + 1 :] for i in range(len(points))]
    x = [(*_monic(rest), 0.0) for rest in others] + [_monic(points)]
    scales = [
        math.prod(point - other for other in rest)
        for point, rest in zip(points, others, strict=True)
    ]
    kernel = [
        [point**k / scale for k in range(r)] for point, scale in zip(points, scales, strict=True)
    ]
    y = [[point**i for point in points] + [float(i == m - 1)] for i in range(m)]
    return Winograd(
        _frozen(x), _frozen([*kernel, [float(k == r - 1) for k in range(r)]]), _frozen(y)
    )


def _monic(roots: Sequence[float]) -> tuple[float, ...]:
    """The coefficients, lowest first, of the product of (x - root)."""
    return functools.reduce(
        lambda c, root: (*(a - root * b for a, b in zip((0.0, *c), (*c, 0.0), strict=True)),),
        roots,
        (1.0,),
    )


def _frozen(matrix: Sequence[Sequence[float]]) -> Matrix:
    """Without what rounding left of zeros and ones."""
    return tuple(tuple(round(value, 12) for value in row) for row in matrix)


def _apply(matrix: Matrix, arrays: Sequence[Array]) -> list[Array]:
    return [
        total(_times(value, array) for value, array in zip(row, arrays, strict=True) if value)
        for row in matrix
    ]


def _times(value: float, array: Array) -> Array:
    return array if value == 1 else -array if value == -1 else value * array


def _transpose(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _form(geometry: Geometry, m: int) -> Winograd:
    return _winograd(m, geometry.k // geometry.stride)


def _tile_counts(geometry: Geometry, m: int) -> tuple[int, int]:
    return -(-geometry.y[0] // m), -(-geometry.y[1] // m)


# Along one axis and then along the other, each time into one array, and the products in one call: a sixth of the kernels to compile that one
# for each of the products takes, and as fast in a network, whose activations would else be computed again in each of them.


def _winograd_x(geometry: Geometry, m: int, x: Array) -> Array:
    """[n * n, batch * tiles, phases * c], x transformed: tile (i, j) starts at x[m stride i - low, m stride j - low]."""
    (_, stride, low, size, _), form, counts = (
        geometry,
        _form(geometry, m),
        _tile_counts(geometry, m),
    )
    span = len(form.x)
    x = _pad(
        x,
        [
            (low, stride * (m * (count - 1) + span) - low - side)
            for count, side in zip(counts, size, strict=True)
        ],
    )
    phases = [x[:, i::stride, j::stride] for i in range(stride) for j in range(stride)]
    x = materialised(
        jnp.concatenate(phases, axis=-1)
    )  # a transpose fuses with what comes before: three times as slow
    x = _tiles(form.x, x, 1, m, counts[0])
    return _products(_tiles(form.x, x, 3, m, counts[1]))


def _winograd_y(geometry: Geometry, m: int, y: Array) -> Array:
    """[n * n, batch * tiles, o]: the gradients to the products."""
    back, counts = _transpose(_form(geometry, m).y), _tile_counts(geometry, m)
    y = _pad(y, [(0, m * count - side) for count, side in zip(counts, geometry.y, strict=True)])
    y = _tiles(back, y, 1, m, counts[0])
    return _products(_tiles(back, y, 3, m, counts[1]))


def _winograd_kernel(geometry: Geometry, m: int, kernel: Array) -> Array:
    """[n * n, phases * c, o]: the kernel transformed."""
    k, stride = geometry.k, geometry.stride
    kernel = kernel.reshape(k // stride, stride, k // stride, stride, *kernel.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(k // stride, k // stride, -1, kernel.shape[-1])
    kernel = _both_axes(_form(geometry, m).kernel, kernel)
    return kernel.reshape(-1, *kernel.shape[2:])


def _both_axes(matrix: Matrix, taps: Array) -> Array:
    """`matrix` along both of the first two axes, which change places."""
    for axis in (0, 1):
        taps = jnp.stack(_apply(matrix, jnp.unstack(taps, axis=axis)))
    return taps


def _tiles(matrix: Matrix, x: Array, axis: int, m: int, count: int) -> Array:
    """`matrix` of as many elements as it has columns, from every m-th place on, `count` places along `axis`; its rows on a new first axis."""
    taps = [
        jax.lax.slice_in_dim(x, a, a + m * (count - 1) + 1, m, axis) for a in range(len(matrix[0]))
    ]
    return jnp.stack(_apply(matrix, taps))


def _products(x: Array) -> Array:
    """[columns, rows, n, h, w, c] -> [columns * rows, n * h * w, c]."""
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _winograd_value(geometry: Geometry, x: Array, kernel: Array, *, m: int) -> Array:
    return _winograd_tiles(
        geometry, m, len(x), _winograd_x(geometry, m, x) @ _winograd_kernel(geometry, m, kernel)
    )


def _winograd_tiles(geometry: Geometry, m: int, batch: int, products: Array) -> Array:
    """y of a batch of images, from the products."""
    form = _form(geometry, m)
    y = products.reshape(len(form.x), len(form.x), batch, *_tile_counts(geometry, m), -1)
    for axis in (3, 1):
        y = interleave(_apply(form.y, list(y)), axis)
    return y[:, : geometry.y[0], : geometry.y[1]]


def _winograd_turned(geometry: Geometry, y: Array, kernel: Array, *, m: int) -> Array:
    """As `_turned_image`; the kernel's channels are swapped by the product, for the transform of a swapped kernel reads with strides."""
    turned, kernel = _turned(geometry), _winograd_kernel(geometry, m, kernel[::-1, ::-1])
    return _winograd_tiles(
        turned, m, len(y), _winograd_x(turned, m, y) @ jnp.swapaxes(kernel, 1, 2)
    )


def _winograd_image(geometry: Geometry, y: Array, kernel: Array, *, m: int) -> Array:
    form, (height, width), stride = _form(geometry, m), _tile_counts(geometry, m), geometry.stride
    x = _winograd_y(geometry, m, y) @ jnp.swapaxes(_winograd_kernel(geometry, m, kernel), 1, 2)
    x = x.reshape(len(form.x), len(form.x), len(y), height, width, stride, stride, -1)
    for axis in (3, 1):
        x = interleave(_overlapped(_apply(_transpose(form.x), list(x)), axis, m), axis)
    x = jnp.swapaxes(x, 2, 3).reshape(
        len(y), m * stride * (height + 1), m * stride * (width + 1), -1
    )
    return _pad(
        x,
        [
            (-geometry.low, geometry.low + size - got)
            for size, got in zip(geometry.x, x.shape[1:3], strict=True)
        ],
    )


def _overlapped(parts: Sequence[Array], axis: int, m: int) -> list[Array]:
    """Tiles overlap: what is beyond the m-th element of one is the start of the next."""
    head, tail = (
        [pad_axis(part, axis, *pads) for part in some]
        for some, pads in ((parts[:m], (0, 1)), (parts[m:], (1, 0)))
    )
    return [a if b is None else a + b for a, b in itertools.zip_longest(head, tail)]


def _winograd_kernel_gradient(geometry: Geometry, x: Array, y: Array, *, m: int) -> Array:
    k, stride, form = geometry.k, geometry.stride, _form(geometry, m)
    swapped = lambda matrices: jnp.swapaxes(matrices, 1, 2)
    x_tiles, y_tiles = _winograd_x(geometry, m, x), _winograd_y(geometry, m, y)
    # At stride 2 x's matrices have 4 times its channels: the product is of y's transposed, the smaller ones.
    products = swapped(x_tiles) @ y_tiles if stride == 1 else swapped(swapped(y_tiles) @ x_tiles)
    taps = _both_axes(
        _transpose(form.kernel), products.reshape(len(form.x), len(form.x), *products.shape[1:])
    )
    taps = taps.reshape(k // stride, k // stride, stride, stride, x.shape[3], y.shape[3])
    return jnp.transpose(taps, (0, 2, 1, 3, 4, 5)).reshape(k, k, x.shape[3], y.shape[3])


def _by_tile(function: Callable, name: str = "winograd") -> dict[str, Callable]:
    return {f"{name}_{m}": functools.partial(function, m=m) for m in (2, 4)}


VALUE = {
    "xla": _xla_value,
    "patches": _patches_value,
    "overlap": _overlap_value,
    **_by_tile(_winograd_value),
}
IMAGE = {
    "xla": _xla_image,
    "turned": _turned_image,
    "overlap": _overlap_image,
    "phases": _phases_image,
    **_by_tile(_winograd_image),
    **_by_tile(_winograd_turned, "winograd_turned"),
}
KERNEL = {
    "xla": _xla_kernel,
    "turned": _turned_kernel,
    "patches": _patches_kernel,
    "taps": _taps_kernel,
    **_by_tile(_winograd_kernel_gradient),
}


# Sums, matrices and padding


def total(arrays: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, arrays)


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _product(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices: with more axes it falls off XLA's fast path on a CPU."""
    return (_matrix(x) @ weight).reshape(*x.shape[:-1], -1)


def materialised(x: Array) -> Array:
    """On a CPU, apart from what uses it as XLA simplifies: a transpose, say, stays out of a product. Later fusion may join them all the same."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def pad_axis(x: Array, axis: int, low: int, high: int) -> Array:
    """Zeros, or fewer elements where negative."""
    return jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        [(low, high, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)],
    )


def _pad(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """The same on height and width."""
    return jax.lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    )
