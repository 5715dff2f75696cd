"""Training of the VAE: the bounds, the optimizer, one step."""

import functools
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, State
from genjax.models.labels import one_hot
from genjax.models.vae.config import Config
from genjax.models.vae.networks import Decoder, Encoder


def optimizer(config: Config) -> optax.GradientTransformation:
    """Return Adam with the Config's schedule.

    The rate is a schedule in either case, so that the optimizer's state has one
    structure and a run can be forked from one to the other."""
    rate = optax.constant_schedule(config.learning_rate)
    if config.decay_steps:
        rate = optax.cosine_decay_schedule(config.learning_rate, config.decay_steps)
    return optax.adam(rate, eps=config.adam_eps)


def is_likelihood(config: Config) -> bool:
    """Return whether p(x | z) is a probability of 8-bit images.

    A Bernoulli over grey pixels is not: its bound is logged as a loss, not in nats.
    """
    if config.likelihood == "bernoulli":
        return config.binarize != "none"
    return config.likelihood == "logistic" or config.dequantize


def bound_name(config: Config) -> str:
    """Return the name of the logged bound, such as nats/negative_elbo_dynamic."""
    samples = config.importance_samples
    bound = "negative_elbo" if samples == 1 else f"negative_iw{samples}_bound"
    if not is_likelihood(config):
        return f"loss/{bound}"
    return f"nats/{bound}" + (f"_{config.binarize}" if config.likelihood == "bernoulli" else "")


def observe(config: Config, key: Array, images: Array) -> Array:
    """Return the observation x under p(x | z), of images [n, h, w, c] in [-1, 1].

    The images themselves, or for a Bernoulli their values in [0, 1], binarised as
    configured."""
    if config.dequantize:
        return images + jax.random.uniform(key, images.shape, minval=-1.0, maxval=1.0) / 255
    if config.likelihood != "bernoulli":
        return images
    grey = (images + 1) / 2
    match config.binarize:
        case "threshold":
            return jnp.float32(grey > 0.5)
        case "dynamic":  # sampled anew each time: Burda et al., section 5
            return jnp.float32(jax.random.uniform(key, images.shape) < grey)
        case "static":  # sampled once per image: the key is a hash of its pixels
            return jax.vmap(_static_binarize)(grey)
    return grey


def _static_binarize(grey: Array) -> Array:
    """Sample a binary image from [h, w, c] in [0, 1], keyed by its pixels: always the
    same bits.
    """
    levels = jnp.round(grey * 255).astype(jnp.uint32).ravel()
    places = jnp.arange(1, levels.size + 1, dtype=jnp.uint32) * jnp.uint32(2654435761)
    digest = jnp.sum(levels * (places ^ (places >> 15)), dtype=jnp.uint32)
    key = jax.random.fold_in(jax.random.key(0), digest)
    return jnp.float32(jax.random.uniform(key, grey.shape) < grey)


def log_likelihood(config: Config, outputs: tuple[Array, Array], x: Array) -> Array:
    """Return log p(x | z) [k, n] in nats of x [n, h, w, c], summed over pixels.

    `outputs` are the decoder's for k * n latents. All pixels are on one axis: a sum
    over several axes takes XLA up to 20 times as long on a CPU."""
    values, log_scale = outputs
    height, width, channels = config.shape
    values = values.reshape(-1, x.shape[0], height * width * channels)
    x = jnp.broadcast_to(x.reshape(1, *values.shape[1:]), values.shape)
    if config.likelihood == "bernoulli":
        return jnp.sum(losses.bernoulli(values, x), axis=-1)
    log_scale = jnp.tile(log_scale, height * width)[None, None]
    log_scale = jnp.broadcast_to(log_scale, values.shape)
    gaussian = config.likelihood == "gaussian"
    log_p = losses.gaussian if gaussian else losses.discretized_logistic
    return jnp.sum(log_p(values, log_scale, x), axis=-1)


def log_weights(
    config: Config, params: Mapping[str, Any], x: Array, labels: Array, noise: Array
) -> tuple[Array, Array, Array]:
    """Return log p(x, z) / q(z | x) [k, n], the KL [n, z_dim] and log p(x | z) [k, n],
    in nats.

    `noise`, standard normal [n, k, z_dim], makes the k latents of each image.
    """
    encoder, decoder = networks(config)
    mean, log_variance = encoder.apply({"params": params["enc"]}, x, labels)
    noise = jnp.swapaxes(noise, 0, 1)
    z = mean[None] + jnp.exp(0.5 * log_variance)[None] * noise
    k = z.shape[0]

    def decode_flat(params, z, labels):
        z, labels = z.reshape(-1, config.z_dim), jnp.tile(labels, (k, 1))
        return decoder.apply({"params": params}, z, labels)

    decode_flat = jax.checkpoint(decode_flat) if config.remat else decode_flat
    log_p = log_likelihood(config, decode_flat(params["dec"], z, labels), x)
    log_q = losses.standard_normal(noise) - 0.5 * log_variance[None]
    log_ratio = jnp.sum(losses.standard_normal(z) - log_q, axis=-1)
    return log_p + log_ratio, losses.kl_standard_normal(mean, log_variance), log_p


def networks(config: Config) -> tuple[Any, Any]:
    """Return encoder and decoder; linen's `apply` has no useful type."""
    return cast(Any, Encoder(config)), cast(Any, Decoder(config))


@functools.partial(jax.jit, static_argnames="config")
def init(config: Config, key: Array) -> State:
    """Return the State at step 0, its parameters drawn with `key`."""
    encoder, decoder = networks(config)
    keys, labels = jax.random.split(key), one_hot(config, jnp.zeros(1, int), 1)
    enc = encoder.init(keys[0], jnp.zeros((1, *config.shape)), labels)["params"]
    dec = decoder.init(keys[1], jnp.zeros((1, config.z_dim)), labels)["params"]
    params = {"enc": enc, "dec": dec}
    averages = config.ema_half_life_images > 0
    opt = {"vae": optimizer(config).init(params)}
    return core.new_state(params, opt, ema=params if averages else None)


def step(
    config: Config, state: State, batch: Batch, key: Array, plan: Plan
) -> tuple[State, Metrics]:
    """Take one optimizer step on the bound; return the State and the metrics of the
    step.

    Metrics, in nats per image: loss/objective (what is minimised), loss/reconstruction,
    loss/kl, and the bound by `bound_name`.
    """
    observe_key, noise_key = jax.random.split(key)
    x = observe(config, observe_key, batch["images"])
    n, k = x.shape[0], config.importance_samples
    labels = one_hot(config, batch.get("labels"), n)
    noise = jax.random.normal(noise_key, (n, k, config.z_dim))

    def loss_fn(params, x, labels, noise):
        log_w, kl, log_p = log_weights(config, params, x, labels, noise)
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
                objective = reconstruction + beta * jnp.sum(losses.free_bits(kl, config.free_bits))
            else:
                objective = jnp.mean(losses.negative_elbo(log_p[0], kl_image, beta))
        metrics = {
            "loss/objective": objective,
            "loss/reconstruction": reconstruction,
            "loss/kl": jnp.mean(kl_image),
            bound_name(config): value,
        }
        return objective, metrics

    tensors = (x, labels, noise)
    params, opt, metrics = core.descend(
        optimizer(config),
        loss_fn,
        state.params,
        state.opt["vae"],
        tensors,
        accumulate=config.accumulate,
    )
    average = core.ema_decay(config.batch_size, config.ema_half_life_images)
    ema = core.ema(state.ema, params, average) if average else state.ema
    return state.replace(step=state.step + 1, params=params, opt={"vae": opt}, ema=ema), metrics


def plan(config: Config, step: int) -> Plan:
    """Return the Plan of a step: always the same."""
    return Plan(config.batch_size, config.shape[:2])
