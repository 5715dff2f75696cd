"""Operators against plain definitions, to second order; odd sizes; bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import (
    assert_same,
    assert_same_to_second_order,
    draw,
    loop_down,
    loop_up,
    plain_conv,
    plain_down,
    plain_fir,
    plain_fir_down,
    plain_up_fir,
)

from genjax.files import grids
from genjax.nn import ops


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(6, 7), (1, 1)])
def test_down_conv_is_the_definition(k, size):
    x, kernel = draw(2, *size, 3), draw(k, k, 3, 4, seed=1)
    got = jax.jit(ops.down_conv)(jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_allclose(got, loop_down(x, kernel), atol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [(6, 7), (5, 8)])
def test_up_conv_is_the_definition(k, size):
    x, kernel = draw(2, -(-size[0] // 2), -(-size[1] // 2), 3), draw(k, k, 3, 4, seed=1)
    got = jax.jit(ops.up_conv, static_argnums=2)(jnp.asarray(x), jnp.asarray(kernel), size)
    np.testing.assert_allclose(got, loop_up(x, kernel, size), atol=1e-4)


def test_up_conv_is_the_transpose_of_down_conv():
    size = (6, 5)
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 5, seed=1))
    y = jnp.asarray(draw(2, 3, 3, 5, seed=2))

    @jax.jit
    def both_sides(x, kernel, y):
        transposed = ops.up_conv(y, jnp.swapaxes(kernel, 2, 3), size)
        return jnp.vdot(ops.down_conv(x, kernel), y), jnp.vdot(x, transposed)

    left, right = both_sides(x, kernel, y)
    np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_down_conv_and_its_gradients_are_the_plain_convolution(size):
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))
    assert_same_to_second_order(ops.down_conv, plain_down, x, kernel)


def test_up_conv_and_its_gradients_are_the_dilated_convolution():
    x, kernel = jnp.asarray(draw(2, 3, 4, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))

    def plain_up(x, kernel):  # correlation of the dilated input with the rotated kernel
        return jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(2, 2), (2, 2)],
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    assert_same_to_second_order(ops.up_conv, plain_up, x, kernel)


@pytest.mark.parametrize(
    ("k", "pad", "channels"),
    [
        *((k, pad, (3, 6)) for k, pad in ((1, 0), (2, None), (3, None), (3, 2), (4, 1), (7, 0))),
        *((k, pad, (6, 3)) for k, pad in ((1, 0), (3, None), (4, 1))),
    ],
)
def test_conv_is_the_definition(k, pad, channels):
    x, kernel = (
        jnp.asarray(draw(2, 7, 10, channels[0])),
        jnp.asarray(draw(k, k, *channels, seed=1) / k),
    )
    assert_same_to_second_order(
        lambda x, w: ops.conv(x, w, pad), lambda x, w: plain_conv(x, w, pad), x, kernel
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_conv_is_the_definition(groups):
    x, kernel = jnp.asarray(draw(2, 5, 6, 8)), jnp.asarray(draw(3, 3, 8 // groups, 12, seed=1))
    assert_same_to_second_order(
        lambda x, w: ops.grouped_conv(x, w, groups),
        lambda x, w: plain_conv(x, w, groups=groups),
        x,
        kernel,
    )


@pytest.mark.parametrize(
    ("taps", "size"),
    [((1, 2, 1), (6, 7)), ((1, 3, 3, 1), (6, 7)), ((1, 3, 3, 1), (1, 2)), ((1, 1), (5, 4))],
)
def test_fir_resampling_is_the_definition(taps, size):
    x, length = jnp.asarray(draw(2, *size, 3)), len(taps)
    around = (length // 2, length - 1 - length // 2)
    assert_same_to_second_order(
        lambda x: ops.blur(x, taps), lambda x: plain_fir(x, taps, pads=around), x
    )
    around = ((length + 1) // 2, (length - 2) // 2)
    assert_same_to_second_order(
        lambda x: ops.upsample(x, taps), lambda x: plain_fir(x, taps, 2, pads=around, gain=4), x
    )
    if min(size) > 1:
        around = ((length - 1) // 2, (length - 2) // 2)
        assert_same_to_second_order(
            lambda x: ops.downsample(x, taps), lambda x: plain_fir(x, taps, down=2, pads=around), x
        )


@pytest.mark.parametrize(
    ("taps", "k", "size"),
    [
        ((1, 3, 3, 1), 1, (4, 6)),
        ((1, 2, 1), 3, (4, 6)),
        ((1, 3, 3, 1), 3, (5, 7)),
        ((1, 2, 1), 4, (4, 5)),
    ],
)
def test_fir_convolutions_are_the_definition(taps, k, size):
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(k, k, 3, 5, seed=1) / k)
    up, down = (
        jax.eval_shape(lambda x, w, conv=conv: conv(x, w, taps), x, kernel)
        for conv in (ops.up_conv_fir, ops.fir_down_conv)
    )
    assert up.shape == (2, 2 * size[0], 2 * size[1], 5)
    assert down.shape == (2, size[0] // 2, size[1] // 2, 5)
    assert_same_to_second_order(
        lambda x, w: ops.up_conv_fir(x, w, taps), lambda x, w: plain_up_fir(x, w, taps), x, kernel
    )
    assert_same_to_second_order(
        lambda x, w: ops.fir_down_conv(x, w, taps),
        lambda x, w: plain_fir_down(x, w, taps),
        x,
        kernel,
    )


def test_fir_takes_any_taps_as_they_are():
    # They sum to 1, so plain_fir, which normalises them, leaves them as they are.
    x, taps = jnp.asarray(draw(2, 5, 6, 3)), (0.5, 0.3, 0.4, -0.2)
    assert_same_to_second_order(
        lambda x: ops.fir(x, taps, (10, 12), up=2, low=1),
        lambda x: plain_fir(x, taps, 2, pads=(1, 2)),
        x,
    )
    assert_same_to_second_order(
        lambda x: ops.fir(x, taps, (3, 3), down=2, low=1),
        lambda x: plain_fir(x, taps, 1, 2, (1, 2)),
        x,
    )


def test_a_constant_image_stays_what_it_is_away_from_the_edges():
    x = jnp.ones((1, 8, 8, 2))
    for taps in [(1, 2, 1), (1, 3, 3, 1)]:
        for resample in (ops.blur, ops.upsample, ops.downsample):
            np.testing.assert_allclose(
                jax.jit(resample, static_argnums=1)(x, taps)[:, 2:-2, 2:-2], 1, atol=1e-6
            )


def test_fir_refuses_a_filter_that_is_not_symmetric():
    with pytest.raises(ValueError, match="symmetric"):
        ops.blur(jnp.ones((1, 4, 4, 1)), (1, 2, 3))


TWO_ARGUMENTS = {
    "conv": ops.conv,
    "down_conv": ops.down_conv,
    "up_conv": ops.up_conv,
    "up_conv_fir": lambda x, kernel: ops.up_conv_fir(x, kernel, (1, 3, 3, 1)),
    "fir_down_conv": lambda x, kernel: ops.fir_down_conv(x, kernel, (1, 3, 3, 1)),
    "grouped_conv": lambda x, kernel: ops.grouped_conv(jnp.tile(x, 2), kernel, 2),
}


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
@pytest.mark.parametrize("channels", [3, 128])
def test_convolutions_keep_bfloat16(name, channels):
    conv = jax.jit(TWO_ARGUMENTS[name])
    k = 3 if channels == 128 else 4
    x = jnp.asarray(draw(1, 6, 6, channels), jnp.bfloat16)
    kernel = jnp.asarray(draw(k, k, channels, 4, seed=1) / channels**0.5, jnp.bfloat16)
    got = conv(x, kernel)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        got.astype(jnp.float32), conv(x.astype(jnp.float32), kernel.astype(jnp.float32)), atol=0.25
    )
    slopes = jax.eval_shape(
        jax.grad(lambda *a: jnp.sum(conv(*a).astype(jnp.float32)), argnums=(0, 1)), x, kernel
    )
    assert all(slope.dtype == jnp.bfloat16 for slope in slopes)


def test_sum_first_is_the_sum_with_its_derivatives():
    x = jnp.asarray(draw(9, 4, 5))
    assert_same_to_second_order(ops.sum_first, lambda x: jnp.sum(x, axis=0), x)


def test_to_uint8_inverts_the_reading_of_pixels():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(ops.to_uint8(jnp.float32(levels) / 127.5 - 1), levels)
    assert ops.to_uint8(jnp.float32([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (5, 3), (16, 4)])
def test_save_grid_places_images_row_by_row(tmp_path, n, channels):
    from PIL import Image

    levels = np.arange(n, dtype=np.float32) / 20 - 1
    grids.save_grid(
        jnp.broadcast_to(levels[:, None, None, None], (n, 50, 60, channels)),
        tmp_path / "grid.png",
        columns=2,
        gap=1,
    )
    with Image.open(tmp_path / "grid.png") as file:
        sheet = np.asarray(file).reshape(file.height, file.width, channels)
    # The gap is between images, not at the edges.
    assert sheet.shape[:2] == (-(-n // 2) * 51 - 1, 2 * 61 - 1)
    for i in range(n):
        assert np.all(
            sheet[i // 2 * 51 : i // 2 * 51 + 50, i % 2 * 61 : i % 2 * 61 + 60]
            == np.asarray(ops.to_uint8(levels))[i]
        )


def test_save_grid_refuses_other_channels(tmp_path):
    with pytest.raises(ValueError, match="channels"):
        grids.save_grid(jnp.zeros((1, 4, 4, 2)), tmp_path / "grid.png")


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
def test_gradients_work_under_vmap_and_jit(name):
    conv, k = TWO_ARGUMENTS[name], 3
    x, kernel = jnp.asarray(draw(3, 2, 4, 4, 3)), jnp.asarray(draw(k, k, 3, 2, seed=1))
    slope = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel))), argnums=1)
    penalty = jax.grad(lambda x, kernel: jnp.sum(slope(x, kernel) ** 2), argnums=1)
    for derivative in (slope, penalty):
        mapped = jax.jit(jax.vmap(derivative, in_axes=(0, None)))(x, kernel)
        for index in range(3):
            assert_same(mapped[index], jax.jit(derivative)(x[index], kernel))
