"""tfds:NAME: prepared sets are read without TensorFlow, others refused at once."""

import json
import os
import time

import numpy as np
import pytest


@pytest.fixture
def prepared(tmp_path, monkeypatch, encode):
    """The set "mnist" with 20 records, written as array_record by hand."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    tfds.builder("mnist", data_dir=str(tmp_path)).info.features.save_config(str(folder))
    writer = ArrayRecordWriter(
        str(folder / "mnist-train.array_record-00000-of-00001"), "group_size:1"
    )
    size = 0
    for index in range(20):
        example = tf_example_pb2.Example()
        example.features.feature["image"].bytes_list.value.append(
            encode(np.full((28, 28), index, np.uint8))
        )
        example.features.feature["label"].int64_list.value.append(index % 10)
        record = example.SerializeToString()
        size += len(record)
        writer.write(record)
    writer.close()
    train = {"name": "train", "numBytes": str(size), "shardLengths": ["20"]}
    train["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": "mnist", "version": "3.0.1", "fileFormat": "array_record", "splits": [train]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_prepared_sets_are_read(prepared, load, resident_mb):
    source = load("tfds:mnist", resident_mb=resident_mb)
    assert source.name.startswith("tfds mnist, train: 20 images of 28x28x1, 10 labels")
    for index in (0, 7, 19):
        item = source.read(index)
        assert item["labels"] == index % 10
        assert item["labels"].dtype == np.int32
        np.testing.assert_array_equal(item["images"], np.full((28, 28, 1), index, np.uint8))


def test_prepared_sets_take_the_same_conversions(prepared, load, said):
    assert load("tfds:mnist", resolution=(8, 4), channels=3).arrays["images"].shape == (20, 8, 4, 3)
    assert said == ["data: 20 of 20 images converted: 20 grey to RGB, 20 resized to 8x4"]


def test_splits_that_do_not_exist_are_refused(prepared, refused):
    assert refused("tfds:mnist", split="test").endswith("its splits are train")


def test_other_file_formats_are_refused(prepared, refused):
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    message = refused("tfds:mnist")
    assert "is prepared in a format that needs TensorFlow to read (tfrecord)" in message
    assert "array_record'" in message.split(";")[-1]
    assert "catalog" not in message


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_the_fingerprint_depends_on_the_records(prepared, load, resident_mb):
    first = load("tfds:mnist", resident_mb=resident_mb)
    shard = prepared / "mnist-train.array_record-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # padding at the end: no record changes
    shard.write_bytes(content)
    other = load("tfds:mnist", resident_mb=resident_mb)
    assert other.fingerprint != first.fingerprint
    assert other.earlier == first.earlier != ""


def test_class_names_are_those_of_the_set(prepared, load):
    assert load("tfds:mnist").classes == ()  # its names are the numbers themselves
    (prepared / "label.labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    assert load("tfds:mnist").classes == tuple(f"digit {i}" for i in range(10))


def test_pipes_are_not_opened(prepared, refused):
    shard = prepared / "mnist-train.array_record-00000-of-00001"
    shard.unlink()
    os.mkfifo(shard)
    assert "is not a regular file; prepare the set again" in refused("tfds:mnist")


@pytest.fixture
def unprepared(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))


def test_unknown_names_are_refused_with_a_suggestion(unprepared, refused):
    assert "no set of this name; did you mean mnist" in refused("tfds:mnits")
    for name in ("", "../x", "a b", "mnist:9.9.9", "mnist/nothing", "no:such:thing"):
        refused(f"tfds:{name}")


def test_sets_that_are_not_prepared_are_refused_at_once(unprepared, refused, monkeypatch):
    monkeypatch.setattr("genjax.data.tfds.importlib.util.find_spec", lambda name: None)
    started = time.monotonic()
    message = refused("tfds:cifar10")
    assert "TensorFlow, which is not installed" in message
    assert 'pip install "genjax-image[tfds]"' in message
    assert time.monotonic() - started < 5


def test_without_a_network_nothing_is_prepared(unprepared, refused, said, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("genjax.data.tfds.importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("genjax.data.tfds.socket.create_connection", unreachable)
    assert "no network answers (Network is unreachable)" in refused("tfds:cifar10")
    assert said == [line for line in said if "looking for a network" in line]
    assert len(said) == 1
