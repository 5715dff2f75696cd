"""Freed memory stays with the process: large arrays reuse it without page faults."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from genjax.runtime import memory
kept = memory.keep_freed() if sys.argv[1] == "keep" else False
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * 2**26
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, faults[-1])
"""


def faults(how: str, **variables: str) -> tuple[bool, int]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")
    } | variables
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


def test_large_blocks_stay():
    kept, count = faults("keep")
    if not kept:
        pytest.skip("no glibc")
    assert count < 100 < faults("")[1]


def test_the_environments_word_counts():
    kept, count = faults("keep", MALLOC_MMAP_THRESHOLD_="100000")
    assert not kept
    assert count > 100
