"""The models by name: one line each. A model's module has a `Config`, and `recipe(config)`, which returns its tuple of pure functions."""

import importlib
import re
import typing
from typing import Any

from genjax.errors import InputError, printable

RECIPES = {
    "vae": "genjax.models.vae",
    "gan": "genjax.models.gan",
    "dcgan": "genjax.models.dcgan",
    "cyclegan": "genjax.models.cyclegan",
    "stylegan2": "genjax.models.stylegan2",
}


def build(name: str, config: dict[str, Any]):
    """The recipe of a model's name and its Config's fields as read from JSON (lists become tuples).

    Raises InputError for a model or a field that this version has not, a value of another type, and what the model's `check` refuses.
    """
    if name not in RECIPES:
        raise InputError(f"model {printable(name, 40)}: this version has {', '.join(RECIPES)}")
    module = importlib.import_module(RECIPES[name])
    kinds = typing.get_type_hints(module.Config)
    if unknown := [printable(field, 40) for field in config if field not in kinds]:
        raise InputError(
            f"{name} has no field {', '.join(unknown[:3])}{f' and {len(unknown) - 3} more' * (len(unknown) > 3)}"
        )
    fields = {
        field: tuple(value) if isinstance(value, list) else value for field, value in config.items()
    }
    for field, value in fields.items():
        if not _is(value, kinds[field]):
            raise InputError(
                f"{name}'s {field} is {printable(repr(value), 60)}, not {_words(kinds[field])}"
            )
    try:
        return module.recipe(module.Config(**fields))
    except InputError as error:  # which names the options of the training script
        raise InputError(re.sub(r"--(model\.)?", "", str(error))) from None


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type: int, float (or an int), bool, str, a tuple of one of them, of any or of a given length."""
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        kinds = kinds[:1] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is, value, kinds))
    return type(value) in ((int, float) if kind is float else (kind,))


def _words(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__
