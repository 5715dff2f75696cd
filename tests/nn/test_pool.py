"""The replay pool returns each image once, in sequence."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.nn import pool

exchange = jax.jit(pool.exchange)


def images(first, count):
    return jnp.arange(first, first + count, dtype=jnp.float32).reshape(count, 1, 1, 1) * jnp.ones(
        (1, 2, 2, 1)
    )


def test_it_fills_first_and_gives_back_what_it_gets():
    state, given = exchange(pool.empty(5, (2, 2, 1)), jax.random.key(0), images(0, 3))
    assert int(state["count"]) == 3
    np.testing.assert_array_equal(given, images(0, 3))
    state, given = exchange(state, jax.random.key(1), images(3, 2))
    assert int(state["count"]) == 5
    np.testing.assert_array_equal(given, images(3, 2))
    np.testing.assert_array_equal(state["images"], images(0, 5))


def test_it_is_the_sequence_that_it_says():
    """Every image is stored or was returned, once, and no other ever appears."""
    state, shown, returned = pool.empty(4, (2, 2, 1)), [], []
    for call in range(60):
        new = images(10 * call, 3)
        state, given = exchange(state, jax.random.key(call), new)
        shown += new[:, 0, 0, 0].tolist()
        returned += given[:, 0, 0, 0].tolist()
        stored = state["images"][: int(state["count"]), 0, 0, 0].tolist()
        if call == 0:
            assert stored == shown  # the first four are stored and returned
    first = shown[:4]
    assert sorted(returned[4:] + stored) == sorted(shown[4:] + first)
    swaps = sum(a != b for a, b in zip(shown[4:], returned[4:], strict=True))
    assert 0.35 < swaps / len(shown[4:]) < 0.65


def test_within_one_call_a_later_image_may_meet_an_earlier_one():
    state, _ = exchange(pool.empty(1, (2, 2, 1)), jax.random.key(0), images(0, 1))
    _, given = exchange(state, jax.random.key(3), images(100, 64))
    given = given[:, 0, 0, 0].tolist()
    later = [value for place, value in enumerate(given) if value != 100 + place]
    assert 0.0 in later
    assert any(value >= 100 for value in later)


def test_a_pool_of_nothing_gives_all_back():
    state, given = exchange(pool.empty(0, (2, 2, 1)), jax.random.key(0), images(0, 3))
    np.testing.assert_array_equal(given, images(0, 3))
    assert state["images"].shape == (0, 2, 2, 1)
