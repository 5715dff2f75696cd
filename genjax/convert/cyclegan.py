"""CycleGAN's published PyTorch weights as ours. Key names and layouts: the reference repository's `ResnetGenerator` and `NLayerDiscriminator`.

Its G_A is our gen_a2b, and its D_A, which judges what G_A makes, our disc_b.
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
BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
)  # of instance norms before PyTorch 0.4: never used

Arrays = dict[str, np.ndarray]


def generator(arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters of cyclegan.ResNet, the Config fields that they say: channels, blocks). Raises InputError on another network's."""
    arrays = _of_layers(arrays)
    blocks = len(
        {
            match[1]
            for name in arrays
            if (match := re.fullmatch(r"model\.([0-9]{1,4})\.conv_block\.1\.weight", name))
        }
    )
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
        pairs = {
            part: [params.pop(f"{part}_{i}") for i in range(blocks)] for part in ("first", "second")
        }
        params["blocks"] = {
            part: {name: _stacked(name, [one[name] for one in ones]) for name in ones[0]}
            for part, ones in pairs.items()
        }
    return params, {"channels": params["first"]["kernel"].shape[3], "blocks": blocks}


def discriminator(arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters of cyclegan.Discriminator, the Config fields that they say: disc_channels, disc_layers). Raises InputError."""
    arrays = _of_layers(arrays)
    places = sorted(
        int(match[1])
        for name in arrays
        if (match := re.fullmatch(r"model\.([0-9]{1,4})\.weight", name))
    )
    if len(places) < 3:
        raise InputError("is no such network: it has fewer than three convolutions model.N.weight")
    names = {f"conv_{i}": f"model.{place}" for i, place in enumerate(places[:-1])} | {
        "logits": f"model.{places[-1]}"
    }
    params = _layers(arrays, names)
    return params, {
        "disc_channels": params["conv_0"]["kernel"].shape[3],
        "disc_layers": len(places) - 2,
    }


def weights(
    files: Mapping[str, str | os.PathLike],
) -> tuple[cyclegan.Config, dict[str, dict[str, Any]]]:
    """Files by the reference's names, any of G_A, G_B, D_A, D_B, or G for one way only -> (Config, weights of those networks).

    Raises InputError for a file that cannot be read, is of another network, or does not go with the others.
    """
    params: dict[str, Any] = {}
    fields: dict[str, Any] = {"network": "resnet"}
    for name, path in files.items():
        arrays = tensors.read(path)
        try:
            params[NETWORKS[name]], found = (generator if name.startswith("G") else discriminator)(
                arrays
            )
            tensors.check_finite(_of_layers(arrays))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if name.startswith("G"):
            found["shape"] = (256, 256, params[NETWORKS[name]]["first"]["kernel"].shape[2])
        for field, value in found.items():
            if fields.setdefault(field, value) != value:
                raise InputError(
                    f"{path}: {field} is {value}, but {fields[field]} in the file before; give files of one model"
                )
    config = cyclegan.Config(**fields)
    try:
        cyclegan.check(config)
    except InputError as error:
        raise InputError(
            f"{', '.join(map(str, files.values()))}: are no CycleGAN's ({error})"
        ) from None
    return config, {"params": params, "stats": {}}


def files(folder: str | os.PathLike) -> dict[str, Path]:
    """The files of a checkpoint folder by network: `latest_net_G_A.pth` or `latest_net_G.pth`, of the newest epoch if there is no latest.

    Raises InputError if no generator is there.
    """
    found: dict[str, tuple[float, Path]] = {}
    paths = sorted(Path(folder).glob("*_net_*.pth")) if Path(folder).is_dir() else []
    for path in paths:
        match = re.fullmatch(r"(latest|\d+)_net_(G|G_A|G_B|D_A|D_B)\.pth", path.name)
        if match:
            epoch = float("inf") if match[1] == "latest" else float(match[1])
            found[match[2]] = max(found.get(match[2], (-1.0, path)), (epoch, path))
    if not any(name.startswith("G") for name in found):
        raise InputError(
            f"{folder}: holds no latest_net_G_A.pth, _G_B.pth or _G.pth; give a CycleGAN checkpoint folder, or one .pth of a generator"
        )
    if "G" in found and len(found) > 1:
        raise InputError(
            f"{folder}: holds both latest_net_G.pth and files of two sides; give one .pth"
        )
    return {name: path for name, (_, path) in found.items()}


def _of_layers(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if name.rsplit(".", 1)[-1] not in BUFFERS}


def _stacked(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    if len({array.shape for array in arrays}) > 1:
        raise InputError(
            f"is no such network: the {name}s of its residual blocks, model.10 and on, differ in shape"
        )
    return np.stack(arrays)


def _layers(
    arrays: Arrays, names: dict[str, str], transposed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Ours by name from theirs, all of them used. A convolution is [out, in, k, k] there, a transposed one [in, out, k, k]; here [k, k, in, out]."""
    wanted = {f"{theirs}.{part}" for theirs in names.values() for part in ("weight", "bias")}
    if different := sorted(wanted ^ arrays.keys()):
        raise InputError(
            f"is no such network: {different[0]!r} {'is missing' if different[0] in wanted else 'is not expected'}"
        )
    params = {}
    for ours, theirs in names.items():
        axes = (2, 3, 0, 1) if ours in transposed else (2, 3, 1, 0)
        weight, bias = arrays[f"{theirs}.weight"], arrays[f"{theirs}.bias"]
        if (
            weight.ndim != 4
            or 0 in weight.shape
            or bias.shape != (weight.shape[1 if ours in transposed else 0],)
        ):
            raise InputError(
                f"is no such network: {theirs}.weight is of shape {weight.shape}, its bias of {bias.shape}"
            )
        params[ours] = {
            "kernel": np.ascontiguousarray(weight.transpose(axes), np.float32),
            "bias": bias.astype(np.float32),
        }
    return params
