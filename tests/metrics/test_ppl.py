"""Perceptual path length of linear generators, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.metrics import ppl
from genjax.nn import ops

SIZE = (4, 4, 1)


def generate(latents):
    return latents.reshape(len(latents), *SIZE)


def distance(a, b):
    return jnp.sum(jnp.square(a - b), axis=(1, 2, 3))


def normal(key, n):
    return jax.random.normal(key, (n, 16))


def pairs(n=5):
    return normal(jax.random.key(0), n), normal(jax.random.key(1), n)


lengths = jax.jit(
    lambda first, second, t, space, epsilon: ppl.path_lengths(
        generate, distance, first, second, t, space=space, epsilon=epsilon
    ),
    static_argnums=(3, 4),
)


def test_straight_ways_through_a_linear_generator():
    """The image moves at the constant speed |second - first|."""
    first, second = pairs()
    expected = np.sum(np.square(first - second), axis=1)
    for t in (np.zeros(5, np.float32), np.linspace(0, 1, 5, dtype=np.float32)):
        np.testing.assert_allclose(lengths(first, second, t, "w", 1e-2), expected, rtol=1e-3)


def test_great_circles_through_a_linear_generator():
    """Between latents of one length the image moves by the angle, that long."""
    first, second = (
        3 * x / np.linalg.norm(x, axis=1, keepdims=True) for x in map(np.asarray, pairs())
    )
    angle = np.arccos(np.sum(first * second, axis=1) / 9)
    for t in (0.0, 0.7):
        np.testing.assert_allclose(
            lengths(first, second, np.full(5, t, np.float32), "z", 1e-2),
            (3 * angle) ** 2,
            rtol=1e-3,
        )


def test_slerp_meets_both_ends_and_keeps_to_the_sphere():
    first, second = pairs()
    slerp = jax.jit(ops.slerp)
    np.testing.assert_allclose(slerp(first, second, jnp.zeros((5, 1))), first, atol=1e-5)
    np.testing.assert_allclose(slerp(first, second, jnp.ones((5, 1))), second, atol=1e-5)
    np.testing.assert_allclose(slerp(first, first, jnp.full((5, 1), 0.3)), first, atol=1e-5)
    between = np.linalg.norm(slerp(first, second, jnp.full((5, 1), 0.5)), axis=1)
    np.testing.assert_allclose(
        between, (np.linalg.norm(first, axis=1) + np.linalg.norm(second, axis=1)) / 2, rtol=1e-5
    )


def test_percentiles_are_discarded():
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    values[values == 999] = 1e9
    # the 1st percentile lies at 9.99, the 99th at 989.01
    assert ppl.summary(values) == np.arange(9.0, 991.0).mean()
    assert ppl.summary(values, (0.0, 100.0)) > 1e5
    assert ppl.summary(np.float32([3])) == 3


def test_the_whole_is_deterministic_and_as_large_as_it_should_be():
    """Of the squared distance of two normal points in 16 dimensions the mean is 32."""
    run = lambda seed, **options: ppl.perceptual_path_length(
        normal,
        generate,
        distance,
        key=jax.random.key(seed),
        samples=1000,
        batch_size=96,
        epsilon=1e-2,
        discard=(0.0, 100.0),
        **options,
    )
    for sampling in ("end", "full"):
        value = run(0, sampling=sampling)
        assert value == pytest.approx(32, rel=0.05)
        assert value == run(0, sampling=sampling)


def test_rounded_images_and_unknown_ways_are_refused():
    first, second = pairs()
    rounded = lambda latents: jnp.round(generate(latents)).astype(jnp.uint8)
    with pytest.raises(ValueError, match="images must be float32"):
        ppl.path_lengths(rounded, distance, first, second, jnp.zeros(5))
    with pytest.raises(ValueError, match="space 's': must be w"):
        ppl.path_lengths(generate, distance, first, second, jnp.zeros(5), space="s")
    for shift, words in (
        (100, "no value of these is below 0"),
        (np.nan, "lengths .n. must be finite"),
    ):
        moved = lambda latents, shift=shift: generate(latents) / 1000 + shift / 1000
        with pytest.raises(ValueError, match=words):
            ppl.perceptual_path_length(normal, moved, distance, key=jax.random.key(0), samples=8)
    with pytest.raises(ValueError, match=r"float images are in \[-1, 1\], these in"):
        ppl.perceptual_path_length(
            normal, lambda z: 255 * generate(z), distance, key=jax.random.key(0), samples=8
        )
    for options in ({"sampling": "middle"}, {"samples": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=r"must be full or end|at least 1"):
            ppl.perceptual_path_length(normal, generate, distance, key=jax.random.key(0), **options)
