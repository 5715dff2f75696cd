"""A folder of frames: nothing in it is lost that the frames' own names do not write over."""

import numpy as np
import pytest
from PIL import Image

from genjax import frames
from genjax.errors import InputError

FRAMES = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.zeros((3, 4, 4, 3), np.uint8)


def test_pictures_of_the_same_naming_are_never_removed(tmp_path):
    """FFHQ's are 00000.png to 69999.png."""
    for number in range(5):
        (tmp_path / f"{number:05}.png").write_bytes(b"dear")

    def undrawn():
        raise AssertionError("nothing is drawn before it is known that it can be written")
        yield

    with pytest.raises(InputError, match=r"holds frames beyond these 3 \(00003\.png, 2 in all\); choose another folder"):
        frames.write(tmp_path, undrawn(), 3, 30)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"dear"] * 5


def test_frames_of_the_same_names_are_written_over_and_the_rest_stays(tmp_path):
    for name in ("00000.png", "00002.png", "notes.txt", "portrait.png"):
        (tmp_path / name).write_bytes(b"dear")
    frames.write(tmp_path, iter(FRAMES), 3, 30)
    for number in range(3):
        with Image.open(tmp_path / f"{number:05}.png") as image:
            np.testing.assert_array_equal(image, FRAMES[number])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.stem.isdigit()} == {
        "notes.txt": b"dear",
        "portrait.png": b"dear",
    }


def test_a_frame_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "00001.png").mkdir()
    with pytest.raises(InputError, match=r"00001\.png: cannot be written \(Is a directory\)"):
        frames.write(tmp_path, iter(FRAMES), 3, 30)
