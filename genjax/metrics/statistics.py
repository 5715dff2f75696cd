"""Precomputed reference statistics, as pytorch-fid and clean-fid write them.

A file is a .npz with `mu` [d] and `sigma` [d, d] of the features of a set, and serves
the Frechet distance only. sigma is divided by n - 1, as in `numpy.cov`. Files written
here also hold n and what extracted the features.
"""

import hashlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import ConfigError, InputError, printable
from genjax.files import outputs, tensors
from genjax.files.bounded import open_zip
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.frechet import Moments, dense_scatter
from genjax.shapes import AnyArray

WIDEST = 4096  # features: sigma of more is too large a file to share
MEMBERS = 1000  # most members of a .npz that is opened
SYMMETRY = 1e-3  # of the largest variance: sigma may be float32, summed in any order


class Statistics(NamedTuple):
    """Reference statistics read from a file."""

    name: str  # to show to a person
    moments: Moments
    count: int  # images; 0 if the file does not say
    fingerprint: str  # SHA-256 of the moments, hexadecimal


def is_file(what: Any) -> bool:
    """Return whether `what` is the path of a .npz with `mu` and `sigma`.

    Only regular files are opened.
    """
    if not isinstance(what, (str, Path)) or not str(what).lower().endswith(".npz"):
        return False
    path = os.path.expanduser(what)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open_zip(path, MEMBERS) as archive:
            return {"mu.npy", "sigma.npy"} <= {member.filename for member in archive.infolist()}
    except Exception:  # A damaged directory raises anything from BadZipFile to UnicodeDecodeError
        return False


def read(
    path: str | os.PathLike,
    extractor: Extractor,
    protocol: str,
    ddof: int,
    width: int | None,
    field: str = "real",
) -> Statistics:
    """Read the statistics of a file, for distances of this extractor and protocol.

    If the file does not hold n, sigma is used as it is, whatever the `ddof`.

    Args:
        path: the .npz file
        extractor: what extracts the features of the other set
        protocol: name of the protocol of the distance
        ddof: what the protocol subtracts from n in a covariance
        width: d, if known
        field: name of the caller's argument, for messages

    Raises:
        InputError: the file is damaged, holds other features, or its arrays are not a
            mean and a covariance
    """
    path = Path(path).expanduser()
    with open_zip(path, MEMBERS) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > 2 * 8 * WIDEST**2:
        most = f"more than statistics of {WIDEST} features take"
        raise InputError(f"{field} {path}: claims {claimed} bytes, {most}")
    arrays = tensors.read(path)
    mu, sigma = _real(arrays, "mu", path, field), _real(arrays, "sigma", path, field)
    for name, ours in (
        ("extractor", extractor.name),
        ("digest", extractor.digest),
        ("protocol", protocol),
    ):
        theirs = _text(arrays.get(name))
        if theirs and theirs != ours:
            wrong = f"statistics of {name} {printable(theirs)[:20]}, not {ours[:20]}"
            raise InputError(f"{field} {path}: {wrong}; distances of two do not compare")
    d = len(mu) if mu.ndim == 1 else 0
    if not 1 <= d <= WIDEST or sigma.shape != (d, d):
        shapes = f"{list(mu.shape)} and {list(sigma.shape)}"
        raise InputError(
            f"{field} {path}: mu [d] and sigma [d, d] with d up to {WIDEST} are needed, "
            f"not {shapes}"
        )
    if width is not None and d != width:
        raise InputError(
            f"{field} {path}: statistics of {d} features, but extractor {extractor.name} "
            f"gives {width}"
        )
    variances = np.diagonal(sigma)
    asymmetry, largest = np.abs(sigma - sigma.T).max(), max(variances.max(), 1e-30)
    if variances.min() < 0 or asymmetry > SYMMETRY * largest:
        raise InputError(
            f"{field} {path}: sigma is not a covariance "
            "(it is not symmetric, or a variance is negative)"
        )
    count = _count(arrays.get("n"), path, field)
    degrees = count - 1 if count else 1
    moments = Moments(count or 1 + ddof, mu, (sigma + sigma.T) / 2 * degrees)
    size = f"{count} images" if count else "a set of unknown size"
    name = f"statistics of {size} in {printable(path.name)}"
    return Statistics(name, moments, count, _fingerprint(moments))


def as_npz(moments: Moments, extractor: Extractor, protocol: str) -> bytes:
    """Return the content of a .npz file of statistics.

    It holds mu and sigma as pytorch-fid and clean-fid read them, n, and the names of
    the extractor and the protocol.

    Raises:
        ConfigError: more than WIDEST features, or fewer than 2 images
    """
    if len(moments.mean) > WIDEST or moments.count < 2:
        size = f"{len(moments.mean)} features of {moments.count} images"
        raise ConfigError(
            "save_stats", None, f"{size}; at most {WIDEST} features of at least 2 images fit"
        )
    arrays = {
        "mu": moments.mean,
        "sigma": dense_scatter(moments) / (moments.count - 1),
        "n": np.int64(moments.count),
    }
    texts = {
        "extractor": extractor.name,
        "digest": extractor.digest,
        "protocol": protocol,
        "software": outputs.MARK,
    }
    stream = io.BytesIO()
    arrays |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _real(arrays: Mapping[str, AnyArray], name: str, path: Path, field: str) -> np.ndarray:
    """The array of this name in float64; InputError unless it is float and finite."""
    if name not in arrays:
        raise InputError(f"{field} {path}: has no array {name!r}; statistics are mu and sigma")
    array = np.asarray(arrays[name])
    if array.dtype not in (np.float32, np.float64) or not np.isfinite(array).all():
        raise InputError(
            f"{field} {path}: {name} must be an array of finite float32 or float64 numbers"
        )
    return array.astype(np.float64)


def _text(array: AnyArray | None) -> str:
    """The text of an array of bytes; empty for anything else."""
    if array is None or np.ndim(array) != 1:
        return ""
    return np.asarray(array)[:100].tobytes().decode(errors="replace")


def _count(array: AnyArray | None, path: Path, field: str) -> int:
    """n, or 0 if the file does not hold it."""
    if array is None:
        return 0
    if np.ndim(array) or np.asarray(array).dtype.kind not in "iu" or not 2 <= int(array) < 2**53:
        raise InputError(f"{field} {path}: n is not a number of images from 2 up")
    return int(array)


def _fingerprint(moments: Moments) -> str:
    """SHA-256 of mean and scatter, hexadecimal."""
    content = moments.mean.tobytes() + np.ascontiguousarray(moments.scatter).tobytes()
    return hashlib.sha256(content).hexdigest()
