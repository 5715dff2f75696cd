"""Where commands may write, decided in one place, and writing that is all or nothing.

Nothing that a command reads is written over, nor anything that genjax did not write. All its
files carry MARK, by which they are known again; only those give way, and only to --force.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genjax.errors import InputError, printable, reason
from genjax.files.bounded import Malformed, open_regular

MARK = "made with genjax"  # in a comment or a field of metadata, which readers ignore
MARKED_BYTES = 2**20  # at a file's beginning and end, where the mark is looked for
PART = re.compile(r"\.genjax-(\d{1,10})-([0-9a-f]{8})-[0-9a-f]{8}\.part")
STALE_SECONDS = 86_400.0  # after which a temporary file of another machine is removed

_STARTED = time.time()


# --- one file ----------------------------------------------------------------------------


def check_file(
    out: Path, option: str = "--out", *, read: Iterable[Path | str] = (), force: bool = False
) -> None:
    """Raise InputError, naming `option`, unless `out` can be written and nothing is lost.

    read: files and folders that the command reads; neither they nor anything in them is
    written over, under whatever name. force: a file that genjax wrote may be replaced.
    """
    where, folder = f"{option} {printable(str(out))}", out.absolute().parent
    try:
        there = _exists(out)
        if not out.name or os.path.isdir(out):
            raise InputError(f"{where}: is a folder; give a file's name")
        if not os.path.isdir(folder):
            raise InputError(f"{where}: not in a folder that exists")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{where}: its folder cannot be written to; choose another one")
        if there:
            _check_replaceable(out, where, identities(read), force)
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{where}: cannot be written ({reason(error)})") from None


def check_folder(out: Path, option: str = "--out", read: Iterable[Path | str] = ()) -> None:
    """Raise InputError, naming `option`, unless files can be written into the folder `out`, which is none of `read`, or it can be made."""
    where = f"{option} {printable(str(out))}"
    try:
        if _exists(out) and not os.path.isdir(out):
            raise InputError(f"{where}: is a file; choose a folder")
        nearest = next(path for path in (out.absolute(), *out.absolute().parents) if _exists(path))
        if not os.path.isdir(nearest):
            raise InputError(f"{where}: {printable(str(nearest))} is no folder; choose another one")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"{where}: {printable(str(nearest))} cannot be written to; choose another one"
            )
    except OSError as error:
        raise InputError(f"{where}: cannot be written ({reason(error)})") from None
    if any(_same(path, out) for path in read):
        raise InputError(f"{where}: is read by this command; choose another folder")


def ours(path: Path, made: str = "") -> bool:
    """Whether genjax wrote this regular file, and with the `note` made, by the mark in its first or last MB."""
    try:
        with open_regular(path) as file:
            ends = file.read(MARKED_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - MARKED_BYTES))
            return f"{MARK} {made}".strip().encode() in ends + b"|" + file.read(MARKED_BYTES)
    except (OSError, Malformed):
        return False


def identities(read: Iterable[Path | str]) -> set[tuple[int, int]]:
    """Device and inode of these files and folders and of all in them, through links: what no other name hides."""
    found: set[tuple[int, int]] = set()
    waiting = [os.fspath(path) for path in read]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(
            OSError, ValueError
        ):  # no file: it may be the name of an embedded set
            status = os.stat(path)
            if (identity := (status.st_dev, status.st_ino)) not in found:
                found.add(identity)
                waiting += (
                    [entry.path for entry in os.scandir(path)]
                    if stat.S_ISDIR(status.st_mode)
                    else []
                )
    return found


def _check_replaceable(out: Path, where: str, inputs: set[tuple[int, int]], force: bool) -> None:
    status = os.stat(out) if os.path.exists(out) else None
    if status and (status.st_dev, status.st_ino) in inputs:
        raise InputError(f"{where}: is read by this command; choose another name")
    if not status or not stat.S_ISREG(status.st_mode):
        raise InputError(f"{where}: is no regular file; choose another name")
    if not force:
        raise InputError(f"{where}: is there already; choose another name, or add --force")
    if not ours(out):
        raise InputError(
            f"{where}: was not written by genjax; move it away, or choose another name"
        )


def _same(first: Path | str, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one of them is not there
        return False


def _exists(path: Path) -> bool:
    """Whether anything is there, be it a link that leads nowhere. Raises OSError where that cannot be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as error:  # a null byte
        raise OSError(str(error)) from None
    return True


# --- all or nothing ----------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A temporary path beside `path`, whose file or folder takes its place at the end.

    check: called just before that, for what may have appeared meanwhile. After an exception the
    temporary one is removed; one that a kill left behind is removed by the next command that
    writes into the same folder. A link to a file or a folder is followed, another one replaced.
    An OSError names `path`; a device is one.
    """
    sweep(_target(path).parent)
    with _replacing(path, check) as temporary:
        yield temporary


def _target(path: Path) -> Path:
    """What is replaced when `path` is written: where a link leads, but never a device (/dev/null), which all the system needs."""
    target = Path(os.path.realpath(path))
    if path.is_symlink() and target.exists() and not (target.is_file() or target.is_dir()):
        return Path(os.path.realpath(path.parent), path.name)
    if target.is_char_device() or target.is_block_device():
        raise OSError(errno.EINVAL, "is a device, not a file", str(path))
    return target


@contextlib.contextmanager
def _replacing(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    target = _target(path)
    temporary = target.with_name(_part(target.name))
    try:
        with naming(path):
            yield temporary
            check()
            if target.is_dir() and temporary.is_dir():  # a folder cannot be replaced in one step
                old = target.with_name(_part(f"{target.name} before"))
                os.replace(target, old)
                os.replace(temporary, target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, target)
    finally:
        remove(temporary)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, whenever the process is killed. Raises OSError that names it."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have each OSError name this file: that of a full disk names none, one of a temporary file another."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that are gone."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            match = PART.fullmatch(name)
            if match and _abandoned(folder / name, int(match[1]), match[2]):
                remove(folder / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _part(name: str) -> str:
    return (
        f".genjax-{os.getpid()}-{_host()}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}.part"
    )


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _abandoned(path: Path, process: int, host: str) -> bool:
    written = os.lstat(path).st_mtime
    if time.time() - written > STALE_SECONDS:
        return True
    if host != _host() or os.name != "posix":
        return False
    if process == os.getpid():  # of a container's earlier life, where numbers repeat
        return written < _STARTED - 60
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's process of this number
        pass
    return False


# --- folders of outputs ------------------------------------------------------------------


def note(**facts: Any) -> str:
    """What a file says beside its mark of how it was made: a digest of these facts, which are plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Folder(NamedTuple):
    """A folder that a command writes files into."""

    path: Path
    done: frozenset[str]  # names that the same command has finished before
    replaced: frozenset[str]  # names of files that give way

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all or nothing. Raises InputError if it cannot be written, or has appeared meanwhile."""
        path = self.path / name

        def check():
            if name not in self.replaced and os.path.lexists(path):
                raise InputError(
                    f"{path}: has appeared meanwhile; does another command write there?"
                )

        try:
            with _replacing(path, check) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({reason(error)})") from None


def open_folder(
    out: Path,
    names: Sequence[str],
    made: Callable[[str], str],
    *,
    sources: Sequence[str] = (),
    read: Iterable[Path | str] = (),
    force: bool = False,
) -> Folder:
    """Make or open the folder of --out for files of these names, or refuse it.

    made: gives the `note` of a name. sources: what the files are made from, for messages.
    Files that are there with the same note are `done`: the same command, repeated after a kill,
    has only the others to make. What else is there under these names gives way to --force if
    genjax wrote it. Raises InputError, before anything is written, where two names are one on a
    disk that ignores case, or something would be lost.
    """
    where, read = f"--out {printable(str(out))}", list(read)
    check_folder(out, read=read)
    _check_distinct(names, sources or names, where)
    try:
        there = [name for name in names if _exists(out / name)]
        done = frozenset(
            name for name in there if ours(out / name) and ours(out / name, made(name))
        )
        replaced = frozenset(there) - done
        inputs = identities(read) if replaced else set()
        for name in there:
            if name not in done:
                _check_replaceable(
                    out / name,
                    f"{where}: {printable(name)} ({len(replaced)} in all)",
                    inputs,
                    force,
                )
        for folder in {out, *((out / name).parent for name in names)}:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
    except OSError as error:
        raise InputError(f"{where}: cannot be written ({reason(error)})") from None
    return Folder(out, done, replaced)


def _check_distinct(names: Sequence[str], sources: Sequence[str], where: str) -> None:
    folded: dict[str, str] = {}  # sources
    for name, source in zip(names, sources, strict=True):
        if other := folded.get(_folded(name)):
            raise InputError(
                f"{where}: {printable(other)} and {printable(source)} would be one file; rename one"
            )
        folded[_folded(name)] = source
    for name, source in zip(names, sources, strict=True):
        for folder in Path(name).parents:
            if other := folded.get(_folded(str(folder))):
                raise InputError(
                    f"{where}: {printable(other)} would be the folder of {printable(source)}; rename one"
                )


def _folded(name: str) -> str:
    """What two names have in common that are one on disks that ignore case and ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
