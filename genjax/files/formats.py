"""The format of an encoded picture, and whether opening it is cheap.

Decoders trust a file's structure: a few kilobytes can claim thousands of scans, pages
or tags, each of which costs time or memory. `inspect` walks the structure of the
formats where that is possible, in a bounded number of steps, before Pillow opens the
file.
"""

import functools
import re
import struct
import zlib
from typing import NamedTuple

from genjax.errors import printable

HEAD_BYTES = 128  # enough for `kind`
MAX_PARTS = 2**16  # PNG chunks, JPEG markers, TIFF strips: a file with more is hostile
MAX_SUB_BLOCKS = 2**19  # of 255 bytes each before a GIF's second frame; 2**26 pixels take fewer
MAX_SCANS = 100  # of a progressive JPEG; encoders write about 10
MAX_TAGS = 2**12  # of a TIFF page
MAX_PAGES = 2**12  # number of pages of a TIFF that are counted
PYTHON_PIXELS = 2**22  # limit for forms that Pillow decodes in Python, about a second

# Only pure decoders: Pillow would also hand EPS files to an external interpreter.
SUFFIXES = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".avif": "AVIF",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
}
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
# Formats that compress: a zip shrinks them little.
DENSE = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "HEIF", "JPEG2000")
BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
}
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a JPEG, between coded pixels
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes in bytes


class Excessive(ValueError):
    """Opening a file would cost more than its pixels can need; the text says why."""


class Structure(NamedTuple):
    """Properties of a file that Pillow does not report."""

    pictures: int = 1  # number of frames or pages, as far as they are counted
    bits: int = 8  # per sample


def kind(head: bytes) -> str:
    """Pillow's name of a file's format, by its first HEAD_BYTES; "" if unknown."""
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if (
        head[:2] == b"BM"
        and len(head) >= 18
        and int.from_bytes(head[14:18], "little") in BMP_HEADERS
    ):
        return "BMP"
    if re.match(rb"P[1-6Ff][\s#]", head):
        return "PPM"
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
        return next((name for name, known in BRANDS.items() if brands & set(known)), "")
    return ""


@functools.cache
def readers() -> frozenset[str]:
    """The formats that this Pillow decodes; HEIF needs the extra `heic`."""
    from PIL import Image

    Image.init()
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener(thumbnails=False)
    except ImportError:
        pass
    return frozenset(SUFFIXES.values()) & frozenset(Image.OPEN)


def remedy(name: str) -> str:
    """The command that makes an unreadable format readable; "" for a readable one."""
    if name in readers():
        return ""
    return 'pip install "genjax-image[heic]"' if name == "HEIF" else "pip install --upgrade pillow"


def inspect(name: str, data: bytes) -> Structure:
    """The structure of a file of the format `name`.

    Malformed files are left to the decoder.
    Raises Excessive: opening it would cost too much. Raises ValueError: a PNG's
    checksum does not match.
    """
    walks = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "TIFF": _tiff, "PPM": _ppm, "BMP": _bmp}
    walk = walks.get(name)
    return walk(data) if walk else Structure()


def _png(data: bytes) -> Structure:
    """Walk the chunks and verify the checksums of those that pixels depend on.

    Pillow ignores the checksums of IDAT and decodes wrong pixels silently.
    """
    at, pictures, view = 8, 1, memoryview(data)
    for _ in range(MAX_PARTS):
        chunk = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        checksum = int.from_bytes(data[end : end + 4], "big")
        matters = chunk[:1].isupper() or chunk == b"tRNS"
        if matters and checksum != zlib.crc32(view[at + 4 : end]):
            name = printable(chunk.decode("latin-1"))
            raise ValueError(f"damaged: the checksum of {name} does not match")
        if chunk == b"acTL":
            pictures = max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        if len(chunk) < 4 or chunk == b"IEND":
            return Structure(pictures, data[24] if len(data) > 24 else 8)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise Excessive(f"more than {MAX_PARTS} chunks")


def _jpeg(data: bytes) -> Structure:
    """Walk the markers and count the scans."""
    # True by chance, too, for the bytes of a video that is appended to the photo.
    many = data.count(b"\xff\xda") > MAX_SCANS
    if len(data) <= MAX_PARTS and not many:
        return Structure()
    at, scans = 2, 0
    for _ in range(MAX_PARTS):
        match = MARKER.search(data, at) if scans else None
        marker = match.start() if match else data.find(b"\xff", at)
        marker = marker if marker >= 0 else len(data)
        if not scans and marker - at > MAX_PARTS:
            break
        if (scans and not match) or marker >= len(data) - 1:
            return Structure()
        code = data[marker + 1]
        scans += code == 0xDA
        if scans > MAX_SCANS:
            raise Excessive(f"more than {MAX_SCANS} scans")
        if (scans and not many) or (scans and code == 0xD9):
            return Structure()
        alone = code in (0x00, 0x01, 0xFF) or 0xD0 <= code <= 0xD9
        length = int.from_bytes(data[marker + 2 : marker + 4], "big")
        at = marker + ((1 if code == 0xFF else 2) if alone else 2 + length)
    raise Excessive(f"more than {MAX_PARTS} markers or bytes without meaning")


def _gif(data: bytes) -> Structure:
    """Walk the blocks up to the second frame."""
    at, steps, comment = 13 + _palette(data[10:11]), 0, 0
    for frames in range(2):
        while True:
            block = data[at : at + 1]
            if block not in (b"!", b","):  # the end, or damage
                return Structure(max(1, frames))
            if block == b",":
                if frames:
                    return Structure(2)
                at += 11 + _palette(data[at + 9 : at + 10])
            else:
                at += 2
            start = at
            while at < len(data) and data[at]:
                at += 1 + data[at]
                steps += 1
                if steps > MAX_SUB_BLOCKS:
                    raise Excessive(f"more than {MAX_SUB_BLOCKS} blocks before its second frame")
            at += 1
            if block == b",":
                break
            comment += at - start
            if comment > MAX_PARTS:
                raise Excessive(f"more than {MAX_PARTS} bytes of comments and extensions")
    return Structure(2)


def _palette(flags: bytes) -> int:
    """Size in bytes of the colour table that these flags of a GIF announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


TIFF_TYPES = {1: (1, 2, 6, 7), 2: (3, 8), 4: (4, 9, 11, 13), 8: (5, 10, 12, 16, 17, 18)}
# Size in bytes of a value, by the number of its type.
TIFF_SIZES = {form: size for size, forms in TIFF_TYPES.items() for form in forms}
SUBFILE, BITS, PLACES = 254, 258, (273, 279, 324, 325)  # tags; PLACES: of strips and tiles


def _tiff(data: bytes) -> Structure:
    """Walk the pages and their tags."""
    little, large = data[:1] == b"I", data[2:4] in (b"+\0", b"\0+")  # large: BigTIFF
    forms = ("Q", "HHQQ", "Q") if large else ("H", "HHII", "I")
    counted, entry, link = (struct.Struct("<>"[not little] + form) for form in forms)
    room = 8 if large else 4  # bytes of a value that fit into its entry

    def inline(value: int, form: int) -> int:
        bits = 8 * TIFF_SIZES.get(form, 0)
        return value & ((1 << bits) - 1) if little else value >> max(8 * room - bits, 0)

    visited: set[int] = set()  # offsets of pages
    pages, bits = 0, 8
    try:
        (at,) = link.unpack_from(data, 8 if large else 4)
        while at and at not in visited and len(visited) < MAX_PAGES:
            (tags,) = counted.unpack_from(data, at)
            if tags > MAX_TAGS:
                raise Excessive(f"a page of {tags} tags")
            first, reduced, total = not visited, False, 0
            visited.add(at)
            at += counted.size
            entries = data[at : at + tags * entry.size]
            entries = entries[: len(entries) // entry.size * entry.size]
            for tag, form, count, value in entry.iter_unpack(entries):
                size = count * TIFF_SIZES.get(form, 0)
                total += size if size > room else 0
                if tag in PLACES and count > MAX_PARTS:
                    raise Excessive(f"{count} strips or tiles")
                if tag == SUBFILE:  # bits 0 and 2: a smaller copy of another page, a mask
                    reduced = bool(inline(value, form) & 5)
                if tag == BITS and first:
                    short = struct.Struct("<>"[not little] + "H")
                    inside = size <= room
                    bits = inline(value, form) if inside else short.unpack_from(data, value)[0]
            if first and total > len(data):
                raise Excessive(f"tags of {total} bytes in a file of {len(data)}")
            pages += not reduced
            at += tags * entry.size
            (at,) = link.unpack_from(data, at)
    except struct.error:  # cut short, or an offset outside of the file
        pass
    return Structure(max(1, pages), bits)


def _ppm(data: bytes) -> Structure:
    """Read the text header."""
    fields = re.sub(rb"#[^\r\n]*", b"", data[:MAX_PARTS]).split(maxsplit=4)[:4]
    form = fields[0] if fields else b""
    needed = 3 if form in (b"P1", b"P4") else 4
    if len(fields) < needed:
        raise Excessive(f"no header in its first {MAX_PARTS} bytes")
    if not all(re.fullmatch(rb"\d{1,10}", field) for field in fields[1:needed]):
        return Structure()
    width, height = int(fields[1]), int(fields[2])
    deepest = int(fields[3]) if needed == 4 else 1
    in_python = form in (b"P1", b"P2", b"P3") or (form == b"P5" and deepest not in (255, 65535))
    in_python = in_python or (form == b"P6" and deepest != 255)
    if in_python and width * height > PYTHON_PIXELS:
        raise Excessive(f"{width}x{height} pixels in a form that is decoded slowly; save it as PNG")
    return Structure(bits=16 if deepest > 255 else 8)


def _bmp(data: bytes) -> Structure:
    """Read the size of a run-length encoded file."""
    if len(data) >= 34 and int.from_bytes(data[30:34], "little") in (1, 2):  # run lengths
        width, height = struct.unpack_from("<ii", data, 18)
        if abs(width * height) > PYTHON_PIXELS:
            size = f"{width}x{abs(height)}"
            raise Excessive(f"{size} pixels in run lengths, decoded slowly; save it as PNG")
    return Structure()
