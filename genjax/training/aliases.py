"""Names of version 0.1, still read in run folders and in options: one table, old to
new.
"""

from collections.abc import Mapping
from typing import Any

TWO_PLAYER = {
    "latent_size": "z_dim",
    "r1": "r1_gamma",
    "r2": "r2_gamma",
    "penalty_every": "penalty_interval",
}
FIELDS: dict[str, dict[str, str]] = {
    "vae": {"latent_size": "z_dim", "scale": "obs_scale"},
    "gan": TWO_PLAYER,
    "dcgan": {**TWO_PLAYER, "max_channels": "channel_max", "group_size": "group_width"},
    "stylegan2": {
        "latent_size": "z_dim",
        "style_size": "w_dim",
        "mapping_rate": "mapping_lr_multiplier",
        "channels": "channel_base",
        "max_channels": "channel_max",
        "taps": "resample_filter",
        "group_size": "mbstd_group_size",
        "augment_p": "ada_p",
        "augment_target": "ada_target",
        "augment_kimg": "ada_kimg",
        "style_mixing": "style_mixing_prob",
        "r1": "r1_gamma",
        "r1_every": "r1_interval",
        "path_weight": "pl_weight",
        "path_every": "pl_interval",
        "path_shrink": "pl_batch_shrink",
        "path_decay": "pl_decay",
        "style_decay": "w_avg_beta",
        "narrow": "num_low_precision_res",
        "clamp": "conv_clamp",
    },
}
VALUES: dict[tuple[str, str], dict[Any, str]] = {  # (model, new name) -> old value: new value
    ("vae", "conditional"): {False: "none", True: "concat"},
    ("stylegan2", "conditional"): {False: "none", True: "projection"},
    ("dcgan", "network"): {"residual": "r3gan"},
}


def current(model: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a Config's fields by their current names and values, and what was renamed.

    The list has one phrase for each old name or value, such as "latent_size is z_dim".
    """
    fields, renamed = {}, []
    for old, value in config.items():
        name = FIELDS.get(model, {}).get(old, old)
        if name != old:
            renamed.append(f"{old} is {name}")
        values = VALUES.get((model, name), {})
        if isinstance(value, bool | str) and value in values:
            renamed.append(f"{name} {value} is {values[value]}")
            value = values[value]
        fields[name] = value
    return fields, renamed


def current_options(model: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command line with current options, and what was renamed."""
    options, renamed = [], []
    fields = FIELDS.get(model, {})
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        field = name.removeprefix("--model.").replace("-", "_")
        if name.startswith("--model.") and field in fields:
            new = option(fields[field])
            renamed.append(f"{name} is {new}")
            name, field = new, fields[field]
        before = options[-1] if options else ""
        if name.startswith("--model."):
            flag, following = "", (words[index + 1 : index + 2] or ["--"])[0]
            flags = VALUES.get((model, field.removeprefix("no_")), {})
            if False in flags and not equals:  # a flag of version 0.1, with or without a value
                if field.startswith("no_"):
                    name, flag = option(field.removeprefix("no_")), flags[False]
                elif following.startswith("--"):
                    flag = flags[True]
            if flag:
                renamed.append(f"{word} is {name} {flag}")
                options += [name, flag]
                continue
            if equals:
                value = _value(model, field, value, renamed)
        elif before.startswith("--model.") and "=" not in before:
            field = before.removeprefix("--model.").replace("-", "_")
            name = _value(model, field, word, renamed) if not equals else name
        options.append(name + equals + value)
    return options, renamed


def option(field: str) -> str:
    """Return the option of a Config's field: r1_gamma is --model.r1-gamma."""
    return f"--model.{field.replace('_', '-')}"


def _value(model: str, field: str, value: str, renamed: list[str]) -> str:
    values = {str(old): new for old, new in VALUES.get((model, field), {}).items()}
    if value not in values:
        return value
    renamed.append(f"{option(field)} {value} is {values[value]}")
    return values[value]
