"""Labels: class folders, NVIDIA's dataset.json, the sides of unpaired sets."""

import hashlib
import json
import os
import zipfile
import zlib

import numpy as np
import pytest

from genjax import data


@pytest.fixture
def archive(tmp_path):
    def write(files: dict[str, bytes]):
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as target:
            for name, content in files.items():
                target.writestr(name, content)
        return tmp_path / "set.zip"

    return write


@pytest.fixture(params=["folder", "zip"])
def images(request, folder, archive):
    return folder if request.param == "folder" else archive


def numbered(encode, names):
    """Pictures whose level is their number."""
    return {name: encode((i, i, i)) for i, name in enumerate(names)}


def test_folders_named_by_numbers_are_sorted_as_numbers(images, load, encode):
    source = load(images(numbered(encode, [f"{i}/x.png" for i in range(12)])))
    assert source.classes == tuple(map(str, range(12)))
    np.testing.assert_array_equal(source.arrays["labels"], source.arrays["images"][:, 0, 0, 0])


def test_other_folders_are_sorted_as_text_and_named(images, load, encode):
    source = load(images(numbered(encode, ["10 b/1.png", "9 a/1.png", "cat\x1b/1.png"])))
    assert source.classes == ("10 b", "9 a", r"cat\x1b")
    assert source.num_labels == 3


def test_another_order_of_classes_is_another_set(folder, load, encode):
    # Version 0.1.0 numbered folders 1..11 in the order 1, 10, 11, 2, ...: its runs must
    # not resume with other labels.
    def early(files, num_labels):
        lines = "".join(
            f"{name}\n{len(files[name])} {zlib.crc32(files[name])}\n" for name in sorted(files)
        )
        digest = hashlib.sha256(lines.encode()).hexdigest()
        return hashlib.sha256(
            f"{len(files)} (8, 8, 3) center {num_labels} {digest}".encode()
        ).hexdigest()

    for first, same in ((1, False), (10, True)):  # 10..19 are in the same order either way
        files = numbered(encode, [f"{i}/x.png" for i in range(first, first + 10)])
        source = load(folder(files, f"from {first}"))
        assert (early(files, 10) in (source.fingerprint, source.earlier)) == same


NAMES = [f"{i // 10:05d}/img{i:08d}.png" for i in range(30)]


def with_json(encode, content, names=NAMES):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {**numbered(encode, names), "dataset.json": text}


@pytest.mark.parametrize("wrapped", ["", "wrap/"])
def test_labels_of_dataset_json(images, load, said, summaries, encode, wrapped):
    labels = [[name, i % 5] for i, name in enumerate(NAMES)]
    files = {
        wrapped + name: content
        for name, content in with_json(encode, {"labels": labels[::-1]}).items()
    }
    source = load(images(files))
    assert source.num_labels == 5
    np.testing.assert_array_equal(source.arrays["labels"], np.arange(30) % 5)
    np.testing.assert_array_equal(source.arrays["images"][:, 0, 0, 0], np.arange(30))
    assert said == []
    assert summaries == ["data: 30 files found, 30 used"]


def test_null_in_dataset_json_means_no_labels_and_no_classes(images, load, said, encode):
    source = load(images(with_json(encode, {"labels": None})))
    assert (source.num_labels, source.classes) == (0, ())
    assert "labels" not in source.arrays
    assert said == []


def test_labels_are_part_of_the_fingerprint(folder, load, encode):
    prints = {
        load(
            folder(
                with_json(
                    encode,
                    {
                        "labels": [
                            [name, i % 5 if shift is None else (i + shift) % 5]
                            for i, name in enumerate(NAMES)
                        ]
                    },
                )
            )
        ).fingerprint
        for shift in (None, 1, 2)
    }
    assert len(prints) == 3


def test_a_dataset_json_of_another_tool_is_said_and_not_used(images, load, said, encode):
    assert load(images(with_json(encode, {"version": 1}))).num_labels == 3
    assert said == ['data: dataset.json holds no "labels" and is not used']


def test_labels_of_files_that_are_not_there_are_said(images, load, said, encode):
    labels = [[name, i % 2] for i, name in enumerate([*NAMES, "00009/none.png"])]
    assert load(images(with_json(encode, {"labels": labels}))).num_labels == 2
    assert said == ["data: dataset.json has labels for 1 files that are not among these images"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "cannot be read"),
        (b"\xff\xfe{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"labels": [' + b"9" * 5000 + b"]}", "cannot be read"),
        (b'{"labels": 5}', "are not a list"),
        (b'{"labels": {"a": 1}}', "are not a list"),
        (b'{"labels": [["a"]]}', "no pair of a name and a label"),
        (b'{"labels": [[["a"], 1]]}', "no pair of a name and a label"),
        (b'{"labels": [["a", [0.5, 1.0]]]}', "has vectors as labels"),
        (b'{"labels": [["a", -1]]}', "labels a as -1"),
        (b'{"labels": [["a", 65536]]}', "labels a as 65536"),
        (b'{"labels": [["a", 1.5]]}', "labels a as 1.5"),
        (b'{"labels": [["a", true]]}', "labels a as True"),
        (b'{"labels": [["a\\u001b\\n", "x"]]}', r"labels a\x1b\n as x"),
        (b'{"labels": []}', "has no label for 30 of 30 images (00000/img00000000.png ...)"),
    ],
)
def test_a_dataset_json_that_lies_is_refused(images, refused, encode, content, why):
    message = refused(images(with_json(encode, content)))
    assert why in message
    assert "dataset.json" in message


def test_a_dataset_json_is_bounded(images, refused, encode, monkeypatch):
    monkeypatch.setattr("genjax.data.labels.JSON_BYTES", 1000)
    assert "larger than 12720 bytes" in refused(
        images(with_json(encode, b'{"labels": [' + b"[]," * 5000 + b"[]]}"))
    )


@pytest.mark.parametrize("wrapped", ["", "horse2zebra/"])
def test_sides_are_splits_and_both_are_two_classes_with_a_line(
    images, load, refused, said, encode, wrapped
):
    names = [
        f"{wrapped}{name}"
        for name in ("testA/1.png", "testB/1.png", "trainA/1.png", "trainA/2.png", "trainB/1.png")
    ]
    root = images({name: encode((10 * i, 0, 0)) for i, name in enumerate(names)})
    assert data.has_sides(str(root))
    both = load(root)
    assert (both.size, both.num_labels, both.classes) == (3, 2, ("trainA", "trainB"))
    np.testing.assert_array_equal(both.arrays["images"][:, 0, 0, 0], [20, 30, 40])
    assert len(said) == 1
    assert "trainA and trainB, the sides of an unpaired set, become two classes" in said[0]
    said.clear()
    for split, levels in {"trainA": [20, 30], "trainB": [40], "testA": [0], "testB": [10]}.items():
        side = load(root, split=split)
        assert side.num_labels == 0
        np.testing.assert_array_equal(side.arrays["images"][:, 0, 0, 0], levels)
    assert said == []
    assert "its splits are testA, testB, trainA, trainB" in refused(root, split="val")


def test_other_sets_have_no_sides(images, tmp_path, encode):
    assert not data.has_sides(
        str(images(numbered(encode, ["train/1.png", "test/1.png", "trainA.png"])))
    )
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/loop").symlink_to(tmp_path / "loop", target_is_directory=True)
    for spec in ("digits", "tfds:mnist", "/nowhere", tmp_path / "pipe.zip", tmp_path / "loop", ""):
        assert not data.has_sides(str(spec))
