"""What is kept between runs, in the folder GENJAX_CACHE, ~/.cache/genjax if not set: compiled programs, features of data sets. All of it may be deleted."""

import contextlib
import hashlib
import os
import platform
import re
import warnings
from pathlib import Path

import jax

from genjax.errors import one_line

VARIABLE = "GENJAX_CACHE"


def folder() -> Path:
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "genjax")


def private(name: str) -> Path | None:
    """The cache's folder `name` (A or A/B), made for this user alone if it is not there. None: do without it.

    That is where it cannot be made, and, with a warning, where it or a folder above it within the cache is another
    user's or may be written by others: they could put programs or numbers into it.
    """
    path = folder()
    for part in ("", *Path(name).parts):
        path = path / part
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = path.stat()
        except OSError:
            return None
        if os.name != "posix":  # neither owners nor modes
            continue
        advice = f"set {VARIABLE} to a folder of your own"
        if status.st_uid != os.geteuid():
            return _unused(f"{path} belongs to another user", advice)
        if status.st_mode & 0o022:
            return _unused(f"others may write to {path}", f"chmod go-w it, or {advice}")
        if (
            part and status.st_mode & 0o077
        ):  # as version 0.1 made it; the folder that the user named keeps its mode
            with contextlib.suppress(OSError):
                path.chmod(0o700)
    return path


def _unused(why: str, advice: str) -> None:
    warnings.warn(one_line(f"nothing is cached: {why}; {advice}"), stacklevel=3)


def keep_programs() -> None:
    """Have JAX keep what it compiles, unless it was told where, or the folder is not this user's alone.

    Each kind of CPU has a folder of its own: a home directory is often shared by machines, and a program holds the instructions of one.
    """
    warnings.filterwarnings("always", UNREADABLE)  # for `mended`
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    programs = private(f"programs/{_processor()}")
    if programs is not None and os.access(programs, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(programs))


UNREADABLE = "Error reading persistent compilation cache entry for '([^']+)'"  # as JAX warns


def mended(warning: str) -> str | None:
    """What to say in place of JAX's warning of a damaged program, once those of its name are removed; None of any other warning.

    JAX compiles it then, but does not write over what is there: it would warn and compile for ever.
    """
    found = re.match(UNREADABLE, warning)
    programs = jax.config.values["jax_compilation_cache_dir"]
    if found is None or programs is None or not re.fullmatch(r"\w+", found[1]):
        return None
    for path in Path(programs).glob(f"{found[1]}-*-cache"):
        path.unlink(missing_ok=True)
    return f"a compiled program in {programs} is damaged ({found[1]}); it is compiled again and replaced"


def _processor() -> str:
    """What tells processors of different instructions apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.startswith(("flags", "Features")))  # x86, Arm
    except (OSError, StopIteration):
        known = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"
