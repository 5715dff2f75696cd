"""The pass over a set of images that all metrics share: its features, cached on disk.

Features are written file by file while they are computed, so that a killed pass
resumes.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from genjax.errors import InputError
from genjax.files import outputs
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.sets import Images, rebatched
from genjax.runtime import cache

VERSION = 3  # of the extractors' code and of the files: other versions are not read
CHUNK = 4096  # images per file: what a killed pass has to repeat at most
SHAPES = 2  # image shapes that a set of several sizes is compiled for
PIXELS = 2**24  # most pixels of a batch that is resized on the device

Features = dict[str, np.ndarray]
# (batches, their number, what they are of) -> the same batches, shown as progress
Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


def extract(
    images: Images,
    extractor: Extractor,
    taps: Sequence[str] = ("features",),
    *,
    batch_size: int = 64,
    track: Track = lambda batches, *_: batches,
    known: Features | None = None,
    each: Callable[[Features, int], None] | None = None,
) -> Features:
    """Return {tap: float32 [n, d]} of all images, in order.

    Batches are split over the devices of this process. The last batch is padded, and
    the padding dropped.

    Args:
        images: the set
        extractor: what computes the features
        taps: names of the outputs
        batch_size: images per batch, rounded up to a multiple of the devices
        track: shows progress
        known: features of the first images, which are not read again
        each: called with (features, number of images done) after each batch

    Raises:
        InputError: images that the extractor does not accept
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    size = -(-min(batch_size, images.count) // mesh.size) * mesh.size
    replicated = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    extractor = extractor._replace(params=jax.device_put(extractor.params, replicated))
    features: Features = {}
    pending: tuple[int, int, Any] | None = None  # one batch is computed while the next is read

    def store(start: int, count: int, outputs: Any) -> None:
        for tap in taps:
            rows = np.asarray(outputs[tap], np.float32)[:count]
            if tap not in features:
                features[tap] = np.empty((images.count, *rows.shape[1:]), np.float32)
                if known:
                    features[tap][: len(known[tap])] = known[tap]
            features[tap][start : start + count] = rows
        if each:
            each(features, start + count)

    start = len(next(iter(known.values()))) if known else 0
    if images.own_sizes:
        batches = _sized(images, extractor, size, start)
    else:
        batches = rebatched(images.batches(start), size)
    for pixels in track(batches, -(-(images.count - start) // size), images.name):
        count = len(pixels)
        padding = np.repeat(pixels[-1:], size - count, 0)
        padded = np.concatenate([pixels, padding]) if count < size else pixels
        outputs_of = extractor.outputs if pixels.dtype == np.uint8 else extractor.outputs_resized
        try:
            outputs = outputs_of(jax.device_put(padded, split), taps)
        except ValueError as error:
            raise InputError(f"{images.name}: {error}") from None
        if pending:
            store(*pending)
        pending = start, count, outputs
        start += count
    if pending:
        store(*pending)
    return features


def _sized(images: Images, extractor: Extractor, size: int, start: int) -> Iterator[np.ndarray]:
    """Batches of images of several sizes.

    A batch is uint8 if all its images have one size, as in most sets, else float32,
    resized by the extractor on the host. Programs are compiled for at most SHAPES
    sizes.
    """
    resized = extractor.resized
    assert resized
    shapes: set[tuple[int, ...]] = set()
    batch: list[np.ndarray] = []  # all of one shape, or all resized

    def on_device(shape: tuple[int, ...]) -> bool:
        small = shape[1] * shape[2] * size <= PIXELS
        return small and (shape in shapes or len(shapes) < SHAPES)

    def resize(image: np.ndarray) -> np.ndarray:
        return image if image.dtype != np.uint8 else resized.image(image)

    for image in images.batches(start):
        like = batch and batch[0].dtype == np.uint8 and image.shape == batch[0].shape
        if not (like if batch else on_device(image.shape)):
            batch, image = [resize(each) for each in batch], resize(image)
        batch.append(image)
        if len(batch) == size:
            shapes |= {batch[0].shape} if batch[0].dtype == np.uint8 else set()
            yield np.concatenate(batch)
            batch = []
    if batch:
        yield np.concatenate(batch if batch[0].shape in shapes else list(map(resize, batch)))


def kept(
    images: Images,
    extractor: Extractor,
    taps: Sequence[str],
    *,
    batch_size: int = 64,
    track: Track = lambda batches, *_: batches,
) -> Features:
    """Return what `extract` does, from the cache if possible.

    The cache is keyed by images, weights, protocol and taps. A killed pass resumes
    after its last complete file; files whose digest does not match their content are
    computed again. Sets without a fingerprint are not cached.

    Raises:
        InputError: images that the extractor does not accept
    """
    folder = _folder(images, extractor)
    if folder is None:
        return extract(images, extractor, taps, batch_size=batch_size, track=track)
    pieces = _pieces(folder, images, extractor, taps)
    chunks: list[Features] = []
    for path, start, end in pieces:
        chunk = _read(path, end - start, taps)
        if chunk is None:
            break
        chunks.append(chunk)
    known = None
    if chunks:
        known = {tap: np.concatenate([chunk[tap] for chunk in chunks]) for tap in taps}
    if len(chunks) == len(pieces):
        assert known is not None
        return known
    waiting = pieces[len(chunks) :]

    def save(features: Features, done: int) -> None:
        while waiting and waiting[0][2] <= done:
            path, start, end = waiting.pop(0)
            _write(path, {tap: features[tap][start:end] for tap in taps})

    return extract(
        images, extractor, taps, batch_size=batch_size, track=track, known=known, each=save
    )


def complete(images: Images, extractor: Extractor, taps: Sequence[str]) -> bool:
    """Return whether files of all features of a set exist, without reading them."""
    folder = _folder(images, extractor)
    return folder is not None and all(
        path.is_file() for path, _, _ in _pieces(folder, images, extractor, taps)
    )


def width(extractor: Extractor, shape: Sequence[int]) -> int | None:
    """Return the number of features of an image of `shape` (h, w, c), by tracing only.

    None if the extractor does not accept the shape.
    """
    image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    try:
        outputs = jax.eval_shape(
            lambda params, x: extractor.apply(params, x, ("features",)), extractor.params, image
        )
    except ValueError:
        return None
    size = outputs["features"].shape
    return size[1] if len(size) == 2 else None


def forget(images: Images, extractor: Extractor, taps: Sequence[str]) -> None:
    """Remove what `kept` wrote, for sets that are measured once."""
    folder = _folder(images, extractor)
    for path, _, _ in _pieces(folder, images, extractor, taps) if folder else ():
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _folder(images: Images, extractor: Extractor) -> Path | None:
    """The folder where features of a set are cached; None if they are not."""
    return cache.private("features") if images.fingerprint and extractor.digest else None


def _pieces(
    folder: Path, images: Images, extractor: Extractor, taps: Sequence[str]
) -> list[tuple[Path, int, int]]:
    """(file, index of its first image, index after its last) of each chunk.

    The name is a digest of all that the features depend on.
    """
    identity = [
        VERSION,
        images.fingerprint,
        images.count,
        extractor.name,
        extractor.digest,
        extractor.protocol,
        *sorted(taps),
    ]
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    bounds = [*range(0, images.count, CHUNK), images.count]
    return [
        (folder / f"{name}-{start}.safetensors", start, end)
        for start, end in itertools.pairwise(bounds)
    ]


def _read(path: Path, count: int, taps: Sequence[str]) -> Features | None:
    """The arrays of a file; None if absent, damaged, or not written under this name."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            digest = (file.metadata() or {}).get("sha256")
            names = file.keys()  # a method: the file is not a mapping
            arrays = {name: file.get_tensor(name) for name in names}
    except Exception:  # A damaged file raises anything from SafetensorError to OSError
        return None
    shaped = all(x.ndim == 2 and len(x) == count for x in arrays.values())
    valid = arrays.keys() == set(taps) and shaped and digest == _digest(path, arrays)
    return arrays if valid else None


def _write(path: Path, arrays: Features) -> None:
    """Write a file of the cache, or nothing on a full or read-only disk."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    # A failure costs the next run its time, and nothing else
    with contextlib.suppress(OSError):
        outputs.write_atomically(path, save(arrays, {"sha256": _digest(path, arrays)}))


def _digest(path: Path, arrays: Features) -> str:
    """SHA-256 of the arrays and of the file's name, which identifies the set."""
    digest = hashlib.sha256(path.name.encode())
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
