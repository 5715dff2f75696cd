"""Folders and zips of images: listing, recognising pictures, bounded reading."""

import hashlib
import os
import stat
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple

from genjax.data import labels
from genjax.data.items import PROBED, PROGRESS_SECONDS, Files, Items, spread
from genjax.data.source import Request, refuse
from genjax.errors import InputError, printable, reason
from genjax.files import formats
from genjax.files.bounded import CHUNK_BYTES, Malformed, open_regular, open_zip
from genjax.files.decode import MAX_FILE_BYTES, Unreadable, open_image, recognise

HIDDEN_FOLDERS = ("__macosx", "@eadir", "thumbs", "thumbnails", "$recycle.bin", "lost+found")
HIDDEN_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
HIDDEN, IN_HIDDEN = "hidden", "in hidden or thumbnail folders"
# BROKEN: broken links, and links and folders that cannot be followed to their end.
IRREGULAR, BROKEN = "pipes or devices", "unreachable"
# Deflate shrinks compressed pictures little: a larger one (bytes) with a higher ratio
# is fake.
LARGE, RATIO = 2**22, 50
KINDS = "PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF, JPEG 2000, or HEIC with the extra heic"


class Listed(NamedTuple):
    """One file of a folder or zip. Files sort by path."""

    parts: tuple[str, ...]  # components of the path below the root
    bytes: int  # size
    position: int  # index in the archive's directory; 0 in a folder
    crc: int  # CRC-32 according to the archive's directory; 0 in a folder


class Listing(NamedTuple):
    """The files of a folder or zip."""

    pictures: list[Listed]  # sorted
    jsons: list[Listed]  # files named dataset.json
    left_out: Counter[str]  # number of other files by reason

    def files(self) -> Files:
        """The counts for the summary line."""
        return Files(len(self.pictures) + self.left_out.total(), self.left_out)


def sort_out(listing: Listing, file: Listed, head: Callable[[], bytes]) -> None:
    """Add a file to the listing: a picture, a dataset.json, or one to leave out.

    head: returns its first bytes; called only where the name has no suffix of a
    picture.
    """
    *folders, name = file.parts
    if any(folder.startswith(".") or folder.lower() in HIDDEN_FOLDERS for folder in folders):
        listing.left_out[IN_HIDDEN] += 1
    elif name.startswith(".") or name.lower() in HIDDEN_FILES:
        listing.left_out[HIDDEN] += 1
    elif name == labels.DATASET_JSON:
        listing.jsons.append(file)
    else:
        suffix = os.path.splitext(name)[1].lower()
        kind = formats.SUFFIXES.get(suffix) or formats.kind(head())
        ending = printable(suffix, 12) if suffix else "without a suffix"
        if not kind:
            listing.left_out[ending] += 1
        elif remedy := formats.remedy(kind):
            listing.left_out[f"{ending if suffix else kind} (needs {remedy})"] += 1
        else:
            listing.pictures.append(file)


def walk(root: str, fail: Callable[[str], InputError], say: Callable[[str], None]) -> Listing:
    """List the files below a folder, at any depth.

    Links are followed, but no folder is entered twice, so loops of links end.

    Args:
        root: the folder
        fail: makes the error for a folder that cannot be listed
        say: receives a line every PROGRESS_SECONDS

    Raises:
        InputError: made by `fail`
    """
    listing = Listing([], [], Counter())
    entered: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    reported = time.monotonic()
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
            raise fail(f"cannot list {printable(folder)} ({reason(error)})") from None
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:  # a broken link, or a loop of links
                listing.left_out[BROKEN] += 1
                continue
            if stat.S_ISDIR(status.st_mode):
                hidden = entry.name.startswith(".") or entry.name.lower() in HIDDEN_FOLDERS
                if hidden:
                    listing.left_out[IN_HIDDEN] += count_files(entry.path)
                else:
                    waiting.append((*parts, entry.name))
            elif not stat.S_ISREG(status.st_mode):  # opening a pipe may block forever
                listing.left_out[IRREGULAR] += 1
            else:
                file = Listed((*parts, entry.name), status.st_size, 0, 0)
                sort_out(listing, file, lambda entry=entry: head_of(entry.path))
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                say(f"data: {len(listing.pictures)} pictures listed")
    listing.pictures.sort()
    return listing


def count_files(folder: str) -> int:
    """Number of files below a hidden folder; unreadable subfolders count as empty."""
    return sum(len(names) for _, _, names in os.walk(folder))


def head_of(path: str) -> bytes:
    """The first HEAD_BYTES of a file, b"" if it cannot be read."""
    try:
        with open_regular(path) as stream:
            return stream.read(formats.HEAD_BYTES)
    except (OSError, Malformed):
        return b""


def read_picture(path: str, size: int) -> bytes:
    """The bytes of a picture file that was listed with `size` bytes.

    Raises Unreadable: it cannot be read, is too large, or is no picture.
    """
    try:
        with open_regular(path) as stream:
            return bounded(stream, size)
    except Unreadable:
        raise
    except (OSError, ValueError) as error:  # Malformed is a ValueError
        raise Unreadable(reason(error)) from error


def bounded(stream: IO[bytes], size: int, packed: int | None = None) -> bytes:
    """All bytes of a picture that was listed with `size` bytes.

    packed: compressed size in the zip, in bytes; None outside of zips.
    Raises Unreadable: it is too large, longer than listed, or no picture.
    """
    if size > MAX_FILE_BYTES:
        raise Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    # Recognised before the rest is read, which may be hundreds of megabytes of zeros.
    kind = recognise(stream.read(formats.HEAD_BYTES))
    if packed is not None and kind in formats.DENSE and size > max(LARGE, RATIO * packed):
        raise Unreadable(f"{size} bytes from {packed} in the zip: hardly a {kind}")
    stream.seek(0)
    chunks, length = [], 0
    while length <= size and (chunk := stream.read(min(CHUNK_BYTES, size + 1 - length))):
        chunks.append(chunk)
        length += len(chunk)
    if length > size:
        raise Unreadable(f"longer than the {size} bytes it is listed with")
    return b"".join(chunks)


def read_folder(root: str, request: Request) -> Items:
    """Items of a folder of images, at any depth.

    Raises ConfigError: it cannot be listed, or has no images of the split.
    """
    fail = lambda wrong: refuse(request, wrong, "give a readable folder")
    listing = walk(root, fail, request.say)
    sums: dict[Listed, int] = {}  # CRCs of the files read so far

    def path(file: Listed) -> str:
        return os.path.join(root, *file.parts)

    def read(file: Listed) -> bytes:
        data = read_picture(path(file), file.bytes)
        sums[file] = zlib.crc32(data)
        return data

    def raw(file: Listed) -> IO[bytes]:
        return open_regular(path(file))

    def sum_rest(files: list[Listed]) -> None:
        rest = [file for file in files if file not in sums]
        reported = time.monotonic()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            crcs = pool.map(lambda file: checksum(path(file)), rest)
            for done, (file, crc) in enumerate(zip(rest, crcs, strict=True)):
                sums[file] = crc
                if time.monotonic() - reported > PROGRESS_SECONDS:
                    reported = time.monotonic()
                    progress = f"{done + 1} of {len(rest)} files"
                    request.say(f"data: checksums of {progress}, to recognise these images")

    def crcs(files: list[Listed], chosen: list[int]) -> list[int]:
        sum_rest([files[index] for index in chosen])
        return [sums[files[index]] for index in chosen]

    def early_crcs(files: list[Listed], chosen: list[int]) -> list[int]:
        probed = set(spread(len(files), PROBED))
        return [sums[files[index]] if index in probed else 0 for index in chosen]

    many = len(listing.pictures) > PROBED
    name = f"folder {printable(os.path.basename(os.path.abspath(root)))}"
    return arrange(name, listing, read, raw, crcs, early_crcs if many else None, request)


def checksum(path: str) -> int:
    """CRC-32 of a file; 0 if it cannot be read or is larger than MAX_FILE_BYTES."""
    crc, size = 0, 0
    try:
        with open_regular(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                crc, size = zlib.crc32(chunk, crc), size + len(chunk)
                if size > MAX_FILE_BYTES:
                    return 0
    except (OSError, Malformed):
        return 0
    return crc


def read_zip(path: str, request: Request) -> Items:
    """Items of a zip of images, read in place: nothing is extracted.

    Raises ConfigError: it is not a readable zip, or has no images of the split.
    """
    try:
        archive = open_zip(path)
    # A damaged directory raises anything from BadZipFile to UnicodeDecodeError.
    except Exception as error:
        raise refuse(
            request,
            f"not a readable zip ({reason(error)})",
            "give a folder or an intact zip of images",
        ) from None
    members = archive.infolist()
    lock = threading.Lock()

    def raw(file: Listed) -> IO[bytes]:
        member = members[file.position]
        if member.flag_bits & 0x1:
            raise Unreadable("encrypted")
        # Other methods cannot be read in bounds.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(
                f"zip compression method {member.compress_type}; only 0 and 8 are read"
            )
        return archive.open(member)

    def read(file: Listed) -> bytes:
        try:
            with lock, raw(file) as stream:  # ZipFile counts its open members without a lock
                return bounded(stream, file.bytes, members[file.position].compress_size)
        except Unreadable:
            raise
        except Exception as error:  # anything from BadZipFile to zlib.error
            raise Unreadable(reason(error)) from error

    def head(file: Listed) -> bytes:
        try:
            with raw(file) as stream:
                return stream.read(formats.HEAD_BYTES)
        except Exception:  # see `read`
            return b""

    def crcs(files: list[Listed], chosen: list[int]) -> list[int]:
        return [files[index].crc for index in chosen]  # zipfile checks them as it reads

    listing = Listing([], [], Counter())
    reported = time.monotonic()
    for position, member in enumerate(members):
        parts = inner_path(member)
        if parts and not member.is_dir():
            file = Listed(parts, member.file_size, position, member.CRC)
            sort_out(listing, file, lambda file=file: head(file))
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            request.say(f"data: {len(listing.pictures)} pictures listed")
    listing.pictures.sort()
    name = f"zip {printable(os.path.basename(path))}"
    return arrange(name, listing, read, raw, crcs, None, request)


def inner_path(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """Components of a member's path.

    Names only sort and label: nothing is opened by them, so "../" cannot lead outside.
    """
    components = member.filename.replace("\\", "/").split("/")
    return tuple(component for component in components if component not in ("", ".", ".."))


def arrange(
    name: str,
    listing: Listing,
    read: Callable[[Listed], bytes],
    raw: Callable[[Listed], IO[bytes]],
    crcs: Callable[[list[Listed], list[int]], list[int]],
    early_crcs: Callable[[list[Listed], list[int]], list[int]] | None,
    request: Request,
) -> Items:
    """Items of a listing: choose the split, derive the labels, wrap the reading.

    Args:
        name: of the set, for messages
        listing: its files
        read: returns a picture's bytes
        raw: opens any file as a stream
        crcs: CRC-32 of the pictures chosen by index
        early_crcs: the same as version 0.1.0 computed them, where it computed fewer
        request: arguments of `load`

    Raises:
        ConfigError: no images, no such split, or a dataset.json that cannot be used
    """
    files = listing.files()
    if not listing.pictures:
        held = ", ".join(f"{count} {why}" for why, count in files.left_out.most_common(3))
        counts = f" ({held})" if held else ""
        raise refuse(request, f"holds no images{counts}", f"give pictures: {KINDS}")
    paths = [file.parts for file in listing.pictures]
    split = labels.choose_split(paths, request)
    chosen = split.chosen
    selected = [listing.pictures[index] for index in chosen]
    if split.names:
        name = f"{name}, {request.split}"
        files.left_out["of other splits"] += len(paths) - len(chosen)
    labelling = None
    # The innermost dataset.json whose folder holds all of the split.
    for json in sorted(listing.jsons, key=lambda file: -len(file.parts)):
        base = json.parts[:-1]
        if labelling is None and all(file.parts[: len(base)] == base for file in selected):
            text = lambda limit, json=json: small(raw, json, limit)
            labelling = labels.by_dataset_json(text, base, paths, chosen, request)
    if labelling is None:
        labelling = labels.by_folders(paths, split, request)

    def digest(crcs: Callable[[list[Listed], list[int]], list[int]]) -> str:
        total = hashlib.sha256()
        for file, crc in zip(selected, crcs(listing.pictures, chosen), strict=True):
            line = f"{'/'.join(file.parts)}\n{file.bytes} {crc}\n"
            total.update(line.encode("utf-8", "surrogateescape"))
        total.update(labelling.note)
        return total.hexdigest()

    return Items(
        name=name,
        size=len(selected),
        open=lambda index: open_image(read(selected[index])),
        title=lambda index: "/".join(selected[index].parts),
        label=labelling.of.__getitem__ if labelling.of is not None else None,
        num_labels=labelling.count,
        digest=lambda: digest(crcs),
        earlier=(lambda: digest(early_crcs)) if early_crcs else None,
        classes=labelling.classes,
        bytes=lambda index: selected[index].bytes,
        files=files,
    )


def small(raw: Callable[[Listed], IO[bytes]], file: Listed, limit: int) -> bytes:
    """All bytes of a file of at most `limit` bytes.

    Raises ValueError: it is larger, or damaged. Raises OSError: it cannot be read.
    """
    try:
        with raw(file) as stream:
            data = stream.read(limit + 1)
    except OSError:
        raise
    except Exception as error:  # see `read_zip`
        raise ValueError(reason(error)) from None
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def has_sides(spec: str) -> bool:
    """Whether a folder or zip has two unpaired sides: folders trainA and trainB.

    They lie at its root, or in the single folder there that holds everything.
    False for anything that is not a readable folder or zip.
    """
    path = os.path.expanduser(spec)
    try:
        if not os.path.isdir(path):
            with open_zip(path) as archive:
                paths = [inner_path(member) for member in archive.infolist() if not member.is_dir()]
            hidden = ("__MACOSX", ".")
            paths = [path for path in paths if not any(name.startswith(hidden) for name in path)]
            _, splits = labels.find_splits([path for path in paths if len(path) > 1])
            return any(split.lower() == "traina" for split in splits)
        while True:
            with os.scandir(path) as entries:
                entries = [entry for entry in entries if not entry.name.startswith(".")]
            folders = [entry for entry in entries if entry.is_dir()]
            if {"traina", "trainb"} <= {entry.name.lower() for entry in folders}:
                return True
            if len(folders) != 1 or len(entries) != 1:
                return False
            path = folders[0].path
    except Exception:  # `load` will say what is wrong
        return False
