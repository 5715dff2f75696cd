"""Every kind of image becomes uint8 [height, width, channels], with one line that says what was converted."""

import itertools
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.data.decode import fit

RED, HALF_RED = (255, 0, 0), (255, 0, 0, 128)


@pytest.fixture
def pixels_of(folder, load, said):
    """The pixels of one image file as `load` gives them; what it says goes to `said`."""

    def decoded(content: bytes, name="one.png", **options) -> np.ndarray:
        said.clear()
        return load(folder({name: content}), **options).arrays["images"][0]

    return decoded


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height pixels and whose data are none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "colour", "channels", "expected", "words"),
    [
        ("RGB", RED, None, RED, None),
        ("L", 7, None, (7,), None),
        ("1", 1, None, (255,), None),
        ("RGBA", HALF_RED, None, (255, 127, 127), "1 RGBA over white"),
        ("LA", (0, 128), None, (127,), "1 RGBA over white"),
        ("RGBA", HALF_RED, 4, HALF_RED, None),
        ("RGB", RED, 4, (*RED, 255), "1 opaque to RGBA"),
        ("L", 7, 3, (7, 7, 7), "1 grey to RGB"),
        ("RGB", (9, 9, 9), 1, (9,), "1 colour to grey"),
    ],
)
def test_modes(pixels_of, encode, said, mode, colour, channels, expected, words):
    pixels = pixels_of(encode(colour, mode=mode), channels=channels)
    assert pixels.shape == (8, 8, len(expected))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8(expected), pixels.shape))
    assert said == ([f"data: 1 of 1 images converted: {words}"] if words else [])


def test_palette_with_transparency(pixels_of, encode, said):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, 8, 4))
    pixels = pixels_of(encode(image, transparency=0))
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == np.uint8(RED)).all()
    assert said == ["data: 1 of 1 images converted: 1 palette, 1 RGBA over white"]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits(pixels_of, encode, said, format):
    wide = np.array([[0, 257 * 100], [257 * 100 + 128, 65535]], np.uint16)
    pixels = pixels_of(encode(wide, format=format))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 100], [100, 255]])
    assert said == ["data: 1 of 1 images converted: 1 16-bit"]


def test_cmyk(pixels_of, encode, said):
    pixels = pixels_of(encode((0, 255, 255, 0), mode="CMYK", format="JPEG"), "one.jpg")
    assert np.abs(pixels.astype(int) - RED).max() < 12
    assert said == ["data: 1 of 1 images converted: 1 CMYK"]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation(pixels_of, encode, format):
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:, :8] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: the left side comes to the top
    pixels = pixels_of(encode(stored, format=format, exif=exif), f"one.{format.lower()}")
    assert pixels.shape == (16, 8, 3)
    assert (pixels[:7] > 240).all()
    assert (pixels[9:] < 15).all()


def test_animated_gif_gives_its_first_frame(pixels_of, encode, said):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pixels = pixels_of(encode(frames[0], format="GIF", save_all=True, append_images=frames[1:]), "one.gif")
    assert (pixels == np.uint8(RED)).all()
    assert "animated (first frame)" in said[0]
    assert len(said) == 1


def test_broken_metadata_do_not_lose_the_image(pixels_of, encode):
    assert pixels_of(encode(format="JPEG", exif=b"Exif\0\0nonsense"), "one.jpg").shape == (8, 8, 3)


def test_a_centre_crop_stays_within_any_picture():
    for width, height in itertools.product(range(1, 500, 37), repeat=2):
        picture = Image.new("L", (width, height), 7)
        for target in ((160, 240), (3, 7), (height, 1)):
            assert fit(picture, *target, "center").getextrema() == (7, 7)
    assert fit(Image.new("L", (481, 321)), 160, 240, "center").size == (240, 160)  # 240 * (481 / 240) is more than 481


def test_centre_crop_keeps_the_aspect_and_none_stretches(pixels_of, encode, said):
    wide = np.zeros((10, 31, 1), np.uint8).repeat(3, axis=2)
    wide[:, 10:20] = 255
    cropped = pixels_of(encode(wide), resolution=10)
    np.testing.assert_array_equal(cropped, 255)  # whole pixels: a crop alone does not blur
    assert said == ["data: 1 of 1 images converted: 1 resized to 10x10"]
    stretched = pixels_of(encode(wide), resolution=(10, 31 * 2), crop="none")
    assert stretched.shape == (10, 62, 3)
    assert (stretched[:, 26:34] > 250).all()
    assert (stretched[:, :10] < 5).all()


def test_shrinking_is_antialiased(pixels_of, encode):
    checkered = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = pixels_of(encode(checkered.astype(np.uint8)), resolution=8)
    assert np.abs(pixels.astype(int) - 127).max() <= 8


def test_large_jpeg_decoded_at_reduced_size_is_the_same_picture(pixels_of, encode):
    ramp = np.linspace(0, 255, 1024).astype(np.uint8)[np.newaxis, :].repeat(1024, axis=0)
    pixels = pixels_of(encode(ramp, format="JPEG", quality=95), "one.jpg", resolution=16)
    np.testing.assert_allclose(pixels[8, :, 0], ramp[0].reshape(16, 64).mean(axis=1), atol=2)


def test_one_pixel(pixels_of, encode):
    assert pixels_of(encode(size=(1, 1))).shape == (1, 1, 3)
    assert pixels_of(encode(size=(1, 1)), resolution=5).shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"just text", "not an image"),
        (b"", "empty file"),
        (png_claiming(20_000, 20_000), "more than 67108864 pixels"),
        (png_claiming(10_000, 10_000), "more than 67108864 pixels"),  # Pillow itself would only warn
        (png_claiming(2_000_000_000, 2_000_000_000), "more than 67108864 pixels"),
        (png_claiming(100, 100), ""),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, ""),
        (b"GIF89a" + b"\xff" * 20, ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(folder, refused, content, why):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        message = refused(folder({"one.png": content}))
    assert "1 of 1 images cannot be read: one.png (" in message
    assert why in message
    assert not warned


def test_floating_point_images_are_refused(folder, refused, encode):
    content = encode(np.zeros((4, 4), np.float32), format="TIFF")
    assert "floating-point" in refused(folder({"one.tiff": content}))
