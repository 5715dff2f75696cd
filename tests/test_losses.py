"""Losses against closed forms and float64 NumPy; stability at |logit| = 1e4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from genjax import losses

LOGITS = np.array([-1e4, -30.0, -2.0, -0.1, 0.0, 0.5, 3.0, 40.0, 1e4])


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, np.float64))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_bernoulli_is_the_definition_and_stable(x):
    expected = -x * softplus(-LOGITS) - (1 - x) * softplus(LOGITS)
    got = losses.bernoulli(jnp.float32(LOGITS), jnp.full(LOGITS.shape, x, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=4e-6)
    slope = jax.grad(lambda logits: jnp.sum(losses.bernoulli(logits, jnp.full(logits.shape, x))))(
        jnp.float32(LOGITS)
    )
    np.testing.assert_allclose(slope, x - 1 / (1 + np.exp(-np.clip(LOGITS, -700, 700))), atol=1e-6)


def test_gaussian_is_scipys_and_the_squared_error():
    mean, x, log_scale = draw(4, 3), draw(4, 3, seed=1), np.float32(np.log(0.7))
    np.testing.assert_allclose(
        losses.gaussian(jnp.asarray(mean), jnp.asarray(log_scale), jnp.asarray(x)),
        stats.norm.logpdf(x, mean, 0.7),
        rtol=2e-5,
    )
    at_one = losses.gaussian(jnp.asarray(mean), jnp.float32(0), jnp.asarray(x))
    np.testing.assert_allclose(at_one, -0.5 * (x - mean) ** 2 - 0.5 * np.log(2 * np.pi), rtol=1e-5)


def test_a_learned_gaussian_scale_is_best_at_the_root_mean_square_error():
    mean, x = draw(1000), 0.3 * draw(1000, seed=1) + draw(1000)
    best = np.log(np.sqrt(np.mean((x - mean) ** 2)))
    slope = jax.grad(lambda s: jnp.mean(losses.gaussian(jnp.asarray(mean), s, jnp.asarray(x))))(
        jnp.float32(best)
    )
    assert abs(slope) < 1e-4


@pytest.mark.parametrize("scale", [0.005, 0.1, 2.0])
def test_discretized_logistic_is_the_mass_of_a_bin_and_sums_to_one(scale):
    x = np.linspace(-1, 1, 256)
    mean = 0.123
    edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
    expected = np.diff(stats.logistic.cdf(edges, mean, scale))
    got = losses.discretized_logistic(
        jnp.full(256, mean), jnp.float32(np.log(scale)), jnp.float32(x)
    )
    likely = expected > 1e-12  # SciPy's own difference cancels beyond
    np.testing.assert_allclose(
        np.asarray(got)[likely], np.log(expected[likely]), rtol=2e-3, atol=2e-3
    )
    np.testing.assert_allclose(np.exp(np.asarray(got, np.float64)).sum(), 1.0, rtol=1e-4)


def test_discretized_logistic_is_finite_far_out():
    mean = jnp.float32([-1e4, 1e4, 0.0, 0.0])
    x = jnp.float32([0.5, -0.5, 1.0, -1.0])
    value, slope = jax.value_and_grad(
        lambda m: jnp.sum(losses.discretized_logistic(m, jnp.float32(-6.0), x))
    )(mean)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


def test_kl_is_the_closed_form_and_the_integral():
    mean, log_variance = 0.7, np.log(0.3)
    z = np.linspace(-12, 12, 200_001)
    q = stats.norm.pdf(z, mean, np.sqrt(0.3))
    integral = np.trapezoid(
        q * (stats.norm.logpdf(z, mean, np.sqrt(0.3)) - stats.norm.logpdf(z)), z
    )
    got = losses.kl_standard_normal(jnp.float32([mean]), jnp.float32([log_variance]))
    np.testing.assert_allclose(got, [integral], rtol=1e-5)
    assert losses.kl_standard_normal(jnp.zeros(3), jnp.zeros(3)).tolist() == [0, 0, 0]
    assert np.all(
        losses.kl_standard_normal(jnp.zeros(5), jnp.float32([-1e-4, -1e-3, 0, 1e-3, 1e-4])) >= 0
    )  # no cancellation


def test_free_bits_floor_the_batch_mean_a_latent():
    kl = jnp.float32([[0.0, 2.0], [0.2, 4.0]])
    np.testing.assert_allclose(losses.free_bits(kl, 0.5), [0.5, 3.0])
    slope = jax.grad(lambda kl: jnp.sum(losses.free_bits(kl, 0.5)))(kl)
    np.testing.assert_allclose(slope, [[0, 0.5], [0, 0.5]])


def test_capacity_and_warmup():
    np.testing.assert_allclose(losses.capacity(jnp.float32([3.0, 7.0]), 5.0), [2.0, 2.0])
    assert [float(losses.warmup(jnp.int32(step), 10)) for step in (0, 5, 10, 20)] == [0, 0.5, 1, 1]
    assert float(losses.warmup(jnp.int32(0), 0)) == 1


def test_negative_elbo_weighs_the_kl():
    np.testing.assert_allclose(
        losses.negative_elbo(jnp.float32([-10.0]), jnp.float32([2.0]), 3.0), [16.0]
    )


def test_importance_weighted_bound_is_a_log_mean_and_survives_large_weights():
    weights = draw(7, 3).astype(np.float64)
    np.testing.assert_allclose(
        losses.importance_weighted_bound(jnp.float32(weights)),
        np.log(np.mean(np.exp(weights), axis=0)),
        rtol=1e-5,
    )
    shifted = losses.importance_weighted_bound(jnp.float32(weights - 1e4))
    np.testing.assert_allclose(shifted, np.log(np.mean(np.exp(weights), axis=0)) - 1e4, rtol=1e-6)
    one = jnp.float32(weights[:1])
    np.testing.assert_allclose(losses.importance_weighted_bound(one), one[0], rtol=1e-6)


ADVERSARIAL = {  # real, fake, gen in float64
    "minimax": (lambda x: softplus(-x), softplus, lambda x: -softplus(x)),
    "non_saturating": (lambda x: softplus(-x), softplus, lambda x: softplus(-x)),
    "hinge": (lambda x: np.maximum(0, 1 - x), lambda x: np.maximum(0, 1 + x), lambda x: -x),
    "least_squares": (lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2, lambda x: (x - 1) ** 2 / 2),
    "wasserstein": (lambda x: -x, lambda x: x, lambda x: -x),
    "relativistic": (lambda x: softplus(-x), lambda x: 0 * x, lambda x: softplus(-x)),
}


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_adversarial_losses_are_their_definitions_and_stable(name):
    for got, expected in zip(losses.ADVERSARIAL[name][:3], ADVERSARIAL[name], strict=True):
        np.testing.assert_allclose(
            got(jnp.float32(LOGITS)), expected(LOGITS), rtol=1e-6, atol=1e-30
        )
        slope = jax.vmap(jax.grad(got))(jnp.float32(LOGITS))
        assert np.all(np.isfinite(slope))
        check_grads(
            jax.jit(got),
            (jnp.float32([-2.0, -0.3, 0.4, 3.0]),),
            order=2,
            modes=["rev"],
            atol=1e-2,
            rtol=1e-2,
        )


def test_minimax_at_its_equilibrium_is_minus_log_4():
    # Goodfellow et al. 2014, theorem 1: at D = 1/2 the discriminator's value is -log 4.
    zero = jnp.zeros(1)
    np.testing.assert_allclose(
        -losses.discriminator_loss(losses.minimax, zero, zero), [-np.log(4)], rtol=1e-6
    )


def test_saturating_and_non_saturating_generators_differ_where_the_discriminator_wins():
    lost = jnp.float32(-20.0)
    assert abs(jax.grad(losses.minimax.gen)(lost)) < 1e-6
    assert abs(jax.grad(losses.non_saturating.gen)(lost)) > 0.99


def test_relativistic_compares_pairs():
    real, fake = jnp.float32(draw(5)), jnp.float32(draw(5, seed=1))
    np.testing.assert_allclose(
        losses.discriminator_loss(losses.relativistic, real, fake), softplus(fake - real), rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.generator_loss(losses.relativistic, fake, real), softplus(real - fake), rtol=1e-5
    )
    with pytest.raises(ValueError, match="pairs"):
        losses.generator_loss(losses.relativistic, fake)


def test_cycle_and_identity_are_absolute_errors():
    a, b = jnp.float32(draw(2, 3, 3, 1)), jnp.float32(draw(2, 3, 3, 1, seed=1))
    np.testing.assert_allclose(losses.cycle(a, b), np.abs(np.asarray(a) - np.asarray(b)))
    np.testing.assert_allclose(losses.identity(a, b), np.abs(np.asarray(a) - np.asarray(b)))


def test_per_image_keeps_the_batch_axis():
    np.testing.assert_allclose(losses.per_image(jnp.ones((2, 3, 4, 5))), [60, 60])


def test_smoothing_moves_the_target_of_a_real_image():
    logits, amount = jnp.float32([-3.0, 0.0, 2.0]), 0.1
    got = losses.smooth(losses.non_saturating, amount).real(logits)
    cross_entropy = -(1 - amount) * -softplus(-np.asarray(logits)) + amount * softplus(
        np.asarray(logits)
    )
    np.testing.assert_allclose(got, cross_entropy, rtol=1e-5)
    slope = jax.vmap(jax.grad(losses.smooth(losses.least_squares, amount).real))(logits)
    np.testing.assert_allclose(
        slope, np.asarray(logits) - (1 - amount), atol=1e-6
    )  # of half the squared distance to 0.9


def linear(weight):
    return lambda images: jnp.sum(images * weight[None], axis=(1, 2, 3))


# Compiled: operations one by one take most of these tests' time.
r1 = jax.jit(losses.r1, static_argnums=0)
gradient_penalty = jax.jit(losses.gradient_penalty, static_argnums=0)
dragan = jax.jit(losses.dragan, static_argnums=0)


def half_square(images):  # its gradient is the image
    return 0.5 * jnp.sum(jnp.square(images), axis=(1, 2, 3))


def test_penalties_of_a_linear_discriminator_know_its_slope():
    weight, key = jnp.float32(draw(3, 2, 1)), jax.random.key(0)
    real, fake = jnp.float32(draw(4, 3, 2, 1)), jnp.float32(draw(4, 3, 2, 1, seed=1))
    squared = float(np.sum(np.square(weight)))
    np.testing.assert_allclose(r1(linear(weight), real), np.full(4, squared), rtol=1e-5)
    for got in (
        gradient_penalty(linear(weight), key, real, fake),
        dragan(linear(weight), key, real),
    ):
        np.testing.assert_allclose(got, np.full(4, (np.sqrt(squared) - 1) ** 2), rtol=1e-5)
    # The second-order gradient that training descends: d |w|^2 / dw = 2 w.
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda w: losses.r1(linear(w), real)[0]))(weight), 2 * weight, rtol=1e-5
    )


def test_penalties_are_taken_where_their_papers_say():
    key = jax.random.key(0)
    real = jnp.float32(draw(400, 3, 3, 1)) + 3
    norm = lambda x: np.sqrt(np.sum(np.square(np.asarray(x, np.float64)), axis=(1, 2, 3)))
    np.testing.assert_allclose(r1(half_square, real), norm(real) ** 2, rtol=1e-5)
    # Real and fake the same: the point between them is known.
    np.testing.assert_allclose(
        gradient_penalty(half_square, key, real, real), (norm(real) - 1) ** 2, rtol=1e-4
    )
    # On a line through the origin the slope at a + t (b - a) gives t away: uniform in
    # [0, 1], one for each pair.
    ones = jnp.ones((400, 3, 3, 1))
    # The root of the penalty is |x| - 1, with |x| = 3 (1 + 2 t).
    root = np.sqrt(np.asarray(gradient_penalty(half_square, key, 3 * ones, ones)))
    t = ((root + 1) / 3 - 1) / 2
    assert stats.kstest(t, "uniform").pvalue > 1e-3
    # Around a constant set of images there is no spread, and so no noise.
    np.testing.assert_allclose(dragan(half_square, key, 2 * ones), np.full(400, 25.0), rtol=1e-5)
    moved = np.asarray(dragan(half_square, key, real))
    assert np.max(np.abs(moved - (norm(real) - 1) ** 2)) > 1


def test_a_flat_discriminator_has_a_finite_penalty_and_slope():
    flat = lambda scale: losses.gradient_penalty(
        lambda x: scale * half_square(x),
        jax.random.key(0),
        jnp.ones((2, 1, 1, 1)),
        jnp.ones((2, 1, 1, 1)),
    )
    value, slope = jax.jit(lambda scale: (flat(scale), jax.jacobian(flat)(scale)))(0.0)
    np.testing.assert_allclose(value, [1.0, 1.0], rtol=1e-5)
    assert np.all(np.isfinite(slope))
