"""How near a CycleGAN's restorations are to the photographs: PSNR and SSIM on pairs that it was not trained on.

    python benchmarks/restore.py split PICTURES.zip OUT                        to OUT/train and, each fifth by name, OUT/val
    python benchmarks/restore.py pairs RUN CLEAN --degraded DARK               pictures of the same names in two folders
    python benchmarks/restore.py pairs RUN CLEAN --making haze --aodnet aodnet.pth      made from the clean ones by edit/degrade.py
    python benchmarks/restore.py cycle RUN PICTURES --direction a2b            there and back, against the pictures themselves

One JSON line: means over the pictures, of the run's output, of the degraded input itself ("input"), and of AOD-Net where its weights are given.
Pictures are translated whole at their own size, as `genjax translate` does it; values are the written bytes.
"""

import itertools
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track
from tyro.extras import subcommand_cli_from_dict

import genjax
from genjax.edit import degrade, pictures
from genjax.edit.tiles import translator
from genjax.errors import InputError
from genjax.files import pth
from genjax.files.grids import FORMATS
from genjax.metrics import paired
from genjax.training import script

HELD_BACK = 5  # each fifth picture by name


def split(source: Path, out: Path, /) -> int:
    """Unpack a zip of pictures into OUT/train and OUT/val.

    Args:
        source: the zip
        out: a folder that does not exist
    """
    if out.exists():
        raise InputError(f"{out}: exists; choose another folder")
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source}: not a zip of pictures ({error})") from None
    with archive:
        members = {
            Path(name).name: name
            for name in archive.namelist()
            if Path(name).suffix.lower() in FORMATS
        }
        for number, name in enumerate(sorted(members)):
            folder = out / ("val" if number % HELD_BACK == HELD_BACK - 1 else "train")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(archive.read(members[name]))
    script.say(f"{len(members)} pictures in {out}")
    return 0


def pairs(
    run: Path,
    clean: Path,
    /,
    degraded: Path | None = None,
    making: str = "",
    aodnet: Path | None = None,
    seed: int = 0,
    step: int = 0,
    out: Path | None = None,
) -> int:
    """Measure restorations a -> b against the clean pictures.

    Args:
        run: the folder of a training run
        clean: the folder of the clean pictures
        degraded: the folder of the degraded ones, of the same names
        making: haze | lowlight | blur | blocks: make the degraded ones instead, by edit/degrade.py
        aodnet: published weights of AOD-Net, to be measured beside
        seed: of the degradation
        step: take the checkpoint of this step; 0: the weights that training ended with
        out: a folder for degraded, restored, clean side by side
    """
    if (degraded is None) == (making == ""):
        raise InputError("--degraded FOLDER or --making NAME: give one of them")
    if out:
        out.mkdir(parents=True, exist_ok=True)
    model, weights = genjax.load(run, step or None)
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "": translator(model, weights, "a2b"),
        "_input": lambda x: x,
    }
    if aodnet:
        methods["_aodnet"] = aod_net(aodnet)
    figures: dict[str, list[float]] = {}
    for path, image, reference in show(
        opened(clean, degraded) if degraded else made(clean, making, seed), clean
    ):
        results = {name: method(image) for name, method in methods.items()}
        measure(figures, results, reference)
        if out:
            pictures.write(
                out / f"{path.stem}.png", np.concatenate([image, results[""], reference], axis=1)
            )
    return report(
        run,
        step,
        figures,
        clean=clean.name,
        degraded=degraded.name if degraded else making,
        seed=seed,
    )


def cycle(
    run: Path, source: Path, /, direction: Literal["a2b", "b2a"] = "a2b", step: int = 0
) -> int:
    """Measure what comes back from the other side against the pictures.

    Args:
        run: the folder of a training run
        source: the folder of the pictures of the first side
        direction: a2b or b2a, the way there
        step: take the checkpoint of this step; 0: the weights that training ended with
    """
    model, weights = genjax.load(run, step or None)
    there, back = (
        translator(model, weights, way)
        for way in (direction, "b2a" if direction == "a2b" else "a2b")
    )
    figures: dict[str, list[float]] = {}
    for _, image, reference in show(opened(source, source), source):
        measure(figures, {"": back(there(image))}, reference)
    return report(run, step, figures, pictures=source.name, direction=direction)


# --- pictures ------------------------------------------------------------------------------------------------------------

Triples = Iterator[
    tuple[Path, np.ndarray, np.ndarray]
]  # of a path, what is translated, and what should come out


def opened(clean: Path, degraded: Path) -> Triples:
    for path in pictures.find(clean):
        yield path, read(degraded / path.relative_to(clean)), read(path)


def made(clean: Path, name: str, seed: int) -> Triples:
    if name not in degrade.DEGRADATIONS:
        raise InputError(f"--making {name}: one of {', '.join(degrade.DEGRADATIONS)}")
    change = degrade.degraded(name, seed)
    for number, path in enumerate(pictures.find(clean)):
        reference = read(path)
        yield path, change(number, reference), reference


def read(path: Path) -> np.ndarray:
    try:
        return pictures.read(path, 3)
    except pictures.Unreadable as error:
        raise InputError(f"{path}: {error}") from None


def show(triples: Triples, folder: Path) -> Triples:
    return iter(
        track(triples, "restoring", total=len(pictures.find(folder)), console=Console(stderr=True))
    )


# --- AOD-Net, the published network to be above. Li et al. 2017 (ICCV), section 3.2 ---------------------------------------


def aod_net(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function of pictures uint8 [h, w, 3], with the weights of aodnet.pth. Raises InputError."""
    weights = pth.state_dict(path)
    shapes = {
        "1": (3, 3, 1, 1),
        "2": (3, 3, 3, 3),
        "3": (3, 6, 5, 5),
        "4": (3, 6, 7, 7),
        "5": (3, 12, 3, 3),
    }
    wanted = {f"e_conv{name}.weight": shape for name, shape in shapes.items()}
    if {name: array.shape for name, array in weights.items() if name.endswith("weight")} != wanted:
        raise InputError(f"--aodnet {path}: not the weights of AOD-Net")
    apply = jax.jit(lambda images: aod_net_values(weights, images))
    return lambda image: np.asarray(
        jnp.rint(jnp.clip(apply(image[None] / np.float32(255)), 0, 1) * 255).astype(jnp.uint8)
    )[0]


def aod_net_values(weights: dict[str, np.ndarray], x: jax.Array) -> jax.Array:
    """Images [n, h, w, 3] in 0..1 -> the same: K x - K + 1, with K of five convolutions."""

    def conv(name: str, *parts):
        weight, bias = (
            weights[f"e_conv{name}.weight"],
            weights[f"e_conv{name}.bias"].reshape(1, 1, 1, -1),
        )
        numbers = ("NHWC", "OIHW", "NHWC")
        y = jax.lax.conv_general_dilated(
            jnp.concatenate(parts, axis=-1), weight, (1, 1), "SAME", dimension_numbers=numbers
        )
        return jax.nn.relu(y + bias)

    with jax.default_matmul_precision("float32"):
        first = conv("1", x)
        second = conv("2", first)
        third = conv("3", first, second)
        fourth = conv("4", second, third)
        k = conv("5", first, second, third, fourth)
        return jax.nn.relu(k * x - k + 1)


# --- figures -------------------------------------------------------------------------------------------------------------


def measure(
    figures: dict[str, list[float]], results: dict[str, np.ndarray], reference: np.ndarray
) -> None:
    for (name, result), (label, metric) in itertools.product(
        results.items(), (("psnr", paired.psnr), ("ssim", paired.ssim))
    ):
        figures.setdefault(f"{label}{name}", []).append(
            float(metric(result[None], reference[None])[0])
        )


def report(run: Path, step: int, figures: dict[str, list[float]], **facts) -> int:
    n = len(figures["psnr"])
    means = {name: round(float(np.mean(values)), 3) for name, values in figures.items()}
    least = {"psnr_least": round(min(figures["psnr"]), 3)}
    row = {"run": str(run), "step": step or None, "n": n, **facts} | means | least
    print(
        json.dumps(row | {"device": script.describe_devices(), "jax": jax.__version__}), flush=True
    )
    return 0


def main() -> int:
    return subcommand_cli_from_dict(
        {"split": split, "pairs": pairs, "cycle": cycle}, description=__doc__
    )


if __name__ == "__main__":
    raise SystemExit(script.guarded(lambda: script.parsed(main)))
