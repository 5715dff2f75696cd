"""From a listing of images of any sizes and kinds (Items) to a Source of one shape, resident or streamed."""

import contextlib
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genjax.data.source import Request, Source, aligned, refuse
from genjax.errors import InputError, printable
from genjax.files.decode import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    WIDE,
    Header,
    Unreadable,
    conversions,
    convert,
    describe,
)

if TYPE_CHECKING:
    from PIL import Image

PROBED = 256  # images looked at, evenly spread, to choose a shape: their headers only
BLOCK = 256  # images decoded by one thread at a time
PROGRESS_SECONDS = 10.0
SHOWN = 3  # bad files named in a message
REASONS = 8  # for leaving files out, in the summary line
NEGLIGIBLE = 1000  # so many requests together are less than the budget
SAMPLED = 16  # images of a streamed set that are decoded to look for values that are nearly black
DARK = 64  # of 255: 16-bit pictures that never reach it hold 14 bits or fewer


class Items(NamedTuple):
    """What a reader found: images not yet brought to one shape."""

    name: str  # "zip cats_64.zip, train"
    size: int
    open: Callable[
        [int], "Image.Image"
    ]  # header read, pixels not yet; raises Unreadable; safe to call from threads
    title: Callable[[int], str]  # what messages call it
    label: Callable[[int], int] | None  # asked for only with its image: reading it may cost as much
    num_labels: int
    digest: Callable[
        [], str
    ]  # of the content; called once the images are read, which may have computed a part of it
    earlier: Callable[[], str] | None = (
        None  # the digest as version 0.1.0 computed it, where that may differ
    )
    pixels: np.ndarray | None = (
        None  # uint8 [size, H, W, C] where the images lie in memory in one shape already
    )
    classes: tuple[str, ...] = ()  # names of the labels, where they have any
    bytes: Callable[[int], int] | None = None  # of the encoded image
    files: "Files | None" = None  # where the images are files


class Files(NamedTuple):
    """How many files a folder or zip holds, and why some of them are no images of the set."""

    found: int
    left_out: Counter[str]  # number of files by reason


class Budget:
    """A quantity that threads share: who asks for more than is free waits, and any single request is granted at last."""

    def __init__(self, total: int):
        self.total = self.free = total
        self.changed = threading.Condition()

    def hold(self, amount: int) -> AbstractContextManager[None]:
        """A context in which `amount` is taken; what is negligible is not counted, since that costs more than it saves."""
        return (
            contextlib.nullcontext()
            if amount * NEGLIGIBLE < self.total
            else self._hold(min(amount, self.total))
        )

    @contextlib.contextmanager
    def _hold(self, amount: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: self.free >= amount)
            self.free -= amount
        try:
            yield
        finally:
            with self.changed:
                self.free += amount
                self.changed.notify_all()


ENCODED, DECODED = (
    Budget(MAX_FILE_BYTES),
    Budget(MAX_PIXELS),
)  # what all threads together have in memory


def build(items: Items, request: Request) -> Source:
    """Choose the shape, then decode everything now (resident) or on demand (streamed). Raises InputError."""
    if items.size == 0:
        raise refuse(request, "holds no images", "give a set with at least one")
    failures: dict[int, str] = {}
    headers = probe(items, request, failures)
    shape = choose_shape(headers, request)
    if request.crop == "own" and items.pixels is None:
        shape = (0, 0, shape[2])
    resident = 0 not in shape and items.size * int(np.prod(shape)) <= request.resident_bytes
    if items.pixels is not None and items.pixels.shape[1:] == shape:
        images, kept = items.pixels, None
        say_dark({False: int(images.max())}, request)
    elif resident:
        images, kept = decode_all(items, shape, request)
    else:
        say_converted(
            Counter(conversions(header, shape) for header in headers),
            "looked at need converting",
            request,
        )
        read = on_demand(items, shape, request, failures)
        say_dark(sampled_levels(items, shape, request), request)
        say_files(items, items.size - len(failures), request)
        return describe_source(items, request, items.size, shape, read, None)._replace(
            label=items.label
        )

    say_files(items, len(images), request)
    arrays = {"images": images}
    if items.label is not None:
        arrays["labels"] = np.fromiter(
            map(items.label, range(items.size) if kept is None else kept), np.int32, len(images)
        )

    def read(index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in arrays.items()}

    return describe_source(items, request, len(images), shape, read, arrays if resident else None)


def decode(
    items: Items, index: int, shape: tuple[int, int, int], request: Request
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One image as `convert` gives it, within what all threads together may hold. Raises Unreadable."""
    with ENCODED.hold(items.bytes(index) if items.bytes else 0):
        image = items.open(index)
        with DECODED.hold(image.width * image.height):
            return convert(image, shape, request.crop)


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
    form = (
        f"{height}x{width}x{channels}"
        if height
        else f"their own sizes, {channels} channel{'s' * (channels != 1)}"
    )
    count = f"{size} image{'s' * (size != 1)} of {form}"
    labelled = (
        f", {items.num_labels} label{'s' * (items.num_labels != 1)}" if items.num_labels else ""
    )

    def fingerprint(digest: str) -> str:
        return hashlib.sha256(
            f"{size} {shape} {request.crop} {items.num_labels} {digest}".encode()
        ).hexdigest()

    return Source(
        name=f"{items.name}: {count}{labelled}{', streamed' * (arrays is None)}",
        size=size,
        shape=shape,
        num_labels=items.num_labels,
        fingerprint=fingerprint(items.digest()),
        read=read,
        arrays=arrays,
        classes=items.classes,
        earlier=fingerprint(items.earlier()) if items.earlier else "",
    )


def probe(items: Items, request: Request, failures: dict[int, str]) -> list[Header]:
    """Headers of up to PROBED images, evenly spread because a sorted listing has like images side by side.

    Adds what cannot be opened to `failures`. Raises InputError when that is all.
    """
    headers, told = [], time.monotonic()
    probed = spread(items.size, 1 if items.pixels is not None else PROBED)
    for done, index in enumerate(probed):
        try:
            headers.append(describe(items.open(index)))
        except Unreadable as error:
            failures[index] = str(error)
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            refuse_if_too_many(items, request, failures)
            request.say(f"data: looked at {done + 1} of {len(probed)} images")
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
    if len(sizes) > 1 and request.crop != "own":
        request.say(
            f"data: images of {len(sizes)} sizes, all become the most common, {height}x{width} "
            f"({votes} of {len(headers)} looked at)"
            + "; --resolution sets another"
            * ("--resolution" in request.options)
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


def say_files(items: Items, used: int, request: Request) -> None:
    """The summary line of a set of files: how many were found and used, and why the others are left out."""
    if items.files is None:
        return
    left_out = items.files.left_out.copy()
    left_out["unreadable"] += items.size - used
    request.say(f"data: {summary(Files(items.files.found, left_out), used)}")


def summary(files: Files, used: int) -> str:
    """E.g. "50 files found, 5 used; left out: 45 .heic (needs pip install ...)"."""
    line = f"{files.found} file{'s' * (files.found != 1)} found, {used} used"
    reasons = [
        (count, why)
        for why, count in sorted(files.left_out.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]
    words = [f"{count} {why}" for count, why in reasons[:REASONS]]
    if len(reasons) > REASONS:
        words.append(f"{sum(count for count, _ in reasons[REASONS:])} of other kinds")
    return line + (f"; left out: {', '.join(words)}" if words else "")


def say_dark(levels: dict[bool, int], request: Request) -> None:
    """A line about values that leave most of their range unused. levels: the largest of 255, by whether of 16-bit pictures."""
    if 0 < levels.get(True, 0) < DARK:
        bits = int(np.ceil(np.log2((levels[True] + 1) * 257)))
        request.say(
            f"data: the 16-bit pictures are nearly black: no value needs more than {bits} bits; rescale them to 0..65535"
        )
    if levels.get(False) == 1:
        request.say(
            "data: the 8-bit pictures are nearly black: their values are 0 and 1 only, as of masks; multiply them by 255"
        )


def sampled_levels(items: Items, shape: tuple[int, int, int], request: Request) -> dict[bool, int]:
    """For `say_dark`, of a few images of a streamed set."""
    levels: dict[bool, int] = {}
    for index in spread(items.size, SAMPLED):
        with contextlib.suppress(Unreadable):  # reading it for training will say so
            pixels, done = decode(items, index, shape, request)
            levels[WIDE in done] = max(levels.get(WIDE in done, 0), level(pixels))
    return levels


def level(pixels: np.ndarray) -> int:
    """The largest value of an image, its alpha left aside."""
    return int((pixels if pixels.shape[2] != 4 else pixels[..., :3]).max())


def decode_all(
    items: Items, shape: tuple[int, int, int], request: Request
) -> tuple[np.ndarray, np.ndarray | None]:
    """All images in one array, and the indices of those that could be read (None: all). Raises InputError past max_bad."""
    images = aligned((items.size, *shape))  # the only copy: threads decode straight into it
    failures: dict[int, str] = {}
    converted: Counter[tuple[str, ...]] = Counter()
    levels: dict[bool, int] = {}
    lock = threading.Lock()
    told, count = time.monotonic(), 0

    def decode_block(start: int) -> None:
        nonlocal count
        words, largest = [], {}
        for index in range(start, min(start + BLOCK, items.size)):
            try:
                images[index], done = decode(items, index, shape, request)
                words.append(done)
                largest[WIDE in done] = max(largest.get(WIDE in done, 0), level(images[index]))
            except Unreadable as error:
                failures[index] = str(error)
            with lock:
                count += 1
        with lock:
            converted.update(words)
            levels.update(
                {wide: max(value, levels.get(wide, 0)) for wide, value in largest.items()}
            )

    def report(done: int) -> None:
        nonlocal told
        refuse_if_too_many(items, request, failures)
        told = time.monotonic()
        request.say(f"data: read {done} of {items.size} images")

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            blocks = [pool.submit(decode_block, start) for start in range(0, items.size, BLOCK)]
            for done, block in enumerate(blocks, start=1):
                while not wait([block], timeout=max(PROGRESS_SECONDS, 0.1)).done:
                    report(count)
                block.result()
                refuse_if_too_many(items, request, failures)
                if time.monotonic() - told > PROGRESS_SECONDS:
                    report(min(done * BLOCK, items.size))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    refuse_if_too_many(items, request, failures)
    say_converted(converted, "converted", request)
    say_dark(levels, request)
    if not failures:
        return images, None
    request.say(
        f"data: {len(failures)} of {items.size} images cannot be read and are left out: {listing(items, failures)}"
    )
    kept = np.setdiff1d(np.arange(items.size), list(failures))
    for index, original in enumerate(kept):  # closes the gaps in place
        if index != original:
            images[index] = images[original]
    return images[: len(kept)], kept


def on_demand(
    items: Items, shape: tuple[int, int, int], request: Request, failures: dict[int, str]
) -> Callable[[int], dict]:
    """Decode when read. In place of an image that cannot be read comes the next that can, so batches keep their size."""
    lock = threading.Lock()
    refuse_if_too_many(items, request, failures)
    for index in failures:
        request.say(
            f"data: {listing(items, {index: failures[index]})} cannot be read; the next image takes its place"
        )

    def read(index: int) -> dict[str, np.ndarray]:
        for candidate in range(index, index + items.size):
            candidate %= items.size
            if candidate in failures:
                continue
            try:
                images, _ = decode(items, candidate, shape, request)
            except Unreadable as error:
                with lock:
                    known = candidate in failures
                    failures[candidate] = str(error)
                    refuse_if_too_many(items, request, failures)
                if not known:
                    one = {candidate: str(error)}
                    request.say(
                        f"data: {listing(items, one)} cannot be read; the next image takes its place"
                    )
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
    leave_out = f", or raise --max-bad {request.max_bad:g}" * ("--max-bad" in request.options)
    return refuse(request, wrong, f"mend or remove them{leave_out}")


def listing(items: Items, failures: dict[int, str]) -> str:
    """The first few failures by name and reason."""
    first = sorted(failures.copy().items())[:SHOWN]
    text = ", ".join(f"{printable(items.title(index))} ({why})" for index, why in first)
    return text + (f" and {len(failures) - SHOWN} more" if len(failures) > SHOWN else "")
