"""SIGTERM and Ctrl-C, caught for a loop that saves before it ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
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

    def announce() -> None:
        while number := os.read(reader, 1):
            if number[0] in previous:
                name = signal.Signals(number[0]).name
                line = f"{name}: the run saves its state and stops after the current steps"
                print(line, file=sys.stderr, flush=True)
                return

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listener = threading.Thread(target=announce, daemon=True)
    listener.start()
    try:
        yield names
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(writer)  # which ends the listener
        listener.join()
        os.close(reader)
