"""Pictures for people: grids of images as PNG files."""

import math
import os
from pathlib import Path

import numpy as np

from genjax import ops
from genjax.shapes import AnyArray, Float, UInt8


def save_grid(
    images: Float[AnyArray, "n h w c"] | UInt8[AnyArray, "n h w c"], path: str | os.PathLike, *, columns: int | None = None,
    rows: int | None = None, gap: int = 1,
) -> None:  # fmt: skip
    """Write images in [-1, 1], or bytes, as one PNG, row by row; `columns` is even and near the square root of n if not given.

    With more `rows` than the images fill, the others are white. Small images are enlarged by whole factors, to be read.
    Raises ValueError for other than 1, 3 or 4 channels.
    """
    from PIL import Image

    n, channels = images.shape[0], images.shape[3]
    if channels not in (1, 3, 4):
        raise ValueError(f"a PNG has 1, 3 or 4 channels, not {channels}")
    across = columns or min(n, 2 * math.ceil(math.sqrt(n) / 2))
    pixels = enlarged(np.asarray(images if images.dtype == np.uint8 else ops.to_uint8(images)))
    rows = max(rows or 1, -(-n // across))
    sheet = np.full((rows, across, pixels.shape[1] + gap, pixels.shape[2] + gap, channels), 255, np.uint8)
    sheet.reshape(-1, *sheet.shape[2:])[:n, : pixels.shape[1], : pixels.shape[2]] = pixels
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * sheet.shape[2], across * sheet.shape[3], channels)
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(Path(path), format="PNG")


def enlarged(pixels: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Images of less than 48 pixels, by the whole factor that makes them as large."""
    factor = -(-48 // max(pixels.shape[1:3]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
