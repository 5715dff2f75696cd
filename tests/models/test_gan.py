"""Two-player training on games whose answer is known, the plain GAN's verbs, and what a
Config refuses.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core
from genjax.errors import InputError
from genjax.models import gan
from genjax.nn import ops

TINY = gan.Config(shape=(5, 6, 1), hidden=(16,), z_dim=3, batch_size=8)


class Point(nn.Module):
    """A generator that knows one number: every image is it."""

    @nn.compact
    def __call__(self, z, labels, train):
        place = self.param("place", lambda key: jnp.float32(1.0))
        return jnp.broadcast_to(place, (z.shape[0], 1, 1, 1))


class Slope(nn.Module):
    """A linear discriminator of one pixel."""

    @nn.compact
    def __call__(self, x, labels, train):
        return x[:, 0, 0, 0] * self.param("slope", lambda key: jnp.float32(0.5))


def dirac(**changes):
    """The Dirac-GAN of Mescheder et al. 2018, section 2: the data are one point at 0."""
    fields = {
        "shape": (1, 1, 1),
        "z_dim": 1,
        "batch_size": 4,
        "adam_b1": 0.0,
        "adam_b2": 0.99,
        "learning_rate": 0.01,
    }
    return gan.two_player(gan.TwoPlayerConfig(**{**fields, **changes}), Point(), Slope())


def advance(model, steps, images):
    @jax.jit
    def run(state):
        def body(state, index):
            return model.step(
                state,
                {"images": images},
                jax.random.fold_in(jax.random.key(1), index),
                model.plan(0),
            )

        return jax.lax.scan(body, state, jnp.arange(steps))

    state, metrics = run(jax.jit(model.init)(jax.random.key(0)))
    return state, jax.tree.map(np.asarray, metrics)


@pytest.mark.parametrize(
    "loss", ["minimax", "non_saturating", "hinge", "least_squares", "relativistic"]
)
def test_the_first_turns_of_a_dirac_gan_go_the_way_of_the_gradient(loss):
    # Real 0, generated 1, D(x) = x / 2: the discriminator must call 1 fake, so lower
    # its slope; the generator follows the new slope. (Least squares: D(1) = 1/2 is too
    # high for a fake, and below the generator's target 1.) Adam's first step is of the
    # rate's length.
    state, _ = advance(dirac(loss=loss, disc_learning_rate=0.02), 1, jnp.zeros((4, 1, 1, 1)))
    np.testing.assert_allclose(state.params["disc"]["slope"], 0.5 - 0.02, atol=1e-5)
    np.testing.assert_allclose(state.params["gen"]["place"], 1.0 + 0.01, atol=1e-5)


def test_metrics_are_those_of_the_game():
    state, metrics = advance(dirac(r1_gamma=2.0, r2_gamma=4.0), 1, jnp.full((4, 1, 1, 1), 0.25))
    softplus = lambda x: np.logaddexp(0, x)
    np.testing.assert_allclose(metrics["loss/disc"], softplus(-0.125) + softplus(0.5), rtol=1e-5)
    np.testing.assert_allclose(metrics["health/logit_gap"], 0.125 - 0.5, rtol=1e-5)
    np.testing.assert_allclose(metrics["penalty/r1"], 2 / 2 * 0.25, rtol=1e-5)
    np.testing.assert_allclose(metrics["penalty/r2"], 4 / 2 * 0.25, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["loss/gen"], softplus(-float(state.params["disc"]["slope"])), rtol=1e-4
    )


def test_diversity_is_the_standard_deviation_over_the_batch():
    images = np.random.default_rng(0).normal(2, 3, size=(7, 5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        gan.diversity(jnp.asarray(images)), images.std(axis=0).mean(), rtol=1e-5
    )


def test_a_collapsed_generator_raises_the_alarm():
    noise = jax.random.normal(jax.random.key(0), (4, 1, 1, 1))
    _, metrics = advance(dirac(), 1, noise)
    assert metrics["health/diversity"] == 0
    assert metrics["health/saturated"] == 0
    model = gan.two_player(
        gan.TwoPlayerConfig(shape=(1, 1, 1), z_dim=1, batch_size=4), Point(), Sure()
    )
    assert advance(model, 1, noise)[1]["health/saturated"] == 1


class Sure(nn.Module):
    @nn.compact
    def __call__(self, x, labels, train):
        return x[:, 0, 0, 0] * self.param("slope", lambda key: jnp.float32(8.0))


def test_a_lazy_penalty_weighs_as_many_times_more_when_it_is_due():
    images = jnp.zeros((4, 1, 1, 1))
    model = dirac(r1_gamma=0.5, penalty_interval=3)
    assert [model.plan(step).due for step in range(4)] == [("penalty",), (), (), ("penalty",)]
    state = jax.jit(model.init)(jax.random.key(0))
    step = jax.jit(model.step, static_argnums=3)
    due, idle = (step(state, {"images": images}, jax.random.key(0), model.plan(i)) for i in (0, 1))
    np.testing.assert_allclose(due[1]["penalty/r1"], 0.25 * 0.25)
    assert "penalty/r1" not in idle[1]
    # Adam's second moment is the squared gradient: of the loss alone, and with 3 times
    # gamma * slope.
    moment = lambda state: np.sqrt(float(state.opt["disc"][0].nu["slope"]) / 0.01)
    alone = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(
        [moment(idle[0]), moment(due[0])], [alone, alone + 3 * 0.5 * 0.5], rtol=1e-4
    )


def test_several_discriminator_steps_take_as_many_batches():
    model = dirac(disc_steps=3, loss="wasserstein")
    assert model.plan(0).batch_size == 12
    state, metrics = advance(model, 1, jnp.zeros((12, 1, 1, 1)))
    assert int(state.opt["disc"][0].count) == 3
    assert int(state.opt["gen"][0].count) == 1
    np.testing.assert_allclose(state.params["disc"]["slope"], 0.5 - 3 * 0.01, atol=1e-3)
    np.testing.assert_allclose(metrics["loss/disc"], np.mean([0.5, 0.49, 0.48]), atol=1e-3)


def test_clipping_holds_the_weights():
    state, _ = advance(dirac(loss="wasserstein", clip=0.05), 1, jnp.zeros((4, 1, 1, 1)))
    np.testing.assert_allclose(state.params["disc"]["slope"], 0.05)


def test_the_average_follows_early_and_lags_later():
    images = jnp.zeros((4, 1, 1, 1))
    model = dirac(ema_half_life_images=40.0, ema_ramp=0.5)
    state = jax.jit(model.init)(jax.random.key(0))
    step = jax.jit(model.step, static_argnums=3)
    average = 1.0
    for index in range(30):
        state, _ = step(state, {"images": images}, jax.random.key(index), model.plan(index))
        decay = 0.5 ** (4 / min(40.0, 0.5 * 4 * (index + 1)))
        average = decay * average + (1 - decay) * float(state.params["gen"]["place"])
        np.testing.assert_allclose(state.ema["gen"]["place"], average, rtol=1e-4)


def test_a_metric_is_not_averaged_over_steps_that_lack_it():
    from genjax import data
    from genjax.training import hooks, trainer

    levels = np.full((16, 1, 1, 1), 128, np.uint8)
    arrays = {"images": levels}
    read = lambda index: {"images": levels[index]}
    source = data.Source(
        name="grey",
        size=16,
        full_shape=(1, 1, 1),
        num_labels=0,
        fingerprint="grey",
        read=read,
        arrays=arrays,
    )
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()[:1]), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    rows = []
    note = hooks.every(6, lambda event: rows.append(event.row))
    model = dirac(r1_gamma=2.0, penalty_interval=3, learning_rate=1e-7)
    trainer.fit(model, source, steps=6, log_every=6, hooks=[note], mesh=mesh)
    np.testing.assert_allclose(rows[0]["penalty/r1"], 0.25, rtol=1e-4)


# --- verbs ----------------------------------------------------------------------------


def build(**changes):
    model = gan.recipe(dataclasses.replace(TINY, **changes))
    return model, core.weights(jax.jit(model.init)(jax.random.key(0)))


def test_truncation_draws_latents_to_the_mean():
    model, weights = build()
    mean = model.generate(weights, jnp.zeros((1, 3)))
    np.testing.assert_allclose(
        model.sample(weights, jax.random.key(0), 4, truncation=0.0),
        np.repeat(mean, 4, axis=0),
        atol=1e-6,
    )
    spread = [
        np.std(model.sample(weights, jax.random.key(0), 64, truncation=t), axis=0).mean()
        for t in (0.3, 0.7, 1.0)
    ]
    assert spread[0] < spread[1] < spread[2]


def test_interpolation_goes_from_latents_to_latents():
    model, weights = build()
    first, second = jax.random.normal(jax.random.key(0), (2, 4, 3))
    between = model.interpolate(weights, first, second, 5)
    assert between.shape == (4, 5, 5, 6, 1)
    np.testing.assert_allclose(between[:, 0], model.generate(weights, first), atol=1e-5)
    np.testing.assert_allclose(between[:, -1], model.generate(weights, second), atol=1e-5)


def test_slerp_keeps_to_the_sphere_at_an_even_pace():
    first, second = jnp.float32([[3.0, 0.0, 0.0]]), jnp.float32([[0.0, 3.0, 0.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = t * np.pi / 2
        np.testing.assert_allclose(
            ops.slerp(first, second, t), [[3 * np.cos(angle), 3 * np.sin(angle), 0]], atol=1e-5
        )
    np.testing.assert_allclose(
        ops.slerp(first, 2 * first, 0.5), 1.5 * first, rtol=1e-3
    )  # parallel: only the length changes


@pytest.mark.parametrize("conditional", ["concat", "projection"])
def test_a_conditional_gan_listens_to_the_label(conditional):
    model, weights = build(conditional=conditional, num_labels=3)
    weights = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), weights
    )
    images = model.sample(weights, jax.random.key(0), 6)
    np.testing.assert_allclose(
        images, model.sample(weights, jax.random.key(0), 6, jnp.arange(6) % 3)
    )
    z = jnp.zeros((3, 3))
    assert np.std(model.generate(weights, z, jnp.arange(3)), axis=0).max() > 1e-3
    logits = [model.discriminate(weights, images, jnp.full(6, label)) for label in range(3)]
    assert np.std(logits, axis=0).min() > 1e-5
    with pytest.raises(ValueError, match="labels"):
        model.discriminate(weights, images)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"loss": "hinged"}, "loss hinged: one of minimax"),
        ({"conditional": "concat"}, "conditional concat: needs data with labels"),
        ({"augment": ("colour",)}, "augment"),
        ({"r1_gamma": -1.0}, "r1_gamma -1.0: must be at least 0"),
        ({"penalty_interval": 0}, "penalty_interval 0"),
        ({"label_smoothing": 0.1, "loss": "hinge"}, "label_smoothing 0.1: only with"),
        ({"adam_b1": 1.0}, "adam_b1 1.0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"dtype": "float16"}, "dtype float16"),
        ({"hidden": (0,)}, "hidden"),
        ({"output": "sigmoid"}, "output sigmoid: one of tanh, linear"),
    ],
)
def test_a_config_that_means_nothing_is_refused(changes, option):
    with pytest.raises(InputError, match=option.replace("(", "\\(")):
        gan.recipe(dataclasses.replace(TINY, **changes))
