"""Reading files that may lie: memory grows with what is there, not with what a header claims, and nothing in a file is executed."""

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
MAX_MEMBERS = 1_500_000  # of a zip: ImageNet's 1.3 million fit; zipfile takes about 600 bytes of memory and 5 microseconds each
MAX_DIRECTORY_BYTES = 2**28
MAX_JSON_BYTES = 2**23
MAX_JSON_DEPTH = 32

Stream = IO[bytes] | io.BufferedIOBase


class Malformed(ValueError):
    """A file is not what it claims to be, or wants more than data; the text says how."""


# What zipfile, zlib, numpy, struct and the file system raise on damaged bytes. A fault of our own (TypeError, AttributeError) is none of them.
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


# --- opening -------------------------------------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A regular file, opened to be read. Raises Malformed for a pipe, a socket or a device, which may never answer or end, and OSError."""
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except ValueError:
        raise Malformed("is no name of a file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed("is not a regular file")
    return open(descriptor, "rb")


def read_whole(path: str | os.PathLike[str], most: int) -> bytes:
    """All of a regular file of at most `most` bytes. Raises Malformed, OSError."""
    with open_regular(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise Malformed(f"is larger than the {most} bytes that it may have")
    return data


def read_json(path: str | os.PathLike[str]) -> Any:
    """What `parse_json` makes of a file. Raises Malformed, OSError."""
    return parse_json(read_whole(path, MAX_JSON_BYTES))


def parse_json(data: bytes) -> Any:
    """The value of a text in JSON with finite numbers of at most 64 bits, no name twice, nesting of at most MAX_JSON_DEPTH. Raises Malformed."""
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
        for one in level:
            if (isinstance(one, float) and not math.isfinite(one)) or (
                isinstance(one, int) and one.bit_length() > 64
            ):
                raise Malformed("holds a number out of range")
        containers = [
            one.values() if isinstance(one, dict) else one
            for one in level
            if isinstance(one, dict | list)
        ]
        level = [child for container in containers for child in container]
        if not level:
            return value
    raise Malformed(f"is nested deeper than {MAX_JSON_DEPTH} levels")


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("names a field twice")
    return found


def _no_number(text: str) -> Any:
    raise Malformed(f"holds {text}, which is no number")


# --- archives ------------------------------------------------------------------------------------------------------------


def _check_directory(data: bytes, most: int, count: int) -> None:
    """Raise Malformed for a zip's directory of too many members, of another number than `count` modulo 65,536, or of long extra fields.

    zipfile does not compare the number: a damaged length hides the members after it.
    """
    at, members, extras = 0, 0, 0
    while data.startswith(b"PK\x01\x02", at) and at + 46 <= len(data):
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        at, members, extras = at + 46 + name + extra + comment, members + 1, extras + extra
    if members > most:
        raise Malformed(f"has {members} members, more than {most}; unpack it")
    if members % 2**16 != count % 2**16:
        raise Malformed(f"has a directory of {members} members that should be of {count}")
    if extras > 2**16 + 64 * members:  # which zipfile would take long over
        raise Malformed(f"has {extras} bytes of extra fields for {members} members")


def open_zip(path: str | os.PathLike[str], most: int | None = None) -> zipfile.ZipFile:
    """A zip of at most `most` members, by default MAX_MEMBERS. Raises Malformed, OSError, and what zipfile raises."""
    with open_regular(path) as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, length - 2**16 - 2**10))
        tail = stream.read()
        plain = (
            tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0"
        )  # as zipfile looks for the end: without a comment first
        end = len(tail) - 22 if plain else tail.rfind(b"PK\x05\x06")
        count, size = struct.unpack("<HI", tail[end + 10 : end + 16].ljust(6, b"\0"))
        if (
            end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07"
        ):  # the records of zip64 lie before
            end -= 76
            count, size = struct.unpack_from("<QQ", tail, end + 32)
        begin = length - len(tail) + end - size
        if end >= 0 and begin >= 0:  # else zipfile says what is wrong
            if size > MAX_DIRECTORY_BYTES:
                raise Malformed(f"has a directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
            stream.seek(begin)
            _check_directory(stream.read(size), MAX_MEMBERS if most is None else most, count)
    return zipfile.ZipFile(
        path
    )  # by its name: an archive whose stream is another object's may warn when both are freed


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """A member as a stream; of the other methods a few bytes may become gigabytes at once. Raises Malformed."""
    if member.flag_bits & 0x1:
        raise Malformed(f"{member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Malformed(f"{member.filename!r} is neither stored nor deflated")
    return archive.open(member)


def npy_header(stream: Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, dtype. Raises Malformed for Python objects, whose reading would run code."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise Malformed(f"has an array in version {version} of the npy format")
    try:
        shape, fortran, dtype = read(stream)
    except Exception as error:  # of a hostile header numpy raises anything, from SyntaxError and TokenError to TypeError
        raise Malformed(f"has a header that cannot be read ({reason(error)})") from None
    if dtype.hasobject:
        raise Malformed("holds pickled Python objects, which are never loaded")
    if any(size < 0 for size in shape) or math.prod(shape).bit_length() > 63:
        raise Malformed("has an array of a shape that nothing has")
    return shape, fortran, dtype


def fill(values: np.ndarray, stream: Stream) -> None:
    """The next bytes into uint8 [n], whose addresses become memory as they are filled. Raises Malformed if they are cut short."""
    filled = 0
    while filled < len(values) and (chunk := stream.read(min(CHUNK_BYTES, len(values) - filled))):
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < len(values):
        raise Malformed(f"ends after {filled} of the {len(values)} bytes that its values take")
