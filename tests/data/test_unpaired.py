"""Unpaired sets: each in its own order, the same resident and streamed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data


def numbered(size, first=0, resident=True):
    """Images whose every pixel is their number."""
    images = np.broadcast_to(
        np.arange(first, first + size, dtype=np.uint8)[:, None, None, None], (size, 4, 6, 1)
    ).copy()
    read = lambda index: {"images": images[index]}
    return data.Source(
        "numbers", size, (4, 6, 1), 0, f"{first}", read, {"images": images} if resident else None
    )


@pytest.mark.parametrize("resident", [True, False])
def test_each_side_has_every_image_once_an_epoch_in_an_order_of_its_own(resident):
    both = data.unpaired(numbered(20), numbered(30, 100, resident))
    assert (both.arrays is not None) == resident
    stream = data.stream(both, 7, 0, 10, threads=1)
    batches = [next(stream) for _ in range(6)]
    stream.close()
    drawn = {
        name: np.concatenate([batch[name][:, 0, 0, 0] for batch in batches])
        for name in ("images", "images_b")
    }
    for epoch in range(3):
        assert sorted(drawn["images"][20 * epoch : 20 * epoch + 20]) == list(range(20))
    for epoch in range(2):
        assert sorted(drawn["images_b"][30 * epoch : 30 * epoch + 30]) == list(range(100, 130))
    same = data.unpaired(numbered(20), numbered(20, 100))
    batch = next(data.stream(same, 7, 0, 20, threads=1))
    first, second = (batch[name][:, 0, 0, 0] for name in ("images", "images_b"))
    assert np.mean(first == second - 100) < 0.5  # images of equal numbers do not come together


def test_resident_and_streamed_batches_are_the_same():
    both = data.unpaired(numbered(20), numbered(30, 100))
    stream = data.stream(both, 7, 3, 8, threads=1)
    take = jax.jit(data.take, static_argnums=3)
    for step in range(3, 8):
        ours, theirs = take(both.arrays, jnp.uint32(7), jnp.uint32(step), 8), next(stream)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    stream.close()


def test_a_mapped_set_is_mapped_image_by_image():
    for resident in (True, False):
        source = data.mapped(
            numbered(5, 0, resident), "plus the index", lambda index, image: image + np.uint8(index)
        )
        assert [int(source.read(index)["images"][0, 0, 0]) for index in range(5)] == [0, 2, 4, 6, 8]
        assert (source.arrays is not None) == resident
        assert source.fingerprint != numbered(5).fingerprint
    np.testing.assert_array_equal(
        data.mapped(numbered(5), "x", lambda i, image: image + np.uint8(i)).arrays["images"][
            :, 0, 0, 0
        ],
        [0, 2, 4, 6, 8],
    )


def test_a_crop_is_a_part_of_the_image_at_any_place():
    levels = np.arange(5 * 7, dtype=np.uint8).reshape(1, 5, 7, 1)
    batch = {
        "images": jnp.asarray(np.repeat(levels, 300, axis=0)),
        "images_b": jnp.asarray(np.repeat(levels, 300, axis=0)),
    }
    cut = jax.jit(data.prepare, static_argnums=(2, 3))(batch, jax.random.key(0), False, (3, 4))
    corners = {}
    for name in ("images", "images_b"):
        pixels = np.rint((np.asarray(cut[name]) + 1) * 127.5).astype(int)[..., 0]
        assert pixels.shape == (300, 3, 4)
        np.testing.assert_array_equal(
            pixels - pixels[:, :1, :1],
            np.broadcast_to(levels[0, :3, :4, 0].astype(int), (300, 3, 4)),
        )
        corners[name] = pixels[:, 0, 0]
        assert set(corners[name]) == {7 * row + column for row in range(3) for column in range(4)}
    assert np.mean(corners["images"] == corners["images_b"]) < 0.3
