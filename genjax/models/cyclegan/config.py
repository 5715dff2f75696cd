"""Settings of CycleGAN, and what they may be."""

import dataclasses
import functools

from genjax import losses
from genjax.errors import ConfigError
from genjax.models import checks

NETWORKS = ("resnet", "unet", "affine")
UPSAMPLES = ("transposed", "resize")
NORMS = ("instance", "none")
DIRECTIONS = ("a2b", "b2a")
COPY = 64  # side of the copy that an affine network works on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of CycleGAN; the defaults are those of Zhu et al. 2017 at 256x256."""

    # height, width, channels of the training images: training scripts take them from
    # the data
    shape: tuple[int, int, int] = (256, 256, 3)
    # generators: resnet | unet | affine (changes only light and colour)
    network: str = "resnet"
    channels: int = 64  # of the generators at the full resolution (Zhu et al., appendix 7.2)
    blocks: int = 9  # resnet: residual blocks (9 from 256x256 on, 6 below)
    # resnet: transposed | resize (nearest, then a convolution: no checkerboards, Odena
    # et al. 2016)
    upsample: str = "transposed"
    # number of halvings; unet: of the image, affine: of a copy of 64x64, so that 4
    # leaves 4x4
    depth: int = 7
    disc_channels: int = 64  # of the discriminators after their first layer
    disc_layers: int = 3  # stride-2 layers: 3 give patches of 70x70
    # instance | none: with a norm, a discriminator hardly notices brightness and
    # contrast
    disc_norm: str = "instance"
    # least_squares | non_saturating (logistic) | wasserstein (with gradient_penalty) |
    # hinge | minimax
    loss: str = "least_squares"
    # weight of (|grad D| - 1)^2 between real and generated images (WGAN-GP: 10)
    gradient_penalty: float = 0.0
    cycle_weight: float = 10.0  # lambda, weight of |cycled image - image|
    # factor of that weight on images of side a: below 1 where b cannot hold all that is
    # in them (haze, noise)
    cycle_share_a: float = 1.0
    # standard deviation of noise on a translation before it is translated back, against
    # hidden messages in it
    cycle_noise: float = 0.0
    # weight of |translation of an image of the target side - image|, times
    # cycle_weight; 0: no such passes
    identity_weight: float = 0.5
    ssim_weight: float = 0.0  # weight of 1 - SSIM(cycled image, image), times cycle_weight
    pool_size: int = 50  # generated images per side that are retained for the discriminators
    learning_rate: float = 2e-4  # of Adam
    adam_b1: float = 0.5  # first decay of Adam
    adam_b2: float = 0.999  # second decay of Adam
    constant_steps: int = 0  # steps at the full learning rate, before decay_steps
    # steps of a linear decay of the learning rate to 0; 0: constant (Zhu et al.: 100
    # epochs each)
    decay_steps: int = 0
    # half-life in images of the generators' weight average that translates; 0: none
    ema_half_life_images: float = 1000.0
    ema_ramp: float = 0.05  # the half-life is at most this share of the images trained on
    batch_size: int = 1  # images per step of each side, over all devices
    # float32 | bfloat16 of the networks; parameters, norms, logits and losses are
    # float32
    dtype: str = "float32"


def multiple(config: Config) -> int:
    """Return what both sides of an image must be a multiple of, for the generators."""
    return {"resnet": 4, "unet": 2**config.depth, "affine": 1}[config.network]


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    checks.numbers(config)
    demand = functools.partial(checks.demand, config)
    known = [loss for loss, functions in losses.ADVERSARIAL.items() if not functions.relative]
    checks.one_of(config, "network", NETWORKS)
    checks.one_of(config, "upsample", UPSAMPLES)
    checks.one_of(config, "disc_norm", NORMS)
    checks.one_of(config, "loss", known)
    checks.one_of(config, "dtype", ("float32", "bfloat16"))
    checks.at_least(config, 1, "channels", "disc_channels", "disc_layers", "batch_size")
    checks.at_least(config, 2, "depth")
    fits = config.network != "affine" or 2**config.depth <= COPY
    demand(fits, "depth", f"an affine network halves {COPY} pixels: at most 6")
    checks.at_least(config, 0, "blocks", "gradient_penalty", "cycle_weight", "cycle_share_a")
    checks.at_least(config, 0, "cycle_noise", "identity_weight", "ssim_weight", "pool_size")
    checks.at_least(config, 0, "constant_steps", "decay_steps", "ema_half_life_images")
    checks.positive(config, "learning_rate", "ema_ramp")
    checks.decay(config, "adam_b1", "adam_b2")
    (height, width, _), unit = config.shape, multiple(config)
    size = f"{height}x{width}"
    if height % unit or width % unit or min(height, width) < 8:
        advice = f"each side must be at least 8 and a multiple of {unit}"
        raise ConfigError("shape", size, advice)
    smallest = min(height, width) // 2**config.disc_layers
    demand(smallest >= 3, "disc_layers", f"too many for images of {size}: no patch is left")
    if config.ssim_weight and min(height, width) < losses.SSIM_WINDOW:
        advice = f"`ssim_weight` needs sides of at least {losses.SSIM_WINDOW}"
        raise ConfigError("shape", size, advice)
