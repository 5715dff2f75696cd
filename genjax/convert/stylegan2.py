"""Convert StyleGAN2 weights between the reference's key names and ours.

The reference is NVIDIA's StyleGAN2-ADA for PyTorch: plain arrays, OIHW. One table per
network maps its arrays to ours, and both directions read that table. Supports square
images of a power of two on a 4x4 constant.

The published .pkl files are pickles that carry and run the source code of their
networks, so they are never opened here. In a clone of that repository, with PyTorch,
this writes the arrays alone to a file that `read` reads:

    networks = pickle.load(open("network.pkl", "rb"))
    arrays = {f"{n}.{k}": x.cpu() for n in ("G_ema", "D")
              for k, x in networks[n].state_dict().items()}
    torch.save(arrays, "network.pth")
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
BUFFER = "resample_filter"  # the taps, in each module that resamples; ours are in the Config


class Row(NamedTuple):
    """One array: its name there, its path here, and how its layout changes."""

    theirs: str
    ours: str  # path in {"params": ..., "stats": ...} of the network
    layout: str = "same"  # of LAYOUTS


# By name: (theirs to ours, ours to theirs). Flattened images are NCHW there.
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
    """Convert state dicts of a generator (G or G_ema) and a discriminator.

    Returns (Config, weights). `fields` are Config fields that the arrays do not
    determine, such as mbstd_group_size.

    Raises:
        InputError: an array is missing, not expected, not finite or of another shape;
        the
            message names it.
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
        raise InputError(f"is no StyleGAN2: by the shapes of its arrays, {error}") from None
    weights: Weights = {"params": {}, "stats": {}}
    for name, arrays, rows in (("gen", gen, gen_rows(config)), ("disc", disc, disc_rows(config))):
        if arrays:
            _check_filters(arrays, config)
            tree = _read(arrays, rows)
            weights["params"][name] = tree["params"]
            weights["stats"] |= {name: tree["stats"]} if "stats" in tree else {}
    return config, weights


def arrays(
    config: stylegan2.Config, weights: Weights
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Convert weights to the state dicts of the generator and the discriminator.

    A network that the weights lack gives an empty dict.

    Raises:
        InputError: the reference has no names for this model.
    """
    height, width, _ = config.shape
    if stylegan2.levels(config)[0] != (4, 4) or height != width:
        raise InputError(
            f"a StyleGAN2 of {height}x{width}: the reference has only squares of a power of two"
        )

    def network(name: str, rows: list[Row]) -> dict[str, np.ndarray]:
        if name not in weights["params"]:
            return {}
        trees = {kind: weights[kind].get(name, {}) for kind in ("params", "stats")}
        return _write(trees, rows, config)

    return network("gen", gen_rows(config)), network("disc", disc_rows(config))


# --- files ----------------------------------------------------------------------------


def read(path: str | os.PathLike) -> tuple[stylegan2.Config, Weights]:
    """Read the networks of a .safetensors, .npz or .pth file.

    The generator is under the prefix `G_ema.`, `G.` or none, a discriminator under
    `D.`. Nothing in the file is executed.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    path = Path(path)
    contents = tensors.read(path)
    plain = {name: x for name, x in contents.items() if not name.startswith(PREFIXES)}

    def under(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): x for n, x in contents.items() if n.startswith(prefix)}

    try:
        return weights(under("G_ema.") or under("G.") or plain, under("D."))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# --- tables ---------------------------------------------------------------------------


def gen_rows(config: stylegan2.Config) -> list[Row]:
    """The table of the generator's arrays."""
    rows = [
        Row("mapping.w_avg", "stats/mean_style"),
        *_mapping_rows(config.mapping_layers, config, "params/mapping"),
    ]
    rows.append(Row("synthesis.b4.const", "params/synthesis/const", "const"))
    last = len(stylegan2.levels(config)) - 1
    for level in range(last + 1):
        block = f"synthesis.b{4 * 2**level}"
        for theirs, ours in (("conv0", f"up_{level}"), ("conv1", f"conv_{level}")):
            if level or theirs == "conv1":
                path, name = f"params/synthesis/{ours}", f"{block}.{theirs}"
                rows += _styled_rows(name, path)
                rows.append(Row(f"{name}.noise_strength", f"{path}/noise_strength"))
                rows.append(Row(f"{name}.noise_const", f"stats/noise/{ours}/const", "noise"))
        if config.gen_network == "resnet" and level:
            path = f"params/synthesis/skip_{level}/kernel"
            rows.append(Row(f"{block}.skip.weight", path, "conv"))
        if config.gen_network == "skip" or level == last:
            rows += _styled_rows(f"{block}.torgb", f"params/synthesis/rgb_{level}")
    return rows


def disc_rows(config: stylegan2.Config) -> list[Row]:
    """The table of the discriminator's arrays."""
    rows, last = [], len(stylegan2.levels(config)) - 1
    for level in range(last + 1):
        block = f"b{4 * 2**level}"
        names = {"conv": "last_conv"}
        if level:
            names = {"conv0": f"conv_{level}", "conv1": f"down_{level}"}
        if level == last or config.disc_network == "skip":
            names["fromrgb"] = f"rgb_{level}"
        for theirs, ours in names.items():
            rows += [
                Row(f"{block}.{theirs}.weight", f"params/{ours}/kernel", "conv"),
                Row(f"{block}.{theirs}.bias", f"params/{ours}/bias"),
            ]
        if config.disc_network == "resnet" and level:
            rows.append(Row(f"{block}.skip.weight", f"params/skip_{level}/kernel", "conv"))
    rows += _dense_rows("b4.fc", "params/last_dense", "flat")
    rows += _dense_rows("b4.out", "params/logits")
    if config.conditional != "none":
        rows += _mapping_rows(config.disc_mapping_layers, config, "params/mapping")
    return rows


def _mapping_rows(depth: int, config: stylegan2.Config, path: str) -> list[Row]:
    rows = _dense_rows("mapping.embed", f"{path}/embed") if config.conditional != "none" else []
    for i in range(depth):
        rows += _dense_rows(f"mapping.fc{i}", f"{path}/dense_{i}")
    return rows


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


# --- Config fields that the arrays determine ------------------------------------------


def _gen_fields(arrays: Arrays) -> dict[str, Any]:
    blocks = _blocks(arrays, r"synthesis\.b([0-9]{1,5})\.conv1\.weight")
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
        "conditional": "projection" if labels else "none",
        "z_dim": _size(arrays, "mapping.fc0.weight", 1) - (size if labels else 0),
        "w_dim": size,
        "mapping_layers": _mapping_depth(arrays),
        "gen_network": "resnet" if f"synthesis.b{max(blocks)}.skip.weight" in arrays else network,
        "channel_base": max(blocks) * blocks[max(blocks)],
        "channel_max": max(blocks.values()),
    }


def _disc_fields(arrays: Arrays) -> dict[str, Any]:
    matches = map(re.compile(r"b([0-9]{1,5})\.conv1\.weight").fullmatch, arrays)
    largest = max([8, *(int(match[1]) for match in matches if match)])
    network = "skip" if "b4.fromrgb.weight" in arrays else "orig"
    fields: dict[str, Any] = {
        "disc_network": "resnet" if f"b{largest}.skip.weight" in arrays else network
    }
    if "mapping.embed.weight" in arrays:
        fields["disc_mapping_layers"] = _mapping_depth(arrays)
    return fields


def _mapping_depth(arrays: Arrays) -> int:
    matches = map(re.compile(r"mapping\.fc([0-9]{1,4})\.weight").fullmatch, arrays)
    return len({match[1] for match in matches if match})


def _blocks(arrays: Arrays, pattern: str) -> dict[int, int]:
    """Map each resolution to its number of output channels."""
    channels = {
        int(match[1]): _size(arrays, name, 0)
        for name in arrays
        if (match := re.fullmatch(pattern, name))
    }
    if not channels or any(size < 4 or size & (size - 1) for size in channels):
        raise InputError(
            "is no generator of StyleGAN2: synthesis.b4.conv1.weight and the like are missing"
        )
    return channels


def _size(arrays: Arrays, name: str, axis: int) -> int:
    if arrays[name].ndim <= axis:
        raise _wrong_shape(arrays, name)
    return arrays[name].shape[axis]


def _wrong_shape(arrays: Arrays, name: str) -> InputError:
    return InputError(f"{name!r} has shape {arrays[name].shape}, which no StyleGAN2 has")


# --- both directions ------------------------------------------------------------------


def _read(arrays: Arrays, rows: list[Row]) -> dict[str, Any]:
    names = {name for name in arrays if not name.endswith(BUFFER)}
    if different := sorted(names ^ {row.theirs for row in rows}):
        problem = "not expected" if different[0] in names else "missing"
        raise InputError(f"{different[0]!r} is {problem} in a StyleGAN2 of this form")
    tree: dict[str, Any] = {}
    for theirs, ours, layout in rows:
        *path, name = ours.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        try:
            node[name] = np.array(LAYOUTS[layout][0](arrays[theirs]), np.float32, order="C")
        except (ValueError, IndexError, TypeError):  # a shape that the layout cannot transform
            raise _wrong_shape(arrays, theirs) from None
    return tree


def _write(
    tree: dict[str, Any], rows: list[Row], config: stylegan2.Config
) -> dict[str, np.ndarray]:
    arrays = {}
    for theirs, ours, layout in rows:
        leaf: Any = tree
        for key in ours.split("/"):
            leaf = leaf[key]
        arrays[theirs] = np.array(LAYOUTS[layout][1](np.asarray(leaf)), np.float32, order="C")
    return arrays | dict(_filters(arrays, config))


def _check_filters(arrays: Arrays, config: stylegan2.Config) -> None:
    """Raise InputError if a network's resampling filter differs from the Config's."""
    taps = (
        np.outer(config.resample_filter, config.resample_filter) / sum(config.resample_filter) ** 2
    )
    for name, x in arrays.items():
        if name.endswith(BUFFER) and (x.shape != taps.shape or not np.allclose(x, taps, atol=1e-4)):
            raise InputError(
                f"{name!r} is another filter than that of taps "
                f"{' '.join(map(str, config.resample_filter))}"
            )


def _filters(arrays: Arrays, config: stylegan2.Config) -> Iterator[tuple[str, np.ndarray]]:
    """The filter buffers of the reference.

    Every convolution except those to RGB has one, and every block except the
    discriminator's last.
    """
    taps = np.outer(config.resample_filter, config.resample_filter).astype(np.float32)
    pattern = re.compile(r"((?:synthesis\.)?b(\d+))\.(conv0|conv1|conv|skip|fromrgb)\.weight")
    for match in map(pattern.fullmatch, arrays):
        if match:
            for module in (f"{match[1]}.{match[3]}", *([match[1]] if match[1] != "b4" else [])):
                yield f"{module}.{BUFFER}", taps / taps.sum()
