"""A linear generator fitted to the mean of the data."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genjax import core
from genjax.core import Array, Batch, Metrics, Plan, Sampler, State, Weights
from genjax.models import checks
from genjax.models.protocols import OfLatents, Sample, bind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the skeleton. Each field has a comment: meaning, unit, source."""

    # height, width, channels of the images: training scripts take them from the data
    shape: tuple[int, int, int] = (8, 8, 1)
    num_labels: int = 0  # number of classes, from the data
    conditional: str = "none"  # none: the skeleton knows no labels
    z_dim: int = 4  # dimensions of z, standard normal
    learning_rate: float = 1e-2  # of Adam
    batch_size: int = 8  # images per step, over all devices
    dtype: str = "float32"  # float32


class Skeleton(NamedTuple):
    """What `recipe(config)` returns: pure functions over weights."""

    config: Config
    init: core.Init
    step: core.Step
    plan: core.PlanOf
    preview: core.Preview
    lazy: Mapping[str, core.Step]
    sampler: Sampler
    sample: Sample
    generate: OfLatents


def check(config: Config) -> None:
    """Raise ConfigError for a Config that makes no sense."""
    checks.numbers(config)
    checks.one_of(config, "dtype", ("float32",))
    checks.labels(config, ("none",))
    checks.at_least(config, 1, "z_dim", "batch_size")
    checks.positive(config, "learning_rate")


def recipe(config: Config) -> Skeleton:
    """Return the skeleton of a Config.

    Raises ConfigError for a Config that makes no sense.
    """
    check(config)
    bound = functools.partial(bind, first=config)
    sampler = Sampler(config.shape, config.z_dim, 0, bound(draw), has_truncation=True)
    return Skeleton(
        config=config,
        init=bound(init),
        step=bound(step),
        plan=bound(plan),
        preview=bound(preview),
        lazy={},
        sampler=sampler,
        sample=bound(sample),
        generate=bound(generate),
    )


class Generator(nn.Module):
    """Latents [n, z_dim] -> images [n, h, w, c]."""

    config: Config

    @nn.compact
    def __call__(self, z):
        height, width, channels = self.config.shape
        return nn.Dense(height * width * channels)(z).reshape(-1, height, width, channels)


def optimizer(config: Config) -> optax.GradientTransformation:
    """Return Adam."""
    return optax.adam(config.learning_rate)


@functools.partial(jax.jit, static_argnames="config")
def init(config: Config, key: Array) -> State:
    """Return the State at step 0, its parameters drawn with `key`."""
    generator: Any = Generator(config)
    params = {"gen": generator.init(key, jnp.zeros((1, config.z_dim)))["params"]}
    return core.new_state(params, {"gen": optimizer(config).init(params["gen"])})


def step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take one optimizer step on the squared error; metric: loss/error."""
    z = core.over_devices(jax.random.normal(key, (config.batch_size, config.z_dim)))

    def loss_fn(params, images, z):
        generator: Any = Generator(config)
        error = jnp.mean(jnp.square(generator.apply({"params": params}, z) - images))
        return error, {"loss/error": error}

    gen, opt = state.params["gen"], state.opt["gen"]
    tensors = batch["images"], z
    gen, opt, metrics = core.descend(optimizer(config), loss_fn, gen, opt, tensors)
    return state.replace(step=state.step + 1, params={"gen": gen}, opt={"gen": opt}), metrics


def plan(config: Config, step: int) -> Plan:
    """Return the Plan of a step: always the same."""
    return Plan(config.batch_size, config.shape[:2])


@functools.partial(jax.jit, static_argnames="config")
def generate(
    config: Config, weights: Weights, latents: Array, labels: Array | None = None
) -> Array:
    """Generate images, float32 [n, h, w, c] in [-1, 1], from latents [n, z_dim]."""
    generator: Any = Generator(config)
    return jnp.clip(generator.apply({"params": weights["params"]["gen"]}, latents), -1, 1)


def draw(
    config: Config, weights: Weights, latents: Array, labels: Array | None, truncation: Any
) -> Array:
    """Generate images from latents scaled by `truncation`, as `core.Sampler` asks."""
    return generate(config, weights, truncation * latents)


@functools.partial(jax.jit, static_argnames=("config", "n"))
def sample(
    config: Config,
    weights: Weights,
    key: Array,
    n: int,
    labels: Array | None = None,
    truncation: float | Array = 1.0,
) -> Array:
    """Sample n images, float32 [n, h, w, c] in [-1, 1]."""
    latents = jax.random.normal(key, (n, config.z_dim))
    return generate(config, weights, truncation * latents)


def preview(config: Config, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]:
    """Return 64 samples, always of the same latents."""
    return {"samples": sample(config, weights, key, 64)}
