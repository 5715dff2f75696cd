"""Linen modules that several models share.

Parameters are float32; `dtype` is the dtype of the computation. Images are NHWC.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from genjax.nn import ops
from genjax.shapes import AnyArray, Array, Float, Int

Initializer = Callable[..., Array]  # (key, shape, dtype) -> parameter


def _elu(x):
    """ELU as exp(x) - 1, off from `nn.elu` by at most one rounding of 1.

    On a CPU, XLA takes several times as long for the expm1 of `nn.elu`.
    """
    return jnp.where(x > 0, x, (jnp.exp(jnp.float32(jnp.where(x > 0, 0, x))) - 1).astype(x.dtype))


ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "elu": _elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
}


class MLP(nn.Module):
    """Dense layers, each followed by `activation`."""

    sizes: tuple[int, ...]
    activation: str = "relu"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        """Apply the layers."""
        for size in self.sizes:
            x = ACTIVATIONS[self.activation](nn.Dense(size, dtype=self.dtype)(x))
        return x


class Dense(nn.Module):
    """Dense layer; `spectral` divides the weight by its largest singular value."""

    features: int
    use_bias: bool = True
    spectral: bool = False
    weight_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch {self.features}"]:
        """Apply the layer."""
        weight = self.param("kernel", self.weight_init, (x.shape[-1], self.features), jnp.float32)
        weight = _spectral_normalized(self, weight) if self.spectral else weight
        y = jnp.asarray(x, self.dtype) @ jnp.asarray(weight, self.dtype)
        return _with_bias(self, y) if self.use_bias else y


class Conv(nn.Module):
    """Square convolution at unchanged, halved or doubled size.

    Attributes:
        features: number of output channels kernel: height and width of the kernel
        stride: 1; 2 halves the size (rounding up); "up" doubles it or gives `size`
        size: height and width of the output of an up-convolution, each 2 n or 2 n - 1
        pad: number of zeros on each side at stride 1; by default the size is unchanged
        groups: number of groups of channels convolved independently, at stride 1
        use_bias: add a bias fixed_bias: pass no gradient to the bias. Before a
        normalisation layer its gradient
            is rounding error only, which Adam would magnify
        spectral: divide the weight by its largest singular value weight_init:
        initialiser of the weight; by default LeCun's for the layer's fan-in dtype:
        dtype of the computation
    """

    features: int
    kernel: int = 3
    stride: int | str = 1
    size: tuple[int, int] | None = None
    pad: int | None = None
    groups: int = 1
    use_bias: bool = True
    fixed_bias: bool = False
    spectral: bool = False
    weight_init: Initializer | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        # An output of an up-convolution sums over a quarter of the taps: its fan-in is
        # a quarter of what `variance_scaling` counts.
        """Apply the convolution. Raises ValueError if `stride` is not 1, 2 or "up"."""
        gain = 4.0 if self.stride == "up" else 1.0
        init = self.weight_init or nn.initializers.variance_scaling(
            gain, "fan_in", "truncated_normal"
        )
        weight = self.param(
            "kernel",
            init,
            (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features),
            jnp.float32,
        )
        weight = _spectral_normalized(self, weight) if self.spectral else weight
        x, weight = jnp.asarray(x, self.dtype), jnp.asarray(weight, self.dtype)
        match self.stride:
            case 1:
                y = (
                    ops.conv(x, weight, self.pad)
                    if self.groups == 1
                    else ops.grouped_conv(x, weight, self.groups)
                )
            case 2:
                y = ops.down_conv(x, weight)
            case "up":
                y = ops.up_conv(x, weight, self.size)
            case _:
                raise ValueError(f"stride is 1, 2 or 'up', not {self.stride!r}")
        return _with_bias(self, y, self.fixed_bias) if self.use_bias else y


class Logit(nn.Module):
    """Discriminator head: one logit per image, computed in float32.

    `projection` adds the inner product of the features with the embedding of the label.
    Miyato & Koyama 2018 (arXiv 1802.05637), equation 8.
    """

    projection: bool = False
    spectral: bool = False
    weight_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch size"], labels: Float[Array, "batch classes"]
    ) -> Float[Array, " batch"]:
        """Map features and one-hot labels to logits."""
        kwargs: dict[str, Any] = {"spectral": self.spectral, "weight_init": self.weight_init}
        x = x.astype(jnp.float32)
        logits = Dense(1, name="out", **kwargs)(x)[:, 0]
        if self.projection:
            embedding = Dense(x.shape[-1], use_bias=False, name="embed", **kwargs)(labels)
            logits += jnp.sum(embedding * x, axis=-1)
        return logits


class BatchNorm(nn.Module):
    """Normalise each channel over batch and pixels, then learned scale and shift.

    In training, this batch's mean and (biased) variance are written to the collection
    `batch_stats`; the training step averages them. Ioffe & Szegedy 2015 (arXiv
    1502.03167).
    """

    train: bool
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Normalise by the statistics of the batch if `train`, else by stored ones."""
        size, dtype = x.shape[-1], x.dtype
        scale = self.param("scale", self.scale_init, (size,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (size,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (size,), jnp.float32)
        variance = self.variable("batch_stats", "variance", jnp.ones, (size,), jnp.float32)
        flat = x.reshape(-1, size).astype(jnp.float32)
        if self.train:
            mean.value = jnp.mean(flat, axis=0)
            variance.value = jnp.maximum(
                jnp.mean(jnp.square(flat), axis=0) - jnp.square(mean.value), 0.0
            )
        factor = scale * jax.lax.rsqrt(variance.value + self.epsilon)
        y = flat * factor[None] + (bias - mean.value * factor)[None]
        return y.reshape(x.shape).astype(dtype)


class InstanceNorm(nn.Module):
    """Normalise each channel of each image over its pixels; nothing is learned.

    If the collection "instance" is mutable, each image's statistics are stored in it;
    if it is given and immutable, they replace those of the input, so tiles of a large
    picture are normalised like a small copy of the full picture (Chen et al. 2022,
    arXiv 2103.11784). Ulyanov et al. 2016 (arXiv 1607.08022).
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Normalise, and store the statistics or use stored ones."""
        n, size = x.shape[0], x.shape[-1]
        # Drop the batch axis of a single image: with it, XLA sums products over pixels
        # 30 times slower on a CPU.
        flat = x.reshape((-1, size) if n == 1 else (n, -1, size)).astype(jnp.float32)
        if self.has_variable("instance", "mean") and not self.is_mutable_collection("instance"):
            mean, variance = (self.get_variable("instance", name) for name in ("mean", "variance"))
            centred = flat.reshape(n, -1, size) - mean
        else:
            mean = jnp.mean(flat, axis=-2, keepdims=True)
            centred = flat - mean
            variance = jnp.mean(jnp.square(centred), axis=-2, keepdims=True)
            if self.is_mutable_collection("instance"):
                self.put_variable("instance", "mean", mean.reshape(n, 1, size))
                self.put_variable("instance", "variance", variance.reshape(n, 1, size))
        return (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape).astype(x.dtype)


# --- equalised and modulated layers: N(0, 1) weights, scaled when used ----------------


class EqualizedDense(nn.Module):
    """Dense layer with equalised learning rate.

    Weights are stored as N(0, 1) / rate and multiplied by rate / sqrt(inputs) when
    used, biases by rate. Adam then updates all layers at the same relative speed,
    multiplied by `rate`. Karras et al. 2018 (arXiv 1710.10196), section 4.1; for the
    rate, Karras et al. 2019 (arXiv 1812.04948), appendix C.
    """

    features: int
    rate: float = 1.0
    bias_start: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n {self.features}"]:
        """Apply the layer."""
        size = x.shape[-1]
        weight_init = nn.initializers.normal(1 / self.rate)
        bias_init = nn.initializers.constant(self.bias_start / self.rate)
        weight = self.param("kernel", weight_init, (size, self.features), jnp.float32)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        weight = (weight * (self.rate / size**0.5)).astype(self.dtype)
        bias = (bias * self.rate).astype(self.dtype)
        return x.astype(self.dtype) @ weight + bias[None]


class EqualizedConv(nn.Module):
    """Convolution with equalised learning rate.

    `down` filters with `taps` and halves the size. The weight is scaled as in
    `EqualizedDense` with rate 1.
    """

    features: int
    kernel: int = 3
    down: bool = False
    taps: tuple[int, ...] = (1, 3, 3, 1)
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        """Apply the convolution."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        weight = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        weight = jnp.asarray(weight / (x.shape[-1] * self.kernel**2) ** 0.5, self.dtype)
        x = jnp.asarray(x, self.dtype)
        if self.down and self.kernel == 1:
            x = ops.conv(ops.downsample(x, self.taps), weight)
        else:
            x = ops.fir_down_conv(x, weight, self.taps) if self.down else ops.conv(x, weight)
        return _with_bias(self, x) if self.use_bias else x


class ModulatedConv(nn.Module):
    """Convolution of channels that are scaled per image.

    `up` doubles the size and filters with `taps`.

    `demodulate` divides each output channel by the norm of its scaled kernel, so that
    the output has the variance of the input. Scales activations rather than weights,
    because a convolution with one kernel per image is slow. Karras et al. 2020 (arXiv
    1912.04958), section 2.2.
    """

    features: int
    kernel: int = 3
    up: bool = False
    demodulate: bool = True
    taps: tuple[int, ...] = (1, 3, 3, 1)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], scales: Float[Array, "n c"]
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        """Apply the convolution with one scale per image and input channel."""
        inputs = x.shape[-1]
        shape = (self.kernel, self.kernel, inputs, self.features)
        weight = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        fan_in = inputs * self.kernel**2
        if not self.demodulate:
            scales = scales / fan_in**0.5
        elif self.dtype != jnp.float32:
            # These factors cancel in the result; they keep intermediates in range.
            weight = weight / jnp.max(jnp.abs(weight), axis=(0, 1, 2), keepdims=True) / fan_in**0.5
            scales = scales / jnp.max(jnp.abs(scales), axis=1, keepdims=True)
        x = (x * scales[:, None, None].astype(x.dtype)).astype(self.dtype)
        kernel = jnp.asarray(weight, self.dtype)
        y = ops.up_conv_fir(x, kernel, self.taps) if self.up else ops.conv(x, kernel)
        if self.demodulate:
            squares = ops.sum_first(jnp.square(weight).reshape(-1, inputs, self.features))
            lengths = jax.lax.rsqrt(jnp.square(scales) @ squares + 1e-8)
            y = y * lengths[:, None, None].astype(y.dtype)
        return y


def leaky(
    x: Float[Array, "*shape"], gain: float = 2**0.5, clamp: float | None = None
) -> Float[Array, "*shape"]:
    """Leaky ReLU of slope 0.2 times `gain`, clamped to +-`clamp` * gain / sqrt(2)."""
    x = nn.leaky_relu(x, 0.2) * jnp.asarray(gain, x.dtype)
    return x if clamp is None else jnp.clip(x, -clamp * gain / 2**0.5, clamp * gain / 2**0.5)


def one_hot_labels(
    labels: Int[AnyArray, " n"] | None, n: int, size: int
) -> Float[Array, "n classes"]:
    """One-hot encode int labels: [n, size]; [n, 0] if `size` is 0 (unconditional).

    Raises:
        ValueError: `size` is not 0 and `labels` is None.
    """
    if not size:
        return jnp.zeros((n, 0))
    if labels is None:
        raise ValueError("a conditional model needs labels, int32 [n]")
    return jax.nn.one_hot(labels, size)


def with_planes(
    images: Float[Array, "n h w c"], labels: Float[Array, "n classes"]
) -> Float[Array, "n h w channels"]:
    """Append one-hot labels to images as constant channels, one per class."""
    planes = jnp.broadcast_to(labels[:, None, None, :], (*images.shape[:3], labels.shape[-1]))
    return jnp.concatenate([images, planes], axis=-1)


def _with_bias(module: nn.Module, y: Array, fixed: bool = False) -> Array:
    bias = module.param("bias", nn.initializers.zeros, (y.shape[-1],), jnp.float32)
    bias = jax.lax.stop_gradient(bias) if fixed else bias
    return y + jax.lax.broadcast_in_dim(jnp.asarray(bias, y.dtype), y.shape, (y.ndim - 1,))


def _spectral_normalized(module: nn.Module, weight: Array) -> Array:
    """Divide a weight [..., out] by its largest singular value as a matrix.

    One power iteration per call, from the vector stored in the collection `spectral`.
    Miyato et al. 2018 (arXiv 1802.05957), algorithm 1.
    """
    matrix = weight.reshape(-1, weight.shape[-1])
    start = lambda: nn.initializers.normal(1.0)(
        module.make_rng("params"), (1, weight.shape[-1]), jnp.float32
    )
    state = module.variable("spectral", "u", start)

    def unit(vector):
        return vector / (jnp.linalg.norm(vector) + 1e-12)

    fixed = jax.lax.stop_gradient(matrix)
    v = unit(state.value @ fixed.T)
    u = unit(v @ fixed)
    if module.is_mutable_collection("spectral"):
        state.value = u
    return weight / jnp.sum((v @ matrix) * u)
