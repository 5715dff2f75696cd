"""The contract: a model is a value, a tuple of pure functions over a `State`.

The trainer and the metrics know this file and no model; models know none of them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

Array = jax.Array
PyTree = Any
Batch = dict[str, Array]  # "images": float32 [n, h, w, c] in [-1, 1]; "labels": int32 [n], if any
Metrics = dict[str, Array]  # float32 scalars by name: "loss/kl", ...
Weights = dict[str, dict[str, PyTree]]  # {"params": by network, "stats": by network}


class Plan(NamedTuple):
    """What is static about a step. Each distinct value compiles one more program."""

    batch_size: int
    resolution: tuple[int, int]  # height, width
    due: tuple[str, ...] = ()  # lazy terms that fall on this step, e.g. ("r1", "path")


class State(flax.struct.PyTreeNode):
    """All that training carries, and so all that a checkpoint holds."""

    step: Array  # int32 scalar: number of steps done
    params: dict[str, PyTree]  # by network: enc, dec | gen, disc ...
    opt: dict[str, PyTree]  # by optimizer: vae | gen, disc ...
    stats: dict[str, PyTree]  # batch norm, spectral norm
    ema: dict[str, PyTree]  # averaged params, for the networks that keep an average
    aux: dict[str, PyTree]  # replay pool, ADA probability, path-length mean, w average


class Step(Protocol):
    """(state, batch, key, plan) -> (State, metrics): one step, or one term of it."""

    def __call__(
        self, state: State, batch: Batch, key: Array, plan: Plan
    ) -> tuple[State, Metrics]: ...


class Init(Protocol):
    """key -> the State at step 0."""

    def __call__(self, key: Array) -> State: ...


class PlanOf(Protocol):
    """Number of a step -> its Plan; on the host."""

    def __call__(self, step: int) -> Plan: ...


class Preview(Protocol):
    """(weights, key, batch) -> images by name, for sample grids."""

    def __call__(self, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]: ...


Draw = Callable[[Weights, Array, Any, Any], Array]  # labels: int32 [n], or None


class Sampler(NamedTuple):
    """How a model draws images: all that commands, metrics and edits need to know of
    it.

    Latents are float32 [n, z_dim], standard normal; labels int32 [n], or None; styles
    float32 [n, num_styles, w_dim]; images float32 [n, h, w, c] in [-1, 1].
    """

    shape: tuple[int, int, int]  # height, width, channels of an image
    z_dim: int  # size of a latent
    num_labels: int  # number of classes that a label chooses among; 0: unconditional
    draw: Draw  # (weights, latents, labels, truncation) -> images
    has_truncation: bool = False  # whether `draw` uses its truncation; else it must be 1
    num_styles: int = 0  # layers that take a style w; 0: the model has no styles
    map_latents: Draw | None = None  # (weights, latents, labels, truncation) -> styles
    draw_styles: Callable[[Weights, Array], Array] | None = None  # (weights, styles) -> images


class Recipe(Protocol):
    """What the trainer and the commands need of a model, beside its own verbs.

    `step` computes the terms of `plan.due` first. `lazy` has those that are worth a
    program of their own: the trainer compiles each alone, and `step` without them,
    rather than every combination; they leave `state.step` as it is."""

    @property
    def config(self) -> Any: ...
    @property
    def init(self) -> Init: ...
    @property
    def step(self) -> Step: ...
    @property
    def plan(self) -> PlanOf: ...
    @property
    def preview(self) -> Preview: ...
    @property
    def lazy(self) -> Mapping[str, Step]: ...
    @property
    def sampler(self) -> Sampler | None: ...


def new_state(
    params: Mapping[str, PyTree],
    opt: Mapping[str, PyTree],
    stats: Mapping[str, PyTree] | None = None,
    ema: Mapping[str, PyTree] | None = None,
    aux: Mapping[str, PyTree] | None = None,
) -> State:
    """Return a State at step 0.

    Call it under `jit`: an `ema` that shares a buffer with `params` cannot be donated.
    """
    return State(
        jnp.int32(0), dict(params), dict(opt), dict(stats or {}), dict(ema or {}), dict(aux or {})
    )


def weights(state: State) -> Weights:
    """Return what sampling needs: averaged parameters where there are, else trained."""
    return {"params": {**state.params, **state.ema}, "stats": state.stats}


def descend(
    tx: optax.GradientTransformation,
    loss_fn: Callable[..., tuple[Array, PyTree]],
    params: PyTree,
    opt: PyTree,
    batch: PyTree = (),
    *,
    accumulate: int = 1,
) -> tuple[PyTree, PyTree, PyTree]:
    """One optimizer step on `loss_fn(params, *batch) -> (scalar, aux)`.

    `batch` is a tuple of pytrees with a leading batch axis. With `accumulate` > 1 it is
    cut into that many slices, whose gradients and aux are averaged: the same step in
    less memory, for losses that are a mean over images. Returns (params, opt, aux).
    """
    gradient = jax.grad(loss_fn, has_aux=True)
    if accumulate == 1:
        grads, aux = gradient(params, *batch)
    else:

        def cut(x):  # strided slices, so that each keeps a share of every device's images
            return jnp.swapaxes(x.reshape(x.shape[0] // accumulate, accumulate, *x.shape[1:]), 0, 1)

        def add(total, piece):
            return jax.tree.map(jnp.add, total, gradient(params, *piece)), None

        slices = jax.tree.map(cut, batch)
        zero = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(gradient, params, *jax.tree.map(lambda x: x[0], slices)),
        )
        grads, aux = jax.tree.map(lambda x: x / accumulate, jax.lax.scan(add, zero, slices)[0])
    updates, opt = tx.update(grads, opt, params)
    return optax.apply_updates(params, updates), opt, aux


def over_devices(x: Array) -> Array:
    """Split [batch, ...] over the trainer's devices; elsewhere return it unchanged.

    For what a step draws: nothing else tells XLA to split latents, and every device
    would run the generator for the full batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if "data" not in mesh.axis_names or x.shape[0] % mesh.shape["data"]:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))


def ema(average: PyTree, params: PyTree, decay: float | Array) -> PyTree:
    """Average exponentially, per leaf: decay * average + (1 - decay) * params."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)


def ema_decay(batch_size: int, half_life_images: float) -> float:
    """Return the decay per step with this half-life; 0, no averaging, for 0 images."""
    return 0.5 ** (batch_size / half_life_images) if half_life_images > 0 else 0.0


def ramped_ema_decay(step: Array, batch_size: int, half_life_images: float, ramp: float) -> Array:
    """Return `ema_decay` with a half-life of at most `ramp` * images trained on.

    `step` is the number of steps done before. Karras et al. 2020 (arXiv 1912.04958).
    """
    trained_images = (step + 1.0) * batch_size
    return 0.5 ** (batch_size / jnp.minimum(half_life_images, ramp * trained_images))
