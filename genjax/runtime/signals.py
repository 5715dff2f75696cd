"""SIGTERM and Ctrl-C, caught for a loop that saves before it ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Container, Iterator
from typing import Any


@contextlib.contextmanager
def caught() -> Iterator[list[str]]:
    """Yield a list that gets the names of SIGTERM and SIGINT as they arrive.

    A second Ctrl-C interrupts at once. Outside of the main thread the list stays empty.
    A line on standard error confirms a signal at once, from another thread: the main
    one may be inside XLA, and Python's handlers wait for it.
    """
    names: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield names
        return

    def note(number: int, _: Any) -> None:
        if names and number == signal.SIGINT:
            raise KeyboardInterrupt
        names.append(signal.Signals(number).name)

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # Windows has no pipes that a signal may write to: there is no line at once there.
        with contextlib.nullcontext() if os.name == "nt" else _announced(previous):
            yield names
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _announced(numbers: Container[int]) -> Iterator[None]:
    """Print a line, from another thread, at the first of these signals."""

    def announce() -> None:
        while number := os.read(reader, 1):
            if number[0] in numbers:
                name = signal.Signals(number[0]).name
                line = f"{name}: the run saves its state and stops after the current steps"
                print(line, file=sys.stderr, flush=True)
                return

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listener = threading.Thread(target=announce, daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the listener
        listener.join()
        os.close(reader)
