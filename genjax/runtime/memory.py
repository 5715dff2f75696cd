"""Memory of a process that computes on a CPU."""

import ctypes
import os
import re
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> bool:
    """Keep freed memory for reuse; return whether it took effect.

    XLA allocates a program's temporaries at each call. By default glibc returns large
    ones to the system afterwards, and getting them back page by page takes up to a
    third of the time of generating images (benchmarks/NOTES.md). The process then stays
    at its peak size. Does nothing with another allocator than glibc's, or if the
    environment sets MALLOC_...
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


def available() -> int | None:
    """Bytes that this process can still allocate; None if unknown.

    The least of the machine's free memory, its container's limit and `ulimit -v`.
    """
    free = [_number("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024)]
    for folder, limit, used in (  # cgroups of version 2 and 1
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, now = _number(f"{folder}/{limit}", r"(\d+)"), _number(f"{folder}/{used}", r"(\d+)")
        # The kernel frees cached files on demand.
        cached = _number(f"{folder}/memory.stat", r"(?m)^(?:total_)?inactive_file (\d+)") or 0
        free.append(most - max(now - cached, 0) if most is not None and now is not None else None)
    most = _number("/proc/self/limits", r"Max address space\s+(\d+)")
    now = _number("/proc/self/statm", r"(\d+)", _PAGE)
    free.append(most - now if most is not None and now is not None else None)
    known = [size for size in free if size is not None]
    return max(min(known), 0) if known else None


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _number(path: str, pattern: str, unit: int = 1) -> int | None:
    """First number that matches in a file of the kernel; None if there is none."""
    try:
        match = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(match[1]) * unit if match else None
