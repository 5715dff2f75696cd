"""Linen modules that several models share. Parameters are float32; `dtype` is that of the computation."""

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


class Conv(nn.Module):
    """Square convolution with bias, NHWC. `stride` 2 halves (ceil), "up" doubles, or gives `size` = (height, width)."""

    features: int
    kernel: int = 3
    stride: int | str = 1
    size: tuple[int, int] | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        # An up-convolution's output sums over a quarter of the taps: its fan-in is kernel^2 / 4 of what lecun_normal counts.
        gain = 4.0 if self.stride == "up" else 1.0
        init = nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
        weight = self.param("kernel", init, (self.kernel, self.kernel, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, weight, bias = (jnp.asarray(a, self.dtype) for a in (x, weight, bias))
        match self.stride:
            case 1:
                y = ops.conv(x, weight)
            case 2:
                y = ops.down_conv(x, weight)
            case "up":
                y = ops.up_conv(x, weight, self.size)
            case _:
                raise ValueError(f"stride is 1, 2 or 'up', not {self.stride!r}")
        return y + jax.lax.broadcast_in_dim(bias, y.shape, (3,))
