"""What is kept between runs, in the folder GENJAX_CACHE, ~/.cache/genjax if not set: compiled programs, features of data sets. All of it may be deleted."""

import hashlib
import os
import platform
import re
import stat
import warnings
from pathlib import Path

import jax

VARIABLE = "GENJAX_CACHE"


def folder() -> Path:
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "genjax")


def private(folder: Path) -> bool:
    """Make a folder that only this user can read and write; whether it is one, since what others can write is not to be relied on."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not hasattr(os, "getuid"):  # Windows: a home directory is private by itself
            return os.access(folder, os.W_OK)
        known = folder.lstat()
        if not stat.S_ISDIR(known.st_mode) or known.st_uid != os.getuid():
            return False
        if known.st_mode & 0o077:  # of an earlier version
            folder.chmod(0o700)
        return os.access(folder, os.W_OK)
    except OSError:
        return False


def keep_programs() -> None:
    """Have JAX keep what it compiles, unless it was told where, or the folder is not this user's alone.

    Each kind of CPU has a folder of its own: a home directory is often shared by machines, and a program holds the instructions of one.
    """
    warnings.filterwarnings("always", UNREADABLE)  # for `mended`
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    programs = folder() / "programs" / _processor()
    if private(programs.parent) and private(programs):
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
