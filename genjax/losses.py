"""Losses as plain functions of arrays: they never reduce over the batch (most never reduce at all) and never see a network.

Likelihoods give log p(x | parameters) a dimension, in nats; divergences give nats a latent; adversarial losses give one value a
logit. The caller sums over pixels and latents (`per_image`) and takes the mean over the batch.
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
    """log(1 + e^x) without overflow: `jax.nn.softplus`, in a form that XLA vectorises on a CPU (8 times as fast there)."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


# The form's own derivatives are wrong at 0; these are exact in every order.
softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


# --- likelihoods: log p(x), nats a dimension -----------------------------------------------------------------------------


def per_image(values: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Sum over all but the batch axis."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def bernoulli(logits: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x log s(l) + (1 - x) log(1 - s(l)) = x l - softplus(l), for x in [0, 1]. A likelihood only where x is 0 or 1.

    Kingma & Welling 2014 (arXiv 1312.6114), appendix C.1, equation 11.
    """
    return x * logits - softplus(logits)


def gaussian(
    mean: Float[Array, "*shape"], log_scale: Float[Array, "..."], x: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """log N(x; mean, scale^2): at a fixed scale, minus the squared error / (2 scale^2) and a constant. `log_scale` broadcasts.

    Kingma & Welling 2014, appendix C.2; a learned shared scale is the sigma-VAE of Rybkin et al. 2021 (arXiv 2006.13202), equation 4.
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
    """log of the mass that a logistic law on the line puts in x's bin, for x on `levels` even steps of [-1, 1]; the end bins reach to infinity.

    Kingma et al. 2016 (arXiv 1606.04934), appendix A; Salimans et al. 2017 (arXiv 1701.05517), equation 2. With a < b the bin's
    ends in units of the scale, s(b) - s(a) = s(b) s(-a) (1 - e^(a-b)): a sum of logs that neither cancels nor overflows.
    """
    half = 1.0 / (levels - 1)
    inverse_scale = jnp.broadcast_to(jnp.exp(-log_scale), jnp.shape(mean))
    upper = (x - mean + half) * inverse_scale
    lower = (x - mean - half) * inverse_scale
    below, above = (
        log_sigmoid(upper),
        log_sigmoid(-lower),
    )  # log P(X < upper end), log P(X > lower end)
    inside = below + above + jnp.log(-jnp.expm1(-2 * half * inverse_scale))
    return jnp.where(x < -1 + half, below, jnp.where(x > 1 - half, above, inside))


def standard_normal(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log N(z; 0, 1)."""
    return -0.5 * (jnp.square(z) + jnp.log(2 * jnp.pi))


# --- divergences and bounds ----------------------------------------------------------------------------------------------


def kl_standard_normal(
    mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """KL(N(mean, variance) || N(0, 1)) a latent, in nats, >= 0. Kingma & Welling 2014, appendix B."""
    return 0.5 * (jnp.square(mean) + (jnp.expm1(log_variance) - log_variance))


def free_bits(kl: Float[Array, "batch latents"], nats: float) -> Float[Array, " latents"]:
    """Batch-mean KL a latent, floored at `nats`: below the floor a latent pays, and learns, nothing. Kingma et al. 2016, equation 15."""
    return jnp.maximum(jnp.mean(kl, axis=0), nats)


def capacity(kl: Float[Array, " batch"], nats: Float[Array, ""] | float) -> Float[Array, " batch"]:
    """|KL - C|: the KL an image is drawn to a capacity C that training raises. Burgess et al. 2018 (arXiv 1804.03599), equation 8."""
    return jnp.abs(kl - nats)


def warmup(step: Array, steps: int) -> Float[Array, ""]:
    """Linear 0 -> 1 over `steps` steps, then 1; 1 at once when `steps` is 0. Sonderby et al. 2016 (arXiv 1602.02282), section 2.3."""
    return (
        jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0) if steps > 0 else jnp.float32(1.0)
    )


def negative_elbo(
    log_likelihood: Float[Array, " batch"],
    kl: Float[Array, " batch"],
    beta: Float[Array, ""] | float = 1.0,
) -> Float[Array, " batch"]:
    """-(log p(x|z) - beta KL) an image, in nats. Kingma & Welling 2014, equation 10; beta: Higgins et al. 2017, equation 4."""
    return beta * kl - log_likelihood


def importance_weighted_bound(log_weights: Float[Array, "samples batch"]) -> Float[Array, " batch"]:
    """log mean_k p(x, z_k) / q(z_k | x), in nats: the ELBO at k = 1, log p(x) as k grows. Burda et al. 2016 (arXiv 1509.00519), equation 8."""
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(jnp.float32(log_weights.shape[0]))


# --- adversarial losses --------------------------------------------------------------------------------------------------


class Adversarial(NamedTuple):
    """Three losses of logits, each of the logits' own shape, all to be minimised.

    `relative`: the logits are differences within a (real, fake) pair, D(x) - D(G(z)) for `real` and its negative for `gen`; `fake` is 0.
    """

    real: Callable[[Array], Array]  # what the discriminator pays on real images
    fake: Callable[[Array], Array]  # ... on generated ones
    gen: Callable[[Array], Array]  # what the generator pays on its own
    relative: bool = False


def _hinge(margin):
    return jnp.maximum(0.0, 1.0 - margin)


def _identity(logits):
    return logits


# Goodfellow et al. 2014 (arXiv 1406.2661), equation 1: the generator descends log(1 - D), which is flat where D wins.
minimax = Adversarial(real=lambda x: softplus(-x), fake=softplus, gen=lambda x: -softplus(x))
# Goodfellow et al. 2014, section 3: the generator ascends log D instead. "Logistic" in the StyleGAN papers.
non_saturating = Adversarial(real=lambda x: softplus(-x), fake=softplus, gen=lambda x: softplus(-x))
# Lim & Ye 2017 (arXiv 1705.02894), equations 4-6; Miyato et al. 2018 (arXiv 1802.05957), equations 16, 17.
hinge = Adversarial(real=_hinge, fake=lambda x: _hinge(-x), gen=jnp.negative)
# Mao et al. 2017 (arXiv 1611.04076), equation 9, with a = 0, b = c = 1 and the paper's 1/2.
least_squares = Adversarial(
    real=lambda x: 0.5 * jnp.square(x - 1),
    fake=lambda x: 0.5 * jnp.square(x),
    gen=lambda x: 0.5 * jnp.square(x - 1),
)
# Arjovsky et al. 2017 (arXiv 1701.07875), equation 2; needs a Lipschitz critic: clipping, a gradient penalty, or spectral norm.
wasserstein = Adversarial(real=jnp.negative, fake=_identity, gen=jnp.negative)
# Jolicoeur-Martineau 2018 (arXiv 1807.00734), equations 4, 5; the paired form of R3GAN, Huang et al. 2025 (arXiv 2501.05441), equation 2.
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
    """One-sided label smoothing: a real image is called real with weight 1 - amount. Salimans et al. 2016 (arXiv 1606.03498), section 3.4.

    For the logistic losses it is the cross entropy with the target 1 - amount, for least squares the square distance to it.
    """
    return loss._replace(
        real=lambda logits: (1 - amount) * loss.real(logits) + amount * loss.fake(logits)
    )


def discriminator_loss(
    loss: Adversarial, real: Float[Array, "*shape"], fake: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """What the discriminator pays for each (real, fake) pair of logits."""
    return loss.real(real - fake) if loss.relative else loss.real(real) + loss.fake(fake)


def generator_loss(
    loss: Adversarial, fake: Float[Array, "*shape"], real: Float[Array, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """What the generator pays for each fake logit; a relative loss needs the real ones too (ValueError without)."""
    if not loss.relative:
        return loss.gen(fake)
    if real is None:
        raise ValueError("a relative loss compares pairs: give the real logits too")
    return loss.gen(fake - real)


# --- gradient penalties: each takes a discriminator, images -> logits [batch], in which an image's logit depends on that image alone ---


def _input_gradient(disc: Callable[[Array], Array], images: Array) -> Array:
    """d disc(x) / d x, flattened: [batch, h * w * c]."""
    return jax.grad(lambda images: jnp.sum(disc(images)))(images).reshape(images.shape[0], -1)


def r1(disc: Callable[[Array], Array], images: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """|grad D(x)|^2 an image, to be weighted by gamma / 2. Mescheder et al. 2018 (arXiv 1801.04406), equation 9.

    On real images it is R1, on generated ones (which must carry no gradient to the generator) R2, equation 10.
    """
    return jnp.sum(jnp.square(_input_gradient(disc, images)), axis=-1)


def gradient_penalty(
    disc: Callable[[Array], Array],
    key: Array,
    real: Float[Array, "batch ..."],
    fake: Float[Array, "batch ..."],
) -> Float[Array, " batch"]:
    """(|grad D(x)| - 1)^2 at a uniform point between each pair. Gulrajani et al. 2017 (arXiv 1704.00028), equation 3; their weight is 10."""
    along = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    return _unit_slope(disc, fake + along * (real - fake))


def dragan(
    disc: Callable[[Array], Array], key: Array, real: Float[Array, "batch ..."]
) -> Float[Array, " batch"]:
    """(|grad D(x + noise)| - 1)^2 around real images. Kodali et al. 2017 (arXiv 1705.07215), section 2.3; their weight is 10.

    The noise is normal, of half the standard deviation of the batch.
    """
    return _unit_slope(
        disc, real + 0.5 * jnp.std(real) * jax.random.normal(key, real.shape, real.dtype)
    )


def path_lengths(
    synthesis: Callable[[Array], Array], key: Array, styles: Float[Array, "batch layers size"]
) -> Float[Array, " batch"]:
    """|J^T y| an image, y random images of unit length in the mean: how far a step of the styles moves it. Karras et al. 2020 (arXiv 1912.04958), section 3.2.

    `synthesis`: styles -> images [batch, h, w, c], each of its own styles alone. The norm is the root of the mean over layers of the sums of
    squares over a style; what is trained for is a small (length - mean of the lengths so far)^2, equation 4.
    """
    shape = jax.eval_shape(synthesis, styles).shape
    directions = jax.random.normal(key, shape) / (shape[1] * shape[2]) ** 0.5
    slopes = jax.grad(lambda styles: jnp.sum(synthesis(styles) * directions))(styles)
    return jnp.sqrt(
        jnp.mean(jnp.sum(jnp.square(slopes), axis=2), axis=1) + 1e-16
    )  # the root has no slope at 0


def _unit_slope(disc: Callable[[Array], Array], images: Array) -> Array:
    squared = jnp.sum(jnp.square(_input_gradient(disc, images)), axis=-1)
    return jnp.square(jnp.sqrt(squared + 1e-12) - 1.0)  # the root has no slope at 0


# --- translation ---------------------------------------------------------------------------------------------------------


def cycle(
    images: Float[Array, "*shape"], there_and_back: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """|F(G(x)) - x| a value. Zhu et al. 2017 (arXiv 1703.10593), equation 2."""
    return jnp.abs(there_and_back - images)


def identity(
    images: Float[Array, "*shape"], translated: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """|G(y) - y| a value, for y already of G's output domain. Zhu et al. 2017, section 5.2."""
    return jnp.abs(translated - images)


SSIM_WINDOW = 11
_SSIM_TAPS = [math.exp(-0.5 * (place / 1.5) ** 2) for place in range(-5, 6)]


def ssim(
    first: Float[Array, "n h w c"], second: Float[Array, "n h w c"]
) -> Float[Array, "n h2 w2 c"]:
    """Structural similarity of images in [-1, 1] at each place that is 5 pixels from the edge; 1 - ssim is a loss. Wang et al. 2004, equation 13.

    Window and constants are those of metrics.paired.ssim, which is exact; this one is in float32.
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
    middle = jax.lax.stop_gradient(
        jnp.mean(x, axis=(1, 2), keepdims=True)
    )  # variances around it cancel less
    x, y = x - middle, y - middle
    mean_x, mean_y = window(x), window(y)
    variances = window(x * x) - mean_x * mean_x + window(y * y) - mean_y * mean_y
    covariance = window(x * y) - mean_x * mean_y
    bright_x, bright_y = mean_x + middle, mean_y + middle
    brightness = (2 * bright_x * bright_y + 0.01**2) / (
        bright_x * bright_x + bright_y * bright_y + 0.01**2
    )
    return brightness * (2 * covariance + 0.03**2) / (variances + 0.03**2)
