"""Picture files in and out, for the commands that edit: names and sizes stay, nothing is written over unasked."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genjax.data.files import KINDS, read_picture, walk
from genjax.data.items import summary
from genjax.errors import InputError, reason
from genjax.files import outputs
from genjax.files.bounded import Malformed, open_regular
from genjax.files.decode import (
    MAX_FILE_BYTES,
    Unreadable,
    convert,
    describe,
    open_image,
    quiet_pillow,
)
from genjax.files.grids import FORMATS, encode, picture_suffix

__all__ = ["Unreadable", "digest", "encoded", "find", "read", "target", "write"]


def find(source: Path, say: Callable[[str], None] | None = None) -> list[Path]:
    """The picture files of a folder, at any depth, or the one; by content, as a data set's. Raises InputError if there are none.

    say: gets the summary line: how many files were found, how many are pictures, and why the others are none.
    """
    if not os.path.isdir(source):
        try:
            open_regular(source).close()
        except (OSError, Malformed, ValueError) as error:  # ValueError: a null byte
            wrong = (
                "does not exist"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read ({reason(error)})"
            )
            raise InputError(f"{source}: {wrong}; give a picture or a folder of pictures") from None
        return [source]
    say = say or (lambda line: None)
    listing = walk(
        str(source), lambda wrong: InputError(f"{source}: {wrong}; give a readable folder"), say
    )
    files = listing.files()
    line = summary(files, len(listing.pictures))
    if not listing.pictures:
        raise InputError(f"{source}: holds no pictures ({line}); give {KINDS}")
    say(line)
    return [source.joinpath(*file.parts) for file in listing.pictures]


def target(name: Path) -> Path:
    """The name that a translated picture is written under: its own, with .png added where its format is not written."""
    return name if name.suffix.lower() in FORMATS else name.with_name(name.name + ".png")


def read(path: Path, channels: int) -> np.ndarray:
    """uint8 [h, w, channels], upright, transparency over white. Raises Unreadable."""
    quiet_pillow()
    image = open_image(read_picture(str(path), MAX_FILE_BYTES))
    return convert(image, (*describe(image).size, channels), "none")[0]


def digest(path: Path) -> str:
    """SHA-256 of a file of up to MAX_FILE_BYTES; "" of one that cannot be read, or is larger."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, Malformed):
        return ""
    return hashlib.sha256(raw).hexdigest() if len(raw) <= MAX_FILE_BYTES else ""


def encoded(name: str | Path, image: np.ndarray, note: str = "") -> bytes:
    """uint8 [h, w, c] in the format of the name's suffix. Raises Unreadable where it is too large for that.

    note: of outputs.note, by which a repeated command knows the file as finished.
    """
    try:
        return encode(image, picture_suffix(name), note)
    except (OSError, ValueError) as error:  # Pillow's are either
        raise Unreadable(f"cannot be written as {picture_suffix(name)} ({reason(error)})") from None


def write(path: Path, image: np.ndarray) -> None:
    """Write uint8 [h, w, c] in the format of the name's suffix, all or nothing. Raises InputError if it cannot be written."""
    try:
        outputs.write_atomically(path, encode(image, picture_suffix(path)))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None
