"""Two-player training: the discriminator's steps with its penalties, then the
generator's.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, PyTree, State
from genjax.models.gan.config import PENALTIES, TwoPlayerConfig
from genjax.models.labels import one_hot
from genjax.nn import augment

STATS_DECAY = 0.9  # of the discriminator's batch norm statistics, per step


class Players(NamedTuple):
    """A Config and its two networks. Hashable: static under `jit`."""

    config: TwoPlayerConfig
    gen: Any  # linen module: (latents, labels one-hot, train) -> images
    disc: Any  # linen module: (images, labels one-hot, train) -> logits [n]


def optimizers(config: TwoPlayerConfig) -> tuple[optax.GradientTransformation, ...]:
    """Return Adam for the generator and for the discriminator."""

    def adam(rate: float, steps: int) -> optax.GradientTransformation:
        constant = optax.constant_schedule(rate)
        schedule = optax.cosine_decay_schedule(rate, steps) if steps else constant
        return optax.adam(schedule, b1=config.adam_b1, b2=config.adam_b2, eps=1e-8)

    gen_rate, steps = config.learning_rate, config.decay_steps
    disc_rate = config.disc_learning_rate or gen_rate
    return adam(gen_rate, steps), adam(disc_rate, steps * config.disc_steps)


def adversarial_loss(config: TwoPlayerConfig) -> losses.Adversarial:
    """Return the loss that the Config names, smoothed as it says."""
    loss = losses.ADVERSARIAL[config.loss]
    return losses.smooth(loss, config.label_smoothing) if config.label_smoothing else loss


def forward(network: Any, params: PyTree, stats: PyTree, *inputs: Array) -> tuple[Array, PyTree]:
    """Apply a network in training: its output, and its statistics of this batch."""
    collections = ["batch_stats", "spectral"]
    return network.apply({"params": params, **stats}, *inputs, train=True, mutable=collections)


@functools.partial(jax.jit, static_argnames="players")
def init(players: Players, key: Array) -> State:
    """Return the State at step 0, its parameters drawn with `key`."""
    config = players.config
    gen_key, disc_key = jax.random.split(key)
    labels = one_hot(config, jnp.zeros(1, int), 1)
    gen = players.gen.init(gen_key, jnp.zeros((1, config.z_dim)), labels, train=False)
    disc = players.disc.init(disc_key, jnp.zeros((1, *config.shape)), labels, train=False)
    params = {"gen": gen.pop("params"), "disc": disc.pop("params")}
    stats = {name: values for name, values in (("gen", gen), ("disc", disc)) if values}
    gen_tx, disc_tx = optimizers(config)
    opt = {"gen": gen_tx.init(params["gen"]), "disc": disc_tx.init(params["disc"])}
    averages = config.ema_half_life_images > 0
    return core.new_state(params, opt, stats, {"gen": params["gen"]} if averages else {})


def augmented(config: TwoPlayerConfig, key: Array, images: Array) -> Array:
    """Return images as the discriminator gets them."""
    return augment.diff_augment(key, images, config.augment) if config.augment else images


def penalties(config: TwoPlayerConfig, disc: Any, key: Array, real: Array, fake: Array) -> Metrics:
    """Return the weighted penalties of a discriminator by name, mean over the batch."""
    terms = {}
    if config.r1_gamma:
        terms["r1"] = config.r1_gamma / 2 * losses.r1(disc, real)
    if config.r2_gamma:
        terms["r2"] = config.r2_gamma / 2 * losses.r1(disc, fake)
    if config.gradient_penalty:
        slopes = losses.gradient_penalty(disc, key, real, fake)
        terms["gradient_penalty"] = config.gradient_penalty * slopes
    if config.dragan:
        terms["dragan"] = config.dragan * losses.dragan(disc, key, real)
    return {f"penalty/{name}": jnp.mean(term) for name, term in terms.items()}


def disc_step(
    players: Players, state: State, due: tuple[str, ...], carry: Any, inputs: Any
) -> tuple[Any, Metrics]:
    """Take one discriminator step on its own batch.

    carry: the discriminator's (params, optimizer state, statistics); inputs: (batch,
    latents, key). The generator is that of `state`. Returns the new carry and the
    metrics.
    """
    config, (params, opt, stats), (batch, z, key) = players.config, carry, inputs
    real_key, fake_key, penalty_key, _ = jax.random.split(key, 4)
    labels = one_hot(config, batch.get("labels"), batch["images"].shape[0])
    gen = state.params["gen"], state.stats.get("gen", {})
    fake, _ = forward(players.gen, *gen, z, labels)
    real = augmented(config, real_key, batch["images"])
    fake = augmented(config, fake_key, fake)

    def loss_fn(params):
        real_logits, real_stats = forward(players.disc, params, stats, real, labels)
        fake_logits, fake_stats = forward(players.disc, params, stats, fake, labels)
        loss = adversarial_loss(config)
        objective = jnp.mean(losses.discriminator_loss(loss, real_logits, fake_logits))
        gap = jnp.mean(real_logits) - jnp.mean(fake_logits)
        metrics = {"loss/disc": objective, "health/logit_gap": gap}
        if "penalty" in due:
            disc = lambda x: forward(players.disc, params, stats, x, labels)[0]
            terms = penalties(config, disc, penalty_key, real, fake)
            objective += config.penalty_interval * sum(terms.values())
            metrics |= terms
        both = jax.tree.map(lambda a, b: (a + b) / 2, real_stats, fake_stats)
        return objective, (metrics, both)

    _, disc_tx = optimizers(config)
    params, opt, (metrics, new) = core.descend(disc_tx, loss_fn, params, opt)
    if config.clip:
        params = jax.tree.map(lambda p: jnp.clip(p, -config.clip, config.clip), params)
    return (params, opt, average_statistics(stats, new, STATS_DECAY)), metrics


def step(
    players: Players, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take `disc_steps` discriminator steps and one generator step.

    `batch` has disc_steps * batch_size images. The logged metrics, beside losses and
    penalties, are signs of trouble:

    - `health/logit_gap`: mean logit of real minus that of generated images. Large and
      rising: the discriminator wins; 0: it cannot tell them apart.
    - `health/saturated`: share of generated images with |logit| > 5, where a saturating
      loss gives the generator no gradient and the others a constant one. Near 1 for
      long: lower the discriminator's learning rate, or penalise its gradient.
    - `health/diversity`: standard deviation over the batch, mean over pixels, of
      generated images divided by that of real ones. Near 1 in health, falling to 0 when
      many latents give one image (collapse).
    """
    config, gen_stats = players.config, state.stats.get("gen", {})
    loss = adversarial_loss(config)

    # Discriminator: each step on its own batch.
    interleaved = lambda x: x.reshape(-1, config.disc_steps, *x.shape[1:])
    batches = jax.tree.map(lambda x: jnp.swapaxes(interleaved(x), 0, 1), batch)
    latents_key, key = jax.random.split(key)
    z = latents(config, latents_key, config.disc_steps * config.batch_size)
    z = z.reshape(config.disc_steps, config.batch_size, -1)
    keys = jax.random.split(key, config.disc_steps)
    carry = (state.params["disc"], state.opt["disc"], state.stats.get("disc", {}))
    turn = functools.partial(disc_step, players, state, plan.due)
    if config.disc_steps == 1:
        carry, metrics = turn(carry, jax.tree.map(lambda x: x[0], (batches, z, keys)))
    else:
        carry, metrics = jax.lax.scan(turn, carry, (batches, z, keys))
        metrics = jax.tree.map(jnp.mean, metrics)
    disc_params, disc_opt, disc_stats = carry

    # Generator: on the latents of the last discriminator step, the same array, so that
    # XLA runs the generator forward once for both.
    real, labels = batches["images"][-1], batches["labels"][-1] if "labels" in batches else None
    labels = one_hot(config, labels, config.batch_size)
    real_key, _, _, fake_key = jax.random.split(keys[-1], 4)

    def loss_fn(params):
        fake, new = forward(players.gen, params, gen_stats, z[-1], labels)
        disc = functools.partial(forward, players.disc, disc_params, disc_stats)
        fake_logits, _ = disc(augmented(config, fake_key, fake), labels)
        real_logits = None
        if loss.relative:
            real_logits, _ = disc(augmented(config, real_key, real), labels)
        objective = jnp.mean(losses.generator_loss(loss, fake_logits, real_logits))
        return objective, (objective, fake_logits, fake, new)

    gen_tx, _ = optimizers(config)
    gen_params, gen_opt, (objective, fake_logits, fake, new) = core.descend(
        gen_tx, loss_fn, state.params["gen"], state.opt["gen"]
    )
    metrics |= {
        "loss/gen": objective,
        "health/saturated": jnp.mean(jnp.float32(jnp.abs(fake_logits) > 5)),
        "health/diversity": diversity(fake) / (diversity(real) + 1e-8),
    }

    # Averages of the generator's weights and statistics.
    ema, decay = state.ema, STATS_DECAY
    if config.ema_half_life_images > 0:
        ramp = config.ema_half_life_images, config.ema_ramp
        decay = core.ramped_ema_decay(state.step, config.batch_size, *ramp)
        ema = {"gen": core.ema(state.ema["gen"], gen_params, decay)}
    stats = {"gen": average_statistics(gen_stats, new, decay), "disc": disc_stats}
    return state.replace(
        step=state.step + 1,
        params={"gen": gen_params, "disc": disc_params},
        opt={"gen": gen_opt, "disc": disc_opt},
        stats={name: stats[name] for name in state.stats},
        ema=ema,
    ), metrics


def plan(players: Players, step: int) -> Plan:
    """Return the Plan of a step: penalties are due every `penalty_interval` steps."""
    config = players.config
    penalised = any(getattr(config, name) > 0 for name in PENALTIES)
    due = ("penalty",) if penalised and step % config.penalty_interval == 0 else ()
    return Plan(config.batch_size * config.disc_steps, config.shape[:2], due)


def latents(config: TwoPlayerConfig, key: Array, n: int) -> Array:
    """Draw latents, standard normal float32 [n, z_dim]."""
    return jax.random.normal(key, (n, config.z_dim))


def average_statistics(old: dict, new: dict, decay: float | Array) -> dict:
    """Average batch norm's statistics with this decay; replace other collections."""
    average = lambda name, value: core.ema(old[name], value, decay)
    return {
        name: average(name, value) if name == "batch_stats" else value
        for name, value in new.items()
    }


def diversity(images: Array) -> Array:
    """Return the standard deviation over the batch, mean over pixels, of [n, h, w, c]."""
    rows = images.reshape(len(images), -1)
    ones = jnp.full((1, len(rows)), 1 / len(rows))
    mean = functools.partial(jnp.matmul, ones, precision="highest")  # fast on a CPU
    return jnp.mean(jnp.sqrt(mean(jnp.square(rows - mean(rows)))))
