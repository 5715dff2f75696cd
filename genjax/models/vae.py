"""The variational autoencoder: Kingma & Welling 2014 (arXiv 1312.6114), and its importance-weighted bound, Burda et al. 2016 (arXiv 1509.00519)."""

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
from genjax.nn import layers

LIKELIHOODS = ("bernoulli", "gaussian", "logistic")
BINARIZE = ("none", "static", "dynamic", "threshold")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    shape: tuple[int, int, int] = (
        28,
        28,
        1,
    )  # height, width, channels: train/vae.py takes it from the data
    num_labels: int = 0  # classes the data has: from the data as well
    conditional: bool = False  # give the label to encoder and decoder: p(x | label)
    network: str = "mlp"  # mlp | conv
    hidden: tuple[int, ...] = (
        200,
        200,
    )  # mlp: widths of the encoder's layers, the decoder's in reverse (Burda et al.)
    activation: str = "elu"  # relu | tanh | elu | gelu | silu | leaky_relu; of the mlp. Burda et al. have tanh; elu reaches a better likelihood sooner
    channels: tuple[int, ...] = (
        32,
        64,
        128,
    )  # conv: one stride-2 4x4 stage each; SiLU between them
    latent_size: int = 50  # dimensions of z (Burda et al.)
    likelihood: str = "bernoulli"  # bernoulli | gaussian | logistic (discretized over 256 levels, its scale learned)
    scale: float = 1.0  # gaussian: deviation, logistic: s (deviation / 1.81), in the [-1, 1] range; where learned, its start
    learn_scale: bool = False  # gaussian: learn one scale a channel (sigma-VAE)
    binarize: str = (
        "none"  # none | static | dynamic | threshold: what the Bernoulli sees of grey pixels
    )
    dequantize: bool = False  # gaussian: add uniform noise of one 8-bit step, so that its density bounds a likelihood
    beta: float = 1.0  # weight of the KL (Higgins et al. 2017)
    kl_warmup_steps: int = 0  # steps over which the KL's weight rises from 0 (Sonderby et al. 2016)
    free_bits: float = 0.0  # nats a latent below which the KL is free (Kingma et al. 2016)
    capacity: float = (
        0.0  # nats an image that |KL - C| draws the KL to (Burgess et al. 2018); 0: no such target
    )
    capacity_steps: int = 100_000  # steps over which C rises to `capacity`
    importance_samples: int = (
        1  # 1: the ELBO; more: the importance-weighted bound (Burda et al. 2016)
    )
    batch_size: int = 128  # images a step, over all devices
    accumulate: int = 1  # slices that a step's batch is cut into: the same gradient in less memory
    remat: bool = (
        False  # recompute the decoder in the backward pass (jax.checkpoint): less memory, more time
    )
    learning_rate: float = 1e-3  # Adam's, after Burda et al.'s first stage
    adam_eps: float = 1e-4  # Adam's epsilon (Burda et al., section 5)
    decay_steps: int = 0  # steps of a cosine decay of the learning rate to 0; 0: constant
    ema_half_life_images: float = (
        0.0  # images after which an old weight counts half in the average that is sampled; 0: none
    )
    dtype: str = (
        "float32"  # float32 | bfloat16, of the computation; parameters and losses are float32
    )


class VAE(NamedTuple):
    """What `recipe(config)` returns. Weights are `core.weights(state)` or `genjax.load(...)`'s; images float32 [n, h, w, c] in [-1, 1].

    A conditional model takes `labels`, int32 [n], wherever they are named; without them `sample` takes each class in turn. Verbs
    without a key that see images binarise them, where the model does, with a fixed one.
    """

    config: Config
    init: Callable  # (key) -> State
    step: Callable  # (state, batch, key, plan) -> (State, metrics)
    plan: Callable  # (step) -> Plan
    preview: Callable  # (weights, key, batch) -> {"samples": images, "reconstructions": originals and reconstructions in turn}
    sample: (
        Callable  # (weights, key, n, labels=None, temperature=1.0) -> images, the mean of p(x | z)
    )
    encode: Callable  # (weights, images, labels=None) -> (mean, log_variance) of q(z | x), [n, latent_size] each
    decode: Callable  # (weights, latents, labels=None) -> images, the mean of p(x | z)
    reconstruct: (
        Callable  # (weights, images, labels=None) -> images, decoded from the mean of q(z | x)
    )
    interpolate: Callable  # (weights, first, second, count, labels=None) -> [n, count, h, w, c], along the line between the means
    elbo: Callable  # (weights, key, images, labels=None, analytic_kl=True) -> [n] nats
    iw_log_likelihood: Callable  # (weights, key, images, k, labels=None, chunk=50) -> [n] nats
    bits_per_dim: Callable  # (weights, key, images, k=1, labels=None) -> [n]


# --- networks ------------------------------------------------------------------------------------------------------------


def _stage_sizes(config: Config) -> list[tuple[int, int]]:
    """(height, width) before each stride-2 stage and after the last: any size, halves rounded up."""
    sizes = [config.shape[:2]]
    for _ in config.channels:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


class Encoder(nn.Module):
    """Observations [batch, h, w, c] and labels one-hot [batch, num_labels] -> mean and log variance, [batch, latent_size] each."""

    config: Config

    @nn.compact
    def __call__(self, x, labels):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if config.network == "mlp":
            x = jnp.concatenate([x.reshape(x.shape[0], -1), labels], axis=-1)
            x = layers.MLP(config.hidden, config.activation, dtype, name="hidden")(x)
        else:
            x = layers.with_planes(x, labels)
            for i, channels in enumerate(config.channels):
                x = nn.silu(
                    layers.Conv(channels, kernel=4, stride=2, dtype=dtype, name=f"down_{i}")(x)
                )
            x = x.reshape(x.shape[0], -1)
        x = nn.Dense(2 * config.latent_size, dtype=jnp.float32, name="posterior")(x)
        return x[:, : config.latent_size], x[:, config.latent_size :]


class Decoder(nn.Module):
    """Latents [batch, latent_size] and labels one-hot -> the likelihood's parameters: logits or means [batch, h, w, c], log scales [c]."""

    config: Config

    @nn.compact
    def __call__(self, z, labels):
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        height, width, channels = config.shape
        x = jnp.concatenate([z, labels], axis=-1)
        if config.network == "mlp":
            x = layers.MLP(config.hidden[::-1], config.activation, dtype, name="hidden")(x)
            x = nn.Dense(height * width * channels, dtype=jnp.float32, name="pixels")(x).reshape(
                -1, height, width, channels
            )
        else:
            *sizes, smallest = _stage_sizes(config)
            widths = (channels, *config.channels)
            x = nn.silu(
                nn.Dense(smallest[0] * smallest[1] * widths[-1], dtype=dtype, name="smallest")(x)
            )
            x = x.reshape(-1, *smallest, widths[-1])
            for i in reversed(range(len(sizes))):
                parts = {
                    "dtype": dtype if i > 0 else jnp.float32,
                    "name": f"up_{i}",
                }  # what the likelihood sees is float32
                x = layers.Conv(widths[i], kernel=4, stride="up", size=sizes[i], **parts)(x)
                x = nn.silu(x) if i > 0 else x
        log_scale = jnp.full((channels,), jnp.log(config.scale), jnp.float32)
        if config.likelihood == "logistic" or config.learn_scale:
            log_scale = self.param("log_scale", lambda _: log_scale)
            # Below half an 8-bit step a density only memorises rounding, and overflows. The floor leaks, so that there is a way back up.
            log_scale = nn.leaky_relu(log_scale + 6, 0.01) - 6
        return x, log_scale


# --- the recipe ----------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raise InputError, naming the option, on a Config that means nothing."""
    core.check_numbers(config)
    demand = functools.partial(core.demand, config)
    for field, known in [
        ("network", ("mlp", "conv")),
        ("likelihood", LIKELIHOODS),
        ("binarize", BINARIZE),
    ]:
        demand(getattr(config, field) in known, field, f"one of {', '.join(known)}")
    demand(config.dtype in ("float32", "bfloat16"), "dtype", "one of float32, bfloat16")
    demand(
        config.activation in layers.ACTIVATIONS,
        "activation",
        f"one of {', '.join(layers.ACTIVATIONS)}",
    )
    for field in ("latent_size", "importance_samples", "batch_size", "accumulate"):
        demand(getattr(config, field) >= 1, field, "at least 1")
    for field in (
        "beta",
        "free_bits",
        "capacity",
        "kl_warmup_steps",
        "decay_steps",
        "ema_half_life_images",
    ):
        demand(getattr(config, field) >= 0, field, "0 or more")
    for field in ("hidden", "channels"):
        demand(all(size >= 1 for size in getattr(config, field)), field, "widths of at least 1")
    demand(
        config.scale > 0 and config.learning_rate > 0,
        "scale" if config.scale <= 0 else "learning_rate",
        "more than 0",
    )
    demand(
        config.batch_size % config.accumulate == 0,
        "accumulate",
        f"must divide the batch of {config.batch_size}",
    )
    demand(
        not config.conditional or config.num_labels > 0,
        "conditional",
        "needs data with labels (class folders, or a labels array)",
    )
    demand(
        config.binarize == "none" or config.likelihood == "bernoulli",
        "binarize",
        "only with --model.likelihood bernoulli",
    )
    demand(
        not config.dequantize or config.likelihood == "gaussian",
        "dequantize",
        "only with --model.likelihood gaussian",
    )
    demand(
        not config.learn_scale or config.likelihood == "gaussian",
        "learn_scale",
        "only with --model.likelihood gaussian",
    )
    plain = config.beta == 1 and not (config.kl_warmup_steps or config.free_bits or config.capacity)
    demand(
        config.importance_samples == 1 or plain,
        "importance_samples",
        "has no KL to weigh: leave beta, warm-up, free bits and capacity alone",
    )
    demand(not (config.free_bits and config.capacity), "capacity", "or --model.free-bits, not both")
    demand(
        not config.free_bits or config.accumulate == 1,
        "accumulate",
        "not with --model.free-bits, whose floor is of the whole batch's mean",
    )


def recipe(config: Config) -> VAE:
    """The VAE of a Config, as pure functions over weights. Raises InputError on a Config that means nothing."""
    check(config)
    encoder, decoder = (
        cast(Any, Encoder(config)),
        cast(Any, Decoder(config)),
    )  # linen's `apply` has no useful type
    height, width, channels = config.shape
    bernoulli = config.likelihood == "bernoulli"
    # A schedule in either case: the optimizer's state is of one structure, and a run can be forked from one rate to the other.
    decay = (
        optax.cosine_decay_schedule(config.learning_rate, config.decay_steps)
        if config.decay_steps
        else None
    )
    rate = decay or optax.constant_schedule(config.learning_rate)
    tx = optax.adam(rate, eps=config.adam_eps)
    average = core.ema_decay(config.batch_size, config.ema_half_life_images)
    bound = "elbo" if config.importance_samples == 1 else f"iw{config.importance_samples}_bound"
    # A Bernoulli's "likelihood" of grey pixels is none: its sum is named a loss, and never a bound in nats.
    is_likelihood = (
        config.binarize != "none"
        if bernoulli
        else config.likelihood == "logistic" or config.dequantize
    )
    bound_name = (
        f"nats/negative_{bound}" + (f"_{config.binarize}" if bernoulli else "")
        if is_likelihood
        else f"loss/negative_{bound}"
    )

    one_hot = functools.partial(
        layers.one_hot_labels, size=config.num_labels if config.conditional else 0
    )

    def observe(key, images):
        """What the likelihood is of: [-1, 1] images, or for the Bernoulli [0, 1] ones, binarised as configured."""
        if config.dequantize:
            return images + jax.random.uniform(key, images.shape, minval=-1.0, maxval=1.0) / 255
        if not bernoulli:
            return images
        grey = (images + 1) / 2
        match config.binarize:
            case "threshold":
                return jnp.float32(grey > 0.5)
            case "dynamic":  # drawn anew each time: Burda et al., section 5
                return jnp.float32(jax.random.uniform(key, images.shape) < grey)
            case "static":  # drawn once an image: the key is a hash of its pixels
                return jax.vmap(_static_binarize)(grey)
        return grey

    def log_likelihood(outputs, x):
        """log p(x | z) of x [n, h, w, c] under the decoder's outputs for [m * n] latents -> [m, n] nats, summed over pixels.

        All pixels are on one axis: XLA's sum over several of them takes up to 20 times as long on a CPU.
        """
        values, log_scale = outputs
        values = values.reshape(-1, x.shape[0], height * width * channels)
        x = jnp.broadcast_to(x.reshape(1, *values.shape[1:]), values.shape)
        if bernoulli:
            return jnp.sum(losses.bernoulli(values, x), axis=-1)
        log_scale = jnp.broadcast_to(jnp.tile(log_scale, height * width)[None, None], values.shape)
        log_p = losses.gaussian if config.likelihood == "gaussian" else losses.discretized_logistic
        return jnp.sum(log_p(values, log_scale, x), axis=-1)

    def log_weights(params, x, labels, noise):
        """log p(x, z) / q(z | x) for noise [n, k, latent_size] -> [k, n], and the analytic KL [n, latent_size] and log p(x | z) [k, n]."""
        mean, log_variance = encoder.apply({"params": params["enc"]}, x, labels)
        noise = jnp.swapaxes(noise, 0, 1)
        z = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
        k = z.shape[0]

        def decode_flat(params, z, labels):
            return decoder.apply(
                {"params": params}, z.reshape(-1, config.latent_size), jnp.tile(labels, (k, 1))
            )

        outputs = (jax.checkpoint(decode_flat) if config.remat else decode_flat)(
            params["dec"], z, labels
        )
        log_p = log_likelihood(outputs, x)
        log_q = losses.standard_normal(noise) - 0.5 * log_variance[None]
        log_ratio = jnp.sum(losses.standard_normal(z) - log_q, axis=-1)
        return log_p + log_ratio, losses.kl_standard_normal(mean, log_variance), log_p

    @jax.jit
    def init(key) -> State:
        keys = jax.random.split(key)
        labels = jnp.zeros((1, config.num_labels if config.conditional else 0))
        enc = encoder.init(keys[0], jnp.zeros((1, *config.shape)), labels)["params"]
        dec = decoder.init(keys[1], jnp.zeros((1, config.latent_size)), labels)["params"]
        params = {"enc": enc, "dec": dec}
        return core.new_state(params, {"vae": tx.init(params)}, ema=params if average else None)

    def step(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        observe_key, noise_key = jax.random.split(key)
        x = observe(observe_key, batch["images"])
        labels = one_hot(batch.get("labels"), x.shape[0])
        noise = jax.random.normal(
            noise_key, (x.shape[0], config.importance_samples, config.latent_size)
        )

        def loss_fn(params, x, labels, noise):
            log_w, kl, log_p = log_weights(params, x, labels, noise)
            kl_image, reconstruction = jnp.sum(kl, axis=-1), -jnp.mean(log_p)
            if config.importance_samples > 1:
                value = objective = -jnp.mean(losses.importance_weighted_bound(log_w))
            else:
                value = jnp.mean(losses.negative_elbo(log_p[0], kl_image))
                beta = config.beta * losses.warmup(state.step, config.kl_warmup_steps)
                if config.capacity > 0:
                    target = config.capacity * losses.warmup(state.step, config.capacity_steps)
                    objective = reconstruction + beta * jnp.mean(losses.capacity(kl_image, target))
                elif config.free_bits > 0:
                    objective = reconstruction + beta * jnp.sum(
                        losses.free_bits(kl, config.free_bits)
                    )
                else:
                    objective = jnp.mean(losses.negative_elbo(log_p[0], kl_image, beta))
            metrics = {
                "loss/objective": objective,
                "loss/reconstruction": reconstruction,
                "loss/kl": jnp.mean(kl_image),
                bound_name: value,
            }
            return objective, metrics

        params, opt, metrics = core.descend(
            tx,
            loss_fn,
            state.params,
            state.opt["vae"],
            (x, labels, noise),
            accumulate=config.accumulate,
        )
        ema = core.ema(state.ema, params, average) if average else state.ema
        return state.replace(step=state.step + 1, params=params, opt={"vae": opt}, ema=ema), metrics

    def plan(step: int) -> Plan:
        return Plan(config.batch_size, (height, width))

    # --- verbs ---

    @jax.jit
    def encode(weights: Weights, images, labels=None):
        return encoder.apply(
            {"params": weights["params"]["enc"]},
            observe(jax.random.key(0), images),
            one_hot(labels, images.shape[0]),
        )

    @jax.jit
    def decode(weights: Weights, latents, labels=None):
        values, _ = decoder.apply(
            {"params": weights["params"]["dec"]}, latents, one_hot(labels, latents.shape[0])
        )
        return 2 * jax.nn.sigmoid(values) - 1 if bernoulli else jnp.clip(values, -1, 1)

    @jax.jit(static_argnames="n")
    def sample(weights: Weights, key, n: int, labels=None, temperature=1.0):
        if labels is None and config.conditional:
            labels = jnp.arange(n) % config.num_labels
        return decode(
            weights, temperature * jax.random.normal(key, (n, config.latent_size)), labels
        )

    @jax.jit
    def reconstruct(weights: Weights, images, labels=None):
        return decode(weights, encode(weights, images, labels)[0], labels)

    @jax.jit(static_argnames="count")
    def interpolate(weights: Weights, first, second, count: int, labels=None):
        a, b = encode(weights, first, labels)[0], encode(weights, second, labels)[0]
        along = jnp.linspace(0.0, 1.0, count)
        return jax.vmap(lambda t: decode(weights, (1 - t) * a + t * b, labels), out_axes=1)(along)

    @jax.jit(static_argnames="analytic_kl")
    def elbo(weights: Weights, key, images, labels=None, analytic_kl=True):
        observe_key, noise_key = jax.random.split(key)
        x = observe(observe_key, images)
        with jax.default_matmul_precision("float32"):
            noise = _noise(noise_key, jnp.arange(1), x.shape[0], config.latent_size)
            log_w, kl, log_p = log_weights(weights["params"], x, one_hot(labels, x.shape[0]), noise)
        return log_p[0] - jnp.sum(kl, axis=-1) if analytic_kl else log_w[0]

    @jax.jit(static_argnames=("k", "chunk"))
    def iw_log_likelihood(weights: Weights, key, images, k: int, labels=None, chunk: int = 50):
        if not is_likelihood:
            raise ValueError(
                f"a {config.likelihood} likelihood with binarize={config.binarize!r}, dequantize={config.dequantize} is no probability of the "
                "data: train with binarize='dynamic', 'static' or 'threshold', with likelihood='logistic', or with dequantize=True"
            )
        observe_key, noise_key = jax.random.split(key)
        x = observe(observe_key, images)
        labels, chunk = one_hot(labels, x.shape[0]), min(chunk, k)

        def add(total, first):
            samples = first + jnp.arange(chunk)
            log_w, _, _ = log_weights(
                weights["params"],
                x,
                labels,
                _noise(noise_key, samples, x.shape[0], config.latent_size),
            )
            log_w = jnp.where((samples < k)[:, None], log_w, -jnp.inf)
            return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0)), None

        with jax.default_matmul_precision("float32"):
            total, _ = jax.lax.scan(add, jnp.full(x.shape[0], -jnp.inf), jnp.arange(0, k, chunk))
        return total - jnp.log(jnp.float32(k))

    @jax.jit(static_argnames="k")
    def bits_per_dim(weights: Weights, key, images, k: int = 1, labels=None):
        bits = -iw_log_likelihood(weights, key, images, k, labels) / (
            height * width * channels * jnp.log(2.0)
        )
        # A density over [-1, 1] is one over 256 levels, each 2 / 255 wide, times that width.
        return bits + jnp.log2(255 / 2) if config.dequantize else bits

    def preview(weights: Weights, key, batch: Batch):
        images = batch["images"][:32]
        labels = batch["labels"][:32] if config.conditional else None
        pairs = jnp.stack([images, reconstruct(weights, images, labels)], axis=1)
        return {
            "samples": sample(weights, key, 64),
            "reconstructions": pairs.reshape(-1, *config.shape),
        }

    return VAE(
        config,
        init,
        step,
        plan,
        preview,
        sample,
        encode,
        decode,
        reconstruct,
        interpolate,
        elbo,
        iw_log_likelihood,
        bits_per_dim,
    )


def _static_binarize(grey: Array) -> Array:
    """One draw of a grey image [h, w, c] in [0, 1], keyed by its own pixels: the same image always gives the same bits."""
    levels = jnp.round(grey * 255).astype(jnp.uint32).ravel()
    places = jnp.arange(1, levels.size + 1, dtype=jnp.uint32) * jnp.uint32(2654435761)
    key = jax.random.fold_in(
        jax.random.key(0), jnp.sum(levels * (places ^ (places >> 15)), dtype=jnp.uint32)
    )
    return jnp.float32(jax.random.uniform(key, grey.shape) < grey)


def _noise(key: Array, samples: Array, n: int, latent_size: int) -> Array:
    """Standard normal [n, samples, latent_size]: that of a sample's index does not depend on which others are drawn with it."""
    draw = jax.vmap(
        lambda index: jax.random.normal(jax.random.fold_in(key, index), (n, latent_size))
    )
    return jnp.swapaxes(draw(samples), 0, 1)
