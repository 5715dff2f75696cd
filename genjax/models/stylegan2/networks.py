"""Networks of StyleGAN2: mapping, synthesis, discriminator."""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.models.stylegan2.config import Config, clamp_of, level_dtype, levels, num_channels
from genjax.nn import layers, ops


class Mapping(nn.Module):
    """Latents [n, z_dim] (None in the discriminator), labels one-hot -> styles [n,
    size].
    """

    config: Config
    size: int
    depth: int

    @nn.compact
    def __call__(self, z, labels):
        inputs = [] if z is None else [ops.second_moment_normalized(z)]
        if labels.shape[-1]:
            embedded = layers.EqualizedDense(self.size, name="embed")(labels)
            inputs.append(ops.second_moment_normalized(embedded))
        x = jnp.concatenate(inputs, axis=-1)
        rate = self.config.mapping_lr_multiplier
        for i in range(self.depth):
            x = layers.leaky(layers.EqualizedDense(self.size, rate=rate, name=f"dense_{i}")(x))
        return x


class StyledConv(nn.Module):
    """x [n, h, w, c] and a style [n, w_dim] -> [n, h', w', features].

    Modulated convolution, noise, bias, leaky ReLU with this gain. `noise` is [n, h',
    w', 1], or True for the layer's constant noise, the same for all images, or False
    for none.
    """

    config: Config
    features: int
    up: bool
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, style, noise):
        scales = layers.EqualizedDense(x.shape[-1], bias_start=1.0, name="style")(style)
        kwargs: dict[str, Any] = {"up": self.up, "taps": self.config.resample_filter}
        conv = layers.ModulatedConv(self.features, dtype=self.dtype, name="conv", **kwargs)
        x = conv(x, scales)
        strength = self.param("noise_strength", nn.initializers.zeros, (), jnp.float32)
        shape = (1, *x.shape[1:3], 1)
        draw = lambda: jax.random.normal(self.make_rng("params"), shape)
        const = self.variable("noise", "const", draw)
        if noise is not False:
            x += (strength * (const.value if noise is True else noise)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x = x + bias.astype(x.dtype).reshape(1, 1, 1, -1)
        return layers.leaky(x, self.gain, clamp_of(self.config))


class ToRGB(nn.Module):
    """x [n, h, w, c], a style [n, w_dim] -> an image [n, h, w, channels], float32."""

    config: Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, style):
        channels, clamp = self.config.shape[2], clamp_of(self.config)
        scales = layers.EqualizedDense(x.shape[-1], bias_start=1.0, name="style")(style)
        kwargs: dict[str, Any] = {"kernel": 1, "demodulate": False, "dtype": self.dtype}
        x = layers.ModulatedConv(channels, name="conv", **kwargs)(x, scales)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x = x + bias.astype(x.dtype).reshape(1, 1, 1, -1)
        return (x if clamp is None else jnp.clip(x, -clamp, clamp)).astype(jnp.float32)


class Synthesis(nn.Module):
    """Styles [n, num_styles, w_dim] -> images [n, h, w, channels], float32. Figures 2c
    and 7.

    `noise`: const | random (rng "noise") | none. The RGB image of a level uses the
    style of the first convolution of the next level.
    """

    config: Config

    @nn.compact
    def __call__(self, styles, noise="const"):
        config, sizes = self.config, levels(self.config)
        residual = config.gen_network == "resnet"
        shape = (1, *sizes[0], num_channels(config, 0))
        start = self.param("const", nn.initializers.normal(1.0), shape, jnp.float32)
        x = jnp.broadcast_to(start, (len(styles), *start.shape[1:])).astype(level_dtype(config, 0))
        # sizes of the convolutions, each of which has noise
        shapes = [sizes[0], *(size for size in sizes[1:] for _ in range(2))]
        noises = [noise == "const"] * len(shapes)
        if noise == "random":  # one draw for all: each would be compiled for seconds
            ends = list(itertools.accumulate(map(math.prod, shapes)))
            drawn = jax.random.normal(self.make_rng("noise"), (len(styles), ends[-1]))
            slices = zip(jnp.split(drawn, ends[:-1], axis=1), shapes, strict=True)
            noises = [values.reshape(-1, *shape, 1) for values, shape in slices]
        image, index = None, 0
        for level in range(len(sizes)):
            size, dtype, before = num_channels(config, level), level_dtype(config, level), x
            # The two branches of a residual block add up to the variance of one.
            gain = 1.0 if residual and level else 2**0.5
            if level:
                up = StyledConv(config, size, True, 2**0.5, dtype, name=f"up_{level}")
                x = up(x, styles[:, index], noises[index])
                index += 1
            conv = StyledConv(config, size, False, gain, dtype, name=f"conv_{level}")
            x = conv(x, styles[:, index], noises[index])
            index += 1
            if residual and level:
                kwargs: dict[str, Any] = {"kernel": 1, "use_bias": False, "dtype": dtype}
                skip = layers.EqualizedConv(size, name=f"skip_{level}", **kwargs)(before)
                x += ops.upsample(skip, config.resample_filter) * jnp.asarray(0.5**0.5, dtype)
            if config.gen_network == "skip" or level == len(sizes) - 1:
                rgb = ToRGB(config, dtype, name=f"rgb_{level}")(x, styles[:, index])
                image = rgb if image is None else ops.upsample(image, config.resample_filter) + rgb
        return image


class Discriminator(nn.Module):
    """Images [n, h, w, channels] and labels one-hot -> logits [n], float32. Figure 7.

    The last layers are those of Karras et al. 2018 (arXiv 1710.10196), table 2.
    `group`: images per group of the minibatch standard deviation, by default the
    Config's.
    """

    config: Config

    @nn.compact
    def __call__(self, images, labels, group: int | None = None):
        config, sizes = self.config, levels(self.config)
        clamp, x, image = clamp_of(config), None, images

        def conv(x, size, name, gain=2**0.5, dtype=jnp.float32, **kwargs):
            kwargs = {"taps": config.resample_filter, "dtype": dtype, "name": name, **kwargs}
            return layers.leaky(layers.EqualizedConv(size, **kwargs)(x), gain, clamp)

        def enter(x, level, dtype=jnp.float32):
            """Return the input of a level: the image enters the first, with skips every
            one.
            """
            if x is not None and config.disc_network != "skip":
                return x.astype(dtype)
            rgb = conv(image, num_channels(config, level), f"rgb_{level}", dtype=dtype, kernel=1)
            return rgb if x is None else x.astype(dtype) + rgb

        for level in reversed(range(1, len(sizes))):
            size, below = num_channels(config, level), num_channels(config, level - 1)
            dtype = level_dtype(config, level)
            x = enter(x, level, dtype)
            if config.disc_network == "skip":
                image = ops.downsample(image, config.resample_filter)
            before, gain = x, 1.0 if config.disc_network == "resnet" else 2**0.5
            x = conv(x, size, f"conv_{level}", dtype=dtype)
            x = conv(x, below, f"down_{level}", gain, dtype, down=True)
            if config.disc_network == "resnet":
                kwargs: dict[str, Any] = {"kernel": 1, "use_bias": False, "dtype": dtype}
                kwargs |= {"down": True, "taps": config.resample_filter}
                skip = layers.EqualizedConv(below, name=f"skip_{level}", **kwargs)
                x += skip(before) * jnp.asarray(0.5**0.5, dtype)
        size = num_channels(config, 0)
        x = enter(x, 0)
        x = jnp.concatenate([x, ops.minibatch_stddev(x, group or config.mbstd_group_size)], axis=-1)
        x = conv(x, size, "last_conv").reshape(len(x), -1)
        x = layers.leaky(layers.EqualizedDense(size, name="last_dense")(x))
        if not labels.shape[-1]:
            return layers.EqualizedDense(1, name="logits")(x)[:, 0]
        embedded = Mapping(config, size, config.disc_mapping_layers, name="mapping")(None, labels)
        return jnp.sum(layers.EqualizedDense(size, name="logits")(x) * embedded, axis=1) / size**0.5


def disc_layers(config: Config) -> list[str]:
    """Return the names of the discriminator's layers, from the image to the last
    convolution.
    """
    names, top, network = [], len(levels(config)) - 1, config.disc_network
    for level in range(top, -1, -1):
        kinds = ["rgb"] if level == top or network == "skip" else []
        kinds += ["conv", "down"] if level else []
        kinds += ["skip"] if level and network == "resnet" else []
        names += [f"{kind}_{level}" for kind in kinds]
    return [*names, "last_conv"]
