"""Losses as pure functions of arrays.

No function here reduces over the batch (except `free_bits`, which is defined on the
batch mean), and none sees a network. Likelihoods return log p(x | parameters) per
dimension and divergences are per latent, both in nats; adversarial losses return one
value per logit. The caller sums over pixels and latents (`per_image`), then averages
over the batch.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid

from genjax.shapes import AnyArray, Array, Float


@jax.custom_jvp
def softplus(x: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + e^x) without overflow, elementwise.

    Equals `jax.nn.softplus`, in a form that XLA vectorises on a CPU (8 times as fast
    there).
    """
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


# Autodiff of this form is wrong at 0; these derivatives are exact to every order.
softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


# --- likelihoods: log p(x), nats per dimension ----------------------------------------


def per_image(values: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Sum over all axes but the first: one value per image."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def bernoulli(logits: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Bernoulli log-likelihood, nats per dimension: x log s(l) + (1 - x) log(1 - s(l)).

    Computed as x l - softplus(l), for x in [0, 1]; a likelihood only where x is 0 or 1.
    Kingma & Welling 2014 (arXiv 1312.6114), appendix C.1, equation 11.
    """
    return x * logits - softplus(logits)


def gaussian(
    mean: Float[Array, "*shape"], log_scale: Float[Array, "..."], x: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Gaussian log-likelihood log N(x; mean, scale^2) per dimension, in nats.

    `log_scale` broadcasts to `mean`. At a fixed scale this is -(x - mean)^2 / (2
    scale^2) plus a constant. Kingma & Welling 2014, appendix C.2; a learned shared
    scale is the sigma-VAE of Rybkin et al. 2021 (arXiv 2006.13202), equation 4.
    """
    log_scale = jnp.broadcast_to(log_scale, jnp.shape(mean))
    return (
        -0.5 * jnp.square((x - mean) * jnp.exp(-log_scale)) - log_scale - 0.5 * jnp.log(2 * jnp.pi)
    )


def discretized_logistic(
    mean: Float[Array, "*shape"],
    log_scale: Float[Array, "..."],
    x: Float[Array, "*shape"],
    levels: int = 256,
) -> Float[Array, "*shape"]:
    """Log-probability of x's bin under a logistic distribution, per dimension, in nats.

    x takes `levels` evenly spaced values in [-1, 1]; the first and last bins extend to
    infinity. `log_scale` broadcasts to `mean`. Kingma et al. 2016 (arXiv 1606.04934),
    appendix A; Salimans et al. 2017 (arXiv 1701.05517), equation 2.

    With a < b the ends of the bin in units of the scale, s(b) - s(a) = s(b) s(-a) (1 -
    e^(a-b)): a sum of logs that neither cancels nor overflows.
    """
    half = 1.0 / (levels - 1)
    inverse_scale = jnp.broadcast_to(jnp.exp(-log_scale), jnp.shape(mean))
    upper = (x - mean + half) * inverse_scale
    lower = (x - mean - half) * inverse_scale
    # log P(X < upper end), log P(X > lower end)
    below, above = log_sigmoid(upper), log_sigmoid(-lower)
    inside = below + above + jnp.log(-jnp.expm1(-2 * half * inverse_scale))
    return jnp.where(x < -1 + half, below, jnp.where(x > 1 - half, above, inside))


def standard_normal(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log N(z; 0, 1) per latent, in nats."""
    return -0.5 * (jnp.square(z) + jnp.log(2 * jnp.pi))


# --- divergences and bounds -----------------------------------------------------------


def kl_standard_normal(
    mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """KL(N(mean, variance) || N(0, 1)) per latent, in nats, >= 0.

    Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (jnp.square(mean) + (jnp.expm1(log_variance) - log_variance))


def free_bits(kl: Float[Array, "batch latents"], nats: float) -> Float[Array, " latents"]:
    """Batch-mean KL per latent, at least `nats`: a latent below that gets no gradient.

    Kingma et al. 2016, equation 15.
    """
    return jnp.maximum(jnp.mean(kl, axis=0), nats)


def capacity(kl: Float[Array, " batch"], nats: Float[Array, ""] | float) -> Float[Array, " batch"]:
    """|KL - C| per image: pulls the KL toward a capacity C, which training raises.

    Burgess et al. 2018 (arXiv 1804.03599), equation 8.
    """
    return jnp.abs(kl - nats)


def warmup(step: Array, steps: int) -> Float[Array, ""]:
    """Linear ramp from 0 to 1 over `steps` steps, then 1; always 1 if `steps` is 0.

    Sonderby et al. 2016 (arXiv 1602.02282), section 2.3.
    """
    return (
        jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0) if steps > 0 else jnp.float32(1.0)
    )


def negative_elbo(
    log_likelihood: Float[Array, " batch"],
    kl: Float[Array, " batch"],
    beta: Float[Array, ""] | float = 1.0,
) -> Float[Array, " batch"]:
    """-(log p(x|z) - beta KL) per image, in nats.

    Kingma & Welling 2014, equation 10; beta: Higgins et al. 2017, equation 4.
    """
    return beta * kl - log_likelihood


def importance_weighted_bound(log_weights: Float[Array, "samples batch"]) -> Float[Array, " batch"]:
    """log mean_k p(x, z_k) / q(z_k | x) per image, in nats, from the log weights.

    The ELBO at k = 1; approaches log p(x) as k grows. Burda et al. 2016 (arXiv
    1509.00519), equation 8.
    """
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(jnp.float32(log_weights.shape[0]))


# --- adversarial losses ---------------------------------------------------------------


class Adversarial(NamedTuple):
    """Three elementwise losses of logits, all minimised.

    If `relative`, the logits are differences within a (real, fake) pair: D(x) - D(G(z))
    for `real`, its negative for `gen`; `fake` is 0.
    """

    real: Callable[[Array], Array]  # discriminator loss on real logits
    fake: Callable[[Array], Array]  # discriminator loss on fake logits
    gen: Callable[[Array], Array]  # generator loss on fake logits
    relative: bool = False


def _hinge(margin):
    return jnp.maximum(0.0, 1.0 - margin)


def _identity(logits):
    return logits


# Goodfellow et al. 2014 (arXiv 1406.2661), equation 1: the generator descends log(1 -
# D), whose gradient vanishes where D wins.
minimax = Adversarial(real=lambda x: softplus(-x), fake=softplus, gen=lambda x: -softplus(x))
# Goodfellow et al. 2014, section 3: the generator ascends log D instead. "Logistic" in
# the StyleGAN papers.
non_saturating = Adversarial(real=lambda x: softplus(-x), fake=softplus, gen=lambda x: softplus(-x))
# Lim & Ye 2017 (arXiv 1705.02894), equations 4-6; Miyato et al. 2018 (arXiv
# 1802.05957), equations 16, 17.
hinge = Adversarial(real=_hinge, fake=lambda x: _hinge(-x), gen=jnp.negative)
# Mao et al. 2017 (arXiv 1611.04076), equation 9, with a = 0, b = c = 1 and the paper's
# 1/2.
least_squares = Adversarial(
    real=lambda x: 0.5 * jnp.square(x - 1),
    fake=lambda x: 0.5 * jnp.square(x),
    gen=lambda x: 0.5 * jnp.square(x - 1),
)
# Arjovsky et al. 2017 (arXiv 1701.07875), equation 2; needs a Lipschitz critic: weight
# clipping, a gradient penalty, or spectral norm.
wasserstein = Adversarial(real=jnp.negative, fake=_identity, gen=jnp.negative)
# Jolicoeur-Martineau 2018 (arXiv 1807.00734), equations 4, 5; the paired form of R3GAN,
# Huang et al. 2025 (arXiv 2501.05441), equation 2.
relativistic = Adversarial(
    real=lambda x: softplus(-x), fake=jnp.zeros_like, gen=lambda x: softplus(-x), relative=True
)

ADVERSARIAL = {
    "minimax": minimax,
    "non_saturating": non_saturating,
    "hinge": hinge,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
    "relativistic": relativistic,
}


def smooth(loss: Adversarial, amount: float) -> Adversarial:
    """One-sided label smoothing: the real target is 1 - `amount`.

    For the logistic losses this is the cross entropy with the target 1 - amount, for
    least squares the squared distance to it. Salimans et al. 2016 (arXiv 1606.03498),
    section 3.4.
    """
    return loss._replace(
        real=lambda logits: (1 - amount) * loss.real(logits) + amount * loss.fake(logits)
    )


def discriminator_loss(
    loss: Adversarial, real: Float[Array, "*shape"], fake: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Discriminator loss per (real, fake) pair of logits."""
    return loss.real(real - fake) if loss.relative else loss.real(real) + loss.fake(fake)


def generator_loss(
    loss: Adversarial, fake: Float[Array, "*shape"], real: Float[Array, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """Generator loss per fake logit.

    A relative loss also needs the logits of the real images it is paired with.

    Raises:
        ValueError: the loss is relative and `real` is None.
    """
    if not loss.relative:
        return loss.gen(fake)
    if real is None:
        raise ValueError("a relative loss compares pairs of logits: pass the real ones too")
    return loss.gen(fake - real)


# --- gradient penalties ---------------------------------------------------------------
# Each takes a discriminator, images -> logits [batch], in which the logit of an image
# depends on that image only.


def _input_gradient(disc: Callable[[Array], Array], images: Array) -> Array:
    """d disc(x) / d x, flattened: [batch, h * w * c]."""
    return jax.grad(lambda images: jnp.sum(disc(images)))(images).reshape(images.shape[0], -1)


def r1(disc: Callable[[Array], Array], images: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Squared gradient norm |grad D(x)|^2 per image, to be weighted by gamma / 2.

    R1 on real images, Mescheder et al. 2018 (arXiv 1801.04406), equation 9; R2
    (equation 10) on generated ones, which must carry no gradient to the generator.
    """
    return jnp.sum(jnp.square(_input_gradient(disc, images)), axis=-1)


def gradient_penalty(
    disc: Callable[[Array], Array],
    key: Array,
    real: Float[Array, "batch ..."],
    fake: Float[Array, "batch ..."],
) -> Float[Array, " batch"]:
    """(|grad D(x)| - 1)^2 at a uniformly drawn point between each real and fake image.

    Gulrajani et al. 2017 (arXiv 1704.00028), equation 3; the paper weights it by 10.
    """
    t = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    return _unit_slope(disc, fake + t * (real - fake))


def dragan(
    disc: Callable[[Array], Array], key: Array, real: Float[Array, "batch ..."]
) -> Float[Array, " batch"]:
    """(|grad D(x + noise)| - 1)^2 around real images, per image.

    The noise is Gaussian, with half the standard deviation of the batch. Kodali et al.
    2017 (arXiv 1705.07215), section 2.3; the paper weights it by 10.
    """
    return _unit_slope(
        disc, real + 0.5 * jnp.std(real) * jax.random.normal(key, real.shape, real.dtype)
    )


def path_lengths(
    synthesis: Callable[[Array], Array], key: Array, styles: Float[Array, "batch layers size"]
) -> Float[Array, " batch"]:
    """Per-image path length ||J_w^T y||_2, y ~ N(0, I) / sqrt(h w).

    `synthesis` maps styles to images [batch, h, w, c], each image depending on its own
    styles only. The norm is the root of the mean over layers of squared norms over the
    style axis. Training minimises (length - running mean of the lengths)^2. Karras et
    al. 2020 (arXiv 1912.04958), section 3.2, equation 4.
    """
    shape = jax.eval_shape(synthesis, styles).shape
    directions = jax.random.normal(key, shape) / (shape[1] * shape[2]) ** 0.5
    slopes = jax.grad(lambda styles: jnp.sum(synthesis(styles) * directions))(styles)
    # The square root is not differentiable at 0.
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(slopes), axis=2), axis=1) + 1e-16)


def _unit_slope(disc: Callable[[Array], Array], images: Array) -> Array:
    squared = jnp.sum(jnp.square(_input_gradient(disc, images)), axis=-1)
    # The square root is not differentiable at 0.
    return jnp.square(jnp.sqrt(squared + 1e-12) - 1.0)


# --- translation ----------------------------------------------------------------------


def cycle(
    images: Float[Array, "*shape"], there_and_back: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cycle-consistency loss |F(G(x)) - x| per value.

    Zhu et al. 2017 (arXiv 1703.10593), equation 2.
    """
    return jnp.abs(there_and_back - images)


def identity(
    images: Float[Array, "*shape"], translated: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Identity loss |G(y) - y| per value, for y already in G's output domain.

    Zhu et al. 2017, section 5.2.
    """
    return jnp.abs(translated - images)


SSIM_WINDOW = 11
_SSIM_TAPS = [math.exp(-0.5 * (place / 1.5) ** 2) for place in range(-5, 6)]


def ssim(
    first: Float[Array, "n h w c"], second: Float[Array, "n h w c"]
) -> Float[Array, "n h2 w2 c"]:
    """Structural similarity of images in [-1, 1]; 1 - ssim is a loss.

    Returns one value per channel at each pixel at least 5 pixels from the edge. Window
    and constants are those of `metrics.paired.ssim`, which is exact; this one is
    float32. Wang et al. 2004, equation 13.
    """

    def window(x):
        for axis in (1, 2):
            size = x.shape[axis] - SSIM_WINDOW + 1
            shifted = (
                tap / sum(_SSIM_TAPS) * jax.lax.slice_in_dim(x, i, i + size, 1, axis)
                for i, tap in enumerate(_SSIM_TAPS)
            )
            x = functools.reduce(operator.add, shifted)
        return x

    x, y = (first + 1) / 2, (second + 1) / 2
    # Variances around the mean of the image cancel less.
    middle = jax.lax.stop_gradient(jnp.mean(x, axis=(1, 2), keepdims=True))
    x, y = x - middle, y - middle
    mean_x, mean_y = window(x), window(y)
    variances = window(x * x) - mean_x * mean_x + window(y * y) - mean_y * mean_y
    covariance = window(x * y) - mean_x * mean_y
    bright_x, bright_y = mean_x + middle, mean_y + middle
    brightness = (2 * bright_x * bright_y + 0.01**2) / (
        bright_x * bright_x + bright_y * bright_y + 0.01**2
    )
    return brightness * (2 * covariance + 0.03**2) / (variances + 0.03**2)
