"""ADA's transformations against their definitions in NumPy, their gradients, what is drawn for them, and its controller."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genjax.nn import augment

ADA_SHAPES = [(3, 8, 8, 3), (2, 9, 14, 1), (2, 11, 6, 4)]
GROUPS = tuple(augment.GROUPS)
ALL = "bgcfnc"
apply = jax.jit(
    augment.augment, static_argnames="policy"
)  # shared, so that each shape is compiled once
resample, recolor = jax.jit(augment.resample), jax.jit(augment.recolor)


def vector(*values):
    return jnp.asarray(values, jnp.float32)


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def drawn(group, shape, p):
    """The parameters of 4000 images of `shape`, in NumPy."""
    return [
        np.asarray(parameter)
        for parameter in _draw(group)(jax.random.key(9), (4000, *shape), jnp.float32(p))
    ]


@functools.cache
def _draw(group):
    return jax.jit(augment.GROUPS[group][0], static_argnums=1)


def at_identity(group, parameters):
    """Whether each image's parameters change nothing."""
    match group:
        case "blit":
            return ~parameters[0] & (np.stack(parameters[1:]) == 0).all(0)
        case "geom" | "color":
            return (parameters[0] == np.eye(parameters[0].shape[1], dtype=np.float32)).all((1, 2))
        case "filter":
            return (parameters[0] == 1).all(1)
        case "noise":
            return parameters[1] == 0
        case _:
            return parameters[0] == 8  # the hole is below these images of 8 rows


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
    spread = [
        abs(
            np.unwrap(np.angle(np.fft.fft(augment.SYM6, 240)[:60]))
            + 2 * np.pi * np.arange(60) / 240 * k
        ).max()
        for k in (5, 0)
    ]
    assert (
        spread[0] < 0.4 < spread[1]
    )  # a symlet: the most symmetric of its length, its phase next to linear


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
    for i in range(4):
        np.testing.assert_array_equal(
            augment.flip(jnp.asarray(x), jnp.asarray(flipped))[i],
            x[i, :, ::-1] if flipped[i] else x[i],
        )
        turned = augment.turn(jnp.asarray(x), jnp.arange(4))[i]
        np.testing.assert_array_equal(
            turned, np.rot90(x[i], i if shape[1] == shape[2] else i // 2 * 2)
        )
    high, wide = (augment.reach(size) for size in shape[1:3])
    padded = np.pad(x, ((0, 0), (high, high), (wide, wide), (0, 0)), mode="reflect")
    moved = augment.shift(jnp.asarray(x), jnp.asarray(down), jnp.asarray(right))
    for i, (i_down, i_right) in enumerate(zip(down, right, strict=True)):
        expected = padded[i, high - i_down :, wide - i_right :][: shape[1], : shape[2]]
        np.testing.assert_array_equal(moved[i], expected)
    far = augment.shift(jnp.asarray(x), jnp.full(4, 99), jnp.full(4, -99))  # as far as it goes
    np.testing.assert_array_equal(far, padded[:, : shape[1], 2 * wide :])


def places(matrix, height, width):
    """Where in the image the pixel (i, j) of the output is seen, in rows and columns."""
    i, j = np.mgrid[:height, :width]
    points = (
        np.stack([j - (width - 1) / 2, i - (height - 1) / 2, np.ones_like(i)], axis=-1)
        @ np.asarray(matrix).T
    )
    return points[..., 1] + (height - 1) / 2, points[..., 0] + (width - 1) / 2


def matrices():
    """Of three kinds, for one image each: turned, stretched, moved by a part of a pixel."""
    turned = augment._product(
        augment.rotation(vector(0.6)), augment.scaling(vector(1.2), vector(0.9))
    )
    stretched = augment._product(
        augment.scaling(vector(0.8), vector(1.25)), augment.rotation(vector(-2.5))
    )
    return jnp.concatenate([turned, stretched, augment.translation(vector(1.3), vector(-0.6))])


def test_resampling_is_the_definition_in_numpy():
    """By sums over every tap and pixel, where no point is more than 3 pixels outside."""
    (height, width), x = (8, 7), draw((3, 8, 7, 1))
    matrix = np.asarray(matrices()).astype(np.float64)
    matrix[:, :2] = (
        0.2 * matrix[:, :2] + 0.6 * np.eye(3)[None, :2]
    )  # enlarging, so that points stay near
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


@pytest.mark.parametrize("shape", [(3, 24, 24, 3), (3, 9, 14, 1), (3, 1, 1, 3), (3, 1, 5, 3)])
def test_the_identity_is_exact_and_next_to_it_nothing_changes(shape):
    x, eye = jnp.asarray(draw(shape)), jnp.broadcast_to(jnp.eye(3)[None], (3, 3, 3))
    np.testing.assert_array_equal(resample(x, eye), x)
    np.testing.assert_allclose(resample(x, eye.at[:, 0, 2].set(1e-6)), x, atol=2e-5)
    mixed = resample(x, eye.at[1].set(augment.rotation(vector(1.0))[0]))
    np.testing.assert_array_equal(mixed[::2], x[::2])
    # Far outside there are reflections of reflections: a whole period to the right, and all colours are the image's.
    period = max(2 * (shape[2] - 1), 1)
    away = resample(x, augment.translation(vector(*[10 * period] * 3), vector(0, 0, 0)))
    np.testing.assert_allclose(away[:, :, 3:-3], x[:, :, 3:-3], atol=0.02)
    constant = resample(
        jnp.full(shape, 0.7),
        augment._product(matrices(), augment.translation(vector(300, 0, 5), vector(0, -70, 9))),
    )
    np.testing.assert_allclose(constant, 0.7, atol=1e-5)


def test_resampling_moves_turns_and_scales():
    i, j = np.mgrid[:24, :24].astype(np.float32)
    smooth = np.stack(
        [np.sin(i / 5 + 0.3) * np.cos(j / 6), np.cos(i / 7 + j / 5), (j - i) / 24], axis=-1
    )
    images = jnp.broadcast_to(jnp.asarray(smooth)[None], (3, 24, 24, 3))
    turned = resample(images, augment.rotation(jnp.arange(1.0, 4) * jnp.pi / 2))
    for quarters, got in enumerate(turned, start=1):
        np.testing.assert_allclose(
            got[4:-4, 4:-4], np.rot90(smooth, quarters)[4:-4, 4:-4], atol=3e-3
        )
        np.testing.assert_allclose(
            got, np.rot90(smooth, quarters), atol=0.06
        )  # reflections have a kink at the edge
    noisy = jnp.asarray(draw((3, 24, 24, 3)))  # whole pixels move without loss whatever the image
    moved = resample(noisy, augment.translation(vector(-2, -2, 3), vector(3, 3, 0)))
    np.testing.assert_allclose(moved[:2, 6:-8, 7:-5], noisy[:2, 9:-5, 5:-7], atol=5e-3)
    inverse = matrices()
    got = resample(jnp.asarray(np.stack([smooth] * 3)), inverse)
    for image, matrix in zip(got, inverse, strict=True):
        row, column = places(matrix, 24, 24)
        inside = (np.minimum(row, column) > 5) & (np.maximum(row, column) < 18)
        assert inside.sum() > 100
        np.testing.assert_allclose(
            image[..., 2][inside], ((column - row) / 24)[inside], atol=1e-4
        )  # a plane: exactly
        np.testing.assert_allclose(
            image[..., 1][inside], np.cos(row / 7 + column / 5)[inside], atol=3e-3
        )


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
    third = change(
        augment.turned_hue(jnp.full(n, 2 * jnp.pi / 3))
    )  # a third of a circle: red to green to blue to red
    close(third, np.roll(x, 1, axis=-1))
    around = augment._product(augment.turned_hue(amount), augment.turned_hue(-amount))
    close(around, np.broadcast_to(np.eye(4), around.shape))
    both = augment._product(
        augment.scaled_colors(amount), augment.shifted_colors(amount)
    )  # the second first
    close(change(both), (x + a) * a)


def test_colours_of_grey_images_of_alpha_and_of_no_known_kind():
    amount = vector(0.3, 2.0)
    every = [
        augment.shifted_colors,
        augment.scaled_colors,
        augment.flipped_luma,
        augment.turned_hue,
        augment.scaled_saturation,
    ]
    parts = [f(amount) for f in every[:2]] + [
        augment.flipped_luma(vector(1, 1)),
        *(f(amount) for f in every[3:]),
    ]
    grey = draw((2, 3, 4, 1))
    for matrix in [*parts, augment._product(*parts)]:
        of_three = recolor(jnp.asarray(np.repeat(grey, 3, axis=3)), matrix)
        np.testing.assert_allclose(
            recolor(jnp.asarray(grey), matrix)[..., 0], np.mean(of_three, axis=3), atol=1e-5
        )
        x = jnp.asarray(draw((2, 3, 4, 4)))
        both = recolor(x, matrix)
        np.testing.assert_array_equal(both[..., 3], x[..., 3])
        np.testing.assert_allclose(both[..., :3], recolor(x[..., :3], matrix), atol=1e-6)
    np.testing.assert_allclose(recolor(jnp.asarray(grey), parts[2]), -grey, atol=1e-6)
    with pytest.raises(ValueError, match="2 channels: must have 1, 3 or 4"):
        augment.recolor(jnp.zeros((2, 3, 3, 2)), parts[0])


@pytest.mark.parametrize("shape", [(2, 8, 30, 3), (2, 1, 3, 1), (2, 7, 5, 4)])
def test_the_filter_is_its_bands_reflected_at_the_edges(shape):
    x, gains = draw(shape), np.array([[1.5, 0.3, 2.0, 0.6], [1, 1, 1, 1 + 1e-6]], np.float32)
    got = np.asarray(augment.amplify(jnp.asarray(x), jnp.asarray(gains)))
    colors = min(shape[3], 3)
    expected = np.pad(x[0].astype(np.float64), ((21, 21), (21, 21), (0, 0)), mode="reflect")
    for axis in (0, 1):
        expected = np.apply_along_axis(
            np.convolve, axis, expected, gains[0] @ augment.BANDS, mode="valid"
        )
    np.testing.assert_allclose(got[0, ..., :colors], expected[..., :colors], atol=1e-5)
    np.testing.assert_allclose(got[1], x[1], atol=1e-5)  # the bands sum to the identity
    np.testing.assert_array_equal(got[..., 3:], x[..., 3:])
    np.testing.assert_array_equal(augment.amplify(jnp.asarray(x), jnp.ones((2, 4))), x)


def test_noise_has_its_deviation_and_leaves_alpha_alone():
    field, deviation = jax.random.normal(jax.random.key(0), (3, 40, 40, 4)), vector(0, 0.05, 0.2)
    x = jnp.asarray(draw((3, 40, 40, 4)))
    added = np.asarray(augment.noise(x, field, deviation) - x)
    np.testing.assert_allclose(added[..., :3].std(axis=(1, 2, 3)), deviation, rtol=0.05)
    np.testing.assert_array_equal(added[..., 3], 0)
    np.testing.assert_array_equal(added[0], 0)


# --- ADA: what is drawn


@pytest.mark.parametrize("group", GROUPS)
def test_at_0_nothing_is_drawn_and_else_each_part_with_probability_p(group):
    parts, p = {"blit": 3, "geom": 4, "color": 5, "filter": 4, "noise": 1, "cutout": 1}[group], 0.3
    assert at_identity(group, drawn(group, (8, 8, 3), 0.0)).all()
    rate = at_identity(group, drawn(group, (8, 8, 3), p)).mean()
    expected = (1 - p) ** parts  # of independent parts; some draw the neutral value now and then
    if group == "color":
        expected *= (1 - p / 2) / (1 - p)
    if (
        group == "blit"
    ):  # half of the flips, a quarter of the turns, a quarter of the shifts of 8 pixels by at most 1 (half on each axis)
        expected = (1 - p / 2) * (1 - 3 * p / 4) * (1 - 3 * p / 4)
    np.testing.assert_allclose(rate, expected, atol=0.03)
    assert at_identity(group, drawn(group, (8, 8, 3), 1.0)).mean() < 0.06


def test_blits_are_of_the_papers_ranges():
    flipped, quarters, down, right = drawn("blit", (16, 16, 3), 1.0)
    np.testing.assert_allclose(flipped.mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(np.bincount(quarters) / 4000, 1 / 4, atol=0.03)
    for moved in (down, right):  # rounded: the ends have half a pixel each
        np.testing.assert_allclose(
            np.bincount(moved + 2) / 4000, [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], atol=0.03
        )
    assert abs(np.corrcoef([flipped, quarters, down, right]) - np.eye(4)).max() < 0.06
    _, quarters, down, right = drawn("blit", (8, 24, 3), 1.0)
    np.testing.assert_allclose(np.bincount(quarters) / 4000, [0.5, 0, 0.5], atol=0.03)
    assert (np.unique(down).tolist(), np.unique(right).tolist()) == (
        [-1, 0, 1],
        [-3, -2, -1, 0, 1, 2, 3],
    )
    np.testing.assert_allclose(drawn("blit", (8, 8, 3), 0.3)[0].mean(), 0.15, atol=0.03)


def test_geometry_is_of_the_papers_laws():
    (inverse,) = drawn("geom", (16, 32, 3), 1.0)
    linear = np.linalg.inv(inverse.astype(np.float64))[:, :2]
    first, last = np.linalg.svd(linear[:, :, :2], compute_uv=False).T
    scale, stretch = np.log2(first * last) / 2, np.log2(first / last) / 2
    np.testing.assert_allclose([scale.mean(), scale.std()], [0, 0.2], atol=0.015)
    np.testing.assert_allclose(np.sqrt((stretch**2).mean()), 0.2, atol=0.015)
    np.testing.assert_allclose(linear[:, :, 2].std(0), [32 / 8, 16 / 8], rtol=0.05)
    np.testing.assert_allclose(linear[:, :, 2].mean(0), 0, atol=0.25)
    angle = np.arctan2(linear[:, 1, 0], linear[:, 0, 0])
    np.testing.assert_allclose(np.histogram(angle, 4, (-np.pi, np.pi))[0] / 4000, 1 / 4, atol=0.03)
    # Turned, before or after or both, with probability p: the matrices that are not are diagonal.
    straight = drawn("geom", (8, 8, 3), 0.3)[0][:, 0, 1] == 0
    np.testing.assert_allclose(straight.mean(), 0.7, atol=0.03)


def test_colours_are_of_the_papers_laws():
    matrix = drawn("color", (8, 8, 3), 1.0)[0].astype(np.float64)
    sides = matrix[:, :3, :3]
    luma = sides.sum((1, 2)) / 3  # contrast, and its sign the luma flip
    contrasts = np.log2(abs(luma))
    np.testing.assert_allclose([contrasts.mean(), contrasts.std()], [0, 0.5], atol=0.03)
    np.testing.assert_allclose((luma < 0).mean(), 0.5, atol=0.03)
    saturates = np.log2(np.sqrt(abs(np.linalg.det(sides) / luma))) - contrasts
    np.testing.assert_allclose([saturates.mean(), saturates.std()], [0, 1], atol=0.05)
    shifted = matrix[:, :3, 3].mean(1) / luma
    np.testing.assert_allclose([shifted.mean(), shifted.std()], [0, 0.2], atol=0.015)
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    plane = np.einsum("ik,nkl,jl->nij", basis, sides, basis)
    hue = np.arctan2(plane[:, 1, 0], plane[:, 0, 0])
    np.testing.assert_allclose(np.histogram(hue, 4, (-np.pi, np.pi))[0] / 4000, 1 / 4, atol=0.03)
    np.testing.assert_array_equal(matrix[:, 3], np.broadcast_to([0, 0, 0, 1], (4000, 4)))


def test_gains_keep_the_expected_power():
    (gains,) = drawn("filter", (8, 8, 3), 0.3)
    for band in range(4):  # where it alone was drawn, the other three are equal
        others = np.delete(gains, band, axis=1)
        alone = (np.ptp(others, axis=1) == 0) & (gains[:, band] != others[:, 0])
        np.testing.assert_allclose(alone.mean(), 0.3 * 0.7**3, atol=0.02)
        np.testing.assert_allclose((gains[alone] ** 2) @ np.array(augment.POWER), 1, atol=1e-5)
        octaves = np.log2(gains[alone, band] / others[alone, 0])
        np.testing.assert_allclose([octaves.mean(), octaves.std()], [0, 1], atol=0.15)


def test_noise_and_holes_are_of_the_papers_laws():
    field, deviation = drawn("noise", (8, 8, 3), 1.0)
    np.testing.assert_allclose([field.mean(), field.std()], [0, 1], atol=0.01)
    assert deviation.min() >= 0
    np.testing.assert_allclose(
        [np.sqrt((deviation**2).mean()), deviation.mean()],
        [0.1, 0.1 * np.sqrt(2 / np.pi)],
        atol=0.004,
    )
    top, left = (jnp.asarray(first) for first in drawn("cutout", (16, 12, 3), 1.0))
    kept = np.asarray(augment.cutout(jnp.ones((4000, 16, 12, 1)), top, left))[..., 0]
    holes = 1 - kept
    assert holes.sum((1, 2)).max() == 8 * 6
    np.testing.assert_allclose(
        holes.mean(0)[8, 6], 1 / 4, atol=0.03
    )  # half of the rows times half of the columns
    np.testing.assert_allclose(
        holes.mean(), (7 / 16) ** 2, atol=0.02
    )  # a centre within a quarter of an edge is cut: 1/16 on an axis
    np.testing.assert_allclose(holes.mean(0), holes.mean(0)[::-1, ::-1], atol=0.05)


# --- ADA: the whole


def test_presets_are_the_groups_alone_and_the_first_so_many():
    alone = {name: (name,) for name in ("blit", "geom", "color", "filter", "noise", "cutout")}
    several = {
        "bg": GROUPS[:2],
        "bgc": GROUPS[:3],
        "bgcf": GROUPS[:4],
        "bgcfn": GROUPS[:5],
        "bgcfnc": GROUPS,
    }
    assert {**alone, **several} == augment.PRESETS


@pytest.mark.parametrize("shape", ADA_SHAPES)
def test_at_0_images_come_back_bit_by_bit_and_one_program_serves_every_p(shape):
    x, key = jnp.asarray(draw(shape)).at[0, 0, 0, 0].set(-0.0), jax.random.key(2)
    before = apply._cache_size()
    for seed in range(3):
        same = apply(jax.random.key(seed), x, policy=ALL, p=jnp.float32(0))
        np.testing.assert_array_equal(
            np.asarray(same).view(np.uint32), np.asarray(x).view(np.uint32)
        )
    for p in (0.1, 0.6, 1.0):
        y = apply(key, x, policy=ALL, p=jnp.float32(p))
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert np.isfinite(y).all()
        assert p < 0.6 or not np.array_equal(y, x)
    assert apply._cache_size() == before + 1


@pytest.mark.parametrize("group", GROUPS)
def test_at_0_each_group_is_the_identity(group):
    x = jnp.asarray(draw((2, 1, 5, 3)))
    np.testing.assert_array_equal(apply(jax.random.key(0), x, policy=group, p=jnp.float32(0)), x)


def test_images_are_apart_and_have_their_own_draws():
    x, key = jnp.asarray(draw(ADA_SHAPES[0])), jax.random.key(4)
    y = apply(key, x, policy=ALL, p=jnp.float32(1))
    other = apply(key, x.at[1].set(0.123), policy=ALL, p=jnp.float32(1))
    np.testing.assert_array_equal(np.delete(other, 1, axis=0), np.delete(y, 1, axis=0))
    assert not np.array_equal(other[1], y[1])
    alike = apply(key, jnp.broadcast_to(x[:1], x.shape), policy=ALL, p=jnp.float32(1))
    assert not np.allclose(alike[0], alike[1], atol=0.01)


def test_ada_under_vmap_and_in_bfloat16():
    x, keys, p = (
        jnp.asarray(draw((2, *ADA_SHAPES[0]))),
        jax.random.split(jax.random.key(0)),
        jnp.float32(0.8),
    )
    each = jax.jit(jax.vmap(lambda key, x: augment.augment(key, x, "filter", p)))(
        keys, x
    )  # the others: with their gradients
    alone = [apply(key, images, policy="filter", p=p) for key, images in zip(keys, x, strict=True)]
    np.testing.assert_allclose(each, np.stack(alone), atol=1e-5)
    half = x[0].astype(jnp.bfloat16)
    got = apply(keys[0], half, policy="filter", p=p)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), alone[0], atol=0.1)
    np.testing.assert_array_equal(apply(keys[0], half, policy="filter", p=jnp.float32(0)), half)


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


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_has_right_gradients_to_second_order_and_maps_over_images(group):
    x, transform = jnp.asarray(draw((2, 8, 8, 3))), augment.GROUPS[group][1]
    parameters = _draw(group)(jax.random.key(3), x.shape, jnp.float32(1))
    assert not at_identity(group, [np.asarray(parameter) for parameter in parameters]).any()
    # They are affine: the sine makes the second derivative one that is not zero.
    check_grads(
        jax.jit(lambda x: jnp.sin(transform(x, *parameters))),
        (x,),
        order=2,
        modes=["rev"],
        atol=2e-2,
        rtol=2e-2,
    )
    one = lambda image, *own: transform(image[None], *(parameter[None] for parameter in own))[0]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(one))(x, *parameters), jax.jit(transform)(x, *parameters), atol=1e-5
    )


def test_a_group_or_a_preset_that_is_none_is_named_with_those_there_are():
    x = jnp.zeros((1, 2, 2, 1))
    with pytest.raises(ValueError, match=r"'colour'.*blit, geom, color, filter, noise, cutout"):
        augment.ada(jax.random.key(0), x, 0.5, ("blit", "colour"))
    with pytest.raises(ValueError, match=r"'bgcx'.*blit, .*bgcfnc"):
        augment.augment(jax.random.key(0), x, "bgcx")
    with pytest.raises(ValueError, match=r"'geom'.*color, translation, cutout"):
        augment.augment(jax.random.key(0), x, ("geom",))


# --- ADA's controller


def test_the_controller_is_the_arithmetic_of_the_paper():
    rng, p, signs, seen = np.random.default_rng(0), 0.5, 0.0, 0
    update = jax.jit(functools.partial(augment.controller_update, batch_size=8, speed_kimg=1.0))
    carried = augment.controller_start(0.5)
    for step in range(16):
        logits = rng.normal(2 if step < 6 else -1, 1, 8).astype(
            np.float32
        )  # overfitting, and then not
        signs, seen, previous = signs + np.sign(logits).sum(), seen + 8, p
        if step % 4 == 3:
            p, signs, seen = p + (0.032 if signs / seen > 0.6 else -0.032), 0.0, 0
        carried = update(carried, jnp.sign(logits), jnp.int32(step))
        np.testing.assert_allclose(
            [carried["p"], carried["signs"], carried["seen"]], [p, signs, seen], atol=1e-6
        )
        assert (previous != p) == (step in (3, 7, 11, 15))
    assert update._cache_size() == 1
    assert p == pytest.approx(0.5 + 0.032 - 3 * 0.032)


def test_the_controllers_p_stays_between_0_and_1_and_500_kimg_apart():
    step = functools.partial(augment.controller_update, step=0, batch_size=10_000, interval=1)
    down, up = (
        step(augment.controller_start(), -jnp.ones((4, 1))),
        step(augment.controller_start(1.0), jnp.ones(4)),
    )
    assert (float(down["p"]), float(up["p"])) == (0, 1)
    carried = augment.controller_start()
    for count in range(1, 52):  # 10 kimg at a time
        carried = step(carried, jnp.ones(3, jnp.bfloat16))
        np.testing.assert_allclose(carried["p"], min(count / 50, 1), atol=1e-5)
    assert jax.tree.map(jnp.shape, carried) == {"p": (), "signs": (), "seen": ()}
    assert {leaf.dtype for leaf in jax.tree.leaves(carried)} == {jnp.dtype("float32")}
    still = step(
        augment.controller_start(0.25), jnp.array([1.0, 1, 1, 1, -1])
    )  # r = 0.6, the target
    assert float(still["p"]) == 0.25
