"""The few layers that published image networks are made of, over plain dicts of arrays: images NHWC, kernels HWIO, all at full float32.

Parameters are read from PyTorch's state dicts, kernels [features, channels, height, width], a batch norm folded into its convolution.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import InputError
from genjax.shapes import Array

Layer = Mapping[str, Any]  # "kernel" [h, w, channels, features] or [inputs, outputs], "bias" [features]
FULL = jax.lax.Precision.HIGHEST  # else TPUs multiply in bfloat16 and recent GPUs in TF32, and features move in the third digit


# Parameters


def array(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of a state dict, in float64. Raises InputError unless it is there, of that shape, and finite."""
    if name not in state:
        raise InputError(f"has no array {name!r} among its {len(state)}; other weights than this network's")
    if state[name].shape != shape:
        raise InputError(f"{name!r} is {list(state[name].shape)}, not {list(shape)}; other weights than this network's")
    value = np.asarray(state[name], np.float64)
    if not np.isfinite(value).all():
        raise InputError(f"{name!r} is not finite; the file is damaged")
    return value


def conv_layer(
    state: Mapping[str, np.ndarray],
    conv: str,
    shape: tuple[int, int, int, int],
    norm: str | None = None,
    epsilon: float = 1e-5,
    bias: bool | None = None,
) -> Layer:
    """The convolution `conv` of `shape` (features, channels, height, width), with its bias or with the batch norm `norm` after it folded in."""
    kernel = array(state, f"{conv}.weight", shape)
    if norm is None:
        shift = np.zeros(shape[0]) if bias is False else array(state, f"{conv}.bias", shape[:1])
    else:
        gain, offset, mean, variance = (
            array(state, f"{norm}.{x}", shape[:1]) for x in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise InputError(f"{norm}.running_var is negative; the file is damaged")
        gain = gain / np.sqrt(variance + epsilon)
        kernel, shift = kernel * gain[:, None, None, None], offset - mean * gain
    return {"kernel": kernel.transpose(2, 3, 1, 0).astype(np.float32), "bias": shift.astype(np.float32)}


def dense_layer(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, int]) -> Layer:
    """The linear layer `name` of `shape` (outputs, inputs)."""
    weight, bias = array(state, f"{name}.weight", shape), array(state, f"{name}.bias", shape[:1])
    return {"kernel": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}


# Layers


def conv(x: Array, layer: Layer, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Array:
    """Cross-correlation with `pad` zeros above and below, left and right, and the bias: PyTorch's `conv2d(stride=, padding=)`."""
    y = jax.lax.conv_general_dilated(
        x,
        layer["kernel"],
        (stride, stride),
        [(pad[0], pad[0]), (pad[1], pad[1])],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=FULL,
    )
    return y + layer["bias"][None, None, None]


def dense(x: Array, layer: Layer) -> Array:
    """x [n, inputs] -> [n, outputs]."""
    return jnp.matmul(x, layer["kernel"], precision=FULL) + layer["bias"][None]


def max_pool(x: Array, k: int, stride: int, pad: int = 0) -> Array:
    """The largest of k x k places, PyTorch's `max_pool2d`: along the height and then along the width, 2 k places in place of k * k."""
    for axis in (1, 2):
        x = _pool(x, jax.lax.max, -jnp.inf, axis, k, stride, pad)
    return x


def average_pool(x: Array) -> Array:
    """The mean of each 3 x 3 places, of those of them that are inside: PyTorch's `avg_pool2d(3, 1, 1, count_include_pad=False)`."""
    for axis in (1, 2):
        inside = np.full(x.shape[axis], 3, np.float32)
        inside[0] -= 1
        inside[-1] -= 1
        x = _pool(x, jax.lax.add, 0.0, axis, 3, 1, 1) / np.expand_dims(inside, [a for a in range(4) if a != axis])
    return x


def _pool(x: Array, reduce: Callable, start: float, axis: int, k: int, stride: int, pad: int) -> Array:
    window, strides, pads = [1] * 4, [1] * 4, [(0, 0)] * 4
    window[axis], strides[axis], pads[axis] = k, stride, (pad, pad)
    return jax.lax.reduce_window(x, start, reduce, window, strides, pads)
