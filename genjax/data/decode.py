"""One image of any kind to uint8 [height, width, channels]: bounded, upright, saying what had to be converted.

Pillow does the decoding; imported inside, because only sets that need decoding should pay for it.
"""

import functools
import io
import logging
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genjax.errors import reason

if TYPE_CHECKING:
    from PIL import Image

# A picture whose header claims more is refused before a byte of it is decoded (2**26 pixels of RGBA are 256 MB).
MAX_PIXELS = 2**26
# No file or archive member is read further than this.
MAX_FILE_BYTES = 2**28
# Only pure decoders: Pillow would also hand EPS files to an external interpreter.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".jp2")

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
ORIENTATION = 0x0112  # the EXIF tag


class Unreadable(ValueError):
    """One image cannot be used; the text is the reason."""


class Header(NamedTuple):
    """What can be told of an image without decoding it."""

    size: tuple[int, int]  # height, width, once upright
    grey: bool
    alpha: bool
    unusual: tuple[str, ...]  # what any use of it must convert


def quiet_pillow() -> None:
    """Pillow warns of and logs odd metadata and large images, one by one: here one line sums up, and MAX_PIXELS is the limit.

    Both settings are global because decoding goes on in threads, where `warnings.catch_warnings` is not safe.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow has."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_image(data: bytes) -> "Image.Image":
    """Read the header of an encoded image. Raises Unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=formats())
    except UnidentifiedImageError:
        raise Unreadable("not an image" if data else "empty file") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # on hostile bytes the decoders raise anything, from SyntaxError to struct.error
        raise Unreadable(reason(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    return image


def from_array(pixels: np.ndarray) -> "Image.Image":
    """uint8 [height, width, 1 | 3 | 4] as a Pillow image."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def describe(image: "Image.Image") -> Header:
    """The header of an opened image. Raises Unreadable."""
    from PIL import Image

    try:
        # The base class's method, because the one of PNG decodes the whole picture to look for a tag at its end.
        turned = Image.Image.getexif(image).get(ORIENTATION, 1) if image.format != "TIFF" else 1
    except Exception:  # broken metadata is no reason to lose the picture
        turned = 1
    try:
        animated = image.format in ("GIF", "WEBP", "PNG") and getattr(image, "is_animated", False)
    except Exception as error:
        raise Unreadable(reason(error)) from error
    unusual = (
        ("16-bit", image.mode.startswith("I")),
        ("palette", image.mode in ("P", "PA")),
        (image.mode, image.mode in ("CMYK", "YCbCr", "LAB", "HSV")),
        ("EXIF-rotated", turned in range(2, 9)),
        ("animated (first frame)", animated),
    )
    size = (image.width, image.height) if turned in range(5, 9) else (image.height, image.width)
    return Header(size, image.mode in GREY_MODES, has_alpha(image), tuple(word for word, holds in unusual if holds))


def conversions(header: Header, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """In words, all that `convert` does to bring an image to `shape` (height, width, channels)."""
    height, width, channels = shape
    needed = (
        ("RGBA over white", header.alpha and channels != 4),
        ("opaque to RGBA", not header.alpha and channels == 4),
        ("grey to RGB", header.grey and channels != 1),
        ("colour to grey", not header.grey and channels == 1),
        (f"resized to {height}x{width}", header.size != (height, width)),
    )
    return header.unusual + tuple(word for word, holds in needed if holds)


def convert(image: "Image.Image", shape: tuple[int, int, int], crop: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Bring an opened image to uint8 [height, width, channels].

    crop: "center" scales the shorter side and cuts the rest off, "none" stretches, "whole" refuses another size. Returns the
    pixels and what had to be converted, in words. Raises Unreadable.
    """
    height, width, channels = shape
    header = describe(image)
    done = conversions(header, shape)
    if crop == "whole" and header.size != (height, width):
        raise Unreadable(f"{'x'.join(map(str, header.size))}, not {height}x{width}")
    try:
        # Only JPEG heeds this: it decodes at a half, quarter or eighth, no less than twice what is wanted.
        enough = 2 * max(height, width)
        image.draft(None, (enough, enough))
        image.load()
        if "EXIF-rotated" in done:
            image = upright(image)
        pixels = np.asarray(fit(to_channels(image, channels), height, width, crop))
    except Unreadable:
        raise
    except Exception as error:  # see open_image
        raise Unreadable(reason(error)) from error
    return pixels.reshape(shape), done


def upright(image: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def has_alpha(image: "Image.Image") -> bool:
    return image.mode in ALPHA_MODES or "transparency" in image.info


def to_channels(image: "Image.Image", channels: int) -> "Image.Image":
    """Grey, RGB or RGBA with 8 bits; transparency is laid over white unless it is kept. Raises Unreadable."""
    from PIL import Image

    mode = MODES[channels]
    if image.mode == mode and not (has_alpha(image) and channels != 4):
        return image
    if image.mode == "F":
        raise Unreadable("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits, sometimes held in 32
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if has_alpha(image):
        image = image.convert("RGBA")
        if channels != 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def fit(image: "Image.Image", height: int, width: int, crop: str) -> "Image.Image":
    """Antialiased bicubic, the filter that leaves distances between sets least disturbed (Parmar et al. 2022, fig. 3)."""
    from PIL import Image

    if image.size == (width, height):
        return image
    box = (0, 0, image.width, image.height)
    if crop == "center":
        scale = min(image.width / width, image.height / height)
        wide, high = min(width * scale, image.width), min(height * scale, image.height)  # rounding could pass the edge
        left, top = (image.width - wide) // 2, (image.height - high) // 2  # whole pixels: a pure crop must not blur
        box = (left, top, left + wide, top + high)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
