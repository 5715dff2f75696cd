"""The one pass over a set of images that all metrics share: its features, kept on disk piece by piece while they are made."""

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

VERSION = 3  # of the extractors' code and of the files: features of another are not read
CHUNK = 4096  # images in a file, and so what a killed pass has to do again
SHAPES = 2  # shapes that a set of several sizes is compiled for
PIXELS = 2**24  # of a batch that is resized on the device

Features = dict[str, np.ndarray]
Track = Callable[
    [Iterable[Any], int, str], Iterable[Any]
]  # (batches, how many, of what) -> the same, shown as progress


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
    """{tap: float32 [n, d]} of all images, in order. Batches are split over this process's devices; the last one is filled up, and what fills it dropped.

    `known` are those of the first images, which are not read again; `each(features, done)` is called after each batch.
    Raises InputError for images that the extractor does not take.
    """
    here = jax.local_devices()
    mesh = jax.make_mesh((len(here),), ("data",), axis_types=(AxisType.Auto,), devices=here)
    size = -(-min(batch_size, images.count) // mesh.size) * mesh.size
    everywhere, split = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    extractor = extractor._replace(params=jax.device_put(extractor.params, everywhere))
    found: Features = {}
    ahead: tuple[int, int, Any] | None = None  # one batch is computed while the next is read

    def take(start: int, count: int, outputs: Any) -> None:
        for tap in taps:
            rows = np.asarray(outputs[tap], np.float32)[:count]
            if tap not in found:
                found[tap] = np.empty((images.count, *rows.shape[1:]), np.float32)
                if known:
                    found[tap][: len(known[tap])] = known[tap]
            found[tap][start : start + count] = rows
        if each:
            each(found, start + count)

    start = len(next(iter(known.values()))) if known else 0
    batches = (
        _sized(images, extractor, size, start)
        if images.own_sizes
        else rebatched(images.batches(start), size)
    )
    for pixels in track(batches, -(-(images.count - start) // size), images.name):
        count = len(pixels)
        filled = (
            np.concatenate([pixels, np.repeat(pixels[-1:], size - count, 0)])
            if count < size
            else pixels
        )
        outputs_of = extractor.outputs if pixels.dtype == np.uint8 else extractor.outputs_resized
        try:
            outputs = outputs_of(jax.device_put(filled, split), taps)
        except ValueError as error:
            raise InputError(f"{images.name}: {error}") from None
        if ahead:
            take(*ahead)
        ahead = start, count, outputs
        start += count
    if ahead:
        take(*ahead)
    return found


def _sized(images: Images, extractor: Extractor, size: int, start: int) -> Iterator[np.ndarray]:
    """Batches of images of several sizes: uint8 where all are of one, as in most sets, else float32 as the extractor resizes them on the host.

    A program is compiled for no more than SHAPES sizes. Raises InputError.
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


def kept(images: Images, extractor: Extractor, taps: Sequence[str], **options: Any) -> Features:
    """`extract`, or what it gave before for the same images, weights, protocol and taps; a killed pass goes on after its last whole file.

    Files whose digest does not match what they hold are made anew. Sets without a fingerprint are not kept.
    """
    folder = _folder(images, extractor)
    if folder is None:
        return extract(images, extractor, taps, **options)
    pieces = _pieces(folder, images, extractor, taps)
    chunks: list[Features] = []
    for path, start, end in pieces:
        chunk = _read(path, end - start, taps)
        if chunk is None:
            break
        chunks.append(chunk)
    known = (
        {tap: np.concatenate([chunk[tap] for chunk in chunks]) for tap in taps} if chunks else None
    )
    if len(chunks) == len(pieces):
        assert known is not None
        return known
    waiting = pieces[len(chunks) :]

    def save(found: Features, done: int) -> None:
        while waiting and waiting[0][2] <= done:
            path, start, end = waiting.pop(0)
            _write(path, {tap: found[tap][start:end] for tap in taps})

    return extract(images, extractor, taps, known=known, each=save, **options)


def complete(images: Images, extractor: Extractor, taps: Sequence[str]) -> bool:
    """Whether all of a set's features are kept, as far as names tell."""
    folder = _folder(images, extractor)
    return folder is not None and all(
        path.is_file() for path, _, _ in _pieces(folder, images, extractor, taps)
    )


def width(extractor: Extractor, shape: Sequence[int]) -> int | None:
    """How many numbers the features of an image (h, w, c) are, by tracing alone; None where the extractor does not take it."""
    image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    try:
        outputs = jax.eval_shape(
            lambda params, x: extractor.apply(params, x, ("features",)), extractor.params, image
        )
    except ValueError:
        return None
    found = outputs["features"].shape
    return found[1] if len(found) == 2 else None


def forget(images: Images, extractor: Extractor, taps: Sequence[str]) -> None:
    """Remove what `kept` wrote: of sets that are measured once."""
    folder = _folder(images, extractor)
    for path, _, _ in _pieces(folder, images, extractor, taps) if folder else ():
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _folder(images: Images, extractor: Extractor) -> Path | None:
    """Where the features of a set are kept; None if they are not."""
    return cache.private("features") if images.fingerprint and extractor.digest else None


def _pieces(
    folder: Path, images: Images, extractor: Extractor, taps: Sequence[str]
) -> list[tuple[Path, int, int]]:
    """(file, first image, one after the last) of each chunk; the name is the digest of all that the features depend on."""
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
    """The arrays of a file; None where it is absent, damaged, or not what was written under this name."""
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # a method of the file, which is no mapping
            written, found = (
                (file.metadata() or {}).get("sha256"),
                {name: file.get_tensor(name) for name in names},
            )
    except Exception:  # a damaged file raises anything from SafetensorError to OSError
        return None
    right = found.keys() == set(taps) and all(
        x.ndim == 2 and len(x) == count for x in found.values()
    )
    return found if right and written == _digest(path, found) else None


def _write(path: Path, arrays: Features) -> None:
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    with contextlib.suppress(
        OSError
    ):  # a full or read-only disk costs the next run its time, and nothing else
        outputs.write_atomically(path, save(arrays, {"sha256": _digest(path, arrays)}))


def _digest(path: Path, arrays: Features) -> str:
    """SHA-256 of the file's name, which tells what was measured, and of its arrays."""
    digest = hashlib.sha256(path.name.encode())
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
