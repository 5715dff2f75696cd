"""From images of any size and kind (Items) to a Source, resident or streamed."""

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

PROBED = 256  # number of images, evenly spread, whose headers are read to choose a shape
BLOCK = 256  # number of images that one thread decodes per task
PROGRESS_SECONDS = 10.0  # between two lines that report progress
SHOWN = 3  # number of unreadable files named in a message
REASONS = 8  # number of reasons for leaving files out in the summary line
NEGLIGIBLE = 1000  # a request for less than 1/NEGLIGIBLE of a budget is not counted
SAMPLED = 16  # number of images of a streamed set decoded to find nearly black ones
DARK = 64  # of 255: 16-bit pictures that never reach it hold 14 bits or fewer


class Items(NamedTuple):
    """The images of a set as a reader lists them, of any shape. Images go by index."""

    name: str  # "zip cats_64.zip, train"
    size: int  # number of images
    # Opens an image: its header is read, its pixels are not. Raises Unreadable.
    # Thread-safe.
    open: Callable[[int], "Image.Image"]
    title: Callable[[int], str]  # the image's name in messages
    label: Callable[[int], int] | None  # may cost as much as reading the image
    num_labels: int
    # Digest of the content. Called after the images are read, which may have computed
    # part of it.
    digest: Callable[[], str]
    # The digest as version 0.1.0 computed it, where that may differ.
    earlier: Callable[[], str] | None = None
    pixels: np.ndarray | None = None  # uint8 [size, H, W, C] of images that are in memory
    classes: tuple[str, ...] = ()  # names of the labels in order; () if they have none
    bytes: Callable[[int], int] | None = None  # size of the encoded image
    files: "Files | None" = None  # counts, where the images are files


class Files(NamedTuple):
    """Number of files in a folder or zip, and of those that are left out."""

    found: int  # all files
    left_out: Counter[str]  # number of files by reason


class Budget:
    """A quantity that threads share.

    A thread that requests more than is free waits. A request for more than the total is
    granted when nobody else holds anything.
    """

    def __init__(self, total: int):
        """Start with all of `total` free."""
        self.total = self.free = total
        self.changed = threading.Condition()

    def hold(self, amount: int) -> AbstractContextManager[None]:
        """A context that holds `amount`; negligible amounts are not counted."""
        if amount * NEGLIGIBLE < self.total:
            return contextlib.nullcontext()
        return self._hold(min(amount, self.total))

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


# Bytes of encoded images and decoded pixels that all threads together hold in memory.
ENCODED, DECODED = Budget(MAX_FILE_BYTES), Budget(MAX_PIXELS)


def build(items: Items, request: Request) -> Source:
    """Choose the shape, then decode all images now (resident) or on demand (streamed).

    Raises ConfigError: no images, images of several sizes with crop "whole", or more
    unreadable images than `max_bad`.
    """
    if items.size == 0:
        raise refuse(request, "holds no images", "give a set with at least one")
    failures: dict[int, str] = {}
    headers = probe(items, request, failures)
    shape = choose_shape(headers, request)
    if request.crop == "own" and items.pixels is None:
        shape = (0, 0, shape[2])
    resident = 0 not in shape and items.size * int(np.prod(shape)) <= request.resident_bytes
    if items.pixels is not None and items.pixels.shape[1:] == shape:
        images, readable = items.pixels, None
        say_dark({False: int(images.max())}, request)
    elif resident:
        images, readable = decode_all(items, shape, request)
    else:
        needed = Counter(conversions(header, shape) for header in headers)
        say_converted(needed, "looked at need converting", request)
        read = on_demand(items, shape, request, failures)
        say_dark(sampled_levels(items, shape, request), request)
        say_files(items, items.size - len(failures), request)
        source = describe_source(items, request, items.size, shape, read, None)
        return source._replace(label=items.label)

    say_files(items, len(images), request)
    arrays = {"images": images}
    if items.label is not None:
        indices = range(items.size) if readable is None else readable
        arrays["labels"] = np.fromiter(map(items.label, indices), np.int32, len(images))

    def read(index: int, /) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in arrays.items()}

    return describe_source(items, request, len(images), shape, read, arrays if resident else None)


def decode(
    items: Items, index: int, shape: tuple[int, int, int], request: Request
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode an image with `convert`, within the budgets of all threads.

    Returns the pixels and the conversions in words. Raises Unreadable.
    """
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
    """The Source of these images, with its name and fingerprint.

    Args:
        items: the images as listed
        request: arguments of `load`
        size: number of readable images
        shape: of the stored images; height and width 0 where each keeps its own size
        read: returns an item by index
        arrays: all items of a resident set; None: streamed
    """
    height, width, channels = shape
    form = f"their own sizes, {plural(channels, 'channel')}"
    if height:
        form = f"{height}x{width}x{channels}"
    name = f"{items.name}: {plural(size, 'image')} of {form}"
    if items.num_labels:
        name += f", {plural(items.num_labels, 'label')}"
    if arrays is None:
        name += ", streamed"

    def fingerprint(digest: str) -> str:
        text = f"{size} {shape} {request.crop} {items.num_labels} {digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    return Source(
        name=name,
        size=size,
        full_shape=shape,
        num_labels=items.num_labels,
        fingerprint=fingerprint(items.digest()),
        read=read,
        arrays=arrays,
        classes=items.classes,
        earlier=fingerprint(items.earlier()) if items.earlier else "",
    )


def plural(count: int, noun: str) -> str:
    """The count and the noun, with an s unless the count is 1."""
    return f"{count} {noun}{'s' * (count != 1)}"


def probe(items: Items, request: Request, failures: dict[int, str]) -> list[Header]:
    """Headers of up to PROBED images, evenly spread: neighbours in a listing are alike.

    Adds images that cannot be opened to `failures`.
    Raises ConfigError: no image can be opened, or more than `max_bad` cannot.
    """
    headers, reported = [], time.monotonic()
    probed = spread(items.size, 1 if items.pixels is not None else PROBED)
    for done, index in enumerate(probed):
        try:
            headers.append(describe(items.open(index)))
        except Unreadable as error:
            failures[index] = str(error)
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            refuse_if_too_many(items, request, failures)
            request.say(f"data: looked at {done + 1} of {len(probed)} images")
    if not headers:
        raise too_many(items, request, failures)
    return headers


def spread(size: int, count: int) -> list[int]:
    """Up to `count` indices, evenly spread over 0..size - 1 with both ends."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64)).tolist()


def choose_shape(headers: list[Header], request: Request) -> tuple[int, int, int]:
    """Height, width, channels: as requested, else those of most probed images.

    Raises ConfigError: images of several sizes with crop "whole".
    """
    channels = request.channels
    if channels is None:
        channels = 1 if all(header.grey for header in headers) else 3
    if request.resolution is not None:
        return (*request.resolution, channels)
    sizes = Counter(header.size for header in headers)
    (height, width), votes = min(sizes.items(), key=lambda item: (-item[1], item[0]))
    if len(sizes) > 1 and request.crop == "whole":
        most = f"{votes} of {len(headers)} looked at are {height}x{width}"
        wrong = f"images of {len(sizes)} sizes ({most})"
        raise refuse(request, wrong, "whole images are compared: make them of one size first")
    if len(sizes) > 1 and request.crop != "own":
        advice = "; `resolution` sets another" * ("resolution" in request.adjustable)
        request.say(
            f"data: images of {len(sizes)} sizes, all become the most common, "
            f"{height}x{width} ({votes} of {len(headers)} looked at){advice}"
        )
    return height, width, channels


def say_converted(converted: Counter[tuple[str, ...]], verb: str, request: Request) -> None:
    """Say one line that sums up the conversions.

    converted: number of images by the tuple of their conversions.
    """
    each: Counter[str] = Counter()
    for words, count in converted.items():
        each.update(dict.fromkeys(words, count))
    if each:
        changed = sum(count for words, count in converted.items() if words)
        summary = ", ".join(f"{count} {words}" for words, count in each.most_common())
        request.say(f"data: {changed} of {converted.total()} images {verb}: {summary}")


def say_files(items: Items, used: int, request: Request) -> None:
    """Say how many files of a set are used, and why others are left out."""
    if items.files is None:
        return
    left_out = items.files.left_out.copy()
    left_out["unreadable"] += items.size - used
    request.say(f"data: {summary(Files(items.files.found, left_out), used)}")


def summary(files: Files, used: int) -> str:
    """Such as "50 files found, 5 used; left out: 45 .heic (needs pip install ...)"."""
    line = f"{plural(files.found, 'file')} found, {used} used"
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
    """Say a line about pictures that use a small part of their range of values.

    levels: the largest value in 0..255 of the 16-bit pictures (key True) and of the
    others.
    """
    if 0 < levels.get(True, 0) < DARK:
        bits = int(np.ceil(np.log2((levels[True] + 1) * 257)))
        request.say(
            "data: the 16-bit pictures are nearly black: no value needs more than "
            f"{bits} bits; rescale them to 0..65535"
        )
    if levels.get(False) == 1:
        request.say(
            "data: the 8-bit pictures are nearly black: their values are 0 and 1 only, "
            "as of masks; multiply them by 255"
        )


def sampled_levels(items: Items, shape: tuple[int, int, int], request: Request) -> dict[bool, int]:
    """Levels for `say_dark` from SAMPLED images of a streamed set."""
    levels: dict[bool, int] = {}
    for index in spread(items.size, SAMPLED):
        with contextlib.suppress(Unreadable):  # said when it is read for training
            pixels, done = decode(items, index, shape, request)
            levels[WIDE in done] = max(levels.get(WIDE in done, 0), level(pixels))
    return levels


def level(pixels: np.ndarray) -> int:
    """The largest value of an image without its alpha channel."""
    return int((pixels if pixels.shape[2] != 4 else pixels[..., :3]).max())


def decode_all(
    items: Items, shape: tuple[int, int, int], request: Request
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode all images into one array uint8 [n, *shape].

    Returns it and the indices of the readable images; None if that is all of them.
    Raises ConfigError: more unreadable images than `max_bad`.
    """
    images = aligned((items.size, *shape))  # the only copy: threads decode straight into it
    failures: dict[int, str] = {}
    converted: Counter[tuple[str, ...]] = Counter()
    levels: dict[bool, int] = {}
    lock = threading.Lock()
    reported, count = time.monotonic(), 0

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
            for wide, value in largest.items():
                levels[wide] = max(value, levels.get(wide, 0))

    def report(done: int) -> None:
        nonlocal reported
        refuse_if_too_many(items, request, failures)
        reported = time.monotonic()
        request.say(f"data: read {done} of {items.size} images")

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            blocks = [pool.submit(decode_block, start) for start in range(0, items.size, BLOCK)]
            for done, block in enumerate(blocks, start=1):
                while not wait([block], timeout=max(PROGRESS_SECONDS, 0.1)).done:
                    report(count)
                block.result()
                refuse_if_too_many(items, request, failures)
                if time.monotonic() - reported > PROGRESS_SECONDS:
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
        f"data: {len(failures)} of {items.size} images cannot be read and are left out: "
        f"{listing(items, failures)}"
    )
    readable = np.setdiff1d(np.arange(items.size), list(failures))
    for index, original in enumerate(readable):  # closes the gaps in place
        if index != original:
            images[index] = images[original]
    return images[: len(readable)], readable


def on_demand(
    items: Items, shape: tuple[int, int, int], request: Request, failures: dict[int, str]
) -> Callable[[int], dict[str, np.ndarray]]:
    """The `read` of a streamed set, which decodes an image when it is read.

    The next readable image takes the place of an unreadable one, so batches keep their
    size. Both this and `read` raise ConfigError: more unreadable images than `max_bad`.
    """
    lock = threading.Lock()
    refuse_if_too_many(items, request, failures)

    def say_replaced(index: int, why: str) -> None:
        name = listing(items, {index: why})
        request.say(f"data: {name} cannot be read; the next image takes its place")

    for index, why in failures.items():
        say_replaced(index, why)

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
                    say_replaced(candidate, str(error))
                continue
            if items.label is None:
                return {"images": images}
            return {"images": images, "labels": np.asarray(items.label(candidate), np.int32)}
        raise too_many(items, request, failures)

    return read


def refuse_if_too_many(items: Items, request: Request, failures: dict[int, str]) -> None:
    """Raise ConfigError if all images or more than `max_bad` are unreadable."""
    if len(failures) > request.max_bad * items.size or len(failures) == items.size:
        raise too_many(items, request, failures)


def too_many(items: Items, request: Request, failures: dict[int, str]) -> InputError:
    """The error for too many unreadable images, with the first of them."""
    wrong = f"{len(failures)} of {items.size} images cannot be read: {listing(items, failures)}"
    leave_out = f", or raise `max_bad` {request.max_bad:g}" * ("max_bad" in request.adjustable)
    return refuse(request, wrong, f"mend or remove them{leave_out}")


def listing(items: Items, failures: dict[int, str]) -> str:
    """The first few failures by name and reason."""
    first = sorted(failures.copy().items())[:SHOWN]
    text = ", ".join(f"{printable(items.title(index))} ({why})" for index, why in first)
    return text + (f" and {len(failures) - SHOWN} more" if len(failures) > SHOWN else "")
