"""Convolution lowerings against the plain definition written in NumPy: value, first and second gradient; odd sizes; bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import images, ops


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_down(x, kernel):
    """Stride 2, low padding (k - 1) // 2, output ceil(size / 2): the sum over taps, by XLA's own convolution."""
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    pads = [(low, max(2 * (-(-size // 2) - 1) + k - size - low, 0)) for size in x.shape[1:3]]
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def gradients(conv, order, x, kernel):
    """To x and kernel: of a sum of sines of the output, or of the squares of those gradients."""

    def first(*arguments):
        return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel))), argnums=(0, 1))(*arguments)

    def second(*arguments):
        return jax.grad(lambda *a: sum(jnp.sum(jnp.square(g)) for g in first(*a)), argnums=(0, 1))(*arguments)

    return (first if order == 1 else second)(x, kernel)


def loop_down(x, kernel):
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    n, height, width, _ = x.shape
    y = np.zeros((n, -(-height // 2), -(-width // 2), kernel.shape[3]))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            for a in range(k):
                for b in range(k):
                    row, column = 2 * i + a - low, 2 * j + b - low
                    if 0 <= row < height and 0 <= column < width:
                        y[:, i, j] += x[:, row, column] @ kernel[a, b]
    return y


def loop_up(x, kernel, size):
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    y = np.zeros((x.shape[0], *size, kernel.shape[3]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for a in range(k):
                for b in range(k):
                    row, column = 2 * i + a - low, 2 * j + b - low
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        y[:, row, column] += x[:, i, j] @ kernel[a, b]
    return y


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 1)])
def test_down_conv_is_the_definition(k, size):
    x, kernel = draw(2, *size, 3), draw(k, k, 3, 4, seed=1)
    got = ops.down_conv(jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_allclose(got, loop_down(x, kernel), atol=1e-4)
    np.testing.assert_allclose(got, plain_down(x, kernel), atol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (5, 8)])
def test_up_conv_is_the_definition(k, size):
    x, kernel = draw(2, -(-size[0] // 2), -(-size[1] // 2), 3), draw(k, k, 3, 4, seed=1)
    np.testing.assert_allclose(ops.up_conv(jnp.asarray(x), jnp.asarray(kernel), size), loop_up(x, kernel, size), atol=1e-4)


def test_up_conv_is_the_transpose_of_down_conv():
    for size in [(6, 8), (7, 5)]:
        x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 5, seed=1))
        y = jnp.asarray(draw(2, -(-size[0] // 2), -(-size[1] // 2), 5, seed=2))
        through = jnp.vdot(ops.down_conv(x, kernel), y)
        np.testing.assert_allclose(through, jnp.vdot(x, ops.up_conv(y, jnp.swapaxes(kernel, 2, 3), size)), rtol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_down_conv_gradients_are_the_plain_convolutions(order, size):
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))

    for ours, plain in zip(gradients(ops.down_conv, order, x, kernel), gradients(plain_down, order, x, kernel), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(plain))))


@pytest.mark.parametrize("order", [1, 2])
def test_up_conv_gradients_are_the_dilated_convolutions(order):
    x, kernel = jnp.asarray(draw(2, 3, 4, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))

    def plain_up(x, kernel):  # correlation of the dilated input with the flipped kernel
        flipped = kernel[::-1, ::-1]
        return jax.lax.conv_general_dilated(
            x, flipped, (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    for ours, plain in zip(gradients(ops.up_conv, order, x, kernel), gradients(plain_up, order, x, kernel), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(plain))))


def test_convolutions_keep_bfloat16():
    x, kernel = jnp.asarray(draw(1, 6, 6, 3), jnp.bfloat16), jnp.asarray(draw(4, 4, 3, 4), jnp.bfloat16)
    for conv in (ops.conv, ops.down_conv, ops.up_conv):
        got = conv(x, kernel)
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), conv(x.astype(jnp.float32), kernel.astype(jnp.float32)), atol=0.25)


def test_to_uint8_inverts_the_reading_of_pixels():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(ops.to_uint8(jnp.float32(levels) / 127.5 - 1), levels)
    assert ops.to_uint8(jnp.float32([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (5, 3), (16, 4)])
def test_save_grid_places_images_row_by_row(tmp_path, n, channels):
    from PIL import Image

    levels = np.arange(n, dtype=np.float32) / 20 - 1
    images.save_grid(
        jnp.broadcast_to(levels[:, None, None, None], (n, 50, 60, channels)), tmp_path / "grid.png", columns=2, gap=1
    )
    with Image.open(tmp_path / "grid.png") as file:
        sheet = np.asarray(file).reshape(file.height, file.width, channels)
    assert sheet.shape[:2] == (-(-n // 2) * 51, 2 * 61)
    for i in range(n):
        assert np.all(sheet[i // 2 * 51 : i // 2 * 51 + 50, i % 2 * 61 : i % 2 * 61 + 60] == np.asarray(ops.to_uint8(levels))[i])


def test_save_grid_refuses_other_channels(tmp_path):
    with pytest.raises(ValueError, match="channels"):
        images.save_grid(jnp.zeros((1, 4, 4, 2)), tmp_path / "grid.png")


@pytest.mark.parametrize("conv", [ops.down_conv, ops.up_conv])
def test_gradients_work_under_vmap_and_jit(conv):
    x, kernel = jnp.asarray(draw(3, 2, 4, 4, 3)), jnp.asarray(draw(4, 4, 3, 2, seed=1))
    slope = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel))), argnums=1)
    mapped = jax.jit(jax.vmap(slope, in_axes=(0, None)))(x, kernel)
    for index in range(3):
        np.testing.assert_allclose(mapped[index], slope(x[index], kernel), rtol=1e-4, atol=1e-4)
