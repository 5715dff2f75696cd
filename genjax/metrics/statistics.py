"""Precomputed reference statistics: a .npz with `mu` [d] and `sigma` [d, d] of a set's features, as pytorch-fid and clean-fid write them.

They serve the Frechet distance alone. sigma divides by n - 1, as `numpy.cov`. Files written here also hold n and what extracted the features.
"""

import hashlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import InputError, printable
from genjax.files import outputs, tensors
from genjax.files.bounded import open_zip
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.frechet import Moments, dense_scatter
from genjax.shapes import AnyArray

WIDEST = 4096  # features: sigma of more is no file to hand around
MEMBERS = 1000  # of a .npz that is looked into
SYMMETRY = 1e-3  # of the largest variance: sigma may be float32, and a sum in any order


class Statistics(NamedTuple):
    name: str
    moments: Moments
    count: int  # images; 0 where the file does not say
    fingerprint: str


def is_file(what: Any) -> bool:
    """Whether this is the path of a .npz with `mu` and `sigma`; it is opened only if it is a regular file."""
    if not isinstance(what, (str, Path)) or not str(what).lower().endswith(".npz"):
        return False
    path = os.path.expanduser(what)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open_zip(path, MEMBERS) as archive:
            return {"mu.npy", "sigma.npy"} <= {member.filename for member in archive.infolist()}
    except Exception:  # a damaged directory raises anything from BadZipFile to UnicodeDecodeError
        return False


def read(
    path: str | os.PathLike,
    extractor: Extractor,
    protocol: str,
    ddof: int,
    width: int | None,
    option: str = "real",
) -> Statistics:
    """The statistics of a file, for distances of this extractor and protocol; `width`: d, where it is known.

    With no n in the file sigma is taken as it is, whatever the protocol's `ddof`. Raises InputError for a file that is
    damaged, of other features, or whose arrays are no mean and covariance.
    """
    path = Path(path).expanduser()
    with open_zip(path, MEMBERS) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > 2 * 8 * WIDEST**2:
        raise InputError(
            f"{option} {path}: claims {claimed} bytes, more than statistics of {WIDEST} features take"
        )
    arrays = tensors.read(path)
    mu, sigma = _real(arrays, "mu", path, option), _real(arrays, "sigma", path, option)
    for name, ours in (
        ("extractor", extractor.name),
        ("digest", extractor.digest),
        ("protocol", protocol),
    ):
        theirs = _text(arrays.get(name))
        if theirs and theirs != ours:
            wanted = f"statistics of {name} {printable(theirs)[:20]}, not {ours[:20]}"
            raise InputError(f"{option} {path}: {wanted}; distances of two do not compare")
    d = len(mu) if mu.ndim == 1 else 0
    if not 1 <= d <= WIDEST or sigma.shape != (d, d):
        shapes = f"{list(mu.shape)} and {list(sigma.shape)}"
        raise InputError(
            f"{option} {path}: mu [d] and sigma [d, d] with d up to {WIDEST} are needed, not {shapes}"
        )
    if width is not None and d != width:
        raise InputError(
            f"{option} {path}: statistics of {d} features, and --extractor {extractor.name} gives {width}"
        )
    variances = np.diagonal(sigma)
    if variances.min() < 0 or np.abs(sigma - sigma.T).max() > SYMMETRY * max(
        variances.max(), 1e-30
    ):
        raise InputError(
            f"{option} {path}: sigma is no covariance (it is not symmetric, or a variance is below 0)"
        )
    count = _count(arrays.get("n"), path, option)
    degrees = count - 1 if count else 1
    moments = Moments(count or 1 + ddof, mu, (sigma + sigma.T) / 2 * degrees)
    said = f"{count} images" if count else "a set of unknown size"
    return Statistics(
        f"statistics of {said} in {printable(path.name)}", moments, count, _fingerprint(moments)
    )


def as_npz(moments: Moments, extractor: Extractor, protocol: str) -> bytes:
    """The file: mu and sigma as pytorch-fid and clean-fid read them, n, and what extracted. Raises InputError."""
    if len(moments.mean) > WIDEST or moments.count < 2:
        wrong = f"{len(moments.mean)} features of {moments.count} images"
        raise InputError(
            f"--save-stats: {wrong}; up to {WIDEST} features of at least 2 images can be written"
        )
    arrays = {
        "mu": moments.mean,
        "sigma": dense_scatter(moments) / (moments.count - 1),
        "n": np.int64(moments.count),
    }
    about = {
        "extractor": extractor.name,
        "digest": extractor.digest,
        "protocol": protocol,
        "software": outputs.MARK,
    }
    stream = io.BytesIO()
    arrays |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in about.items()}
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _real(arrays: Mapping[str, AnyArray], name: str, path: Path, option: str) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"{option} {path}: has no array {name!r}; statistics are mu and sigma")
    array = np.asarray(arrays[name])
    if array.dtype not in (np.float32, np.float64) or not np.isfinite(array).all():
        raise InputError(
            f"{option} {path}: {name} is no array of finite float32 or float64 numbers"
        )
    return array.astype(np.float64)


def _text(array: AnyArray | None) -> str:
    return (
        np.asarray(array)[:100].tobytes().decode(errors="replace")
        if array is not None and np.ndim(array) == 1
        else ""
    )


def _count(array: AnyArray | None, path: Path, option: str) -> int:
    if array is None:
        return 0
    if np.ndim(array) or np.asarray(array).dtype.kind not in "iu" or not 2 <= int(array) < 2**53:
        raise InputError(f"{option} {path}: n is not a number of images from 2 up")
    return int(array)


def _fingerprint(moments: Moments) -> str:
    return hashlib.sha256(
        moments.mean.tobytes() + np.ascontiguousarray(moments.scatter).tobytes()
    ).hexdigest()
