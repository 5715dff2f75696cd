"""Restoration quality of a CycleGAN: PSNR and SSIM on held-out pairs.

    python benchmarks/restore.py split PICTURES.zip OUT
        unpack to OUT/train and, every fifth by name, to OUT/val
    python benchmarks/restore.py pairs RUN CLEAN --degraded DARK
        pictures of the same names in two folders
    python benchmarks/restore.py pairs RUN CLEAN --making haze --aodnet aodnet.pth
        degraded pictures made from the clean ones by genjax/edit/degrade.py
    python benchmarks/restore.py cycle RUN PICTURES --direction a2b
        reconstructions, against the pictures themselves

Prints one JSON line with means over the pictures: of the run's output, of the degraded
input itself ("input"), and of AOD-Net if its weights are given. Pictures are translated
at full size, as by `genjax translate`; the metrics are of the uint8 values.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

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
from genjax.runtime import shell
from genjax.training import script

HELD_BACK = 5  # every fifth picture by name is held out


def split(source: Path, out: Path, /) -> int:
    """Unpack a zip of pictures into OUT/train and OUT/val.

    Args:
        source: the zip
        out: a folder that does not exist yet
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
    shell.say(f"{len(members)} pictures in {out}")
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
        run: folder of a training run
        clean: folder of the clean pictures
        degraded: folder of the degraded pictures, with the same names
        making: haze | lowlight | blur | blocks: degradation to apply to the clean
            pictures
        aodnet: published weights of AOD-Net, measured for comparison
        seed: seed of the degradation
        step: checkpoint step to load (works during training); 0 = final weights
        out: folder for pictures of degraded, restored and clean side by side
    """
    if (degraded is None) == (making == ""):
        raise InputError("--degraded FOLDER or --making NAME: give exactly one of them")
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
    triples = opened(clean, degraded) if degraded else made(clean, making, seed)
    for path, image, reference in show(triples, clean):
        results = {name: method(image) for name, method in methods.items()}
        measure(figures, results, reference)
        if out:
            row = np.concatenate([image, results[""], reference], axis=1)
            pictures.write(out / f"{path.stem}.png", row)
    source = degraded.name if degraded else making
    return report(run, step, figures, clean=clean.name, degraded=source, seed=seed)


def cycle(
    run: Path, source: Path, /, direction: Literal["a2b", "b2a"] = "a2b", step: int = 0
) -> int:
    """Measure reconstructions, translated there and back, against the pictures.

    Args:
        run: folder of a training run
        source: folder of pictures of the first side
        direction: a2b or b2a, the first translation
        step: checkpoint step to load (works during training); 0 = final weights
    """
    model, weights = genjax.load(run, step or None)
    reverse = "b2a" if direction == "a2b" else "a2b"
    there, back = (translator(model, weights, way) for way in (direction, reverse))
    figures: dict[str, list[float]] = {}
    for _, image, reference in show(opened(source, source), source):
        measure(figures, {"": back(there(image))}, reference)
    return report(run, step, figures, pictures=source.name, direction=direction)


# --- pictures -------------------------------------------------------------------------

# Path, input and reference, uint8 [h, w, 3].
Triples = Iterator[tuple[Path, np.ndarray, np.ndarray]]


def opened(clean: Path, degraded: Path) -> Triples:
    """Read pairs of the same names from two folders."""
    for path in pictures.find(clean):
        yield path, read(degraded / path.relative_to(clean)), read(path)


def made(clean: Path, name: str, seed: int) -> Triples:
    """Make pairs by degrading the clean pictures."""
    if name not in degrade.DEGRADATIONS:
        raise InputError(f"--making {name}: must be one of {', '.join(degrade.DEGRADATIONS)}")
    change = degrade.degraded(name, seed)
    for number, path in enumerate(pictures.find(clean)):
        reference = read(path)
        yield path, change(number, reference), reference


def read(path: Path) -> np.ndarray:
    """Read a picture, uint8 [h, w, 3].

    Raises:
        InputError: the file cannot be read
    """
    try:
        return pictures.read(path, 3)
    except pictures.Unreadable as error:
        raise InputError(f"{path}: {error}") from None


def show(triples: Triples, folder: Path) -> Triples:
    """Pass the triples of a folder's pictures on, with a progress bar."""
    total, console = len(pictures.find(folder)), Console(stderr=True)
    return iter(track(triples, "restoring", total=total, console=console))


# --- AOD-Net, the published baseline. Li et al. 2017 (ICCV), section 3.2 --------------


def aod_net(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Load aodnet.pth as a function of pictures uint8 [h, w, 3] to the same.

    Raises:
        InputError: the file does not hold AOD-Net's weights
    """
    weights = pth.state_dict(path)
    channels, kernels = (3, 3, 6, 6, 12), (1, 3, 5, 7, 3)
    expected = {
        f"e_conv{i}.weight": (3, inputs, kernel, kernel)
        for i, (inputs, kernel) in enumerate(zip(channels, kernels, strict=True), 1)
    }
    shapes = {name: array.shape for name, array in weights.items() if name.endswith("weight")}
    if shapes != expected:
        raise InputError(f"--aodnet {path}: not the weights of AOD-Net")
    apply = jax.jit(lambda images: aod_net_values(weights, images))

    def restore(image: np.ndarray) -> np.ndarray:
        values = jnp.clip(apply(image[None] / np.float32(255)), 0, 1)
        return np.asarray(jnp.rint(values * 255).astype(jnp.uint8))[0]

    return restore


def aod_net_values(weights: Mapping[str, np.ndarray], x: jax.Array) -> jax.Array:
    """AOD-Net, K x - K + 1 with K from five convolutions; x [n, h, w, 3] in 0..1."""

    def conv(name: str, *inputs: jax.Array) -> jax.Array:
        weight = jnp.asarray(weights[f"e_conv{name}.weight"])
        bias = weights[f"e_conv{name}.bias"].reshape(1, 1, 1, -1)
        numbers = ("NHWC", "OIHW", "NHWC")
        y = jax.lax.conv_general_dilated(
            jnp.concatenate(inputs, axis=-1), weight, (1, 1), "SAME", dimension_numbers=numbers
        )
        return jax.nn.relu(y + bias)

    with jax.default_matmul_precision("float32"):
        first = conv("1", x)
        second = conv("2", first)
        third = conv("3", first, second)
        fourth = conv("4", second, third)
        k = conv("5", first, second, third, fourth)
        return jax.nn.relu(k * x - k + 1)


# --- figures --------------------------------------------------------------------------


def measure(
    figures: dict[str, list[float]], results: dict[str, np.ndarray], reference: np.ndarray
) -> None:
    """Append PSNR and SSIM of each method's result to `figures`."""
    for name, result in results.items():
        for label, metric in (("psnr", paired.psnr), ("ssim", paired.ssim)):
            value = float(metric(result[None], reference[None])[0])
            figures.setdefault(f"{label}{name}", []).append(value)


def report(run: Path, step: int, figures: dict[str, list[float]], **facts: Any) -> int:
    """Print the means as a JSON line; return exit code 0."""
    n = len(figures["psnr"])
    means = {name: round(float(np.mean(values)), 3) for name, values in figures.items()}
    least = {"psnr_least": round(min(figures["psnr"]), 3)}
    row = {"run": str(run), "step": step or None, "n": n, **facts} | means | least
    row |= {"device": script.describe_devices(), "jax": jax.__version__}
    print(json.dumps(row), flush=True)
    return 0


def main() -> int:
    """Parse the command line and run a subcommand; return its exit code."""
    commands = {"split": split, "pairs": pairs, "cycle": cycle}
    return subcommand_cli_from_dict(commands, description=__doc__)


if __name__ == "__main__":
    raise SystemExit(shell.guarded(lambda: shell.parsed(main)))
