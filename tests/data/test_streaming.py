"""Streaming: the batches of resident sets, from any step, in shares."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.errors import InputError


@pytest.fixture
def numbered(folder, encode):
    """A folder of `count` images in two classes; image i is filled with the value i."""
    return lambda count: folder(
        {
            f"{'ab'[i % 2]}/{i:03d}.png": encode(np.full((2, 3, 3), i, np.uint8))
            for i in range(count)
        }
    )


def batches(source, first_step, count, batch_size=4, **options):
    iterator = data.stream(source, 11, first_step, batch_size, **options)
    result = [next(iterator) for _ in range(count)]
    iterator.close()
    return result


@pytest.mark.parametrize("batch_size", [4, 16])
def test_resident_and_streamed_give_the_same_batches(numbered, load, batch_size):
    root = numbered(11)
    resident, streamed = load(root), load(root, resident_mb=0)
    assert resident.arrays is not None
    assert streamed.arrays is None
    assert resident.fingerprint == streamed.fingerprint
    arrays = jax.device_put(resident.arrays)
    take = jax.jit(data.take, static_argnums=3)
    for step, batch in enumerate(batches(streamed, 0, 6, batch_size)):
        expected = take(arrays, jnp.uint32(11), jnp.int32(step), batch_size)
        assert batch.keys() == expected.keys()
        for name in batch:
            assert batch[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(batch[name], expected[name])
    for from_array, from_files in zip(
        batches(resident, 0, 3), batches(streamed, 0, 3), strict=True
    ):
        np.testing.assert_array_equal(from_array["images"], from_files["images"])


def test_a_stream_started_later_continues_the_same(numbered, load):
    source = load(numbered(10), resident_mb=0)
    whole = batches(source, 0, 8)
    resumed = batches(source, 5, 3)
    for one, other in zip(whole[5:], resumed, strict=True):
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["labels"], other["labels"])


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_threads_do_not_change_the_order(numbered, load, threads):
    source = load(numbered(10), resident_mb=0)
    for one, other in zip(
        batches(source, 0, 8), batches(source, 0, 8, threads=threads, prefetch=1), strict=True
    ):
        np.testing.assert_array_equal(one["images"], other["images"])


def test_processes_share_each_batch(numbered, load):
    source = load(numbered(10), resident_mb=0)
    shares = [batches(source, 2, 3, process_index=index, process_count=2) for index in range(2)]
    for step, whole in enumerate(batches(source, 2, 3)):
        np.testing.assert_array_equal(
            np.concatenate([share[step]["images"] for share in shares]), whole["images"]
        )
    with pytest.raises(InputError, match="batch_size 4: does not divide among 3 processes"):
        data.stream(source, 0, 0, 4, process_count=3)


def test_bad_images_are_replaced_by_the_next_and_said_once(numbered, load, said, encode):
    root = numbered(10)
    (root / "b" / "005.png").write_bytes(encode(size=(3, 2))[:50])  # its header is whole
    source = load(root, resident_mb=0, max_bad=0.1)
    order = sorted(root.rglob("*.png"))
    bad = order.index(root / "b" / "005.png")
    expected = source.read((bad + 1) % 10)
    for _ in range(3):
        np.testing.assert_array_equal(source.read(bad)["images"], expected["images"])
        assert source.read(bad)["labels"] == expected["labels"]
    assert [line for line in said if "b/005.png" in line] == said
    assert len(said) == 1


def undecodable(png):
    """The PNG with a matching checksum over data that do not inflate."""
    at = png.index(b"IDAT")
    size = int.from_bytes(png[at - 4 : at], "big")
    data = b"IDAT" + bytes(size)
    return png[:at] + data + zlib.crc32(data).to_bytes(4, "big") + png[at + 8 + size :]


def test_too_many_bad_images_end_the_stream_with_one_line(numbered, load, encode):
    root = numbered(10)
    for name in ("b/005.png", "a/002.png"):
        (root / name).write_bytes(undecodable(encode(size=(3, 2))))
    source = load(root, resident_mb=0, max_bad=0.1)
    with pytest.raises(InputError) as caught:
        batches(source, 0, 5)
    assert str(caught.value).startswith(
        f"data '{root}': 2 of 10 images cannot be read: a/002.png ("
    )
    assert "`max_bad` 0.1" in str(caught.value)
    assert str(caught.value).isprintable()


def test_arrays_too_large_to_be_resident_are_streamed_from_memory(tmp_path, load):
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(5))
    source = load(tmp_path / "set.npz", resident_mb=0)
    assert source.arrays is None
    np.testing.assert_array_equal(source.read(3)["images"][..., 0], images[3])
    assert source.read(3)["labels"] == 3
    assert source.read(3)["labels"].dtype == np.int32
    larger = load(tmp_path / "set.npz", resident_mb=0, resolution=4, channels=3)
    assert larger.read(3)["images"].shape == (4, 4, 3)
