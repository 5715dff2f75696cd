"""Tiles: pixelwise functions are exact, seams fade, memory is that of one tile."""

import functools

import jax
import numpy as np
import pytest
import toys

from genjax.edit.tiles import tiled, translator
from genjax.models import cyclegan
from genjax.nn import ops


def picture(height, width):
    return np.random.default_rng(0).uniform(-1, 1, (height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(40, 90), (33, 32), (32, 32), (10, 70), (5, 4), (97, 101)])
def test_a_function_of_single_pixels_is_done_exactly_and_in_tiles_of_one_size(size):
    shapes = set()

    def apply(images):
        shapes.add(images.shape)
        return 1 - 2 * images

    image = picture(*size)
    np.testing.assert_allclose(tiled(apply, image, tile=32, overlap=8), 1 - 2 * image, atol=1e-5)
    assert shapes == {(1, min(32, size[0]), min(32, size[1]), 3)}


def test_tiles_overlap_by_what_was_asked_and_fade_without_a_step():
    """Tiles painted black and white: the overlap is a ramp without a step."""
    calls = iter(range(100))
    painted = tiled(
        lambda images: np.full_like(images, next(calls) % 2),
        np.zeros((32, 120, 1), np.float32),
        tile=32,
        overlap=12,
    )
    row = painted[16, :, 0]
    assert row.min() == 0
    assert row.max() == 1
    assert np.abs(np.diff(row)).max() < 1.5 / 12


def test_sizes_that_mean_nothing_are_refused():
    for tile, overlap in ((32, 17), (32, -1)):
        with pytest.raises(ValueError, match="overlap"):
            tiled(lambda images: images, picture(8, 8), tile, overlap)


@functools.cache
def small(network="resnet"):
    config = cyclegan.Config(
        shape=(32, 32, 3),
        channels=4,
        blocks=1,
        network=network,
        depth=2,
        disc_channels=4,
        disc_layers=1,
    )
    model = cyclegan.recipe(config)
    return compiled(model), toys.weights(model)


def compiled(model):
    verbs = {"translate": model.translate, "statistics": model.statistics}
    return model._replace(
        **{
            name: verb and jax.jit(verb, static_argnames="direction")
            for name, verb in verbs.items()
        }
    )


@pytest.mark.parametrize("network", ["resnet", "unet"])
def test_a_part_normalised_as_the_whole_is_the_part_of_the_whole(network):
    """Except for 40 pixels at its edges, which depend on the reflection."""
    model, weights = small(network)
    image = picture(120, 128)[None] * np.linspace(0.01, 1, 128)[None, None, :, None].astype(
        np.float32
    )
    full, statistics = model.translate(weights, image), model.statistics(weights, image)
    middle = lambda x: np.asarray(x[:, 40:-40, 40:-40])
    part = middle(model.translate(weights, image[:, 8:112, 16:116], statistics=statistics))
    np.testing.assert_allclose(part, full[:, 48:72, 56:76], atol=1e-5)
    alone = middle(model.translate(weights, image[:, 8:112, 16:116]))
    assert np.abs(alone - full[:, 48:72, 56:76]).max() > 1e-4


def test_tiles_have_the_contrast_of_the_whole_picture():
    """A ripple of one grey level on the left, which separate tiles would amplify."""
    model, weights = small()
    down, right = np.mgrid[0:160, 0:160]
    ripple, steps = (down // 8 + right // 8) % 2, 255 * ((down // 40 + right // 40) % 2)
    image = np.where(right < 80, 128 + ripple, steps)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    values = image.astype(np.float32) / 127.5 - 1
    together = translator(model, weights, tile=64, overlap=16)(image)
    apart = np.asarray(
        ops.to_uint8(tiled(functools.partial(model.translate, weights), values, 64, 16))
    )
    at_once = np.asarray(ops.to_uint8(model.translate(weights, values[None])[0]))
    ripples = [float(x[48:112, 8:32].std(axis=(0, 1)).mean()) for x in (at_once, together, apart)]
    assert abs(ripples[1] - ripples[0]) < 0.5 * abs(ripples[2] - ripples[0]), ripples


def test_statistics_of_the_image_itself_change_nothing():
    config = cyclegan.Config(
        shape=(16, 16, 3), channels=4, blocks=2, disc_channels=4, disc_layers=1
    )
    model = compiled(cyclegan.recipe(config))
    weights, image = toys.weights(model), picture(18, 22)[None]
    statistics = model.statistics(weights, image, "b2a")
    np.testing.assert_allclose(
        model.translate(weights, image, "b2a", statistics),
        model.translate(weights, image, "b2a"),
        atol=1e-5,
    )
    assert not np.allclose(
        model.translate(weights, image[:, :8], "b2a", statistics),
        model.translate(weights, image[:, :8], "b2a"),
        atol=1e-2,
    )


def test_an_affine_network_sees_the_whole_picture():
    model, weights = small("affine")
    image = np.uint8(127.5 * picture(40, 56) + 127.5)
    full = ops.to_uint8(model.translate(weights, image[None] / np.float32(127.5) - 1))[0]
    done = translator(model, weights, tile=16, overlap=4)(image)
    assert np.abs(np.int32(done) - np.int32(full)).max() <= 1
