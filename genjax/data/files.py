"""Folders and zips of images: what they list, which of it are pictures, and bounded reading."""

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
IRREGULAR, BROKEN = (
    "pipes or devices",
    "unreachable",
)  # broken links, and links and folders that lead too far
LARGE, RATIO = (
    2**22,
    50,
)  # bytes, and times, that compressed pictures do not shrink further by deflate
KINDS = "PNG, JPEG, GIF, BMP, WebP, TIFF, PPM, AVIF, JPEG 2000, or HEIC with the extra heic"


class Listed(NamedTuple):
    """One file of a folder or zip, sortable by where it lies."""

    parts: tuple[str, ...]  # the path below the root
    bytes: int
    position: int  # in the archive's own list; 0 in a folder
    crc: int  # as the archive states it; 0 in a folder


class Listing(NamedTuple):
    """What a folder or zip holds."""

    pictures: list[Listed]  # sorted
    jsons: list[Listed]  # files named dataset.json
    left_out: Counter[str]  # number of other files by reason

    def files(self) -> Files:
        return Files(len(self.pictures) + self.left_out.total(), self.left_out)


def sort_out(listing: Listing, file: Listed, head: Callable[[], bytes]) -> None:
    """Add a file to the listing. head: gives its first bytes, read only where the name does not tell a picture."""
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
    """The files below a folder. Links are followed, but no folder is entered twice, so that loops end.

    fail: makes the error of a folder that cannot be listed.
    """
    listing = Listing([], [], Counter())
    entered: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    told = time.monotonic()
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
            except OSError:  # a link that leads nowhere, or round in a circle
                listing.left_out[BROKEN] += 1
                continue
            if stat.S_ISDIR(status.st_mode):
                hidden = entry.name.startswith(".") or entry.name.lower() in HIDDEN_FOLDERS
                if hidden:
                    listing.left_out[IN_HIDDEN] += count_files(entry.path)
                else:
                    waiting.append((*parts, entry.name))
            elif not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                listing.left_out[IRREGULAR] += 1
            else:
                sort_out(
                    listing,
                    Listed((*parts, entry.name), status.st_size, 0, 0),
                    lambda entry=entry: head_of(entry.path),
                )
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"data: {len(listing.pictures)} pictures listed")
    listing.pictures.sort()
    return listing


def count_files(folder: str) -> int:
    """Number of files below a hidden folder, as far as it can be listed."""
    return sum(len(names) for _, _, names in os.walk(folder))


def head_of(path: str) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read(formats.HEAD_BYTES)
    except (OSError, Malformed):
        return b""


def read_picture(path: str, size: int) -> bytes:
    """A picture file that was listed with `size` bytes. Raises Unreadable."""
    try:
        with open_regular(path) as stream:
            return bounded(stream, size)
    except Unreadable:
        raise
    except (OSError, ValueError) as error:  # Malformed is a ValueError
        raise Unreadable(reason(error)) from error


def bounded(stream: IO[bytes], size: int, packed: int | None = None) -> bytes:
    """All of a picture that was listed with `size` bytes, in a zip `packed`. Raises Unreadable when that is too much, not all, or no picture."""
    if size > MAX_FILE_BYTES:
        raise Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    kind = recognise(
        stream.read(formats.HEAD_BYTES)
    )  # before the rest, which may be hundreds of megabytes of nothing
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
    """Items of a folder of images, at any depth. Raises InputError."""
    listing = walk(
        root, lambda wrong: refuse(request, wrong, "give a readable folder"), request.say
    )
    sums: dict[Listed, int] = {}  # CRCs of what has been read

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
        told = time.monotonic()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for done, (file, crc) in enumerate(
                zip(rest, pool.map(lambda file: checksum(path(file)), rest), strict=True)
            ):
                sums[file] = crc
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    request.say(
                        f"data: checksums of {done + 1} of {len(rest)} files, to know these images again"
                    )

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
    """CRC-32 of a file; 0 of what is not read as a picture either."""
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
    """Items of a zip of images, read in place: nothing is extracted. Raises InputError."""
    try:
        archive = open_zip(path)
    except (
        Exception
    ) as error:  # a damaged directory raises anything from BadZipFile to UnicodeDecodeError
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
        if member.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):  # the others cannot be read in bounds
            raise Unreadable(
                f"zip compression method {member.compress_type}, of which only 0 and 8 are read"
            )
        return archive.open(member)

    def read(file: Listed) -> bytes:
        try:
            with (
                lock,
                raw(file) as stream,
            ):  # ZipFile counts its open members without a lock of its own
                return bounded(stream, file.bytes, members[file.position].compress_size)
        except Unreadable:
            raise
        except Exception as error:  # a damaged member raises anything from BadZipFile to zlib.error
            raise Unreadable(reason(error)) from error

    def head(file: Listed) -> bytes:
        try:
            with raw(file) as stream:
                return stream.read(formats.HEAD_BYTES)
        except Exception:  # see `read`
            return b""

    def crcs(files: list[Listed], chosen: list[int]) -> list[int]:
        return [files[index].crc for index in chosen]  # what is read is held against them

    listing = Listing([], [], Counter())
    told = time.monotonic()
    for position, member in enumerate(members):
        parts = inner_path(member)
        if parts and not member.is_dir():
            file = Listed(parts, member.file_size, position, member.CRC)
            sort_out(listing, file, lambda file=file: head(file))
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            request.say(f"data: {len(listing.pictures)} pictures listed")
    listing.pictures.sort()
    return arrange(
        f"zip {printable(os.path.basename(path))}", listing, read, raw, crcs, None, request
    )


def inner_path(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """Where a member lies. Names only sort and label; one that points outside cannot lead there, because nothing is opened by it."""
    return tuple(
        part
        for part in member.filename.replace("\\", "/").split("/")
        if part not in ("", ".", "..")
    )


def arrange(
    name: str,
    listing: Listing,
    read: Callable[[Listed], bytes],
    raw: Callable[[Listed], IO[bytes]],
    crcs: Callable[[list[Listed], list[int]], list[int]],
    early_crcs: Callable[[list[Listed], list[int]], list[int]] | None,
    request: Request,
) -> Items:
    """Pick the split, derive the labels, and wrap the reading. Raises InputError.

    read: a picture's bytes. raw: any file as a stream. crcs: of the pictures chosen by index, `early_crcs` those that version
    0.1.0 computed, where they are fewer.
    """
    files = listing.files()
    if not listing.pictures:
        held = ", ".join(f"{count} {why}" for why, count in files.left_out.most_common(3))
        raise refuse(
            request, f"holds no images{f' ({held})' * bool(held)}", f"give pictures: {KINDS}"
        )
    paths = [file.parts for file in listing.pictures]
    split = labels.choose_split(paths, request)
    chosen = split.chosen
    selected = [listing.pictures[index] for index in chosen]
    if split.names:
        name = f"{name}, {request.split}"
        files.left_out["of other splits"] += len(paths) - len(chosen)
    found = None
    for json in sorted(
        listing.jsons, key=lambda file: -len(file.parts)
    ):  # the innermost that covers the split
        base = json.parts[:-1]
        if found is None and all(file.parts[: len(base)] == base for file in selected):
            found = labels.by_dataset_json(
                lambda limit, json=json: small(raw, json, limit), base, paths, chosen, request
            )
    if found is None:
        found = labels.by_folders(paths, split, request)

    def digest(crcs: Callable[[list[Listed], list[int]], list[int]]) -> str:
        total = hashlib.sha256()
        for file, crc in zip(selected, crcs(listing.pictures, chosen), strict=True):
            total.update(
                f"{'/'.join(file.parts)}\n{file.bytes} {crc}\n".encode("utf-8", "surrogateescape")
            )
        total.update(found.note)
        return total.hexdigest()

    return Items(
        name=name,
        size=len(selected),
        open=lambda index: open_image(read(selected[index])),
        title=lambda index: "/".join(selected[index].parts),
        label=found.of.__getitem__ if found.of is not None else None,
        num_labels=found.count,
        digest=lambda: digest(crcs),
        earlier=(lambda: digest(early_crcs)) if early_crcs else None,
        classes=found.classes,
        bytes=lambda index: selected[index].bytes,
        files=files,
    )


def small(raw: Callable[[Listed], IO[bytes]], file: Listed, limit: int) -> bytes:
    """A file of up to `limit` bytes. Raises ValueError or OSError."""
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
    """Whether a folder or zip is of two unpaired sides: trainA and trainB, at its root or in the folder that wraps it all."""
    path = os.path.expanduser(spec)
    try:
        if not os.path.isdir(path):
            with open_zip(path) as archive:
                members = [
                    inner_path(member) for member in archive.infolist() if not member.is_dir()
                ]
            members = [
                parts
                for parts in members
                if parts and not any(part.startswith(("__MACOSX", ".")) for part in parts)
            ]
            _, splits = labels.find_splits([parts for parts in members if len(parts) > 1])
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
    except Exception:  # whatever it is, reading it will say so
        return False
