"""What a trained VAE does: pure functions over weights, compiled, differentiable."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from genjax.core import Array, Batch, Weights
from genjax.models.labels import num_classes, one_hot
from genjax.models.vae.config import Config
from genjax.models.vae.step import is_likelihood, log_weights, networks, observe


@functools.partial(jax.jit, static_argnames="config")
def encode(
    config: Config, weights: Weights, images: Array, labels: Array | None = None
) -> tuple[Array, Array]:
    """Encode images: mean and log variance of q(z | x), float32 [n, z_dim] each.

    images: float32 [n, h, w, c] in [-1, 1], binarised, where the model does, with a
        fixed key
    labels: int32 [n], of a conditional model
    """
    x = observe(config, jax.random.key(0), images)
    encoder, _ = networks(config)
    n = images.shape[0]
    return encoder.apply({"params": weights["params"]["enc"]}, x, one_hot(config, labels, n))


@functools.partial(jax.jit, static_argnames="config")
def decode(config: Config, weights: Weights, latents: Array, labels: Array | None = None) -> Array:
    """Decode latents [n, z_dim]: the mean of p(x | z), images float32 [n, h, w, c] in
    [-1, 1].

    labels: int32 [n], of a conditional model
    """
    _, decoder = networks(config)
    n = latents.shape[0]
    values, _ = decoder.apply(
        {"params": weights["params"]["dec"]}, latents, one_hot(config, labels, n)
    )
    if config.likelihood == "bernoulli":
        return 2 * jax.nn.sigmoid(values) - 1
    return jnp.clip(values, -1, 1)


def draw(
    config: Config, weights: Weights, latents: Array, labels: Array | None, truncation: Any
) -> Array:
    """Decode latents, as `core.Sampler` asks; a VAE has no truncation."""
    return decode(config, weights, latents, labels)


@functools.partial(jax.jit, static_argnames=("config", "n"))
def sample(
    config: Config,
    weights: Weights,
    key: Array,
    n: int,
    labels: Array | None = None,
    temperature: float | Array = 1.0,
) -> Array:
    """Sample n images, float32 [n, h, w, c] in [-1, 1]: the mean of p(x | z) for random
    z.

    labels: int32 [n] of a conditional model; None takes each class in turn
    temperature: standard deviation of z
    """
    if labels is None and (classes := num_classes(config)):
        labels = jnp.arange(n) % classes
    latents = jax.random.normal(key, (n, config.z_dim))
    return decode(config, weights, temperature * latents, labels)


@functools.partial(jax.jit, static_argnames="config")
def reconstruct(
    config: Config, weights: Weights, images: Array, labels: Array | None = None
) -> Array:
    """Decode the mean of q(z | x) of images [n, h, w, c] in [-1, 1]; the same shape and
    range.
    """
    return decode(config, weights, encode(config, weights, images, labels)[0], labels)


@functools.partial(jax.jit, static_argnames=("config", "count"))
def interpolate(
    config: Config,
    weights: Weights,
    first: Array,
    second: Array,
    count: int,
    labels: Array | None = None,
) -> Array:
    """Decode `count` points on the line between the encodings of two images.

    first, second: images [n, h, w, c] in [-1, 1]; the result is [n, count, h, w, c],
    with the reconstructions of the two at its ends."""
    a, b = (encode(config, weights, images, labels)[0] for images in (first, second))
    along = jnp.linspace(0.0, 1.0, count)
    point = lambda t: decode(config, weights, (1 - t) * a + t * b, labels)
    return jax.vmap(point, out_axes=1)(along)


@functools.partial(jax.jit, static_argnames=("config", "analytic_kl"))
def elbo(
    config: Config,
    weights: Weights,
    key: Array,
    images: Array,
    labels: Array | None = None,
    analytic_kl: bool = True,
) -> Array:
    """Return the evidence lower bound of images [n, h, w, c], float32 [n] in nats per
    image.

    One latent per image; `analytic_kl=False` estimates the KL term from it too.
    """
    observe_key, noise_key = jax.random.split(key)
    x = observe(config, observe_key, images)
    n = x.shape[0]
    with jax.default_matmul_precision("float32"):
        noise = _noise(noise_key, jnp.arange(1), n, config.z_dim)
        labels = one_hot(config, labels, n)
        log_w, kl, log_p = log_weights(config, weights["params"], x, labels, noise)
    return log_p[0] - jnp.sum(kl, axis=-1) if analytic_kl else log_w[0]


@functools.partial(jax.jit, static_argnames=("config", "k", "chunk"))
def iw_log_likelihood(
    config: Config,
    weights: Weights,
    key: Array,
    images: Array,
    k: int,
    labels: Array | None = None,
    chunk: int = 50,
) -> Array:
    """Estimate log p(x) of images [n, h, w, c] with k importance samples, [n] nats per
    image.

    Burda et al. 2016, equation 8: a lower bound in expectation that tightens with k.
    `chunk` samples are decoded at a time; the result does not depend on it.

    Raises ValueError where p(x | z) is not a probability of the data (`is_likelihood`).
    """
    if not is_likelihood(config):
        raise ValueError(
            f"likelihood={config.likelihood!r} with binarize={config.binarize!r}, "
            f"dequantize={config.dequantize} is not a probability of the data: train with "
            "binarize='dynamic', 'static' or 'threshold', with likelihood='logistic', or with "
            "dequantize=True"
        )
    observe_key, noise_key = jax.random.split(key)
    x = observe(config, observe_key, images)
    n = x.shape[0]
    labels, chunk = one_hot(config, labels, n), min(chunk, k)

    def add(total, first):
        samples = first + jnp.arange(chunk)
        noise = _noise(noise_key, samples, n, config.z_dim)
        log_w, _, _ = log_weights(config, weights["params"], x, labels, noise)
        log_w = jnp.where((samples < k)[:, None], log_w, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0)), None

    with jax.default_matmul_precision("float32"):
        total, _ = jax.lax.scan(add, jnp.full(n, -jnp.inf), jnp.arange(0, k, chunk))
    return total - jnp.log(jnp.float32(k))


@functools.partial(jax.jit, static_argnames=("config", "k"))
def bits_per_dim(
    config: Config,
    weights: Weights,
    key: Array,
    images: Array,
    k: int = 1,
    labels: Array | None = None,
) -> Array:
    """Return -log2 p(x) per pixel and channel of images [n, h, w, c], [n], by k
    samples.

    Raises ValueError as `iw_log_likelihood` does.
    """
    height, width, channels = config.shape
    nats = iw_log_likelihood(config, weights, key, images, k, labels)
    bits = -nats / (height * width * channels * jnp.log(2.0))
    # A density over [-1, 1] is one over 256 levels, each 2 / 255 wide, times that
    # width.
    return bits + jnp.log2(255 / 2) if config.dequantize else bits


def _noise(key: Array, samples: Array, n: int, z_dim: int) -> Array:
    """Standard normal [n, k, z_dim]; a sample's noise depends on its index only."""
    draw = lambda index: jax.random.normal(jax.random.fold_in(key, index), (n, z_dim))
    return jnp.swapaxes(jax.vmap(draw)(samples), 0, 1)


def preview(config: Config, weights: Weights, key: Array, batch: Batch) -> dict[str, Array]:
    """Return 64 samples, and up to 32 images of the batch, each followed by its
    reconstruction.
    """
    images = batch["images"][:32]
    labels = batch["labels"][:32] if config.conditional != "none" else None
    pairs = jnp.stack([images, reconstruct(config, weights, images, labels)], axis=1)
    return {
        "samples": sample(config, weights, key, 64),
        "reconstructions": pairs.reshape(-1, *config.shape),
    }
