"""DiffAugment's transformations against their definitions in NumPy, their gradients, and what is drawn for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genjax.nn import augment

SHAPES = [(5, 8, 8, 3), (3, 9, 20, 1), (4, 1, 16, 2), (2, 1, 1, 4), (2, 24, 2, 3)]
POLICY = ("color", "translation", "cutout")


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def shifts(shape, seed):
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-augment.reach(size), augment.reach(size) + 1, shape[0]) for size in shape[1:3]
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_color_is_the_definition(shape):
    x, n = draw(shape), shape[0]
    shift, factor = (
        np.linspace(-0.5, 0.5, n, dtype=np.float32),
        np.linspace(0, 2, n, dtype=np.float32),
    )
    for i in range(n):
        brighter = augment.brightness(jnp.asarray(x), jnp.asarray(shift))[i]
        np.testing.assert_allclose(brighter, x[i] + shift[i], atol=1e-6)
        grey = x[i].mean(axis=-1, keepdims=True)
        saturated = augment.saturation(jnp.asarray(x), jnp.asarray(factor))[i]
        np.testing.assert_allclose(saturated, grey + factor[i] * (x[i] - grey), atol=1e-6)
        contrasted = augment.contrast(jnp.asarray(x), jnp.asarray(factor))[i]
        np.testing.assert_allclose(
            contrasted, x[i].mean() + factor[i] * (x[i] - x[i].mean()), atol=1e-6
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_translation_is_the_definition(shape):
    x, (down, right) = draw(shape), shifts(shape, seed=1)
    expected = np.zeros_like(x)
    for n, i, j in np.ndindex(shape[:3]):
        row, column = i - down[n], j - right[n]
        if 0 <= row < shape[1] and 0 <= column < shape[2]:
            expected[n, i, j] = x[n, row, column]
    got = augment.translate(jnp.asarray(x), jnp.asarray(down), jnp.asarray(right))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_is_the_definition(shape):
    x, rng = draw(shape), np.random.default_rng(2)
    top, left = (rng.integers(-(size // 2), size + 1, shape[0]) for size in shape[1:3])
    expected = x.copy()
    for n, i, j in np.ndindex(shape[:3]):
        if 0 <= i - top[n] < shape[1] // 2 and 0 <= j - left[n] < shape[2] // 2:
            expected[n, i, j] = 0
    np.testing.assert_array_equal(
        augment.cutout(jnp.asarray(x), jnp.asarray(top), jnp.asarray(left)), expected
    )


def test_neutral_parameters_change_nothing():
    x = jnp.asarray(draw((3, 8, 12, 3)))
    zero, one, outside = jnp.zeros(3, jnp.int32), jnp.ones(3), jnp.full(3, 100)
    same = [
        augment.brightness(x, 0 * one),
        augment.translate(x, zero, zero),
        augment.cutout(x, outside, outside),
    ]
    for y in [*same, augment.diff_augment(jax.random.key(0), x, ())]:
        np.testing.assert_array_equal(y, x)
    for y in (augment.saturation(x, one), augment.contrast(x, one)):
        np.testing.assert_allclose(y, x, atol=1e-6)


def test_saturation_leaves_one_channel_alone_and_can_make_grey():
    x = jnp.asarray(draw((2, 4, 4, 1)))
    np.testing.assert_array_equal(augment.saturation(x, jnp.float32([0, 2])), x)
    grey = np.asarray(augment.saturation(jnp.asarray(draw((2, 4, 4, 3))), jnp.zeros(2)))
    np.testing.assert_allclose(grey, np.broadcast_to(grey[..., :1], grey.shape), atol=1e-6)


def test_gradients_of_every_order_are_right():
    x, key = jnp.asarray(draw((2, 5, 9, 3))), jax.random.key(3)
    check_grads(lambda x: augment.diff_augment(key, x, POLICY), (x,), order=2, modes=["rev"])
    check_grads(
        lambda x: jnp.sin(2 * augment.diff_augment(key, x, POLICY)), (x,), order=2, modes=["rev"]
    )


def test_the_gradient_is_the_transpose_and_second_derivatives_pass_through():
    x, g, key = (
        jnp.asarray(draw((4, 8, 9, 3))),
        jnp.asarray(draw((4, 8, 9, 3), seed=1)),
        jax.random.key(5),
    )

    def linear(x):  # translation and cutout are linear; colours are affine, less their value at 0
        y = augment.diff_augment(key, x, POLICY)
        return y - augment.diff_augment(key, jnp.zeros_like(x), POLICY)

    _, pull = jax.vjp(linear, x)
    np.testing.assert_allclose(jnp.vdot(linear(x), g), jnp.vdot(x, pull(g)[0]), rtol=1e-4)
    # An R1 penalty through the augmentation: D(y) = sum y^3, so that grad_x |grad_x D(T x)|^2 is not zero.
    penalty = lambda x: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(linear(x) ** 3))(x)))
    step = 1e-2 * g / jnp.linalg.norm(g)
    central = (penalty(x + step) - penalty(x - step)) / 2
    np.testing.assert_allclose(jnp.vdot(jax.grad(penalty)(x), step), central, rtol=2e-2)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 1, 2, 1), (4, 9, 30, 2)])
def test_jit_bfloat16_and_images_apart(shape):
    x, key = jnp.asarray(draw(shape)), jax.random.key(1)
    apply = jax.jit(augment.diff_augment, static_argnames="policy")
    y = apply(key, x, policy=POLICY)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, augment.diff_augment(key, x, POLICY), atol=1e-6)
    half = apply(key, x.astype(jnp.bfloat16), policy=POLICY)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), y, atol=0.1)
    other = apply(key, x.at[2].set(0.123), policy=POLICY)
    np.testing.assert_array_equal(np.delete(other, 2, axis=0), np.delete(y, 2, axis=0))


def test_what_is_drawn_differs_by_image_and_by_transformation_and_fills_its_range():
    n, size = 4000, 16
    ones = jnp.ones((n, size, size, 3))
    shift = (
        np.asarray(augment.diff_augment(jax.random.key(0), ones, ("color",)))[:, 0, 0, 0] - 1
    )  # constant: brightness alone
    assert -0.5 <= shift.min() < -0.49
    assert 0.49 < shift.max() <= 0.5
    assert abs(shift.mean()) < 0.03
    rows = np.broadcast_to(
        np.arange(1.0, size + 1, dtype=np.float32)[None, :, None, None], (n, size, size, 1)
    )
    moved = np.asarray(augment.diff_augment(jax.random.key(0), jnp.asarray(rows), ("translation",)))
    down = 8 - moved[:, 7].max(axis=(1, 2))
    assert np.unique(down).tolist() == [-2, -1, 0, 1, 2]
    across = np.asarray(
        augment.diff_augment(jax.random.key(0), jnp.asarray(rows.swapaxes(1, 2)), ("translation",))
    )
    right = 8 - across[:, :, 7].max(axis=(1, 2))
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.06
    holes = 1 - np.asarray(augment.diff_augment(jax.random.key(0), ones, ("cutout",)))[..., 0]
    assert holes.sum(axis=(1, 2)).max() == (size // 2) ** 2
    frequency = holes.mean(
        axis=0
    )  # a hole half as wide, whose centre is one of 17 places: the law is that of every symmetry
    np.testing.assert_allclose(frequency, frequency[::-1], atol=0.04)
    np.testing.assert_allclose(frequency, frequency.T, atol=0.04)
    np.testing.assert_allclose(frequency[8, 8], (8 / 17) ** 2, atol=0.03)
    saturated, contrasted = (
        np.asarray(augment.DIFF_AUGMENT["color"](jax.random.key(i), ones[:2])) for i in range(2)
    )
    assert not np.allclose(saturated, contrasted)


def test_color_draws_saturation_and_contrast_in_their_ranges():
    x = np.zeros((4000, 2, 1, 3), np.float32)
    x[:, 0], x[:, 1] = (
        (0.5, 0.1, 0.0),
        (-0.5, -0.1, 0.0),
    )  # two opposite colours: the image's mean is 0
    y = np.asarray(augment.diff_augment(jax.random.key(7), jnp.asarray(x), ("color",)))
    spread = (y[:, 0].mean(axis=-1) - y[:, 1].mean(axis=-1)) / (
        x[:, 0].mean(axis=-1) - x[:, 1].mean(axis=-1)
    )  # contrast alone
    assert 0.5 <= spread.min() < 0.51
    assert 1.49 < spread.max() <= 1.5 + 1e-5
    chroma = (
        (y[:, 0, :, 0] - y[:, 0, :, 2]) / 0.5 / spread
    )  # saturation times contrast, over contrast
    assert -1e-5 <= chroma.min() < 0.01
    assert 1.99 < chroma.max() <= 2 + 1e-4


def test_an_unknown_policy_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'colour'.*color, translation, cutout"):
        augment.diff_augment(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), ("colour",))


def test_diff_augment_behind_the_same_call_takes_a_probability():
    x, key = jnp.asarray(draw((400, 2, 4, 3))), jax.random.key(0)
    always = augment.diff_augment(key, x, ("color",))
    apply = jax.jit(augment.augment, static_argnames="policy")
    at = lambda p: np.asarray(apply(key, x, policy=("color",), p=jnp.float32(p)))
    np.testing.assert_allclose(at(1), always, atol=1e-6)
    np.testing.assert_array_equal(at(0), x)
    changed = (at(0.3) != x).any(axis=(1, 2, 3))
    np.testing.assert_allclose(changed.mean(), 0.3, atol=0.07)
    np.testing.assert_allclose(at(0.3)[changed], always[changed], atol=1e-6)
