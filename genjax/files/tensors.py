"""Read files of named arrays: .safetensors, .npz and PyTorch's .pth.

Nothing in a file is ever executed.
"""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from genjax.errors import InputError, reason
from genjax.files import pth
from genjax.files.bounded import (
    DAMAGE,
    Malformed,
    npy_header,
    open_member,
    open_regular,
    open_zip,
    parse_json,
)

KINDS = (".safetensors", ".npz", ".pth", ".pt", ".th", ".ckpt")
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "BOOL": np.bool_,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of a file, by name. They hold numbers, which may be NaN.

    Raises InputError: the file is missing, damaged, of another kind, or holds more than
    arrays.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".pkl", ".pickle"):
        raise InputError(
            f"{path}: is a pickle, which is a program, and never run here; "
            "save its arrays as .safetensors, .npz or .pth"
        )
    if kind not in KINDS:
        raise InputError(f"{path}: give a .safetensors, .npz or .pth file")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a .safetensors, .npz or .pth file")
    if kind not in (".safetensors", ".npz"):
        return pth.state_dict(path)
    try:
        return _read_safetensors(path) if kind == ".safetensors" else _read_npz(path)
    except DAMAGE as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); give an intact {kind}"
        ) from None


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that arrays are finite, float64 arrays also after a cast to float32.

    Raises InputError: it names the first array with NaN or infinite values.
    """
    for name, array in arrays.items():
        if array.dtype == np.float64:
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(
                f"{name!r} is not finite: it holds NaN or infinite values; give intact weights"
            )


# --- the two formats ------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors: header length, header in JSON, values.

    The length takes 8 bytes; values have no gaps. The format is described in
    https://huggingface.co/docs/safetensors, "Format". The package safetensors parses
    headers of up to 100 MB, and takes the last of two arrays of one name.
    Raises Malformed: header and values do not match.
    """
    with open_regular(path) as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
        if size < 8 or length > min(size - 8, pth.MAX_PICKLE_BYTES):
            raise Malformed(f"its header is not one, of {length} bytes in a file of {size}")
        header = parse_json(file.read(length))
        if not isinstance(header, dict):
            raise Malformed("its header names no arrays")
        header.pop("__metadata__", None)
        listed = sorted(
            (_listed(name, entry) for name, entry in header.items()), key=lambda array: array[3]
        )
        end = 0
        for name, dtype, shape, (start, stop) in listed:
            if start != end or stop - start != math.prod(shape) * dtype.itemsize:
                raise Malformed(
                    f"{name!r} of {dtype} {list(shape)} is not what lies at {start} to {stop}"
                )
            end = stop
        if 8 + length + end != size:
            raise Malformed(f"holds {size} bytes, not the {8 + length + end} of its header")
        return {
            name: pth.read_bytes(file, stop - start).view(dtype).reshape(shape)
            for name, dtype, shape, (start, stop) in listed
        }


def _listed(name: str, entry: object) -> tuple[str, np.dtype, tuple[int, ...], tuple[int, int]]:
    """Name, dtype, shape, and (start, end) of the values in bytes. Raises Malformed."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [start, stop]}:
            valid = all(type(x) is int and 0 <= x < 2**63 for x in (*shape, start, stop))
            if valid and kind in DTYPES and len(shape) <= pth.MAX_DIMENSIONS:
                return name, np.dtype(DTYPES[kind]), tuple(shape), (start, stop)
    raise Malformed(f"{name!r} is not described as an array of numbers")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz.

    numpy.load would allocate what a header claims before it reads anything.
    Raises Malformed: members have one name, claim too many bytes, or are damaged.
    """
    with open_zip(path, pth.MAX_MEMBERS) as archive, open_regular(path) as file:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise Malformed("has two members of one name")
        pth.check_size(file, sum(member.file_size for member in members.values()))
        return {name: _read_npy(archive, member) for name, member in members.items()}


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array of one member. Raises Malformed: header and values do not match."""
    with open_member(archive, member) as stream:
        shape, fortran, dtype = npy_header(stream)
        if dtype.kind not in "biuf":
            raise Malformed(f"{member.filename!r} holds {dtype}, no numbers")
        values = pth.read_bytes(stream, member.file_size - stream.tell())
    if math.prod(shape) * dtype.itemsize != len(values):
        claim = f"the {shape} of {dtype} that its header claims"
        raise Malformed(f"{member.filename!r} holds {len(values)} bytes, not {claim}")
    return values.view(dtype).reshape(shape, order="F" if fortran else "C")
