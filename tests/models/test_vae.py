"""The VAE: exact likelihoods of a linear-Gaussian one, its verbs, its objectives, and
what its Config refuses.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax import core
from genjax.errors import InputError
from genjax.models import vae

TINY = vae.Config(shape=(5, 6, 1), hidden=(16,), z_dim=3, batch_size=8)


def build(**changes):
    model = vae.recipe(dataclasses.replace(TINY, **changes))
    return model, core.weights(jax.jit(model.init)(jax.random.key(0)))


def one_step(model, images, state=None):
    state = jax.jit(model.init)(jax.random.key(0)) if state is None else state
    return jax.jit(model.step, static_argnums=3)(
        state, {"images": images}, jax.random.key(0), model.plan(0)
    )


def pictures(n=8, shape=(5, 6, 1), seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (n, *shape))
    return jnp.float32(levels) / 127.5 - 1


def linear_gaussian(sigma=0.5):
    """A VAE without hidden layers is x ~ N(W z + b, sigma^2), z ~ N(0, 1): p(x) is a
    Gaussian, known exactly.
    """
    model = vae.recipe(
        dataclasses.replace(
            TINY, hidden=(), z_dim=2, likelihood="gaussian", obs_scale=sigma, dequantize=True
        )
    )
    weights = core.weights(jax.jit(model.init)(jax.random.key(1)))
    loading = np.asarray(weights["params"]["dec"]["pixels"]["kernel"])
    offset = np.random.default_rng(3).normal(size=30).astype(np.float32) * 0.1
    weights["params"]["dec"]["pixels"]["bias"] = jnp.asarray(offset)
    # The exact posterior: covariance (1 + W W' / sigma^2)^-1. The encoder is given its
    # mean, and the variance of each latent.
    precision = np.eye(2) + loading @ loading.T / sigma**2
    covariance = np.linalg.inv(precision)
    gain = (loading.T / sigma**2) @ covariance
    log_variance = np.log(np.diag(covariance))
    weights["params"]["enc"]["posterior"] = {
        "kernel": jnp.float32(np.concatenate([gain, np.zeros((30, 2))], axis=1)),
        "bias": jnp.float32(np.concatenate([-offset @ gain, log_variance])),
    }
    exact = stats.multivariate_normal(offset, loading.T @ loading + sigma**2 * np.eye(30))
    return model, weights, exact


def test_iw_log_likelihood_converges_to_the_exact_one():
    model, weights, exact = linear_gaussian()
    images = pictures(4)
    # The verb adds the dequantisation noise that its key gives, and then the exact
    # density is of the same noisy images.
    key = jax.random.key(5)
    noisy = (
        images
        + jax.random.uniform(jax.random.split(key)[0], images.shape, minval=-1.0, maxval=1.0) / 255
    )
    expected = exact.logpdf(np.asarray(noisy).reshape(4, -1))
    got = model.iw_log_likelihood(weights, key, images, 20_000, chunk=500)
    np.testing.assert_allclose(got, expected, atol=0.02)


def test_the_bound_tightens_with_k_and_stays_a_bound():
    model, weights, exact = linear_gaussian()
    weights["params"]["enc"]["posterior"]["bias"] += jnp.float32(
        [0, 0, 1.5, 1.5]
    )  # a posterior too wide leaves a gap
    image, keys = pictures(1), jax.random.split(jax.random.key(2), 256)
    observed = jax.vmap(
        lambda key: (
            image
            + jax.random.uniform(jax.random.split(key)[0], image.shape, minval=-1.0, maxval=1.0)
            / 255
        )
    )(keys)
    expected = np.mean(exact.logpdf(np.asarray(observed).reshape(256, -1)))
    means = [
        np.mean(jax.vmap(lambda key, k=k: model.iw_log_likelihood(weights, key, image, k))(keys))
        for k in (1, 5, 50)
    ]
    assert means[0] + 0.2 < means[1] < means[2] < expected + 0.05


@pytest.mark.parametrize("binarize", ["dynamic", "static", "threshold"])
def test_at_k_1_the_likelihood_is_the_elbo_estimate(binarize):
    model, weights = build(binarize=binarize)
    images, key = pictures(), jax.random.key(3)
    bound = model.iw_log_likelihood(weights, key, images, 1)
    np.testing.assert_allclose(
        bound, model.elbo(weights, key, images, analytic_kl=False), rtol=1e-5
    )


def test_the_analytic_elbo_is_the_estimates_mean():
    model, weights = build(binarize="threshold")
    images, keys = pictures(2), jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: model.elbo(weights, key, images, analytic_kl=False))(keys)
    analytic = jax.vmap(lambda key: model.elbo(weights, key, images))(keys)
    error = 5 * np.std(np.asarray(drawn - analytic), axis=0) / np.sqrt(4000)
    assert np.all(np.abs(np.mean(np.asarray(drawn - analytic), axis=0)) < error + 1e-5)


def test_the_chunk_does_not_matter():
    model, weights = build(binarize="dynamic")
    images, key = pictures(), jax.random.key(3)
    whole = model.iw_log_likelihood(weights, key, images, 10, chunk=10)
    np.testing.assert_allclose(
        model.iw_log_likelihood(weights, key, images, 10, chunk=3), whole, rtol=1e-5
    )


def test_no_likelihood_of_grey_pixels_under_a_bernoulli():
    model, weights = build()
    with pytest.raises(ValueError, match="binarize"):
        model.iw_log_likelihood(weights, jax.random.key(0), pictures(), 2)
    _, metrics = one_step(model, pictures())
    assert not any(name.startswith("nats/") for name in metrics)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"binarize": "dynamic"}, "nats/negative_elbo_dynamic"),
        ({"binarize": "static", "importance_samples": 5}, "nats/negative_iw5_bound_static"),
        ({"likelihood": "logistic"}, "nats/negative_elbo"),
        ({"likelihood": "gaussian", "dequantize": True}, "nats/negative_elbo"),
        ({"likelihood": "gaussian"}, "loss/negative_elbo"),
    ],
)
def test_the_binarisation_is_part_of_the_metrics_name(changes, name):
    model, _ = build(**changes)
    _, metrics = one_step(model, pictures())
    assert name in metrics


def test_binarisations():
    images = pictures(64, seed=1)
    grey = (np.asarray(images) + 1) / 2
    seen = {}
    for binarize in ("static", "dynamic", "threshold"):
        model, weights = build(binarize=binarize, hidden=(), z_dim=30)
        # An encoder that copies its input shows what is seen of the images.
        weights["params"]["enc"]["posterior"] = {"kernel": jnp.eye(30, 60), "bias": jnp.zeros(60)}
        seen[binarize] = np.asarray(model.encode(weights, images)[0]).reshape(images.shape)
        again = np.asarray(model.encode(weights, images[::-1])[0]).reshape(images.shape)[::-1]
        assert set(np.unique(seen[binarize])) <= {0.0, 1.0}
        assert np.array_equal(seen[binarize], again) == (binarize != "dynamic")
    assert np.array_equal(seen["threshold"], grey > 0.5)
    for binarize in ("static", "dynamic"):  # right on average: each bit has the pixel's probability
        assert abs(np.mean(seen[binarize] - grey)) < 4 * np.sqrt(0.17 / grey.size)
        assert np.corrcoef(seen[binarize].ravel(), grey.ravel())[0, 1] > 0.4


def test_bits_per_dim_of_a_density_counts_256_levels():
    model, weights, _ = linear_gaussian()
    images, key = pictures(4), jax.random.key(1)
    nats = model.iw_log_likelihood(weights, key, images, 100)
    expected = (-np.asarray(nats) / 30 + np.log(255 / 2)) / np.log(2)
    np.testing.assert_allclose(model.bits_per_dim(weights, key, images, 100), expected, rtol=1e-5)


def test_bits_per_dim_counts_levels():
    # A decoder that ignores its latents says the same of every image, and an encoder
    # that gives the prior adds nothing: then the bits are exactly those of the
    # logistic's mass in each pixel's bin.
    model, weights = build(likelihood="logistic", hidden=(), obs_scale=0.2)
    weights["params"]["dec"]["pixels"] = {"kernel": jnp.zeros((3, 30)), "bias": jnp.full(30, 0.1)}
    weights["params"]["enc"]["posterior"] = {"kernel": jnp.zeros((30, 6)), "bias": jnp.zeros(6)}
    images = pictures(4)
    edges = np.asarray(images)[..., None] + np.array([-1, 1]) / 255
    edges = np.where(edges < -1, -np.inf, np.where(edges > 1, np.inf, edges))
    mass = np.diff(stats.logistic.cdf(edges, 0.1, 0.2))
    expected = -np.log2(mass).reshape(4, -1).mean(1)
    np.testing.assert_allclose(
        model.bits_per_dim(weights, jax.random.key(0), images, 3), expected, rtol=1e-4
    )


def test_a_warmed_up_beta_weighs_the_kl():
    images = pictures()

    def metrics(step=0, **changes):
        model, _ = build(**changes)
        state = jax.jit(model.init)(jax.random.key(0)).replace(step=jnp.int32(step))
        return {name: float(value) for name, value in one_step(model, images, state)[1].items()}

    plain = metrics()
    for beta, values in [
        (4.0, metrics(beta=4.0)),
        (1.0, metrics(step=10, kl_warmup_steps=20, beta=2.0)),
        (0.0, metrics(kl_warmup_steps=5)),
    ]:
        np.testing.assert_allclose(
            values["loss/objective"],
            plain["loss/reconstruction"] + beta * plain["loss/kl"],
            rtol=1e-5,
        )
    target = metrics(capacity=20.0, capacity_steps=10, step=5)
    assert target["loss/objective"] > plain["loss/reconstruction"]
    floored = metrics(free_bits=2.0)
    np.testing.assert_allclose(
        floored["loss/objective"] - plain["loss/reconstruction"], 3 * 2.0, rtol=0.2
    )


def test_accumulated_and_rematerialised_steps_are_the_same_step():
    def after(**changes):
        model, _ = build(binarize="dynamic", importance_samples=4, **changes)
        state, metrics = one_step(model, pictures())
        return jax.tree.leaves((state.params, metrics))

    for other in (after(accumulate=4), after(remat=True)):
        for a, b in zip(after(), other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (32, 32, 3), (13, 28, 4)])
def test_conv_takes_any_size(shape):
    model, weights = build(
        shape=shape, network="conv", channels=(4, 8), likelihood="logistic", batch_size=2
    )
    images = pictures(2, shape)
    assert jax.jit(model.reconstruct)(weights, images).shape == images.shape
    _, metrics = one_step(model, images)
    assert all(np.isfinite(value) for value in metrics.values())


def test_interpolation_ends_at_the_reconstructions():
    model, weights = build()
    first, second = pictures(2), pictures(2, seed=1)
    between = model.interpolate(weights, first, second, 5)
    assert between.shape == (2, 5, 5, 6, 1)
    np.testing.assert_allclose(between[:, 0], model.reconstruct(weights, first), atol=1e-6)
    np.testing.assert_allclose(between[:, -1], model.reconstruct(weights, second), atol=1e-6)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_labels_condition_both_sides(network):
    model, weights = build(conditional="concat", num_labels=3, network=network, channels=(4,))
    zeros, ones = jnp.zeros(4, jnp.int32), jnp.ones(4, jnp.int32)
    assert not np.allclose(
        model.sample(weights, jax.random.key(0), 4, zeros),
        model.sample(weights, jax.random.key(0), 4, ones),
    )
    assert not np.allclose(
        model.encode(weights, pictures(4), zeros)[0], model.encode(weights, pictures(4), ones)[0]
    )
    evenly = model.sample(weights, jax.random.key(0), 4)
    np.testing.assert_allclose(
        evenly, model.sample(weights, jax.random.key(0), 4, jnp.int32([0, 1, 2, 0])), atol=1e-6
    )
    with pytest.raises(ValueError, match="labels"):
        model.encode(weights, pictures(4))


def test_the_average_lags_and_is_what_is_sampled_from():
    model, _ = build(ema_half_life_images=8.0)
    state, _ = one_step(model, pictures())
    start = jax.jit(model.init)(jax.random.key(0)).params["dec"]["pixels"]["bias"]
    np.testing.assert_allclose(
        state.ema["dec"]["pixels"]["bias"],
        (start + state.params["dec"]["pixels"]["bias"]) / 2,
        atol=1e-7,
    )
    np.testing.assert_array_equal(
        core.weights(state)["params"]["dec"]["pixels"]["bias"], state.ema["dec"]["pixels"]["bias"]
    )


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    images, key = pictures(), jax.random.key(0)
    full, weights = build(binarize="threshold")
    half, _ = build(binarize="threshold", dtype="bfloat16")
    np.testing.assert_allclose(
        half.elbo(weights, key, images), full.elbo(weights, key, images), rtol=0.02
    )
    state, metrics = one_step(half, images)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((state.params, metrics)))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_what_the_likelihood_sees_of_bfloat16_networks_is_not_rounded(network):
    config = dataclasses.replace(
        TINY, shape=(8, 8, 1), network=network, channels=(4, 4), dtype="bfloat16"
    )
    z = jax.random.normal(jax.random.key(0), (4, config.z_dim))
    (x, _), _ = vae.networks.Decoder(config).init_with_output(
        jax.random.key(1), z, jnp.zeros((4, 0))
    )
    assert x.dtype == jnp.float32
    assert np.any(x != x.astype(jnp.bfloat16))


def test_a_learned_scale_below_its_floor_finds_back():
    config = dataclasses.replace(TINY, likelihood="logistic")
    decoder, z = vae.networks.Decoder(config), jnp.zeros((1, config.z_dim))
    params = decoder.init(jax.random.key(0), z, jnp.zeros((1, 0)))["params"]

    def scale(value):
        return decoder.apply(
            {"params": {**params, "log_scale": jnp.full(config.shape[2], value)}},
            z,
            jnp.zeros((1, 0)),
        )[1][0]

    np.testing.assert_allclose([scale(-3.0), scale(-6.0), scale(-7.0)], [-3, -6, -6.01], rtol=1e-6)
    assert jax.grad(scale)(-7.0) > 0


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"network": "transformer"}, "network transformer"),
        ({"likelihood": "poisson"}, "likelihood"),
        ({"binarize": "maybe"}, "binarize"),
        ({"binarize": "dynamic", "likelihood": "gaussian"}, "binarize"),
        ({"dtype": "float7"}, "dtype float7"),
        ({"activation": "sin"}, "activation"),
        ({"z_dim": 0}, "z_dim 0"),
        ({"batch_size": 8, "accumulate": 3}, "accumulate 3"),
        ({"conditional": True}, "conditional"),
        ({"importance_samples": 5, "beta": 2.0}, "importance_samples 5"),
        ({"free_bits": 1.0, "capacity": 5.0}, "capacity"),
        ({"free_bits": 1.0, "accumulate": 2}, "accumulate 2"),
        ({"dequantize": True}, "dequantize"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"beta": -1.0}, "beta"),
        ({"hidden": (0,)}, "hidden"),
    ],
)
def test_a_config_that_means_nothing_is_refused_by_its_options_name(changes, option):
    with pytest.raises(InputError, match=option):
        build(**changes)
