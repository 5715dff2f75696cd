"""A resident set costs its bytes once: a CPU device uses the reader's memory."""

import jax
import numpy as np
from PIL import Image

from genjax import data


def test_the_device_shares_the_readers_memory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 1), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels)
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / f"{index:03}.png")
    for spec in ("set.npz", "folder"):
        images = data.load(str(tmp_path / spec)).arrays["images"]
        assert np.array_equal(images, pixels)
        placed = jax.device_put(images, jax.devices("cpu")[0])
        assert placed.unsafe_buffer_pointer() == images.ctypes.data
