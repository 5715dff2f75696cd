"""ADA's random draws, the pipeline with its gradients, and the controller of p."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from genjax.nn import augment

ADA_SHAPES = [(3, 8, 8, 3), (2, 9, 14, 1), (2, 11, 6, 4)]
GROUPS = tuple(augment.GROUPS)
ALL = "bgcfnc"
# Shared, so that each shape is compiled once.
apply = jax.jit(augment.augment, static_argnames="policy")


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def drawn(group, shape, p):
    """Parameters of 4000 images of `shape`, in NumPy."""
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


@pytest.mark.parametrize("group", GROUPS)
def test_each_parameter_is_drawn_with_probability_p(group):
    count, p = {"blit": 3, "geom": 4, "color": 5, "filter": 4, "noise": 1, "cutout": 1}[group], 0.3
    assert at_identity(group, drawn(group, (8, 8, 3), 0.0)).all()
    rate = at_identity(group, drawn(group, (8, 8, 3), p)).mean()
    expected = (1 - p) ** count  # independent draws, some of which may be neutral
    if group == "color":
        expected *= (1 - p / 2) / (1 - p)
    # Neutral: half of the flips, a quarter of the rotations, and a quarter of the
    # shifts, which are of 8 pixels by at most 1 (half on each axis).
    if group == "blit":
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
    # Turned, before or after or both, with probability p: the matrices that are not are
    # diagonal.
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
    for band in range(4):  # where only it was drawn, the other three are equal
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
    holes = 1 - np.asarray(augment.cutout(jnp.ones((4000, 16, 12, 1)), top, left))[..., 0]
    assert holes.sum((1, 2)).max() == 8 * 6
    # Half of the rows times half of the columns.
    np.testing.assert_allclose(holes.mean(0)[8, 6], 1 / 4, atol=0.03)
    # A hole whose centre is within a quarter of an edge is cut: 1/16 per axis.
    np.testing.assert_allclose(holes.mean(), (7 / 16) ** 2, atol=0.02)
    np.testing.assert_allclose(holes.mean(0), holes.mean(0)[::-1, ::-1], atol=0.05)


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
    x, keys = jnp.asarray(draw((2, *ADA_SHAPES[0]))), jax.random.split(jax.random.key(0))
    p = jnp.float32(0.8)
    # The other groups are mapped in the test of their gradients.
    each = jax.jit(jax.vmap(lambda key, x: augment.augment(key, x, "filter", p)))(keys, x)
    alone = [apply(key, images, policy="filter", p=p) for key, images in zip(keys, x, strict=True)]
    np.testing.assert_allclose(each, np.stack(alone), atol=1e-5)
    half = x[0].astype(jnp.bfloat16)
    got = apply(keys[0], half, policy="filter", p=p)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), alone[0], atol=0.1)
    np.testing.assert_array_equal(apply(keys[0], half, policy="filter", p=jnp.float32(0)), half)


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_has_right_gradients_to_second_order_and_maps_over_images(group):
    x, transform = jnp.asarray(draw((2, 8, 8, 3))), augment.GROUPS[group][1]
    parameters = _draw(group)(jax.random.key(3), x.shape, jnp.float32(1))
    assert not at_identity(group, [np.asarray(parameter) for parameter in parameters]).any()
    # Affine transformations: the sine gives them a second derivative.
    check_grads(
        jax.jit(lambda x: jnp.sin(transform(x, *parameters))),
        (x,),
        order=2,
        modes=["rev"],
        atol=2e-2,
        rtol=2e-2,
    )
    one = lambda image, *values: transform(image[None], *(value[None] for value in values))[0]
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


def test_the_controller_is_the_arithmetic_of_the_paper():
    rng, p, signs, seen = np.random.default_rng(0), 0.5, 0.0, 0
    update = jax.jit(functools.partial(augment.controller_update, batch_size=8, speed_kimg=1.0))
    carried = augment.controller_start(0.5)
    for step in range(16):
        # Overfitting, then not.
        logits = rng.normal(2 if step < 6 else -1, 1, 8).astype(np.float32)
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
    down = step(augment.controller_start(), -jnp.ones((4, 1)))
    up = step(augment.controller_start(1.0), jnp.ones(4))
    assert (float(down["p"]), float(up["p"])) == (0, 1)
    carried = augment.controller_start()
    for count in range(1, 52):  # 10 kimg at a time
        carried = step(carried, jnp.ones(3, jnp.bfloat16))
        np.testing.assert_allclose(carried["p"], min(count / 50, 1), atol=1e-5)
    assert jax.tree.map(jnp.shape, carried) == {"p": (), "signs": (), "seen": ()}
    assert {leaf.dtype for leaf in jax.tree.leaves(carried)} == {jnp.dtype("float32")}
    # r = 0.6, the target.
    still = step(augment.controller_start(0.25), jnp.array([1.0, 1, 1, 1, -1]))
    assert float(still["p"]) == 0.25
