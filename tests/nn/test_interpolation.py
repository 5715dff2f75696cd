"""Bilinear interpolation: every form is the definition, to the second derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn import augment, interpolation, ops

SHAPES = {  # height and width of the image, of the points; largest step between them
    "one window each": ((70, 90), (17, 33), 1.0),
    "several passes": ((60, 140), (20, 5), 8.0),
    "smaller than a window": ((2, 5), (4, 3), 0.5),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def points(size, grid, step):
    """An affine grid of points for each of two images, some outside."""
    matrices = step * np.random.default_rng(1).uniform(-1, 1, (2, 2, 2)).astype(np.float32)
    place = np.stack(np.mgrid[: grid[0], : grid[1]], axis=-1) - np.array(grid) / 2
    moved = np.einsum("nij,abj->nabi", matrices, place) + np.array(size) / 2
    limits = np.array(size, np.float32)
    return [jnp.clip(jnp.float32(moved[..., i]), -1.5, limits[i] + 0.5) for i in (0, 1)]


def definition(images, rows, columns):
    """Sum over all pixels of the products of two hat functions, extended linearly."""
    values = np.zeros((*rows.shape, images.shape[3]))
    for n, a, b in np.ndindex(rows.shape):
        weights = []
        for place, side in ((rows[n, a, b], images.shape[1]), (columns[n, a, b], images.shape[2])):
            first = min(max(int(np.floor(place)), 0), side - 2)
            weights.append({first: 1 - (place - first), first + 1: place - first})
        for i, down in weights[0].items():
            for j, right in weights[1].items():
                values[n, a, b] += down * right * images[n, i, j]
    return values


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_each_platforms_form_is_the_definition(case, platform, on_platform):
    size, grid, step = SHAPES[case]
    images, (rows, columns) = draw(2, *size, 3), points(size, grid, step)
    with on_platform(platform):
        values = jax.jit(interpolation.bilinear)(images, rows, columns)
    wanted = definition(images, np.asarray(rows), np.asarray(columns))
    np.testing.assert_allclose(values, wanted, atol=2e-5)


@pytest.mark.parametrize("case", SHAPES)
def test_gradients_of_the_windows_are_those_of_the_gather(case, on_platform):
    size, grid, step = SHAPES[case]
    images, (rows, columns) = draw(2, *size, 2), points(size, grid, step)
    weights, direction = draw(2, *grid, 2, seed=3), draw(2, *size, 2, seed=4)

    def loss(x):
        return jnp.sum(jnp.tanh(interpolation.bilinear(x, rows, columns)) * weights)

    def both(x):
        second = jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) * direction))
        return jax.grad(loss)(x), second(x)

    expected = jax.jit(both)(images)
    with on_platform("tpu"):
        found = jax.jit(both)(images)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_windows_are_large_enough_for_nearly_all_that_is_drawn():
    """Else every step would take several passes."""
    size, p = 64, jnp.float32(1.0)
    (inverse,) = augment.draw_geometry(jax.random.key(0), (256, size, size, 3), p)
    rows, columns = jax.jit(functools.partial(augment.source_points, (size, size)))(inverse)
    plan = functools.partial(interpolation.plan, (2 * size + 12,) * 2)
    passes = [
        plan(*(interpolation.tiled(x[i : i + 1]) for x in (rows, columns)))[1] for i in range(256)
    ]
    assert np.mean(np.prod(passes, axis=1) == 1) > 0.98


@pytest.mark.parametrize("filters", ["up", "down", "plain"])
def test_filters_of_pixels_as_products_are_the_same_filters(filters, on_platform):
    images, taps = draw(2, 9, 12, 3), [0.1, 0.2, 0.4, 0.5]
    form = {
        "up": lambda x: ops.fir(x, taps, (17, 19), up=2, low=3),
        "down": lambda x: ops.fir(x, taps, (5, 6), down=2, low=1),
        "plain": lambda x: ops.fir(x, taps, (11, 9), low=2),
    }[filters]
    loss = lambda x: jnp.sum(jnp.sin(form(x)))
    both = lambda x: (form(x), jax.grad(loss)(x))
    expected = jax.jit(both)(images)
    with on_platform("tpu"):
        assert "dot_general" in str(jax.make_jaxpr(form)(images))
        found = jax.jit(both)(images)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_augmentation_for_a_tpu_is_the_same(on_platform):
    images = jnp.asarray(np.tanh(draw(4, 16, 16, 3)))
    apply = lambda x: augment.augment(jax.random.key(3), x, "bgc", jnp.float32(1))
    expected = jax.jit(apply)(images)
    with on_platform("tpu"):
        found = jax.jit(apply)(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
