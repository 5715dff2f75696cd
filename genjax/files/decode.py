"""One image of any kind to uint8 [height, width, channels]: bounded, upright, saying what had to be converted.

Pillow does the decoding; imported inside, because only sets that need decoding should pay for it.
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

# A picture whose header claims more is refused before a byte of it is decoded (2**26 pixels of RGBA are 256 MB).
MAX_PIXELS = 2**26
# No file or archive member is read further than this.
MAX_FILE_BYTES = 2**28
WIDE = "16-bit"
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
ORIENTATION = 0x0112  # the EXIF tag
STRUCTURE = (
    "genjax structure"  # key of Image.info under which `open_image` leaves formats.Structure
)
TO_BYTE = ((np.arange(2**16, dtype=np.uint32) * 255 + 32767) // 65535).astype(
    np.uint8
)  # 16 bits to 8, rounded
BAND = 2**10  # rows that are laid over white at a time


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


def open_image(data: bytes) -> "Image.Image":
    """Read the header of an encoded image. Raises Unreadable."""
    from PIL import Image, UnidentifiedImageError

    name = recognise(data[: formats.HEAD_BYTES])
    try:
        structure = formats.inspect(name, data)
        image = Image.open(io.BytesIO(data), formats=(name,))
    except UnidentifiedImageError:
        raise Unreadable("not an image") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS} pixels") from None
    except (
        Exception
    ) as error:  # on hostile bytes the decoders raise anything, from SyntaxError to struct.error
        raise Unreadable(reason(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    image.info[STRUCTURE] = structure
    key = image.info.get("transparency")
    if name == "PNG" and image.mode == "RGB" and structure.bits == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(
            value >> 8 for value in key
        )  # as Pillow brings the pixels to 8 bits
    if name == "PNG" and image.mode == "L" and structure.bits in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**structure.bits - 1)
    return image


def recognise(head: bytes) -> str:
    """The format of a file that begins with `head`, formats.HEAD_BYTES of it. Raises Unreadable if it is none that is read."""
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
    """The header of an opened image. Raises Unreadable."""
    from PIL import Image

    try:
        # The base class's method, because the one of PNG decodes the whole picture to look for a tag at its end.
        turned = Image.Image.getexif(image).get(ORIENTATION, 1) if image.format != "TIFF" else 1
    except Exception:  # broken metadata is no reason to lose the picture
        turned = 1
    structure = image.info.get(STRUCTURE, formats.Structure())
    try:  # where the structure is not walked, Pillow knows from the header
        animated = structure.pictures > 1 or (
            image.format in ("WEBP", "AVIF", "HEIF") and getattr(image, "is_animated", False)
        )
    except Exception as error:
        raise Unreadable(reason(error)) from error
    unusual = (
        (WIDE, image.mode.startswith("I") or 8 < structure.bits <= 16),
        ("palette", image.mode in ("P", "PA")),
        (image.mode, image.mode in ("CMYK", "YCbCr", "LAB", "HSV")),
        ("EXIF-rotated", turned in range(2, 9)),
        ("multi-page (first page)", animated and image.format == "TIFF"),
        ("animated (first frame)", animated and image.format != "TIFF"),
    )
    size = (image.width, image.height) if turned in range(5, 9) else (image.height, image.width)
    return Header(
        size,
        image.mode in GREY_MODES,
        has_alpha(image),
        tuple(word for word, holds in unusual if holds),
    )


def conversions(header: Header, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """In words, all that `convert` does to bring an image to `shape` (height, width, channels)."""
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

    crop: "center" scales the shorter side and cuts the rest off, "none" stretches, "whole" refuses another size, "own" leaves
    the image's own, whatever height and width say. Returns the pixels and what had to be converted, in words. Raises Unreadable.
    """
    height, width, channels = shape
    header = describe(image)
    done = conversions(header, shape)
    if crop == "own":
        height, width = header.size
    if crop == "whole" and header.size != (height, width):
        raise Unreadable(f"{'x'.join(map(str, header.size))}, not {height}x{width}")
    try:
        image.load()  # whole: the reduced sizes at which JPEG can be decoded are by another filter
        if "EXIF-rotated" in done:
            image = upright(image)
        pixels = np.asarray(fit(to_channels(image, channels), height, width, crop))
    except Unreadable:
        raise
    except Exception as error:  # see open_image
        raise Unreadable(reason(error)) from error
    return pixels.reshape(height, width, channels), done


def upright(image: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def has_alpha(image: "Image.Image") -> bool:
    return image.mode in ALPHA_MODES or "transparency" in image.info


def to_channels(image: "Image.Image", channels: int) -> "Image.Image":
    """Grey, RGB or RGBA with 8 bits; transparency is laid over white unless it is kept. Raises Unreadable."""
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
    """L or LA of a grey picture of 9 to 16 bits, which Pillow may hold in 32."""
    from PIL import Image

    values = np.asarray(image)
    if values.dtype != np.uint16:
        values = np.clip(values, 0, 65535).astype(np.uint16)
    bits = image.info.get(STRUCTURE, formats.Structure()).bits
    if image.format == "TIFF" and 8 < bits < 16:  # others are scaled to 16 bits by their decoders
        table = (
            np.arange(2**16, dtype=np.uint32).clip(max=2**bits - 1) * 255 + 2 ** (bits - 1) - 1
        ) // (2**bits - 1)
        grey = Image.fromarray(table.astype(np.uint8)[values])
    else:
        grey = Image.fromarray(TO_BYTE[values])
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def over_white(image: "Image.Image", mode: str) -> "Image.Image":
    """A transparent image over white as L or RGB, some rows at a time: whole copies as RGBA would take three times its memory."""
    from PIL import Image

    flat = Image.new(mode, image.size)
    for top in range(0, image.height, BAND):
        box = (0, top, image.width, min(top + BAND, image.height))
        band = image.crop(box).convert("RGBA")
        flat.paste(
            Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert(mode), box
        )
    return flat


def fit(image: "Image.Image", height: int, width: int, crop: str) -> "Image.Image":
    """Antialiased bicubic, the filter that leaves distances between sets least disturbed (Parmar et al. 2022, fig. 3)."""
    from PIL import Image

    if image.size == (width, height):
        return image
    box = (0, 0, image.width, image.height)
    if crop == "center":
        scale = min(image.width / width, image.height / height)
        wide, high = (
            min(width * scale, image.width),
            min(height * scale, image.height),
        )  # rounding could pass the edge
        left, top = (
            (image.width - wide) // 2,
            (image.height - high) // 2,
        )  # whole pixels: a pure crop must not blur
        box = (left, top, left + wide, top + high)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)
