"""Every kind of image becomes uint8 [height, width, channels], with one line."""

import io
import itertools
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from genjax.files import decode
from genjax.files.decode import fit

RED, HALF_RED = (255, 0, 0), (255, 0, 0, 128)


@pytest.fixture
def pixels_of(folder, load, said):
    """The pixels of an image file as `load` gives them; lines go to `said`."""

    def decoded(content: bytes, name="one.png", **options) -> np.ndarray:
        said.clear()
        return load(folder({name: content}), **options).arrays["images"][0]

    return decoded


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height pixels and whose data are none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


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


# The same picture in every form: the same pixels

SMOOTH = np.clip(
    np.add.outer(np.arange(93) * 1.1, np.arange(131) * 0.9)[..., np.newaxis] * (1.0, 0.6, 0.3)
    + (0, 30, 60),
    0,
    255,
).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (93, 131, 3)).astype(np.uint8)
# Odd sizes, edges, noise.
PICTURE = np.where(np.indices((93, 131))[1][..., np.newaxis] % 40 < 20, SMOOTH, NOISE)
TARGETS = [
    (None, "center"),
    (32, "center"),
    (17, "none"),
    ((40, 23), "center"),
    ((23, 61), "none"),
    ((150, 99), "center"),
]


@pytest.mark.parametrize(("resolution", "crop"), TARGETS)
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 60, "progressive": True}),
        ("JPEG", {"quality": 90, "subsampling": 0}),
        ("WEBP", {"quality": 80}),
        ("AVIF", {"quality": 80}),
        ("JPEG2000", {}),
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
    ],
)
def test_a_file_gives_the_pixels_of_its_decoded_png(
    pixels_of, encode, format, options, resolution, crop
):
    content = encode(PICTURE, format=format, **options)
    with Image.open(io.BytesIO(content)) as image:
        decoded = encode(image.convert("RGB"))
    got, expected = (
        pixels_of(c, resolution=resolution, crop=crop).astype(int) for c in (content, decoded)
    )
    assert np.abs(got - expected).max() <= 1
    if options.get("lossless") or format in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.abs(got - pixels_of(encode(PICTURE), resolution=resolution, crop=crop)).max() == 0


@pytest.mark.parametrize("scale", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("size", [(321, 481), (256, 256), (255, 1023)])
def test_a_large_jpeg_is_reduced_as_its_decoded_png(pixels_of, encode, size, scale):
    small = (size[0] // 8 + 1, size[1] // 8 + 1, 3)
    levels = np.random.default_rng(scale).integers(0, 256, small).astype(np.uint8)
    picture = np.asarray(Image.fromarray(levels).resize(size[::-1], Image.Resampling.BICUBIC))
    content = encode(picture, format="JPEG", quality=90)
    decoded = encode(Image.open(io.BytesIO(content)).convert("RGB"))
    for crop in ("center", "none"):
        options = {"resolution": (max(1, size[0] // scale), max(1, size[1] // scale)), "crop": crop}
        np.testing.assert_array_equal(pixels_of(content, **options), pixels_of(decoded, **options))


def png(pixels, kind, bits=16, key=b""):
    """A PNG of colour type `kind`, `bits` bits per sample; key: transparent colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = pixels.shape[:2]
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    else:
        binary = [
            np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :].reshape(-1)
            for row in pixels
        ]
        rows = [np.packbits(row).tobytes() for row in binary]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"tRNS", key) if key else b"")
    return (
        b"\x89PNG\r\n\x1a\n"
        + body
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


def tiff_grey(values, bits):
    """A grey TIFF of one strip, with packed samples of `bits` bits."""
    height, width = values.shape
    spread_out = (values[..., np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    strip = b"".join(np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in spread_out)
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(strip)),
    ]
    page = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    strip += bytes(len(strip) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + page + bytes(4)


def grey_forms(encode):
    grey = PICTURE[..., 0]
    image = Image.fromarray(grey)
    palette = Image.fromarray(grey)
    palette = palette.convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "L": encode(image),
        "P": encode(palette),
        "LA": encode(image.convert("LA")),
        "RGB": encode(image.convert("RGB")),
        "RGBA": encode(image.convert("RGBA")),
        "16-bit PNG": png(grey[..., np.newaxis].astype(int) * 257, 0),
        "16-bit LA": png(np.stack([grey.astype(int) * 257, np.full(grey.shape, 65535)], -1), 4),
        "16-bit RGB": png(grey[..., np.newaxis].repeat(3, -1).astype(int) * 257, 2),
        "16-bit TIFF": encode(grey.astype(np.uint16) * 257, format="TIFF"),
        "12-bit TIFF": tiff_grey(grey.astype(int) * 4095 // 255, 12),
        "16-bit PGM": b"P5 131 93 65535\n" + (grey.astype(">u2") * 257).tobytes(),
        "12-bit PGM": b"P5 131 93 4095\n"
        + (grey.astype(int) * 4095 // 255).astype(">u2").tobytes(),
        "32-bit TIFF": encode(grey.astype(np.int32) * 257, format="TIFF"),
        "lossless WebP": encode(image.convert("RGB"), format="WEBP", lossless=True),
        "turned PNG": encode(np.ascontiguousarray(np.rot90(grey)), exif=exif),
        "turned TIFF": encode(np.ascontiguousarray(np.rot90(grey)), format="TIFF", exif=exif),
    }


@pytest.mark.parametrize(("resolution", "crop"), TARGETS[:3])
def test_a_grey_picture_is_the_same_in_every_mode(pixels_of, encode, resolution, crop):
    forms = grey_forms(encode)
    for channels in (1, 3, 4):
        expected = pixels_of(
            forms["L"], resolution=resolution, crop=crop, channels=channels
        ).astype(int)
        for name, content in forms.items():
            got = pixels_of(content, resolution=resolution, crop=crop, channels=channels)
            assert np.abs(got - expected).max() <= 1, (name, channels)


def test_one_bit_is_black_and_white(pixels_of, encode):
    bits = PICTURE[..., 0] > 100
    expected = np.where(bits, 255, 0)[..., np.newaxis]
    few = np.where(bits, 3, 0)[..., np.newaxis]
    for content in (
        encode(Image.fromarray(bits)),
        encode(Image.fromarray(bits), format="TIFF"),
        png(few, 0, bits=2),
    ):
        np.testing.assert_array_equal(pixels_of(content), expected)


def test_a_transparent_picture_is_the_same_in_every_mode(pixels_of, encode):
    shown = np.zeros((12, 20), bool)
    shown[3:9, 4:15] = True
    # The transparent level 6 must not show.
    grey = np.where(shown, 85, 6).astype(np.uint8)
    alpha = np.where(shown, 255, 0).astype(np.uint8)
    la = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    palette = Image.fromarray(grey).convert("P")
    two = np.where(shown, 1, 3)[..., np.newaxis]
    forms = {
        "RGBA": encode(la.convert("RGBA")),
        "LA": encode(la),
        "WebP": encode(la.convert("RGBA"), format="WEBP", lossless=True),
        "TIFF": encode(la.convert("RGBA"), format="TIFF"),
        "palette": encode(palette, transparency=palette.getpixel((0, 0))),
        "GIF": encode(palette, format="GIF", transparency=palette.getpixel((0, 0))),
        "grey and key": encode(Image.fromarray(grey), transparency=6),
        "RGB and key": encode(Image.fromarray(grey).convert("RGB"), transparency=(6, 6, 6)),
        "16-bit grey and key": png(
            grey[..., np.newaxis].astype(int) * 257, 0, key=struct.pack(">H", 6 * 257)
        ),
        "16-bit RGB and key": png(
            grey[..., np.newaxis].repeat(3, -1).astype(int) * 257,
            2,
            key=struct.pack(">HHH", *[6 * 257] * 3),
        ),
        "16-bit LA": png(np.stack([grey, alpha], -1).astype(int) * 257, 4),
        "2-bit grey and key": png(two, 0, bits=2, key=struct.pack(">H", 3)),  # 1 of 3 is 85
    }
    for resolution in (None, (7, 11), (30, 47)):
        for channels in (1, 3, 4):
            options = {"resolution": resolution, "channels": channels}
            expected = pixels_of(forms["RGBA"], **options).astype(int)
            visible = np.ones((*expected.shape[:2], 1), bool)
            if channels == 4:
                visible = expected[..., 3:] > 0
            for name, content in forms.items():
                got = pixels_of(content, **options)
                assert np.abs((got - expected) * visible).max() <= 1, (name, channels, resolution)


@pytest.mark.parametrize("channels", [3, 4])
def test_hidden_colours_do_not_bleed_when_resized(pixels_of, encode, channels):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., :3] = (0, 255, 0)  # green where nothing is shown
    pixels[10:30, 10:30] = (200, 0, 0, 255)
    got = pixels_of(encode(pixels), resolution=9, channels=channels).astype(int)
    if channels == 4:
        assert got[..., 1][got[..., 3] > 16].max() <= 8
    else:
        # Over white, green and blue are equal everywhere.
        assert np.abs(got[..., 1] - got[..., 2]).max() <= 1


def test_tall_transparent_pictures_lie_over_white(pixels_of, encode, monkeypatch):
    monkeypatch.setattr(decode, "BAND", 5)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 7, 4)).astype(np.uint8)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels_of(encode(pixels)) - expected).max() <= 1


@pytest.mark.parametrize(
    ("bits", "told"), [(12, "12 bits"), (10, "10 bits"), (14, "14 bits"), (16, ""), (15, "")]
)
@pytest.mark.parametrize("resident_mb", [0, 1])
def test_sixteen_bits_that_hold_fewer_are_reported_once_for_the_set(
    folder, load, said, encode, bits, told, resident_mb
):
    rng = np.random.default_rng(0)
    dark = {f"{i}.png": encode(rng.integers(0, 50, (8, 8)).astype(np.uint16)) for i in range(3)}
    files = {**dark, "9.png": encode(rng.integers(0, 2**bits, (64, 64)).astype(np.uint16))}
    load(folder(files), resolution=8, resident_mb=resident_mb, crop="none")
    line = (
        f"data: the 16-bit pictures are nearly black: no value needs more than {told}; "
        "rescale them to 0..65535"
    )
    assert [other for other in said if "nearly black" in other] == ([line] if told else [])


def test_masks_of_0_and_1_are_reported(folder, load, said, encode):
    mask = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(np.uint8)
    load(folder({"1.png": encode(mask), "2.png": encode(mask)}))
    assert said == [
        "data: the 8-bit pictures are nearly black: their values are 0 and 1 only, "
        "as of masks; multiply them by 255"
    ]
    said.clear()
    load(folder({"1.png": encode(mask), "2.png": encode(mask * 255)}))
    assert said == []


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_pages_of_a_tiff_that_are_left_out_are_reported(folder, load, said, encode, resident_mb):
    pages = [Image.new("L", (8, 8), 40 * value) for value in range(1, 6)]
    files = {"stack.tif": encode(pages[0], format="TIFF", save_all=True, append_images=pages[1:])}
    source = load(
        folder({**files, "plain.tif": encode(pages[1], format="TIFF")}), resident_mb=resident_mb
    )
    assert [int(source.read(i)["images"][0, 0, 0]) for i in range(2)] == [80, 40]
    assert len(said) == 1
    assert said[0].endswith("1 multi-page (first page)")


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
    pixels = pixels_of(
        encode(frames[0], format="GIF", save_all=True, append_images=frames[1:]), "one.gif"
    )
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
    # 240 * (481 / 240) is more than 481.
    assert fit(Image.new("L", (481, 321)), 160, 240, "center").size == (240, 160)


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


def test_a_large_jpeg_ramp_stays_a_ramp(pixels_of, encode):
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
        (
            png_claiming(10_000, 10_000),
            "more than 67108864 pixels",
        ),  # Pillow itself would only warn
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
