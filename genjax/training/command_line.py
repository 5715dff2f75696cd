"""From the words of a training command to its options: presets, groups, old names."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from genjax.errors import printable
from genjax.runtime.shell import exit_with, guarded, option, parsed, say
from genjax.training import aliases
from genjax.training.options import GROUPS, Options

T = TypeVar("T", bound=Options)

# Fields of a model's Config that come from the data or from other options.
DERIVED = ("shape", "num_labels", "batch_size", "dtype")
DATA = ("data", "data_a", "data_b")  # options that name data


def main(
    model: str,
    arguments: type[T],
    run: Callable[[T], int],
    presets: Mapping[str, T] | None = None,
    hint: str = "",
) -> None:
    """Parse the command line, run, and exit with the code that `run` returns.

    Bad input ends in one line on standard error and exit code 2.

    Args:
        model: its name, by which options of version 0.1 are translated
        arguments: dataclass of the options, with a field `model`, the model's Config
        run: what to do with them
        presets: all options by the name given as --preset; "" has the defaults
        hint: presets to suggest where image data are given without one
    """
    words, renamed = aliases.current_options(model, sys.argv[1:])
    if renamed:
        say(f"names of version 0.1: {', '.join(renamed)}")
    default = preset(presets or {"": arguments()}, words)
    names = ", ".join(filter(None, presets or {}))
    args = parse(arguments, default, words, f"Presets: {names}." if names else "")
    specs = [field.name for field in dataclasses.fields(args) if field.name in DATA]
    images = any(getattr(args, name) != getattr(default, name) for name in specs)
    if hint and not words_name_preset(words) and images:
        name = Path(sys.argv[0]).name
        say(f"{name}: these networks are sized for the embedded digits; for pictures use {hint}")
    exit_with(guarded(lambda: run(args), lambda field: option_of(arguments, field)))


def option_of(arguments: type[Options], field: str) -> str:
    """Return the option of a training command that sets a field of the options or the
    Config.
    """
    if field == "shape":
        return "--resolution"
    if field in {entry.name for entry in dataclasses.fields(arguments)}:
        return option(field)
    return f"--model.{field.replace('_', '-')}"


def words_name_preset(words: list[str]) -> str:
    """Return the name after --preset in a command line; "" where there is none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="", nargs="?")  # without a name, tyro will complain
    return parser.parse_known_args(words)[0].preset or ""


def preset(presets: Mapping[str, T], words: list[str]) -> T:
    """Return the preset that a command line names.

    An unknown name ends in one line on standard error and exit code 2.
    """
    name = words_name_preset(words)
    if name not in presets:
        known = ", ".join(filter(None, presets)) or "this model has none"
        print(f"--preset {printable(name)}: one of {known}", file=sys.stderr)
        raise SystemExit(2)
    return presets[name]


def parse(arguments: type[T], default: T, words: list[str], note: str = "") -> T:
    """Parse the words of a command line.

    The help is grouped, and leaves out what a command refuses: DERIVED. `note` ends the
    description.
    """
    import tyro

    config: Any = default.model  # pyright: ignore[reportAttributeAccessIssue]
    shown, shown_config = _shown(arguments, type(config))
    values = _fields(default) | {"model": shown_config(**_fields(config))}
    for name, kind in GROUPS.items():
        fields = {field.name: values[field.name] for field in dataclasses.fields(kind)}
        values[f"{name}_group"] = kind(**fields)
    start, description = shown(**values), f"{arguments.__doc__} {note}".strip()
    call = lambda: tyro.cli(shown, args=words, default=start, description=description)
    given: Any = parsed(call)

    # Back to the plain classes.
    fields = {name: getattr(given, name) for name in _fields(default)}
    for name in GROUPS:
        fields |= _fields(getattr(given, f"{name}_group"))
    fields["model"] = type(config)(**_fields(given.model))
    return arguments(**fields)


def _shown(arguments: type[Options], config: type) -> tuple[Any, Any]:
    """Return the classes that tyro parses: what is hidden or grouped is annotated so."""
    import tyro

    hidden: Any = lambda kind: tyro.conf.Suppress[tyro.conf.Fixed[kind]]
    derived = [field for field in dataclasses.fields(config) if field.name in DERIVED]
    shown_config = _subclass(config, {field.name: hidden(field.type) for field in derived})
    grouped = [field for kind in GROUPS.values() for field in dataclasses.fields(kind)]
    annotations = {field.name: hidden(field.type) for field in grouped}
    for name, kind in GROUPS.items():
        flat = tyro.conf.OmitArgPrefixes
        annotations[f"{name}_group"] = Annotated[kind, flat, tyro.conf.arg(name=name)]
    return _subclass(arguments, annotations | {"model": shown_config}), shown_config


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _subclass(base: type, annotations: dict[str, Any]) -> Any:
    """Return a subclass of a dataclass with other annotations for some fields."""
    body = {"__annotations__": annotations, "__doc__": base.__doc__, "__module__": base.__module__}
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(base.__name__, (base,), body))
