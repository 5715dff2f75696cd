"""Encoded pictures: single images and grids of images."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import InputError
from genjax.files import outputs
from genjax.nn import ops
from genjax.shapes import AnyArray, Float, UInt8

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
TRANSPARENT = ("PNG", "WEBP", "TIFF")  # formats that keep an alpha channel as Pillow writes them
LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # the most pixels per side, where there is a limit
SMALL = 48  # smaller images, in pixels of the longer side, are enlarged in grids


def save_grid(
    images: Float[AnyArray, "n h w c"] | UInt8[AnyArray, "n h w c"],
    path: str | os.PathLike,
    *,
    columns: int | None = None,
    rows: int | None = None,
    gap: int = 1,
) -> None:
    """Write images as one picture, in rows; the file is complete or not written at all.

    A single image is written at its size. In a grid, images of less than 48 pixels are
    enlarged by an integer factor.

    Args:
        images: [n, h, w, c] in [-1, 1], or uint8; c 1, 3 or 4
        path: its suffix names the format, one of FORMATS; PNG without a suffix
        columns: number of images per row; by default even and near the square root of n
        rows: least number of rows; those without images are white
        gap: number of white pixels between images

    Raises:
        ValueError: the channels are not 1, 3 or 4, the suffix names no format, or the
            picture is too large for the format (then an InputError)
    """
    n = images.shape[0]
    kind = picture_suffix(path)
    check_side(kind, *sheet_size(n, images.shape[1:3], columns, rows, gap))
    across, rows = layout(n, columns, rows)
    pixels = np.asarray(images if images.dtype == np.uint8 else ops.to_uint8(images))
    if rows * across == 1:
        outputs.write_atomically(Path(path), encode(pixels[0], kind))
        return
    pixels = enlarged(pixels)
    height, width, channels = pixels.shape[1:]
    sheet = np.full((rows, across, height + gap, width + gap, channels), 255, np.uint8)
    sheet.reshape(-1, *sheet.shape[2:])[:n, :height, :width] = pixels
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), across * (width + gap), channels
    )
    sheet = sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]
    outputs.write_atomically(Path(path), encode(sheet, kind))


def picture_suffix(path: str | os.PathLike) -> str:
    """A picture's suffix in lower case; .png for a name without one."""
    return os.path.splitext(path)[1].lower() or ".png"


def layout(n: int, columns: int | None = None, rows: int | None = None) -> tuple[int, int]:
    """Columns and rows of a grid of n images."""
    columns = columns or min(n, 2 * math.ceil(math.sqrt(n) / 2))
    return columns, max(rows or 1, -(-n // columns))


def sheet_size(
    n: int, shape: Sequence[int], columns: int | None = None, rows: int | None = None, gap: int = 1
) -> tuple[int, int]:
    """Height and width in pixels of the picture that `save_grid` writes.

    It holds n images of shape (height, width); the other arguments are those of
    `save_grid`.
    """
    columns, rows = layout(n, columns, rows)
    if columns * rows == 1:
        return shape[0], shape[1]
    height, width = (side * magnification(shape) + gap for side in shape[:2])
    return rows * height - gap, columns * width - gap


def check_side(kind: str, height: int, width: int) -> None:
    """Check the size of a picture, in pixels, against the limit of a suffix's format.

    Raises InputError: it is too large.
    """
    longest = LONGEST.get(FORMATS.get(kind, ""), 2**31 - 1)
    if max(height, width) > longest:
        raise InputError(
            f"a {kind} of {height}x{width} pixels: at most {longest} per side; a .png may have more"
        )


def magnification(shape: Sequence[int]) -> int:
    """The integer factor that enlarges images of less than 48 pixels to at least 48."""
    return -(-SMALL // max(shape[:2]))


def enlarged(pixels: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Enlarge images of less than 48 pixels by repeating pixels."""
    factor = magnification(pixels.shape[1:3])
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def encode(pixels: UInt8[np.ndarray, "h w c"], suffix: str, note: str = "") -> bytes:
    """Encode an image in the format of `suffix`, with outputs.MARK and a note.

    JPEG and WebP have quality 95. Formats without transparency show it over white.

    Args:
        pixels: [h, w, c] with c 1, 3 or 4
        suffix: one of FORMATS
        note: `outputs.note` of how the image was made

    Returns:
        the bytes of the file

    Raises:
        ValueError: the channels are not 1, 3 or 4, the suffix names no format, or the
            picture is too large for the format (then an InputError)
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if suffix not in FORMATS:
        raise ValueError(f"{suffix!r} is no picture's suffix: one of {', '.join(FORMATS)}")
    if pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels, not {pixels.shape[2]}")
    check_side(suffix, *pixels.shape[:2])
    mark = f"{outputs.MARK} {note}".strip()
    kind, exif, info = FORMATS[suffix], Image.Exif(), PngInfo()
    exif[0x0131] = mark  # Software
    info.add_text("Software", mark)
    options: dict[str, dict[str, Any]] = {
        "PNG": {"pnginfo": info},
        "JPEG": {"quality": 95, "comment": mark.encode()},
        "WEBP": {"quality": 95, "exif": exif},
        "TIFF": {"software": mark},
    }
    if kind not in TRANSPARENT:
        pixels = opaque(pixels)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, format=kind, **options.get(kind, {}))
    return buffer.getvalue() + (mark.encode() if kind == "BMP" else b"")


def opaque(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c2"]:
    """Compose an image with alpha over white, as [h, w, 3]; others are unchanged."""
    if pixels.shape[2] != 4:
        return pixels
    alpha = pixels[..., 3:] / 255
    return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
