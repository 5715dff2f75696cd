"""Convolution lowerings against the plain definition written in NumPy: value, first and second gradient; odd sizes; bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.files import grids
from genjax.nn import convolution, ops


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain_down(x, kernel):
    """Stride 2, low padding (k - 1) // 2, output ceil(size / 2): the sum over taps, by XLA's own convolution."""
    k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
    pads = [(low, max(2 * (-(-size // 2) - 1) + k - size - low, 0)) for size in x.shape[1:3]]
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradients(conv, order, x, kernel):
    """To x and kernel: of a sum of sines of the output, or of the squares of those gradients."""

    def first(*arguments):
        return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel))), argnums=(0, 1))(
            *arguments
        )

    def second(*arguments):
        return jax.grad(lambda *a: sum(jnp.sum(jnp.square(g)) for g in first(*a)), argnums=(0, 1))(
            *arguments
        )

    return jax.jit(first if order == 1 else second)(x, kernel)


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
    np.testing.assert_allclose(
        ops.up_conv(jnp.asarray(x), jnp.asarray(kernel), size), loop_up(x, kernel, size), atol=1e-4
    )


def test_up_conv_is_the_transpose_of_down_conv():
    for size in [(6, 8), (7, 5)]:
        x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 5, seed=1))
        y = jnp.asarray(draw(2, -(-size[0] // 2), -(-size[1] // 2), 5, seed=2))
        through = jnp.vdot(ops.down_conv(x, kernel), y)
        np.testing.assert_allclose(
            through, jnp.vdot(x, ops.up_conv(y, jnp.swapaxes(kernel, 2, 3), size)), rtol=1e-4
        )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_down_conv_gradients_are_the_plain_convolutions(order, size):
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))

    for ours, plain in zip(
        gradients(ops.down_conv, order, x, kernel),
        gradients(plain_down, order, x, kernel),
        strict=True,
    ):
        np.testing.assert_allclose(
            ours, plain, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(plain)))
        )


@pytest.mark.parametrize("order", [1, 2])
def test_up_conv_gradients_are_the_dilated_convolutions(order):
    x, kernel = jnp.asarray(draw(2, 3, 4, 3)), jnp.asarray(draw(4, 4, 3, 4, seed=1))

    def plain_up(x, kernel):  # correlation of the dilated input with the flipped kernel
        flipped = kernel[::-1, ::-1]
        return jax.lax.conv_general_dilated(
            x,
            flipped,
            (1, 1),
            [(2, 2), (2, 2)],
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    for ours, plain in zip(
        gradients(ops.up_conv, order, x, kernel), gradients(plain_up, order, x, kernel), strict=True
    ):
        np.testing.assert_allclose(
            ours, plain, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(plain)))
        )


def plain_conv(x, kernel, pad=None, groups=1):
    pads = "SAME" if pad is None else [(pad, pad)] * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def plain_fir(x, taps, up=1, down=1, pads=(0, 0), gain=1.0):
    """The definition of upfirdn: zeros between, zeros around, the outer product of the taps, every `down`-th."""
    taps = jnp.asarray(taps, x.dtype) / sum(taps)
    filters = jnp.broadcast_to(
        (gain * jnp.outer(taps, taps))[:, :, None, None], (len(taps), len(taps), 1, x.shape[3])
    )
    pads = (pads[0], pads[1] + up - 1)  # zeros follow the last pixel too
    return jax.lax.conv_general_dilated(
        x,
        filters,
        (down, down),
        [pads, pads],
        lhs_dilation=(up, up),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


def plain_up_fir(x, kernel, taps):
    k, length = kernel.shape[0], len(taps)
    full = jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        [(k - 1, k - 1)] * 2,
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    reach = (length - 2) - (k - 1)
    return plain_fir(full, taps, pads=((reach + 1) // 2 + 1, reach // 2 + 1), gain=4)


def plain_fir_down(x, kernel, taps):
    reach = (len(taps) - 2) + (kernel.shape[0] - 1)
    x = plain_fir(x, taps, pads=((reach + 1) // 2, reach // 2))
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def assert_same(ours, plain, tolerance=1e-3):
    assert ours.shape == plain.shape
    np.testing.assert_allclose(
        ours, plain, rtol=tolerance, atol=tolerance * max(1e-3, float(jnp.max(jnp.abs(plain))))
    )


def assert_same_to_second_order(ours, plain, *arguments):
    """Value, and by one compiled program first and second gradient to each argument, of sums of sines."""
    assert_same(ours(*arguments), plain(*arguments), 1e-4)

    def both(f):
        everything = tuple(range(len(arguments)))
        first = jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), argnums=everything)
        second = jax.grad(
            lambda *a: sum(jnp.sum(jnp.square(g)) for g in first(*a)), argnums=everything
        )
        return jax.jit(lambda *a: (first(*a), second(*a)))(*arguments)

    for got, want in zip(jax.tree.leaves(both(ours)), jax.tree.leaves(both(plain)), strict=True):
        assert_same(got, want)


@pytest.mark.parametrize(("k", "pad"), [(1, 0), (2, None), (3, None), (3, 2), (4, 1), (7, 0)])
@pytest.mark.parametrize("channels", [(3, 6), (6, 3)])
def test_conv_is_the_definition(k, pad, channels):
    x, kernel = (
        jnp.asarray(draw(2, 7, 10, channels[0])),
        jnp.asarray(draw(k, k, *channels, seed=1) / k),
    )
    assert_same_to_second_order(
        lambda x, w: ops.conv(x, w, pad), lambda x, w: plain_conv(x, w, pad), x, kernel
    )


@pytest.mark.parametrize("size", [(8, 8), (5, 8), (1, 3)])
def test_wide_conv_is_the_definition(size, monkeypatch):  # wide enough for Winograd's form
    monkeypatch.setattr(convolution, "MANY", 1)
    x, kernel = jnp.asarray(draw(1, *size, 128)), jnp.asarray(draw(3, 3, 128, 128, seed=1) / 34)
    assert_same_to_second_order(ops.conv, plain_conv, x, kernel)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_wide_down_conv_and_its_transpose_are_the_definition(
    size, monkeypatch
):  # 4x4 kernels in Winograd's form
    monkeypatch.setattr(convolution, "MANY", 1)
    kernel = jnp.asarray(draw(4, 4, 16, 16, seed=1) / 16)
    assert_same_to_second_order(ops.down_conv, plain_down, jnp.asarray(draw(2, *size, 16)), kernel)
    x = jnp.asarray(draw(2, -(-size[0] // 2), -(-size[1] // 2), 16))
    wanted = loop_up(np.asarray(x), np.asarray(kernel), size)
    np.testing.assert_allclose(ops.up_conv(x, kernel, size), wanted, atol=1e-4)


GEOMETRIES = [
    convolution.Geometry(1, 1, 0, (5, 6), (5, 6)),
    convolution.Geometry(3, 1, 1, (5, 6), (5, 6)),
    convolution.Geometry(3, 1, 0, (5, 7), (3, 5)),
    convolution.Geometry(4, 1, 1, (5, 6), (4, 5)),
    convolution.Geometry(3, 2, 1, (5, 6), (3, 3)),
    convolution.Geometry(4, 2, 1, (7, 6), (4, 3)),
    convolution.Geometry(3, 2, 0, (7, 9), (3, 4)),
    convolution.Geometry(2, 2, 0, (5, 7), (3, 4)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("role", ["value", "image", "kernel"])
def test_every_lowering_is_xlas_own(role, geometry):
    x, y = jnp.asarray(draw(2, *geometry.x, 3)), jnp.asarray(draw(2, *geometry.y, 5, seed=1))
    kernel = jnp.asarray(draw(geometry.k, geometry.k, 3, 5, seed=2))
    forms = {"value": convolution.VALUE, "image": convolution.IMAGE, "kernel": convolution.KERNEL}[
        role
    ]
    arguments = {"value": (x, kernel), "image": (y, kernel), "kernel": (x, y)}[role]
    want = forms["xla"](geometry, *arguments)
    for name, form in forms.items():
        if "winograd" in name and (geometry.k, geometry.stride) not in convolution.WIDE:
            continue
        if ("turned" in name or (name == "overlap" and role == "value")) and geometry.stride == 2:
            continue
        if name == "phases" and geometry.stride == 1:
            continue
        assert_same(jax.jit(form, static_argnums=0)(geometry, *arguments), want, 1e-4)


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (4, 2)])
@pytest.mark.parametrize(("m", "most"), [(2, 1e-6), (4, 3e-6)])
def test_rounding_errors_of_winograds_form_are_small(k, stride, m, most):
    geometry = convolution.Geometry(k, stride, 1, (16, 16), (16 // stride, 16 // stride))
    x, kernel = draw(4, 16, 16, 64), draw(k, k, 64, 32, seed=1)
    got = jax.jit(convolution.VALUE[f"winograd_{m}"], static_argnums=0)(
        geometry, jnp.asarray(x), jnp.asarray(kernel)
    )
    padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))[
        :, ::stride, ::stride
    ]
    want = np.einsum("nhwcab,abco->nhwo", windows, kernel.astype(np.float64))
    assert np.sqrt(np.mean((np.asarray(got) - want) ** 2)) < most * np.std(want)


def test_the_choice_is_of_lowerings_that_apply():
    sizes = [1, 3, 16, 64, 128, 512]
    chosen = {"value": set(), "image": set(), "kernel": set()}
    for role, forms in (
        ("value", convolution.VALUE),
        ("image", convolution.IMAGE),
        ("kernel", convolution.KERNEL),
    ):
        for geometry in GEOMETRIES:
            for channels in sizes:
                for features in sizes:
                    for batch in (1, 20, 40, 1000):
                        for dtype in (jnp.float32, jnp.bfloat16):
                            name = convolution.lowering(
                                role, "cpu", geometry, batch, channels, features, jnp.dtype(dtype)
                            )
                            assert name in forms
                            assert "winograd" not in name or (
                                (geometry.k, geometry.stride) in convolution.WIDE
                                and dtype == jnp.float32
                            )
                            assert geometry.stride == 1 or (
                                "turned" not in name and (role, name) != ("value", "overlap")
                            )
                            assert geometry.stride == 2 or name != "phases"
                            chosen[role].add(name)
                            assert (
                                convolution.lowering(
                                    role,
                                    "gpu",
                                    geometry,
                                    batch,
                                    channels,
                                    features,
                                    jnp.dtype(dtype),
                                )
                                == "xla"
                            )
    assert chosen["value"] == set(convolution.VALUE)
    assert chosen["image"] | {"xla"} == set(convolution.IMAGE)
    assert chosen["kernel"] | {"xla"} == set(convolution.KERNEL)


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_the_form_of_other_backends_is_the_definition(monkeypatch, backend):
    """The same arrays through what a GPU would be given."""
    monkeypatch.setattr(ops.jax, "default_backend", lambda: backend)
    x, kernel = jnp.asarray(draw(2, 5, 6, 4)), jnp.asarray(draw(4, 4, 4, 5, seed=1))
    assert_same_to_second_order(ops.down_conv, plain_down, x, kernel)
    assert_same_to_second_order(ops.conv, plain_conv, x, kernel)
    np.testing.assert_allclose(
        ops.up_conv(x, kernel), loop_up(np.asarray(x), np.asarray(kernel), (10, 12)), atol=1e-4
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


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 3, 3, 1)])
@pytest.mark.parametrize(("k", "size"), [(1, (4, 6)), (3, (4, 6)), (3, (5, 7)), (4, (4, 5))])
def test_fir_convolutions_are_the_definition(taps, k, size):
    x, kernel = jnp.asarray(draw(2, *size, 3)), jnp.asarray(draw(k, k, 3, 5, seed=1) / k)
    assert ops.up_conv_fir(x, kernel, taps).shape == (2, 2 * size[0], 2 * size[1], 5)
    assert ops.fir_down_conv(x, kernel, taps).shape == (2, size[0] // 2, size[1] // 2, 5)
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
    x, taps = (
        jnp.asarray(draw(2, 5, 6, 3)),
        (0.5, 0.3, 0.4, -0.2),
    )  # they sum to 1, as plain_fir makes them do
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
            np.testing.assert_allclose(resample(x, taps)[:, 2:-2, 2:-2], 1, atol=1e-6)


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
    conv = TWO_ARGUMENTS[name]
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
    def with_derivatives(total, x):
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(total(x))))
        return total(x), slope(x), jax.grad(lambda x: jnp.sum(slope(x) ** 2))(x)

    x = jnp.asarray(draw(9, 4, 5))
    for ours, plain in zip(
        with_derivatives(ops.sum_first, x),
        with_derivatives(lambda x: jnp.sum(x, axis=0), x),
        strict=True,
    ):
        assert_same(ours, plain)


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
    assert sheet.shape[:2] == (
        -(-n // 2) * 51 - 1,
        2 * 61 - 1,
    )  # the gap is between images, not at the edges
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
