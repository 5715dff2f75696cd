"""How convolutions are computed: the lowerings, and the choice among them.

Images are NHWC, kernels HWIO. `ops` has the public operators.

A convolution is a trilinear form <y, x * kernel>. Its value, its gradient to the image
and its gradient to the kernel are the three partial derivatives of that form, and the
derivatives of each are again the same three. So each is one function here, which picks
its lowering (`lowering` makes that choice, and nothing else does) and uses the other
two as its gradients, to any order.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax import target
from genjax.shapes import Array

FEW = 4  # at most this many channels: pixels rather than features
# Winograd's form is the fastest from this many channels and features on, by kernel size
# and stride, if y has at least MANY tiles: below that, its sums over the kernel cost
# more than they save.
WIDE = {
    (3, 1): {"value": 64, "image": 64, "kernel": 16},
    (4, 2): {"value": 16, "image": 16, "kernel": 16},
}
MANY = 128


class Geometry(NamedTuple):
    """Sizes of y[i] = sum over a in 0..k-1 of x[stride i + a - low] w[a].

    On both axes, with zeros outside x.
    """

    k: int
    stride: int
    low: int
    x: tuple[int, int]  # height and width
    y: tuple[int, int]


# --- choice of the lowering -----------------------------------------------------------


def lowering(
    role: str,
    platform: str,
    geometry: Geometry,
    batch: int,
    channels: int,
    features: int,
    dtype: jnp.dtype,
) -> str:
    """Choose the form that computes `role`: "value", "image" or "kernel".

    On a CPU the choice is measured (benchmarks/ops.py): Winograd's form, in tiles of 4
    or else 2, where the matrix products are wide and numerous enough to outweigh its
    sums; im2col on the side with few channels; at stride 2 the value and the gradient
    to the kernel share their patches, and a large kernel is not rotated for small
    outputs; otherwise the form with the fewest copies. Other platforms use XLA's own
    form, which is not measured.

    Args:
        role: partial derivative to compute
        platform: what the program is compiled for
        geometry: sizes of the convolution
        batch: number of images
        channels: number of channels of x
        features: number of channels of y
        dtype: dtype of the computation
    """
    if platform != "cpu":
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
    kernel_size, pixels = channels * features, batch * height * width
    match role:
        case "value" if stride == 1 and features <= FEW and k > 1:
            return "overlap"
        case "value":
            return "patches" if stride == 2 or k == 1 or channels >= 128 else "xla"
        case "image" if (k, stride) == (4, 2) and kernel_size >= 1024 * pixels:
            return "phases"
        case "image" if stride == 2 or k == 1 or channels <= FEW or features >= 256:
            return "overlap"
        case "image":
            return "turned"
        case _ if stride == 1 and features <= FEW and k > 1:
            return "turned"
        case _:
            return "patches" if stride == 2 or k == 1 or pixels <= 1024 else "taps"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Compute the value y."""
    chosen = lowering(
        "value", target.platform(), geometry, len(x), kernel.shape[2], kernel.shape[3], x.dtype
    )
    return VALUE[chosen](geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """Compute the gradient to the image: x[stride i + a - low] += y[i] w[a]^T."""
    chosen = lowering(
        "image", target.platform(), geometry, len(y), kernel.shape[2], kernel.shape[3], y.dtype
    )
    return IMAGE[chosen](geometry, y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_gradient(geometry: Geometry, x: Array, y: Array) -> Array:
    """Compute the gradient to the kernel.

    w[a] = sum over i of x[stride i + a - low]^T y[i].
    """
    chosen = lowering(
        "kernel", target.platform(), geometry, len(x), x.shape[3], y.shape[3], x.dtype
    )
    return KERNEL[chosen](geometry, x, y)


def _derivatives(value, to_first, to_second) -> None:
    """Register the gradients of `value` to its first and second array."""

    def forward(geometry, first, second):
        return value(geometry, first, second), (first, second)

    def backward(geometry, saved, g):
        first, second = saved
        return to_first(geometry, g, second), to_second(geometry, first, g)

    value.defvjp(forward, backward)


_derivatives(correlate, transposed, kernel_gradient)
_derivatives(transposed, correlate, lambda geometry, y, g: kernel_gradient(geometry, g, y))
_derivatives(kernel_gradient, lambda geometry, g, y: transposed(geometry, y, g), correlate)


# --- XLA's own form -------------------------------------------------------------------


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


# At stride 1 the transpose is the correlation with the kernel rotated by 180 degrees
# and its channels swapped.


def _turned(geometry: Geometry) -> Geometry:
    return geometry._replace(low=geometry.k - 1 - geometry.low, x=geometry.y, y=geometry.x)


def _turn(kernel: Array) -> Array:
    return materialised(jnp.swapaxes(kernel[::-1, ::-1], 2, 3))


def _turned_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    return correlate(_turned(geometry), y, _turn(kernel))


def _turned_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """im2col on y instead of x: less to copy if y has fewer channels."""
    return _turn(_product_of_patches(_turned(geometry), y, x))


# --- im2col or col2im with one product ------------------------------------------------


def _taps(geometry: Geometry, x: Array) -> list[Array]:
    """The k * k views t[i] = x[stride i + a - low] of x, one per kernel position."""
    k, stride, _, _, (height, width) = geometry
    x = _pad(x, _pads(geometry))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return [
        x[:, i : i + rows : stride, j : j + columns : stride] for i in range(k) for j in range(k)
    ]


def _patches(geometry: Geometry, x: Array) -> Array:
    """im2col, [n, h, w, k * k * c].

    Along the width, then along the height: 2 k slices instead of k * k.
    """
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
    """y^T patches, transposed afterwards.

    The transpose of the smaller matrix is made first, because XLA's products of a
    transposed matrix are slow on a CPU.
    """
    patches = _matrix(_patches(geometry, x))
    product = materialised(materialised(_matrix(y).T) @ patches)
    return jnp.transpose(
        product.reshape(y.shape[3], geometry.k, geometry.k, x.shape[3]), (1, 2, 3, 0)
    )


def _product_of_patches(geometry: Geometry, x: Array, y: Array) -> Array:
    """patches^T y: a third faster than `_patches_kernel` if y is the wider side."""
    patches = _matrix(_patches(geometry, x))
    return (patches.T @ _matrix(y)).reshape(geometry.k, geometry.k, x.shape[3], y.shape[3])


def _taps_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    few, y_matrix = x.shape[3] <= FEW, _matrix(y)
    taps = [_matrix(tap).T for tap in _taps(geometry, x)]
    products = [(materialised(tap) if few else tap) @ y_matrix for tap in taps]
    return jnp.stack(products).reshape(geometry.k, geometry.k, x.shape[3], y.shape[3])


def _overlap_value(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Stride 1: one product to k * k * o channels, then shift and add."""
    k, features = geometry.k, kernel.shape[3]
    x = _pad(x, _pads(geometry))
    products = _product(x, jnp.transpose(kernel, (2, 0, 1, 3)).reshape(kernel.shape[2], -1))
    return _shifted_sum(products.reshape(*x.shape[:3], k, k, features), geometry.y)


def _overlap_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """One product to k * k * c channels, then shift and add (col2im)."""
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
    """y[i, j] = sum over a, b of taps[i + a, j + b, a, b], for y of shape `size`.

    Along the width, then along the height.
    """
    height, width = size
    rows = total(taps[:, :, b : b + width, :, b] for b in range(taps.shape[4]))
    return total(rows[:, a : a + height, :, a] for a in range(taps.shape[3]))


def _overlap_add(taps: list[Array], axis: int, low: int, size: int) -> Array:
    """y[2i + a - low] += taps[a][i] along `axis`, for 0 <= y < size.

    Even and odd outputs are sums of shifted taps, which are then interleaved.
    """
    shifts = (len(taps) + 1) // 2
    shifted = [pad_axis(tap, axis, a // 2, shifts - 1 - a // 2) for a, tap in enumerate(taps)]
    y = interleave(
        [total(shifted[0::2]), total(shifted[1::2] or [jnp.zeros_like(shifted[0])])], axis
    )
    # A 2x2 or 3x3 kernel may not reach the far edge: zeros there.
    return pad_axis(y, axis, -low, size + low - y.shape[axis])


def interleave(arrays: Sequence[Array], axis: int) -> Array:
    """Interleave arrays along `axis`: their first elements, then their second, ..."""
    y = jnp.stack(arrays, axis=axis + 1)
    return y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])


def _phases_image(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """Stride 2: compute the four phases of x (even or odd rows and columns) separately.

    Each phase uses only the taps that reach it. The kernel of an up-convolution is read
    as stored.
    """
    (k, _, low, (height, width), _), kernel = geometry, jnp.swapaxes(kernel, 2, 3)

    def reaching(axis: int, parity: int) -> list[tuple[int, tuple[int, int]]]:
        """The taps that reach this parity, and the padding that aligns y with each."""
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


# --- Winograd's form ------------------------------------------------------------------
# F(m x m, r x r), Lavin and Gray 2015 (arXiv 1509.09308), section 4.1: an m x m tile of
# y from an n x n tile of x, n = m + r - 1; along each axis, y = A^T [(G w) * (B^T x)].
# At stride 1 r is the kernel's size: 3x3 takes 16 products instead of 36 for a tile of
# 2, 36 instead of 144 for a tile of 4. A 4x4 kernel at stride 2 is a sum of 2x2
# convolutions at stride 1, one for each of the four phases (even or odd rows and
# columns of x and w). With the phases as channels it takes 36 products instead of 64
# for a tile of 2, 100 instead of 256 for a tile of 4.

# Interpolation points besides infinity, by (m, r). Rounding errors are 1.5 times (m =
# 2) or 2 to 4 times (m = 4) those of a plain sum.
POINTS = {
    (2, 2): (0.0, 1.0),
    (2, 3): (0.0, 1.0, -1.0),
    (4, 2): (0.0, 0.5, -1.0, 2.0),
    (4, 3): (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)),
}
Matrix = tuple[tuple[float, ...], ...]


class Winograd(NamedTuple):
    """Transformation matrices along one axis. The gradients use their transposes."""

    x: Matrix  # B^T, [n, n]
    kernel: Matrix  # G, [n, r]
    y: Matrix  # A^T, [m, n]


@functools.cache
def _winograd(m: int, r: int) -> Winograd:
    """Toom-Cook matrices for tiles of m and kernels of r.

    G and A evaluate polynomials at the points; the rows of B^T are the coefficients of
    the polynomials that vanish at all other points.
    """
    points = POINTS[m, r]
    rests = [points[:i] + points[i + 1 :] for i in range(len(points))]
    x = [(*_monic(rest), 0.0) for rest in rests] + [_monic(points)]
    scales = [
        math.prod(point - other for other in rest)
        for point, rest in zip(points, rests, strict=True)
    ]
    kernel = [
        [point**k / scale for k in range(r)] for point, scale in zip(points, scales, strict=True)
    ]
    y = [[point**i for point in points] + [float(i == m - 1)] for i in range(m)]
    return Winograd(
        _frozen(x), _frozen([*kernel, [float(k == r - 1) for k in range(r)]]), _frozen(y)
    )


def _monic(roots: Sequence[float]) -> tuple[float, ...]:
    """Coefficients, lowest first, of the product of (x - root)."""
    coefficients = (1.0,)
    for root in roots:
        shifted, padded = (0.0, *coefficients), (*coefficients, 0.0)
        coefficients = (*(a - root * b for a, b in zip(shifted, padded, strict=True)),)
    return coefficients


def _frozen(matrix: Sequence[Sequence[float]]) -> Matrix:
    """Remove rounding errors of zeros and ones."""
    return tuple(tuple(round(value, 12) for value in row) for row in matrix)


def _apply(matrix: Matrix, arrays: Sequence[Array]) -> list[Array]:
    """Multiply `matrix` by a vector of arrays."""
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


# Transform along one axis, then along the other, each into one array, and multiply in
# one call. That compiles a sixth of the kernels that one call per product needs, and is
# as fast in a network, which would otherwise compute its activations again for each
# product.


def _winograd_x(geometry: Geometry, m: int, x: Array) -> Array:
    """Transform x to [n * n, batch * tiles, phases * c].

    Tile (i, j) starts at x[m stride i - low, m stride j - low].
    """
    _, stride, low, size, _ = geometry
    form, counts = _form(geometry, m), _tile_counts(geometry, m)
    spans = [stride * (m * (count - 1) + len(form.x)) for count in counts]
    x = _pad(x, [(low, span - low - side) for span, side in zip(spans, size, strict=True)])
    phases = [x[:, i::stride, j::stride] for i in range(stride) for j in range(stride)]
    # If a transpose fused with the operations before it, this would be three times as
    # slow.
    x = materialised(jnp.concatenate(phases, axis=-1))
    x = _tiles(form.x, x, 1, m, counts[0])
    return _products(_tiles(form.x, x, 3, m, counts[1]))


def _winograd_y(geometry: Geometry, m: int, y: Array) -> Array:
    """Transform gradients to y to those to products: [n * n, batch * tiles, o]."""
    back, counts = _transpose(_form(geometry, m).y), _tile_counts(geometry, m)
    y = _pad(y, [(0, m * count - side) for count, side in zip(counts, geometry.y, strict=True)])
    y = _tiles(back, y, 1, m, counts[0])
    return _products(_tiles(back, y, 3, m, counts[1]))


def _winograd_kernel(geometry: Geometry, m: int, kernel: Array) -> Array:
    """Transform the kernel to [n * n, phases * c, o]."""
    k, stride = geometry.k, geometry.stride
    kernel = kernel.reshape(k // stride, stride, k // stride, stride, *kernel.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(k // stride, k // stride, -1, kernel.shape[-1])
    kernel = _both_axes(_form(geometry, m).kernel, kernel)
    return kernel.reshape(-1, *kernel.shape[2:])


def _both_axes(matrix: Matrix, taps: Array) -> Array:
    """Apply `matrix` along each of the first two axes, which swap places."""
    for axis in (0, 1):
        taps = jnp.stack(_apply(matrix, jnp.unstack(taps, axis=axis)))
    return taps


def _tiles(matrix: Matrix, x: Array, axis: int, m: int, count: int) -> Array:
    """Apply `matrix` to `count` windows along `axis`, one at every m-th element.

    The rows of the result are on a new first axis.
    """
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
    """Compute y of a batch of images from the products."""
    form = _form(geometry, m)
    y = products.reshape(len(form.x), len(form.x), batch, *_tile_counts(geometry, m), -1)
    for axis in (3, 1):
        y = interleave(_apply(form.y, list(y)), axis)
    return y[:, : geometry.y[0], : geometry.y[1]]


def _winograd_turned(geometry: Geometry, y: Array, kernel: Array, *, m: int) -> Array:
    """Winograd's form of `_turned_image`.

    The product swaps the kernel's channels, because the transform of a swapped kernel
    reads with strides.
    """
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
    sizes = zip(geometry.x, x.shape[1:3], strict=True)
    return _pad(x, [(-geometry.low, geometry.low + want - got) for want, got in sizes])


def _overlapped(elements: Sequence[Array], axis: int, m: int) -> list[Array]:
    """Add overlapping tiles: elements from the m-th on start the next tile."""
    head = [pad_axis(element, axis, 0, 1) for element in elements[:m]]
    tail = [pad_axis(element, axis, 1, 0) for element in elements[m:]]
    return [a if b is None else a + b for a, b in itertools.zip_longest(head, tail)]


def _winograd_kernel_gradient(geometry: Geometry, x: Array, y: Array, *, m: int) -> Array:
    k, stride, form = geometry.k, geometry.stride, _form(geometry, m)
    swapped = lambda matrices: jnp.swapaxes(matrices, 1, 2)
    x_tiles, y_tiles = _winograd_x(geometry, m, x), _winograd_y(geometry, m, y)
    # At stride 2 the matrices of x have 4 times its channels: transpose those of y,
    # which are smaller.
    products = swapped(x_tiles) @ y_tiles if stride == 1 else swapped(swapped(y_tiles) @ x_tiles)
    taps = _both_axes(
        _transpose(form.kernel), products.reshape(len(form.x), len(form.x), *products.shape[1:])
    )
    taps = taps.reshape(k // stride, k // stride, stride, stride, x.shape[3], y.shape[3])
    return jnp.transpose(taps, (0, 2, 1, 3, 4, 5)).reshape(k, k, x.shape[3], y.shape[3])


Lowering = Callable[[Geometry, Array, Array], Array]


def _by_tile(function: Callable[..., Array], name: str = "winograd") -> dict[str, Lowering]:
    return {f"{name}_{m}": functools.partial(function, m=m) for m in (2, 4)}


VALUE: dict[str, Lowering] = {
    "xla": _xla_value,
    "patches": _patches_value,
    "overlap": _overlap_value,
    **_by_tile(_winograd_value),
}
IMAGE: dict[str, Lowering] = {
    "xla": _xla_image,
    "turned": _turned_image,
    "overlap": _overlap_image,
    "phases": _phases_image,
    **_by_tile(_winograd_image),
    **_by_tile(_winograd_turned, "winograd_turned"),
}
KERNEL: dict[str, Lowering] = {
    "xla": _xla_kernel,
    "turned": _turned_kernel,
    "patches": _patches_kernel,
    "taps": _taps_kernel,
    **_by_tile(_winograd_kernel_gradient),
}


# --- sums, matrices and padding -------------------------------------------------------


def total(arrays: Iterable[Array]) -> Array:
    """Sum of arrays, in order."""
    return functools.reduce(operator.add, arrays)


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _product(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices: more axes are slow in XLA on a CPU."""
    return (_matrix(x) @ weight).reshape(*x.shape[:-1], -1)


def materialised(x: Array) -> Array:
    """Keep x apart from its users while XLA simplifies, on a CPU.

    A transpose, for example, stays out of a product. Later fusion may still merge them.
    """
    return jax.lax.optimization_barrier(x) if target.platform() == "cpu" else x


def pad_axis(x: Array, axis: int, low: int, high: int) -> Array:
    """Pad `axis` with zeros, or crop it where a size is negative."""
    return jax.lax.pad(
        x,
        jnp.zeros((), x.dtype),
        [(low, high, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)],
    )


def _pad(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """Pad or crop height and width."""
    return jax.lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    )
