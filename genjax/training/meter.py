"""Means of the metrics and the speed between two log rows."""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from genjax.core import Array, Metrics
from genjax.errors import NotFinite


class Dispatch(NamedTuple):
    """A program that was started, some number of times in one go."""

    step: int  # the first step that it is part of
    runs: int  # how often the program runs
    steps: int  # by how many steps the runs advance: none of a lazy term's
    batch_size: int
    sums: Metrics  # over the runs
    done: Array  # number of runs that ended, all with finite metrics


class Meter:
    """Accumulates metrics; compiling and hooks do not count as training time."""

    def __init__(self, step: int):
        self.row: dict[str, float] = {"step": step}
        self.train_sec = 0.0
        self._compile_sec: dict[str, float] = {}  # by program, since the last row
        self._last_sync = time.perf_counter()
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}  # runs behind each sum; a lazy term has fewer
        self._images = self._step = 0
        self._seconds = 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the training time."""
        began = time.perf_counter()
        yield
        self._last_sync += time.perf_counter() - began

    def compiled(self, name: str, seconds: float) -> None:
        """Record the compile time of a program for the next row."""
        self._compile_sec[name] = self._compile_sec.get(name, 0.0) + seconds

    def sync(self, dispatches: list[Dispatch]) -> float:
        """Wait for dispatches and add their metrics; return seconds per step.

        Raises NotFinite, with the metric's name and the step.
        """
        for step, runs, steps, batch_size, sums, done in dispatches:
            sums, done = jax.device_get((sums, done))
            for name, value in sums.items():
                if not np.isfinite(value):
                    raise NotFinite(name, value, step + int(done))
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
                self._counts[name] = self._counts.get(name, 0) + runs
            self._images, self._step = self._images + steps * batch_size, step + steps
        now = time.perf_counter()
        seconds, self._last_sync = now - self._last_sync, now
        self._seconds += seconds
        self.train_sec += seconds
        return max(seconds, 1e-9) / sum(dispatch.steps for dispatch in dispatches)

    def close(self) -> None:
        """Set `row` to the means since the last call."""
        row: dict[str, float] = {
            "step": self._step,
            "images_per_sec": self._images / max(self._seconds, 1e-9),
        }
        programs, self._compile_sec = self._compile_sec, {}
        if programs:
            row["compile_sec"] = round(sum(programs.values()), 3)
        if len(programs) > 1:
            row |= {f"compile_sec_{name}": round(sec, 3) for name, sec in programs.items()}
        self.row = row | {
            name: value / self._counts[name] for name, value in sorted(self._sums.items())
        }
        self._clear()
