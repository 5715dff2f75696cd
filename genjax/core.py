"""The contract: a model is a value, a tuple of pure functions; all that training carries is one `State`.

The trainer, the checkpoints and the metrics know this file and nothing of any model. `models/` knows this file and nothing of them.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from genjax.errors import InputError as InputError  # by these names too, as in version 0.1
from genjax.errors import NotFinite as NotFinite
from genjax.errors import printable

Array = jax.Array
PyTree = Any
Batch = dict[
    str, Array
]  # "images": float32 [batch, height, width, channels] in [-1, 1]; "labels": int32 [batch], if any
Metrics = dict[str, Array]  # float32 scalars by name: "loss/kl", ...
Weights = dict[
    str, dict[str, PyTree]
]  # {"params": by network, "stats": by network}: what sampling needs of a State


class Plan(NamedTuple):
    """What is static about a step. Each distinct value compiles one more program."""

    batch_size: int
    resolution: tuple[int, int]  # height, width
    due: tuple[str, ...] = ()  # lazy terms that fall on this step, e.g. ("r1", "path")


class State(flax.struct.PyTreeNode):
    """All that training carries, and so all that a checkpoint holds."""

    step: Array  # int32 scalar: steps done
    params: dict[str, PyTree]  # by network: enc, dec | gen, disc ...
    opt: dict[str, PyTree]  # by optimizer: vae | gen, disc ...
    stats: dict[str, PyTree]  # batch norm, spectral norm
    ema: dict[str, PyTree]  # averaged params, for the networks that keep an average
    aux: dict[str, PyTree]  # replay pool, ADA probability, path-length mean, w average


class Recipe(Protocol):
    """What the trainer needs of a model; every model's tuple has these four beside its own verbs, which are compiled functions (`jax.jit`).

    It may also have `lazy`: {term: (state, batch, key, plan) -> (State, metrics)}, terms of `Plan.due` that `step` makes first, one after another,
    and that leave `state.step` as it is. The trainer then compiles each of them alone, and `step` without them, rather than every combination.
    """

    @property
    def init(self) -> Callable[[Array], State]: ...
    @property
    def step(self) -> Callable[[State, Batch, Array, Plan], tuple[State, Metrics]]: ...
    @property
    def plan(self) -> Callable[[int], Plan]: ...
    @property
    def preview(self) -> Callable[[Weights, Array, Batch], dict[str, Array]]: ...


def new_state(
    params: Mapping[str, PyTree], opt: Mapping[str, PyTree], stats=None, ema=None, aux=None
) -> State:
    """A State at step 0. Call it under `jit`: an `ema` that is the same buffer as `params` cannot be donated."""
    return State(
        jnp.int32(0), dict(params), dict(opt), dict(stats or {}), dict(ema or {}), dict(aux or {})
    )


def weights(state: State) -> Weights:
    """What sampling needs of a state: the averaged parameters where a network keeps an average, else the trained ones."""
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

    `batch` is a tuple of pytrees with a leading batch axis. With `accumulate` > 1 it is cut into that many slices, whose
    gradients and aux are averaged: the same step in less memory, for losses that are a mean over images. Returns (params, opt, aux).
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
    """What a step drew, [batch, ...], split over the devices that the trainer trains on, as its batch is; elsewhere as it is.

    Nothing else tells XLA so: latents alone would have every device run the generator for the whole batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if "data" not in mesh.axis_names or x.shape[0] % mesh.shape["data"]:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec("data"))


def ema(average: PyTree, params: PyTree, decay: float | Array) -> PyTree:
    """Exponential moving average: decay * average + (1 - decay) * params, leaf by leaf."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)


def ema_decay(batch_size: int, half_life_images: float) -> float:
    """Decay per step under which a value's weight halves every `half_life_images` images; 0 images means no averaging."""
    return 0.5 ** (batch_size / half_life_images) if half_life_images > 0 else 0.0


def ramped_ema_decay(step: Array, batch_size: int, half_life_images: float, ramp: float) -> Array:
    """The same, above 0, for the step after `step` steps, with a half-life of at most `ramp` of the images trained on (Karras et al. 2020)."""
    seen_images = (step + 1.0) * batch_size
    return 0.5 ** (batch_size / jnp.minimum(half_life_images, ramp * seen_images))


def demand(config: Any, ok: bool, field: str, advice: str) -> None:
    """Raise InputError, naming the option that sets a Config's field, unless `ok`."""
    if not ok:
        option = (
            f"--{field.replace('_', '-')}"
            if field in ("batch_size", "dtype")
            else f"--model.{field.replace('_', '-')}"
        )
        raise InputError(f"{option} {printable(str(getattr(config, field)), 60)}: {advice}")


# Limits of a Config's numbers, beyond which no network is: to trace one takes time by its layers. What memory and weights allow is far below.
MAX_DEPTH = 64  # layers of a kind, and entries of a tuple
MAX_WIDTH = 2**20  # channels, dimensions, classes
MAX_SIDE = 2**14  # pixels
DEPTHS = ("blocks", "depth", "disc_layers", "mapping_layers", "disc_mapping_layers")
WIDTHS = (
    "hidden",
    "channels",
    "max_channels",
    "disc_channels",
    "latent_size",
    "style_size",
    "expansion",
    "group_size",
    "num_labels",
    "taps",
)


def check_numbers(config: Any) -> None:
    """Raise InputError, naming the option, on a Config with a number that is not finite, or with layers and widths that no network has."""
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        values = value if isinstance(value, tuple) else (value,)
        demand(config, len(values) <= MAX_DEPTH, name, f"at most {MAX_DEPTH}")
        numbers = [x for x in values if isinstance(x, int | float)]
        demand(config, all(map(math.isfinite, numbers)), name, "must be finite")
        most = (
            MAX_DEPTH
            if name in DEPTHS
            else MAX_WIDTH
            if name in WIDTHS
            else MAX_SIDE
            if name == "shape"
            else 2**53
        )
        demand(
            config,
            all(abs(x) <= most for x in numbers if isinstance(x, int)),
            name,
            f"at most {most}",
        )
        if name == "shape":
            demand(config, all(x >= 1 for x in numbers), name, "at least 1")
