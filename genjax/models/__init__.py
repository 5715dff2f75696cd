"""The models by name, one line each.

A model's module has a `Config`, `check(config)`, and `recipe(config)`, which returns
its tuple of pure functions (`core.Recipe`).
"""

import importlib
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


def build(name: str, config: dict[str, Any]) -> Any:
    """Return the recipe of a model by name, from its Config's fields as read from JSON.

    Lists become tuples.

    Raises InputError for a model or a field that this version does not have, and for a
    value of another type; ConfigError for what the model's `check` refuses.
    """
    if name not in RECIPES:
        raise InputError(f"model {printable(name, 40)}: this version has {', '.join(RECIPES)}")
    module = importlib.import_module(RECIPES[name])
    kinds = typing.get_type_hints(module.Config)
    if unknown := [printable(field, 40) for field in config if field not in kinds]:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise InputError(f"{name} has no field {', '.join(unknown[:3])}{more}")
    fields = {
        field: tuple(value) if isinstance(value, list) else value for field, value in config.items()
    }
    for field, value in fields.items():
        if not _is(value, kinds[field]):
            shown, kind = printable(repr(value), 60), _words(kinds[field])
            raise InputError(f"{name}'s {field} is {shown}, not {kind}")
    return module.recipe(module.Config(**fields))


def _is(value: Any, kind: Any) -> bool:
    """Return whether a value is of a field's type.

    Types are int, float (an int will do), bool, str, and tuples of these, of any or of
    a given length.
    """
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        kinds = kinds[:1] * len(value) if isinstance(value, tuple) and kinds[-1] is ... else kinds
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is, value, kinds))
    return type(value) in ((int, float) if kind is float else (kind,))


def _words(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__
