"""Several processes that train together: joining, and meeting at one point."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from genjax.errors import ConfigError, reason

JOIN_SECONDS = 300  # how long the other processes are waited for at the start, and ...
MEET_SECONDS = 1800  # ... at a point where all must meet


def join(distributed: str) -> None:
    """Become one of several processes that train together.

    distributed: auto (SLURM, Cloud TPU, Open MPI) or ADDRESS:PORT,COUNT,INDEX

    Raises ConfigError for another form; ends the process with exit code 2 where the
    others do not come within JOIN_SECONDS.
    """
    advice = "auto under SLURM, Cloud TPU or Open MPI, else ADDRESS:PORT,COUNT,INDEX"
    longer = JOIN_SECONDS + 60  # JAX's own timeout aborts with a trace
    try:
        if distributed == "auto":
            with waiting("the other processes of `distributed` auto", JOIN_SECONDS):
                jax.distributed.initialize(initialization_timeout=longer)
            return
        if not (form := re.fullmatch(r"(.+:\d+),(\d+),(\d+)", distributed)):
            raise ValueError("not of that form")
        address, count, index = form[1], int(form[2]), int(form[3])
        if not index < count:
            raise ValueError(f"INDEX {index} is not from 0 to {count - 1}")
        others = f"the other {count - 1} processes at {address}"
        with waiting(others if index == 0 else f"process 0 at {address}", JOIN_SECONDS):
            jax.distributed.initialize(address, count, index, initialization_timeout=longer)
    except (ValueError, RuntimeError) as error:
        raise ConfigError("distributed", distributed, f"{reason(error)}; {advice}") from None


def meet(what: str) -> None:
    """Wait until all processes have done `what`; end with exit code 2 after
    MEET_SECONDS.
    """
    if jax.process_count() > 1:
        with waiting(f"the other {jax.process_count() - 1} processes: {what}", MEET_SECONDS):
            multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def waiting(whom: str, most: float) -> Iterator[None]:
    """Print whom this process waits for, after some seconds; end the process after
    `most`.

    The wait itself cannot be ended.
    """

    def announce():
        print(f"waiting for {whom}, at most {most:g} s", file=sys.stderr, flush=True)

    def give_up():
        name = Path(sys.argv[0]).name
        print(f"{name}: waited {most:g} s in vain for {whom}", file=sys.stderr, flush=True)
        os._exit(2)

    timers = [threading.Timer(min(5.0, most / 2), announce), threading.Timer(most, give_up)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
