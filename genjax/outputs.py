"""Where commands may write, decided in one place, and writing that is all or nothing.

Nothing that a command reads is written over, nor anything that genjax did not write. All its
files carry MARK, by which they are known again; only those give way, and only to --force.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from genjax.errors import InputError, printable, reason

MARK = "made with genjax"  # in a comment or a field of metadata, which readers ignore
MARKED_BYTES = 2**20  # at a file's beginning and end, where the mark is looked for
PART = re.compile(r"\.genjax-(\d{1,10})-([0-9a-f]{8})-[0-9a-f]{8}\.part")
STALE_SECONDS = 86_400.0  # after which a temporary file of another machine is removed


def check_file(
    out: Path, option: str = "--out", *, read: Iterable[Path | str] = (), force: bool = False
) -> None:
    """Raise InputError, naming `option`, unless `out` can be written and nothing is lost.

    read: files and folders that the command reads; neither they nor anything in them is
    written over, under whatever name. force: a file that genjax wrote may be replaced.
    """
    where = f"{option} {printable(str(out))}"
    if not out.name or out.is_dir():
        raise InputError(f"{where}: is a folder; give a file's name")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{where}: not in a folder that exists")
    if not os.access(out.absolute().parent, os.W_OK):
        raise InputError(f"{where}: its folder cannot be written to; choose another one")
    if os.path.lexists(out):
        _check_replaceable(out, where, [Path(path) for path in read], force)


def ours(path: Path, made: str = "") -> bool:
    """Whether genjax wrote this regular file, and with the `note` made, by the mark in its first or last MB."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return False
            ends = file.read(MARKED_BYTES)
            file.seek(max(0, status.st_size - MARKED_BYTES))
            return f"{MARK} {made}".strip().encode() in ends + b"|" + file.read(MARKED_BYTES)
    except OSError:
        return False


_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # or to open a pipe would wait for ever


def _check_replaceable(out: Path, where: str, read: Sequence[Path], force: bool) -> None:
    for path in read:
        if _same(path, out) or (path.is_dir() and out.resolve().is_relative_to(path.resolve())):
            raise InputError(f"{where}: is read by this command; choose another name")
    if not stat.S_ISREG(os.stat(out).st_mode if out.exists() else 0):
        raise InputError(f"{where}: is no regular file; choose another name")
    if not force:
        raise InputError(f"{where}: is there already; choose another name, or add --force")
    if not ours(out):
        raise InputError(f"{where}: was not written by genjax; move it away, or choose another name")


def _same(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:  # one of them is not there
        return False


# --- all or nothing ----------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose file or folder takes its place at the end.

    After an exception it is removed; one that a kill left behind is removed by the next
    command that writes into the same folder. A link is followed, not replaced.
    """
    path = path.resolve()
    sweep(path.parent)
    temporary = path.with_name(_part(path.name))
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():  # a folder cannot be replaced in one step
            old = path.with_name(_part(f"{path.name} before"))
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        remove(temporary)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, whenever the process is killed. Raises OSError that names it."""
    with naming(path), replacing(path) as temporary:
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
    return f".genjax-{os.getpid()}-{_host()}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}.part"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _abandoned(path: Path, process: int, host: str) -> bool:
    if time.time() - os.lstat(path).st_mtime > STALE_SECONDS:
        return True
    if host != _host() or os.name != "posix" or process == os.getpid():
        return False
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


def open_folder(
    out: Path,
    notes: Sequence[tuple[str, str]],
    *,
    read: Iterable[Path | str] = (),
    force: bool = False,
) -> set[str]:
    """Make or open the folder of --out for files, given as (name, its `note`), or refuse it.

    Returns the names of those that are there with the same note: the same command, repeated
    after a kill, has only the others to make. What else is there under these names gives way
    to --force if genjax wrote it. Raises InputError, before anything is written, where two
    names are one on a disk that ignores case, or something would be lost.
    """
    where, inputs = f"--out {printable(str(out))}", [Path(path) for path in read]
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{where}: is a file; choose a folder")
    folded: dict[str, str] = {}
    for name, _ in notes:
        if name.casefold() in folded:
            raise InputError(f"{where}: two files would be {printable(folded[name.casefold()])}; rename one's source")
        folded[name.casefold()] = name
    there = [(name, made) for name, made in notes if os.path.lexists(out / name)]
    done = {name for name, made in there if ours(out / name, made)}
    for name, _ in there:
        if name not in done:
            what = f"{where}: {printable(name)} ({len(there)} in all)"
            _check_replaceable(out / name, what, inputs, force)
    try:
        for folder in {out, *((out / name).parent for name, _ in notes)}:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
    except OSError as error:
        raise InputError(f"{where}: cannot be written ({reason(error)})") from None
    return done
