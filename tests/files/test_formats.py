"""Formats by first bytes; structures that would cost minutes or gigabytes."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.files import formats


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe1", "JPEG"),
        (b"GIF89a", "GIF"),
        (b"BM" + bytes(12) + struct.pack("<I", 40), "BMP"),
        (b"BM is a text and no picture at all", ""),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"II*\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"P6\n8 8 255\n", "PPM"),
        (b"P7 is no format of ours", ""),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", ""),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42isomavif", ""),  # beyond its box
        (b"\xff\x4f\xff\x51", "JPEG2000"),
        (b"", ""),
        (b'{"a": 1}', ""),
    ],
)
def test_the_first_bytes_tell_the_format(head, kind):
    assert formats.kind(head) == kind


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000"]
)
def test_what_pillow_writes_is_recognised_and_passes(encode, format):
    content = encode(
        np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8), format=format
    )
    assert formats.kind(content[: formats.HEAD_BYTES]) == format
    assert formats.inspect(format, content) == formats.Structure(1, 8)


def tiff(entries, behind=b"", order="<"):
    """A TIFF of one page of (tag, type, count, value); `behind` begins at byte 8."""
    page = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + "HHII", *entry) for entry in entries
    )
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8 + len(behind)) + behind + page + bytes(4)


def jpeg_of_scans(count):
    stream = io.BytesIO()
    Image.new("L", (256, 256)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


def gif_with(blocks):
    stream = io.BytesIO()
    Image.new("P", (8, 8)).save(stream, "GIF")
    content = stream.getvalue()
    image = content.index(b",\0\0\0\0\x08\0\x08\0")
    return content[:image] + blocks + content[image:]


def png_with(chunks):
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    return stream.getvalue()[:33] + chunks + stream.getvalue()[33:]


EMPTY_CHUNK = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
HOSTILE = {
    "scans.jpg": (jpeg_of_scans(5000), "more than 100 scans"),
    "padded.jpg": (b"\xff\xd8" + b"\xff" * 2**20, "markers or bytes without meaning"),
    "junk.jpg": (b"\xff\xd8\xff\xe0\0\2" + b"x" * 2**20, "markers or bytes without meaning"),
    "markers.jpg": (b"\xff\xd8" + b"\xff\xe1\0\2" * 70_000, "markers or bytes without meaning"),
    "chunks.png": (png_with(EMPTY_CHUNK * 70_000), "more than 65536 chunks"),
    "comment.gif": (
        gif_with(b"!\xfe" + (b"\xff" + b"x" * 255) * 1000 + b"\0"),
        "bytes of comments",
    ),
    "extensions.gif": (gif_with(b"!\xfe\1x\0" * 70_000), "bytes of comments"),
    "blocks.gif": (
        gif_with(b",\0\0\0\0\x08\0\x08\0\0\x02" + b"\1x" * 600_000 + b"\0"),
        "blocks before its second frame",
    ),
    "tags.tif": (
        tiff([(1000 + i, 1, 2**16, 8) for i in range(2000)], bytes(2**16)),
        "tags of 131072000 bytes",
    ),
    "many.tif": (tiff([(1000 + i, 1, 1, 8) for i in range(5000)]), "a page of 5000 tags"),
    "strips.tif": (tiff([(273, 4, 2**20, 8)], bytes(2**22)), "1048576 strips"),
    "plain.ppm": (b"P3 3000 3000 255\n" + b"1 " * 1000, "decoded slowly"),
    "maximum.pgm": (b"P5 3000 3000 254\n" + bytes(1000), "decoded slowly"),
    "comment.ppm": (
        b"P6\n#" + b"x" * 2**20 + b"\n8 8 255\n" + bytes(192),
        "no header in its first 65536 bytes",
    ),
    "lengths.bmp": (
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 9000, 5000, 1, 8, 1, 0, 0, 0, 0, 0),
        "run lengths",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_structures_that_would_cost_too_much_are_bad_images(folder, refused, name):
    content, why = HOSTILE[name]
    root = folder({name: content})
    began = time.process_time()  # of this process, however busy the machine is
    tracemalloc.start()
    message = refused(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"1 of 1 images cannot be read: {name} (" in message
    assert why in message
    assert time.process_time() - began < 10
    assert peak < 4 * len(content) + 2**23


def test_a_video_behind_a_photo_is_not_taken_for_scans(folder, load, encode):
    photo = encode((200, 100, 50), size=(64, 64), format="JPEG")
    # As in the motion photo of a phone.
    video = np.random.default_rng(0).bytes(2**16) + b"\xff\xda" * 500 + b"\xff\x00" * 10
    assert load(folder({"1.jpg": photo + video})).size == 1


def test_directories_of_a_tiff_that_form_a_loop_end(folder, load, refused):
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 14) + struct.pack("<HI", 0, 8)
    assert formats.inspect("TIFF", loop).pictures == 2
    chain = (
        b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(struct.pack("<HI", 0, 14 + 6 * i) for i in range(10_000))
    )
    assert formats.inspect("TIFF", chain).pictures == formats.MAX_PAGES
    refused(folder({"1.tif": loop}))


@pytest.mark.parametrize("order", ["<", ">"])
def test_bits_and_pages_of_a_tiff(order, encode):
    short = lambda value: value if order == "<" else value << 16
    assert formats.inspect(
        "TIFF", tiff([(258, 3, 1, short(12))], order=order)
    ) == formats.Structure(1, 12)
    three = struct.pack(order + "HHH", 16, 16, 16) + bytes(2)
    assert formats.inspect("TIFF", tiff([(258, 3, 3, 8)], three, order)) == formats.Structure(1, 16)
    pages = [Image.new("L", (8, 8), value) for value in range(5)]
    content = encode(pages[0], format="TIFF", save_all=True, append_images=pages[1:])
    assert formats.inspect("TIFF", content).pictures == 5
    large = encode(pages[0], format="TIFF", save_all=True, append_images=pages[1:], big_tiff=True)
    assert formats.inspect("TIFF", large) == formats.Structure(5, 8)


def test_a_png_whose_chunks_do_not_match_their_checksums_is_damaged():
    """Pillow ignores the checksum of IDAT and decodes wrong pixels silently."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=0)
    whole = buffer.getvalue()
    assert formats.inspect("PNG", whole).pictures == 1
    begin = whole.index(b"IDAT")
    for place in range(begin - 4, len(whole) - 12):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        with pytest.raises(ValueError, match="damaged"):
            formats.inspect("PNG", bytes(broken))
    # Pixels do not depend on this chunk: its checksum may be wrong.
    text = struct.pack(">I", 5) + b"tEXta\0bcd" + bytes(4)
    assert formats.inspect("PNG", whole[: begin - 4] + text + whole[begin - 4 :]).pictures == 1
