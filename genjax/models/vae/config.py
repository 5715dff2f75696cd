"""Settings of the VAE, and what they may be."""

import dataclasses
import functools

from genjax.models import checks
from genjax.nn import layers

CONDITIONAL = ("none", "concat")
LIKELIHOODS = ("bernoulli", "gaussian", "logistic")
BINARIZE = ("none", "static", "dynamic", "threshold")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a VAE; the defaults are those of Burda et al. 2016 unless said
    otherwise.
    """

    # height, width, channels of the images: training scripts take them from the data
    shape: tuple[int, int, int] = (28, 28, 1)
    num_labels: int = 0  # number of classes, from the data
    # none | concat: encoder and decoder are given the label, for p(x | label)
    conditional: str = "none"
    network: str = "mlp"  # mlp | conv
    # mlp: widths of the encoder's layers; the decoder has them in reverse order
    hidden: tuple[int, ...] = (200, 200)
    # mlp: relu | tanh | elu | gelu | silu | leaky_relu. Burda et al. use tanh; elu
    # reaches a better likelihood sooner
    activation: str = "elu"
    # conv: one stride-2 4x4 convolution each, SiLU between them
    channels: tuple[int, ...] = (32, 64, 128)
    z_dim: int = 50  # dimensions of z
    # bernoulli | gaussian | logistic (discretized over 256 levels, scale learned)
    likelihood: str = "bernoulli"
    # scale of p(x | z) in the [-1, 1] range: the standard deviation of a gaussian, s of
    # a logistic (standard deviation / 1.81); where it is learned, its initial value
    obs_scale: float = 1.0
    learn_scale: bool = False  # gaussian: learn one scale per channel (sigma-VAE)
    # none | static | dynamic | threshold: how the Bernoulli's pixels become 0 or 1
    binarize: str = "none"
    # gaussian: add uniform noise of one 8-bit step, so that the density bounds a
    # likelihood
    dequantize: bool = False
    beta: float = 1.0  # weight of the KL term (Higgins et al. 2017)
    # steps over which the weight of the KL term rises from 0 (Sonderby et al. 2016)
    kl_warmup_steps: int = 0
    # nats per latent dimension below which the KL term is free (Kingma et al. 2016)
    free_bits: float = 0.0
    # target C of the KL term in nats per image, as |KL - C| (Burgess et al. 2018); 0:
    # none
    capacity: float = 0.0
    capacity_steps: int = 100_000  # steps over which C rises from 0 to `capacity`
    importance_samples: int = 1  # 1: the ELBO; more: the importance-weighted bound
    batch_size: int = 128  # images per step, over all devices
    # number of slices that a batch is cut into: the same gradient in less memory
    accumulate: int = 1
    # recompute the decoder in the backward pass (jax.checkpoint): less memory, more
    # time
    remat: bool = False
    learning_rate: float = 1e-3  # of Adam; the first stage of Burda et al.
    adam_eps: float = 1e-4  # epsilon of Adam (section 5)
    decay_steps: int = 0  # steps of a cosine decay of the learning rate to 0; 0: constant
    # half-life in images of the weight average that is sampled from; 0: no average
    ema_half_life_images: float = 0.0
    dtype: str = "float32"  # float32 | bfloat16 of the networks; parameters and losses: float32


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    checks.numbers(config)
    demand = functools.partial(checks.demand, config)
    checks.one_of(config, "network", ("mlp", "conv"))
    checks.one_of(config, "likelihood", LIKELIHOODS)
    checks.one_of(config, "binarize", BINARIZE)
    checks.one_of(config, "dtype", ("float32", "bfloat16"))
    checks.one_of(config, "activation", layers.ACTIVATIONS)
    checks.at_least(config, 1, "z_dim", "importance_samples", "batch_size", "accumulate")
    checks.at_least(config, 0, "beta", "free_bits", "capacity", "kl_warmup_steps", "decay_steps")
    checks.at_least(config, 0, "ema_half_life_images")
    checks.at_least(config, 1, "hidden", "channels")
    checks.positive(config, "obs_scale", "learning_rate")
    slices = f"must divide the batch of {config.batch_size}"
    demand(config.batch_size % config.accumulate == 0, "accumulate", slices)
    checks.labels(config, CONDITIONAL)
    bernoulli, gaussian = config.likelihood == "bernoulli", config.likelihood == "gaussian"
    demand(config.binarize == "none" or bernoulli, "binarize", "only with `likelihood` bernoulli")
    demand(not config.dequantize or gaussian, "dequantize", "only with `likelihood` gaussian")
    demand(not config.learn_scale or gaussian, "learn_scale", "only with `likelihood` gaussian")
    plain = config.beta == 1 and not (config.kl_warmup_steps or config.free_bits or config.capacity)
    advice = "no KL term to weight: leave out `beta`, `kl_warmup_steps`, `free_bits`, `capacity`"
    demand(config.importance_samples == 1 or plain, "importance_samples", advice)
    demand(not (config.free_bits and config.capacity), "capacity", "or `free_bits`, not both")
    advice = "not with `free_bits`, whose floor applies to the mean over the full batch"
    demand(not config.free_bits or config.accumulate == 1, "accumulate", advice)
