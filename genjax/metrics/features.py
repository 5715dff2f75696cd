"""The one pass over a set of images that all metrics share: its features, and kept on disk, those of a set that is measured often."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from genjax import cache, tensors
from genjax.errors import InputError
from genjax.metrics.extractors import Extractor
from genjax.metrics.sets import Images, rebatched

VERSION = 2  # of the extractors' code: features of another are not read

Features = dict[str, np.ndarray]
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (batches, how many, of what) -> the same, shown as progress


def extract(
    images: Images, extractor: Extractor, taps: Sequence[str] = ("features",), *, batch_size: int = 64,
    track: Track = lambda batches, *_: batches,
) -> Features:  # fmt: skip
    """{tap: float32 [n, d]} of all images, in order. Batches are split over this process's devices; the last one is filled up, and what fills it dropped.

    Raises InputError for images that the extractor does not take.
    """
    here = jax.local_devices()
    mesh = jax.make_mesh((len(here),), ("data",), axis_types=(AxisType.Auto,), devices=here)
    size = -(-min(batch_size, images.count) // mesh.size) * mesh.size
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    extractor = extractor._replace(params=jax.device_put(extractor.params, everywhere))
    found: Features = {}
    ahead: tuple[int, int, Any] | None = None  # one batch is computed while the next is read

    def take(start: int, count: int, outputs: Any) -> None:
        for tap in taps:
            rows = np.asarray(outputs[tap], np.float32)[:count]
            if tap not in found:
                found[tap] = np.empty((images.count, *rows.shape[1:]), np.float32)
            found[tap][start : start + count] = rows

    start = 0
    for pixels in track(rebatched(images.batches(), size), -(-images.count // size), images.name):
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], size - len(pixels), 0)]) if len(pixels) < size else pixels
        try:
            outputs = extractor.outputs(jax.device_put(filled, split), taps)
        except ValueError as error:
            raise InputError(f"{images.name}: {error}") from None
        if ahead:
            take(*ahead)
        ahead = start, len(pixels), outputs
        start += len(pixels)
    if ahead:
        take(*ahead)
    return found


def kept(images: Images, extractor: Extractor, taps: Sequence[str], **options: Any) -> Features:
    """`extract`, or what it gave before for the same images, weights, protocol and taps. A damaged file is made anew."""
    from safetensors.numpy import save

    if not images.fingerprint or not extractor.digest:
        return extract(images, extractor, taps, **options)
    identity = [VERSION, images.fingerprint, images.count, extractor.name, extractor.digest, extractor.protocol, *sorted(taps)]
    folder = cache.folder() / "features"
    path = folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.safetensors"
    if path.exists():
        with contextlib.suppress(InputError):
            found = tensors.read(path)
            if found.keys() == set(taps) and all(len(x) == images.count for x in found.values()):
                return found
    found = extract(images, extractor, taps, **options)
    with contextlib.suppress(OSError):  # a full or read-only disk costs the next run its time, and nothing else
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(save(found))
        partial.replace(path)
    return found
