"""The layers of published image networks, over plain dicts of arrays.

Images are NHWC, kernels HWIO, and all products in full float32. Parameters are read
from PyTorch's state dicts, with kernels [features, channels, height, width]; batch
norms are folded into the convolutions before them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import target
from genjax.errors import InputError
from genjax.files import tensors
from genjax.nn import ops
from genjax.shapes import AnyArray, Array

# "kernel" [h, w, channels, features] or [inputs, outputs], and "bias" [features]
Layer = Mapping[str, Any]
# By default TPUs multiply in bfloat16 and recent GPUs in TF32, which changes the third
# digit of features
FULL = jax.lax.Precision.HIGHEST


# Parameters


def array(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of a state dict in float32.

    Raises:
        InputError: the array is missing, has another shape, or is not finite
    """
    other = "these are weights of another network"
    if name not in state:
        raise InputError(f"has no array {name!r} among its {len(state)}; {other}")
    if state[name].shape != shape:
        shapes = f"{list(state[name].shape)}, not {list(shape)}"
        raise InputError(f"{name!r} is {shapes}; {other}")
    tensors.check_finite({name: state[name]})
    return np.asarray(state[name], np.float32)


def conv_layer(
    state: Mapping[str, np.ndarray],
    conv: str,
    shape: tuple[int, int, int, int],
    norm: str | None = None,
    epsilon: float = 1e-5,
) -> Layer:
    """Read a convolution, with its bias or with the batch norm after it folded in.

    Args:
        state: the state dict
        conv: name of the convolution
        shape: (features, channels, height, width) of its kernel
        norm: name of the batch norm; None: the convolution has a bias
        epsilon: of the batch norm

    Raises:
        InputError: an array is missing, has another shape, or is not finite; a variance
            is negative
    """
    kernel = array(state, f"{conv}.weight", shape)
    if norm is None:
        shift = array(state, f"{conv}.bias", shape[:1])
    else:
        gain, offset, mean, variance = (
            array(state, f"{norm}.{x}", shape[:1]).astype(np.float64)
            for x in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise InputError(f"{norm}.running_var is negative; the file is damaged")
        gain = gain / np.sqrt(variance + epsilon)
        kernel, shift = kernel * gain[:, None, None, None], offset - mean * gain
    return {
        "kernel": kernel.transpose(2, 3, 1, 0).astype(np.float32),
        "bias": shift.astype(np.float32),
    }


def dense_layer(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, int]) -> Layer:
    """Read the linear layer `name` of `shape` (outputs, inputs).

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
    weight, bias = array(state, f"{name}.weight", shape), array(state, f"{name}.bias", shape[:1])
    return {"kernel": weight.T, "bias": bias}


# Layers


def conv(x: AnyArray, layer: Layer, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Array:
    """Convolve x [n, h, w, channels] and add the bias, as PyTorch's `conv2d`.

    `pad` is the number of zeros (above and below, left and right). No gradient has to
    be fast here, so there are fewer forms than in `ops`. Speeds are of one CPU core
    (benchmarks/features.py).
    """
    x, kernel = jnp.asarray(x), jnp.asarray(layer["kernel"])
    height, width, channels, features = kernel.shape
    k = height, width
    out_height = (x.shape[1] + 2 * pad[0] - height) // stride + 1
    out_width = (x.shape[2] + 2 * pad[1] - width) // stride + 1
    size = out_height, out_width
    cpu = target.platform() == "cpu"
    same = (k, stride, pad) == ((3, 3), 1, (1, 1))
    if k == (1, 1) and stride == 1 and pad == (0, 0):
        y = _product(x, kernel.reshape(channels, features))
    elif cpu and same and min(channels, features) >= 96:
        # Winograd convolution: up to twice as fast
        with jax.default_matmul_precision("highest"):
            y = ops.conv(x, kernel)
    elif cpu and stride == 1 and out_height * out_width <= 64:
        # Patches and one product: up to twice as fast
        y = _product(_patches(x, k, size, pad), kernel.reshape(-1, features))
    else:
        # On a CPU, XLA's convolution is 3 to 5 times slower without padding than with
        # it, so one row and one column are added, and cut off below
        more = int(cpu and stride == 1 and pad == (0, 0))
        pads = [(p, p + more) for p in pad]
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=numbers, precision=FULL
        )
        y = y[:, :out_height, :out_width]
    return y + layer["bias"][None, None, None]


def _patches(x: Array, k: tuple[int, int], size: tuple[int, int], pad: tuple[int, int]) -> Array:
    """The kernel's input at each position at stride 1: [n, *size, k * k * channels].

    They are collected along the width, then along the height.
    """
    x = jnp.pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    for axis in (2, 1):
        length = size[axis - 1]
        shifted = [jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(k[axis - 1])]
        x = jnp.concatenate(shifted, axis=3)
    return x


def _product(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices.

    With more axes it is not on XLA's fast path on a CPU.
    """
    return jnp.matmul(x.reshape(-1, x.shape[-1]), weight, precision=FULL).reshape(*x.shape[:-1], -1)


def dense(x: Array, layer: Layer) -> Array:
    """Apply a linear layer: x [n, inputs] -> [n, outputs]."""
    return jnp.matmul(x, layer["kernel"], precision=FULL) + layer["bias"][None]


def max_pool(x: Array, k: int, stride: int, pad: int = 0) -> Array:
    """Take the maximum over k x k windows: PyTorch's `max_pool2d`.

    First along the height, then along the width: 2 k comparisons instead of k * k.
    """
    for axis in (1, 2):
        x = _pool(x, jax.lax.max, -jnp.inf, axis, k, stride, pad)
    return x


def average_pool(x: Array) -> Array:
    """Average over 3x3 windows at stride 1, excluding positions outside the image.

    PyTorch's `avg_pool2d(3, 1, 1, count_include_pad=False)`.
    """
    for axis in (1, 2):
        inside = np.full(x.shape[axis], 3, np.float32)
        inside[0] -= 1
        inside[-1] -= 1
        divisor = np.expand_dims(inside, tuple(a for a in range(4) if a != axis))
        x = _pool(x, jax.lax.add, 0.0, axis, 3, 1, 1) / divisor
    return x


def _pool(
    x: Array,
    reduce: Callable[[Any, Any], Any],
    start: float,
    axis: int,
    k: int,
    stride: int,
    pad: int,
) -> Array:
    """Reduce windows of k positions along one axis."""
    window, strides, pads = [1] * 4, [1] * 4, [(0, 0)] * 4
    window[axis], strides[axis], pads[axis] = k, stride, (pad, pad)
    return jax.lax.reduce_window(x, start, reduce, window, strides, pads)
