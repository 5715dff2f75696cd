"""The `genjax` command: training, and what comes after.

Each subcommand is a thin typed function.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from genjax.runtime import shell  # isort: skip  # before JAX: it reports a bad environment
from genjax.cli.measure import evaluate, nearest
from genjax.cli.sample import interpolate, sample, style_mix
from genjax.cli.train import MODELS, run, train
from genjax.cli.translate import translate
from genjax.cli.weights import checkpoints, convert, export

COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "checkpoints": checkpoints,
    "sample": sample,
    "eval": evaluate,
    "nearest": nearest,
    "interpolate": interpolate,
    "style-mix": style_mix,
    "translate": translate,
    "convert": convert,
    "export": export,
}


def main() -> None:
    """Run the subcommand that the command line names, and exit with its code.

    Bad input ends in one line on standard error and exit code 2.
    """
    from tyro.extras import subcommand_cli_from_dict

    if sys.argv[1:2] == ["train"] and sys.argv[2:3] and sys.argv[2] in MODELS:
        run(sys.argv[2], sys.argv[3:])  # which parses its own options
    sys.argv[0] = "genjax"
    commands: Any = {name: _later(command) for name, command in COMMANDS.items()}
    description = "Train models and use them."
    parse = lambda: subcommand_cli_from_dict(commands, prog="genjax", description=description)
    shell.exit_with(shell.guarded(shell.parsed(parse), _option))


# Arguments of the library under another name in commands: options, and positional ones.
_ARGUMENTS = {"count": "--n", "real_count": "--real-n", "shown": "--rows"}
_ARGUMENTS |= {name: name for name in ("run", "real", "fake", "input", "source", "kind")}


def _option(field: str) -> str:
    """Return the option or positional argument of a command that sets a library's
    field.
    """
    return _ARGUMENTS.get(field) or shell.option(field)


def _later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return a command that, given its arguments, returns a call without running it.

    What a command prints while tyro parses is held back.
    """

    @functools.wraps(command)
    def with_arguments(*args: Any, **options: Any) -> Callable[[], int]:
        return functools.partial(command, *args, **options)

    return with_arguments
