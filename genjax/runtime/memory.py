"""Memory of a process that computes on a CPU."""

import ctypes
import os
import re
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> bool:
    """Let this process keep what it frees, for its next programs; whether it does.

    XLA asks for a program's temporaries anew at each call, and by default glibc gives large ones back at the end of it: what then comes in page by
    page takes up to a third of the time of making images (benchmarks/NOTES.md). A process is then as large as it has ever been. It is
    left as it is where another library than glibc allocates, and where the environment has a word on it (MALLOC_...).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


def available() -> int | None:
    """The bytes that this process can still take: of the machine's memory, its container's limit, `ulimit -v`; None where that is unknown."""
    free = [_number("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024)]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, now = _number(limit, r"(\d+)"), _number(used, r"(\d+)")
        cached = (
            _number(
                str(Path(used).with_name("memory.stat")), r"(?m)^(?:total_)?inactive_file (\d+)"
            )
            or 0
        )  # given back on demand
        free.append(most - max(now - cached, 0) if most is not None and now is not None else None)
    most, now = (
        _number("/proc/self/limits", r"Max address space\s+(\d+)"),
        _number("/proc/self/statm", r"(\d+)", _PAGE),
    )
    free.append(most - now if most is not None and now is not None else None)
    known = [size for size in free if size is not None]
    return max(min(known), 0) if known else None


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _number(path: str, pattern: str, unit: int = 1) -> int | None:
    """The first number that matches in a file of the kernel; None where there is none."""
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(found[1]) * unit if found else None
