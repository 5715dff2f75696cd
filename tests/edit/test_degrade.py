"""Image degradation models against their formulas in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit import degrade


@functools.partial(jax.jit, static_argnames=("name", "ranges"))
def compiled(name, key, images, ranges):
    return degrade.DEGRADATIONS[name](key, images, **dict(ranges))


def degraded(name, seed, images, **ranges):
    floats = {
        k: tuple(map(float, v)) if isinstance(v, tuple) else float(v) for k, v in ranges.items()
    }
    return compiled(name, jax.random.key(seed), images, tuple(floats.items()))


def photos(n=2, height=20, width=27):
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack([np.sin(rows / 4 + c) * np.cos(columns / 5) for c in range(3)], axis=-1)
    return jnp.asarray(np.stack([base * scale for scale in np.linspace(0.9, 0.5, n)]), jnp.float32)


@pytest.mark.parametrize("name", degrade.DEGRADATIONS)
def test_shape_range_and_determinism(name):
    images = photos()
    first = degraded(name, 0, images)
    assert first.shape == images.shape
    assert first.dtype == jnp.float32
    assert np.all(np.isfinite(first))
    assert np.max(np.abs(first)) <= 1 + 1e-6
    np.testing.assert_array_equal(first, degraded(name, 0, images))
    assert not np.allclose(first, degraded(name, 1, images), atol=1e-3)
    assert not np.allclose(first, images, atol=1e-2)


def test_depth_is_smooth_and_fills_0_to_1():
    depth = jax.jit(degrade.depth, static_argnums=(1, 2, 3))
    depths = np.asarray(depth(jax.random.key(0), 5, 40, 60))
    assert depths.shape == (5, 40, 60, 1)
    np.testing.assert_allclose(depths.min(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(depths.max(axis=(1, 2, 3)), 1, atol=1e-6)
    assert np.max(np.abs(np.diff(depths, axis=1))) < 0.15
    assert np.mean(depths[:, :10]) > np.mean(depths[:, -10:]) + 0.2  # farther toward the top


def test_haze_is_between_the_scene_and_the_airlight():
    """I = J t + A (1 - t), A and beta fixed: t follows, the same for all channels."""
    images = photos()
    hazy = degraded("haze", 3, images, beta=(1.2, 1.2), light=(0.8, 0.8))
    clear, hazy = np.float64(images + 1) / 2, np.float64(hazy + 1) / 2
    usable = np.abs(clear - 0.8) > 0.1
    t = np.where(usable, (hazy - 0.8) / np.where(usable, clear - 0.8, 1), np.nan)
    assert np.nanmax(t) <= 1 + 1e-4
    assert np.nanmin(t) >= np.exp(-1.2) - 1e-4
    assert np.nanmax(np.nanmax(t, axis=3) - np.nanmin(t, axis=3)) < 1e-4
    np.testing.assert_allclose(degraded("haze", 3, images, beta=(0, 0)), images, atol=1e-5)


def test_low_light_is_gain_times_a_power_and_noise_of_its_variance():
    images = jnp.broadcast_to(jnp.float32([0.2, 0.6])[:, None, None, None], (2, 100, 100, 3))
    clean = degraded("lowlight", 0, images, gamma=(2, 2), gain=(0.5, 0.5), shot=0, read=0)
    np.testing.assert_allclose((clean + 1) / 2, 0.5 * ((images + 1) / 2) ** 2, atol=1e-6)
    noisy = degraded("lowlight", 0, images, gamma=(2, 2), gain=(0.5, 0.5), shot=0.002, read=0.01)
    level = 0.5 * np.array([0.36, 0.64])
    noise = np.asarray(noisy - clean)[:] / 2
    np.testing.assert_allclose(noise.var(axis=(1, 2, 3)), 0.002 * level + 1e-4, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=(1, 2, 3)), 0, atol=1e-3)


def test_blur_is_the_gaussian_filter():
    image = np.zeros((1, 31, 31, 1), np.float32)
    image[0, 15, 15] = 1
    blurred = np.asarray(degraded("blur", 0, jnp.asarray(image), sigma=(1.5, 1.5)))[0, :, :, 0]
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()
    np.testing.assert_allclose(blurred[10:21, 10:21], np.outer(taps, taps), atol=1e-6)
    np.testing.assert_allclose(degraded("blur", 0, jnp.full((1, 9, 9, 3), 0.3)), 0.3, atol=1e-6)


def test_blocks_of_high_quality_are_nearly_the_image_and_a_constant_block_stays():
    images = photos()
    fine = degraded("blocks", 0, images, quality=(99, 99))
    coarse = degraded("blocks", 0, images, quality=(10, 10))
    assert np.abs(fine - images).max() < 0.03
    assert np.abs(coarse - images).mean() > 3 * np.abs(fine - images).mean()
    # Its one coefficient, 8 * 16, is a multiple of the step of 16 at quality 50.
    flat = jnp.full((1, 8, 8, 1), 16 / 127.5)
    np.testing.assert_allclose(degraded("blocks", 0, flat, quality=(50, 50)), flat, atol=1e-5)


def test_gradients_reach_the_image():
    slopes = jax.jit(jax.grad(lambda x, name: jnp.sum(degraded(name, 0, x))), static_argnums=1)
    for name in ("haze", "lowlight", "blur"):
        slope = slopes(photos() * 0.5, name)
        assert np.all(np.isfinite(slope))
        assert np.any(slope != 0)
