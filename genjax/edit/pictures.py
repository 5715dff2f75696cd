"""Picture files for the editing commands.

Names and sizes are preserved; nothing is overwritten unless asked for.
"""

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
    """List the picture files of a folder, at any depth, or the single file `source`.

    Files are recognised by content, as in a data set. `say` gets the summary line: the
    number of files found, how many are pictures, and why the others are left out.

    Raises:
        InputError: `source` does not exist, cannot be read, or holds no pictures.
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
    """Name of the output: unchanged, plus .png if that format cannot be written."""
    return name if name.suffix.lower() in FORMATS else name.with_name(name.name + ".png")


def read(path: Path, channels: int) -> np.ndarray:
    """Read uint8 [h, w, channels], upright, with transparency composited over white.

    Raises:
        Unreadable: the file is not an image that can be read.
    """
    quiet_pillow()
    image = open_image(read_picture(str(path), MAX_FILE_BYTES))
    return convert(image, (*describe(image).size, channels), "none")[0]


def digest(path: Path) -> str:
    """SHA-256 of a file; "" if over MAX_FILE_BYTES or if it cannot be read."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, Malformed):
        return ""
    return hashlib.sha256(raw).hexdigest() if len(raw) <= MAX_FILE_BYTES else ""


def encoded(name: str | Path, image: np.ndarray, note: str = "") -> bytes:
    """Encode uint8 [h, w, c] in the format of the name's suffix.

    `note` is the text of `outputs.note`, by which a repeated command recognises
    finished files.

    Raises:
        Unreadable: the image is too large for the format.
    """
    try:
        return encode(image, picture_suffix(name), note)
    except (OSError, ValueError) as error:  # Pillow raises either
        raise Unreadable(f"cannot be written as {picture_suffix(name)} ({reason(error)})") from None


def write(path: Path, image: np.ndarray) -> None:
    """Write uint8 [h, w, c] atomically, in the format of the name's suffix.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        outputs.write_atomically(path, encode(image, picture_suffix(path)))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None
