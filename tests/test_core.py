"""The contract's small helpers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import core


def loss_fn(params, x, y):
    error = x @ params["w"] - y
    return jnp.mean(jnp.square(error)), {"loss/square": jnp.mean(jnp.square(error))}


def problem():
    rng = np.random.default_rng(0)
    return (
        {"w": jnp.float32(rng.normal(size=(3, 2)))},
        jnp.float32(rng.normal(size=(8, 3))),
        jnp.float32(rng.normal(size=(8, 2))),
    )


def test_descend_is_the_optimizer_on_the_gradient():
    params, x, y = problem()
    tx = optax.sgd(0.1)
    new, _, metrics = core.descend(tx, loss_fn, params, tx.init(params), (x, y))
    gradient = 2 * x.T @ (x @ params["w"] - y) / y.size
    np.testing.assert_allclose(new["w"], params["w"] - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/square"], loss_fn(params, x, y)[0])


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulation_is_the_same_step(accumulate):
    params, x, y = problem()
    tx = optax.adam(0.1)
    whole = core.descend(tx, loss_fn, params, tx.init(params), (x, y))
    cut = core.descend(tx, loss_fn, params, tx.init(params), (x, y), accumulate=accumulate)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_ema_halves_after_its_half_life():
    decay = core.ema_decay(batch_size=10, half_life_images=1000)
    average = {"w": jnp.ones(())}
    for _ in range(100):
        average = core.ema(average, {"w": jnp.zeros(())}, decay)
    np.testing.assert_allclose(average["w"], 0.5, rtol=1e-5)
    assert core.ema_decay(10, 0) == 0


def test_a_ramped_half_life_is_a_share_of_what_was_seen_up_to_its_limit():
    for step, half_life in ((0, 5.0), (9, 50.0), (199, 1000.0), (5000, 1000.0)):
        decay = core.ramped_ema_decay(
            jnp.int32(step), batch_size=10, half_life_images=1000, ramp=0.5
        )
        np.testing.assert_allclose(decay, 0.5 ** (10 / half_life), rtol=1e-6)


def test_weights_prefer_the_average():
    state = core.new_state({"gen": 1, "disc": 2}, {}, stats={"gen": 4}, ema={"gen": 3})
    assert core.weights(state) == {"params": {"gen": 3, "disc": 2}, "stats": {"gen": 4}}
