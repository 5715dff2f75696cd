"""Training of CycleGAN: both generators in one step, then both discriminators."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, PyTree, State
from genjax.models.cyclegan.config import DIRECTIONS, Config
from genjax.models.cyclegan.networks import GENERATORS, Discriminator
from genjax.nn import pool


def optimizer(config: Config) -> optax.GradientTransformation:
    """Return Adam with the Config's schedule."""
    rate = optax.constant_schedule(config.learning_rate)
    if config.decay_steps:
        decay = config.decay_steps, config.constant_steps
        rate = optax.linear_schedule(config.learning_rate, 0.0, *decay)
    return optax.adam(rate, b1=config.adam_b1, b2=config.adam_b2, eps=1e-8)


def generator(config: Config) -> Any:
    """Return the generator's module."""
    return GENERATORS[config.network](config)


def discriminate(config: Config, params: PyTree, images: Array) -> Array:
    """Return the logits of patches [n, h', w'] of a discriminator with these
    parameters.
    """
    discriminator: Any = Discriminator(config)
    return discriminator.apply({"params": params}, images)


@functools.partial(jax.jit, static_argnames="config")
def init(config: Config, key: Array) -> State:
    """Return the State at step 0, its parameters drawn with `key`."""
    keys, images = jax.random.split(key, 4), jnp.zeros((1, *config.shape))
    discriminator: Any = Discriminator(config)
    gens = {
        f"gen_{direction}": generator(config).init(key, images)["params"]
        for direction, key in zip(DIRECTIONS, keys[:2], strict=True)
    }
    discs = {
        f"disc_{side}": discriminator.init(key, images)["params"]
        for side, key in zip("ab", keys[2:], strict=True)
    }
    tx, averages = optimizer(config), config.ema_half_life_images > 0
    opt = {"gens": tx.init(gens), "discs": tx.init(discs)}
    aux = {f"pool_{side}": pool.empty(config.pool_size, config.shape) for side in "ab"}
    return core.new_state({**gens, **discs}, opt, ema=gens if averages else {}, aux=aux)


def reconstruction(config: Config, images: Array, cycled: Array) -> Array:
    """Return the cycle loss of images and what came back, mean over the batch."""
    objective = jnp.mean(losses.cycle(images, cycled))
    if not config.ssim_weight:
        return objective
    return objective + config.ssim_weight * jnp.mean(1 - losses.ssim(images, cycled))


def step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take one step of the generators and one of the discriminators.

    `batch`: "images" of side a and "images_b" of side b, [n, h, w, c] in [-1, 1] each.
    Metrics: loss/gen_*, loss/cycle_*, loss/identity_*, loss/disc_* and
    penalty/gradient_* by side, and health/logit_gap_*: mean logit of real minus that of
    generated images.
    """
    generate = lambda params, images: generator(config).apply({"params": params}, images)
    loss, tx = losses.ADVERSARIAL[config.loss], optimizer(config)
    # Zhu et al. have no 1/2 before their squares.
    weight = 2.0 if config.loss == "least_squares" else 1.0
    share = {"a": config.cycle_share_a, "b": 1.0}  # by the side where the cycle begins
    real = {"a": batch["images"], "b": batch["images_b"]}
    network = lambda kind: {n: p for n, p in state.params.items() if n.startswith(kind)}
    gens, discs = network("gen"), network("disc")
    keys = dict(zip("ab", jax.random.split(key), strict=True))

    # Generators: adversarial, cycle and identity terms of both directions.
    def noisy(images, side):
        noise = jax.random.normal(jax.random.fold_in(keys[side], 2), images.shape)
        return images + config.cycle_noise * noise if config.cycle_noise else images

    def gens_loss(gens):
        fake, same, metrics, objective = {}, {}, {}, jnp.float32(0)
        for direction, (source, target) in (("a2b", "ab"), ("b2a", "ba")):
            if config.identity_weight:  # one pass for both: each image is normalised alone
                both = jnp.concatenate([real[source], real[target]])
                both = generate(gens[f"gen_{direction}"], both)
                fake[target], same[target] = jnp.split(both, 2)
            else:
                fake[target] = generate(gens[f"gen_{direction}"], real[source])
        for back, (source, target) in (("b2a", "ab"), ("a2b", "ba")):
            logits = discriminate(config, discs[f"disc_{target}"], fake[target])
            metrics[f"loss/gen_{target}"] = weight * jnp.mean(loss.gen(logits))
            objective += metrics[f"loss/gen_{target}"]
            if share[source]:
                cycled = generate(gens[f"gen_{back}"], noisy(fake[target], target))
                term = reconstruction(config, real[source], cycled)
                metrics[f"loss/cycle_{source}"] = term
                objective += config.cycle_weight * share[source] * term
            if config.identity_weight:
                term = jnp.mean(losses.identity(real[target], same[target]))
                metrics[f"loss/identity_{target}"] = term
                objective += config.cycle_weight * config.identity_weight * term
        return objective, (metrics, fake)

    gens, gens_opt, (metrics, fake) = core.descend(tx, gens_loss, gens, state.opt["gens"])

    # Discriminators: on generated images of this step and of earlier ones.
    pools, pooled = {}, {}
    for side in "ab":
        name = f"pool_{side}"
        pools[name], pooled[side] = pool.exchange(state.aux[name], keys[side], fake[side])

    def discs_loss(discs):
        metrics, objective = {}, jnp.float32(0)
        for side in "ab":
            disc = functools.partial(discriminate, config, discs[f"disc_{side}"])
            both = disc(jnp.concatenate([real[side], pooled[side]]))
            on_real, on_fake = jnp.split(both, 2)
            term = losses.discriminator_loss(loss, on_real, on_fake)
            metrics[f"loss/disc_{side}"] = 0.5 * weight * jnp.mean(term)
            metrics[f"health/logit_gap_{side}"] = jnp.mean(on_real) - jnp.mean(on_fake)
            objective += metrics[f"loss/disc_{side}"]
            if config.gradient_penalty:
                mixing = jax.random.fold_in(keys[side], 1)
                penalty = losses.gradient_penalty(disc, mixing, real[side], pooled[side])
                metrics[f"penalty/gradient_{side}"] = config.gradient_penalty * jnp.mean(penalty)
                objective += metrics[f"penalty/gradient_{side}"]
        return objective, metrics

    discs, discs_opt, disc_metrics = core.descend(tx, discs_loss, discs, state.opt["discs"])

    # Averages of the generators' weights.
    ema = state.ema
    if config.ema_half_life_images > 0:
        ramp = config.ema_half_life_images, config.ema_ramp
        decay = core.ramped_ema_decay(state.step, config.batch_size, *ramp)
        ema = core.ema(state.ema, gens, decay)
    return state.replace(
        step=state.step + 1,
        params={**gens, **discs},
        opt={"gens": gens_opt, "discs": discs_opt},
        ema=ema,
        aux=pools,
    ), {**metrics, **disc_metrics}


def plan(config: Config, step: int) -> Plan:
    """Return the Plan of a step: always the same."""
    return Plan(config.batch_size, config.shape[:2])
