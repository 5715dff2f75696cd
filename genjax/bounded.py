"""Reading files that may lie: memory grows with what is there, not with what a header claims, and nothing in a file is executed."""

import io
import os
import stat
import zipfile
from typing import IO

import numpy as np

CHUNK_BYTES = 2**20
MAX_MEMBERS = 1_500_000  # of a zip: ImageNet's 1.3 million fit; zipfile takes about 600 bytes of memory and 5 microseconds each
MAX_DIRECTORY_BYTES = 2**28

Stream = IO[bytes] | io.BufferedIOBase


class Malformed(ValueError):
    """A file is not what it claims to be, or wants more than data; the text says how."""


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A regular file, opened to be read. Raises Malformed for a pipe, a socket or a device, which may never answer or end, and OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed("is not a regular file")
    return open(descriptor, "rb")


def open_zip(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    """A zip whose directory fits into memory. Raises Malformed, OSError, and what zipfile raises."""
    with open_regular(path) as stream:
        length = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, length - 2**16 - 2**10))
        tail = stream.read()
        end = tail.rfind(b"PK\x05\x06")
        size = int.from_bytes(tail[end + 12 : end + 16], "little")
        if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # the records of zip64 lie before
            end -= 76
            size = int.from_bytes(tail[end + 40 : end + 48], "little")
        begin = length - len(tail) + end - size
        if end >= 0 and begin >= 0:  # else zipfile says what is wrong
            if size > MAX_DIRECTORY_BYTES:
                raise Malformed(f"has a directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
            stream.seek(begin)
            if (members := stream.read(size).count(b"PK\x01\x02")) > MAX_MEMBERS:
                raise Malformed(f"has {members} members, more than {MAX_MEMBERS}; unpack it")
    return zipfile.ZipFile(path)


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
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise Malformed(f"has an array in version {version} of the npy format")
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise Malformed("holds pickled Python objects, which are never loaded")
    return shape, fortran, dtype


def fill(values: np.ndarray, stream: Stream) -> None:
    """The next bytes into uint8 [n], whose addresses become memory as they are filled. Raises Malformed if they are cut short."""
    filled = 0
    while filled < len(values) and (chunk := stream.read(min(CHUNK_BYTES, len(values) - filled))):
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < len(values):
        raise Malformed(f"ends after {filled} of the {len(values)} bytes that its values take")
