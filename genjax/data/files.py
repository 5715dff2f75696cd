"""Folders and zips of images: what they list, which images belong to which split and label, and bounded reading."""

import contextlib
import hashlib
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, NamedTuple

from genjax.data.decode import MAX_FILE_BYTES, SUFFIXES, Unreadable, open_image
from genjax.data.items import PROBED, Items, spread
from genjax.data.source import Request, refuse
from genjax.errors import printable, reason

SPLITS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}


class Listed(NamedTuple):
    """One image file of a folder or zip, sortable by where it lies."""

    parts: tuple[str, ...]  # the path below the root
    bytes: int
    position: int  # in the archive's own list; 0 in a folder
    crc: int  # as the archive states it; in a folder that of up to PROBED files, spread evenly, and 0 of the others


def read_folder(root: str, request: Request) -> Items:
    """Items of a folder of images, at any depth. Raises InputError."""
    listed = sorted(walk(root, request))

    def read(file: Listed) -> bytes:
        try:
            with open(os.path.join(root, *file.parts), "rb") as stream:
                return bounded(stream, file.bytes)
        except OSError as error:
            raise Unreadable(reason(error)) from error

    for index in spread(len(listed), PROBED):
        with contextlib.suppress(Unreadable):  # all of them would be a second reading of the set
            listed[index] = listed[index]._replace(crc=zlib.crc32(read(listed[index])))
    return arrange(f"folder {printable(os.path.basename(os.path.abspath(root)))}", listed, read, request)


def walk(root: str, request: Request) -> list[Listed]:
    """The image files below a folder. Links are followed, but no folder is entered twice, so that loops end."""
    listed: list[Listed] = []
    entered: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        folder = os.path.join(root, *parts)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise refuse(request, f"cannot list {printable(folder)} ({reason(error)})", "give a readable folder") from None
        for entry in entries:
            if hidden(entry.name):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere, or round in a circle
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append((*parts, entry.name))
            elif stat.S_ISREG(status.st_mode) and entry.name.lower().endswith(SUFFIXES):  # opening a pipe would wait for ever
                listed.append(Listed((*parts, entry.name), status.st_size, 0, 0))
    return listed


def read_zip(path: str, request: Request) -> Items:
    """Items of a zip of images, read in place: nothing is extracted. Raises InputError."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory raises anything from BadZipFile to UnicodeDecodeError
        raise refuse(request, f"not a readable zip ({reason(error)})", "give a folder or an intact zip of images") from None
    members = archive.infolist()
    listed = []
    for position, member in enumerate(members):
        # Names only sort and label; a name that points outside cannot lead there, because nothing is opened by it.
        parts = tuple(part for part in member.filename.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        image = parts and parts[-1].lower().endswith(SUFFIXES) and not member.is_dir()
        if image and not any(hidden(part) for part in parts):
            listed.append(Listed(parts, member.file_size, position, member.CRC))
    listed.sort()
    lock = threading.Lock()

    def read(file: Listed) -> bytes:
        member = members[file.position]
        if member.flag_bits & 0x1:
            raise Unreadable("encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others cannot be read in bounds
            raise Unreadable(f"zip compression method {member.compress_type}, of which only 0 and 8 are read")
        try:
            with lock, archive.open(member) as stream:  # ZipFile counts its open members without a lock of its own
                return bounded(stream, file.bytes)
        except Unreadable:
            raise
        except Exception as error:  # a damaged member raises anything from BadZipFile to zlib.error
            raise Unreadable(reason(error)) from error

    return arrange(f"zip {printable(os.path.basename(path))}", listed, read, request)


def hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def bounded(stream: IO[bytes], size: int) -> bytes:
    """The whole of a file that was listed with `size` bytes. Raises Unreadable when that is too much, or not all."""
    if size > MAX_FILE_BYTES:
        raise Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    data = stream.read(size + 1)
    if len(data) > size:
        raise Unreadable(f"longer than the {size} bytes it is listed with")
    return data


def arrange(name: str, listed: list[Listed], read: Callable[[Listed], bytes], request: Request) -> Items:
    """Pick the split and derive the labels from the folders, and wrap the reading. Raises InputError."""
    if not listed:
        raise refuse(request, "holds no images", f"the files must end in {', '.join(SUFFIXES)}")
    depth, splits = find_splits(listed)
    if splits:
        name = f"{name}, {request.split}"
        wanted = SPLITS.get(request.split, request.split)
        selected = [file for file in listed if SPLITS[file.parts[depth].lower()] == wanted]
        if not selected:
            raise refuse(request, f"has no split {request.split!r}", f"its splits are {', '.join(splits)}")
        depth += 1
    elif request.split != "train":
        raise refuse(request, f"has no split {request.split!r}", "its top folders would have to be named train, val or test")
    else:
        selected = listed

    # Labels are numbered over all splits, so that a class means the same in each.
    inside = [len(file.parts) > depth + 1 for file in listed]
    classes = sorted({file.parts[depth] for file in listed}) if all(inside) else []
    if any(inside) and not all(inside):
        request.say("data: some images lie in folders and some beside them, so the folders give no labels")
    numbers = {label: index for index, label in enumerate(classes)} if len(classes) > 1 else {}

    digest = hashlib.sha256()
    for file in selected:
        digest.update(f"{'/'.join(file.parts)}\n{file.bytes} {file.crc}\n".encode("utf-8", "surrogateescape"))
    return Items(
        name=name,
        size=len(selected),
        open=lambda index: open_image(read(selected[index])),
        title=lambda index: "/".join(selected[index].parts),
        label=(lambda index: numbers[selected[index].parts[depth]]) if numbers else None,
        num_labels=len(numbers),
        digest=digest.hexdigest(),
    )


def find_splits(listed: list[Listed]) -> tuple[int, list[str]]:
    """How many folders wrap the whole set, and the names of the splits below them, if its folders are splits."""
    depth = 0
    while all(len(file.parts) > depth + 1 for file in listed):
        tops = {file.parts[depth] for file in listed}
        lowered = {top.lower() for top in tops}
        if "train" in lowered and lowered <= SPLITS.keys():
            return depth, sorted(tops)
        if len(tops) > 1:
            break
        depth += 1
    return depth, []
