"""Two-player training, and the plain GAN of Goodfellow et al. 2014 (arXiv 1406.2661).

`two_player(config, generator, discriminator)` assembles the recipe of every model that
is trained so; a model brings its networks. The plain GAN's are two MLPs.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn

from genjax import core
from genjax.core import Sampler
from genjax.models.gan import step, verbs
from genjax.models.gan.config import Config, TwoPlayerConfig, check, check_two_player
from genjax.models.gan.networks import Discriminator, Generator
from genjax.models.gan.step import diversity
from genjax.models.labels import num_classes
from genjax.models.protocols import Interpolate, OfImages, OfLatents, Sample, bind

__all__ = [
    "GAN",
    "Config",
    "TwoPlayerConfig",
    "check",
    "check_two_player",
    "diversity",
    "recipe",
    "two_player",
]


class GAN(NamedTuple):
    """What `recipe(config)` returns: pure functions over weights.

    Weights are `core.weights(state)` or those of `genjax.load`. Images are float32 [n,
    h, w, c] in [-1, 1], `labels` int32 [n]; without labels, `sample` of a conditional
    model takes each class in turn. `help(model.sample)` describes a function.
    """

    config: TwoPlayerConfig
    init: core.Init
    step: core.Step
    plan: core.PlanOf
    preview: core.Preview
    lazy: Mapping[str, core.Step]
    sampler: Sampler
    sample: Sample
    generate: OfLatents
    discriminate: OfImages
    interpolate: Interpolate


def recipe(config: Config) -> GAN:
    """Return the plain GAN of a Config.

    Raises ConfigError for a Config that makes no sense.
    """
    check(config)
    return two_player(config, Generator(config), Discriminator(config))


def two_player(config: TwoPlayerConfig, generator: nn.Module, discriminator: nn.Module) -> GAN:
    """Return the recipe of two networks.

    The generator maps (latents, labels one-hot, train) to images, the discriminator
    (images, labels one-hot, train) to logits [n]. In training their mutable collections
    are `batch_stats`, the statistics of this batch in a normalisation, which are
    averaged, and `spectral`, vectors of the power iteration, which are replaced.

    Raises ConfigError for a Config that makes no sense.
    """
    check_two_player(config)
    players = step.Players(config, generator, discriminator)
    bound = functools.partial(bind, first=players)
    draw = bound(verbs.draw)
    return GAN(
        config=config,
        init=bound(step.init),
        step=bound(step.step),
        plan=bound(step.plan),
        preview=bound(verbs.preview),
        lazy={},
        sampler=Sampler(config.shape, config.z_dim, num_classes(config), draw, True),
        sample=bound(verbs.sample),
        generate=bound(verbs.generate),
        discriminate=bound(verbs.discriminate),
        interpolate=bound(verbs.interpolate),
    )
