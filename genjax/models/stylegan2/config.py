"""Settings of StyleGAN2, what they may be, and the sizes that follow from them."""

import dataclasses
import functools

import jax.numpy as jnp

from genjax.errors import ConfigError
from genjax.models import checks
from genjax.nn import augment

CONDITIONAL = ("none", "projection")
GEN_NETWORKS = ("skip", "resnet", "orig")
DISC_NETWORKS = ("resnet", "skip", "orig")
NOISES = ("const", "random", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of StyleGAN2; defaults: config F of Karras et al. 2020."""

    # height, width, channels, from the data; height and width share a power-of-two
    # factor: (a*2^k, b*2^k)
    shape: tuple[int, int, int] = (256, 256, 3)
    num_labels: int = 0  # number of classes, from the data
    # none | projection: the label is embedded for the mapping network and projected on
    # by the discriminator, for p(x | label)
    conditional: str = "none"
    z_dim: int = 512  # dimensions of z
    w_dim: int = 512  # dimensions of w
    # layers of the mapping network (2 for small data sets, Karras et al. 2020b, arXiv
    # 2006.06676)
    mapping_layers: int = 8
    disc_mapping_layers: int = 8  # layers that map the discriminator's embedded labels
    mapping_lr_multiplier: float = 0.01  # learning-rate multiplier of the mapping network
    # skip (sum of RGB images) | resnet | orig (RGB at the end): figure 7
    gen_network: str = "skip"
    disc_network: str = "resnet"  # resnet | skip | orig
    # number of channels at a resolution: this divided by its side, or by 4 * 2^level
    # where the lowest resolution is not 4x4 ...
    channel_base: int = 32768
    channel_max: int = 512  # ... and at most this
    resample_filter: tuple[int, ...] = (1, 3, 3, 1)  # of all up- and downsampling
    # images per group of the minibatch standard deviation, out of the global batch
    mbstd_group_size: int = 4
    # ADA's preset for all of the discriminator's inputs (bgc, see nn.augment.PRESETS);
    # "": none
    augment: str = ""
    # fixed probability of each of its transformations; 0: adapted to the overfitting of
    # D
    ada_p: float = 0.0
    # target of the mean sign of the logits of real images
    ada_target: float = 0.6
    ada_kimg: float = 500.0  # thousand images in which the probability can go from 0 to 1
    # probability of style mixing: from a random crossover layer on, use a second
    # latent's w
    style_mixing_prob: float = 0.9
    # weight gamma of the R1 penalty, gamma/2 |grad D|^2 (Mescheder et al. 2018)
    r1_gamma: float = 10.0
    # interval in steps of the R1 penalty (lazy regularisation); the term is scaled by
    # it
    r1_interval: int = 16
    pl_weight: float = 2.0  # weight of the path length penalty; 0: none
    # interval in steps of the path length penalty; the term is scaled by it
    pl_interval: int = 4
    pl_batch_shrink: int = 2  # the path length penalty uses batch_size / this images
    pl_decay: float = 0.01  # weight of a new mean length in the running mean
    # decay per step of the running mean of w, toward which truncation pulls w
    w_avg_beta: float = 0.995
    learning_rate: float = 2e-3  # of Adam, both networks
    adam_b1: float = 0.0  # first decay of Adam
    adam_b2: float = 0.99  # second decay of Adam
    # half-life in images of the generator's weight average that is sampled from; 0:
    # none
    ema_half_life_images: float = 10_000.0
    ema_ramp: float = 0.05  # the half-life is at most this share of the images trained on
    batch_size: int = 32  # images per step, over all devices
    # number of slices that a batch is cut into, each with its own minibatch standard
    # deviation groups: nearly the same gradient in less memory
    accumulate: int = 1
    # number of the discriminator's layers, from the image on, that are frozen (FreezeD,
    # Mo et al. 2020, arXiv 2002.10964)
    freeze_disc: int = 0
    # float32 | bfloat16 of the highest resolutions; parameters, RGB sums, logits and
    # losses are float32
    dtype: str = "float32"
    num_low_precision_res: int = 4  # number of highest resolutions computed in `dtype`
    conv_clamp: float = 256.0  # with bfloat16: activations are clipped to [-this, this]


def levels(config: Config) -> list[tuple[int, int]]:
    """Return the (height, width) of each level, from the constant to the image.

    Sides are halved as long as both are even and at least 8.
    """
    sizes = [config.shape[:2]]
    while all(side % 2 == 0 and side >= 8 for side in sizes[0]):
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return sizes


def num_channels(config: Config, level: int) -> int:
    """Return the number of channels at a level."""
    return max(1, min(config.channel_base // 2 ** (level + 2), config.channel_max))


def num_styles(config: Config) -> int:
    """Return the number of layers that take a style."""
    return 2 * len(levels(config))


def path_batch(config: Config) -> int:
    """Return the number of images in the path length penalty."""
    return max(config.accumulate, config.batch_size // config.pl_batch_shrink)


def level_dtype(config: Config, level: int) -> jnp.dtype:
    """Return the dtype that a level is computed in."""
    first = max(1, len(levels(config)) - config.num_low_precision_res)
    return jnp.dtype(config.dtype if level >= first else "float32")


def clamp_of(config: Config) -> float | None:
    """Return the bound of activations; None in float32."""
    return config.conv_clamp if config.dtype != "float32" else None


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    checks.numbers(config)
    demand = functools.partial(checks.demand, config)
    checks.one_of(config, "gen_network", GEN_NETWORKS)
    checks.one_of(config, "disc_network", DISC_NETWORKS)
    checks.one_of(config, "dtype", ("float32", "bfloat16"))
    presets = ", ".join(augment.PRESETS)
    demand(config.augment in ("", *augment.PRESETS), "augment", f"one of {presets}")
    checks.at_least(config, 1, "z_dim", "w_dim", "channel_base", "channel_max", "mbstd_group_size")
    checks.at_least(config, 1, "r1_interval", "pl_interval", "pl_batch_shrink", "mapping_layers")
    checks.at_least(config, 1, "batch_size", "accumulate")
    checks.at_least(config, 0, "disc_mapping_layers", "r1_gamma", "pl_weight", "freeze_disc")
    checks.at_least(config, 0, "ema_half_life_images", "num_low_precision_res")
    demand(config.ada_target <= 1, "ada_target", "a mean of signs, at most 1")
    taps = config.resample_filter
    symmetric = taps == taps[::-1] and sum(taps) > 0
    demand(symmetric, "resample_filter", "must be symmetric, such as 1 3 3 1")
    checks.positive(config, "learning_rate", "mapping_lr_multiplier", "ema_ramp", "conv_clamp")
    checks.positive(config, "ada_kimg")
    checks.decay(config, "adam_b1", "adam_b2", "w_avg_beta")
    checks.probability(config, "style_mixing_prob", "pl_decay", "ada_p")
    checks.labels(config, CONDITIONAL)
    batch, slices, paths = config.batch_size, config.accumulate, path_batch(config)
    advice = f"must divide the batch of {batch} and that of the path lengths, {paths}"
    demand(batch % slices == 0 and paths % slices == 0, "accumulate", advice)
    group, images = config.mbstd_group_size, batch // slices
    advice = f"a multiple of `mbstd_group_size` {group}, or less"
    advice = f"divided by `accumulate`: {advice}" if slices > 1 else advice
    demand(images % min(group, images) == 0, "batch_size", advice)
    if min(config.shape[:2]) < 4:
        height, width = config.shape[:2]
        raise ConfigError("shape", f"{height}x{width}", "each side must be at least 4")
