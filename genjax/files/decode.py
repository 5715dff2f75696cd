"""Decode an image of any kind to uint8 [height, width, channels], in bounds.

Conversions are reported in words. Pillow decodes; it is imported inside functions, so
that only sets that need decoding load it.
"""

import io
import logging
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genjax.errors import reason
from genjax.files import formats

if TYPE_CHECKING:
    from PIL import Image

# A picture whose header claims more pixels is refused before it is decoded (2**26
# pixels of RGBA take 256 MB).
MAX_PIXELS = 2**26
MAX_FILE_BYTES = 2**28  # the most bytes that are read of a file or an archive member
WIDE = "16-bit"  # the word for a conversion from more than 8 bits per sample
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
ORIENTATION = 0x0112  # the EXIF tag
# Key of Image.info under which `open_image` stores formats.Structure.
STRUCTURE = "genjax structure"
# 16 bits to 8, rounded.
TO_BYTE = ((np.arange(2**16, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
BAND = 2**10  # number of rows that are composed over white at a time


class Unreadable(ValueError):
    """An image cannot be used; the text is the reason."""


class Header(NamedTuple):
    """Properties of an image that need no decoding."""

    size: tuple[int, int]  # height, width of the upright image
    grey: bool
    alpha: bool
    unusual: tuple[str, ...]  # conversions that any use of it needs, in words


def quiet_pillow() -> None:
    """Silence Pillow's warnings and log lines about odd metadata and large images.

    One line per set sums them up, and MAX_PIXELS is the limit. Both settings are global
    because decoding runs in threads, where `warnings.catch_warnings` is not safe.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def open_image(data: bytes) -> "Image.Image":
    """Open an encoded image: its header is read, its pixels are not.

    Raises Unreadable: not an image, damaged, or more than MAX_PIXELS pixels.
    """
    from PIL import Image, UnidentifiedImageError

    name = recognise(data[: formats.HEAD_BYTES])
    try:
        structure = formats.inspect(name, data)
        image = Image.open(io.BytesIO(data), formats=(name,))
    except UnidentifiedImageError:
        raise Unreadable("not an image") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS} pixels") from None
    # On hostile bytes decoders raise anything, from SyntaxError to struct.error.
    except Exception as error:
        raise Unreadable(reason(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    image.info[STRUCTURE] = structure
    key = image.info.get("transparency")
    # The transparent colour is reduced as Pillow reduces the pixels to 8 bits.
    if name == "PNG" and image.mode == "RGB" and structure.bits == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if name == "PNG" and image.mode == "L" and structure.bits in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**structure.bits - 1)
    return image


def recognise(head: bytes) -> str:
    """The format of a file, by its first formats.HEAD_BYTES bytes.

    Raises Unreadable: it is no format that this installation reads.
    """
    name = formats.kind(head)
    if not name:
        raise Unreadable("not an image" if head else "empty file")
    if remedy := formats.remedy(name):
        raise Unreadable(f"{name}, which needs {remedy}")
    return name


def from_array(pixels: np.ndarray) -> "Image.Image":
    """uint8 [height, width, 1 | 3 | 4] as a Pillow image."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def describe(image: "Image.Image") -> Header:
    """The header of an opened image. Raises Unreadable: it is damaged."""
    from PIL import Image

    try:
        # The method of the base class: PNG's decodes the picture to look for a tag at
        # its end.
        tiff = image.format == "TIFF"
        orientation = 1 if tiff else Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # broken metadata is no reason to lose the picture
        orientation = 1
    structure = image.info.get(STRUCTURE, formats.Structure())
    try:  # formats whose structure is not inspected: Pillow knows from the header
        animated = structure.pictures > 1 or (
            image.format in ("WEBP", "AVIF", "HEIF") and getattr(image, "is_animated", False)
        )
    except Exception as error:
        raise Unreadable(reason(error)) from error
    unusual = (
        (WIDE, image.mode.startswith("I") or 8 < structure.bits <= 16),
        ("palette", image.mode in ("P", "PA")),
        (image.mode, image.mode in ("CMYK", "YCbCr", "LAB", "HSV")),
        ("EXIF-rotated", orientation in range(2, 9)),
        ("multi-page (first page)", animated and image.format == "TIFF"),
        ("animated (first frame)", animated and image.format != "TIFF"),
    )
    size = (
        (image.width, image.height) if orientation in range(5, 9) else (image.height, image.width)
    )
    words = tuple(word for word, holds in unusual if holds)
    return Header(size, image.mode in GREY_MODES, has_alpha(image), words)


def conversions(header: Header, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """In words, the conversions to `shape` (height, width, channels)."""
    height, width, channels = shape
    needed = (
        ("RGBA over white", header.alpha and channels != 4),
        ("opaque to RGBA", not header.alpha and channels == 4),
        ("grey to RGB", header.grey and channels != 1),
        ("colour to grey", not header.grey and channels == 1),
        (f"resized to {height}x{width}", height > 0 and header.size != (height, width)),
    )
    return header.unusual + tuple(word for word, holds in needed if holds)


def convert(
    image: "Image.Image", shape: tuple[int, int, int], crop: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Bring an opened image to uint8 [height, width, channels].

    Args:
        image: of `open_image`
        shape: height, width, channels
        crop: "center" scales the shorter side and crops the longer, "none" stretches,
            "whole" refuses another size, "own" keeps the image's size and ignores
            height and width

    Returns:
        the pixels, and the conversions in words

    Raises:
        Unreadable: the image is damaged, or with "whole" has another size
    """
    height, width, channels = shape
    header = describe(image)
    done = conversions(header, shape)
    if crop == "own":
        height, width = header.size
    if crop == "whole" and header.size != (height, width):
        raise Unreadable(f"{'x'.join(map(str, header.size))}, not {height}x{width}")
    try:
        image.load()  # at full size: JPEG's decoding at reduced sizes uses another filter
        if "EXIF-rotated" in done:
            image = upright(image)
        pixels = np.asarray(fit(to_channels(image, channels), height, width, crop))
    except Unreadable:
        raise
    except Exception as error:  # see open_image
        raise Unreadable(reason(error)) from error
    return pixels.reshape(height, width, channels), done


def upright(image: "Image.Image") -> "Image.Image":
    """The image turned and mirrored according to its EXIF orientation."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def has_alpha(image: "Image.Image") -> bool:
    """Whether an image has an alpha channel or a transparent colour."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def to_channels(image: "Image.Image", channels: int) -> "Image.Image":
    """The image as 8-bit grey, RGB or RGBA; transparency is shown over white.

    Raises Unreadable: it has floating-point pixels.
    """
    mode = MODES[channels]
    if image.mode == mode and not (has_alpha(image) and channels != 4):
        return image
    if image.mode == "F":
        raise Unreadable("floating-point pixels")
    if image.mode.startswith("I"):
        image = to_eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if has_alpha(image):
        return over_white(image, mode) if channels != 4 else image.convert(mode)
    return image.convert(mode)


def to_eight_bits(image: "Image.Image") -> "Image.Image":
    """A grey picture of 9 to 16 bits, which Pillow may hold in 32, as L or LA."""
    from PIL import Image

    values = np.asarray(image)
    if values.dtype != np.uint16:
        values = np.clip(values, 0, 65535).astype(np.uint16)
    bits = image.info.get(STRUCTURE, formats.Structure()).bits
    if image.format == "TIFF" and 8 < bits < 16:  # others are scaled to 16 bits by their decoders
        levels = np.arange(2**16, dtype=np.uint32).clip(max=2**bits - 1)
        table = (levels * 255 + 2 ** (bits - 1) - 1) // (2**bits - 1)
        grey = Image.fromarray(table.astype(np.uint8)[values])
    else:
        grey = Image.fromarray(TO_BYTE[values])
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def over_white(image: "Image.Image", mode: str) -> "Image.Image":
    """A transparent image composed over white, as L or RGB.

    It is composed BAND rows at a time: full copies as RGBA would take three times its
    memory.
    """
    from PIL import Image

    flat = Image.new(mode, image.size)
    for top in range(0, image.height, BAND):
        box = (0, top, image.width, min(top + BAND, image.height))
        band = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        flat.paste(Image.alpha_composite(white, band).convert(mode), box)
    return flat


def fit(image: "Image.Image", height: int, width: int, crop: str) -> "Image.Image":
    """Resize with an antialiased bicubic filter; crop "center" keeps the aspect ratio.

    Of all filters this one changes distances between sets least (Parmar et al. 2022,
    fig. 3).
    """
    from PIL import Image

    if image.size == (width, height):
        return image
    box = (0, 0, image.width, image.height)
    if crop == "center":
        scale = min(image.width / width, image.height / height)
        # Rounding could pass the edge.
        wide, high = min(width * scale, image.width), min(height * scale, image.height)
        # Whole pixels: a crop without scaling must not blur.
        left, top = (image.width - wide) // 2, (image.height - high) // 2
        box = (left, top, left + wide, top + high)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
