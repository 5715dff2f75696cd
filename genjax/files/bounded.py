"""Bounded reading of untrusted files.

Memory grows with the bytes of a file, not with what its header claims, and nothing in a
file is executed.
"""

import io
import json
import math
import os
import stat
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from genjax.errors import reason

CHUNK_BYTES = 2**20
# Number of members of a zip: ImageNet's 1.3 million fit. zipfile takes about 600 bytes
# and 5 microseconds per member.
MAX_MEMBERS = 1_500_000
MAX_DIRECTORY_BYTES = 2**28  # of a zip
MAX_JSON_BYTES = 2**23
MAX_JSON_DEPTH = 32

Stream = IO[bytes] | io.BufferedIOBase


class Malformed(ValueError):
    """A file is damaged, of another kind, or more than data; the text says how."""


# What zipfile, zlib, numpy, struct and the file system raise on damaged bytes.
# TypeError and AttributeError are missing: they would be bugs of ours.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


# --- opening --------------------------------------------------------------------------


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading, in binary mode.

    Raises Malformed: it is a pipe, a socket or a device, whose reading may block or
    never end.
    Raises OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError:  # a null byte
        raise Malformed("is no name of a file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed("is not a regular file")
    return open(descriptor, "rb")


def read_whole(path: str | os.PathLike[str], most: int) -> bytes:
    """All bytes of a regular file of at most `most` bytes.

    Raises Malformed: it is larger, or no regular file. Raises OSError: it cannot be
    read.
    """
    with open_regular(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise Malformed(f"is larger than the {most} bytes that it may have")
    return data


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file of at most MAX_JSON_BYTES, parsed by `parse_json`.

    Raises Malformed: it is larger, damaged or no regular file. Raises OSError: it
    cannot be read.
    """
    return parse_json(read_whole(path, MAX_JSON_BYTES))


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises Malformed: it is not JSON, nested deeper than MAX_JSON_DEPTH, names a field
    twice, or holds a number that is not finite or has more than 64 bits.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_named, parse_constant=_no_number)
    except Malformed:
        raise
    except RecursionError:
        raise Malformed(f"is nested deeper than {MAX_JSON_DEPTH} levels") from None
    except ValueError as error:
        raise Malformed(f"is not JSON ({reason(error)})") from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        for item in level:
            infinite = isinstance(item, float) and not math.isfinite(item)
            if infinite or (isinstance(item, int) and item.bit_length() > 64):
                raise Malformed("holds a number out of range")
        containers = [
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        ]
        level = [child for container in containers for child in container]
        if not level:
            return value
    raise Malformed(f"is nested deeper than {MAX_JSON_DEPTH} levels")


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict. Raises Malformed: a field is named twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("names a field twice")
    return fields


def _no_number(text: str) -> Any:
    """Raise Malformed for NaN and infinities, which Python's JSON would accept."""
    raise Malformed(f"holds {text}, which is no number")


# --- archives -------------------------------------------------------------------------


def _check_directory(data: bytes, most: int, count: int) -> None:
    """Check the directory of a zip before zipfile parses it.

    Raises Malformed: it has more than `most` members, another number of them than
    `count` modulo 65,536 (zipfile does not compare: a damaged length hides the members
    after it), or long extra fields.
    """
    at, members, extras = 0, 0, 0
    while data.startswith(b"PK\x01\x02", at) and at + 46 <= len(data):
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        at, members, extras = at + 46 + name + extra + comment, members + 1, extras + extra
    if members > most:
        raise Malformed(f"has {members} members, more than {most}; unpack it")
    if members % 2**16 != count % 2**16:
        raise Malformed(f"has a directory of {members} members that should be of {count}")
    if extras > 2**16 + 64 * members:  # zipfile parses them in quadratic time
        raise Malformed(f"has {extras} bytes of extra fields for {members} members")


def open_zip(path: str | os.PathLike[str], most: int | None = None) -> zipfile.ZipFile:
    """Open a zip of at most `most` members, by default MAX_MEMBERS.

    Raises Malformed: too many members, or a directory that does not match its end
    record.
    Raises OSError and the errors of zipfile (DAMAGE): it cannot be read, or is damaged.
    """
    with open_regular(path) as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, length - 2**16 - 2**10))
        tail = stream.read()
        # The end record is searched as zipfile does: first one without a comment.
        plain = tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0"
        end = len(tail) - 22 if plain else tail.rfind(b"PK\x05\x06")
        count, size = struct.unpack("<HI", tail[end + 10 : end + 16].ljust(6, b"\0"))
        # The two records of zip64 precede it.
        if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":
            end -= 76
            count, size = struct.unpack_from("<QQ", tail, end + 32)
        begin = length - len(tail) + end - size
        if end >= 0 and begin >= 0:  # else zipfile says what is wrong
            if size > MAX_DIRECTORY_BYTES:
                raise Malformed(f"has a directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
            stream.seek(begin)
            _check_directory(stream.read(size), MAX_MEMBERS if most is None else most, count)
    # By name: with a stream that belongs to another object, freeing both may warn.
    return zipfile.ZipFile(path)


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member of a zip, stored or deflated.

    Other methods may expand a few bytes to gigabytes at once.
    Raises Malformed: it is encrypted or compressed by another method.
    """
    if member.flag_bits & 0x1:
        raise Malformed(f"{member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Malformed(f"{member.filename!r} is neither stored nor deflated")
    return archive.open(member)


def npy_header(stream: Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an .npy: shape, whether in Fortran order, dtype.

    Raises Malformed: it is damaged, or of Python objects, whose reading would run code.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise Malformed(f"has an array in version {version} of the npy format")
    try:
        shape, fortran, dtype = read(stream)
    # On a hostile header numpy raises anything, from SyntaxError and TokenError to
    # TypeError.
    except Exception as error:
        raise Malformed(f"has a header that cannot be read ({reason(error)})") from None
    if dtype.hasobject:
        raise Malformed("holds pickled Python objects, which are never loaded")
    if any(size < 0 for size in shape) or math.prod(shape).bit_length() > 63:
        raise Malformed("has an array of an impossible shape")
    return shape, fortran, dtype


def fill(values: np.ndarray, stream: Stream) -> None:
    """Read the next n bytes of a stream into `values`, uint8 [n].

    Pages of `values` take memory only as they are filled.
    Raises Malformed: the stream ends too early.
    """
    filled = 0
    while filled < len(values) and (chunk := stream.read(min(CHUNK_BYTES, len(values) - filled))):
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < len(values):
        raise Malformed(f"ends after {filled} of the {len(values)} bytes that its values take")
