"""The cache between runs: compiled programs, and features of data sets.

It is in the folder GENJAX_CACHE, or ~/.cache/genjax if that is not set. Everything in
it may be deleted.
"""

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
    """Path of the cache."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "genjax")


def private(name: str) -> Path | None:
    """Folder `name` (A or A/B) of the cache, created for this user only.

    None (do not cache) if it cannot be created, or, with a warning, if it or a folder
    above it within the cache belongs to another user or is writable by others, who
    could put programs or numbers into it.
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
        # Version 0.1 made these readable by others. The folder that the user named
        # keeps its mode.
        if part and status.st_mode & 0o077:
            with contextlib.suppress(OSError):
                path.chmod(0o700)
    return path


def _unused(why: str, advice: str) -> None:
    warnings.warn(one_line(f"nothing is cached: {why}; {advice}"), stacklevel=3)


def keep_programs() -> None:
    """Enable JAX's cache of compiled programs.

    Does nothing if JAX already has a cache folder, or if ours is not private to this
    user. Each kind of CPU has its own subfolder: machines often share a home directory,
    and a program contains the instructions of one CPU.
    """
    warnings.filterwarnings("always", UNREADABLE)  # for `mended`
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    programs = private(f"programs/{_processor()}")
    if programs is not None and os.access(programs, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(programs))


# JAX's warning.
UNREADABLE = "Error reading persistent compilation cache entry for '([^']+)'"


def mended(warning: str) -> str | None:
    """Remove a damaged program that a warning of JAX names.

    Returns the message to show instead of the warning; None for any other warning. JAX
    recompiles such a program but does not overwrite it, so it would warn and recompile
    in every run.
    """
    match = re.match(UNREADABLE, warning)
    programs = jax.config.values["jax_compilation_cache_dir"]
    if match is None or programs is None or not re.fullmatch(r"\w+", match[1]):
        return None
    name = match[1]
    for path in Path(programs).glob(f"{name}-*-cache"):
        path.unlink(missing_ok=True)
    return (
        f"a compiled program in {programs} is damaged ({name}); it is compiled again and replaced"
    )


def _processor() -> str:
    """Identifier of the machine's instruction set."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.startswith(("flags", "Features")))  # x86, Arm
    except (OSError, StopIteration):
        known = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"
