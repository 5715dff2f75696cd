"""Sets that are arrays: the embedded digits, .npz and idx, whole, odd and hostile."""

import gzip
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from genjax.data import arrays

IMAGES = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([0, 1, 2, 1, 0])


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        return tmp_path / "set.npz"

    return write


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def test_digits(load, said):
    source = load("digits")
    assert source.name == "digits: 1797 images of 8x8x1, 10 labels"
    images, labels = source.arrays["images"], source.arrays["labels"]
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 255
    assert labels.dtype == np.int32
    assert labels[:4].tolist() == [0, 1, 2, 3]
    assert said == []
    assert load("digits").fingerprint == source.fingerprint


@pytest.mark.parametrize("there", [True, False])
def test_digits_are_those_of_scikit_learn_wherever_its_file_lies(monkeypatch, there):
    from sklearn.datasets import load_digits

    expected = load_digits()
    if not there:
        monkeypatch.setattr(arrays.importlib.util, "find_spec", lambda name: None)
    table = arrays.digits_table()
    np.testing.assert_array_equal(table[:, :-1], expected.data)
    np.testing.assert_array_equal(table[:, -1], expected.target)


def test_arrays_are_resized_and_coloured_as_asked(load, said):
    source = load("digits", resolution=16, channels=3)
    assert source.arrays["images"].shape == (1797, 16, 16, 3)
    assert said == ["data: 1797 of 1797 images converted: 1797 grey to RGB, 1797 resized to 16x16"]


# .npz


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train"), ("data", "y")])
def test_npz_by_name(npz, load, names):
    source = load(npz(**{names[0]: IMAGES, names[1]: LABELS[:, np.newaxis]}))
    np.testing.assert_array_equal(source.arrays["images"], IMAGES[..., np.newaxis])
    np.testing.assert_array_equal(source.arrays["labels"], LABELS)
    assert source.num_labels == 3
    assert source.arrays["labels"].dtype == np.int32


def test_npz_test_split(npz, load, refused):
    path = npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    source = load(path, split="test")
    assert source.size == 2
    assert source.arrays["labels"].tolist() == [0, 1]
    assert "has no split 'validation'" in refused(path, split="validation")
    assert "has no split 'test' (it holds images); name the array x_test" in refused(
        npz(images=IMAGES), split="test"
    )


def test_npz_by_being_the_only_images(npz, load, refused):
    assert load(npz(pictures=IMAGES, means=np.zeros((2, 3, 4)), count=np.uint8(3))).size == 5
    assert "which are the images?" in refused(npz(one=IMAGES, other=IMAGES))
    assert "which are the images?" in refused(npz(count=np.uint8(3)))


def test_npz_in_fortran_order(npz, load):
    images = np.asfortranarray(np.arange(48, dtype=np.uint8).reshape(2, 4, 2, 3))
    np.testing.assert_array_equal(load(npz(images=images)).arrays["images"], images)


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "span"),
    [
        ([0, 0.5, 1], "float32", [0, 128, 255], "[0, 1]"),
        ([-1, 0, 1], "float64", [0, 128, 255], "[-1, 1]"),
        ([0, 3.4, 200], "float16", [0, 3, 200], "[0, 255]"),
        ([0, 1, 255], "int64", [0, 1, 255], "[0, 255]"),
        ([0, 1, 1], "bool", [0, 255, 255], "[0, 1]"),
        ([0, 32768, 65535], "uint16", [0, 128, 255], "[0, 65535]"),
    ],
)
def test_other_numbers_are_converted_with_a_line(npz, load, said, values, dtype, expected, span):
    source = load(npz(images=np.array(values, dtype).reshape(1, 1, 3)))
    np.testing.assert_allclose(source.arrays["images"].reshape(-1).astype(int), expected, atol=0)
    assert said == [f"data: 'images' converted from {dtype} in {span} to uint8"]


def test_twelve_bits_in_sixteen_are_refused(npz, refused):
    assert "'images' is uint16 in [0, 4095]; scale it" in refused(
        npz(images=np.array([0, 4095], np.uint16).reshape(1, 1, 2))
    )


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_masks_of_0_and_1_are_reported(npz, load, said, dtype):
    load(npz(images=np.array([0, 1, 1], dtype).reshape(1, 1, 3)))
    assert "values are 0 and 1 only" in said[-1]


@pytest.mark.parametrize("values", [[-2.0, 1.0], [0.0, 300.0], [0.0, np.nan], [0.0, np.inf]])
def test_numbers_of_unknown_range_are_refused(npz, refused, values):
    assert "scale it to [0, 1]" in refused(npz(images=np.array(values).reshape(1, 1, 2)))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 2, 2, 2), np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 0, 2), np.uint8),
        np.array("text"),
        np.uint8(1),
    ]
    + [np.zeros(shape) for shape in ((), (3,), (2, 2), (3, 2, 2, 2), (2, 0, 2), (1, 1, 1, 1, 1))],
)
def test_shapes_that_are_no_images_are_refused(npz, refused, images):
    refused(npz(images=images))


def test_no_images_at_all(npz, refused):
    assert "holds no images" in refused(npz(images=np.zeros((0, 2, 2), np.uint8)))


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:4],
        LABELS - 1,
        LABELS * 10**6,
        LABELS * 0.5,
        np.eye(5, dtype=int),
        np.int64(1),
        np.float32(0.5),
    ],
)
def test_labels_that_do_not_fit_are_refused(npz, refused, labels):
    assert "labels" in refused(npz(images=IMAGES, labels=labels))


def test_pickled_objects_are_never_loaded(npz, refused):
    assert "pickled Python objects" in refused(npz(images=np.array([{}, []], dtype=object)))
    assert "pickled Python objects" in refused(
        npz(images=IMAGES, labels=np.array([{}] * 5, dtype=object))
    )


@pytest.mark.parametrize("content", [b"{}", b"", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_npz_is_refused(tmp_path, refused, content):
    (tmp_path / "set.npz").write_bytes(content)
    refused(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }",
            b"x",
            "claims 1000000000000 bytes",
        ),
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2), }",
            b"x" * 11,
            "ends after 11 of the 12 bytes",
        ),
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2), }",
            b"x" * 13,
            "goes on after the 12 bytes",
        ),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 2, 2), }", b"x" * 12, ""),
        ("__import__('os').abort()", b"", "cannot be read"),
    ],
)
def test_headers_that_lie_are_refused_without_allocating(tmp_path, refused, header, data, why):
    array = (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + data
    )
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images.npy", array)
    refused(tmp_path / "set.npz")  # imports
    tracemalloc.start()
    assert why in refused(tmp_path / "set.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_resident_arrays_cost_their_bytes_once(npz, load):
    path = npz(images=np.random.default_rng(0).integers(0, 256, (1000, 64, 64, 3), np.uint8))
    tracemalloc.start()
    source = load(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = source.arrays["images"].nbytes
    assert kept < 1.3 * size
    assert peak < 1.6 * size


# idx


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder(folder, load, refused, suffix):
    pack = gzip.compress if suffix else bytes
    root = folder(
        {
            f"train-images-idx3-ubyte{suffix}": pack(idx(IMAGES)),
            f"train-labels-idx1-ubyte{suffix}": pack(idx(LABELS)),
            f"t10k-images-idx3-ubyte{suffix}": pack(idx(IMAGES[:2])),
        }
    )
    source = load(root)
    assert source.name == "idx folder set, train: 5 images of 2x3x1, 3 labels"
    np.testing.assert_array_equal(source.arrays["images"], IMAGES[..., np.newaxis])
    np.testing.assert_array_equal(source.arrays["labels"], LABELS)
    test = load(root, split="test")
    assert test.size == 2
    assert test.num_labels == 0
    assert "labels" not in test.arrays
    assert "idx files have no split 'validation'" in refused(root, split="validation")


def test_idx_without_the_images_of_the_split(folder, refused):
    root = folder({"train-labels-idx1-ubyte": idx(LABELS)})
    assert "expected train-images-idx3-ubyte[.gz]" in refused(root)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "magic number"),
        (b"\0\0\x08", "magic number"),
        (idx(LABELS), "magic number"),
        (idx(IMAGES, kind=13), "magic number"),
        (idx(IMAGES)[:-1], "ends after 29 of the 30 bytes"),
        (idx(IMAGES) + b"\0", "goes on after the 30 bytes"),
        (struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "claims"),
    ],
)
def test_idx_files_that_lie_are_refused(folder, refused, content, why):
    assert why in refused(folder({"train-images-idx3-ubyte": content}))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(np.random.default_rng(0).bytes(5000))[:2000], "magic number"),
        (
            gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (50, 9, 9))))[:2000],
            "ended before",
        ),
        (gzip.compress(idx(IMAGES)[:-1]), "ends after 29 of the 30 bytes"),
        (gzip.compress(idx(IMAGES))[:-9] + b"123456789", ""),
        (b"no gzip", "Not a gzipped file"),
        (b"", "magic number"),
        (
            gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 60000, 1000, 1000)),
            "claims 60000000000 bytes",
        ),
    ],
    ids=["noise", "cut", "short", "crc", "plain", "empty", "claim"],
)
def test_gzipped_idx_files_that_lie_are_refused(folder, refused, content, why):
    root = folder({"train-images-idx3-ubyte.gz": content})
    refused(root)
    tracemalloc.start()
    assert why in refused(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_idx_with_another_number_of_labels(folder, refused):
    root = folder(
        {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS[:4])}
    )
    assert "5 images but labels of uint8 (4,)" in refused(root)


def test_arrays_have_fingerprints_of_their_bytes(npz, load):
    first = load(npz(images=IMAGES, labels=LABELS)).fingerprint
    assert load(npz(x_train=IMAGES, y_train=LABELS)).fingerprint == first
    assert load(npz(images=IMAGES, labels=2 - LABELS)).fingerprint != first
    assert load(npz(images=IMAGES[::-1], labels=LABELS)).fingerprint != first


# Arrays that are larger than what is read into memory


@pytest.fixture
def small_memory(monkeypatch):
    """Arrays of more than 20 bytes do not fit."""
    monkeypatch.setattr("genjax.data.arrays.MAX_FILE_BYTES", 20)


def as_npz(folder, images, labels, **options):
    path = folder({}) / "set.npz"
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, array in (("images", images), ("labels", labels)):
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, array)
    return path


def as_idx(folder, images, labels, pack=bytes):
    suffix = "" if pack is bytes else ".gz"
    files = {"train-images-idx3-ubyte": idx(images), "train-labels-idx1-ubyte": idx(labels)}
    return folder({name + suffix: pack(content) for name, content in files.items()})


@pytest.mark.parametrize("write", [as_npz, as_idx])
def test_large_plain_arrays_stay_in_their_file(folder, load, write, small_memory):
    path = write(folder, IMAGES, LABELS.astype(np.uint8))
    resident, streamed = load(path, resident_mb=1), load(path, resident_mb=0)
    assert (resident.arrays is None, streamed.arrays is None) == (False, True)
    assert streamed.fingerprint == resident.fingerprint
    for index in range(5):
        np.testing.assert_array_equal(
            streamed.read(index)["images"], IMAGES[index][..., np.newaxis]
        )
        assert streamed.read(index)["labels"] == LABELS[index]
    assert load(path, resident_mb=0, resolution=4, channels=3).read(2)["images"].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("write", "instead"),
    [
        (
            lambda folder: as_npz(folder, IMAGES, LABELS, compression=zipfile.ZIP_DEFLATED),
            "save it as uint8 with numpy.savez",
        ),
        (lambda folder: as_npz(folder, IMAGES / 255, LABELS), "save it as uint8 with numpy.savez"),
        (
            lambda folder: as_npz(folder, np.asfortranarray(IMAGES), LABELS),
            "save it as uint8 with numpy.savez",
        ),
        (lambda folder: as_idx(folder, IMAGES, LABELS, gzip.compress), "unpack it with gunzip"),
    ],
)
def test_large_arrays_that_cannot_be_read_in_parts_are_refused(
    folder, refused, load, write, instead, small_memory
):
    path = write(folder)
    message = refused(path, resident_mb=0)
    assert "; raise `resident_mb`, or " in message
    assert instead in message
    assert "resident_mb" not in refused(path, resident_mb=0, adjustable=())
    assert load(path, resident_mb=1).size == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [(lambda c: c[:-1], "ends after 29 of the 30"), (lambda c: c + b"x", "goes on after the 30")],
)
def test_large_plain_files_have_the_length_of_their_header(
    folder, refused, small_memory, change, why
):
    assert why in refused(folder({"train-images-idx3-ubyte": change(idx(IMAGES))}), resident_mb=0)


def test_a_file_that_shrinks_while_it_is_used_gives_bad_images(folder, load, small_memory):
    root = as_idx(folder, IMAGES, LABELS)
    source = load(root, resident_mb=0, max_bad=0.5)
    (root / "train-images-idx3-ubyte").write_bytes(idx(IMAGES)[:-1])
    np.testing.assert_array_equal(source.read(4)["images"], source.read(0)["images"])


def test_pipes_are_not_opened(folder, refused, tmp_path):
    root = folder({})
    os.mkfifo(root / "train-images-idx3-ubyte")
    assert "train-images-idx3-ubyte is not a regular file" in refused(root)
    (root / "train-images-idx3-ubyte").unlink()
    (root / "train-images-idx3-ubyte.gz").symlink_to("/dev/zero")
    assert "train-images-idx3-ubyte.gz is not a regular file" in refused(root)


def test_a_gzip_bomb_is_refused_by_its_header(folder, refused):
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**11, 2**10, 2**10)
    root = folder(
        {"train-images-idx3-ubyte.gz": gzip.compress(header + bytes(2**22)) + bytes(2**21)}
    )
    tracemalloc.start()
    assert "takes 2048 MB, more than the 1024 MB that are read into memory" in refused(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_member_whose_name_is_damaged_in_the_directory_alone_is_no_set_without_labels(
    npz, refused
):
    path = npz(images=IMAGES, labels=LABELS)
    content = path.read_bytes()
    at = content.rindex(b"labels.npy")
    path.write_bytes(content[:at] + b"m" + content[at + 1 :])
    assert "differ" in refused(path)
