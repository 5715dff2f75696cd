"""CycleGAN: translation between two unpaired sets of images.

Zhu et al. 2017 (arXiv 1703.10593): two generators, a -> b and b -> a, each against a
discriminator of patches of its target side; an image translated there and back must
come back.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from genjax import core
from genjax.core import Array, PyTree, Sampler, Weights
from genjax.models.cyclegan import step, verbs
from genjax.models.cyclegan.config import Config, check, multiple
from genjax.models.protocols import bind

__all__ = ["Config", "CycleGAN", "check", "multiple", "recipe"]


class Translate(Protocol):
    """Images -> their translation."""

    def __call__(
        self,
        weights: Weights,
        images: Array,
        direction: str = "a2b",
        statistics: PyTree | None = None,
    ) -> Array: ...


class Statistics(Protocol):
    """An image [1, h, w, c] -> statistics for `translate` of its tiles."""

    def __call__(self, weights: Weights, image: Array, direction: str = "a2b") -> PyTree: ...


class Cycle(Protocol):
    """Images -> images, translated there and back."""

    def __call__(self, weights: Weights, images: Array, direction: str = "a2b") -> Array: ...


class Discriminate(Protocol):
    """Images -> logits of patches [n, h', w']."""

    def __call__(self, weights: Weights, images: Array, side: str = "b") -> Array: ...


class CycleGAN(NamedTuple):
    """What `recipe(config)` returns: pure functions over weights.

    Weights are `core.weights(state)` or those of `genjax.load`. Images are float32
    [n, h, w, c] in [-1, 1], of any height and width; `direction` is "a2b" or "b2a".
    `help(model.translate)` describes a function.
    """

    config: Config
    init: core.Init
    step: core.Step
    plan: core.PlanOf
    preview: core.Preview
    lazy: Mapping[str, core.Step]
    sampler: Sampler | None  # None: it draws no images of its own
    translate: Translate
    statistics: Statistics | None  # None for an affine network, which needs the full image
    cycle: Cycle
    discriminate: Discriminate


def recipe(config: Config) -> CycleGAN:
    """Return the CycleGAN of a Config.

    Raises ConfigError for a Config that makes no sense.
    """
    check(config)
    bound = functools.partial(bind, first=config)
    return CycleGAN(
        config=config,
        init=bound(step.init),
        step=bound(step.step),
        plan=bound(step.plan),
        preview=bound(verbs.preview),
        lazy={},
        sampler=None,
        translate=bound(verbs.translate),
        statistics=None if config.network == "affine" else bound(verbs.statistics),
        cycle=bound(verbs.cycle),
        discriminate=bound(verbs.discriminate),
    )
