"""Pictures for people: single images and grids of images as encoded files."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from genjax import ops, outputs
from genjax.shapes import AnyArray, Float, UInt8

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF",
}  # fmt: skip
TRANSPARENT = ("PNG", "WEBP", "TIFF")  # formats that keep an alpha channel as Pillow writes them


def save_grid(
    images: Float[AnyArray, "n h w c"] | UInt8[AnyArray, "n h w c"], path: str | os.PathLike, *, columns: int | None = None,
    rows: int | None = None, gap: int = 1,
) -> None:  # fmt: skip
    """Write images in [-1, 1], or bytes, as one picture, row by row, all or nothing.

    The suffix names the format, one of FORMATS; without one it is PNG. One image alone is
    written as it is; in a grid small ones are enlarged by whole factors, with `gap` white pixels
    between them. `columns` is even and near the square root of n if not given. With more
    `rows` than the images fill, the others are white. Raises ValueError for other than 1, 3 or
    4 channels, and for a suffix that names no format.
    """
    n = images.shape[0]
    across = columns or min(n, 2 * math.ceil(math.sqrt(n) / 2))
    rows = max(rows or 1, -(-n // across))
    pixels = np.asarray(images if images.dtype == np.uint8 else ops.to_uint8(images))
    kind = os.path.splitext(path)[1].lower() or ".png"
    if rows * across == 1:
        outputs.write_atomically(Path(path), encode(pixels[0], kind))
        return
    pixels = enlarged(pixels)
    height, width, channels = pixels.shape[1:]
    sheet = np.full((rows, across, height + gap, width + gap, channels), 255, np.uint8)
    sheet.reshape(-1, *sheet.shape[2:])[:n, :height, :width] = pixels
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * (height + gap), across * (width + gap), channels)
    sheet = sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]
    outputs.write_atomically(Path(path), encode(sheet, kind))


def enlarged(pixels: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Images of less than 48 pixels, by the whole factor that makes them as large."""
    factor = -(-48 // max(pixels.shape[1:3]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def encode(pixels: UInt8[np.ndarray, "h w c"], suffix: str, note: str = "") -> bytes:
    """The file of one image of 1, 3 or 4 channels, in the format of `suffix`, with outputs.MARK and a note.

    JPEG and WebP have quality 95; transparency is laid over white where the format has none.
    Raises ValueError for a suffix that is none of FORMATS, other channels, and an image that is
    too large for its format.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if suffix not in FORMATS:
        raise ValueError(f"{suffix!r} is no picture's suffix: one of {', '.join(FORMATS)}")
    if pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels, not {pixels.shape[2]}")
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
    """[h, w, 3] of [h, w, 4], transparency over white; others as they are."""
    if pixels.shape[2] != 4:
        return pixels
    alpha = pixels[..., 3:] / 255
    return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
