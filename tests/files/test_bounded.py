"""Only regular files are opened; JSON and directories of zips are bounded."""

import json
import os
import socket
import struct
import time
import zipfile

import numpy as np
import pytest

from genjax.files import bounded
from genjax.files.bounded import Malformed


def bind():
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("x")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "zeros", "null"])
def test_only_regular_files_are_opened(tmp_path, kind, monkeypatch):
    path = tmp_path / "x"
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    made = {
        "pipe": lambda: os.mkfifo(path),
        "socket": bind,
        "folder": path.mkdir,
        "zeros": lambda: path.symlink_to("/dev/zero"),
        "null": lambda: path.symlink_to("/dev/null"),
    }
    made[kind]()
    with pytest.raises((Malformed, OSError)):
        bounded.open_regular(path)


def test_a_regular_file_is_read_through_a_link(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("x")
    assert bounded.read_whole(tmp_path / "link", 3) == b"abc"
    with pytest.raises(Malformed, match="larger than the 2 bytes"):
        bounded.read_whole(tmp_path / "link", 2)
    with pytest.raises(Malformed, match="no name of a file"):
        bounded.open_regular("a\0b")


@pytest.mark.parametrize(
    "value", [{"a": [1, 2.5, None, True, "\u00e9"]}, [], 3, "x", {"a": 2**63, "b": -(2**63)}]
)
def test_json_is_parsed(value):
    assert bounded.parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 34 + b"]" * 34, "nested deeper"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper"),
        (b'{"a": 1, "a": 2}', "names a field twice"),
        (b"[NaN]", "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"[1e999]", "out of range"),
        (b"[" + b"9" * 30 + b"]", "out of range"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_that_no_settings_need_is_refused(text, why):
    with pytest.raises(Malformed, match=why):
        bounded.parse_json(text)


def directory(extra: bytes, count: int) -> bytes:
    """A zip whose directory has `count` members with an extra field each, and no data.

    With more members than the end record can count, the records of zip64 precede it.
    """
    versions_flags_method_time = (20, 20, 0, 0, 0, 33)
    crc_and_sizes, lengths, rest = (0, 0, 0), (1, len(extra), 0), (0, 0, 0, 0)
    fields = (*versions_flags_method_time, *crc_and_sizes, *lengths, *rest)
    member = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, *fields) + b"a" + extra
    listed = member * count
    zip64 = b""
    if count >= 2**16:
        zip64 = struct.pack(
            "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(listed), 0
        )
        zip64 += struct.pack("<IIQI", 0x07064B50, 0, len(listed), 1)
    few = min(count, 2**16 - 1)
    return listed + zip64 + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, len(listed), 0, 0)


def test_directories_that_take_long_are_refused_before_they_are_parsed(tmp_path):
    """zipfile goes through an extra field of empty parts in quadratic time."""
    path = tmp_path / "x.zip"
    path.write_bytes(directory(bytes(65_532), 1000))
    began = time.monotonic()
    with pytest.raises(Malformed, match="bytes of extra fields for 1000 members"):
        bounded.open_zip(path)
    assert time.monotonic() - began < 5
    path.write_bytes(directory(b"", 1001))
    with pytest.raises(Malformed, match="has 1001 members, more than 1000"):
        bounded.open_zip(path, 1000)


# Offsets of the lengths of an entry's name, extra field and comment.
@pytest.mark.parametrize("field", [28, 30, 32])
def test_a_length_that_hides_members_is_found(tmp_path, field):
    path = tmp_path / "x.npz"
    np.savez(path, **{name: np.zeros(2) for name in "abcd"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    bounded.open_zip(path).close()
    data[entry + field] += 51  # the entry of b, as a name, a field or a comment of a's
    path.write_bytes(data)
    with pytest.raises(Malformed, match=r"has a directory of \d members that should be of 4"):
        bounded.open_zip(path)


def test_more_members_than_a_plain_end_record_can_count_are_counted_by_zip64s(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(directory(b"", 70_000))
    with bounded.open_zip(path) as archive:
        assert len(archive.namelist()) == 70_000
    data = bytearray(path.read_bytes())
    record = data.rindex(b"PK\x06\x06")
    data[record + 32 : record + 40] = struct.pack("<Q", 69_999)
    path.write_bytes(data)
    with pytest.raises(Malformed, match="70000 members that should be of 69999"):
        bounded.open_zip(path)


def test_usual_extra_fields_are_accepted(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for index in range(50):
            member = zipfile.ZipInfo(f"{index}.txt")
            member.extra = struct.pack("<HHBI", 0x5455, 5, 1, 0)  # as Info-ZIP writes times
            archive.writestr(member, b"text")
    with bounded.open_zip(tmp_path / "x.zip") as archive:
        assert archive.read("7.txt") == b"text"
