"""Picture files in and out, for the commands that edit: names and sizes stay, nothing is written over unasked."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genjax.bounded import Malformed, open_regular
from genjax.data.decode import MAX_FILE_BYTES, Unreadable, convert, describe, open_image, quiet_pillow
from genjax.data.files import KINDS, read_picture, walk
from genjax.data.items import summary
from genjax.errors import InputError, reason

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # others are written as .png
TRANSPARENT = ("PNG", "WEBP", "TIFF")  # formats that keep an alpha channel, as Pillow reads and writes them

__all__ = ["Unreadable", "find", "opaque", "read", "targets", "write"]


def find(source: Path, say: Callable[[str], None] | None = None) -> list[Path]:
    """The picture files of a folder, at any depth, or the one; by content, as a data set's. Raises InputError if there are none.

    say: gets the summary line: how many files were found, how many are pictures, and why the others are none.
    """
    if not os.path.isdir(source):
        try:
            open_regular(source).close()
        except (OSError, Malformed, ValueError) as error:  # ValueError: a null byte
            wrong = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason(error)})"
            raise InputError(f"{source}: {wrong}; give a picture or a folder of pictures") from None
        return [source]
    say = say or (lambda line: None)
    listing = walk(str(source), lambda wrong: InputError(f"{source}: {wrong}; give a readable folder"), say)
    files = listing.files()
    line = summary(files, len(listing.pictures))
    if not listing.pictures:
        raise InputError(f"{source}: holds no pictures ({line}); give {KINDS}")
    say(line)
    return [source.joinpath(*file.parts) for file in listing.pictures]


def targets(found: list[Path], source: Path, out: Path, force: bool) -> list[Path]:
    """Where each goes: below `out` as it lies below `source`. Makes the folders. Raises InputError where something would be lost."""
    names = [path.relative_to(source) if source.is_dir() else Path(path.name) for path in found]
    paths = [out / (name if name.suffix.lower() in WRITTEN else name.with_name(name.name + ".png")) for name in names]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise InputError(
            f"--out {out}: {there[0].name} and {len(there)} in all are there already; choose another folder, or add --force"
        )
    if any(path.resolve() == original.resolve() for path, original in zip(paths, found, strict=True)):
        raise InputError(f"--out {out}: is where the pictures come from; choose another folder")
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    return paths


def read(path: Path, channels: int) -> np.ndarray:
    """uint8 [h, w, channels], upright, transparency over white. Raises Unreadable."""
    quiet_pillow()
    image = open_image(read_picture(str(path), MAX_FILE_BYTES))
    return convert(image, (*describe(image).size, channels), "none")[0]


def write(path: Path, image: np.ndarray) -> None:
    """uint8 [h, w, c] in the format of the name's suffix, all or nothing; transparency over white where the format has none.

    Raises InputError if it cannot be written.
    """
    from PIL import Image

    kind = Image.registered_extensions()[path.suffix.lower()]
    pixels = image if kind in TRANSPARENT else opaque(image)
    buffer = io.BytesIO()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        picture.save(buffer, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # Pillow's, where a picture is too large for its format, are either
        raise InputError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def opaque(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] of [h, w, 4], transparency over white; others as they are."""
    if pixels.shape[2] != 4:
        return pixels
    alpha = pixels[..., 3:] / 255
    return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
