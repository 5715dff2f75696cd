"""Linen modules that several models share. Parameters are float32; `dtype` is that of the computation."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import ops

ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "elu": nn.elu,
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
        init = self.weight_init or nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
        weight = self.param("kernel", init, (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features), jnp.float32)
        weight = _spectral_normalized(self, weight) if self.spectral else weight
        x, weight = jnp.asarray(x, self.dtype), jnp.asarray(weight, self.dtype)
        match self.stride:
            case 1:
                y = ops.conv(x, weight, self.pad) if self.groups == 1 else ops.grouped_conv(x, weight, self.groups)
            case 2:
                y = ops.down_conv(x, weight)
            case "up":
                y = ops.up_conv(x, weight, self.size)
            case _:
                raise ValueError(f"stride is 1, 2 or 'up', not {self.stride!r}")
        return _with_bias(self, y, self.fixed_bias) if self.use_bias else y


class Logit(nn.Module):
    """Features [batch, size] and labels one-hot [batch, classes] -> logits [batch], float32.

    `projection` adds the inner product of the features with the label's embedding: Miyato & Koyama 2018 (arXiv 1802.05637), equation 8.
    """

    projection: bool = False
    spectral: bool = False
    weight_init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, labels):
        parts = {"spectral": self.spectral, "weight_init": self.weight_init, "dtype": self.dtype}
        logits = Dense(1, name="out", **parts)(x)[:, 0]
        if self.projection:
            embedding = Dense(x.shape[-1], use_bias=False, name="embed", **parts)(labels)
            logits += jnp.sum(embedding * x, axis=-1)
        return logits.astype(jnp.float32)


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
            variance.value = jnp.maximum(jnp.mean(jnp.square(flat), axis=0) - jnp.square(mean.value), 0.0)
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
        flat = x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)
        if self.has_variable("instance", "mean") and not self.is_mutable_collection("instance"):
            mean, variance = (self.get_variable("instance", name) for name in ("mean", "variance"))
            centred = flat - mean
        else:
            mean = jnp.mean(flat, axis=1, keepdims=True)
            centred = flat - mean
            variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True)
            if self.is_mutable_collection("instance"):
                self.put_variable("instance", "mean", mean)
                self.put_variable("instance", "variance", variance)
        return (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape).astype(x.dtype)


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
    start = lambda: nn.initializers.normal(1.0)(module.make_rng("params"), (1, weight.shape[-1]), jnp.float32)
    kept = module.variable("spectral", "u", start)

    def unit(vector):
        return vector / (jnp.linalg.norm(vector) + 1e-12)

    fixed = jax.lax.stop_gradient(matrix)
    v = unit(kept.value @ fixed.T)
    u = unit(v @ fixed)
    if module.is_mutable_collection("spectral"):
        kept.value = u
    return weight / jnp.sum((v @ matrix) * u)
