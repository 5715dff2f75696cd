"""Memory of a process that computes on a CPU."""

import ctypes
import os

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
