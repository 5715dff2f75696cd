"""The models by name: one line each. A model's module has a `Config`, and `recipe(config)`, which returns its tuple of pure functions."""

import importlib

RECIPES = {
    "vae": "genjax.models.vae",
    "gan": "genjax.models.gan",
    "dcgan": "genjax.models.dcgan",
    "cyclegan": "genjax.models.cyclegan",
    "stylegan2": "genjax.models.stylegan2",
}


def build(name: str, config: dict):
    """The recipe of a model's name and its Config's fields as read from JSON (lists become tuples). Raises KeyError and TypeError."""
    module = importlib.import_module(RECIPES[name])
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    return module.recipe(module.Config(**fields))
