"""The variational autoencoder: Kingma & Welling 2014 (arXiv 1312.6114).

With `importance_samples` above 1 it is trained on the importance-weighted bound of
Burda et al. 2016 (arXiv 1509.00519)."""

import functools
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from genjax import core
from genjax.core import Array, Sampler, Weights
from genjax.models.labels import num_classes
from genjax.models.protocols import Interpolate, Number, OfImages, OfLatents, bind
from genjax.models.vae import step, verbs
from genjax.models.vae.config import Config, check

__all__ = ["VAE", "Config", "check", "recipe"]


class Sample(Protocol):
    """A key and a number -> images; `temperature`: standard deviation of z."""

    def __call__(
        self,
        weights: Weights,
        key: Array,
        n: int,
        labels: Array | None = None,
        temperature: Number = 1.0,
    ) -> Array: ...


class Encode(Protocol):
    """Images -> mean and log variance of q(z | x), [n, z_dim] each."""

    def __call__(
        self, weights: Weights, images: Array, labels: Array | None = None
    ) -> tuple[Array, Array]: ...


class Elbo(Protocol):
    """A key and images -> [n] nats."""

    def __call__(
        self,
        weights: Weights,
        key: Array,
        images: Array,
        labels: Array | None = None,
        analytic_kl: bool = True,
    ) -> Array: ...


class LogLikelihood(Protocol):
    """A key, images and a number k of importance samples -> [n] nats."""

    def __call__(
        self,
        weights: Weights,
        key: Array,
        images: Array,
        k: int,
        labels: Array | None = None,
        chunk: int = 50,
    ) -> Array: ...


class BitsPerDim(Protocol):
    """A key, images and a number k of importance samples -> [n] bits per pixel and
    channel.
    """

    def __call__(
        self, weights: Weights, key: Array, images: Array, k: int = 1, labels: Array | None = None
    ) -> Array: ...


class VAE(NamedTuple):
    """What `recipe(config)` returns: pure functions over weights.

    Weights are `core.weights(state)` or those of `genjax.load`. Images are float32 [n,
    h, w, c] in [-1, 1], `labels` int32 [n]; without labels, `sample` of a conditional
    model takes each class in turn. `help(model.sample)` describes a function."""

    config: Config
    init: core.Init
    step: core.Step
    plan: core.PlanOf
    preview: core.Preview
    lazy: Mapping[str, core.Step]
    sampler: Sampler
    sample: Sample
    encode: Encode
    decode: OfLatents
    reconstruct: OfImages
    interpolate: Interpolate
    elbo: Elbo
    iw_log_likelihood: LogLikelihood
    bits_per_dim: BitsPerDim


def recipe(config: Config) -> VAE:
    """Return the VAE of a Config.

    Raises ConfigError for a Config that makes no sense.
    """
    check(config)
    bound = functools.partial(bind, first=config)
    return VAE(
        config=config,
        init=bound(step.init),
        step=bound(step.step),
        plan=bound(step.plan),
        preview=bound(verbs.preview),
        lazy={},
        sampler=Sampler(config.shape, config.z_dim, num_classes(config), bound(verbs.draw)),
        sample=bound(verbs.sample),
        encode=bound(verbs.encode),
        decode=bound(verbs.decode),
        reconstruct=bound(verbs.reconstruct),
        interpolate=bound(verbs.interpolate),
        elbo=bound(verbs.elbo),
        iw_log_likelihood=bound(verbs.iw_log_likelihood),
        bits_per_dim=bound(verbs.bits_per_dim),
    )
