"""The order of the data: a uniform permutation per epoch, on host and device."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.data.sampler import positions

# With k degrees of freedom the chi-square values have mean k and standard deviation
# sqrt(2 k). The seeds are fixed.


def chi_square_in_range(counts: np.ndarray) -> bool:
    expected, freedom = counts.mean(), counts.size - 1
    return abs(((counts - expected) ** 2 / expected).sum() - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 257, 1797])
def test_every_epoch_visits_each_image_once(size):
    indices = data.order(7, np.arange(4 * size), size)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(
        np.sort(indices.reshape(4, size), axis=1), np.tile(np.arange(size), (4, 1))
    )


@pytest.mark.parametrize("size", [1, 3, 1797, 2**31 - 1])
def test_host_and_device_agree(size):
    where = np.concatenate([np.arange(300), 2**32 - 1 - np.arange(300)]).astype(np.uint32)
    on_device = jax.jit(data.order, static_argnums=2)(jnp.uint32(3), jnp.asarray(where), size)
    on_host = data.order(3, where, size)
    assert on_device.dtype == on_host.dtype == np.int32
    np.testing.assert_array_equal(on_device, on_host)
    assert on_host.min() >= 0
    assert on_host.max() < size


def test_epochs_and_seeds_differ():
    size = 1000
    epochs = [
        data.order(seed, np.arange(epoch * size, (epoch + 1) * size), size)
        for seed in range(4)
        for epoch in range(4)
    ]
    for one, other in itertools.combinations([*epochs, np.arange(size)], 2):
        assert (one == other).mean() < 0.01  # about one fixed point is expected


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_of_a_few_images_come_equally_often(size):
    epochs = 12_000
    shuffled = data.order(1, np.arange(epochs * size), size).reshape(epochs, size)
    _, counts = np.unique(shuffled, axis=0, return_counts=True)
    assert counts.size == len(list(itertools.permutations(range(size))))
    assert chi_square_in_range(counts)


def test_places_and_neighbours_are_uniform_over_seeds():
    size, seeds = 12, 6000
    shuffled = data.order(
        np.arange(seeds)[:, np.newaxis], np.tile(np.arange(size), (seeds, 1)), size
    )
    for seed in (0, 1, seeds - 1):
        np.testing.assert_array_equal(shuffled[seed], data.order(seed, np.arange(size), size))
    for place in range(size):
        assert chi_square_in_range(np.bincount(shuffled[:, place], minlength=size))
    pairs = np.bincount(shuffled[:, 4] * size + shuffled[:, 5], minlength=size**2).reshape(
        size, size
    )
    assert (np.diag(pairs) == 0).all()
    assert chi_square_in_range(pairs[~np.eye(size, dtype=bool)])


def test_seeds_of_any_width_are_taken_modulo_two_to_the_32():
    where = np.arange(50)
    np.testing.assert_array_equal(data.order(5 + 2**40, where, 99), data.order(5, where, 99))
    np.testing.assert_array_equal(data.order(-1, where, 99), data.order(2**32 - 1, where, 99))
    np.testing.assert_array_equal(
        data.order(np.int32(-1), where, 99), data.order(2**32 - 1, where, 99)
    )


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match="size"):
        data.order(0, np.arange(3), size)


@pytest.mark.parametrize(("size", "batch_size"), [(1, 4), (5, 3), (5, 16), (50, 8)])
def test_take_draws_each_image_once_an_epoch(size, batch_size):
    arrays = {
        "images": jnp.arange(size, dtype=jnp.uint8).reshape(size, 1, 1, 1),
        "labels": jnp.arange(size, dtype=jnp.int32),
    }
    take = jax.jit(data.take, static_argnums=3)
    batches = [take(arrays, jnp.uint32(2), jnp.int32(step), batch_size) for step in range(2 * size)]
    images = np.concatenate([batch["images"] for batch in batches]).reshape(-1)
    labels = np.concatenate([batch["labels"] for batch in batches])
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(images, labels)
    np.testing.assert_array_equal(np.bincount(labels), np.full(size, 2 * batch_size))
    np.testing.assert_array_equal(labels, data.order(2, np.arange(2 * size * batch_size), size))


def test_take_inside_a_scan_is_take_step_by_step():
    arrays = {"images": jnp.arange(7, dtype=jnp.uint8).reshape(7, 1, 1, 1)}
    steps = jnp.arange(5, dtype=jnp.int32)
    _, scanned = jax.jit(
        lambda: jax.lax.scan(lambda _, step: (None, data.take(arrays, 1, step, 4)), None, steps)
    )()
    take = jax.jit(lambda step: data.take(arrays, 1, step, 4))
    for step in range(5):
        np.testing.assert_array_equal(scanned["images"][step], take(step)["images"])


def test_positions_of_shares_make_up_the_batch():
    whole = positions(3, 8)
    np.testing.assert_array_equal(whole, np.arange(24, 32))
    np.testing.assert_array_equal(
        np.concatenate([positions(3, 8, 0, 4), positions(3, 8, 4, 8)]), whole
    )
    np.testing.assert_array_equal(positions(jnp.int32(3), 8), whole)


def test_prepare_scales_and_keeps_labels():
    batch = {
        "images": jnp.array([0, 51, 255], jnp.uint8).reshape(3, 1, 1, 1),
        "labels": jnp.arange(3),
    }
    prepared = jax.jit(data.prepare, static_argnums=2)(batch, jax.random.key(0), False)
    assert prepared["images"].dtype == jnp.float32
    np.testing.assert_allclose(prepared["images"].reshape(-1), [-1, -0.6, 1], atol=1e-6)
    np.testing.assert_array_equal(prepared["labels"], batch["labels"])


def test_prepare_mirrors_about_half_of_the_images_left_to_right():
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    batch = {"images": jnp.asarray(np.repeat(pixels, 400, axis=0))}
    plain = np.asarray(data.prepare(batch, jax.random.key(0), False)["images"])
    flipped = np.asarray(data.prepare(batch, jax.random.key(0), True)["images"])
    mirrored = (flipped == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == plain).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250
    again = data.prepare(batch, jax.random.key(0), True)["images"]
    np.testing.assert_array_equal(again, flipped)
