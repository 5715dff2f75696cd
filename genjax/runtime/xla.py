"""Compiling the programs that take the most time, with options of XLA."""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from genjax import target
from genjax.errors import InputError
from genjax.runtime.memory import available

CPU = {
    # Only the reductions of YNNPACK. Its products and convolutions leave cores idle
    # beside XLA's: without them steps take 0 to 20 % less time, Inception a quarter
    # less (benchmarks/NOTES.md).
    "reductions": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
    # Vectors of AVX-512, if the processor has them: steps take up to 4 % less time.
    "wide": {"xla_cpu_prefer_vector_width": 512},
    # LLVM's first level of optimisation: all models measured are as fast and take a
    # fifth less time to compile.
    "quick": {"xla_backend_optimization_level": 1},
}
FEATURES = ("reductions", "wide")  # for feature extractors
STEP = (*FEATURES, "quick")  # for training steps


def options(platform: str, *names: str) -> dict[str, Any]:
    """Compiler options of these names for a CPU; none for other platforms.

    Leaves out options that XLA_FLAGS mentions, and those that this version of XLA
    lacks.
    """
    if platform != "cpu":
        return {}
    wanted = {
        option: value
        for name in names
        for option, value in CPU[name].items()
        if option not in os.environ.get("XLA_FLAGS", "")
    }
    return {option: value for option, value in wanted.items() if _known(option, value)}


def deterministic() -> None:
    """Have GPUs sum in the same order in every run, for bits that are the same.

    Sets an option of XLA that is read before JAX's first computation: call it before.
    CPUs and TPUs do so anyway.
    """
    flag = "--xla_gpu_deterministic_ops=true"
    if flag not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


@functools.cache
def _known(option: str, value: Any) -> bool:
    """Whether this version of XLA has the option."""
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


# --- compiling ------------------------------------------------------------------------


class NotEnoughMemory(InputError):
    """A program needs more memory than its device has; the message says how much."""


class Interrupted(Exception):
    """A signal arrived while a program was being compiled."""


TOLD_SECONDS = 10  # time between reports that a compilation is still running
_compiling: set[threading.Thread] = set()


def compiling() -> bool:
    """Whether an abandoned compilation is still running.

    The process must then end by `os._exit`, because XLA cannot be interrupted.
    """
    return any(thread.is_alive() for thread in _compiling)


def compiled(
    program: Callable[..., Any],
    arguments: Sequence[Any],
    names: Sequence[str],
    stop: Callable[[], object] = bool,
    **how: Any,
) -> Any:
    """Compile `program` for these arguments, with `options`.

    Compiles in a separate thread: Python handles signals between instructions of the
    main thread only, which would be inside XLA for minutes.

    Args:
        program: function to compile
        arguments: example arguments, on the devices to compile for
        names: names of compiler options, in CPU
        stop: returns true if the compilation should be abandoned
        **how: keyword arguments of `jax.jit`

    Raises:
        Interrupted: `stop()` became true.
        NotEnoughMemory: the program needs more memory than there is.
    """
    chosen = options(target.platform_of(arguments), *names)
    make = lambda: jax.jit(program, **how).lower(*arguments).compile(chosen)
    in_main = threading.current_thread() is threading.main_thread()
    executable = _beside(make, stop) if in_main else make()
    check_memory(executable)
    return executable


def _beside(make: Callable[[], Any], stop: Callable[[], object]) -> Any:
    """Run `make()` in another thread while this one handles signals.

    Reports on standard error every TOLD_SECONDS that it is still running.
    """
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


def memory_needed(executable: Any) -> int:
    """Bytes per device: arguments, outputs without aliases of them, temporaries."""
    sizes = executable.memory_analysis()
    outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + outputs + sizes.temp_size_in_bytes


def check_memory(executable: Any) -> None:
    """Check that a compiled program fits into the memory left on its device.

    Raises:
        NotEnoughMemory: it does not
    """
    sizes = executable.memory_analysis()
    if sizes is None:  # unknown on this backend
        return
    needed = memory_needed(executable) - sizes.argument_size_in_bytes  # which are there already
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # all of its devices share the machine's memory
        needed *= jax.local_device_count()
        left = available()
    else:
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        left = None if limit is None else limit - stats.get("bytes_in_use", 0)
    if left is not None and needed > left:
        room = f"{device.device_kind} has {_size(left)} left"
        raise NotEnoughMemory(f"{_size(needed)} of memory, {room}")


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
