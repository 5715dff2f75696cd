"""The few layers that published image networks are made of, over plain dicts of arrays: images NHWC, kernels HWIO, all at full float32.

Parameters are read from PyTorch's state dicts, kernels [features, channels, height, width], a batch norm folded into its convolution.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import InputError
from genjax.files import tensors
from genjax.nn import ops
from genjax.shapes import AnyArray, Array

Layer = Mapping[
    str, Any
]  # "kernel" [h, w, channels, features] or [inputs, outputs], "bias" [features]
FULL = (
    jax.lax.Precision.HIGHEST
)  # else TPUs multiply in bfloat16 and recent GPUs in TF32, and features move in the third digit


# Parameters


def array(state: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of a state dict, in float32. Raises InputError unless it is there, of that shape, and finite."""
    if name not in state:
        raise InputError(
            f"has no array {name!r} among its {len(state)}; other weights than this network's"
        )
    if state[name].shape != shape:
        raise InputError(
            f"{name!r} is {list(state[name].shape)}, not {list(shape)}; other weights than this network's"
        )
    tensors.check_finite({name: state[name]})
    return np.asarray(state[name], np.float32)


def conv_layer(
    state: Mapping[str, np.ndarray],
    conv: str,
    shape: tuple[int, int, int, int],
    norm: str | None = None,
    epsilon: float = 1e-5,
) -> Layer:
    """The convolution `conv` of `shape` (features, channels, height, width), with its bias or with the batch norm `norm` after it folded in."""
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
    """The linear layer `name` of `shape` (outputs, inputs)."""
    weight, bias = array(state, f"{name}.weight", shape), array(state, f"{name}.bias", shape[:1])
    return {"kernel": weight.T, "bias": bias}


# Layers


def conv(x: AnyArray, layer: Layer, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Array:
    """Cross-correlation with `pad` zeros above and below, left and right, and the bias: PyTorch's `conv2d(stride=, padding=)`.

    Only the value has to be fast here, so these are fewer forms than those of `ops`; times are of one CPU core (benchmarks/features.py).
    """
    x, kernel = jnp.asarray(x), jnp.asarray(layer["kernel"])
    height, width, channels, features = kernel.shape
    k = height, width
    size = (
        (x.shape[1] + 2 * pad[0] - height) // stride + 1,
        (x.shape[2] + 2 * pad[1] - width) // stride + 1,
    )
    if k == (1, 1) and stride == 1 and pad == (0, 0):
        y = _product(x, kernel.reshape(channels, features))
    elif (
        jax.default_backend() == "cpu"
        and (k, stride, pad) == ((3, 3), 1, (1, 1))
        and min(channels, features) >= 96
    ):
        with jax.default_matmul_precision("highest"):
            y = ops.conv(x, kernel)  # Winograd's: up to twice as fast
    elif (
        jax.default_backend() == "cpu" and stride == 1 and size[0] * size[1] <= 64
    ):  # patches and one product: up to twice as fast
        y = _product(_patches(x, k, size, pad), kernel.reshape(-1, features))
    else:
        # Without padding XLA's convolution is 3 to 5 times slower on a CPU than with it: a row and a column that nobody wants are added.
        more = int(jax.default_backend() == "cpu" and stride == 1 and pad == (0, 0))
        pads = [(p, p + more) for p in pad]
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=numbers, precision=FULL
        )
        y = y[:, : size[0], : size[1]]
    return y + layer["bias"][None, None, None]


def _patches(x: Array, k: tuple[int, int], size: tuple[int, int], pad: tuple[int, int]) -> Array:
    """[n, *size, k * k * channels], what the kernel sees at each place at stride 1: along the width and then along the height."""
    x = jnp.pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    for axis in (2, 1):
        places = size[axis - 1]
        x = jnp.concatenate(
            [jax.lax.slice_in_dim(x, a, a + places, axis=axis) for a in range(k[axis - 1])], axis=3
        )
    return x


def _product(x: Array, weight: Array) -> Array:
    """x @ weight as a product of two matrices: with more axes it falls off XLA's fast path on a CPU."""
    return jnp.matmul(x.reshape(-1, x.shape[-1]), weight, precision=FULL).reshape(*x.shape[:-1], -1)


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
        x = _pool(x, jax.lax.add, 0.0, axis, 3, 1, 1) / np.expand_dims(
            inside, [a for a in range(4) if a != axis]
        )
    return x


def _pool(
    x: Array, reduce: Callable, start: float, axis: int, k: int, stride: int, pad: int
) -> Array:
    window, strides, pads = [1] * 4, [1] * 4, [(0, 0)] * 4
    window[axis], strides[axis], pads[axis] = k, stride, (pad, pad)
    return jax.lax.reduce_window(x, start, reduce, window, strides, pads)
