"""What a trained GAN does: pure functions over weights, compiled, differentiable."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from genjax.core import Array, Batch, Weights
from genjax.models.gan.step import Players, latents
from genjax.models.labels import num_classes, one_hot
from genjax.models.protocols import Number
from genjax.nn import ops


def _apply(
    players: Players, name: str, weights: Weights, inputs: Array, labels: Array | None
) -> Array:
    network = players.gen if name == "gen" else players.disc
    variables = {"params": weights["params"][name], **weights["stats"].get(name, {})}
    labels = one_hot(players.config, labels, inputs.shape[0])
    return network.apply(variables, inputs, labels, train=False)


@functools.partial(jax.jit, static_argnames="players")
def generate(
    players: Players, weights: Weights, latents: Array, labels: Array | None = None
) -> Array:
    """Generate images, float32 [n, h, w, c] in [-1, 1].

    latents: float32 [n, z_dim], standard normal
    labels: int32 [n], of a conditional model
    """
    return jnp.clip(_apply(players, "gen", weights, latents, labels), -1, 1)


def draw(
    players: Players, weights: Weights, latents: Array, labels: Array | None, truncation: Any
) -> Array:
    """Generate images from latents scaled by `truncation`, as `core.Sampler` asks."""
    return generate(players, weights, truncation * latents, labels)


@functools.partial(jax.jit, static_argnames="players")
def discriminate(
    players: Players, weights: Weights, images: Array, labels: Array | None = None
) -> Array:
    """Return the discriminator's logits [n], high for real.

    images: float32 [n, h, w, c] in [-1, 1]; labels: int32 [n], of a conditional model
    """
    return _apply(players, "disc", weights, images, labels)


@functools.partial(jax.jit, static_argnames=("players", "n"))
def sample(
    players: Players,
    weights: Weights,
    key: Array,
    n: int,
    labels: Array | None = None,
    truncation: Number = 1.0,
) -> Array:
    """Sample n images, float32 [n, h, w, c] in [-1, 1].

    labels: int32 [n] of a conditional model; None takes each class in turn
    truncation: factor of the latents; below 1 pulls images toward that of z = 0
    """
    if labels is None and (classes := num_classes(players.config)):
        labels = jnp.arange(n) % classes
    return generate(players, weights, truncation * latents(players.config, key, n), labels)


@functools.partial(jax.jit, static_argnames=("players", "count"))
def interpolate(
    players: Players,
    weights: Weights,
    first: Array,
    second: Array,
    count: int,
    labels: Array | None = None,
) -> Array:
    """Generate `count` images on the arc between two latents.

    first, second: float32 [n, z_dim]; the result is [n, count, h, w, c] in [-1, 1],
    with the images of the two at its ends.
    """
    along = jnp.linspace(0.0, 1.0, count)
    point = lambda t: generate(players, weights, ops.slerp(first, second, t), labels)
    return jax.vmap(point, out_axes=1)(along)


def preview(players: Players, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]:
    """Return 64 samples, always of the same latents."""
    return {"samples": sample(players, weights, key, 64)}
