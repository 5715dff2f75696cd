"""Generators and discriminator of CycleGAN."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.core import Array
from genjax.models.cyclegan.config import COPY, Config
from genjax.nn import layers

_normal = nn.initializers.normal(0.02)


def _plain(x: Array, features: int, config: Config, name: str, kernel: int = 3, **kwargs) -> Array:
    return layers.Conv(
        features,
        kernel=kernel,
        weight_init=_normal,
        dtype=jnp.dtype(config.dtype),
        name=name,
        **kwargs,
    )(x)


def _normed(x: Array, features: int, config: Config, name: str, kernel: int = 3, **kwargs) -> Array:
    """A convolution, then instance normalisation.

    The norm cancels the bias of the convolution, kept because published weights have
    one.
    """
    return layers.InstanceNorm(name=f"{name}_norm")(
        _plain(x, features, config, name, kernel, fixed_bias=True, **kwargs)
    )


def _reflected(x: Array, pad: int) -> Array:
    return jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode="reflect")


class Block(nn.Module):
    """x [n, h, w, c] -> x plus two convolutions of it.

    `nn.scan` needs the argument _.
    """

    config: Config

    @nn.compact
    def __call__(self, x, _):
        y = nn.relu(_normed(_reflected(x, 1), x.shape[-1], self.config, "first", pad=0))
        return x + _normed(_reflected(y, 1), x.shape[-1], self.config, "second", pad=0), None


class ResNet(nn.Module):
    """Images in [-1, 1], sides multiples of 4 and at least 8 -> the same shape.

    Johnson et al. 2016 (arXiv 1603.08155), with instance normalisation.
    """

    config: Config

    @nn.compact
    def __call__(self, x):
        config, size = self.config, self.config.channels
        out = x.shape[-1]
        x = nn.relu(_normed(_reflected(x, 3), size, config, "first", 7, pad=0))
        for i in range(2):
            x = nn.relu(_normed(x, size * 2 ** (i + 1), config, f"down_{i}", stride=2))
        if config.blocks:  # one loop, compiled once; the weights are stacked [blocks, ...]
            stack = nn.scan(
                Block,
                variable_axes={"params": 0, "instance": 0},
                split_rngs={"params": True},
                length=config.blocks,
            )
            x, _ = stack(config, name="blocks")(x, None)
        for i in reversed(range(2)):
            features = size * 2**i
            if config.upsample == "resize":
                x = x.repeat(2, axis=1).repeat(2, axis=2)
                x = nn.relu(_normed(_reflected(x, 1), features, config, f"up_{i}", pad=0))
            else:
                x = nn.relu(_normed(x, features, config, f"up_{i}", stride="up"))
        return jnp.tanh(_plain(_reflected(x, 3), out, config, "last", 7, pad=0).astype(jnp.float32))


class UNet(nn.Module):
    """Images [n, h, w, c] in [-1, 1], sides multiples of 2^depth -> the same shape.

    Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.1.
    """

    config: Config

    @nn.compact
    def __call__(self, x):
        config, out = self.config, x.shape[-1]
        sizes = [min(config.channels * 2**i, 8 * config.channels) for i in range(config.depth)]
        skips = []
        for i, features in enumerate(sizes):
            layer = _normed if 0 < i < config.depth - 1 else _plain
            x = layer(nn.leaky_relu(x, 0.2) if i else x, features, config, f"down_{i}", 4, stride=2)
            skips.append(x)
        for i, features in reversed(list(enumerate([out, *sizes[:-1]]))):
            x = x if i == config.depth - 1 else jnp.concatenate([skips[i], x], axis=-1)
            x = (_normed if i else _plain)(nn.relu(x), features, config, f"up_{i}", 4, stride="up")
        return jnp.tanh(x.astype(jnp.float32))


class Affine(nn.Module):
    """Images [n, h, w, c] in [-1, 1], any sides -> gain * x + offset, clipped.

    Gain and offset are smooth over the image, as light, haze and colour casts are: the
    network can neither draw nor hide anything. It costs the same at any size: both come
    from a copy of 64x64 pixels, halved to a grid. Gharbi et al. 2017 (arXiv
    1707.02880), without the grid's third axis.
    """

    config: Config

    @nn.compact
    def __call__(self, x):
        config, (n, height, width, channels) = self.config, x.shape
        conv = functools.partial(layers.Conv, dtype=jnp.dtype(config.dtype))
        y = jax.image.resize(x, (n, COPY, COPY, channels), "linear")
        y = nn.relu(conv(config.channels, name="first")(y))
        for i in range(config.depth):
            y = nn.relu(conv(config.channels * min(2 ** (i + 1), 4), stride=2, name=f"down_{i}")(y))
        for i in range(config.blocks):
            inner = nn.relu(conv(y.shape[-1], name=f"block_{i}_first")(y))
            y = y + conv(y.shape[-1], name=f"block_{i}_second", weight_init=_normal)(inner)
        y = conv(2 * channels, name="last", weight_init=_normal)(nn.relu(y)).astype(jnp.float32)
        y = jax.image.resize(y, (n, height, width, 2 * channels), "linear")
        log_gain, offset = jnp.split(y, 2, axis=-1)
        return (
            2 * jnp.clip((x + 1) / 2 * jnp.exp(log_gain) + offset, 0, 1) - 1
        )  # of values in 0..1, on which light multiplies


class Discriminator(nn.Module):
    """Images [n, h, w, c] -> logits of overlapping patches [n, h', w'], float32.

    "PatchGAN" of Isola et al. 2017.
    """

    config: Config

    @nn.compact
    def __call__(self, x):
        config = self.config
        for i in range(config.disc_layers + 1):
            kwargs: dict[str, Any] = {"stride": 2} if i < config.disc_layers else {"pad": 1}
            layer = _normed if i and config.disc_norm == "instance" else _plain
            x = nn.leaky_relu(
                layer(x, config.disc_channels * min(2**i, 8), config, f"conv_{i}", 4, **kwargs), 0.2
            )
        return layers.Conv(1, kernel=4, pad=1, weight_init=_normal, name="logits")(x)[
            ..., 0
        ]  # float32 whatever x is


GENERATORS = {"resnet": ResNet, "unet": UNet, "affine": Affine}
