"""Folders and zips of images: labels, splits, shapes, hostile archives."""

import hashlib
import importlib.util
import os
import struct
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from genjax import data
from genjax.data import items
from genjax.errors import ConfigError
from genjax.files import decode, formats
from genjax.runtime import shell

HALF = (255, 0, 0, 128)  # red, half transparent


@pytest.fixture
def archive(tmp_path):
    """A zip with the given members, by name."""

    def write(files: dict[str, bytes], compression=zipfile.ZIP_DEFLATED):
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w", compression) as target:
            for name, content in files.items():
                target.writestr(name, content)
        return path

    return write


@pytest.fixture(params=["folder", "zip"])
def images(request, folder, archive):
    return folder if request.param == "folder" else archive


def test_class_folders_become_labels_in_the_order_of_their_names(images, load, said, encode):
    source = load(
        images(
            {
                "dog/1.png": encode((3, 3, 3)),
                "cat/deeper/2.png": encode((1, 1, 1)),
                "cat/9.PNG": encode((2, 2, 2)),
            }
        )
    )
    assert source.num_labels == 2
    assert source.size == 3
    assert source.shape == (8, 8, 3)
    np.testing.assert_array_equal(source.arrays["labels"], [0, 0, 1])
    np.testing.assert_array_equal(source.arrays["images"][:, 0, 0, 0], [2, 1, 3])
    assert source.arrays["labels"].dtype == np.int32
    assert source.name.endswith("3 images of 8x8x3, 2 labels")
    assert said == []
    assert source.read(2)["labels"] == 1
    assert source.read(2)["images"].shape == (8, 8, 3)


def test_flat_and_single_class_sets_have_no_labels(images, load, encode):
    for files in (
        {"1.png": encode()},
        {"only/1.png": encode(), "only/2.png": encode()},
        {"a/b/c/1.png": encode()},
    ):
        source = load(images(files))
        assert source.num_labels == 0
        assert source.read(0).keys() == source.arrays.keys() == {"images"}


def test_images_beside_class_folders_give_no_labels_and_a_line(images, load, said, encode):
    assert (
        load(images({"a/1.png": encode(), "b/1.png": encode(), "1.png": encode()})).num_labels == 0
    )
    assert len(said) == 1
    assert "no labels" in said[0]


def test_splits_are_picked_and_number_their_labels_alike(images, load, refused, encode):
    files = {
        "set/Train/a/1.png": encode((1, 1, 1)),
        "set/Train/b/1.png": encode((2, 2, 2)),
        "set/val/b/1.png": encode((3, 3, 3)),
    }
    root = images(files)
    train, validation = load(root), load(root, split="validation")
    np.testing.assert_array_equal(train.arrays["labels"], [0, 1])
    np.testing.assert_array_equal(validation.arrays["labels"], [1])
    assert validation.num_labels == 2
    assert validation.arrays["images"][0, 0, 0, 0] == 3
    assert "has no split 'test'; its splits are Train, val" in refused(root, split="test")


def test_a_set_without_splits_has_only_train(images, refused, encode):
    assert "has no split 'test'" in refused(images({"1.png": encode()}), split="test")


def test_hidden_and_other_files_are_left_out_and_counted(images, load, said, summaries, encode):
    files = {
        "1.png": encode(),
        ".2.png": b"x",
        "__MACOSX/._1.png": b"x",
        ".git/3.png": b"x",
        "LICENSE": b"x",
        "notes.txt": b"x",
    }
    thumbnails = {f"{folder}/9.png": encode() for folder in (".thumbnails", "a/@eaDir", "Thumbs")}
    assert load(images({**files, **thumbnails, "a/Thumbs.db": b"x", "4.TXT": b""})).size == 1
    assert said == []
    left_out = "5 in hidden or thumbnail folders, 2 .txt, 2 hidden, 1 without a suffix"
    assert summaries == [f"data: 11 files found, 1 used; left out: {left_out}"]


def test_pictures_are_recognised_by_content(images, load, summaries, encode):
    names = {
        "a.jfif": "JPEG",
        "b.JPE": "JPEG",
        "c.jpg_large": "JPEG",
        "d": "PNG",
        "e.dat": "TIFF",
        "f.jpg": "PNG",
        "g.img": "BMP",
    }
    files = {
        name: encode((10 * i,) * 3, format=format) for i, (name, format) in enumerate(names.items())
    }
    source = load(
        images(
            {**files, "h.bin": b"BM is how this text begins, which is no picture", "i.json": b"{}"}
        )
    )
    assert np.abs(source.arrays["images"][:, 0, 0, 0].astype(int) - np.arange(0, 70, 10)).max() <= 1
    assert summaries == ["data: 9 files found, 7 used; left out: 1 .bin, 1 .json"]


def test_formats_that_need_an_extra_are_counted_with_the_command(
    images, load, refused, summaries, encode, monkeypatch
):
    monkeypatch.setattr(formats, "readers", lambda: {"PNG"})
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    root = images({"0.png": encode(), **{f"{i}.HEIC": heic for i in range(3)}, "4": heic})
    assert load(root).size == 1
    install = '(needs pip install "genjax-image[heic]")'
    assert summaries == [
        f"data: 5 files found, 1 used; left out: 3 .heic {install}, 1 HEIF {install}"
    ]
    assert 'genjax-image[heic]"' in refused(images({"a.png": heic}))


@pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="the extra heic is not installed"
)
def test_heic_is_read(images, load, encode):
    formats.readers()
    levels = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    levels = levels[..., np.newaxis].repeat(3, axis=2)
    source = load(
        images(
            {
                "a.HEIC": encode(levels, format="HEIF", quality=95),
                "b": encode(levels, format="HEIF", quality=95),
            }
        )
    )
    assert np.abs(source.arrays["images"].astype(int) - levels).max() < 8


def test_many_kinds_of_files_are_summed_up(images, load, summaries, encode):
    load(
        images({"1.png": encode(), **{f"{i}.{'abcdefghijklmnop'[i] * 3}": b"x" for i in range(12)}})
    )
    assert summaries == [
        "data: 13 files found, 1 used; left out: "
        + ", ".join(f"1 .{letter * 3}" for letter in "abcdefgh")
        + ", 4 of other kinds"
    ]


def test_the_summary_of_a_streamed_set_is_the_same(images, load, summaries, encode):
    root = images(
        {"train/1.png": encode(), "train/2.png": encode(), "test/3.png": encode(), "notes.txt": b""}
    )
    for resident_mb in (0, 1):
        load(root, resident_mb=resident_mb)
    assert summaries == ["data: 4 files found, 2 used; left out: 1 .txt, 1 of other splits"] * 2


@pytest.mark.parametrize("files", [{}, {"notes.txt": b"x"}])
def test_sets_without_images_are_refused(images, refused, files):
    held = " (1 .txt)" if files else ""
    assert f"holds no images{held}; give pictures: PNG, JPEG" in refused(images(files))


def test_the_most_common_size_wins_and_one_line_sums_up(images, load, said, encode):
    files = {f"{i}.png": encode(size=(8, 6)) for i in range(3)}
    source = load(
        images(
            {**files, "4.png": encode(size=(9, 9)), "5.png": encode(HALF, size=(8, 6), mode="RGBA")}
        )
    )
    assert source.shape == (6, 8, 3)
    assert said == [
        "data: images of 2 sizes, all become the most common, 6x8 (4 of 5 looked at); "
        "`resolution` sets another",
        "data: 2 of 5 images converted: 1 resized to 6x8, 1 RGBA over white",
    ]


def test_whole_images_are_of_one_size(images, load, refused, said, encode, monkeypatch):
    files = {f"{i}.png": encode(size=(8, 6)) for i in range(9)}
    assert load(images(files), crop="whole").shape == (6, 8, 3)
    files["4.png"] = encode(size=(9, 9))
    assert "images of 2 sizes (8 of 9 looked at are 6x8); whole images are compared" in refused(
        images(files), crop="whole"
    )
    monkeypatch.setattr(items, "PROBED", 1)
    assert load(images(files), crop="whole", max_bad=0.2).size == 8
    assert "left out: 4.png (9x9, not 6x8)" in said[-1]


def test_a_folder_with_other_images_of_the_same_sizes_is_another(folder, load):
    def bitmap(value):
        return (
            b"BM"
            + struct.pack("<IIIIiiHHIIiiII", 54 + 192, 0, 54, 40, 8, 8, 1, 24, 0, 0, 0, 0, 0, 0)
            + bytes([value]) * 192
        )

    prints = [
        load(folder({f"{i}.bmp": bitmap(value) for i in range(4)})).fingerprint
        for value in (1, 2, 1)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_grey_sets_stay_grey_and_mixed_ones_become_rgb(images, load, encode):
    grey = {"1.png": encode(5, mode="L"), "2.png": encode((5, 255), mode="LA")}
    assert load(images(grey)).shape == (8, 8, 1)
    assert load(images({**grey, "3.png": encode()})).shape == (8, 8, 3)


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_the_fingerprint_depends_on_every_file(folder, load, monkeypatch, resident_mb):
    monkeypatch.setattr(items, "PROBED", 4)
    monkeypatch.setattr("genjax.data.files.PROBED", 4)

    def bitmap(value):
        return (
            b"BM"
            + struct.pack("<IIIIiiHHIIiiII", 54 + 192, 0, 54, 40, 8, 8, 1, 24, 0, 0, 0, 0, 0, 0)
            + bytes([value]) * 192
        )

    values = {f"{i:02d}.bmp": bitmap(i) for i in range(12)}
    first = load(folder(values), resident_mb=resident_mb)
    again = load(folder(values), resident_mb=1 - resident_mb)
    assert first.fingerprint == again.fingerprint
    for name in ("00.bmp", "01.bmp", "05.bmp", "11.bmp"):  # same names, same sizes
        other = load(folder({**values, name: bitmap(77)}), resident_mb=resident_mb)
        assert other.fingerprint != first.fingerprint
        ignored = name in ("01.bmp", "05.bmp")  # by the digest of version 0.1.0
        assert (other.earlier == first.earlier) == ignored


def test_small_sets_and_zips_keep_the_fingerprints_of_version_0_1_0(folder, archive, load, encode):
    files = {
        "a/1.bmp": encode(size=(2, 2), format="BMP"),
        "b/2.bmp": encode((0, 9, 0), size=(2, 2), format="BMP"),
    }
    lines = "".join(
        f"{name}\n{len(content)} {zlib.crc32(content)}\n" for name, content in files.items()
    )
    digest = hashlib.sha256(lines.encode()).hexdigest()
    expected = hashlib.sha256(f"2 (2, 2, 3) center 2 {digest}".encode()).hexdigest()
    for root in (folder(files), archive(files)):
        assert load(root).fingerprint == expected
        assert load(root).earlier == ""


def test_only_some_images_are_looked_at(images, load, encode, monkeypatch):
    opened = []
    open_image = decode.open_image
    monkeypatch.setattr(
        "genjax.data.files.open_image", lambda data: opened.append(1) or open_image(data)
    )
    monkeypatch.setattr(items, "PROBED", 4)
    monkeypatch.setattr(items, "SAMPLED", 2)
    source = load(images({f"{i:02d}.png": encode() for i in range(40)}), resident_mb=0)
    assert source.size == 40
    assert len(opened) == 4 + 2


def test_bad_files_are_listed_and_left_out_up_to_a_share(images, load, refused, said, encode):
    files = {f"{i:02d}.png": encode((i, i, i)) for i in range(20)}
    root = images({**files, "03.png": b"text", "07.png": encode()[:45]})
    source = load(root, max_bad=0.1)
    assert source.size == 18
    assert len(said) == 1
    assert said[0].startswith(
        "data: 2 of 20 images cannot be read and are left out: 03.png (not an image), 07.png ("
    )
    np.testing.assert_array_equal(
        source.arrays["images"][:, 0, 0, 0], [i for i in range(20) if i not in (3, 7)]
    )
    message = refused(root)
    assert "2 of 20 images cannot be read: 03.png (not an image), 07.png (" in message
    assert "`max_bad` 0.01" in message


def test_labels_stay_with_their_images_when_some_are_left_out(images, load, encode):
    root = images({"a/1.png": b"text", "a/2.png": encode((2, 2, 2)), "b/3.png": encode((3, 3, 3))})
    source = load(root, max_bad=0.5)
    np.testing.assert_array_equal(source.arrays["labels"], [0, 1])
    np.testing.assert_array_equal(source.arrays["images"][:, 0, 0, 0], [2, 3])


def test_resident_sets_cost_their_bytes_once(images, load, encode):
    random = np.random.default_rng(0)
    root = images(
        {f"{i:03d}.png": encode(random.integers(0, 256, (64, 64, 3), np.uint8)) for i in range(200)}
    )
    load(root, resolution=8)  # imports
    tracemalloc.start()
    source = load(root)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = source.arrays["images"].nbytes
    assert size == 200 * 64 * 64 * 3
    assert kept < 1.2 * size
    assert peak < 1.5 * size


def test_the_fingerprint_tells_content_and_not_place(folder, load, encode):
    files = {"a/1.png": encode(), "b/2.png": encode()}
    first = load(folder(files, "one"))
    assert load(folder(files, "other")).fingerprint == first.fingerprint
    assert load(folder({**files, "b/3.png": encode()}, "more")).fingerprint != first.fingerprint
    assert (
        load(folder({"a/1.png": encode(), "c/2.png": encode()}, "renamed")).fingerprint
        != first.fingerprint
    )
    assert load(folder(files, "one"), resolution=4).fingerprint != first.fingerprint


def test_long_loads_say_how_far_they_are(images, load, said, encode, monkeypatch):
    monkeypatch.setattr(items, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("genjax.data.files.PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(items, "BLOCK", 2)
    load(images({f"{i}.png": encode() for i in range(5)}))
    assert [line for line in said if "read" in line] == [
        f"data: read {count} of 5 images" for count in (2, 4, 5)
    ]
    assert [line for line in said if "looked" in line] == [
        f"data: looked at {count} of 5 images" for count in range(1, 6)
    ]
    assert "data: 4 pictures listed" in said


def test_a_load_that_stalls_says_how_far_it_is(folder, load, said, encode, monkeypatch):
    convert = decode.convert
    monkeypatch.setattr(items, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(
        items, "convert", lambda *arguments: time.sleep(0.15) or convert(*arguments)
    )
    load(folder({f"{i}.png": encode() for i in range(4)}))  # one block
    assert any(line in said for line in ("data: read 1 of 4 images", "data: read 2 of 4 images"))


def test_threads_share_what_memory_they_may_take():
    budget, most, lock = items.Budget(10), 0, threading.Lock()
    held = 0

    def work(amount: int) -> None:
        nonlocal held, most
        with budget.hold(amount):
            with lock:
                held += amount
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [4, 1, 7, 10, 3, 2, 9, 5] * 5))
    assert most <= 10
    with budget.hold(10**9):  # more than there is: alone
        assert budget.free == 0
    assert budget.free == 10


# Folders


def test_symbolic_links_are_followed_and_loops_end(folder, load, encode):
    root = folder({"a/1.png": encode(), "b/2.png": encode()})
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    (root / "b" / "self.png").symlink_to("self.png")
    (root / "b" / "nowhere.png").symlink_to("/nowhere.png")
    (root / "c").symlink_to(folder({"3.png": encode()}, "elsewhere"), target_is_directory=True)
    source = load(root)
    assert source.size == 3
    assert source.num_labels == 3


def test_pipes_and_devices_are_not_opened(folder, load, summaries, encode):
    root = folder({"1.png": encode()})
    for name in ("2.png", "3", "dataset.json"):
        os.mkfifo(root / name)
    (root / "4.png").symlink_to("/dev/zero")
    (root / "5.png").symlink_to("/nowhere.png")
    assert load(root).size == 1
    assert summaries == ["data: 6 files found, 1 used; left out: 4 pipes or devices, 1 unreachable"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_not_text_are_shown_printably(folder, load, refused, said, encode):
    root = folder({"1.png": encode()})
    with open(os.fsencode(root) + b"/\xff\n\x1b[31m.png", "wb") as file:
        file.write(b"text")
    assert load(root, max_bad=0.5).size == 1
    assert said[0].isprintable()
    assert r"\udcff\n\x1b[31m.png (not an image)" in said[0]
    assert r"\udcff" in refused(root)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_files_and_folders_without_permission(folder, refused, encode):
    root = folder({"1.png": encode(), "below/2.png": encode()})
    (root / "1.png").chmod(0)
    assert "1.png (Permission denied)" in refused(root)
    (root / "below").chmod(0)
    try:
        assert "cannot list" in refused(root)
    finally:
        (root / "below").chmod(0o700)


def test_files_that_the_system_refuses_to_read(folder, refused, encode, monkeypatch):
    root = folder({"1.png": encode()})

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("genjax.data.files.open_regular", denied)
    assert "1.png (Permission denied)" in refused(root)
    monkeypatch.setattr("genjax.data.files.os.scandir", denied)
    assert f"cannot list {root} (Permission denied)" in refused(root)


# Zips


def test_names_that_point_outside_do_nothing_outside(archive, load, tmp_path, encode):
    before = sorted(tmp_path.parent.rglob("*"))
    path = archive({"../../a/1.png": encode(), "/etc/b/2.png": encode(), "c:\\..\\3.png": encode()})
    assert load(path).size == 3
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04" + b"\0" * 50])
def test_what_is_no_zip_is_refused(tmp_path, refused, content):
    (tmp_path / "set.zip").write_bytes(content)
    assert "not a readable zip" in refused(tmp_path / "set.zip")


def test_truncated_zips_are_refused(archive, refused, encode):
    path = archive({f"{i}.png": encode() for i in range(10)})
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a readable zip" in refused(path)


def test_damaged_members_are_bad_images(archive, load, said, encode):
    path = archive({"1.png": encode(), "2.png": encode((0, 255, 0))}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(content)
    assert load(path, max_bad=0.5).size == 1
    assert "1.png (Bad CRC-32" in said[0]


def test_encrypted_members_are_bad_images(archive, refused, encode):
    path = archive({"1.png": encode()})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the local header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "1.png (encrypted)" in refused(path)


def test_compressions_that_cannot_be_bounded_are_bad_images(archive, refused, encode):
    assert "1.png (zip compression method 12" in refused(
        archive({"1.png": encode()}, zipfile.ZIP_BZIP2)
    )


def test_zip_bombs_are_read_no_further_than_the_limit(archive, refused, monkeypatch):
    monkeypatch.setattr("genjax.data.files.MAX_FILE_BYTES", 2**20)
    path = archive({"1.png": bytes(2**24)})
    tracemalloc.start()
    assert "1.png (larger than 1048576 bytes)" in refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def test_members_that_are_no_pictures_are_not_inflated(archive, refused, encode, monkeypatch):
    monkeypatch.setattr("genjax.data.items.MAX_FILE_BYTES", 2**28)
    path = archive(
        {f"{i}.png": bytes(2**23) for i in range(4)}
        | {f"{i}.jpg": encode() + bytes(2**23) for i in range(4, 8)}
    )
    tracemalloc.start()
    message = refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "8 of 8 images cannot be read: 0.png (not an image)" in message
    assert peak < 2**22
    assert "in the zip: hardly a PNG" in refused(archive({"1.jpg": encode() + bytes(2**23)}))


def test_a_checksum_of_the_directory_that_is_false_is_a_bad_image(archive, load, refused, encode):
    path = archive({"1.png": encode(), "2.png": encode((0, 9, 0))})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 16] ^= 1
    path.write_bytes(content)
    assert "1.png (Bad CRC-32" in refused(path)
    assert "1.png (Bad CRC-32" in refused(path, resident_mb=0)


@pytest.mark.parametrize("wide", [False, True])
def test_zips_of_too_many_members_are_refused_unparsed(tmp_path, refused, monkeypatch, wide):
    monkeypatch.setattr("genjax.files.bounded.MAX_MEMBERS", 100)
    if wide:  # zipfile writes zip64's records as it does for more than 65,535 members
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 100)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as target:
        for index in range(101):
            target.writestr(f"{index}.txt", b"")
    assert (b"PK\x06\x06" in (tmp_path / "set.zip").read_bytes()) == wide
    assert "has 101 members, more than 100" in refused(tmp_path / "set.zip")


def test_a_false_size_in_the_directory_does_not_allocate(archive, refused, encode):
    path = archive({"1.png": encode()})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    assert "1.png (larger than" in refused(path)


def test_a_member_that_is_longer_than_its_size_says_is_not_read_on(archive, refused):
    path = archive({"1.png": bytes(2**24)})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 100)
    path.write_bytes(content)
    tracemalloc.start()
    assert "1.png (Bad CRC-32" in refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def test_streamed_zips_can_be_read_from_many_threads(archive, load, encode):
    path = archive({f"{i:03d}.png": encode(np.full((8, 8, 3), i, np.uint8)) for i in range(200)})
    source = load(path, resident_mb=0)
    with ThreadPoolExecutor(8) as pool:
        values = list(
            pool.map(lambda index: source.read(index)["images"][0, 0, 0], list(range(200)) * 3)
        )
    assert values == list(range(200)) * 3


# What is no set at all


def test_paths_that_are_no_set_are_refused(tmp_path, refused, encode):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "one.png").write_bytes(encode())
    assert "does not exist; use 'digits', a folder" in refused(tmp_path / "missing")
    assert "not a kind of file" in refused(tmp_path / "notes.txt")
    assert "not a kind of file" in refused(tmp_path / "one.png")
    assert "is not a regular file" in refused("/dev/zero")
    for name in ("pipe", "pipe.zip", "pipe.npz"):
        os.mkfifo(tmp_path / name)
        assert "is not a regular file" in refused(tmp_path / name)
    assert "does not exist" in refused("")
    assert "does not exist" in refused("bad\nname\x1b")
    assert "cannot be read" in refused("null\0byte")
    assert "cannot be read" in refused("x" * 5000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "resolution (0, 0): "),
        ({"resolution": (8,)}, "resolution (8,): "),
        ({"resolution": (8, 10**6)}, "resolution (8, 1000000): "),
        ({"channels": 2}, "channels 2: "),
        ({"crop": "left"}, "crop left: "),
        ({"random_crop": (4, 0)}, "random_crop (4, 0): "),
        ({"max_bad": 2.0}, "max_bad 2.0: "),
    ],
)
def test_arguments_out_of_range_are_refused(load, options, message):
    with pytest.raises(ConfigError) as caught:
        load("digits", **options)
    assert str(caught.value).startswith(message)


def test_another_field_can_be_named(load):
    with pytest.raises(ConfigError, match=r"^data_a 'missing': does not exist") as caught:
        load("missing", field="data_a")
    assert caught.value.as_option(shell.option).startswith("--data-a 'missing': does not exist")


def test_messages_go_to_stderr_by_default(folder, capsys, encode):
    data.load(str(folder({"1.png": encode(5, mode="L")})), channels=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err == "data: 1 of 1 images converted: 1 grey to RGB\ndata: 1 file found, 1 used\n"
    )


def test_messages_advise_only_what_the_caller_can_set(folder, load, refused, said, encode):
    root = folder({"1.png": b"text", "2.png": encode()})
    assert refused(root).endswith("; mend or remove them, or raise `max_bad` 0.01")
    with pytest.raises(ConfigError, match=r"^real '.*; mend or remove them$"):
        load(root, field="real", adjustable=())
    with pytest.raises(ConfigError, match=r"`max_bad` 0.01$"):
        load(root, field="real", adjustable=("max_bad",))
    load(folder({"1.png": encode(), "2.png": encode(size=(9, 9))}), adjustable=())
    assert "resolution" not in said[0]
