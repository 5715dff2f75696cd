"""Fixtures of tests that open image sets: images and folders made on the spot.

A conftest.py of a folder of tests imports those that it needs.
"""

import io
import re

import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.errors import InputError


@pytest.fixture
def said():
    """The lines that `load` says, but for the summary of files."""
    return []


@pytest.fixture
def summaries():
    """The summary lines of sets of files: one for each `load`."""
    return []


@pytest.fixture
def load(said, summaries):
    """`data.load`, with its lines going to `said` and `summaries`."""

    def say(line: str) -> None:
        assert line.isprintable(), line
        (summaries if re.match(r"data: \d+ files? found, ", line) else said).append(line)

    return lambda spec, **options: data.load(str(spec), say=say, **options)


@pytest.fixture
def refused(load):
    """The message that refuses a SPEC: one printable line with field and value."""

    def message(spec, **options) -> str:
        with pytest.raises(InputError) as caught:
            load(spec, **options)
        text = str(caught.value)
        assert text.isprintable(), text
        assert text.startswith("data '"), text
        assert "; " in text, text  # what would work
        return text

    return message


@pytest.fixture
def encode():
    """Pixels (or a colour and a size) as the bytes of an image file."""

    def encoded(pixels=(255, 0, 0), size=(8, 8), mode=None, format="PNG", **options) -> bytes:
        if isinstance(pixels, np.ndarray):
            image = Image.fromarray(pixels)
        elif isinstance(pixels, Image.Image):
            image = pixels
        else:
            image = Image.new(mode or "RGB", size, pixels)
        stream = io.BytesIO()
        image.save(stream, format, **options)
        return stream.getvalue()

    return encoded


@pytest.fixture
def folder(tmp_path):
    """A folder with the given files, by path below it; parents are made."""

    def write(files: dict[str, bytes], name: str = "set"):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    return write
