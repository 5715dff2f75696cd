"""From a listing of images of any sizes and kinds (Items) to a Source of one shape, resident or streamed."""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genjax.data.decode import Header, Unreadable, conversions, convert, describe
from genjax.data.source import Request, Source, aligned, refuse
from genjax.errors import InputError, printable

if TYPE_CHECKING:
    from PIL import Image

PROBED = 256  # images looked at, evenly spread, to choose a shape: their headers only
BLOCK = 256  # images decoded by one thread at a time
PROGRESS_SECONDS = 10.0
SHOWN = 3  # bad files named in a message


class Items(NamedTuple):
    """What a reader found: images not yet brought to one shape."""

    name: str  # "zip cats_64.zip, train"
    size: int
    open: Callable[[int], "Image.Image"]  # header read, pixels not yet; raises Unreadable; safe to call from threads
    title: Callable[[int], str]  # what messages call it
    label: Callable[[int], int] | None  # asked for only with its image: reading it may cost as much
    num_labels: int
    digest: str  # of the content: names, sizes, or the bytes themselves
    pixels: np.ndarray | None = None  # uint8 [size, H, W, C] where the images lie in memory in one shape already


def build(items: Items, request: Request) -> Source:
    """Choose the shape, then decode everything now (resident) or on demand (streamed). Raises InputError."""
    if items.size == 0:
        raise refuse(request, "holds no images", "give a set with at least one")
    failures: dict[int, str] = {}
    headers = probe(items, request, failures)
    shape = choose_shape(headers, request)
    resident = items.size * int(np.prod(shape)) <= request.resident_mb * 2**20
    if items.pixels is not None and items.pixels.shape[1:] == shape:
        images, kept = items.pixels, None
    elif resident:
        images, kept = decode_all(items, shape, request)
    else:
        say_converted(Counter(conversions(header, shape) for header in headers), "looked at need converting", request)
        return describe_source(items, request, items.size, shape, on_demand(items, shape, request, failures), None)

    arrays = {"images": images}
    if items.label is not None:
        arrays["labels"] = np.fromiter(map(items.label, range(items.size) if kept is None else kept), np.int32, len(images))

    def read(index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in arrays.items()}

    return describe_source(items, request, len(images), shape, read, arrays if resident else None)


def describe_source(
    items: Items,
    request: Request,
    size: int,
    shape: tuple[int, int, int],
    read: Callable[[int], dict[str, np.ndarray]],
    arrays: dict[str, np.ndarray] | None,
) -> Source:
    """A Source with its name for a person and its fingerprint."""
    height, width, channels = shape
    count = f"{size} image{'s' * (size != 1)} of {height}x{width}x{channels}"
    labelled = f", {items.num_labels} label{'s' * (items.num_labels != 1)}" if items.num_labels else ""
    fingerprint = hashlib.sha256(f"{size} {shape} {request.crop} {items.num_labels} {items.digest}".encode()).hexdigest()
    name = f"{items.name}: {count}{labelled}{', streamed' * (arrays is None)}"
    return Source(name, size, shape, items.num_labels, fingerprint, read, arrays)


def probe(items: Items, request: Request, failures: dict[int, str]) -> list[Header]:
    """Headers of up to PROBED images, evenly spread because a sorted listing has like images side by side.

    Adds what cannot be opened to `failures`. Raises InputError when that is all.
    """
    count = 1 if items.pixels is not None else PROBED
    headers = []
    for index in spread(items.size, count):
        try:
            headers.append(describe(items.open(index)))
        except Unreadable as error:
            failures[index] = str(error)
    if not headers:
        raise too_many(items, request, failures)
    return headers


def spread(size: int, count: int) -> list[int]:
    """Up to `count` places from the first of `size` to the last, evenly."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64)).tolist()


def choose_shape(headers: list[Header], request: Request) -> tuple[int, int, int]:
    """Height, width, channels: as asked, or as most of the probed images have them."""
    channels = request.channels
    if channels is None:
        channels = 1 if all(header.grey for header in headers) else 3
    if request.resolution is not None:
        return (*request.resolution, channels)
    sizes = Counter(header.size for header in headers)
    (height, width), votes = min(sizes.items(), key=lambda item: (-item[1], item[0]))
    if len(sizes) > 1 and request.crop == "whole":
        wrong = f"images of {len(sizes)} sizes ({votes} of {len(headers)} looked at are {height}x{width})"
        raise refuse(request, wrong, "whole images are compared: make them of one size first")
    if len(sizes) > 1:
        request.say(
            f"data: images of {len(sizes)} sizes, all become the most common, {height}x{width} "
            f"({votes} of {len(headers)} looked at); --resolution sets another"
        )
    return height, width, channels


def say_converted(converted: Counter[tuple[str, ...]], verb: str, request: Request) -> None:
    """One line that sums up the conversions. converted: how many images underwent each list of them."""
    each = Counter()
    for words, count in converted.items():
        each.update(dict.fromkeys(words, count))
    if each:
        changed = sum(count for words, count in converted.items() if words)
        summary = ", ".join(f"{count} {words}" for words, count in each.most_common())
        request.say(f"data: {changed} of {converted.total()} images {verb}: {summary}")


def decode_all(items: Items, shape: tuple[int, int, int], request: Request) -> tuple[np.ndarray, np.ndarray | None]:
    """All images in one array, and the indices of those that could be read (None: all). Raises InputError past max_bad."""
    images = aligned((items.size, *shape))  # the only copy: threads decode straight into it
    failures: dict[int, str] = {}
    converted: Counter[tuple[str, ...]] = Counter()
    lock = threading.Lock()

    def decode_block(start: int) -> None:
        conversions_of_block = []
        for index in range(start, min(start + BLOCK, items.size)):
            try:
                images[index], done = convert(items.open(index), shape, request.crop)
                conversions_of_block.append(done)
            except Unreadable as error:
                failures[index] = str(error)
        with lock:
            converted.update(conversions_of_block)

    told = time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for done, _ in enumerate(pool.map(decode_block, range(0, items.size, BLOCK)), start=1):
                refuse_if_too_many(items, request, failures)
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    request.say(f"data: read {min(done * BLOCK, items.size)} of {items.size} images")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    refuse_if_too_many(items, request, failures)
    say_converted(converted, "converted", request)
    if not failures:
        return images, None
    request.say(f"data: {len(failures)} of {items.size} images cannot be read and are left out: {listing(items, failures)}")
    kept = np.setdiff1d(np.arange(items.size), list(failures))
    for index, original in enumerate(kept):  # closes the gaps in place
        if index != original:
            images[index] = images[original]
    return images[: len(kept)], kept


def on_demand(items: Items, shape: tuple[int, int, int], request: Request, failures: dict[int, str]) -> Callable[[int], dict]:
    """Decode when read. In place of an image that cannot be read comes the next that can, so batches keep their size."""
    lock = threading.Lock()
    refuse_if_too_many(items, request, failures)
    for index in failures:
        request.say(f"data: {listing(items, {index: failures[index]})} cannot be read; the next image takes its place")

    def read(index: int) -> dict[str, np.ndarray]:
        for candidate in range(index, index + items.size):
            candidate %= items.size
            if candidate in failures:
                continue
            try:
                images, _ = convert(items.open(candidate), shape, request.crop)
            except Unreadable as error:
                with lock:
                    known = candidate in failures
                    failures[candidate] = str(error)
                    refuse_if_too_many(items, request, failures)
                if not known:
                    one = {candidate: str(error)}
                    request.say(f"data: {listing(items, one)} cannot be read; the next image takes its place")
                continue
            if items.label is None:
                return {"images": images}
            return {"images": images, "labels": np.asarray(items.label(candidate), np.int32)}
        raise too_many(items, request, failures)

    return read


def refuse_if_too_many(items: Items, request: Request, failures: dict[int, str]) -> None:
    if len(failures) > request.max_bad * items.size or len(failures) == items.size:
        raise too_many(items, request, failures)


def too_many(items: Items, request: Request, failures: dict[int, str]) -> InputError:
    wrong = f"{len(failures)} of {items.size} images cannot be read: {listing(items, failures)}"
    return refuse(request, wrong, f"mend or remove them, or raise --max-bad {request.max_bad:g}")


def listing(items: Items, failures: dict[int, str]) -> str:
    """The first few failures by name and reason."""
    first = sorted(failures.copy().items())[:SHOWN]
    text = ", ".join(f"{printable(items.title(index))} ({why})" for index, why in first)
    return text + (f" and {len(failures) - SHOWN} more" if len(failures) > SHOWN else "")
