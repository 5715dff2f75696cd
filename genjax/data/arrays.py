"""Sets that are arrays already: the embedded digits, .npz archives, folders of idx files. Read in bounds, never a pickle."""

import gzip
import hashlib
import math
import os
import re
import zipfile
import zlib
from typing import Any

import numpy as np

from genjax.bounded import Malformed, Stream, fill, npy_header, open_member
from genjax.data.decode import from_array
from genjax.data.items import Items
from genjax.data.source import ALIGNMENT, Request, aligned, refuse
from genjax.errors import InputError, printable, reason

IDX_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
DEFLATE_RATIO = 1032  # deflate cannot expand by more, so a larger claim is false
MAX_ARRAY_BYTES = 2**36
IMAGE_KEYS = {"train": ("images", "x_train", "train_images", "data", "x"), "test": ("x_test", "test_images")}
LABEL_KEYS = {"train": ("labels", "y_train", "train_labels", "y"), "test": ("y_test", "test_labels")}
MAX_LABELS = 2**16


def read_digits(request: Request) -> Items:
    """The 1797 digits of 8x8 that come with scikit-learn, 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    only_train(request)
    digits: Any = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return from_pixels("digits", pixels, digits.target.astype(np.int32), request)


def read_idx(folder: str, request: Request) -> Items:
    """A folder of idx files as MNIST has them, gzipped or plain; labels if they are there. Raises InputError."""
    prefix = {"train": "train", "test": "t10k"}.get(request.split)
    if prefix is None:
        raise refuse(request, f"idx files have no split {request.split!r}", "use train or test")
    found = {match[2]: match.string for match in idx_names(folder) if match[1] == prefix}
    if "images" not in found:
        raise refuse(request, f"has no images for the split {request.split!r}", f"expected {prefix}-images-idx3-ubyte[.gz]")
    pixels = read_idx_file(os.path.join(folder, found["images"]), 3, request)[..., np.newaxis]
    labels = read_idx_file(os.path.join(folder, found["labels"]), 1, request) if "labels" in found else None
    name = f"idx folder {printable(os.path.basename(os.path.abspath(folder)))}, {request.split}"
    return from_pixels(name, pixels, labels, request)


def idx_names(folder: str) -> list[re.Match]:
    """Matches of the names of idx files in a folder; where a file is there twice, the plain one comes last."""
    return [match for name in sorted(os.listdir(folder), reverse=True) if (match := IDX_NAME.fullmatch(name))]


def read_idx_file(path: str, dimensions: int, request: Request) -> np.ndarray:
    """uint8 array of an idx file: magic number, big-endian sizes, bytes (LeCun, "The MNIST database"). Raises InputError."""
    zipped = path.endswith(".gz")
    try:
        limit = os.path.getsize(path) * (DEFLATE_RATIO if zipped else 1)
        with gzip.open(path, "rb") if zipped else open(path, "rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                raise Malformed(f"is not an idx file of {dimensions} dimensions of bytes (its magic number says so)")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            return read_claimed(stream, np.dtype(np.uint8), shape, limit).reshape(shape)
    except (OSError, EOFError, zlib.error, MemoryError, Malformed) as error:
        name = printable(os.path.basename(path))
        raise refuse(request, f"{name} {describe(error)}", "replace the file with an intact one") from None


def read_npz(path: str, request: Request) -> Items:
    """The images and labels of an .npz archive. Raises InputError."""
    name = printable(os.path.basename(path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            key = choose_images(archive, members, request)
            pixels = read_member(archive, members[key])
            label_key = next((label for label in LABEL_KEYS.get(request.split, ()) if label in members), None)
            labels = read_member(archive, members[label_key]) if label_key else None
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises anything from BadZipFile to zlib.error and UnicodeDecodeError
        raise refuse(request, describe(error), "save it again with numpy.savez") from None
    return from_pixels(f"npz {name}, {request.split}", to_bytes(pixels, key, request), labels, request)


def choose_images(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], request: Request) -> str:
    """The name of the array that holds the images of the split. Raises InputError."""
    named = [key for key in IMAGE_KEYS.get(request.split, ()) if key in members]
    if named:
        return named[0]
    names = ", ".join(printable(key) for key in members) or "nothing"
    if request.split != "train":
        known = " or ".join(IMAGE_KEYS.get(request.split, ())) or "train or test as the split"
        raise refuse(request, f"has no split {request.split!r} (it holds {names})", f"name the array {known}")
    image_like = []
    for key, member in members.items():
        with open_member(archive, member) as stream:
            shape, _, dtype = npy_header(stream)
        if dtype == np.uint8 and len(shape) in (3, 4):
            image_like.append(key)
    if len(image_like) != 1:
        raise refuse(request, f"holds {names}: which are the images?", "name the array 'images': uint8 [N, H, W, C] or [N, H, W]")
    return image_like[0]


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array of an .npz; numpy.load would allocate what the header claims before reading. Raises Malformed."""
    with open_member(archive, member) as stream:
        shape, fortran, dtype = npy_header(stream)
        flat = read_claimed(stream, dtype, shape, member.compress_size * DEFLATE_RATIO)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_claimed(stream: Stream, dtype: np.dtype, shape: tuple[int, ...], limit: int) -> np.ndarray:
    """The flat array that a header announced, aligned. Memory grows with what really arrives. Raises Malformed.

    limit: the most bytes that the file can hold, from its size on disk.
    """
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > min(limit, MAX_ARRAY_BYTES):
        raise Malformed(f"claims {claimed} bytes in its header ({shape}), more than it can hold")
    data = aligned((claimed,))
    fill(data, stream)
    if stream.read(1):
        raise Malformed(f"goes on after the {claimed} bytes of its header ({shape})")
    return data.view(dtype)


def to_bytes(pixels: np.ndarray, key: str, request: Request) -> np.ndarray:
    """Images of other number types as uint8, with one line saying so. Raises InputError."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "buif" or pixels.size == 0:
        raise refuse(request, f"{key!r} is {pixels.dtype} {pixels.shape}", "images must be uint8 [N, H, W, C]")
    low, high = float(pixels.min()), float(pixels.max())
    floating = pixels.dtype.kind in "bf"
    if floating and low >= 0 and high <= 1:
        scale, shift, span = 255.0, 0.0, "[0, 1]"
    elif floating and low >= -1 and high <= 1:
        scale, shift, span = 127.5, 127.5, "[-1, 1]"
    elif low >= 0 and high <= 255:
        scale, shift, span = 1.0, 0.0, "[0, 255]"
    else:  # also where there is a NaN
        raise refuse(request, f"{key!r} is {pixels.dtype} in [{low:g}, {high:g}]", "scale it to [0, 1] or [-1, 1], or to uint8")
    request.say(f"data: {key!r} converted from {pixels.dtype} in {span} to uint8")
    converted = np.empty(pixels.shape, np.uint8)
    for image, result in zip(pixels, converted, strict=True):  # one by one: a float copy of the set would be four times its size
        result[...] = np.rint(image.astype(np.float32) * np.float32(scale) + np.float32(shift))
    return converted


def from_pixels(name: str, pixels: np.ndarray, labels: np.ndarray | None, request: Request) -> Items:
    """Items of uint8 [N, H, W] or [N, H, W, C] and integer labels [N], both checked. Raises InputError."""
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3, 4) or 0 in pixels.shape[1:]:
        raise refuse(request, f"its images have the shape {pixels.shape}", "give [N, H, W] or [N, H, W, C] with C of 1, 3 or 4")
    if not pixels.flags.c_contiguous or pixels.ctypes.data % ALIGNMENT:
        placed = aligned(pixels.shape)
        placed[...] = pixels
        pixels = placed
    digest = hashlib.sha256(pixels.reshape(-1).data)
    if labels is not None:
        labels = check_labels(labels, len(pixels), request)
        digest.update(labels.data)
    return Items(
        name=name,
        size=len(pixels),
        open=lambda index: from_array(pixels[index]),
        title=lambda index: f"image {index}",
        label=labels.__getitem__ if labels is not None else None,
        num_labels=int(labels.max()) + 1 if labels is not None and len(labels) else 0,
        digest=digest.hexdigest,
        pixels=pixels,
    )


def check_labels(labels: np.ndarray, size: int, request: Request) -> np.ndarray:
    """int32 [size]. Raises InputError."""
    if labels.dtype.kind not in "ui" or labels.size != size or labels.shape[:1] != (size,):
        wrong = f"{size} images but labels of {labels.dtype} {labels.shape}"
        raise refuse(request, wrong, "give one whole number an image, or no labels")
    if size and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_LABELS:
        raise refuse(request, f"labels run from {labels.min()} to {labels.max()}", f"number them from 0, below {MAX_LABELS}")
    return labels.reshape(size).astype(np.int32)


def only_train(request: Request) -> None:
    if request.split != "train":
        raise refuse(request, f"has no split {request.split!r}", "its one split is train")


def describe(error: Exception) -> str:
    return str(error) if isinstance(error, Malformed) else f"cannot be read ({reason(error)})"
