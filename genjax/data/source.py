"""The interface of a data set (Source), and the error for an unusable one."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from genjax.data.preparation import SECOND, prepare_sets
from genjax.errors import ConfigError, printable

Value = TypeVar("Value")


class Source(NamedTuple):
    """A set of images of one shape, in a fixed order, with its augmentation.

    `read` and `arrays` hold the images as stored, of `full_shape`. `prepare` augments
    and scales a batch of them on the device; its images have `shape`.
    """

    # For a person: "idx folder mnist, train: 60000 images of 28x28x1, 10 labels".
    name: str
    size: int  # number of images
    # Height, width and channels of the stored images. Height and width are 0 where each
    # image keeps its own size (`own_sizes` of `load`).
    full_shape: tuple[int, int, int]
    num_labels: int  # 0 for a set without labels
    # Deterministic id of the content; a run refuses to resume on another.
    fingerprint: str
    # One item by index: "images" uint8 [H, W, C], "labels" int32 [] if the set has
    # labels.
    read: Callable[[int], dict[str, np.ndarray]]
    # A resident set: "images" uint8 [N, H, W, C], "labels" int32 [N]. None: streamed.
    arrays: dict[str, np.ndarray] | None
    # Streamed sets with labels: the label of one image, without decoding the image.
    label: Callable[[int], int] | None = None
    # The second of two unpaired sets. Its names in a batch end in SECOND; it has its
    # own order.
    partner: "Source | None" = None
    classes: tuple[str, ...] = ()  # names of the labels in order; () if they have none
    # The fingerprint as version 0.1.0 computed it, where that may differ: its runs can
    # resume.
    earlier: str = ""
    flip: bool = False  # mirror each image left to right with probability 1/2
    random_crop: tuple[int, int] | None = None  # height, width cut out at a random place

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels after the random crop: what a model sees."""
        return (*(self.random_crop or self.full_shape[:2]), self.full_shape[2])

    def prepare(self, batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """Augment and scale a batch of this source; usable inside `jit`.

        The same as `data.prepare` with this source's `flip` and `random_crop`, bit for
        bit. The images of a partner are augmented with the partner's.

        Args:
            batch: names and arrays that `take` or `stream` gave: "images" uint8 of
                `full_shape` behind the batch axis, "labels" int32 [B]; those of a
                partner end in SECOND
            key: PRNG key

        Returns:
            the same names: images float32 [B, *shape] in [-1, 1], labels unchanged
        """
        sets = (self, self.partner or self)
        return prepare_sets(batch, key, [(each.flip, each.random_crop) for each in sets])


class Request(NamedTuple):
    """The checked arguments of `load`, as the readers of every format get them."""

    spec: str
    field: str  # the name that errors give to `spec`
    split: str
    resolution: tuple[int, int] | None  # height, width
    channels: int | None
    crop: str
    max_bad: float  # share of the images
    resident_mb: float
    say: Callable[[str], None]
    adjustable: tuple[str, ...]  # arguments of `load` that messages may advise to change

    @property
    def resident_bytes(self) -> float:
        """The most bytes that a resident set may have."""
        return self.resident_mb * 2**20


def unpaired(first: Source, second: Source) -> Source:
    """Join two sets of images of one shape, each in its own order, to one source.

    A batch has equally many images of each. Labels and their names are those of
    `first`.
    """
    arrays = None
    if first.arrays is not None and second.arrays is not None:
        arrays = {**first.arrays, **with_suffix(second.arrays)}
    return Source(
        name=f"{first.name}; {second.name}",
        size=first.size,
        full_shape=first.full_shape,
        num_labels=first.num_labels,
        fingerprint=f"{first.fingerprint} {second.fingerprint}",
        read=first.read,
        arrays=arrays,
        partner=second,
        classes=first.classes,
        earlier=f"{first.earlier or first.fingerprint} {second.earlier or second.fingerprint}",
        flip=first.flip,
        random_crop=first.random_crop,
    )


def with_suffix(arrays: Mapping[str, Value]) -> dict[str, Value]:
    """Add SECOND to each name: arrays of the second of two sets."""
    return {name + SECOND: array for name, array in arrays.items()}


def mapped(source: Source, name: str, change: Callable[[int, np.ndarray], np.ndarray]) -> Source:
    """Apply a function to each stored image of a source.

    Args:
        source: the set; its augmentation applies to the changed images
        name: what `change` does, for messages and the fingerprint
        change: pure function (index, uint8 [H, W, C]) -> uint8 [H, W, C]
    """

    def read(index: int) -> dict[str, np.ndarray]:
        item = source.read(index)
        return {**item, "images": change(index, item["images"])}

    arrays = source.arrays
    if arrays is not None:
        images = aligned(arrays["images"].shape)
        for index, image in enumerate(arrays["images"]):
            images[index] = change(index, image)
        resident = {**arrays, "images": images}
        arrays, read = (
            resident,
            lambda index: {key: array[index] for key, array in resident.items()},
        )
    return source._replace(
        name=f"{source.name}, {name}",
        fingerprint=f"{source.fingerprint} {name}",
        earlier=f"{source.earlier or source.fingerprint} {name}",
        read=read,
        arrays=arrays,
    )


# In bytes: a CPU device uses host memory in place if it is aligned so, and a resident
# set is not held twice.
ALIGNMENT = 64


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised uint8 array whose memory JAX takes over without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def refuse(request: Request, wrong: str, instead: str) -> ConfigError:
    """The error for an unusable set: what is wrong with it, and what would work."""
    # 198 characters and two quotes are as many as ConfigError shows of a value.
    return ConfigError(request.field, f"'{printable(request.spec, 198)}'", f"{wrong}; {instead}")
