"""What a data set is to the rest of the library (Source), and the words in which one is refused."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genjax.errors import InputError, printable


class Source(NamedTuple):
    """A set of images of one shape, in a fixed order."""

    name: str  # for a person: "idx folder mnist, train: 60000 images of 28x28x1, 10 labels"
    size: int  # number of images
    shape: tuple[
        int, int, int
    ]  # height, width, channels; height and width 0 where each image has its own (`load`'s own_sizes)
    num_labels: int  # 0 when the set has none
    fingerprint: str  # deterministic id of the content; a run refuses to resume on another
    read: Callable[
        [int], dict[str, np.ndarray]
    ]  # one item: "images" uint8 [H, W, C], "labels" int32 [] if any
    arrays: (
        dict[str, np.ndarray] | None
    )  # resident: "images" uint8 [N, H, W, C], "labels" int32 [N]; None if streamed
    label: Callable[[int], int] | None = (
        None  # of one image, without decoding it; of a streamed set with labels
    )
    partner: "Source | None" = None  # the other side of two sets that are not paired: its names end in _b, its order is its own
    classes: tuple[str, ...] = ()  # names of the labels in their order, where they have any
    earlier: str = ""  # the fingerprint as version 0.1.0 computed it, where that may differ: runs of then go on


class Request(NamedTuple):
    """The checked arguments of `load`, as the readers of every format get them."""

    spec: str
    option: str  # the command-line option that the messages name
    split: str
    resolution: tuple[int, int] | None  # height, width
    channels: int | None
    crop: str
    max_bad: float  # share of the set
    resident_mb: float
    say: Callable[[str], None]
    options: tuple[
        str, ...
    ]  # those of --resolution, --max-bad, --resident-mb that the command has, for messages to name

    @property
    def resident_bytes(self) -> float:
        return self.resident_mb * 2**20


SECOND = "_b"  # ends the names of what is from the second of two sets


def unpaired(first: Source, second: Source) -> Source:
    """Two sets of images of one shape as one source, each in an order of its own. A batch has as many images of each."""
    arrays = None
    if first.arrays is not None and second.arrays is not None:
        arrays = {**first.arrays, **with_suffix(second.arrays)}
    return Source(
        name=f"{first.name}; {second.name}",
        size=first.size,
        shape=first.shape,
        num_labels=first.num_labels,
        fingerprint=f"{first.fingerprint} {second.fingerprint}",
        read=first.read,
        arrays=arrays,
        partner=second,
        classes=first.classes,
        earlier=f"{first.earlier or first.fingerprint} {second.earlier or second.fingerprint}",
    )


def with_suffix(arrays: dict) -> dict:
    return {name + SECOND: array for name, array in arrays.items()}


def mapped(source: Source, name: str, change: Callable[[int, np.ndarray], np.ndarray]) -> Source:
    """The source with its images through `change`: (index, uint8 [H, W, C]) -> the same shape, a pure function, `name`d for messages."""

    def read(index: int) -> dict[str, np.ndarray]:
        item = source.read(index)
        return {**item, "images": change(index, item["images"])}

    arrays = source.arrays
    if arrays is not None:
        images = aligned(arrays["images"].shape)
        for index, image in enumerate(arrays["images"]):
            images[index] = change(index, image)
        arrays = {**arrays, "images": images}
        read = lambda index: {key: array[index] for key, array in arrays.items()}
    return source._replace(
        name=f"{source.name}, {name}",
        fingerprint=f"{source.fingerprint} {name}",
        earlier=f"{source.earlier or source.fingerprint} {name}",
        read=read,
        arrays=arrays,
    )


ALIGNMENT = 64  # bytes: what lets a CPU device use the host's memory as it is, so that a resident set is not held twice


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised uint8 array whose memory JAX takes over without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def refuse(request: Request, wrong: str, instead: str) -> InputError:
    """The one-line error for a set that cannot be used: the option, the value, what is wrong, what would work."""
    return InputError(f"{request.option} '{printable(request.spec)}': {wrong}; {instead}")
