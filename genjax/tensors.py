"""Files of named arrays, ours and other people's: .safetensors, .npz and PyTorch's .pth. Nothing in a file is ever executed."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np

from genjax import pth
from genjax.bounded import npy_header, open_member
from genjax.errors import InputError

KINDS = (".safetensors", ".npz", ".pth", ".pt", ".th", ".ckpt")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a file by name. Raises InputError for what is missing, damaged, of another kind or more than arrays."""
    from safetensors.numpy import load_file

    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".pkl", ".pickle"):
        raise InputError(
            f"{path}: is a pickle, which is a program, and never run here; save its arrays as .safetensors, .npz or .pth"
        )
    if kind not in KINDS:
        raise InputError(f"{path}: give a .safetensors, .npz or .pth file")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a .safetensors, .npz or .pth file")
    if kind not in (".safetensors", ".npz"):
        return pth.state_dict(path)
    try:
        return load_file(path) if kind == ".safetensors" else _read_npz(path)
    except Exception as error:  # a damaged archive raises anything from BadZipFile to zlib.error and UnicodeDecodeError
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path}: cannot be read ({first}); give an intact {kind}") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """numpy.load would allocate what a header claims before anything is read."""
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        pth.check_size(file, sum(member.file_size for member in members))
        return {member.filename.removesuffix(".npy"): _read_npy(archive, member) for member in members}


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array of one member. Raises ValueError where its header and its values do not fit."""
    with open_member(archive, member) as stream:
        shape, fortran, dtype = npy_header(stream)
        values = pth.read_bytes(stream, member.file_size - stream.tell())
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{member.filename!r} holds {len(values)} bytes, not the {shape} of {dtype} that its header claims")
    return values.view(dtype).reshape(shape, order="F" if fortran else "C")
