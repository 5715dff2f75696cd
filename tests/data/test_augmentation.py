"""The Source carries flip and random crop, with data.prepare's random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.errors import ConfigError
from genjax.runtime import shell


@pytest.fixture
def pictures(folder, encode):
    """A folder of five 6x8 RGB pictures of noise."""
    random = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(5)]
    return folder({name: encode(random.integers(0, 256, (6, 8, 3), np.uint8)) for name in names})


def batch_of(source, seed=3):
    """A raw batch of 20 images of each set, of one step."""
    arrays = {name: jnp.asarray(array) for name, array in source.arrays.items()}
    return data.take(arrays, jnp.uint32(seed), jnp.uint32(0), 20)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], strict=True)


def test_without_augmentation_the_shape_is_that_of_the_stored_images(pictures, load):
    source = load(pictures)
    assert (source.flip, source.random_crop) == (False, None)
    assert source.shape == source.full_shape == (6, 8, 3)


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_the_shape_is_that_after_the_random_crop(pictures, load, resident_mb):
    source = load(pictures, random_crop=(4, 5), resident_mb=resident_mb)
    assert source.shape == (4, 5, 3)
    assert source.full_shape == (6, 8, 3)
    assert source.read(0)["images"].shape == (6, 8, 3)
    assert data.gather(source, np.arange(2))["images"].shape == (2, 6, 8, 3)
    assert next(data.stream(source, 0, 0, 2, threads=1))["images"].shape == (2, 6, 8, 3)
    assert load(pictures, random_crop=4).shape == (4, 4, 3)


def test_augmentation_is_no_part_of_the_content(pictures, load):
    plain, augmented = load(pictures), load(pictures, flip=True, random_crop=4)
    assert augmented.fingerprint == plain.fingerprint
    assert augmented.name == plain.name


@pytest.mark.parametrize(
    ("flip", "crop"), [(False, None), (True, None), (False, (4, 5)), (True, (4, 5))]
)
def test_prepare_is_data_prepare_bit_for_bit(pictures, load, flip, crop):
    source = load(pictures, flip=flip, random_crop=crop)
    pair = data.unpaired(source, source)
    batch, key = batch_of(pair), jax.random.key(7)
    cases = [(pair, batch)]
    if flip and crop:  # each side alone
        first, second = ({name: batch[name]} for name in ("images", "images_b"))
        cases += [(source, first), (pair, second)]
    for each, raw in cases:
        expected = jax.jit(data.prepare, static_argnums=(2, 3))(raw, key, flip, crop)
        assert_equal(jax.jit(each.prepare)(raw, key), expected)
        assert all(images.shape == (20, *source.shape) for images in expected.values())


def test_each_of_two_sets_has_its_own_augmentation(pictures, load):
    first = load(pictures, flip=True, random_crop=(4, 5))
    pair = data.unpaired(first, load(pictures, resolution=(4, 5)))
    assert (pair.flip, pair.random_crop, pair.shape) == (True, (4, 5), (4, 5, 3))
    batch, key = batch_of(pair), jax.random.key(7)
    prepared = jax.jit(pair.prepare)(batch, key)
    augmented = jax.jit(data.prepare, static_argnums=(2, 3))(batch, key, True, (4, 5))
    np.testing.assert_array_equal(prepared["images"], augmented["images"])
    stored = jnp.float32(batch["images_b"]) / 127.5 - 1
    np.testing.assert_allclose(prepared["images_b"], stored, atol=1e-6)


def test_a_mapped_source_has_the_same_augmentation(pictures, load):
    source = load(pictures, flip=True, random_crop=4)
    negative = data.mapped(source, "negative", lambda _, image: 255 - image)
    assert (negative.flip, negative.random_crop, negative.shape) == (True, (4, 4), (4, 4, 3))
    key = jax.random.key(1)
    changed, plain = (each.prepare(batch_of(each), key) for each in (negative, source))
    np.testing.assert_allclose(changed["images"], -plain["images"], atol=1e-6)


@pytest.mark.parametrize("crop", [(7, 8), (6, 9), 7])
def test_a_crop_larger_than_the_images_is_refused(pictures, load, crop):
    with pytest.raises(ConfigError, match=r"the images of `data` are 6x8$") as caught:
        load(pictures, random_crop=crop)
    assert caught.value.field == "random_crop"
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    line = caught.value.as_option(shell.option)
    assert line == f"--random-crop {height} {width}: the images of --data are 6x8"


def test_images_of_their_own_sizes_are_not_cropped(pictures, load):
    with pytest.raises(ConfigError, match=r"^random_crop: images that keep their own sizes"):
        load(pictures, random_crop=4, own_sizes=True)
    assert load(pictures, own_sizes=True).shape == (0, 0, 3)
