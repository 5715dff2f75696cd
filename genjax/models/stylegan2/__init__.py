"""StyleGAN2. Karras et al. 2020 (arXiv 1912.04958).

A mapping network turns latents z into styles w; the synthesis network draws an image
from a constant, each of its convolutions modulated by a style. Two penalties are lazy:
R1 of the discriminator, and the path lengths of the synthesis network.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from genjax import core
from genjax.core import Array, Sampler, Weights
from genjax.models.labels import num_classes
from genjax.models.protocols import Number, OfImages, bind
from genjax.models.stylegan2 import step, verbs
from genjax.models.stylegan2.config import Config, check, levels, num_styles

__all__ = ["Config", "StyleGAN2", "check", "levels", "num_styles", "recipe"]


class Sample(Protocol):
    """A key and a number -> images."""

    def __call__(
        self,
        weights: Weights,
        key: Array,
        n: int,
        labels: Array | None = None,
        truncation: Number = 1.0,
        truncation_cutoff: int | None = None,
        noise: str = "const",
    ) -> Array: ...


class MapLatents(Protocol):
    """Latents -> styles."""

    def __call__(
        self,
        weights: Weights,
        latents: Array,
        labels: Array | None = None,
        truncation: Number = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Array: ...


class Synthesize(Protocol):
    """Styles -> images, not clipped."""

    def __call__(
        self, weights: Weights, styles: Array, noise: str = "const", key: Array | None = None
    ) -> Array: ...


class StyleMix(Protocol):
    """Styles of rows and of columns -> a table of images."""

    def __call__(
        self, weights: Weights, rows: Array, columns: Array, layers: slice | Array
    ) -> Array: ...


class Interpolate(Protocol):
    """Two batches of latents and a number -> images between them."""

    def __call__(
        self,
        weights: Weights,
        first: Array,
        second: Array,
        count: int,
        labels: Array | None = None,
        space: str = "z",
        truncation: Number = 1.0,
    ) -> Array: ...


class StyleGAN2(NamedTuple):
    """What `recipe(config)` returns: pure functions over weights.

    Weights are `core.weights(state)` or those of `genjax.load`. Images are float32 [n,
    h, w, c], `labels` int32 [n]; without labels, `sample` of a conditional model takes
    each class in turn. Styles are [n, num_styles, w_dim], one for each layer.
    `help(model.sample)` describes a function.
    """

    config: Config
    init: core.Init
    step: core.Step
    plan: core.PlanOf
    preview: core.Preview
    lazy: Mapping[str, core.Step]
    sampler: Sampler
    sample: Sample
    mapping: MapLatents
    synthesis: Synthesize
    style_mix: StyleMix
    interpolate: Interpolate
    discriminate: OfImages


def recipe(config: Config) -> StyleGAN2:
    """Return the StyleGAN2 of a Config.

    Raises ConfigError for a Config that makes no sense.
    """
    check(config)
    bound = functools.partial(bind, first=config)
    sampler = Sampler(
        shape=config.shape,
        z_dim=config.z_dim,
        num_labels=num_classes(config),
        draw=bound(verbs.draw),
        has_truncation=True,
        num_styles=num_styles(config),
        map_latents=bound(verbs.mapping),
        draw_styles=bound(verbs.synthesis),
    )
    return StyleGAN2(
        config=config,
        init=bound(step.init),
        step=bound(step.step),
        plan=bound(step.plan),
        preview=bound(verbs.preview),
        lazy={name: bound(term) for name, term in step.LAZY.items()},
        sampler=sampler,
        sample=bound(verbs.sample),
        mapping=bound(verbs.mapping),
        synthesis=bound(verbs.synthesis),
        style_mix=bound(verbs.style_mix),
        interpolate=bound(verbs.interpolate),
        discriminate=bound(verbs.discriminate),
    )
