"""Generator and discriminator of the plain GAN: two MLPs."""

import flax.linen as nn
import jax.numpy as jnp

from genjax.core import Array
from genjax.models.gan.config import Config, TwoPlayerConfig
from genjax.nn import layers


def with_label(z: Array, labels: Array, config: TwoPlayerConfig, dtype) -> Array:
    """Concatenate latents [n, z_dim] and the label as the generator takes it.

    One-hot [n, num_labels], or with a projection discriminator a learned embedding.
    """
    if config.conditional == "projection":
        labels = nn.Dense(config.z_dim, use_bias=False, dtype=dtype, name="embed")(labels)
    return jnp.concatenate([z, labels.astype(z.dtype)], axis=-1)


class Generator(nn.Module):
    """Latents [n, z_dim] and labels one-hot [n, num_labels] -> images [n, h, w, c]."""

    config: Config

    @nn.compact
    def __call__(self, z, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = with_label(z, labels, config, dtype)
        x = layers.MLP(config.hidden, "relu", dtype, name="hidden")(x)
        height, width, channels = config.shape
        x = nn.Dense(height * width * channels, dtype=dtype, name="pixels")(x).astype(jnp.float32)
        return (jnp.tanh(x) if config.output == "tanh" else x).reshape(-1, height, width, channels)


class Discriminator(nn.Module):
    """Images [n, h, w, c] and labels one-hot [n, num_labels] -> logits [n]."""

    config: Config

    @nn.compact
    def __call__(self, x, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = x.reshape(x.shape[0], -1)
        if config.conditional == "concat":
            x = jnp.concatenate([x, labels], axis=-1)
        x = layers.MLP(config.hidden[::-1], "leaky_relu", dtype, name="hidden")(x)
        return layers.Logit(config.conditional == "projection", name="logit")(x, labels)
