"""Convert CycleGAN's published PyTorch weights.

Key names and layouts are those of the reference repository's `ResnetGenerator` and
`NLayerDiscriminator`. Its G_A is our gen_a2b; its D_A, which judges images made by G_A,
is our disc_b.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import InputError
from genjax.files import tensors
from genjax.models import cyclegan

NETWORKS = {"G_A": "gen_a2b", "G_B": "gen_b2a", "G": "gen_a2b", "D_A": "disc_b", "D_B": "disc_a"}
# Of instance norms before PyTorch 0.4; never used.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

Arrays = dict[str, np.ndarray]


def generator(arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert the arrays of a generator.

    Returns parameters of `cyclegan.ResNet` and the Config fields they determine:
    channels, blocks.

    Raises:
        InputError: the arrays are those of another network.
    """
    arrays = _of_layers(arrays)
    pattern = re.compile(r"model\.([0-9]{1,4})\.conv_block\.1\.weight")
    blocks = len({match[1] for match in map(pattern.fullmatch, arrays) if match})
    last = f"model.{10 + blocks + 7}"
    names = {"first": "model.1", "down_0": "model.4", "down_1": "model.7"}
    for i in range(blocks):
        second = 6 if f"model.{10 + i}.conv_block.6.weight" in arrays else 5  # with dropout between
        names |= {
            f"first_{i}": f"model.{10 + i}.conv_block.1",
            f"second_{i}": f"model.{10 + i}.conv_block.{second}",
        }
    names |= {"up_1": f"model.{10 + blocks}", "up_0": f"model.{10 + blocks + 3}", "last": last}
    params = _layers(arrays, names, transposed=("up_1", "up_0"))
    if blocks:  # stacked, as nn.scan has them
        params["blocks"] = {}
        for conv in ("first", "second"):
            layers = [params.pop(f"{conv}_{i}") for i in range(blocks)]
            params["blocks"][conv] = {
                name: _stacked(name, [layer[name] for layer in layers]) for name in layers[0]
            }
    return params, {"channels": params["first"]["kernel"].shape[3], "blocks": blocks}


def discriminator(arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert the arrays of a discriminator.

    Returns parameters of `cyclegan.Discriminator` and the Config fields they determine:
    disc_channels, disc_layers.

    Raises:
        InputError: the arrays are those of another network.
    """
    arrays = _of_layers(arrays)
    pattern = re.compile(r"model\.([0-9]{1,4})\.weight")
    indices = sorted(int(match[1]) for match in map(pattern.fullmatch, arrays) if match)
    if len(indices) < 3:
        raise InputError("is no such network: it has fewer than three convolutions model.N.weight")
    names = {f"conv_{i}": f"model.{index}" for i, index in enumerate(indices[:-1])}
    names["logits"] = f"model.{indices[-1]}"
    params = _layers(arrays, names)
    channels = params["conv_0"]["kernel"].shape[3]
    return params, {"disc_channels": channels, "disc_layers": len(indices) - 2}


def weights(
    files: Mapping[str, str | os.PathLike],
) -> tuple[cyclegan.Config, dict[str, dict[str, Any]]]:
    """Convert files to a Config and the weights of the networks they hold.

    `files` maps the reference's names to paths: any of G_A, G_B, D_A, D_B, or G alone
    for one direction.

    Raises:
        InputError: a file cannot be read, holds another network, or does not match the
        others.
    """
    params: dict[str, Any] = {}
    fields: dict[str, Any] = {"network": "resnet"}
    for name, path in files.items():
        arrays = tensors.read(path)
        convert = generator if name.startswith("G") else discriminator
        try:
            params[NETWORKS[name]], determined = convert(arrays)
            tensors.check_finite(_of_layers(arrays))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if name.startswith("G"):
            determined["shape"] = (256, 256, params[NETWORKS[name]]["first"]["kernel"].shape[2])
        for field, value in determined.items():
            if fields.setdefault(field, value) != value:
                raise InputError(
                    f"{path}: {field} is {value}, but {fields[field]} in the file before; "
                    "give files of one model"
                )
    config = cyclegan.Config(**fields)
    try:
        cyclegan.check(config)
    except InputError as error:
        names = ", ".join(map(str, files.values()))
        raise InputError(f"{names}: not the weights of a CycleGAN ({error})") from None
    return config, {"params": params, "stats": {}}


def files(folder: str | os.PathLike) -> dict[str, Path]:
    """Find the files of a checkpoint folder, by network name.

    Takes `latest_net_G_A.pth` or `latest_net_G.pth` and the like; without a latest, the
    newest epoch.

    Raises:
        InputError: the folder holds no generator, or files of two kinds of model.
    """
    newest: dict[str, tuple[float, Path]] = {}
    paths = sorted(Path(folder).glob("*_net_*.pth")) if Path(folder).is_dir() else []
    for path in paths:
        match = re.fullmatch(r"(latest|\d+)_net_(G|G_A|G_B|D_A|D_B)\.pth", path.name)
        if match:
            epoch = float("inf") if match[1] == "latest" else float(match[1])
            newest[match[2]] = max(newest.get(match[2], (-1.0, path)), (epoch, path))
    if not any(name.startswith("G") for name in newest):
        raise InputError(
            f"{folder}: holds no latest_net_G_A.pth, _G_B.pth or _G.pth; "
            "give a CycleGAN checkpoint folder, or one .pth of a generator"
        )
    if "G" in newest and len(newest) > 1:
        raise InputError(
            f"{folder}: holds both latest_net_G.pth and files of two directions; give one .pth"
        )
    return {name: path for name, (_, path) in newest.items()}


def _of_layers(arrays: Arrays) -> Arrays:
    """The arrays without unused buffers."""
    return {name: array for name, array in arrays.items() if name.rsplit(".", 1)[-1] not in BUFFERS}


def _stacked(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of the residual blocks. Raises InputError if shapes differ."""
    if len({array.shape for array in arrays}) > 1:
        raise InputError(
            f"is no such network: the {name}s of its residual blocks, from model.10 on, "
            "differ in shape"
        )
    return np.stack(arrays)


def _layers(
    arrays: Arrays, names: dict[str, str], transposed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Convert layers by name; every array must be used.

    A convolution is [out, in, k, k] there, a transposed one [in, out, k, k]; here [k,
    k, in, out].
    """
    wanted = {f"{theirs}.{part}" for theirs in names.values() for part in ("weight", "bias")}
    if different := sorted(wanted ^ arrays.keys()):
        problem = "is missing" if different[0] in wanted else "is not expected"
        raise InputError(f"is no such network: {different[0]!r} {problem}")
    params = {}
    for ours, theirs in names.items():
        axes = (2, 3, 0, 1) if ours in transposed else (2, 3, 1, 0)
        weight, bias = arrays[f"{theirs}.weight"], arrays[f"{theirs}.bias"]
        out_axis = 1 if ours in transposed else 0
        if weight.ndim != 4 or 0 in weight.shape or bias.shape != (weight.shape[out_axis],):
            raise InputError(
                f"is no such network: {theirs}.weight has shape {weight.shape}, "
                f"its bias {bias.shape}"
            )
        params[ours] = {
            "kernel": np.ascontiguousarray(weight.transpose(axes), np.float32),
            "bias": bias.astype(np.float32),
        }
    return params
