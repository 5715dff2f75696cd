"""What is kept between runs, in the folder GENJAX_CACHE, ~/.cache/genjax if not set: compiled programs, features of data sets. All of it may be deleted."""

import hashlib
import os
import platform
from pathlib import Path

import jax

VARIABLE = "GENJAX_CACHE"


def folder() -> Path:
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "genjax")


def keep_programs() -> None:
    """Have JAX keep what it compiles, unless it was told where, or the folder cannot be written.

    Each kind of CPU has a folder of its own: a home directory is often shared by machines, and a program holds the instructions of one.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    programs = folder() / "programs" / _processor()
    try:
        programs.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(programs, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(programs))


def _processor() -> str:
    """What tells processors of different instructions apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.startswith(("flags", "Features")))  # x86, Arm
    except (OSError, StopIteration):
        known = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"
