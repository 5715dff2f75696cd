"""How the programs that take the most time are compiled: options of XLA's compiler."""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from genjax.errors import InputError
from genjax.runtime.memory import available

CPU = {
    # Of YNNPACK's kernels the reductions alone. Its products and convolutions leave cores idle beside XLA's: steps take 0 to 20 % less time
    # without them, the Inception a quarter less (benchmarks/NOTES.md).
    "reductions": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
    # Vectors as wide as AVX-512's where the processor has them: steps take up to 4 % less time.
    "wide": {"xla_cpu_prefer_vector_width": 512},
    # LLVM's first level of optimisation: all models measured are as fast, and compile in a fifth less.
    "quick": {"xla_backend_optimization_level": 1},
}
FEATURES = ("reductions", "wide")  # what networks whose features are measured are compiled with,
STEP = (*FEATURES, "quick")  # and a training step


def options(*names: str) -> dict[str, Any]:
    """What `compile` and `jit` take as compiler options: on a CPU those of these names, else none.

    Nor those that XLA_FLAGS has a word on, or that this XLA no longer knows.
    """
    if jax.default_backend() != "cpu":
        return {}
    wanted = {
        option: value
        for name in names
        for option, value in CPU[name].items()
        if option not in os.environ.get("XLA_FLAGS", "")
    }
    return {option: value for option, value in wanted.items() if _known(option, value)}


@functools.cache
def _known(option: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


# --- compiling ---------------------------------------------------------------------------------------------------------


class NotEnoughMemory(InputError):
    """A program needs more memory than its device has; the message says how much."""


class Interrupted(Exception):
    """A signal came while a program was being compiled."""


TOLD_SECONDS = 10  # between two lines that say that a compilation goes on
_compiling: set[threading.Thread] = set()


def compiling() -> bool:
    """Whether a compilation that was left still runs: the process must then end by `os._exit`, for XLA cannot be stopped."""
    return any(thread.is_alive() for thread in _compiling)


def compiled(
    program: Callable,
    arguments: Sequence[Any],
    names: Sequence[str],
    stop: Callable[[], object] = bool,
    **how: Any,
) -> Any:
    """Compile `program` for these arguments, with `options(*names)`; `how` is passed to `jit`.

    It compiles in another thread: Python answers signals only between instructions of the main
    thread, which would be inside XLA for minutes.

    Raises Interrupted once `stop()` is true, and NotEnoughMemory where the program needs more
    memory than there is.
    """
    make = lambda: jax.jit(program, **how).lower(*arguments).compile(options(*names))
    executable = (
        make() if threading.current_thread() is not threading.main_thread() else _beside(make, stop)
    )
    check_memory(executable)
    return executable


def _beside(make: Callable[[], Any], stop: Callable[[], object]) -> Any:
    """`make()` in another thread, while this one answers signals and says every TOLD_SECONDS on standard error that it goes on."""
    made: list[Any] = []
    failed: list[BaseException] = []

    def work():
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    _compiling.add(thread)
    thread.start()
    began = told = time.monotonic()
    while True:
        thread.join(0.1)
        if not thread.is_alive():
            break
        if stop():
            raise Interrupted
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            print(f"  compiling for {told - began:.0f} s", file=sys.stderr, flush=True)
    _compiling.discard(thread)
    if failed:
        raise failed[0]
    return made[0]


def check_memory(executable: Any) -> None:
    """Raise NotEnoughMemory if a compiled program needs more memory than its device has left.

    Its arguments are there already.
    """
    sizes = executable.memory_analysis()
    if sizes is None:  # unknown on this backend
        return
    needed = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # all of its devices share the machine's
        needed *= jax.local_device_count()
        left = available()
    else:
        kept = device.memory_stats() or {}
        left = kept["bytes_limit"] - kept.get("bytes_in_use", 0) if "bytes_limit" in kept else None
    if left is not None and needed > left:
        room = f"{device.device_kind} has {_size(left)} left"
        raise NotEnoughMemory(f"{_size(needed)} of memory, {room}")


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
