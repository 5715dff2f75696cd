"""Encoder and decoder of the VAE."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from genjax.models.vae.config import Config
from genjax.nn import layers


def _stage_sizes(config: Config) -> list[tuple[int, int]]:
    """(height, width) before each stride-2 convolution and after the last, halves
    rounded up.
    """
    sizes = [config.shape[:2]]
    for _ in config.channels:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


class Encoder(nn.Module):
    """Observations [n, h, w, c], labels one-hot [n, num_labels] -> mean, log variance
    [n, z_dim].
    """

    config: Config

    @nn.compact
    def __call__(self, x, labels):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if config.network == "mlp":
            x = jnp.concatenate([x.reshape(x.shape[0], -1), labels], axis=-1)
            x = layers.MLP(config.hidden, config.activation, dtype, name="hidden")(x)
        else:
            x = layers.with_planes(x, labels)
            for i, channels in enumerate(config.channels):
                conv = layers.Conv(channels, kernel=4, stride=2, dtype=dtype, name=f"down_{i}")
                x = nn.silu(conv(x))
            x = x.reshape(x.shape[0], -1)
        x = nn.Dense(2 * config.z_dim, dtype=jnp.float32, name="posterior")(x)
        return x[:, : config.z_dim], x[:, config.z_dim :]


class Decoder(nn.Module):
    """Latents [n, z_dim], labels one-hot [n, num_labels] -> parameters of p(x | z).

    These are logits or means [n, h, w, c], and log scales [c].
    """

    config: Config

    @nn.compact
    def __call__(self, z, labels):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        height, width, channels = config.shape
        x = jnp.concatenate([z, labels], axis=-1)
        if config.network == "mlp":
            x = layers.MLP(config.hidden[::-1], config.activation, dtype, name="hidden")(x)
            x = nn.Dense(height * width * channels, dtype=jnp.float32, name="pixels")(x)
            x = x.reshape(-1, height, width, channels)
        else:
            *sizes, smallest = _stage_sizes(config)
            widths = (channels, *config.channels)
            size = smallest[0] * smallest[1] * widths[-1]
            x = nn.silu(nn.Dense(size, dtype=dtype, name="smallest")(x))
            x = x.reshape(-1, *smallest, widths[-1])
            for i in reversed(range(len(sizes))):
                # The likelihood's parameters are float32.
                conv = functools.partial(layers.Conv, dtype=dtype if i > 0 else jnp.float32)
                x = conv(widths[i], kernel=4, stride="up", size=sizes[i], name=f"up_{i}")(x)
                x = nn.silu(x) if i > 0 else x
        log_scale = jnp.full((channels,), jnp.log(config.obs_scale), jnp.float32)
        if config.likelihood == "logistic" or config.learn_scale:
            log_scale = self.param("log_scale", lambda _: log_scale)
            # Below half an 8-bit step a density only memorises rounding, and overflows.
            # The floor is leaky, so that a scale below it still has a gradient.
            log_scale = nn.leaky_relu(log_scale + 6, 0.01) - 6
        return x, log_scale
