"""Convolutional GANs: DCGAN, Radford et al. 2016 (arXiv 1511.06434), and the residual form without normalisation of R3GAN, Huang et al. 2025
(arXiv 2501.05441). Training is gan.py's.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from genjax import core
from genjax.errors import InputError
from genjax.models import gan
from genjax.models.gan import GAN, Game, with_label
from genjax.nn import layers, ops

NETWORKS = ("dcgan", "residual")
NORMS = ("batch", "none")
FILTER = (1, 3, 3, 1)  # of the residual form's resampling: [1, 2, 1] over two equal pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Game):
    shape: tuple[int, int, int] = (
        32,
        32,
        3,
    )  # height, width, channels: from the data. Each side at least 4 times 2^stages
    latent_size: int = 100  # dimensions of z (Radford et al.)
    network: str = "dcgan"  # dcgan | residual
    channels: int = 64  # at the full resolution; twice as many at each half of it ...
    max_channels: int = 512  # ... up to this
    norm: str = "batch"  # batch | none: dcgan's generator's
    disc_norm: str = (
        "batch"  # batch | none: dcgan's discriminator's; a penalty on its slope needs none
    )
    spectral: bool = False  # dcgan: every weight of the discriminator over its largest singular value (Miyato et al. 2018)
    blocks: int = 1  # residual: blocks a resolution (R3GAN has 2)
    expansion: int = 2  # residual: a block's inner channels over its outer ones (R3GAN)
    group_size: int = 16  # residual: inner channels a group of the 3x3 convolution (R3GAN: 16)


def stages(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """How often both sides can be halved down to at least 4, and the (height, width) that is left."""
    height, width = shape[:2]
    count = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width, count = height // 2, width // 2, count + 1
    return count, (height, width)


def widths(config: Config) -> list[int]:
    """Channels from the full resolution down: of each stage's larger side, for the residual form of the smallest resolution too."""
    count = stages(config.shape)[0] + (config.network == "residual")
    return [min(config.channels * 2**i, config.max_channels) for i in range(count)]


# --- DCGAN ---------------------------------------------------------------------------------------------------------------

_normal = nn.initializers.normal(0.02)  # Radford et al., section 4: all weights


def _scale(key, shape, dtype):  # of batch norm: around 1, as their published code has it
    return 1.0 + _normal(key, shape, dtype)


class Generator(nn.Module):
    """Latents [batch, latent_size] and labels one-hot [batch, num_labels] -> images [batch, h, w, c] in [-1, 1]."""

    config: Config

    @nn.compact
    def __call__(self, z, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        norm = config.norm == "batch"
        _, (height, width) = stages(config.shape)
        *outer, x_width = widths(config)
        parts = {"use_bias": not norm, "weight_init": _normal, "dtype": dtype}

        def activated(x, name):
            x = layers.BatchNorm(train, scale_init=_scale, name=f"norm_{name}")(x) if norm else x
            return nn.relu(x)

        x = layers.Dense(height * width * x_width, name="smallest", **parts)(
            with_label(z, labels, config, dtype)
        )
        x = activated(x.reshape(-1, height, width, x_width), "smallest")
        for i, features in reversed(list(enumerate(outer))):
            x = activated(
                layers.Conv(features, kernel=4, stride="up", name=f"up_{i}", **parts)(x), f"{i}"
            )
        x = layers.Conv(
            config.shape[2], kernel=4, stride="up", weight_init=_normal, dtype=dtype, name="image"
        )(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Images [batch, h, w, c] and labels one-hot [batch, num_labels] -> logits [batch]."""

    config: Config

    @nn.compact
    def __call__(self, x, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        parts = {"spectral": config.spectral, "weight_init": _normal}
        x = layers.with_planes(x, labels) if config.conditional == "concat" else x
        for i, features in enumerate(widths(config)):
            norm = config.disc_norm == "batch" and i > 0  # not on the images' own layer
            x = layers.Conv(
                features,
                kernel=4,
                stride=2,
                use_bias=not norm,
                dtype=dtype,
                name=f"down_{i}",
                **parts,
            )(x)
            x = layers.BatchNorm(train, scale_init=_scale, name=f"norm_{i}")(x) if norm else x
            x = nn.leaky_relu(x, 0.2)
        return layers.Logit(config.conditional == "projection", name="logit", **parts)(
            x.reshape(x.shape[0], -1), labels
        )


# --- the residual form ---------------------------------------------------------------------------------------------------


def _msra(gain):
    """Normal, of variance gain^2 over the fan-in. He et al. 2015 (arXiv 1502.01852)."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


_GAIN = (
    2 / (1 + 0.2**2)
) ** 0.5  # of leaky ReLU with slope 0.2, which R3GAN folds into the weights
_linear_init = _msra(1.0)


class Block(nn.Module):
    """x + W3 a(W2 a(W1 x)): out to more channels, a grouped 3x3, back; the last weight starts at 0, so that a block starts as the identity."""

    config: Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        config, size = self.config, x.shape[-1]
        inner = size * config.expansion
        groups = max(1, inner // config.group_size)
        # Fix-up (Zhang et al. 2019, arXiv 1901.09321): with m = 3 layers a block, blocks^(-1 / (2 m - 2)).
        depth = config.blocks * (stages(config.shape)[0] + 1)
        parts = {"weight_init": _msra(_GAIN * depth**-0.25), "dtype": self.dtype}
        y = nn.leaky_relu(layers.Conv(inner, kernel=1, name="in", **parts)(x), 0.2)
        y = nn.leaky_relu(
            layers.Conv(inner, kernel=3, groups=groups, name="grouped", **parts)(y), 0.2
        )
        return x + _linear(size, "out", self.dtype, nn.initializers.zeros)(y)


def _linear(features: int, name: str, dtype, weight_init=_linear_init):
    return layers.Conv(
        features, kernel=1, use_bias=False, weight_init=weight_init, dtype=dtype, name=name
    )


class ResidualGenerator(nn.Module):
    """Latents [batch, latent_size] and labels one-hot [batch, num_labels] -> images [batch, h, w, c], not bounded."""

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
    """Images [batch, h, w, c] and labels one-hot [batch, num_labels] -> logits [batch]."""

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
        # A learned weight a place and channel, summed over places: the mirror of the generator's basis.
        basis = self.param("basis", _msra_places, x.shape[1:], jnp.float32)
        x = jnp.sum(
            (x.astype(jnp.float32) * basis[None]).reshape(x.shape[0], -1, x.shape[-1]), axis=1
        )
        return layers.Logit(
            config.conditional == "projection", weight_init=_linear_init, name="logit"
        )(x, labels)


def _msra_places(key, shape, dtype):
    return nn.initializers.normal((shape[0] * shape[1]) ** -0.5)(key, shape, dtype)


# --- the recipe ----------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raise InputError, naming the option, on a Config that means nothing."""
    gan.check_game(config)
    for field, known in [("network", NETWORKS), ("norm", NORMS), ("disc_norm", NORMS)]:
        core.demand(config, getattr(config, field) in known, field, f"one of {', '.join(known)}")
    for field in ("channels", "max_channels", "blocks", "expansion", "group_size"):
        core.demand(config, getattr(config, field) >= 1, field, "at least 1")
    if config.network == "dcgan":
        slopes = config.disc_norm == "none" or not any(
            getattr(config, name) for name in gan.PENALTIES
        )
        advice = "a penalty on the discriminator's slope needs --model.disc-norm none: through batch norm one image's logit is all images'"
        core.demand(config, slopes, "disc_norm", advice)
    else:
        most = 2 * core.MAX_DEPTH // len(widths(config))
        core.demand(
            config,
            config.blocks <= most,
            "blocks",
            f"at most {most} at each of {len(widths(config))} resolutions",
        )
        inner = [size * config.expansion for size in widths(config)]
        fits = all(size % max(1, size // config.group_size) == 0 for size in inner)
        core.demand(config, fits, "group_size", f"must divide the inner channels {inner}")
        core.demand(config, not config.spectral, "spectral", "only with --model.network dcgan")
    if stages(config.shape)[0] == 0:
        height, width = config.shape[:2]
        raise InputError(
            f"--resolution {height} {width}: each side must be at least 8 and even, best a multiple of 16"
        )


def recipe(config: Config) -> GAN:
    """The convolutional GAN of a Config, as pure functions over weights. Raises InputError on a Config that means nothing."""
    check(config)
    networks = (
        (Generator, Discriminator)
        if config.network == "dcgan"
        else (ResidualGenerator, ResidualDiscriminator)
    )
    return gan.two_player(config, *(network(config) for network in networks))
