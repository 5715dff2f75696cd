"""Files of named arrays, ours and other people's: .safetensors, .npz and PyTorch's .pth. Nothing in a file is ever executed."""

import os
import zipfile
from pathlib import Path

import numpy as np

from genjax import pth
from genjax.core import InputError

KINDS = (".safetensors", ".npz", ".pth", ".pt", ".th", ".ckpt")


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a file by name. Raises InputError for what is missing, damaged, of another kind or more than arrays."""
    from safetensors import SafetensorError
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
    try:
        if kind == ".safetensors":
            return load_file(path)
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (SafetensorError, OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({(str(error) or type(error).__name__).splitlines()[0][:200]})") from None
    return pth.state_dict(path)
