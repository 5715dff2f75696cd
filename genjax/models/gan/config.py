"""Settings of two-player training and of the plain GAN, and what they may be."""

import dataclasses

from genjax import losses
from genjax.models import checks
from genjax.nn import augment

CONDITIONAL = ("none", "concat", "projection")
PENALTIES = ("r1_gamma", "r2_gamma", "gradient_penalty", "dragan")
# losses with a target for label smoothing to move
SMOOTHED = ("minimax", "non_saturating", "least_squares")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoPlayerConfig:
    """Settings of two-player training; a model's Config adds those of its networks."""

    # height, width, channels of the images: training scripts take them from the data
    shape: tuple[int, int, int] = (28, 28, 1)
    num_labels: int = 0  # number of classes, from the data
    # none | concat (label beside the inputs) | projection (Miyato & Koyama 2018), for
    # p(x | label)
    conditional: str = "none"
    z_dim: int = 64  # dimensions of z, standard normal
    # minimax | non_saturating | hinge | least_squares | wasserstein | relativistic
    loss: str = "non_saturating"
    # weight gamma of the R1 penalty on real images, gamma/2 |grad D|^2 (Mescheder et
    # al. 2018)
    r1_gamma: float = 0.0
    r2_gamma: float = 0.0  # weight gamma of the same penalty on generated images
    # weight of (|grad D| - 1)^2 between real and generated images (WGAN-GP: 10)
    gradient_penalty: float = 0.0
    dragan: float = 0.0  # weight of (|grad D| - 1)^2 around real images (DRAGAN: 10)
    # interval in steps of all these penalties (lazy regularisation, Karras et al. 2020:
    # 16); the terms are scaled by it
    penalty_interval: int = 1
    # clip the discriminator's weights to [-clip, clip] (Wasserstein GAN: 0.01); 0: no
    # clipping
    clip: float = 0.0
    # one-sided label smoothing: the real target is 1 - this (Salimans et al. 2016: 0.1)
    label_smoothing: float = 0.0
    # DiffAugment of the discriminator's inputs: color, translation, cutout
    augment: tuple[str, ...] = ()
    # discriminator steps per generator step, each on its own batch
    disc_steps: int = 1
    learning_rate: float = 2e-4  # of the generator's Adam
    # of the discriminator's Adam (two time scales, Heusel et al. 2017); 0: the
    # generator's
    disc_learning_rate: float = 0.0
    adam_b1: float = 0.5  # first decay of Adam (Radford et al. 2016)
    adam_b2: float = 0.999  # second decay of Adam
    decay_steps: int = 0  # steps of a cosine decay of both learning rates to 0; 0: constant
    # half-life in images of the generator's weight average that is sampled from; 0:
    # none
    ema_half_life_images: float = 10_000.0
    # the half-life is at most this share of the images trained on (Karras et al. 2020)
    ema_ramp: float = 0.05
    batch_size: int = 64  # images per discriminator step, over all devices
    # float32 | bfloat16 of the networks; parameters, logits and losses are float32
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TwoPlayerConfig):
    """Settings of the plain GAN."""

    # widths of the generator's layers; the discriminator has them in reverse order
    hidden: tuple[int, ...] = (256, 256)
    output: str = "tanh"  # tanh | linear: last activation of the generator


def check_two_player(config: TwoPlayerConfig) -> None:
    """Raise ConfigError for settings of two-player training that make no sense."""
    checks.numbers(config)
    checks.one_of(config, "loss", losses.ADVERSARIAL)
    checks.one_of(config, "dtype", ("float32", "bfloat16"))
    known = set(config.augment) <= set(augment.DIFF_AUGMENT)
    checks.demand(config, known, "augment", f"out of {', '.join(augment.DIFF_AUGMENT)}")
    checks.at_least(config, 1, "z_dim", "batch_size", "disc_steps", "penalty_interval")
    checks.at_least(config, 0, *PENALTIES, "clip", "disc_learning_rate", "decay_steps")
    checks.at_least(config, 0, "ema_half_life_images")
    checks.positive(config, "learning_rate", "ema_ramp")
    checks.decay(config, "adam_b1", "adam_b2")
    smoothing = 0 <= config.label_smoothing < 0.5
    checks.demand(config, smoothing, "label_smoothing", "must be from 0 to below 0.5")
    smoothed = config.label_smoothing == 0 or config.loss in SMOOTHED
    advice = f"only with `loss` {', '.join(SMOOTHED)}"
    checks.demand(config, smoothed, "label_smoothing", advice)
    checks.labels(config, CONDITIONAL)


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    check_two_player(config)
    checks.at_least(config, 1, "hidden")
    checks.one_of(config, "output", ("tanh", "linear"))
