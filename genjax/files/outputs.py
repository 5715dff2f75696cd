"""Rules for output files, in one place, and atomic writing.

A command replaces neither a file that it reads nor one that genjax did not write. Files
that genjax wrote carry MARK; they are replaced with `force` only.
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

from genjax.errors import ConfigError, InputError, printable, reason
from genjax.files.bounded import Malformed, open_regular

MARK = "made with genjax"  # in a comment or a metadata field, which readers ignore
MARKED_BYTES = 2**20  # at the start and at the end of a file, where MARK is searched
# Name of a temporary file: process, digest of the host, digest of the name.
PART = re.compile(r"\.genjax-(\d{1,10})-([0-9a-f]{8})-[0-9a-f]{8}\.part")
STALE_SECONDS = 86_400.0  # age at which a temporary file of another machine is removed

_STARTED = time.time()


# --- one file -------------------------------------------------------------------------


def check_file(
    out: Path, field: str = "out", *, read: Iterable[Path | str] = (), force: bool = False
) -> None:
    """Check that the file `out` can be written and that nothing is lost.

    Args:
        out: the file
        field: the argument that errors name
        read: files and folders that the command reads; neither they nor anything in
            them may be replaced, under any name
        force: a file that genjax wrote may be replaced

    Raises:
        ConfigError: the file cannot be written, or would replace another that must stay
    """
    check_local(out, field)
    folder = out.absolute().parent
    try:
        exists = _exists(out)
        if not out.name or os.path.isdir(out):
            raise ConfigError(field, out, "is a folder; give a file's name")
        if not os.path.isdir(folder):
            raise ConfigError(field, out, "not in a folder that exists")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(field, out, "its folder cannot be written to; choose another one")
        if exists:
            why = _irreplaceable(out, identities(read), force)
            if why:
                raise ConfigError(field, out, why)
    except OSError as error:  # such as a name that is too long
        raise ConfigError(field, out, f"cannot be written ({reason(error)})") from None


def check_local(path: Path, field: str) -> None:
    """Refuse an address of an object store, of which `Path` would make a local folder.

    field: the argument that errors name
    Raises ConfigError: the path begins with a scheme, such as gs:// or s3://
    """
    if scheme := re.match(r"([a-z][a-z0-9]+):/+", str(path)):
        shown = path.as_posix().replace(scheme[0], f"{scheme[1]}://", 1)
        advice = "object stores are not supported yet; give a local or mounted folder"
        raise ConfigError(field, shown, advice)


def check_folder(out: Path, field: str = "out", read: Iterable[Path | str] = ()) -> None:
    """Check that files can be written into the folder `out`, or that it can be made.

    field: the argument that errors name. read: what the command reads.
    Raises ConfigError: it cannot be written to, or is one of `read`.
    """
    check_local(out, field)
    try:
        if _exists(out) and not os.path.isdir(out):
            raise ConfigError(field, out, "is a file; choose a folder")
        nearest = next(path for path in (out.absolute(), *out.absolute().parents) if _exists(path))
        shown = printable(str(nearest))
        if not os.path.isdir(nearest):
            raise ConfigError(field, out, f"{shown} is no folder; choose another one")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(field, out, f"{shown} cannot be written to; choose another one")
    except OSError as error:
        raise ConfigError(field, out, f"cannot be written ({reason(error)})") from None
    if any(_same(path, out) for path in read):
        raise ConfigError(field, out, "is read by this command; choose another folder")


def ours(path: Path, made: str = "") -> bool:
    """Whether genjax wrote this regular file: MARK is near its start or end.

    made: the `note` that must follow the mark; "" for any.
    """
    try:
        with open_regular(path) as file:
            ends = file.read(MARKED_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - MARKED_BYTES))
            return f"{MARK} {made}".strip().encode() in ends + b"|" + file.read(MARKED_BYTES)
    except (OSError, Malformed):
        return False


def identities(read: Iterable[Path | str]) -> set[tuple[int, int]]:
    """Device and inode of files and folders and of everything in them, through links.

    They identify a file under any name. Paths that do not exist are ignored.
    """
    result: set[tuple[int, int]] = set()
    waiting = [os.fspath(path) for path in read]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError, ValueError):  # no file: "digits" is an embedded set
            status = os.stat(path)
            if (identity := (status.st_dev, status.st_ino)) not in result:
                result.add(identity)
                if stat.S_ISDIR(status.st_mode):
                    waiting += [entry.path for entry in os.scandir(path)]
    return result


def _irreplaceable(out: Path, inputs: set[tuple[int, int]], force: bool) -> str:
    """Why an existing file may not be replaced, and what would work; "" if it may.

    inputs: `identities` of what the command reads.
    """
    status = os.stat(out) if os.path.exists(out) else None
    if status and (status.st_dev, status.st_ino) in inputs:
        return "is read by this command; choose another name"
    if not status or not stat.S_ISREG(status.st_mode):
        return "is no regular file; choose another name"
    if not force:
        return "is there already; choose another name, or add `force`"
    if not ours(out):
        return "was not written by genjax; move it away, or choose another name"
    return ""


def _same(first: Path | str, second: Path) -> bool:
    """Whether two paths lead to one existing file."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one of them does not exist
        return False


def _exists(path: Path) -> bool:
    """Whether there is anything at a path, even a broken link.

    Raises OSError: that cannot be determined.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as error:  # a null byte
        raise OSError(str(error)) from None
    return True


# --- all or nothing -------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A context with a temporary path, which replaces `path` at the end.

        with outputs.replacing(Path("a.png")) as temporary:
            temporary.write_bytes(data)

    After an exception the temporary file is removed; one that a kill left behind is
    removed by the next command that writes into the same folder. A link to a file or
    folder is followed, any other link is replaced.

    path: the file or folder. check: called just before the replacement; it raises if
    something has appeared at `path`.
    Raises OSError: it cannot be written, or is a device; the error names `path`.
    """
    sweep(_target(path).parent)
    with _replacing(path, check) as temporary:
        yield temporary


def _target(path: Path) -> Path:
    """The path to replace when `path` is written: a link's target, or the link.

    Never a device: to replace /dev/null would break the system. Raises OSError: it is
    one.
    """
    target = Path(os.path.realpath(path))
    if path.is_symlink() and target.exists() and not (target.is_file() or target.is_dir()):
        return Path(os.path.realpath(path.parent), path.name)
    if target.is_char_device() or target.is_block_device():
        raise OSError(errno.EINVAL, "is a device, not a file", str(path))
    return target


@contextlib.contextmanager
def _replacing(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """`replacing` without the removal of what kills left behind."""
    target = _target(path)
    temporary = target.with_name(_part(target.name))
    try:
        with naming(path):
            yield temporary
            check()
            if target.is_dir() and temporary.is_dir():  # a folder takes two steps
                old = target.with_name(_part(f"{target.name} before"))
                os.replace(target, old)
                os.replace(temporary, target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, target)
    finally:
        remove(temporary)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is complete or not there, even if the process is killed.

    Raises OSError: it cannot be written; the error names `path`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let each OSError name this file.

    That of a full disk names none, and that of a temporary file names the temporary
    file.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def sweep(folder: Path) -> None:
    """Remove the temporary files of ended processes from a folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            match = PART.fullmatch(name)
            if match and _abandoned(folder / name, int(match[1]), match[2]):
                remove(folder / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _part(name: str) -> str:
    """The name of this process's temporary file for a file of this name; see PART."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f".genjax-{os.getpid()}-{_host()}-{digest}.part"


def _host() -> str:
    """A digest of this machine's name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _abandoned(path: Path, process: int, host: str) -> bool:
    """Whether the process that wrote a temporary file is known to have ended."""
    written = os.lstat(path).st_mtime
    if time.time() - written > STALE_SECONDS:
        return True
    if host != _host() or os.name != "posix":
        return False
    if process == os.getpid():  # of an earlier start of a container, where numbers repeat
        return written < _STARTED - 60
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process has this number
        pass
    return False


# --- folders of outputs ---------------------------------------------------------------


def note(**facts: Any) -> str:
    """A digest of how a file is made, 32 hexadecimal digits, to be stored beside MARK.

    facts: plain data that JSON can hold, such as settings and digests of the inputs.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Folder(NamedTuple):
    """A folder that a command writes files into."""

    path: Path
    done: frozenset[str]  # names of files that the same command has finished before
    replaced: frozenset[str]  # names of existing files that are replaced

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises InputError: it cannot be written, or appeared after the folder was
        opened.
        """
        path = self.path / name

        def check() -> None:
            if name not in self.replaced and os.path.lexists(path):
                advice = "does another command write there?"
                raise InputError(f"{path}: has appeared meanwhile; {advice}")

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
    """Make or open the folder `out` of a command that writes files of these names.

    Files that exist with the same note are `done`: repeated after a kill, the command
    makes only the others. Other existing files of these names are replaced with `force`
    if genjax wrote them.

    Args:
        out: the folder
        names: of the files, relative to it
        made: returns the `note` of a name; called only for files that exist
        sources: what each file is made from, for messages; by default its name
        read: files and folders that the command reads
        force: files that genjax wrote may be replaced

    Raises:
        ConfigError: before anything is written, if two names would be one file on a
            disk that ignores case, something would be lost, or the folder cannot be
            written to
    """
    read = list(read)
    check_folder(out, read=read)
    _check_distinct(names, sources or names, out)
    try:
        existing = [name for name in names if _exists(out / name)]
        finished = [name for name in existing if ours(out / name) and ours(out / name, made(name))]
        done = frozenset(finished)
        replaced = frozenset(existing) - done
        inputs = identities(read) if replaced else set()
        for name in existing:
            if name not in done and (why := _irreplaceable(out / name, inputs, force)):
                count = f"{len(replaced)} in all"
                raise ConfigError("out", out, f"{printable(name)} ({count}): {why}")
        for folder in {out, *((out / name).parent for name in names)}:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
    except OSError as error:
        raise ConfigError("out", out, f"cannot be written ({reason(error)})") from None
    return Folder(out, done, replaced)


def _check_distinct(names: Sequence[str], sources: Sequence[str], out: Path) -> None:
    """Raise ConfigError if a name would be the file or the folder of another."""
    by_name: dict[str, str] = {}  # folded name -> source
    for name, source in zip(names, sources, strict=True):
        if other := by_name.get(_folded(name)):
            pair = f"{printable(other)} and {printable(source)}"
            raise ConfigError("out", out, f"{pair} would be one file; rename one")
        by_name[_folded(name)] = source
    for name, source in zip(names, sources, strict=True):
        for folder in Path(name).parents:
            if other := by_name.get(_folded(str(folder))):
                clash = f"{printable(other)} would be the folder of {printable(source)}"
                raise ConfigError("out", out, f"{clash}; rename one")


def _folded(name: str) -> str:
    """One text for all names that are one file where case or accents are ignored."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
