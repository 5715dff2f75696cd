"""DiffAugment's transformations against NumPy, their gradients, and random draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genjax.nn import augment

SHAPES = [(5, 8, 8, 3), (3, 9, 20, 1), (4, 1, 16, 2), (2, 1, 1, 4), (2, 24, 2, 3)]
POLICY = ("color", "translation", "cutout")
# Shared, so that each shape is compiled once.
apply = jax.jit(augment.diff_augment, static_argnames="policy")


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
    shift = np.linspace(-0.5, 0.5, n, dtype=np.float32)
    factor = np.linspace(0, 2, n, dtype=np.float32)

    @jax.jit
    def changes(x, shift, factor):
        return [
            augment.brightness(x, shift),
            augment.saturation(x, factor),
            augment.contrast(x, factor),
        ]

    changed = zip(*map(np.asarray, changes(x, shift, factor)), strict=True)
    for i, (brighter, saturated, contrasted) in enumerate(changed):
        np.testing.assert_allclose(brighter, x[i] + shift[i], atol=1e-6)
        grey, mean = x[i].mean(axis=-1, keepdims=True), x[i].mean()
        np.testing.assert_allclose(saturated, grey + factor[i] * (x[i] - grey), atol=1e-6)
        np.testing.assert_allclose(contrasted, mean + factor[i] * (x[i] - mean), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_translation_is_the_definition(shape):
    x, (down, right) = draw(shape), shifts(shape, seed=1)
    expected = np.zeros_like(x)
    for n, i, j in np.ndindex(shape[:3]):
        row, column = i - down[n], j - right[n]
        if 0 <= row < shape[1] and 0 <= column < shape[2]:
            expected[n, i, j] = x[n, row, column]
    got = jax.jit(augment.translate)(x, down, right)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_is_the_definition(shape):
    x, rng = draw(shape), np.random.default_rng(2)
    top, left = (rng.integers(-(size // 2), size + 1, shape[0]) for size in shape[1:3])
    expected = x.copy()
    for n, i, j in np.ndindex(shape[:3]):
        if 0 <= i - top[n] < shape[1] // 2 and 0 <= j - left[n] < shape[2] // 2:
            expected[n, i, j] = 0
    np.testing.assert_array_equal(jax.jit(augment.cutout)(x, top, left), expected)


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
    # The transformations are affine: the sine gives them a second derivative.
    curved = jax.jit(lambda x: jnp.sin(2 * augment.diff_augment(key, x, POLICY)))
    check_grads(curved, (x,), order=2, modes=["rev"])


def test_the_gradient_is_the_transpose_and_second_derivatives_pass_through():
    x, g = (jnp.asarray(draw((4, 8, 9, 3), seed=seed)) for seed in (0, 1))
    key = jax.random.key(5)

    def linear(x):  # the transformations are affine: subtract their value at 0
        y = augment.diff_augment(key, x, POLICY)
        return y - augment.diff_augment(key, jnp.zeros_like(x), POLICY)

    pull = jax.jit(lambda x, g: jax.vjp(linear, x)[1](g)[0])
    np.testing.assert_allclose(jnp.vdot(jax.jit(linear)(x), g), jnp.vdot(x, pull(x, g)), rtol=1e-4)

    # An R1 penalty through the augmentation, D(y) = sum y^3: grad_x |grad_x D(T x)|^2
    # is not zero.
    def penalty(x):
        return jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(linear(x) ** 3))(x)))

    value_and_slope = jax.jit(jax.value_and_grad(penalty))
    step = 1e-2 * g / jnp.linalg.norm(g)
    central = (value_and_slope(x + step)[0] - value_and_slope(x - step)[0]) / 2
    np.testing.assert_allclose(jnp.vdot(value_and_slope(x)[1], step), central, rtol=2e-2)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 1, 2, 1), (4, 9, 30, 2)])
def test_jit_bfloat16_and_images_apart(shape):
    x, key = jnp.asarray(draw(shape)), jax.random.key(1)
    y = apply(key, x, policy=POLICY)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    if shape == (4, 8, 8, 3):
        np.testing.assert_allclose(y, augment.diff_augment(key, x, POLICY), atol=1e-6)
    half = apply(key, x.astype(jnp.bfloat16), policy=POLICY)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), y, atol=0.1)
    other = apply(key, x.at[2].set(0.123), policy=POLICY)
    np.testing.assert_array_equal(np.delete(other, 2, axis=0), np.delete(y, 2, axis=0))


def test_what_is_drawn_differs_by_image_and_by_transformation_and_fills_its_range():
    n, size = 4000, 16
    ones = jnp.ones((n, size, size, 3))
    drawn = lambda x, name: np.asarray(apply(jax.random.key(0), jnp.asarray(x), policy=(name,)))
    # Of a constant image, only the brightness changes.
    shift = drawn(ones, "color")[:, 0, 0, 0] - 1
    assert -0.5 <= shift.min() < -0.49
    assert 0.49 < shift.max() <= 0.5
    assert abs(shift.mean()) < 0.03
    rows = np.broadcast_to(
        np.arange(1.0, size + 1, dtype=np.float32)[None, :, None, None], (n, size, size, 1)
    )
    moved = drawn(rows, "translation")
    down = 8 - moved[:, 7].max(axis=(1, 2))
    assert np.unique(down).tolist() == [-2, -1, 0, 1, 2]
    moved = drawn(rows.swapaxes(1, 2), "translation")
    right = 8 - moved[:, :, 7].max(axis=(1, 2))
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.06
    holes = 1 - drawn(ones, "cutout")[..., 0]
    assert holes.sum(axis=(1, 2)).max() == (size // 2) ** 2
    # A hole half as wide, whose centre has 17 positions: symmetric in every way.
    frequency = holes.mean(axis=0)
    np.testing.assert_allclose(frequency, frequency[::-1], atol=0.04)
    np.testing.assert_allclose(frequency, frequency.T, atol=0.04)
    np.testing.assert_allclose(frequency[8, 8], (8 / 17) ** 2, atol=0.03)
    saturated, contrasted = (
        np.asarray(apply(jax.random.key(i), ones[:2], policy=("color",))) for i in range(2)
    )
    assert not np.allclose(saturated, contrasted)


def test_color_draws_saturation_and_contrast_in_their_ranges():
    x = np.zeros((4000, 2, 1, 3), np.float32)
    # Two opposite colours: the image's mean is 0.
    x[:, 0], x[:, 1] = (0.5, 0.1, 0.0), (-0.5, -0.1, 0.0)
    y = np.asarray(apply(jax.random.key(7), jnp.asarray(x), policy=("color",)))
    luma = lambda x: x.mean(axis=-1)
    # The contrast only.
    spread = (luma(y[:, 0]) - luma(y[:, 1])) / (luma(x[:, 0]) - luma(x[:, 1]))
    assert 0.5 <= spread.min() < 0.51
    assert 1.49 < spread.max() <= 1.5 + 1e-5
    # Saturation times contrast, divided by the contrast.
    chroma = (y[:, 0, :, 0] - y[:, 0, :, 2]) / 0.5 / spread
    assert -1e-5 <= chroma.min() < 0.01
    assert 1.99 < chroma.max() <= 2 + 1e-4


def test_an_unknown_policy_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'colour'.*color, translation, cutout"):
        augment.diff_augment(jax.random.key(0), jnp.zeros((1, 2, 2, 1)), ("colour",))


def test_diff_augment_behind_the_same_call_takes_a_probability():
    x, key = jnp.asarray(draw((400, 2, 4, 3))), jax.random.key(0)
    always = np.asarray(apply(key, x, policy=("color",)))
    either = jax.jit(augment.augment, static_argnames="policy")
    at = lambda p: np.asarray(either(key, x, policy=("color",), p=jnp.float32(p)))
    np.testing.assert_allclose(at(1), always, atol=1e-6)
    np.testing.assert_array_equal(at(0), x)
    sometimes = at(0.3)
    changed = (sometimes != x).any(axis=(1, 2, 3))
    np.testing.assert_allclose(changed.mean(), 0.3, atol=0.07)
    np.testing.assert_allclose(sometimes[changed], always[changed], atol=1e-6)
