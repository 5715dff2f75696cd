"""Sets stored as arrays: the embedded digits, .npz archives, folders of idx files.

What is read is bounded by the size of the file, and pickles are never loaded.
"""

import gzip
import hashlib
import importlib.util
import math
import os
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from genjax.data.items import PROGRESS_SECONDS, Items
from genjax.data.labels import MAX_LABELS
from genjax.data.source import ALIGNMENT, Request, aligned, refuse
from genjax.errors import InputError, printable, reason
from genjax.files.bounded import (
    CHUNK_BYTES,
    Malformed,
    Stream,
    fill,
    npy_header,
    open_member,
    open_regular,
    open_zip,
)
from genjax.files.decode import MAX_FILE_BYTES, Unreadable, from_array

IDX_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
DEFLATE_RATIO = 1032  # deflate cannot expand by more, so a larger claim is false
MAX_ARRAY_BYTES = 2**36
IMAGE_KEYS = {
    "train": ("images", "x_train", "train_images", "data", "x"),
    "test": ("x_test", "test_images"),
}
LABEL_KEYS = {
    "train": ("labels", "y_train", "train_labels", "y"),
    "test": ("y_test", "test_labels"),
}
CHANNELS = (1, 3, 4)


class Stored(NamedTuple):
    """uint8 images, uncompressed in a file and too large for memory."""

    path: str
    offset: int  # in bytes, of the first image
    shape: tuple[int, ...]


def read_digits(request: Request) -> Items:
    """The 1797 digits of 8x8 pixels from scikit-learn, 0..16 scaled to 0..255.

    Raises ConfigError: the split is not train.
    """
    only_train(request)
    table = digits_table()
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return from_pixels("digits", pixels, table[:, -1].astype(np.int32), request)


def digits_table() -> np.ndarray:
    """One row [65] per digit: 64 pixels in 0..16, and the class.

    Read from scikit-learn's file if it is in its usual place, since importing
    `sklearn.datasets` takes as long as everything else that a run imports.
    """
    package = importlib.util.find_spec("sklearn")
    if package and package.origin:
        path = os.path.join(os.path.dirname(package.origin), "datasets", "data", "digits.csv.gz")
        if os.path.isfile(path):
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return np.column_stack([digits.data, digits.target])


def read_idx(folder: str, request: Request) -> Items:
    """Items of a folder of idx files (MNIST's format), plain or gzipped.

    Raises ConfigError: the split has no images, or a file is damaged.
    """
    prefix = {"train": "train", "test": "t10k"}.get(request.split)
    if prefix is None:
        raise refuse(request, f"idx files have no split {request.split!r}", "use train or test")
    names = {match[2]: match.string for match in idx_names(folder) if match[1] == prefix}
    if "images" not in names:
        raise refuse(
            request,
            f"has no images for the split {request.split!r}",
            f"expected {prefix}-images-idx3-ubyte[.gz]",
        )
    pixels = read_idx_file(os.path.join(folder, names["images"]), 3, request)
    labels = None
    if "labels" in names:
        labels = read_idx_file(os.path.join(folder, names["labels"]), 1, request)
    name = f"idx folder {printable(os.path.basename(os.path.abspath(folder)))}, {request.split}"
    return to_items(name, pixels, labels, request)


def idx_names(folder: str) -> list[re.Match[str]]:
    """Matches of IDX_NAME in a folder; a plain file comes after its gzipped version."""
    return [
        match
        for name in sorted(os.listdir(folder), reverse=True)
        if (match := IDX_NAME.fullmatch(name))
    ]


def read_idx_file(path: str, dimensions: int, request: Request) -> np.ndarray | Stored:
    """The uint8 array of an idx file; Stored if it is too large for memory.

    The format is a magic number, big-endian sizes, and bytes (LeCun, "The MNIST
    database").
    Raises ConfigError: the file is damaged, of another type, or too large to be read.
    """
    zipped = path.endswith(".gz")
    name = printable(os.path.basename(path))
    try:
        with open_regular(path) as file, gzip.open(file) if zipped else file as stream:
            limit = os.fstat(file.fileno()).st_size * (DEFLATE_RATIO if zipped else 1)
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                expected = f"an idx file of {dimensions} dimensions of bytes"
                raise Malformed(f"is not {expected} (its magic number says so)")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            check_claim(shape, math.prod(shape), limit)
            if math.prod(shape) > in_memory(request):
                if zipped or dimensions < 3:
                    raise too_large(
                        name, math.prod(shape), "unpack it with gunzip: plain files stream", request
                    )
                check_length(math.prod(shape), limit - len(header), shape)
                return Stored(path, len(header), shape)
            return read_claimed(stream, np.dtype(np.uint8), shape).reshape(shape)
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, MemoryError, Malformed) as error:
        raise refuse(
            request, f"{name} {describe(error)}", "replace the file with an intact one"
        ) from None


def read_npz(path: str, request: Request) -> Items:
    """Items of the images and labels of an .npz archive.

    Raises ConfigError: the archive is damaged, or has no images of the split.
    """
    name = printable(os.path.basename(path))
    try:
        with open_zip(path) as archive:
            members = {
                member.filename.removesuffix(".npy"): member for member in archive.infolist()
            }
            if len(members) != len(archive.infolist()):
                raise Malformed("has two members of one name")
            # Opening compares names: one damaged in the directory alone would hide the
            # labels.
            for member in members.values():
                open_member(archive, member).close()
            key = choose_images(archive, members, request)
            pixels = read_member(path, archive, members[key], key, request)
            label_keys = [key for key in LABEL_KEYS.get(request.split, ()) if key in members]
            labels = None
            if label_keys:
                label_key = label_keys[0]
                labels = read_member(path, archive, members[label_key], label_key, request)
    except InputError:
        raise
    # A damaged archive raises anything from BadZipFile to zlib.error and
    # UnicodeDecodeError.
    except Exception as error:
        raise refuse(request, describe(error), "save it again with numpy.savez") from None
    if not isinstance(pixels, Stored):
        pixels = to_bytes(pixels, key, request)
    return to_items(f"npz {name}, {request.split}", pixels, labels, request)


def choose_images(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], request: Request
) -> str:
    """The name of the array that holds the images of the split.

    Raises ConfigError: there is none, or more than one could be it.
    """
    named = [key for key in IMAGE_KEYS.get(request.split, ()) if key in members]
    if named:
        return named[0]
    names = ", ".join(printable(key) for key in members) or "nothing"
    if request.split != "train":
        known = " or ".join(IMAGE_KEYS.get(request.split, ())) or "train or test as the split"
        raise refuse(
            request, f"has no split {request.split!r} (it holds {names})", f"name the array {known}"
        )
    image_like = []
    for key, member in members.items():
        with open_member(archive, member) as stream:
            shape, _, dtype = npy_header(stream)
        if dtype == np.uint8 and len(shape) in (3, 4):
            image_like.append(key)
    if len(image_like) != 1:
        raise refuse(
            request,
            f"holds {names}: which are the images?",
            "name the array 'images': uint8 [N, H, W, C] or [N, H, W]",
        )
    return image_like[0]


def read_member(
    path: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, key: str, request: Request
) -> np.ndarray | Stored:
    """One array of an .npz; Stored if it is too large for memory.

    numpy.load would allocate what the header claims before it reads anything.
    Raises Malformed: the member is damaged. Raises ConfigError: it is too large to be
    read.
    """
    with open_member(archive, member) as stream:
        shape, fortran, dtype = npy_header(stream)
        size = math.prod(shape) * dtype.itemsize
        check_claim(shape, size, member.compress_size * DEFLATE_RATIO)
        if size > in_memory(request):
            plain = (
                member.compress_type == zipfile.ZIP_STORED
                and dtype == np.uint8
                and not fortran
                and len(shape) in (3, 4)
            )
            if not plain:
                raise too_large(
                    repr(key),
                    size,
                    "save it as uint8 with numpy.savez: arrays that are not compressed stream",
                    request,
                )
            header = stream.tell()
            check_length(size, member.file_size - header, shape)
            return Stored(path, data_offset(path, member) + header, shape)
        flat = read_claimed(stream, dtype, shape)
    return flat.reshape(shape, order="F" if fortran else "C")


def data_offset(path: str, member: zipfile.ZipInfo) -> int:
    """Offset in the file of the first byte of a member's data, in bytes.

    The data follow the local header, whose name and extra field may differ in length
    from those in the directory.
    """
    with open_regular(path) as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) < 30:
        raise Malformed("is cut short")
    return member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))


def in_memory(request: Request) -> float:
    """The most bytes of an array that is read into memory.

    That is `resident_mb`, or MAX_FILE_BYTES, which any file may have, if that is more.
    """
    return max(request.resident_bytes, MAX_FILE_BYTES)


def too_large(what: str, size: int, instead: str, request: Request) -> InputError:
    """The error for an array of `size` bytes that is too large for memory."""
    raise_it = "raise `resident_mb`, or " * ("resident_mb" in request.adjustable)
    limit = f"the {int(in_memory(request)) >> 20} MB that are read into memory"
    return refuse(request, f"{what} takes {size >> 20} MB, more than {limit}", raise_it + instead)


def check_claim(shape: tuple[int, ...], size: int, limit: int) -> None:
    """Check the size that a header claims against what the file can hold.

    limit: the most bytes that the file can expand to, from its size on disk.
    Raises Malformed: the claim is larger.
    """
    if size > min(limit, MAX_ARRAY_BYTES):
        raise Malformed(f"claims {size} bytes in its header ({shape}), more than it can hold")


def check_length(size: int, there: int, shape: tuple[int, ...]) -> None:
    """Check that exactly `size` bytes follow a header. Raises Malformed if not."""
    if there < size:
        raise Malformed(f"ends after {there} of the {size} bytes that its values take")
    if there > size:
        raise Malformed(f"goes on after the {size} bytes of its header ({shape})")


def read_claimed(stream: Stream, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The flat array that a header announced, aligned.

    Memory grows with the bytes that arrive, not with those that are claimed.
    Raises Malformed: there are fewer or more bytes than claimed.
    """
    claimed = math.prod(shape) * dtype.itemsize
    data = aligned((claimed,))
    fill(data, stream)
    if stream.read(1):
        raise Malformed(f"goes on after the {claimed} bytes of its header ({shape})")
    return data.view(dtype)


def to_bytes(pixels: np.ndarray, key: str, request: Request) -> np.ndarray:
    """Images of another dtype as uint8, with one line that says so.

    The range tells the scale: [0, 1], [-1, 1], [0, 255], or of uint16 [0, 65535].
    Raises ConfigError: the range is none of those.
    """
    if pixels.dtype == np.uint8:
        return pixels
    check_shape(pixels.shape, request)
    if pixels.dtype.kind not in "buif" or pixels.size == 0:
        raise refuse(
            request,
            f"{key!r} is {pixels.dtype} {pixels.shape}",
            "images must be uint8 [N, H, W, C]",
        )
    low, high = float(pixels.min()), float(pixels.max())
    floating = pixels.dtype.kind in "bf"
    if floating and low >= 0 and high <= 1:
        scale, shift, span = 255.0, 0.0, "[0, 1]"
    elif floating and low >= -1 and high <= 1:
        scale, shift, span = 127.5, 127.5, "[-1, 1]"
    elif low >= 0 and high <= 255:
        scale, shift, span = 1.0, 0.0, "[0, 255]"
    elif pixels.dtype == np.uint16 and high > 4095:
        scale, shift, span = 255 / 65535, 0.0, "[0, 65535]"
    else:  # also where there is a NaN, or where 16 bits hold 12
        raise refuse(
            request,
            f"{key!r} is {pixels.dtype} in [{low:g}, {high:g}]",
            "scale it to [0, 1] or [-1, 1], or to uint8",
        )
    request.say(f"data: {key!r} converted from {pixels.dtype} in {span} to uint8")
    converted = np.empty(pixels.shape, np.uint8)
    # One by one: a float copy of the set would be four times its size.
    for image, result in zip(pixels, converted, strict=True):
        result[...] = np.rint(image.astype(np.float32) * np.float32(scale) + np.float32(shift))
    return converted


def to_items(
    name: str, pixels: np.ndarray | Stored, labels: np.ndarray | Stored | None, request: Request
) -> Items:
    """Items of images in memory, or of images that stay in their file.

    Raises ConfigError: images or labels have an unusable shape, or labels are out of
    range.
    """
    assert not isinstance(labels, Stored)  # labels are read into memory, or refused
    if isinstance(pixels, Stored):
        return from_stored(name, pixels, labels, request)
    return from_pixels(name, pixels, labels, request)


def from_stored(name: str, stored: Stored, labels: np.ndarray | None, request: Request) -> Items:
    """Items of images that stay in their file. Raises as `to_items`."""
    shape = check_shape(stored.shape, request)
    size, length = shape[0], math.prod(shape[1:])

    def read(index: int) -> Any:
        try:
            with open_regular(stored.path) as file:
                file.seek(stored.offset + index * length)
                data = file.read(length)
        except (OSError, Malformed) as error:
            raise Unreadable(reason(error)) from None
        if len(data) < length:
            raise Unreadable("the file is shorter than it was")
        return from_array(np.frombuffer(data, np.uint8).reshape(shape[1:]))

    def digest() -> str:
        total, reported, done = hashlib.sha256(), time.monotonic(), 0
        try:
            with open_regular(stored.path) as file:
                file.seek(stored.offset)
                while done < size * length and (
                    chunk := file.read(min(CHUNK_BYTES, size * length - done))
                ):
                    total.update(chunk)
                    done += len(chunk)
                    if time.monotonic() - reported > PROGRESS_SECONDS:
                        reported = time.monotonic()
                        progress = f"{done >> 20} of {size * length >> 20} MB"
                        request.say(f"data: checksum of {progress}, to recognise these images")
        except (OSError, Malformed) as error:
            raise refuse(request, describe(error), "replace the file with an intact one") from None
        if checked is not None:
            total.update(checked.data)
        return total.hexdigest()

    checked = check_labels(labels, size, request) if labels is not None else None
    return labelled(name, size, read, checked, digest)


def labelled(
    name: str,
    size: int,
    read: Callable[[int], Any],
    labels: np.ndarray | None,
    digest: Callable[[], str],
    **pixels: Any,
) -> Items:
    """Items of `size` images without names, with labels int32 [size] or None."""
    return Items(
        name=name,
        size=size,
        open=read,
        title=lambda index: f"image {index}",
        label=labels.__getitem__ if labels is not None else None,
        num_labels=int(labels.max()) + 1 if labels is not None and len(labels) else 0,
        digest=digest,
        **pixels,
    )


def check_shape(shape: tuple[int, ...], request: Request) -> tuple[int, ...]:
    """The shape of a set's images as [N, H, W, C].

    Raises ConfigError: it is neither [N, H, W] nor [N, H, W, C] with C of 1, 3 or 4.
    """
    with_channels = (*shape, 1) if len(shape) == 3 else shape
    if len(with_channels) != 4 or with_channels[3] not in CHANNELS or 0 in with_channels[1:]:
        raise refuse(
            request,
            f"its images have the shape {shape}",
            "give [N, H, W] or [N, H, W, C] with C of 1, 3 or 4",
        )
    return with_channels


def from_pixels(
    name: str, pixels: np.ndarray, labels: np.ndarray | None, request: Request
) -> Items:
    """Items of uint8 images [N, H, W] or [N, H, W, C] and integer labels [N] or None.

    Raises as `to_items`.
    """
    pixels = pixels.reshape(check_shape(pixels.shape, request))
    if not pixels.flags.c_contiguous or pixels.ctypes.data % ALIGNMENT:
        placed = aligned(pixels.shape)
        placed[...] = pixels
        pixels = placed
    digest = hashlib.sha256(pixels.reshape(-1).data)
    if labels is not None:
        labels = check_labels(labels, len(pixels), request)
        digest.update(labels.data)
    return labelled(
        name,
        len(pixels),
        lambda index: from_array(pixels[index]),
        labels,
        digest.hexdigest,
        pixels=pixels,
    )


def check_labels(labels: np.ndarray, size: int, request: Request) -> np.ndarray:
    """The labels as int32 [size].

    Raises ConfigError: they are not one whole number in 0..MAX_LABELS - 1 per image.
    """
    if labels.dtype.kind not in "ui" or labels.size != size or labels.shape[:1] != (size,):
        wrong = f"{size} images but labels of {labels.dtype} {labels.shape}"
        raise refuse(request, wrong, "give one whole number per image, or no labels")
    if size and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_LABELS:
        raise refuse(
            request,
            f"labels run from {labels.min()} to {labels.max()}",
            f"number them from 0, below {MAX_LABELS}",
        )
    return labels.reshape(size).astype(np.int32)


def only_train(request: Request) -> None:
    """Raise ConfigError for a split other than train."""
    if request.split != "train":
        raise refuse(request, f"has no split {request.split!r}", "its one split is train")


def describe(error: Exception) -> str:
    """What is wrong with a file that raised `error`."""
    return str(error) if isinstance(error, Malformed) else f"cannot be read ({reason(error)})"
