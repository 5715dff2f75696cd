"""Linen modules that several models share. Parameters are float32; `dtype` is that of the computation."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.nn import ops


def _elu(x):
    """nn.elu by exp(x) - 1, off by a rounding of 1: its expm1 takes XLA several times as long on a CPU."""
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
    """[batch, features] -> [batch, sizes[-1]]: dense layers, `activation` after each."""

    sizes: tuple[int, ...]
    activation: str = "relu"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = ACTIVATIONS[self.activation](nn.Dense(size, dtype=self.dtype)(x))
        return x


class Dense(nn.Module):
    """[batch, inputs] -> [batch, features]; `spectral`: the weight is divided by its largest singular value."""

    features: int
    use_bias: bool = True
    spectral: bool = False
    weight_init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        weight = self.param("kernel", self.weight_init, (x.shape[-1], self.features), jnp.float32)
        weight = _spectral_normalized(self, weight) if self.spectral else weight
        y = jnp.asarray(x, self.dtype) @ jnp.asarray(weight, self.dtype)
        return _with_bias(self, y) if self.use_bias else y


class Conv(nn.Module):
    """Square convolution, NHWC. `stride` 2 halves (ceil), "up" doubles, or gives `size` = (height, width). `spectral` as in Dense.

    `fixed_bias`: it gets no gradient. Before a normalisation a bias has none but rounding errors, which Adam would magnify.
    At stride 1: `pad` zeros on each side, by default as many as keep the size; `groups`, parts of the channels that are convolved apart.
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
    weight_init: Callable | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        # An up-convolution's output sums over a quarter of the taps: its fan-in is kernel^2 / 4 of what lecun_normal counts.
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
    """Features [batch, size] and labels one-hot [batch, classes] -> logits [batch], computed in float32 whatever the features are.

    `projection` adds the inner product of the features with the label's embedding: Miyato & Koyama 2018 (arXiv 1802.05637), equation 8.
    """

    projection: bool = False
    spectral: bool = False
    weight_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x, labels):
        parts = {"spectral": self.spectral, "weight_init": self.weight_init}
        x = x.astype(jnp.float32)
        logits = Dense(1, name="out", **parts)(x)[:, 0]
        if self.projection:
            embedding = Dense(x.shape[-1], use_bias=False, name="embed", **parts)(labels)
            logits += jnp.sum(embedding * x, axis=-1)
        return logits


class BatchNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over the batch and its pixels, then a learned scale and shift. Ioffe & Szegedy 2015 (arXiv 1502.03167).

    In training the collection `batch_stats` is given this batch's own mean and (biased) variance: whoever trains averages them.
    """

    train: bool
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x):
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
    """Each channel of each image to mean 0 and variance 1 over its pixels, nothing learned. Ulyanov et al. 2016 (arXiv 1607.08022).

    Applied with the collection "instance" mutable it keeps each image's statistics there; applied with them given it uses those instead of
    x's own, so that parts of a large picture are normalised as a small copy of the whole was (Chen et al. 2022, arXiv 2103.11784).
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        n, size = x.shape[0], x.shape[-1]
        # One image has no axis of its own: XLA's CPU sums products over pixels 30 times slower with it.
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


# --- equalised and modulated layers: weights N(0, 1), scaled where they are used ------------------------------------------


class EqualizedDense(nn.Module):
    """[n, inputs] -> [n, features]. Weights N(0, 1) / rate are scaled by rate / sqrt(inputs) as they are used, biases by rate.

    So Adam moves all layers alike, and those of another `rate` by that much more or less. Karras et al. 2018 (arXiv 1710.10196), section 4.1;
    the rate, Karras et al. 2019 (arXiv 1812.04948), appendix C.
    """

    features: int
    rate: float = 1.0
    bias_start: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        size = x.shape[-1]
        weight = self.param(
            "kernel", nn.initializers.normal(1 / self.rate), (size, self.features), jnp.float32
        )
        bias = self.param(
            "bias",
            nn.initializers.constant(self.bias_start / self.rate),
            (self.features,),
            jnp.float32,
        )
        weight, bias = (
            (weight * (self.rate / size**0.5)).astype(self.dtype),
            (bias * self.rate).astype(self.dtype),
        )
        return x.astype(self.dtype) @ weight + bias[None]


class EqualizedConv(nn.Module):
    """Images [n, h, w, c] -> [n, h, w, features], or half the sides where `down` filters with `taps` first. Scaled as EqualizedDense."""

    features: int
    kernel: int = 3
    down: bool = False
    taps: tuple[int, ...] = (1, 3, 3, 1)
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
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
    """Images [n, h, w, c] and scales of their channels [n, c] -> [n, h, w, features], twice the sides where `up`, filtered with `taps`.

    `demodulate`: an output channel is divided by the length of its scaled kernel, so that it has the variance that the input has. Karras et al.
    2020 (arXiv 1912.04958), section 2.2; by scaling activations, since a convolution with kernels of each image's own is slow.
    """

    features: int
    kernel: int = 3
    up: bool = False
    demodulate: bool = True
    taps: tuple[int, ...] = (1, 3, 3, 1)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, scales):
        inputs = x.shape[-1]
        weight = self.param(
            "kernel",
            nn.initializers.normal(1.0),
            (self.kernel, self.kernel, inputs, self.features),
            jnp.float32,
        )
        if not self.demodulate:
            scales = scales / (inputs * self.kernel**2) ** 0.5
        elif (
            self.dtype != jnp.float32
        ):  # nothing to the demodulated result, but keeps what lies between within a narrow type
            weight = (
                weight
                / jnp.max(jnp.abs(weight), axis=(0, 1, 2), keepdims=True)
                / (inputs * self.kernel**2) ** 0.5
            )
            scales = scales / jnp.max(jnp.abs(scales), axis=1, keepdims=True)
        x = (x * scales[:, None, None].astype(x.dtype)).astype(self.dtype)
        kernel = jnp.asarray(weight, self.dtype)
        y = ops.up_conv_fir(x, kernel, self.taps) if self.up else ops.conv(x, kernel)
        if self.demodulate:
            squares = ops.sum_first(jnp.square(weight).reshape(-1, inputs, self.features))
            lengths = jax.lax.rsqrt(jnp.square(scales) @ squares + 1e-8)
            y = y * lengths[:, None, None].astype(y.dtype)
        return y


def leaky(x, gain: float = 2**0.5, clamp: float | None = None):
    """Leaky ReLU of slope 0.2, times `gain`, held within +-clamp times gain / sqrt(2)."""
    x = nn.leaky_relu(x, 0.2) * jnp.asarray(gain, x.dtype)
    return x if clamp is None else jnp.clip(x, -clamp * gain / 2**0.5, clamp * gain / 2**0.5)


def one_hot_labels(labels, n: int, size: int):
    """Labels int32 [n] of a model conditional on `size` classes -> [n, size]; of one that is not, `size` 0, [n, 0]. ValueError without labels."""
    if not size:
        return jnp.zeros((n, 0))
    if labels is None:
        raise ValueError("a conditional model needs labels, int32 [n]")
    return jax.nn.one_hot(labels, size)


def with_planes(images, labels):
    """Images [n, h, w, c] and labels one-hot [n, classes] -> [n, h, w, c + classes]: a plane a class, 1 on the label's."""
    planes = jnp.broadcast_to(labels[:, None, None, :], (*images.shape[:3], labels.shape[-1]))
    return jnp.concatenate([images, planes], axis=-1)


def _with_bias(module: nn.Module, y, fixed: bool = False):
    bias = module.param("bias", nn.initializers.zeros, (y.shape[-1],), jnp.float32)
    bias = jax.lax.stop_gradient(bias) if fixed else bias
    return y + jax.lax.broadcast_in_dim(jnp.asarray(bias, y.dtype), y.shape, (y.ndim - 1,))


def _spectral_normalized(module: nn.Module, weight):
    """A weight [..., out] over its largest singular value as a matrix: one power iteration a call. Miyato et al. 2018 (arXiv 1802.05957), algorithm 1.

    The vector that it goes on from is kept in the collection `spectral`.
    """
    matrix = weight.reshape(-1, weight.shape[-1])
    start = lambda: nn.initializers.normal(1.0)(
        module.make_rng("params"), (1, weight.shape[-1]), jnp.float32
    )
    kept = module.variable("spectral", "u", start)

    def unit(vector):
        return vector / (jnp.linalg.norm(vector) + 1e-12)

    fixed = jax.lax.stop_gradient(matrix)
    v = unit(kept.value @ fixed.T)
    u = unit(v @ fixed)
    if module.is_mutable_collection("spectral"):
        kept.value = u
    return weight / jnp.sum((v @ matrix) * u)
