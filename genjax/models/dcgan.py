"""Convolutional GANs: DCGAN, Radford et al. 2016 (arXiv 1511.06434), and R3GAN's
networks.

R3GAN, Huang et al. 2025 (arXiv 2501.05441), has residual blocks without normalisation.
Training is that of `gan`.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genjax.errors import ConfigError
from genjax.models import checks, gan
from genjax.models.gan import GAN, TwoPlayerConfig
from genjax.models.gan.config import PENALTIES
from genjax.models.gan.networks import with_label
from genjax.nn import layers, ops

NETWORKS = ("dcgan", "r3gan")
NORMS = ("batch", "none")
FILTER = (1, 3, 3, 1)  # of R3GAN's resampling: [1, 2, 1] over two equal pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TwoPlayerConfig):
    """Settings of a convolutional GAN."""

    # height, width, channels, from the data; each side at least 4 times 2^(number of
    # stages)
    shape: tuple[int, int, int] = (32, 32, 3)
    z_dim: int = 100  # dimensions of z (Radford et al.)
    network: str = "dcgan"  # dcgan | r3gan
    # channels at the full resolution, twice as many at each half of it, at most
    # `channel_max`
    channels: int = 64
    channel_max: int = 512  # largest number of channels
    norm: str = "batch"  # batch | none: normalisation of dcgan's generator
    # batch | none: of dcgan's discriminator; a penalty on its gradient needs none
    disc_norm: str = "batch"
    # dcgan: divide each weight of the discriminator by its largest singular value
    # (Miyato et al. 2018)
    spectral: bool = False
    blocks: int = 1  # r3gan: residual blocks per resolution (R3GAN: 2)
    # r3gan: ratio of a block's inner to its outer number of channels (R3GAN: 2)
    expansion: int = 2
    group_width: int = 16  # r3gan: channels per group of the grouped 3x3 convolution (R3GAN: 16)


def stages(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """Return how often both sides can be halved, to at least 4, and the last (height,
    width).
    """
    height, width = shape[:2]
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width, count = height // 2, width // 2, count + 1
    return count, (height, width)


def widths(config: Config) -> list[int]:
    """Return the number of channels of each stage, from the full resolution down.

    At the stage's larger resolution; r3gan has blocks at the smallest resolution too.
    """
    count = stages(config.shape)[0] + (config.network == "r3gan")
    return [min(config.channels * 2**i, config.channel_max) for i in range(count)]


# --- DCGAN ----------------------------------------------------------------------------

_normal = nn.initializers.normal(0.02)  # Radford et al., section 4: all weights


def _scale(key, shape, dtype):  # of batch norm: around 1, as in their published code
    return 1.0 + _normal(key, shape, dtype)


class Generator(nn.Module):
    """Latents [n, z_dim], labels one-hot [n, num_labels] -> images in [-1, 1]."""

    config: Config

    @nn.compact
    def __call__(self, z, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        norm = config.norm == "batch"
        _, (height, width) = stages(config.shape)
        *outer, x_width = widths(config)
        kwargs: dict[str, Any] = {"weight_init": _normal, "dtype": dtype}
        up = functools.partial(layers.Conv, kernel=4, stride="up", **kwargs)
        dense = functools.partial(layers.Dense, use_bias=not norm, **kwargs)

        def activated(x, name):
            x = layers.BatchNorm(train, scale_init=_scale, name=f"norm_{name}")(x) if norm else x
            return nn.relu(x)

        x = with_label(z, labels, config, dtype)
        x = dense(height * width * x_width, name="smallest")(x)
        x = activated(x.reshape(-1, height, width, x_width), "smallest")
        for i, features in reversed(list(enumerate(outer))):
            x = up(features, use_bias=not norm, name=f"up_{i}")(x)
            x = activated(x, f"{i}")
        x = up(config.shape[2], name="image")(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images [n, h, w, c] and labels one-hot [n, num_labels] -> logits [n]."""

    config: Config

    @nn.compact
    def __call__(self, x, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        kwargs: dict[str, Any] = {"spectral": config.spectral, "weight_init": _normal}
        down = functools.partial(layers.Conv, kernel=4, stride=2, dtype=dtype, **kwargs)
        x = layers.with_planes(x, labels) if config.conditional == "concat" else x
        for i, features in enumerate(widths(config)):
            norm = config.disc_norm == "batch" and i > 0  # not on the first layer
            x = down(features, use_bias=not norm, name=f"down_{i}")(x)
            x = layers.BatchNorm(train, scale_init=_scale, name=f"norm_{i}")(x) if norm else x
            x = nn.leaky_relu(x, 0.2)
        logit = layers.Logit(config.conditional == "projection", name="logit", **kwargs)
        return logit(x.reshape(x.shape[0], -1), labels)


# --- R3GAN ----------------------------------------------------------------------------


def _msra(gain):
    """Normal, of variance gain^2 over the fan-in. He et al. 2015 (arXiv 1502.01852)."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


# gain of leaky ReLU with slope 0.2, which R3GAN folds into the weights
_GAIN = (2 / (1 + 0.2**2)) ** 0.5
_linear_init = _msra(1.0)


class Block(nn.Module):
    """x + W3 a(W2 a(W1 x)): expand the channels, grouped 3x3 convolution, project back.

    The last weight starts at 0, so that a block starts as the identity.
    """

    config: Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        config, size = self.config, x.shape[-1]
        inner = size * config.expansion
        groups = max(1, inner // config.group_width)
        # Fix-up (Zhang et al. 2019, arXiv 1901.09321): with m = 3 layers per block,
        # blocks^(-1 / (2 m - 2)).
        depth = config.blocks * (stages(config.shape)[0] + 1)
        init = _msra(_GAIN * depth**-0.25)
        conv = functools.partial(layers.Conv, weight_init=init, dtype=self.dtype)
        y = nn.leaky_relu(conv(inner, kernel=1, name="in")(x), 0.2)
        y = nn.leaky_relu(conv(inner, kernel=3, groups=groups, name="grouped")(y), 0.2)
        return x + _linear(size, "out", self.dtype, nn.initializers.zeros)(y)


def _linear(features: int, name: str, dtype, weight_init=_linear_init):
    return layers.Conv(
        features, kernel=1, use_bias=False, weight_init=weight_init, dtype=dtype, name=name
    )


class ResidualGenerator(nn.Module):
    """Latents [n, z_dim], labels one-hot [n, num_labels] -> images, not bounded."""

    config: Config

    @nn.compact
    def __call__(self, z, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        _, smallest = stages(config.shape)
        *outer, size = widths(config)
        basis = self.param("basis", nn.initializers.normal(1.0), (1, *smallest, size), jnp.float32)
        z = layers.Dense(
            size, use_bias=False, weight_init=_linear_init, dtype=jnp.float32, name="modulation"
        )(with_label(z, labels, config, jnp.float32))
        x = jnp.asarray(
            jnp.broadcast_to(basis, (z.shape[0], *basis.shape[1:])) * z[:, None, None, :], dtype
        )
        for i, features in [(len(outer), size), *reversed(list(enumerate(outer)))]:
            if i < len(outer):
                x = x if features == x.shape[-1] else _linear(features, f"to_{i}", dtype)(x)
                x = ops.upsample(x, FILTER)
            for b in range(config.blocks):
                x = Block(config, dtype, name=f"block_{i}_{b}")(x)
        return _linear(config.shape[2], "image", dtype)(x).astype(jnp.float32)


class ResidualDiscriminator(nn.Module):
    """Images [n, h, w, c] and labels one-hot [n, num_labels] -> logits [n]."""

    config: Config

    @nn.compact
    def __call__(self, x, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = layers.with_planes(x, labels) if config.conditional == "concat" else x
        sizes = widths(config)
        x = _linear(sizes[0], "image", dtype)(x)
        for i, features in enumerate(sizes):
            if i > 0:
                x = ops.downsample(x, FILTER)
                x = x if features == x.shape[-1] else _linear(features, f"to_{i}", dtype)(x)
            for b in range(config.blocks):
                x = Block(config, dtype, name=f"block_{i}_{b}")(x)
        # One learned weight per position and channel, summed over positions: the mirror
        # of the generator's basis.
        basis = self.param("basis", _msra_places, x.shape[1:], jnp.float32)
        x = jnp.sum(
            (x.astype(jnp.float32) * basis[None]).reshape(x.shape[0], -1, x.shape[-1]), axis=1
        )
        return layers.Logit(
            config.conditional == "projection", weight_init=_linear_init, name="logit"
        )(x, labels)


def _msra_places(key, shape, dtype):
    return nn.initializers.normal((shape[0] * shape[1]) ** -0.5)(key, shape, dtype)


# --- recipe ---------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    gan.check_two_player(config)
    demand = functools.partial(checks.demand, config)
    checks.one_of(config, "network", NETWORKS)
    checks.one_of(config, "norm", NORMS)
    checks.one_of(config, "disc_norm", NORMS)
    checks.at_least(config, 1, "channels", "channel_max", "blocks", "expansion", "group_width")
    sizes = widths(config)
    if config.network == "dcgan":
        penalised = any(getattr(config, name) for name in PENALTIES)
        advice = (
            "a penalty on the discriminator's gradient needs `disc_norm` none: through batch norm "
            "the logit of one image depends on all"
        )
        demand(config.disc_norm == "none" or not penalised, "disc_norm", advice)
    else:
        most = 2 * checks.MAX_DEPTH // len(sizes)
        advice = f"at most {most} at each of {len(sizes)} resolutions"
        demand(config.blocks <= most, "blocks", advice)
        inner = [size * config.expansion for size in sizes]
        fits = all(size % max(1, size // config.group_width) == 0 for size in inner)
        demand(fits, "group_width", f"must divide the inner channels {inner}")
        demand(not config.spectral, "spectral", "only with `network` dcgan")
    if stages(config.shape)[0] == 0:
        height, width = config.shape[:2]
        advice = "each side must be at least 8 and even, best a multiple of 16"
        raise ConfigError("shape", f"{height}x{width}", advice)


def recipe(config: Config) -> GAN:
    """Return the convolutional GAN of a Config.

    Raises ConfigError if the Config makes no sense.
    """
    check(config)
    if config.network == "dcgan":
        return gan.two_player(config, Generator(config), Discriminator(config))
    return gan.two_player(config, ResidualGenerator(config), ResidualDiscriminator(config))
