"""What a trained StyleGAN2 does: pure, compiled functions over weights."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from genjax import core
from genjax.core import Array, Batch, Weights
from genjax.models.labels import num_classes, one_hot
from genjax.models.protocols import Number
from genjax.models.stylegan2 import step as training
from genjax.models.stylegan2.config import NOISES, Config, num_styles
from genjax.nn import ops

PREVIEW = 64  # images on a sheet of samples


@functools.partial(jax.jit, static_argnames=("config", "truncation_cutoff"))
def mapping(
    config: Config,
    weights: Weights,
    latents: Array,
    labels: Array | None = None,
    truncation: Number = 1.0,
    truncation_cutoff: int | None = None,
) -> Array:
    """Map latents [n, z_dim] to styles [n, num_styles, w_dim], one for each layer.

    labels: int32 [n], of a conditional model
    truncation: below 1 pulls w toward its mean; 0 is the mean
    truncation_cutoff: number of first layers that truncation applies to; None: all
    """
    labels = one_hot(config, labels, latents.shape[0])
    styles = training.map_latents(config, weights["params"]["gen"], latents, labels)
    mean = weights["stats"]["gen"]["mean_style"][None]
    truncated = styles + (1 - truncation) * (mean - styles)
    count = num_styles(config)
    cutoff = count if truncation_cutoff is None else truncation_cutoff
    first = jnp.arange(count)[None, :, None] < cutoff
    return jnp.where(first, truncated[:, None], styles[:, None])


@functools.partial(jax.jit, static_argnames=("config", "noise"))
def synthesis(
    config: Config, weights: Weights, styles: Array, noise: str = "const", key: Array | None = None
) -> Array:
    """Draw images [n, h, w, c], not clipped, from styles [n, num_styles, w_dim].

    noise: const (the same for all images), random (needs `key`) or none
    Raises ValueError for another noise, and for a key without random noise.
    """
    if noise not in NOISES or (noise == "random") != (key is not None):
        names = ", ".join(NOISES)
        raise ValueError(f"noise is one of {names}, and random takes a key; not {noise!r}")
    gen, stats = weights["params"]["gen"], weights["stats"]["gen"]
    return training.synthesize(config, gen, stats, styles, noise, key)


def draw(
    config: Config, weights: Weights, latents: Array, labels: Array | None, truncation: Any
) -> Array:
    """Draw images with constant noise, as `core.Sampler` asks."""
    return synthesis(config, weights, mapping(config, weights, latents, labels, truncation))


@functools.partial(jax.jit, static_argnames=("config", "n", "truncation_cutoff", "noise"))
def sample(
    config: Config,
    weights: Weights,
    key: Array,
    n: int,
    labels: Array | None = None,
    truncation: Number = 1.0,
    truncation_cutoff: int | None = None,
    noise: str = "const",
) -> Array:
    """Sample n images, float32 [n, h, w, c] in [-1, 1].

    labels: int32 [n] of a conditional model; None takes each class in turn
    truncation, truncation_cutoff: as in `mapping`
    noise: as in `synthesis`
    """
    if labels is None and (classes := num_classes(config)):
        labels = jnp.arange(n) % classes
    latents = jax.random.normal(key, (n, config.z_dim))
    styles = mapping(config, weights, latents, labels, truncation, truncation_cutoff)
    noise_key = jax.random.fold_in(key, 1) if noise == "random" else None
    return jnp.clip(synthesis(config, weights, styles, noise, noise_key), -1, 1)


def style_mix(
    config: Config, weights: Weights, rows: Array, columns: Array, layers: slice | Array
) -> Array:
    """Draw images [r, c, h, w, ch] with rows' styles, and columns' in `layers`.

    rows, columns: styles [r, num_styles, w_dim] and [c, num_styles, w_dim]
    layers: slice or indices of the layers that take the column's style
    """
    chosen = jnp.zeros(num_styles(config), bool).at[layers].set(True)[None, None, :, None]
    styles = jnp.where(chosen, columns[None], rows[:, None])
    images = synthesis(config, weights, styles.reshape(-1, *styles.shape[2:]))
    return jnp.clip(images, -1, 1).reshape(*styles.shape[:2], *images.shape[1:])


@functools.partial(jax.jit, static_argnames=("config", "count", "space"))
def interpolate(
    config: Config,
    weights: Weights,
    first: Array,
    second: Array,
    count: int,
    labels: Array | None = None,
    space: str = "z",
    truncation: Number = 1.0,
) -> Array:
    """Draw `count` images between two latents, [n, count, h, w, c] in [-1, 1].

    first, second: float32 [n, z_dim]
    space: z, along the arc between latents, or w, along the line between their styles
    truncation: as in `mapping`
    Raises ValueError for another space.
    """
    if space not in ("z", "w"):
        raise ValueError(f"space is z or w, not {space!r}")

    def point(t):
        if space == "z":
            latents = ops.slerp(first, second, t)
            styles = mapping(config, weights, latents, labels, truncation)
        else:
            ends = [mapping(config, weights, z, labels, truncation) for z in (first, second)]
            styles = ends[0] + t * (ends[1] - ends[0])
        return jnp.clip(synthesis(config, weights, styles), -1, 1)

    return jax.vmap(point, out_axes=1)(jnp.linspace(0.0, 1.0, count))


@functools.partial(jax.jit, static_argnames="config")
def discriminate(
    config: Config, weights: Weights, images: Array, labels: Array | None = None
) -> Array:
    """Return the discriminator's logits [n], high for real.

    images: float32 [n, h, w, c] in [-1, 1]; labels: int32 [n], of a conditional model
    """
    labels = one_hot(config, labels, images.shape[0])
    return training.discriminate(config, weights["params"]["disc"], images, labels)


def preview(config: Config, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]:
    """Return 64 samples, always of the same latents, without truncation and with 0.7.

    They are drawn in batches, no more images at once than a training step has.
    """
    size, classes = math.gcd(PREVIEW, config.batch_size // config.accumulate), num_classes(config)
    latents = jax.random.normal(key, (PREVIEW, config.z_dim))
    labels = jnp.arange(PREVIEW) % classes if classes else None
    batches = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (latents, labels))

    def sheet(truncation):
        def images_of(batch):
            latents, labels = jax.tree.map(core.over_devices, batch)
            images = draw(config, weights, latents, labels, truncation)
            return jnp.clip(images, -1, 1)

        return jax.lax.map(images_of, batches).reshape(PREVIEW, *config.shape)

    return {"samples": sheet(1.0), "truncated": sheet(0.7)}
