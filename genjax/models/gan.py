"""Two-player training, and the plain GAN of Goodfellow et al. 2014 (arXiv 1406.2661): a generator and a discriminator that are MLPs.

`two_player(config, generator, discriminator)` is the recipe of every model here that is trained so; a model brings its networks.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, State, Weights
from genjax.nn import augment, layers, ops

CONDITIONAL = ("none", "concat", "projection")
PENALTIES = ("r1", "r2", "gradient_penalty", "dragan")
SMOOTHED = (
    "minimax",
    "non_saturating",
    "least_squares",
)  # losses with a target for label smoothing to move


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """What two-player training needs to know, of any networks. A model's Config adds its own fields."""

    shape: tuple[int, int, int] = (
        28,
        28,
        1,
    )  # height, width, channels: the script takes it from the data
    num_labels: int = 0  # classes the data has: from the data as well
    conditional: str = "none"  # none | concat (label beside the inputs) | projection (Miyato & Koyama 2018): p(x | label)
    latent_size: int = 64  # dimensions of z, standard normal
    loss: str = "non_saturating"  # minimax | non_saturating | hinge | least_squares | wasserstein | relativistic
    r1: float = 0.0  # gamma: gamma / 2 |grad D|^2 on real images (Mescheder et al. 2018)
    r2: float = 0.0  # gamma of the same on generated images
    gradient_penalty: float = (
        0.0  # weight of (|grad D| - 1)^2 between real and generated (WGAN-GP has 10)
    )
    dragan: float = 0.0  # weight of (|grad D| - 1)^2 around real images (DRAGAN has 10)
    penalty_every: int = 1  # steps from one penalty to the next, which weighs as many times more (Karras et al. 2020 have 16)
    clip: float = (
        0.0  # the discriminator's weights are held within +-clip (Wasserstein GAN has 0.01); 0: not
    )
    label_smoothing: float = (
        0.0  # share of a real label that says generated (Salimans et al. 2016 have 0.1)
    )
    augment: tuple[
        str, ...
    ] = ()  # DiffAugment of all that the discriminator sees: color translation cutout
    disc_steps: int = 1  # discriminator steps a generator step, each on a batch of its own
    learning_rate: float = 2e-4  # Adam's, of the generator
    disc_learning_rate: float = (
        0.0  # of the discriminator (two time scales, Heusel et al. 2017); 0: the generator's
    )
    adam_b1: float = 0.5  # Adam's first decay (Radford et al. 2016)
    adam_b2: float = 0.999  # Adam's second decay
    decay_steps: int = 0  # steps of a cosine decay of both learning rates to 0; 0: constant
    ema_half_life_images: float = (
        10_000.0  # images after which an old weight counts half in the average that is sampled from
    )
    ema_ramp: float = (
        0.05  # the half-life is at most this share of the images trained on (Karras et al. 2020)
    )
    batch_size: int = 64  # images a discriminator step, over all devices
    dtype: str = (
        "float32"  # float32 | bfloat16, of the networks; parameters, logits and losses are float32
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Game):
    hidden: tuple[int, ...] = (
        256,
        256,
    )  # widths of the generator's layers, and in reverse of the discriminator's
    output: str = "tanh"  # tanh | linear: the generator's last activation


class GAN(NamedTuple):
    """What `recipe(config)` returns. Weights are `core.weights(state)` or `genjax.load(...)`'s; images float32 [n, h, w, c] in [-1, 1].

    A conditional model takes `labels`, int32 [n]; without them `sample` takes each class in turn. The logged metrics, beside losses
    and penalties, are signs of trouble:

    - `health/logit_gap`, mean logit of real images minus that of generated ones: large and rising, the discriminator wins; 0, it sees nothing.
    - `health/saturated`, the share of generated images with |logit| > 5, where a saturating loss gives the generator no gradient
      and the others a constant one: near 1 for long, lower the discriminator's rate or penalise its slope.
    - `health/diversity`, standard deviation over the batch of generated images over that of real ones, mean over pixels: near 1
      in health, falling to 0 when many latents give one image (collapse).
    """

    config: Any
    init: Callable  # (key) -> State
    step: Callable  # (state, batch, key, plan) -> (State, metrics)
    plan: Callable  # (step) -> Plan
    preview: Callable  # (weights, key, batch) -> {"samples": images}
    sample: Callable  # (weights, key, n, labels=None, truncation=1.0) -> images; latents are scaled by `truncation`, to 0 for the mean
    generate: Callable  # (weights, latents, labels=None) -> images
    discriminate: Callable  # (weights, images, labels=None) -> logits [n], high for real
    interpolate: Callable  # (weights, first, second, count, labels=None) -> [n, count, h, w, c], along the arc from latents to latents


# --- two-player training -------------------------------------------------------------------------------------------------


def check_game(config: Game) -> None:
    """Raise InputError, naming the option, on a Game that means nothing."""
    core.check_numbers(config)
    demand = functools.partial(core.demand, config)
    demand(config.loss in losses.ADVERSARIAL, "loss", f"one of {', '.join(losses.ADVERSARIAL)}")
    demand(config.conditional in CONDITIONAL, "conditional", f"one of {', '.join(CONDITIONAL)}")
    demand(config.dtype in ("float32", "bfloat16"), "dtype", "one of float32, bfloat16")
    demand(
        set(config.augment) <= set(augment.DIFF_AUGMENT),
        "augment",
        f"out of {', '.join(augment.DIFF_AUGMENT)}",
    )
    for field in ("latent_size", "batch_size", "disc_steps", "penalty_every"):
        demand(getattr(config, field) >= 1, field, "at least 1")
    for field in (*PENALTIES, "clip", "disc_learning_rate", "decay_steps", "ema_half_life_images"):
        demand(getattr(config, field) >= 0, field, "0 or more")
    demand(config.learning_rate > 0, "learning_rate", "more than 0")
    demand(config.ema_ramp > 0, "ema_ramp", "more than 0")
    for field in ("adam_b1", "adam_b2"):
        demand(0 <= getattr(config, field) < 1, field, "from 0 to below 1")
    demand(0 <= config.label_smoothing < 0.5, "label_smoothing", "from 0 to below 0.5")
    smoothed = config.label_smoothing == 0 or config.loss in SMOOTHED
    demand(smoothed, "label_smoothing", f"only with --model.loss {', '.join(SMOOTHED)}")
    advice = "needs data with labels (class folders, or a labels array)"
    demand(config.conditional == "none" or config.num_labels > 0, "conditional", advice)


def two_player(config: Game, generator: nn.Module, discriminator: nn.Module) -> GAN:
    """The recipe of a generator (latents, labels one-hot, train) -> images and a discriminator (images, labels one-hot, train) -> logits [n].

    In training a network's mutable collections are `batch_stats`, what a normalisation saw of this batch (averaged here), and
    `spectral`, vectors to go on from (replaced).
    """
    check_game(config)
    networks = {
        "gen": cast(Any, generator),
        "disc": cast(Any, discriminator),
    }  # linen's `apply` has no useful type
    loss = losses.ADVERSARIAL[config.loss]
    if config.label_smoothing:
        loss = losses.smooth(loss, config.label_smoothing)
    penalised = any(getattr(config, name) > 0 for name in PENALTIES)
    label_size = 0 if config.conditional == "none" else config.num_labels
    averages = config.ema_half_life_images > 0

    def adam(rate, steps):
        schedule = (
            optax.cosine_decay_schedule(rate, steps) if steps else optax.constant_schedule(rate)
        )
        return optax.adam(schedule, b1=config.adam_b1, b2=config.adam_b2, eps=1e-8)

    gen_tx = adam(config.learning_rate, config.decay_steps)
    disc_tx = adam(
        config.disc_learning_rate or config.learning_rate, config.decay_steps * config.disc_steps
    )

    one_hot = functools.partial(layers.one_hot_labels, size=label_size)

    def forward(name, params, stats, *inputs):
        """A network in training: what it gives, and the statistics that it saw."""
        return networks[name].apply(
            {"params": params, **stats}, *inputs, train=True, mutable=["batch_stats", "spectral"]
        )

    @jax.jit
    def init(key) -> State:
        gen_key, disc_key = jax.random.split(key)
        gen = networks["gen"].init(
            gen_key, jnp.zeros((1, config.latent_size)), one_hot(jnp.zeros(1, int), 1), train=False
        )
        disc = networks["disc"].init(
            disc_key, jnp.zeros((1, *config.shape)), one_hot(jnp.zeros(1, int), 1), train=False
        )
        params = {"gen": gen.pop("params"), "disc": disc.pop("params")}
        stats = {name: seen for name, seen in (("gen", gen), ("disc", disc)) if seen}
        opt = {"gen": gen_tx.init(params["gen"]), "disc": disc_tx.init(params["disc"])}
        return core.new_state(params, opt, stats, {"gen": params["gen"]} if averages else {})

    def penalties(disc, key, real, fake) -> Metrics:
        """By name, the weighted penalties of a discriminator, mean over the batch."""
        terms = {}
        if config.r1:
            terms["r1"] = config.r1 / 2 * losses.r1(disc, real)
        if config.r2:
            terms["r2"] = config.r2 / 2 * losses.r1(disc, fake)
        if config.gradient_penalty:
            terms["gradient_penalty"] = config.gradient_penalty * losses.gradient_penalty(
                disc, key, real, fake
            )
        if config.dragan:
            terms["dragan"] = config.dragan * losses.dragan(disc, key, real)
        return {f"penalty/{name}": jnp.mean(term) for name, term in terms.items()}

    def step(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        gen_stats = state.stats.get("gen", {})
        parts = jax.tree.map(
            lambda x: jnp.swapaxes(x.reshape(-1, config.disc_steps, *x.shape[1:]), 0, 1), batch
        )

        def disc_turn(carry, inputs):
            """One discriminator step on a batch of its own."""
            params, opt, stats = carry
            part, z, key = inputs
            real_key, fake_key, penalty_key, _ = jax.random.split(key, 4)
            labels = one_hot(part.get("labels"), part["images"].shape[0])
            fake, _ = forward("gen", state.params["gen"], gen_stats, z, labels)
            real, fake = seen(real_key, part["images"]), seen(fake_key, fake)

            def loss_fn(params):
                real_logits, real_stats = forward("disc", params, stats, real, labels)
                fake_logits, fake_stats = forward("disc", params, stats, fake, labels)
                objective = jnp.mean(losses.discriminator_loss(loss, real_logits, fake_logits))
                metrics = {
                    "loss/disc": objective,
                    "health/logit_gap": jnp.mean(real_logits) - jnp.mean(fake_logits),
                }
                if "penalty" in plan.due:
                    terms = penalties(
                        lambda x: forward("disc", params, stats, x, labels)[0],
                        penalty_key,
                        real,
                        fake,
                    )
                    objective += config.penalty_every * sum(terms.values())
                    metrics |= terms
                return objective, (
                    metrics,
                    jax.tree.map(lambda a, b: (a + b) / 2, real_stats, fake_stats),
                )

            params, opt, (metrics, new) = core.descend(disc_tx, loss_fn, params, opt)
            if config.clip:
                params = jax.tree.map(lambda p: jnp.clip(p, -config.clip, config.clip), params)
            return (params, opt, average_statistics(stats, new, 0.9)), metrics

        latents_key, key = jax.random.split(key)
        z = latents(latents_key, config.disc_steps * config.batch_size).reshape(
            config.disc_steps, config.batch_size, -1
        )
        keys = jax.random.split(key, config.disc_steps)
        carry = (state.params["disc"], state.opt["disc"], state.stats.get("disc", {}))
        if config.disc_steps == 1:
            carry, metrics = disc_turn(carry, jax.tree.map(lambda x: x[0], (parts, z, keys)))
        else:
            carry, metrics = jax.lax.scan(disc_turn, carry, (parts, z, keys))
            metrics = jax.tree.map(jnp.mean, metrics)
        disc_params, disc_opt, disc_stats = carry

        # The generator's turn is on the last turn's latents, the same array: XLA then runs the generator forward once for both.
        real, labels = (
            parts["images"][-1],
            one_hot(parts["labels"][-1] if "labels" in parts else None, config.batch_size),
        )
        real_key, _, _, fake_key = jax.random.split(keys[-1], 4)

        def loss_fn(params):
            fake, new = forward("gen", params, gen_stats, z[-1], labels)
            fake_logits, _ = forward("disc", disc_params, disc_stats, seen(fake_key, fake), labels)
            real_logits = (
                forward("disc", disc_params, disc_stats, seen(real_key, real), labels)[0]
                if loss.relative
                else None
            )
            objective = jnp.mean(losses.generator_loss(loss, fake_logits, real_logits))
            return objective, (objective, fake_logits, fake, new)

        gen_params, gen_opt, (objective, fake_logits, fake, new) = core.descend(
            gen_tx, loss_fn, state.params["gen"], state.opt["gen"]
        )
        metrics |= {
            "loss/gen": objective,
            "health/saturated": jnp.mean(jnp.float32(jnp.abs(fake_logits) > 5)),
            "health/diversity": diversity(fake) / (diversity(real) + 1e-8),
        }

        ema, decay = state.ema, 0.9
        if averages:
            decay = core.ramped_ema_decay(
                state.step, config.batch_size, config.ema_half_life_images, config.ema_ramp
            )
            ema = {"gen": core.ema(state.ema["gen"], gen_params, decay)}
        stats = {"gen": average_statistics(gen_stats, new, decay), "disc": disc_stats}
        return state.replace(
            step=state.step + 1,
            params={"gen": gen_params, "disc": disc_params},
            opt={"gen": gen_opt, "disc": disc_opt},
            stats={name: stats[name] for name in state.stats},
            ema=ema,
        ), metrics

    def latents(key, n):
        return jax.random.normal(key, (n, config.latent_size))

    def seen(key, images):
        """Images as the discriminator sees them."""
        return augment.diff_augment(key, images, config.augment) if config.augment else images

    def plan(step: int) -> Plan:
        due = ("penalty",) if penalised and step % config.penalty_every == 0 else ()
        return Plan(config.batch_size * config.disc_steps, config.shape[:2], due)

    # --- verbs ---

    def run(name, weights: Weights, inputs, labels):
        variables = {"params": weights["params"][name], **weights["stats"].get(name, {})}
        return networks[name].apply(
            variables, inputs, one_hot(labels, inputs.shape[0]), train=False
        )

    @jax.jit
    def generate(weights: Weights, latents, labels=None):
        return jnp.clip(run("gen", weights, latents, labels), -1, 1)

    @jax.jit
    def discriminate(weights: Weights, images, labels=None):
        return run("disc", weights, images, labels)

    @jax.jit(static_argnames="n")
    def sample(weights: Weights, key, n: int, labels=None, truncation=1.0):
        if labels is None and label_size:
            labels = jnp.arange(n) % label_size
        return generate(weights, truncation * latents(key, n), labels)

    @jax.jit(static_argnames="count")
    def interpolate(weights: Weights, first, second, count: int, labels=None):
        along = jnp.linspace(0.0, 1.0, count)
        return jax.vmap(
            lambda t: generate(weights, ops.slerp(first, second, t), labels), out_axes=1
        )(along)

    def preview(weights: Weights, key, batch: Batch):
        return {"samples": sample(weights, key, 64)}

    return GAN(config, init, step, plan, preview, sample, generate, discriminate, interpolate)


def average_statistics(old: dict, new: dict, decay) -> dict:
    """Batch norm's statistics on with the average of `decay`, everything else replaced."""
    return {
        name: core.ema(old[name], value, decay) if name == "batch_stats" else value
        for name, value in new.items()
    }


def diversity(images: Array) -> Array:
    """Standard deviation over the batch, mean over pixels."""
    rows = images.reshape(len(images), -1)
    mean = functools.partial(
        jnp.matmul, jnp.full((1, len(rows)), 1 / len(rows)), precision="highest"
    )  # 8 times as fast on a CPU
    return jnp.mean(jnp.sqrt(mean(jnp.square(rows - mean(rows)))))


# --- the plain GAN -------------------------------------------------------------------------------------------------------


def with_label(z: Array, labels: Array, config: Game, dtype) -> Array:
    """Latents and what a generator is told of the label: one-hot, or for a projection discriminator's partner a learned embedding."""
    if config.conditional == "projection":
        labels = nn.Dense(config.latent_size, use_bias=False, dtype=dtype, name="embed")(labels)
    return jnp.concatenate([z, labels.astype(z.dtype)], axis=-1)


class Generator(nn.Module):
    """Latents [batch, latent_size] and labels one-hot [batch, num_labels] -> images [batch, h, w, c]."""

    config: Config

    @nn.compact
    def __call__(self, z, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = layers.MLP(config.hidden, "relu", dtype, name="hidden")(
            with_label(z, labels, config, dtype)
        )
        height, width, channels = config.shape
        x = nn.Dense(height * width * channels, dtype=dtype, name="pixels")(x).astype(jnp.float32)
        return (jnp.tanh(x) if config.output == "tanh" else x).reshape(-1, height, width, channels)


class Discriminator(nn.Module):
    """Images [batch, h, w, c] and labels one-hot [batch, num_labels] -> logits [batch]."""

    config: Config

    @nn.compact
    def __call__(self, x, labels, train):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = x.reshape(x.shape[0], -1)
        if config.conditional == "concat":
            x = jnp.concatenate([x, labels], axis=-1)
        x = layers.MLP(config.hidden[::-1], "leaky_relu", dtype, name="hidden")(x)
        return layers.Logit(config.conditional == "projection", name="logit")(x, labels)


def check(config: Config) -> None:
    """Raise InputError, naming the option, on a Config that means nothing."""
    check_game(config)
    core.demand(config, all(size >= 1 for size in config.hidden), "hidden", "widths of at least 1")
    core.demand(config, config.output in ("tanh", "linear"), "output", "one of tanh, linear")


def recipe(config: Config) -> GAN:
    """The plain GAN of a Config, as pure functions over weights. Raises InputError on a Config that means nothing."""
    check(config)
    return two_player(config, Generator(config), Discriminator(config))
