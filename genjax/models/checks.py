"""What the fields of a Config may be: each check raises `ConfigError` with the field's
name.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from genjax.errors import ConfigError

# Limits beyond which no network is sensible: tracing takes time for each layer. What
# memory and weights allow is far below.
MAX_DEPTH = 64  # layers of a kind, and entries of a tuple
MAX_WIDTH = 2**20  # channels, dimensions, classes
MAX_SIDE = 2**14  # pixels
DEPTHS = ("blocks", "depth", "disc_layers", "mapping_layers", "disc_mapping_layers")
WIDTHS = (
    *("hidden", "channels", "channel_base", "channel_max", "disc_channels", "z_dim", "w_dim"),
    *("expansion", "group_width", "mbstd_group_size", "num_labels", "resample_filter"),
)


def demand(config: Any, ok: bool, field: str, advice: str) -> None:
    """Raise ConfigError for a field of `config` unless `ok`."""
    if not ok:
        raise ConfigError(field, getattr(config, field), advice)


def one_of(config: Any, field: str, choices: Iterable[str]) -> None:
    """Raise ConfigError unless the field is one of `choices`."""
    names = list(choices)
    demand(config, getattr(config, field) in names, field, f"one of {', '.join(names)}")


def at_least(config: Any, least: int, *fields: str) -> None:
    """Raise ConfigError unless each field, or each entry of a tuple, is at least
    `least`.
    """
    for field in fields:
        value = getattr(config, field)
        values = value if isinstance(value, tuple) else (value,)
        demand(config, all(x >= least for x in values), field, f"must be at least {least}")


def positive(config: Any, *fields: str) -> None:
    """Raise ConfigError unless each field is more than 0."""
    for field in fields:
        demand(config, getattr(config, field) > 0, field, "must be more than 0")


def decay(config: Any, *fields: str) -> None:
    """Raise ConfigError unless each field is from 0 to below 1."""
    for field in fields:
        demand(config, 0 <= getattr(config, field) < 1, field, "must be from 0 to below 1")


def probability(config: Any, *fields: str) -> None:
    """Raise ConfigError unless each field is from 0 to 1."""
    for field in fields:
        demand(config, 0 <= getattr(config, field) <= 1, field, "must be from 0 to 1")


def labels(config: Any, choices: Iterable[str]) -> None:
    """Raise ConfigError unless `conditional` is one of `choices`, and "none" without
    labels.
    """
    one_of(config, "conditional", choices)
    advice = "needs data with labels (class folders, or a labels array)"
    demand(config, config.conditional == "none" or config.num_labels > 0, "conditional", advice)


def numbers(config: Any) -> None:
    """Raise ConfigError for a number that is not finite, and for layers and widths
    beyond reason.
    """
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        values = value if isinstance(value, tuple) else (value,)
        demand(config, len(values) <= MAX_DEPTH, name, f"at most {MAX_DEPTH} entries")
        entries = [x for x in values if isinstance(x, int | float)]
        demand(config, all(map(math.isfinite, entries)), name, "must be finite")
        most = limit(name)
        small = all(abs(x) <= most for x in entries if isinstance(x, int))
        demand(config, small, name, f"must be at most {most}")
        if name == "shape":
            demand(config, len(entries) == 3, name, "must be height, width, channels")
            demand(config, all(x >= 1 for x in entries), name, "must be at least 1")


def limit(field: str) -> int:
    """Return the largest integer that a field may be."""
    if field in DEPTHS:
        return MAX_DEPTH
    if field in WIDTHS:
        return MAX_WIDTH
    return MAX_SIDE if field == "shape" else 2**53
