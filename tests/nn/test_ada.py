"""ADA's transformations against their definitions in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn import augment

ADA_SHAPES = [(3, 8, 8, 3), (2, 9, 14, 1), (2, 11, 6, 4)]
resample, recolor = jax.jit(augment.resample), jax.jit(augment.recolor)


def vector(*values):
    return jnp.asarray(values, jnp.float32)


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_the_wavelets_are_orthonormal_and_have_their_vanishing_moments():
    for taps, moments in ((augment.SYM2, 2), (augment.SYM6, 6)):
        taps, index = np.asarray(taps), np.arange(len(taps))
        assert len(taps) == 2 * moments
        np.testing.assert_allclose(taps.sum(), np.sqrt(2), atol=1e-12)
        overlaps = [taps[: len(taps) - 2 * m] @ taps[2 * m :] for m in range(moments)]
        np.testing.assert_allclose(overlaps, np.eye(1, moments)[0], atol=1e-11)
        highpass = taps * (-1.0) ** index
        np.testing.assert_allclose(
            [highpass @ (index / len(taps)) ** k for k in range(moments)], 0, atol=1e-11
        )
        assert abs(highpass @ (index / len(taps)) ** moments) > 1e-4
    # A symlet is the most symmetric filter of its length: its phase is nearly linear.
    phase = np.unwrap(np.angle(np.fft.fft(augment.SYM6, 240)[:60]))
    spread = [abs(phase + 2 * np.pi * np.arange(60) / 240 * k).max() for k in (5, 0)]
    assert spread[0] < 0.4 < spread[1]


def test_the_bands_are_symmetric_sum_to_the_identity_and_lie_an_octave_apart():
    np.testing.assert_allclose(augment.BANDS.sum(0), np.eye(1, 43, 21)[0], atol=1e-12)
    np.testing.assert_allclose(augment.BANDS, augment.BANDS[:, ::-1], atol=1e-15)
    frequency = np.linspace(0, np.pi, 513)
    response = augment.BANDS @ np.cos(np.arange(-21, 22)[:, None] * frequency[None])
    edges = np.pi * np.array([0, 1 / 8, 1 / 4, 1 / 2, 1])
    for band, (low, high) in zip(response, itertools.pairwise(edges), strict=True):
        middle = (low + high) / 2 if low else 0.0
        assert band[np.argmin(abs(frequency - middle))] > 0.7
        assert low * 0.8 <= frequency[band.argmax()] <= high * 1.2
    assert (response > -1e-12).all()
    np.testing.assert_allclose(sum(augment.POWER), 1)


@pytest.mark.parametrize("shape", ADA_SHAPES)
def test_pixels_are_moved_exactly(shape):
    shape = (4, *shape[1:])
    x, rng = draw(shape), np.random.default_rng(3)
    down, right = (
        rng.integers(-augment.reach(size), augment.reach(size) + 1, 4) for size in shape[1:3]
    )
    flipped = np.array([False, True, True, False])
    mirrored = np.asarray(jax.jit(augment.flip)(jnp.asarray(x), jnp.asarray(flipped)))
    rotated = np.asarray(jax.jit(augment.turn)(jnp.asarray(x), jnp.arange(4)))
    for i in range(4):
        np.testing.assert_array_equal(mirrored[i], x[i, :, ::-1] if flipped[i] else x[i])
        quarters = i if shape[1] == shape[2] else i // 2 * 2
        np.testing.assert_array_equal(rotated[i], np.rot90(x[i], quarters))
    high, wide = (augment.reach(size) for size in shape[1:3])
    padded = np.pad(x, ((0, 0), (high, high), (wide, wide), (0, 0)), mode="reflect")
    shift = jax.jit(augment.shift)
    moved = np.asarray(shift(jnp.asarray(x), jnp.asarray(down), jnp.asarray(right)))
    for i, (i_down, i_right) in enumerate(zip(down, right, strict=True)):
        expected = padded[i, high - i_down :, wide - i_right :][: shape[1], : shape[2]]
        np.testing.assert_array_equal(moved[i], expected)
    far = shift(jnp.asarray(x), jnp.full(4, 99), jnp.full(4, -99))  # clipped
    np.testing.assert_array_equal(far, padded[:, : shape[1], 2 * wide :])


def places(matrix, height, width):
    """Source position of each output pixel, in rows and columns."""
    i, j = np.mgrid[:height, :width]
    points = (
        np.stack([j - (width - 1) / 2, i - (height - 1) / 2, np.ones_like(i)], axis=-1)
        @ np.asarray(matrix).T
    )
    return points[..., 1] + (height - 1) / 2, points[..., 0] + (width - 1) / 2


@jax.jit
def matrices():
    """Three, one per image: rotated, stretched, moved by a fraction of a pixel."""
    turned = augment._product(
        augment.rotation(vector(0.6)), augment.scaling(vector(1.2), vector(0.9))
    )
    stretched = augment._product(
        augment.scaling(vector(0.8), vector(1.25)), augment.rotation(vector(-2.5))
    )
    return jnp.concatenate([turned, stretched, augment.translation(vector(1.3), vector(-0.6))])


def test_resampling_is_the_definition_in_numpy():
    """Sums over every tap and pixel, where no point is over 3 pixels outside."""
    (height, width), x = (8, 7), draw((3, 8, 7, 1))
    matrix = np.asarray(matrices()).astype(np.float64)
    # Magnify, so that points stay near the image.
    matrix[:, :2] = 0.2 * matrix[:, :2] + 0.6 * np.eye(3)[None, :2]
    got = resample(jnp.asarray(x), jnp.asarray(matrix, jnp.float32))
    pad, taps, centre = 8, np.array(augment.SYM6), augment.CENTRE

    def upsampled(line):
        large = np.zeros(2 * len(line) + 12)
        for i, value in enumerate(line):
            large[2 * i : 2 * i + 12] += np.sqrt(2) * taps * value
        return large

    for image, inverse, y in zip(x[..., 0], matrix, got[..., 0], strict=True):
        large = np.apply_along_axis(
            upsampled, 1, np.apply_along_axis(upsampled, 0, np.pad(image, pad, mode="reflect"))
        )
        expected = np.zeros((height, width))
        for i, j, a, b in np.ndindex(height, width, 12, 12):
            point = [
                (2 * j + b - centre) / 2 - (width - 1) / 2,
                (2 * i + a - centre) / 2 - (height - 1) / 2,
                1,
            ]
            across, along, _ = inverse @ point
            row, column = (
                2 * (along + (height - 1) / 2 + pad) + centre,
                2 * (across + (width - 1) / 2 + pad) + centre,
            )
            assert abs(along) <= (height - 1) / 2 + 3
            assert abs(across) <= (width - 1) / 2 + 3
            (r, s), (f, g) = (int(row), int(column)), (row % 1, column % 1)
            value = (1 - f) * ((1 - g) * large[r, s] + g * large[r, s + 1])
            value += f * ((1 - g) * large[r + 1, s] + g * large[r + 1, s + 1])
            expected[i, j] += taps[a] * taps[b] / 2 * value
        np.testing.assert_allclose(y, expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(3, 9, 14, 1), (3, 1, 1, 3), (3, 1, 5, 3)])
def test_the_identity_is_exact_and_next_to_it_nothing_changes(shape):
    x, eye = jnp.asarray(draw(shape)), jnp.broadcast_to(jnp.eye(3)[None], (3, 3, 3))
    np.testing.assert_array_equal(resample(x, eye), x)
    np.testing.assert_allclose(resample(x, eye.at[:, 0, 2].set(1e-6)), x, atol=2e-5)
    mixed = np.asarray(resample(x, eye.at[1].set(matrices()[0])))
    np.testing.assert_array_equal(mixed[::2], x[::2])
    # Far outside there are reflections of reflections: a shift by whole periods is the
    # identity, and all colours are the image's.
    period = max(2 * (shape[2] - 1), 1)
    away = np.asarray(resample(x, eye.at[:, 0, 2].set(10 * period)))
    np.testing.assert_allclose(away[:, :, 3:-3], x[:, :, 3:-3], atol=0.02)
    far = augment.translation(vector(300, 0, 5), vector(0, -70, 9))
    constant = resample(jnp.full(shape, 0.7), jax.jit(augment._product)(matrices(), far))
    np.testing.assert_allclose(constant, 0.7, atol=1e-5)


def test_resampling_moves_turns_and_scales():
    i, j = np.mgrid[:24, :24].astype(np.float32)
    smooth = np.stack(
        [np.sin(i / 5 + 0.3) * np.cos(j / 6), np.cos(i / 7 + j / 5), (j - i) / 24], axis=-1
    )
    images = jnp.asarray(np.stack([smooth] * 3))
    rotated = np.asarray(resample(images, augment.rotation(vector(1, 2, 3) * jnp.pi / 2)))
    for quarters, got in enumerate(rotated, start=1):
        expected = np.rot90(smooth, quarters)
        np.testing.assert_allclose(got[4:-4, 4:-4], expected[4:-4, 4:-4], atol=3e-3)
        np.testing.assert_allclose(got, expected, atol=0.06)  # a kink at the edges
    # Shifts by whole pixels lose nothing, whatever the image.
    noisy = draw((3, 24, 24, 3))
    moved = resample(jnp.asarray(noisy), augment.translation(vector(-2, -2, 3), vector(3, 3, 0)))
    np.testing.assert_allclose(np.asarray(moved)[:2, 6:-8, 7:-5], noisy[:2, 9:-5, 5:-7], atol=5e-3)
    inverse = np.asarray(matrices())
    for image, matrix in zip(np.asarray(resample(images, matrices())), inverse, strict=True):
        row, column = places(matrix, 24, 24)
        inside = (np.minimum(row, column) > 5) & (np.maximum(row, column) < 18)
        assert inside.sum() > 100
        plane, wave = (column - row) / 24, np.cos(row / 7 + column / 5)
        np.testing.assert_allclose(image[..., 2][inside], plane[inside], atol=1e-4)
        np.testing.assert_allclose(image[..., 1][inside], wave[inside], atol=3e-3)


def test_colour_matrices_are_colour_arithmetic():
    n, amount = 2, vector(-0.9, 1.7)
    x, a = draw((n, 3, 4, 3)), np.asarray(amount)[:, None, None, None]
    luma = lambda x: np.asarray(x).mean(axis=-1, keepdims=True)
    change = lambda matrix: np.asarray(recolor(jnp.asarray(x), matrix))
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(change(augment.shifted_colors(amount)), x + a)
    close(change(augment.scaled_colors(amount)), x * a)
    close(change(augment.scaled_saturation(amount)), luma(x) + a * (x - luma(x)))
    grey = change(augment.scaled_saturation(0 * amount))
    close(grey, np.broadcast_to(luma(x), grey.shape))
    negative = change(augment.flipped_luma(jnp.ones(n)))
    close(negative, x - 2 * luma(x))
    close(recolor(jnp.asarray(negative), augment.flipped_luma(jnp.ones(n))), x)
    turned = change(augment.turned_hue(amount))
    close(luma(turned), luma(x))
    close(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1))
    # A third of a circle: red to green to blue to red.
    third = change(augment.turned_hue(jnp.full(n, 2 * jnp.pi / 3)))
    close(third, np.roll(x, 1, axis=-1))
    around = augment._product(augment.turned_hue(amount), augment.turned_hue(-amount))
    close(around, np.broadcast_to(np.eye(4), around.shape))
    # The last factor is applied first.
    both = augment._product(augment.scaled_colors(amount), augment.shifted_colors(amount))
    close(change(both), (x + a) * a)


def test_colours_of_grey_images_of_alpha_and_of_no_known_kind():
    amount = vector(0.3, 2.0)
    changes = [
        augment.shifted_colors(amount),
        augment.scaled_colors(amount),
        augment.flipped_luma(vector(1, 1)),
        augment.turned_hue(amount),
        augment.scaled_saturation(amount),
    ]
    grey = draw((2, 3, 4, 1))
    for matrix in [*changes, augment._product(*changes)]:
        of_three = recolor(jnp.asarray(np.repeat(grey, 3, axis=3)), matrix)
        np.testing.assert_allclose(
            recolor(jnp.asarray(grey), matrix)[..., 0], np.mean(of_three, axis=3), atol=1e-5
        )
        x = jnp.asarray(draw((2, 3, 4, 4)))
        both = recolor(x, matrix)
        np.testing.assert_array_equal(both[..., 3], x[..., 3])
        np.testing.assert_allclose(both[..., :3], recolor(x[..., :3], matrix), atol=1e-6)
    np.testing.assert_allclose(recolor(jnp.asarray(grey), changes[2]), -grey, atol=1e-6)
    with pytest.raises(ValueError, match="2 channels: must have 1, 3 or 4"):
        augment.recolor(jnp.zeros((2, 3, 3, 2)), changes[0])


@pytest.mark.parametrize("shape", [(2, 8, 30, 3), (2, 1, 3, 1), (2, 7, 5, 4)])
def test_the_filter_is_its_bands_reflected_at_the_edges(shape):
    x, gains = draw(shape), np.array([[1.5, 0.3, 2.0, 0.6], [1, 1, 1, 1 + 1e-6]], np.float32)
    amplify = jax.jit(augment.amplify)
    got = np.asarray(amplify(jnp.asarray(x), jnp.asarray(gains)))
    colors = min(shape[3], 3)
    expected = np.pad(x[0].astype(np.float64), ((21, 21), (21, 21), (0, 0)), mode="reflect")
    for axis in (0, 1):
        expected = np.apply_along_axis(
            np.convolve, axis, expected, gains[0] @ augment.BANDS, mode="valid"
        )
    np.testing.assert_allclose(got[0, ..., :colors], expected[..., :colors], atol=1e-5)
    np.testing.assert_allclose(got[1], x[1], atol=1e-5)  # the bands sum to the identity
    np.testing.assert_array_equal(got[..., 3:], x[..., 3:])
    np.testing.assert_array_equal(amplify(jnp.asarray(x), jnp.ones((2, 4))), x)


def test_noise_has_its_deviation_and_leaves_alpha_alone():
    field, deviation = jax.random.normal(jax.random.key(0), (3, 40, 40, 4)), vector(0, 0.05, 0.2)
    x = jnp.asarray(draw((3, 40, 40, 4)))
    added = np.asarray(augment.noise(x, field, deviation) - x)
    np.testing.assert_allclose(added[..., :3].std(axis=(1, 2, 3)), deviation, rtol=0.05)
    np.testing.assert_array_equal(added[..., 3], 0)
    np.testing.assert_array_equal(added[0], 0)


@pytest.mark.parametrize(
    "name", ["flip", "turn", "shift", "blit", "resample", "recolor", "amplify", "noise", "cutout"]
)
def test_each_transformation_keeps_bfloat16(name):
    x, two = jnp.zeros((2, 4, 4, 3), jnp.bfloat16), jnp.array([1, 1])
    parameters = {
        "flip": (two == 1,),
        "turn": (two,),
        "shift": (two, two),
        "blit": (two == 1, two, two, two),
        "resample": (augment.rotation(vector(1, 1)),),
        "recolor": (augment.shifted_colors(vector(1, 1)),),
        "amplify": (jnp.full((2, 4), 1.5),),
        "noise": (jnp.ones(x.shape), vector(1, 1)),
        "cutout": (two, two),
    }
    assert jax.eval_shape(getattr(augment, name), x, *parameters[name]).dtype == jnp.bfloat16
