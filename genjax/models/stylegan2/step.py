"""Training of StyleGAN2: lazy penalties, discriminator, generator."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, PyTree, State
from genjax.models.gan.step import diversity
from genjax.models.labels import num_classes, one_hot
from genjax.models.stylegan2.config import Config, num_styles, path_batch
from genjax.models.stylegan2.networks import Discriminator, Mapping, Synthesis, disc_layers
from genjax.nn import augment

LOSS = losses.ADVERSARIAL["non_saturating"]


def optimizers(config: Config) -> tuple[optax.GradientTransformation, ...]:
    """Return Adam for the generator and for the discriminator.

    A lazy penalty takes interval / (interval + 1) of the steps from the loss: the rate
    is multiplied by it, the decays raised to that power. Appendix B.
    """

    def adam(weight: float, interval: int) -> optax.GradientTransformation:
        share = interval / (interval + 1) if weight else 1.0
        b1, b2 = config.adam_b1**share, config.adam_b2**share
        return optax.adam(config.learning_rate * share, b1=b1, b2=b2, eps=1e-8)

    gen_tx = adam(config.pl_weight, config.pl_interval)
    return gen_tx, adam(config.r1_gamma, config.r1_interval)


# --- networks as functions of their parameters ----------------------------------------


def map_latents(config: Config, params: PyTree, latents: Array, labels: Array) -> Array:
    """Return w [n, w_dim], not truncated, of latents [n, z_dim] and labels one-hot."""
    mapping: Any = Mapping(config, config.w_dim, config.mapping_layers)
    return mapping.apply({"params": params["mapping"]}, latents, labels)


def synthesize(
    config: Config,
    params: PyTree,
    stats: PyTree,
    styles: Array,
    noise: str,
    key: Array | None = None,
) -> Array:
    """Return images [n, h, w, c] of styles [n, num_styles, w_dim]; `key` is for random
    noise.
    """
    synthesis: Any = Synthesis(config)
    variables = {"params": params["synthesis"], "noise": stats["noise"]}
    rngs = {"noise": key} if key is not None else {}
    return synthesis.apply(variables, styles, noise, rngs=rngs)


def discriminate(config: Config, params: PyTree, images: Array, labels: Array) -> Array:
    """Return the logits [n] of images and labels one-hot."""
    discriminator: Any = Discriminator(config)
    return discriminator.apply({"params": params}, images, labels)


def discriminate_both(
    config: Config, params: PyTree, real: Array, fake: Array, labels: Array
) -> tuple[Array, Array]:
    """Return the logits of real and of generated images, in one pass.

    They are interleaved such that each group of the minibatch standard deviation is of
    one kind.
    """
    n = len(real)
    group = min(config.mbstd_group_size, n)

    def interleave(first: Array, second: Array) -> Array:
        groups = [x.reshape(group, n // group, *x.shape[1:]) for x in (first, second)]
        return jnp.concatenate(groups, axis=1).reshape(2 * n, *first.shape[1:])

    discriminator: Any = Discriminator(config)
    images, labels = interleave(real, fake), interleave(labels, labels)
    logits = discriminator.apply({"params": params}, images, labels, group)
    on_real, on_fake = jnp.split(logits.reshape(group, -1), 2, axis=1)
    return on_real.reshape(n), on_fake.reshape(n)


def trained(config: Config, params: PyTree) -> PyTree:
    """Return the discriminator's parameters, without gradient for the frozen layers."""
    frozen = disc_layers(config)[: config.freeze_disc]
    stop = jax.lax.stop_gradient
    return {name: stop(layer) if name in frozen else layer for name, layer in params.items()}


def mixed_styles(
    config: Config, params: PyTree, key: Array, n: int, labels: Array
) -> tuple[Array, Array]:
    """Draw n latents: their w [n, w_dim], and styles [n, num_styles, w_dim] after
    mixing.

    Style mixing: from a random crossover layer on, use a second latent's w.
    """
    count = num_styles(config)
    latent_key, mixing_key = jax.random.split(key)
    if not config.style_mixing_prob:
        z = core.over_devices(jax.random.normal(latent_key, (n, config.z_dim)))
        first = map_latents(config, params, z, labels)
        return first, jnp.broadcast_to(first[:, None], (n, count, config.w_dim))
    z = core.over_devices(jax.random.normal(latent_key, (n, 2, config.z_dim)))
    w = map_latents(config, params, z.reshape(2 * n, -1), jnp.repeat(labels, 2, axis=0))
    first, second = jnp.unstack(w.reshape(n, 2, -1), axis=1)
    mixing, place = jax.random.uniform(mixing_key, (2, n))
    crossover = 1 + jnp.floor(place * (count - 1))
    crossover = jnp.where(mixing < config.style_mixing_prob, crossover, count)
    before = jnp.arange(count)[None] < crossover[:, None]
    return first, jnp.where(before[..., None], first[:, None], second[:, None])


# --- the programs of a step -----------------------------------------------------------


def streams(key: Array) -> dict[str, Array]:
    """Return the keys of a step's programs by name."""
    return dict(zip(("step", "r1", "path"), jax.random.split(key, 3), strict=True))


def augmented(config: Config, state: State, key: Array, images: Array) -> Array:
    """Return images as the discriminator gets them."""
    if not config.augment:
        return images
    return augment.augment(key, images, config.augment, state.aux["augment"]["p"])


def descend(
    config: Config,
    tx: optax.GradientTransformation,
    loss_fn: Callable[..., tuple[Array, PyTree]],
    params: PyTree,
    opt: PyTree,
    key: Array,
    *batch: Array,
) -> tuple[PyTree, PyTree, PyTree]:
    """Take one optimizer step on `loss_fn(params, key, *batch)`, as `core.descend`
    does.

    With `accumulate` slices, each has its own key.
    """

    def of_slice(params: PyTree, keys: Array, *batch: Array) -> tuple[Array, PyTree]:
        return loss_fn(params, keys[0], *batch)

    keys, slices = jax.random.split(key, config.accumulate), config.accumulate
    return core.descend(tx, of_slice, params, opt, (keys, *batch), accumulate=slices)


@functools.partial(jax.jit, static_argnames="config")
def init(config: Config, key: Array) -> State:
    """Return the State at step 0, its parameters drawn with `key`."""
    map_key, synthesis_key, disc_key = jax.random.split(key, 3)
    labels = jnp.zeros((1, num_classes(config)))
    mapping: Any = Mapping(config, config.w_dim, config.mapping_layers)
    synthesizer: Any = Synthesis(config)
    discriminator: Any = Discriminator(config)
    mapping = mapping.init(map_key, jnp.zeros((1, config.z_dim)), labels)
    styles = jnp.zeros((1, num_styles(config), config.w_dim))
    synthesis = synthesizer.init(synthesis_key, styles)
    params = {
        "gen": {"mapping": mapping["params"], "synthesis": synthesis["params"]},
        "disc": discriminator.init(disc_key, jnp.zeros((1, *config.shape)), labels)["params"],
    }
    gen_tx, disc_tx = optimizers(config)
    opt = {"gen": gen_tx.init(params["gen"]), "disc": disc_tx.init(params["disc"])}
    stats = {"gen": {"noise": synthesis["noise"], "mean_style": jnp.zeros(config.w_dim)}}
    aux: dict[str, Any] = {"path_length": jnp.float32(0)}
    if config.augment:
        aux["augment"] = augment.controller_start(config.ada_p)
    ema = {"gen": params["gen"]} if config.ema_half_life_images > 0 else {}
    return core.new_state(params, opt, stats, ema, aux)


def r1_step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take a discriminator step on the R1 penalty, scaled by its interval."""

    def loss_fn(params, key, real, labels):
        def disc(images):
            images = augmented(config, state, key, images)
            return discriminate(config, trained(config, params), images, labels)

        penalty = config.r1_gamma / 2 * jnp.mean(losses.r1(disc, real))
        return config.r1_interval * penalty, {"penalty/r1": penalty}

    _, disc_tx = optimizers(config)
    real, labels = batch["images"], one_hot(config, batch.get("labels"), config.batch_size)
    disc, opt = state.params["disc"], state.opt["disc"]
    key = streams(key)["r1"]
    disc, opt, metrics = descend(config, disc_tx, loss_fn, disc, opt, key, real, labels)
    params, opt = {**state.params, "disc": disc}, {**state.opt, "disc": opt}
    return state.replace(params=params, opt=opt), metrics


def path_step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take a generator step on the path length penalty, scaled by its interval."""
    mean = state.aux["path_length"]

    def loss_fn(params, key, labels):
        style_key, noise_key, direction_key = jax.random.split(key, 3)
        _, styles = mixed_styles(config, params, style_key, len(labels), labels)
        stats = state.stats["gen"]
        generate = lambda w: synthesize(config, params, stats, w, "random", noise_key)
        lengths = losses.path_lengths(generate, direction_key, styles)
        new_mean = mean + config.pl_decay * (jnp.mean(lengths) - mean)
        penalty = config.pl_weight * jnp.mean(jnp.square(lengths - new_mean))
        metrics = {"penalty/path": penalty, "health/path_length": jnp.mean(lengths)}
        return config.pl_interval * penalty, (metrics, new_mean)

    gen_tx, _ = optimizers(config)
    labels = one_hot(config, batch.get("labels"), config.batch_size)[: path_batch(config)]
    gen, opt = state.params["gen"], state.opt["gen"]
    key = streams(key)["path"]
    gen, opt, (metrics, mean) = descend(config, gen_tx, loss_fn, gen, opt, key, labels)
    params, opt = {**state.params, "gen": gen}, {**state.opt, "gen": opt}
    return state.replace(params=params, opt=opt, aux={**state.aux, "path_length": mean}), metrics


LAZY = {"path": path_step, "r1": r1_step}  # by their names in Plan.due


def step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take the penalty steps that are due, then a step of the discriminator and the
    generator.

    Metrics, beside losses and penalties: `health/logit_gap`, `health/saturated` and
    `health/diversity` as in `gan.step`; `health/overfitting`, mean sign of the logits
    of real images, near 1 when the discriminator has memorised them;
    `health/augment_p`, ADA's probability; `health/path_length`, the mean path length.
    """
    metrics: Metrics = {}
    for name in plan.due:
        state, terms = LAZY[name](config, state, batch, key, plan)
        metrics |= terms

    real, n, stats = batch["images"], config.batch_size, state.stats["gen"]
    labels, step_key = one_hot(config, batch.get("labels"), n), streams(key)["step"]
    gen_tx, disc_tx = optimizers(config)

    # Both players use the same latents, noise and augmentation, so that XLA runs the
    # generator forward once for both.
    def generated(params, key, labels):
        style_key, noise_key, real_key, fake_key = jax.random.split(key, 4)
        first, styles = mixed_styles(config, params, style_key, len(labels), labels)
        images = synthesize(config, params, stats, styles, "random", noise_key)
        return images, first, real_key, fake_key

    # Discriminator.
    def disc_loss(params, key, real, labels):
        fake, _, real_key, fake_key = generated(state.params["gen"], key, labels)
        real = augmented(config, state, real_key, real)
        fake = augmented(config, state, fake_key, fake)
        params = trained(config, params)
        real_logits, fake_logits = discriminate_both(config, params, real, fake, labels)
        objective = jnp.mean(losses.discriminator_loss(LOSS, real_logits, fake_logits))
        signs = jnp.sign(real_logits)
        terms = {
            "loss/disc": objective,
            "health/logit_gap": jnp.mean(real_logits) - jnp.mean(fake_logits),
            "health/overfitting": jnp.mean(signs),
        }
        return objective, (terms, signs)

    disc, opt = state.params["disc"], state.opt["disc"]
    disc, disc_opt, (terms, signs) = descend(
        config, disc_tx, disc_loss, disc, opt, step_key, real, labels
    )
    metrics |= terms

    # Generator.
    def gen_loss(params, key, real, labels):
        images, first, _, fake_key = generated(params, key, labels)
        fake = augmented(config, state, fake_key, images)
        logits = discriminate(config, disc, fake, labels)
        objective = jnp.mean(losses.generator_loss(LOSS, logits))
        terms = {
            "loss/gen": objective,
            "health/saturated": jnp.mean(jnp.float32(jnp.abs(logits) > 5)),
            "health/diversity": diversity(images) / (diversity(real) + 1e-8),
        }
        return objective, (terms, jnp.mean(first, axis=0))

    gen, opt = state.params["gen"], state.opt["gen"]
    gen, gen_opt, (terms, style) = descend(
        config, gen_tx, gen_loss, gen, opt, step_key, real, labels
    )
    metrics |= terms

    # ADA's probability, and the averages of the generator's weights and of w.
    aux = {"path_length": state.aux["path_length"]}
    if config.augment:
        aux["augment"] = state.aux["augment"]
        metrics["health/augment_p"] = aux["augment"]["p"]
        if not config.ada_p:
            aux["augment"] = augment.controller_update(
                aux["augment"],
                signs,
                state.step,
                batch_size=n,
                target=config.ada_target,
                speed_kimg=config.ada_kimg,
            )
    ema = state.ema
    if config.ema_half_life_images > 0:
        ramp = config.ema_half_life_images, config.ema_ramp
        decay = core.ramped_ema_decay(state.step, n, *ramp)
        ema = {"gen": core.ema(state.ema["gen"], gen, decay)}
    mean_style = core.ema(stats["mean_style"], style, config.w_avg_beta)
    return state.replace(
        step=state.step + 1,
        params={"gen": gen, "disc": disc},
        opt={"gen": gen_opt, "disc": disc_opt},
        stats={"gen": {**stats, "mean_style": mean_style}},
        ema=ema,
        aux=aux,
    ), metrics


def plan(config: Config, step: int) -> Plan:
    """Return the Plan of a step: each penalty is due every so many steps."""
    due = []
    if config.pl_weight and step % config.pl_interval == 0:
        due.append("path")
    if config.r1_gamma and step % config.r1_interval == 0:
        due.append("r1")
    return Plan(config.batch_size, config.shape[:2], tuple(due))
