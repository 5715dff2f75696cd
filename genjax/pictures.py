"""Picture files in and out, for the commands that edit: names and sizes stay, nothing is written over unasked."""

import hashlib
from pathlib import Path

import numpy as np

from genjax import outputs
from genjax.data.decode import MAX_FILE_BYTES, SUFFIXES, Unreadable, convert, describe, open_image, quiet_pillow
from genjax.errors import InputError, reason
from genjax.images import FORMATS, encode

__all__ = ["Unreadable", "find", "read", "target", "write"]


def find(source: Path) -> list[Path]:
    """The picture files of a folder, at any depth, or the one. Raises InputError if there are none."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f"{source}: does not exist; give a picture or a folder of pictures")
    found = sorted(
        path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != "."
    )
    if not found:
        raise InputError(f"{source}: holds no pictures ({', '.join(SUFFIXES[:4])} ...)")
    return found


def target(name: Path) -> Path:
    """The name that a translated picture is written under: its own, with .png added where its format is not written."""
    return name if name.suffix.lower() in FORMATS else name.with_name(name.name + ".png")


def read(path: Path, channels: int) -> np.ndarray:
    """uint8 [h, w, channels], upright, transparency over white. Raises Unreadable."""
    quiet_pillow()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(error.strerror or "cannot be read") from None
    if len(raw) > MAX_FILE_BYTES:
        raise Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    image = open_image(raw)
    return convert(image, (*describe(image).size, channels), "none")[0]


def digest(path: Path) -> str:
    """SHA-256 of a file of up to MAX_FILE_BYTES; "" of one that cannot be read, or is larger."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return ""
    return hashlib.sha256(raw).hexdigest() if len(raw) <= MAX_FILE_BYTES else ""


def write(path: Path, image: np.ndarray) -> None:
    """Write uint8 [h, w, c] in the format of the name's suffix, all or nothing. Raises InputError if it cannot be written."""
    try:
        outputs.write_atomically(path, encode(image, path.suffix.lower()))
    except (OSError, ValueError) as error:  # Pillow's, where a picture is too large for its format, are either
        raise InputError(f"{path}: cannot be written ({reason(error)})") from None
