"""Reading files that may lie: memory grows with what is there, not with what a header claims, and nothing in a file is executed."""

import io
import zipfile
from typing import IO

import numpy as np

CHUNK_BYTES = 2**20

Stream = IO[bytes] | io.BufferedIOBase


class Malformed(ValueError):
    """A file is not what it claims to be, or wants more than data; the text says how."""


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
