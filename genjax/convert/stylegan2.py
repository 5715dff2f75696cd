"""StyleGAN2's weights under the reference's key names (NVIDIA's StyleGAN2-ADA for PyTorch: plain arrays, OIHW) as ours, and back.

One table a network says which array is which, and both ways read it. Only square images of a power of two, on a constant of 4x4.

The published .pkl files are pickles that carry and run their networks' source code, so they are never opened here. In a clone
of that repository, with PyTorch, this leaves the arrays alone, in a file that `read` reads:

    networks = pickle.load(open("network.pkl", "rb"))
    torch.save({f"{n}.{k}": x.cpu() for n in ("G_ema", "D") for k, x in networks[n].state_dict().items()}, "network.pth")
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.core import Weights
from genjax.errors import InputError
from genjax.files import tensors
from genjax.models import stylegan2

Arrays = Mapping[str, np.ndarray]
PREFIXES = ("G_ema.", "G.", "D.")
BUFFER = "resample_filter"  # of each module that resamples: the taps, which ours has in its Config


class Row(NamedTuple):
    theirs: str
    ours: str  # path in {"params": ..., "stats": ...} of the network
    layout: str = "same"  # of LAYOUTS


# name -> (theirs to ours, ours to theirs). A flattened image is NCHW there.
LAYOUTS = {
    "same": (lambda x: x, lambda x: x),
    "dense": (lambda x: x.T, lambda x: x.T),
    "conv": (lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
    "const": (lambda x: x.transpose(1, 2, 0)[None], lambda x: x[0].transpose(2, 0, 1)),
    "noise": (lambda x: x[None, :, :, None], lambda x: x[0, :, :, 0]),
    "flat": (
        lambda x: x.reshape(len(x), -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, len(x)),
        lambda x: x.reshape(4, 4, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(x.shape[1], -1),
    ),
}


def weights(
    gen: Arrays, disc: Arrays | None = None, **fields: Any
) -> tuple[stylegan2.Config, Weights]:
    """State dicts of a generator (G or G_ema) and a discriminator -> (Config, weights). `fields` are of the Config and not in the arrays: group_size ...

    Raises InputError, naming the array, where one is missing, not expected or of another shape.
    """
    gen, disc = (
        {name: np.asarray(x) for name, x in (arrays or {}).items()} for arrays in (gen, disc)
    )
    tensors.check_finite(gen)
    tensors.check_finite(disc)
    config = stylegan2.Config(**(_gen_fields(gen) | (_disc_fields(disc) if disc else {}) | fields))
    try:
        stylegan2.check(config)
    except InputError as error:
        raise InputError(f"is no StyleGAN2: the shapes of its arrays say {error}") from None
    found: Weights = {"params": {}, "stats": {}}
    for name, arrays, rows in (("gen", gen, gen_rows(config)), ("disc", disc, disc_rows(config))):
        if arrays:
            _check_filters(arrays, config)
            tree = _read(arrays, rows)
            found["params"][name] = tree["params"]
            found["stats"] |= {name: tree["stats"]} if "stats" in tree else {}
    return config, found


def arrays(
    config: stylegan2.Config, weights: Weights
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The generator's and the discriminator's state dicts, empty for one that is not there.

    Raises InputError for a model that the reference has no names for.
    """
    height, width, _ = config.shape
    if stylegan2.sizes(config)[0] != (4, 4) or height != width:
        raise InputError(
            f"a StyleGAN2 of {height}x{width}: the reference has squares of a power of two alone"
        )
    tables = {"gen": gen_rows(config), "disc": disc_rows(config)}
    gen, disc = (
        _write({part: weights[part].get(name, {}) for part in ("params", "stats")}, rows, config)
        if name in weights["params"]
        else {}
        for name, rows in tables.items()
    )
    return gen, disc


# --- files ---------------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike) -> tuple[stylegan2.Config, Weights]:
    """The networks of a .safetensors, .npz or .pth: a generator under `G_ema.`, `G.` or no prefix, a discriminator under `D.`

    Raises InputError for a file that cannot be read or holds something else. Nothing in it is executed.
    """
    path = Path(path)
    found = tensors.read(path)
    parts = {
        prefix: {
            name.removeprefix(prefix): x for name, x in found.items() if name.startswith(prefix)
        }
        for prefix in PREFIXES
    }
    plain = {name: x for name, x in found.items() if not name.startswith(PREFIXES)}
    try:
        return weights(parts["G_ema."] or parts["G."] or plain, parts["D."])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# --- tables --------------------------------------------------------------------------------------------------------------


def gen_rows(config: stylegan2.Config) -> list[Row]:
    rows = [
        Row("mapping.w_avg", "stats/mean_style"),
        *_mapping_rows(config.mapping_layers, config, "params/mapping"),
    ]
    rows.append(Row("synthesis.b4.const", "params/synthesis/const", "const"))
    last = len(stylegan2.sizes(config)) - 1
    for level in range(last + 1):
        block = f"synthesis.b{4 * 2**level}"
        for theirs, ours in (("conv0", f"up_{level}"), ("conv1", f"conv_{level}")):
            if level or theirs == "conv1":
                path = f"params/synthesis/{ours}"
                rows += [
                    *_styled_rows(f"{block}.{theirs}", path),
                    Row(f"{block}.{theirs}.noise_strength", f"{path}/noise_strength"),
                ]
                rows.append(
                    Row(f"{block}.{theirs}.noise_const", f"stats/noise/{ours}/const", "noise")
                )
        if config.gen_network == "resnet" and level:
            rows.append(
                Row(f"{block}.skip.weight", f"params/synthesis/skip_{level}/kernel", "conv")
            )
        if config.gen_network == "skip" or level == last:
            rows += _styled_rows(f"{block}.torgb", f"params/synthesis/rgb_{level}")
    return rows


def disc_rows(config: stylegan2.Config) -> list[Row]:
    rows, last = [], len(stylegan2.sizes(config)) - 1
    for level in range(last + 1):
        block = f"b{4 * 2**level}"
        names = (
            {"conv0": f"conv_{level}", "conv1": f"down_{level}"} if level else {"conv": "last_conv"}
        )
        names |= (
            {"fromrgb": f"rgb_{level}"} if level == last or config.disc_network == "skip" else {}
        )
        for theirs, ours in names.items():
            rows += [
                Row(f"{block}.{theirs}.weight", f"params/{ours}/kernel", "conv"),
                Row(f"{block}.{theirs}.bias", f"params/{ours}/bias"),
            ]
        if config.disc_network == "resnet" and level:
            rows.append(Row(f"{block}.skip.weight", f"params/skip_{level}/kernel", "conv"))
    rows += [
        *_dense_rows("b4.fc", "params/last_dense", "flat"),
        *_dense_rows("b4.out", "params/logits"),
    ]
    return rows + (
        _mapping_rows(config.disc_mapping_layers, config, "params/mapping")
        if config.conditional
        else []
    )


def _mapping_rows(depth: int, config: stylegan2.Config, path: str) -> list[Row]:
    rows = _dense_rows("mapping.embed", f"{path}/embed") if config.conditional else []
    return rows + [
        row for i in range(depth) for row in _dense_rows(f"mapping.fc{i}", f"{path}/dense_{i}")
    ]


def _styled_rows(theirs: str, ours: str) -> list[Row]:
    rows = [
        Row(f"{theirs}.weight", f"{ours}/conv/kernel", "conv"),
        Row(f"{theirs}.bias", f"{ours}/bias"),
    ]
    return rows + _dense_rows(f"{theirs}.affine", f"{ours}/style")


def _dense_rows(theirs: str, ours: str, layout: str = "dense") -> list[Row]:
    return [
        Row(f"{theirs}.weight", f"{ours}/kernel", layout),
        Row(f"{theirs}.bias", f"{ours}/bias"),
    ]


# --- what the arrays say of the Config -----------------------------------------------------------------------------------


def _gen_fields(arrays: Arrays) -> dict[str, Any]:
    blocks = _blocks(arrays, r"synthesis\.b([0-9]{1,5})\.conv1\.weight")
    layers = {
        match[1]
        for name in arrays
        if (match := re.fullmatch(r"mapping\.fc([0-9]{1,4})\.weight", name))
    }
    if "mapping.w_avg" not in arrays or "mapping.fc0.weight" not in arrays:
        raise InputError(
            "is no generator of StyleGAN2: mapping.w_avg or mapping.fc0.weight is missing"
        )
    size = _size(arrays, "mapping.w_avg", 0)
    labels = _size(arrays, "mapping.embed.weight", 1) if "mapping.embed.weight" in arrays else 0
    network = "skip" if "synthesis.b4.torgb.weight" in arrays else "orig"
    rgb = f"synthesis.b{max(blocks)}.torgb.weight"
    return {
        "shape": (max(blocks), max(blocks), _size(arrays, rgb, 0) if rgb in arrays else 3),
        "num_labels": labels,
        "conditional": labels > 0,
        "latent_size": _size(arrays, "mapping.fc0.weight", 1) - (size if labels else 0),
        "style_size": size,
        "mapping_layers": len(layers),
        "gen_network": "resnet" if f"synthesis.b{max(blocks)}.skip.weight" in arrays else network,
        "channels": max(blocks) * blocks[max(blocks)],
        "max_channels": max(blocks.values()),
    }


def _disc_fields(arrays: Arrays) -> dict[str, Any]:
    largest = max(
        [
            8,
            *(
                int(match[1])
                for name in arrays
                if (match := re.fullmatch(r"b([0-9]{1,5})\.conv1\.weight", name))
            ),
        ]
    )
    network = (
        "resnet"
        if f"b{largest}.skip.weight" in arrays
        else "skip"
        if "b4.fromrgb.weight" in arrays
        else "orig"
    )
    layers = {
        match[1]
        for name in arrays
        if (match := re.fullmatch(r"mapping\.fc([0-9]{1,4})\.weight", name))
    }
    return {"disc_network": network} | (
        {"disc_mapping_layers": len(layers)} if "mapping.embed.weight" in arrays else {}
    )


def _blocks(arrays: Arrays, pattern: str) -> dict[int, int]:
    """Output channels by resolution."""
    found = {
        int(match[1]): _size(arrays, name, 0)
        for name in arrays
        if (match := re.fullmatch(pattern, name))
    }
    if not found or any(size < 4 or size & (size - 1) for size in found):
        raise InputError(
            "is no generator of StyleGAN2: synthesis.b4.conv1.weight and its like are missing"
        )
    return found


def _size(arrays: Arrays, name: str, axis: int) -> int:
    if arrays[name].ndim <= axis:
        raise InputError(f"{name!r} is of shape {arrays[name].shape}, which no StyleGAN2 has")
    return arrays[name].shape[axis]


# --- both ways -----------------------------------------------------------------------------------------------------------


def _read(arrays: Arrays, rows: list[Row]) -> dict[str, Any]:
    there = {name for name in arrays if not name.endswith(BUFFER)}
    if different := sorted(there ^ {row.theirs for row in rows}):
        raise InputError(
            f"{different[0]!r} is {'not expected' if different[0] in there else 'missing'} in a StyleGAN2 of this form"
        )
    tree: dict[str, Any] = {}
    for theirs, ours, layout in rows:
        *path, name = ours.split("/")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        try:
            place[name] = np.array(LAYOUTS[layout][0](arrays[theirs]), np.float32, order="C")
        except (
            ValueError,
            IndexError,
            TypeError,
        ):  # each layout says by indexing and transposing what it takes
            raise InputError(
                f"{theirs!r} is of shape {arrays[theirs].shape}, which no StyleGAN2 has"
            ) from None
    return tree


def _write(
    tree: dict[str, Any], rows: list[Row], config: stylegan2.Config
) -> dict[str, np.ndarray]:
    found = {}
    for theirs, ours, layout in rows:
        leaf: Any = tree
        for part in ours.split("/"):
            leaf = leaf[part]
        found[theirs] = np.array(LAYOUTS[layout][1](np.asarray(leaf)), np.float32, order="C")
    return found | dict(_filters(found, config))


def _check_filters(arrays: Arrays, config: stylegan2.Config) -> None:
    """Raise InputError where a network resamples with other taps than the Config's."""
    taps = np.outer(config.taps, config.taps) / sum(config.taps) ** 2
    for name, x in arrays.items():
        if name.endswith(BUFFER) and (x.shape != taps.shape or not np.allclose(x, taps, atol=1e-4)):
            raise InputError(
                f"{name!r} is another filter than that of taps {' '.join(map(str, config.taps))}"
            )


def _filters(
    found: dict[str, np.ndarray], config: stylegan2.Config
) -> Iterator[tuple[str, np.ndarray]]:
    """The buffers of taps: every convolution but those to RGB, and every block but the discriminator's last, has one there."""
    taps = np.outer(config.taps, config.taps).astype(np.float32)
    for name in found:
        match = re.fullmatch(
            r"((?:synthesis\.)?b(\d+))\.(conv0|conv1|conv|skip|fromrgb)\.weight", name
        )
        if match:
            for place in (f"{match[1]}.{match[3]}", *([match[1]] if match[1] != "b4" else [])):
                yield f"{place}.{BUFFER}", taps / taps.sum()
