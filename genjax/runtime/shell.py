"""Between commands and their user: parsing, messages, errors and exit codes."""

import contextlib
import errno
import io
import logging
import math
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

# Hide XLA's notes on the machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
try:
    import jax
except ValueError as error:  # of a JAX_... variable in the environment
    print(f"{Path(sys.argv[0]).name}: {error}; unset that variable, or correct it", file=sys.stderr)
    raise SystemExit(2) from None

from genjax.errors import ConfigError, InputError, one_line, printable, reason
from genjax.runtime import cache, memory, xla

T = TypeVar("T")


def parsed(parse: Callable[[], T]) -> T:
    """Call `parse`, which calls tyro, and shorten its error report to one line."""
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report), _numbers():
            return parse()
    except SystemExit as end:
        if end.code:
            problem = printable(_first_paragraph(report.getvalue()), 500)
            print(f"{_name()}: {problem} (--help lists the options)", file=sys.stderr)
        raise
    except BrokenPipeError:  # `--help | head` has read enough
        # Otherwise Python reports at exit what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


LEAST, MOST = -(2**31), 2**32 - 1  # integer options: sizes are 32-bit, seeds unsigned
LARGEST = 3.4028234e38  # floating-point options: the largest float32


def _numbers():
    """Rules of tyro for numeric options: integers in a range, finite floats."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    def integer(text: str) -> int:
        try:
            value = int(text) if len(text) < 20 else math.inf
        except ValueError:
            raise ValueError(f"{printable(text, 40)}: a whole number") from None
        if not LEAST <= value <= MOST:
            raise ValueError(f"{printable(text, 40)}: a whole number from {LEAST} to {MOST}")
        return int(value)

    def finite(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{printable(text, 40)}: a number") from None
        if not abs(value) <= LARGEST:
            raise ValueError(f"{printable(text, 40)}: a finite number")
        return value

    @registry.primitive_rule
    def rule(info):
        if info.type not in (int, float):
            return None
        read = integer if info.type is int else finite
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=info.type.__name__.upper(),
            instance_from_str=lambda texts: read(texts[0]),
            is_instance=lambda value: isinstance(value, int if info.type is int else int | float),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _first_paragraph(report: str) -> str:
    """First paragraph of tyro's boxed report after its heading.

    Outside UTF-8 the box is made of hyphens.
    """
    paragraph, begun = [], False
    for line in report.splitlines():
        text = line.strip("│ ╭╮╰╯")
        rule = "─" in text or set(text) == {"-"}
        if paragraph and (rule or not text):
            break
        begun = begun or rule
        if begun and text and not rule:
            paragraph.append(text)
    text = " ".join(paragraph) or "the command line cannot be read"
    # Begin with the option, as all other messages do.
    return re.sub(r"^Error parsing (--[\w.-]+): (.*: an? .*number)", r"\1 \2", text)


def say(*lines: str) -> None:
    """Print lines on standard error, made printable, in the first process only."""
    if jax.process_index() == 0:
        for line in lines:
            print(one_line(line), file=sys.stderr, flush=True)


def option(field: str) -> str:
    """Name of the command-line option that sets an argument: `max_bad` is --max-bad."""
    return f"--{field.replace('_', '-')}"


def command(arguments: type[T], run: Callable[[T], int]) -> NoReturn:
    """Parse the command line into a dataclass, run, and exit with the code that `run`
    returns.
    """
    import tyro

    args = parsed(lambda: tyro.cli(arguments))
    exit_with(guarded(lambda: run(args)))


def guarded(run: Callable[[], int], option: Callable[[str], str] = option) -> int:
    """Run with compiled programs and freed memory retained; return the exit code.

    Convert errors of the user and of the machine to one line and an exit code; any
    other error is a bug and keeps its traceback. `option(field)` names the option of a
    field.
    """
    warnings.showwarning = _show_warning
    sys.unraisablehook, threading.excepthook = _unraisable, _thread_failed
    # Orbax and its event loops also raise the errors that they log.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # From a read that Orbax abandoned.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    try:
        cache.keep_programs()
        memory.keep_freed()
        return run()
    except KeyboardInterrupt:
        print(f"{_name()}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        line = explained(error, option)
        if line is None:
            raise
        print(f"{_name()}: {one_line(line)}", file=sys.stderr)
        return 2


def explained(error: Exception, option: Callable[[str], str] = option) -> str | None:
    """Describe an error of the input, the machine or the environment in one line.

    None for any other error.
    """
    text = str(error)
    if isinstance(error, ConfigError):
        return error.as_option(option)
    if isinstance(error, InputError):
        return text
    if _out_of_room(error):
        return f"{_named_file(error)}: {_room(error)}"
    if isinstance(error, MemoryError):
        return f"{text or 'not enough memory'}; take fewer or smaller images"
    # Such as a folder without permission, or a file that is a folder.
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    if platforms := _unavailable():
        return platforms
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in text:
        return (
            f"not enough memory on {_device()} ({reason(error)}); "
            "take fewer or smaller images at once"
        )
    switches = {
        name: os.environ[name]
        for name in SWITCHES
        if os.environ.get(name, "").lower() not in ("", "0", "false", "off")
    }
    if switches:
        given = " ".join(f"{name}={value}" for name, value in switches.items())
        return (
            f"{given}: does not work here ({type(error).__name__}: {reason(error)}); "
            "unset it in the environment"
        )
    if isinstance(error, jax.errors.JaxRuntimeError):
        return f"{_device()}: {reason(error, 300)}"
    return None


# Environment variables of JAX, mostly for debugging, under which it may fail where it
# otherwise works.
SWITCHES = (
    "JAX_DISABLE_JIT",
    "JAX_DEBUG_NANS",
    "JAX_DEBUG_INFS",
    "JAX_ENABLE_X64",
    "JAX_ENABLE_CHECKS",
    "JAX_CHECK_TRACER_LEAKS",
    "JAX_DEBUG_KEY_REUSE",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_LEGACY_PRNG_KEY",
    "JAX_TRANSFER_GUARD",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE",
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
    "JAX_COMPILER_ENABLE_REMAT_PASS",
    "JAX_EAGER_PMAP",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DEFAULT_DEVICE",
    "JAX_NUM_CPU_DEVICES",
    "JAX_SOFTMAX_CUSTOM_JVP",
    "JAX_NO_TRACING",
    "JAX_CHECK_STATIC_INDICES",
    "JAX_DISALLOW_MESH_CONTEXT_MANAGER",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
)

_ROOM = {
    errno.ENOSPC: "No space left on device",
    errno.EFBIG: "File too large",
    errno.EDQUOT: "Disk quota exceeded",
}


def _out_of_room(error: BaseException) -> bool:
    """Whether the disk is full. C++ libraries say so in their message only."""
    return (isinstance(error, OSError) and error.errno in _ROOM) or any(
        text in str(error) for text in _ROOM.values()
    )


def _room(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((text for text in _ROOM.values() if text in str(error)), _ROOM[errno.ENOSPC])


def _named_file(error: BaseException) -> str:
    """File or folder that the error is about."""
    if isinstance(error, OSError) and error.filename:
        return str(error.filename)
    quoted = re.search(r"""["'](/[^"']+)["']|path[=:] ?(/[^\s,;"']+)""", str(error))
    name = next(filter(None, quoted.groups())) if quoted else "a file"
    return re.sub(r"/\d+\.orbax-checkpoint-tmp.*", "", name)  # run/checkpoints


def _unavailable() -> str | None:
    """Message if JAX finds none of the devices that it was told to use, else None."""
    try:
        jax.devices()
    except Exception as error:
        asked = {
            name: os.environ[name]
            for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
            if os.environ.get(name)
        }
        given = " ".join(f"{name}={value}" for name, value in asked.items()) or "JAX"
        why = f" ({reason(error)})" if str(error) else ""
        return f"{given}: no such device can be used{why}; unset it, or set it to cpu"
    return None


def _device() -> str:
    return f"{jax.devices()[0].device_kind}"


def _show_warning(message, category=None, filename=None, lineno=None, file=None, line=None) -> None:
    text = str(message)
    print(f"{_name()}: {one_line(cache.mended(text) or text)}", file=sys.stderr)


def _name() -> str:
    """Name under which the command was called."""
    return one_line(Path(sys.argv[0]).name)


def _unraisable(args) -> None:
    """Ignore Tensorstore's threads meeting a closed event loop.

    This happens when Orbax abandons a checkpoint, which is reported elsewhere.
    """
    if not (
        isinstance(args.exc_value, RuntimeError) and "Event loop is closed" in str(args.exc_value)
    ):
        sys.__unraisablehook__(args)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Ignore errors in Orbax's thread that finalises a checkpoint.

    Orbax raises them again in the main thread, where they are reported.
    """
    if args.thread is None or args.thread.name != "save_finalize":
        threading.__excepthook__(args)


def exit_with(code: int) -> NoReturn:
    """Exit with this code, immediately if an abandoned compilation is still running.

    The interpreter would otherwise wait for it, or crash.
    """
    if xla.compiling():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
