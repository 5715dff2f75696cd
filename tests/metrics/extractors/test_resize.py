"""Each resizer against its original, and the protocols made of them.

The originals are Pillow itself, and the rules of TensorFlow and PyTorch pixel by pixel.
"""

import jax
import numpy as np
import pytest
from PIL import Image

from genjax.errors import InputError
from genjax.metrics.extractors import protocols
from genjax.metrics.extractors.resize import RULES, matrix, resize

SIZES = [(32, 32, 19, 45), (45, 19, 32, 32), (8, 8, 8, 8), (1, 5, 3, 2)]
FILTERS = {
    "pil_bilinear": Image.Resampling.BILINEAR,
    "pil_bicubic": Image.Resampling.BICUBIC,
    "pil_lanczos": Image.Resampling.LANCZOS,
}
compiled = jax.jit(resize, static_argnums=(1, 2))
resized = jax.jit(protocols.resized, static_argnums=(1, 2, 3))
preprocess = jax.jit(protocols.preprocess, static_argnums=(1, 2))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("rule", FILTERS)
@pytest.mark.parametrize("sizes", SIZES)
def test_pillows_are_pillows(rule, sizes):
    h, w, height, width = sizes
    image = np.float32(noise(h, w))
    expected = np.asarray(Image.fromarray(image).resize((width, height), FILTERS[rule]))
    ours = compiled(image[None, :, :, None], (height, width), rule)[0, :, :, 0]
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize("rule", ["tf1_bilinear", "bilinear"])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_linear_rules_written_out(rule, sizes):
    h, w, height, width = sizes
    images = np.float32(noise(2, h, w, 3))

    def places(size, out):
        for i in range(out):
            source = (
                i * size / out if rule == "tf1_bilinear" else max((i + 0.5) * size / out - 0.5, 0)
            )
            low = min(int(source), size - 1)
            yield low, min(low + 1, size - 1), source - low

    expected = np.zeros((2, height, width, 3))
    for i, (top, bottom, down) in enumerate(places(h, height)):
        for j, (left, right, along) in enumerate(places(w, width)):
            upper = images[:, top, left] * (1 - along) + images[:, top, right] * along
            lower = images[:, bottom, left] * (1 - along) + images[:, bottom, right] * along
            expected[:, i, j] = upper * (1 - down) + lower * down
    np.testing.assert_allclose(compiled(images, (height, width), rule), expected, atol=2e-4)


@pytest.mark.parametrize("rule", RULES)
def test_rows_sum_to_1_and_equal_sizes_are_kept(rule):
    for size, out in ((32, 299), (299, 32), (7, 7)):
        np.testing.assert_allclose(matrix(rule, size, out).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix(rule, 7, 7), np.eye(7), atol=1e-12)


def test_what_is_no_rule_or_size_is_refused():
    with pytest.raises(ValueError, match="one of tf1_bilinear"):
        matrix("nearest", 4, 8)
    with pytest.raises(ValueError, match="at least one pixel"):
        matrix("bilinear", 4, 0)
    with pytest.raises(
        InputError, match=r"^protocol torch: must be one of tf_legacy, pytorch_fid, clean, nvidia"
    ):
        protocols.protocol("torch")


def test_protocols_scale_as_their_owners():
    black_and_white = np.uint8([0, 255]).reshape(2, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)
    for name, high in (
        ("tf_legacy", 127 / 128),
        ("pytorch_fid", 1),
        ("clean", 127 / 128),
        ("nvidia", 127 / 128),
    ):
        x = preprocess(black_and_white, protocols.protocol(name), (5, 6))
        assert x.shape == (2, 5, 6, 3)
        np.testing.assert_allclose(x[0], -1, atol=1e-6)
        np.testing.assert_allclose(x[1], high, atol=1e-6)


def test_bicubics_overshoot_is_clipped():
    edge = np.repeat(np.uint8([[0] * 4 + [255] * 4]), 8, axis=0)[None, :, :, None]
    x = resized(edge, protocols.protocol("clean"), (16, 16), 3)
    assert float(x.min()) == 0
    assert float(x.max()) == 255


def test_channels():
    clean = protocols.protocol("clean")
    grey = noise(2, 4, 4, 1)
    rgb = resized(grey, clean, (4, 4), 3)
    np.testing.assert_array_equal(rgb, np.repeat(np.float32(grey), 3, axis=3))
    np.testing.assert_allclose(resized(np.uint8(rgb), clean, (4, 4), 1), grey, atol=1e-4)
    rgba = np.concatenate(
        [np.full((1, 4, 4, 3), 100, np.uint8), np.full((1, 4, 4, 1), 51, np.uint8)], axis=3
    )
    np.testing.assert_array_equal(resized(rgba, clean, (4, 4), 3), np.full((1, 4, 4, 3), 224.0))
    for other in (noise(2, 4, 4, 2), noise(4, 4, 3), np.zeros((2, 4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="images are uint8"):
            protocols.resized(other, clean, (4, 4))


def test_the_one_rounding():
    np.testing.assert_array_equal(
        protocols.to_uint8(np.float32([-2, -1, 0.001, 1 - 0.9 / 255, 1, 3])),
        [0, 0, 128, 255, 255, 255],
    )


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [1, 3, 4])
def test_resizing_on_the_host_is_the_same(name, channels, given):
    """As for sets of several sizes."""
    rules, images = protocols.protocol(name), noise(2, 23, 41, given)
    expected = resized(images, rules, (29, 17), channels)
    ours = protocols.resized_on_host(images, rules, (29, 17), channels)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    with pytest.raises(ValueError, match="images are uint8"):
        protocols.resized_on_host(np.float32(images), rules, (29, 17), channels)
