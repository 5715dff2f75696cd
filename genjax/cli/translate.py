"""The command `translate`."""

import functools
import os
from pathlib import Path
from typing import Literal

import jax
from rich.console import Console
from rich.progress import track

from genjax import sampling
from genjax.cli.arguments import check_counts
from genjax.edit import pictures
from genjax.edit.tiles import translator
from genjax.errors import InputError
from genjax.files import outputs
from genjax.models.cyclegan import CycleGAN
from genjax.runtime.shell import say
from genjax.training import run_folder


def translate(
    run: Path,
    input: Path,
    /,
    direction: Literal["a2b", "b2a"] = "a2b",
    out: Path = Path("translated"),
    force: bool = False,
    tile: int = 512,
    overlap: int = 64,
    step: int = 0,
) -> int:
    """Translate a picture, or a folder of them, with a CycleGAN; names and sizes stay.

    The same command again continues after an interruption.

    Args:
        run: folder of a training run, or of `genjax convert`
        input: a picture, or a folder of pictures
        direction: a2b or b2a
        out: folder to write to
        force: replace files that genjax wrote
        tile: side in pixels of the tiles of larger pictures, which bounds the memory
        overlap: pixels over which tiles blend
        step: checkpoint step to load (works during training); 0: final weights
    """
    check_counts(step=step)
    if not 8 <= tile <= 2**14 or not 0 <= 2 * overlap <= tile:
        raise InputError(
            f"--tile {tile} --overlap {overlap}: a side of 8 to {2**14}, and at most half of it"
        )
    outputs.check_folder(out, read=[input])
    sources = _sources(input, out)
    names = [str(pictures.target(name)) for name, _ in sources]
    paths = dict(zip(names, (path for _, path in sources), strict=True))
    model, weights = sampling.load(run, step or None)
    if not isinstance(model, CycleGAN):
        raise InputError(f"{run}: is a run of another model; give one of train/cyclegan.py")
    if f"gen_{direction}" not in weights["params"]:
        raise InputError(f"--direction {direction}: {run} holds the other direction only")
    settings = {
        "command": "translate",
        "weights": run_folder.weights_id(weights),
        "direction": direction,
    }
    settings |= {"tile": tile, "overlap": overlap}

    def made(name: str) -> str:
        return outputs.note(**settings, source=pictures.digest(paths[name]))

    folder = outputs.open_folder(
        out,
        names,
        made,
        sources=[str(name) for name, _ in sources],
        read=[run, *paths.values()],
        force=force,
    )
    if folder.done:
        say(f"{len(folder.done)} of {len(names)} are done already, in {out}")
    translated = translator(model, weights, direction, tile, overlap)
    failed = 0
    waiting = [name for name in names if name not in folder.done]
    for name in track(waiting, "translating", console=Console(stderr=True)):
        try:
            note = made(name)
            data = pictures.encoded(
                name, translated(pictures.read(paths[name], model.config.shape[2])), note
            )
        except (pictures.Unreadable, MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(
                error
            ):
                raise
            why = (
                error
                if isinstance(error, pictures.Unreadable)
                else "needs more memory than there is; try a smaller --tile"
            )
            failed += 1
            say(f"{paths[name]}: {why}; left out")
            continue
        folder.write(name, data)
    if failed == len(names):
        raise InputError(f"{input}: none of its {failed} pictures can be translated")
    say(f"{len(names) - failed} of {len(names)} pictures translated {direction} in {out}")
    return 0 if not failed else 1


def _sources(input: Path, out: Path) -> list[tuple[Path, Path]]:
    """Return (name below `input`, path) of the pictures to translate.

    Where `out` lies inside `input`, pictures that an earlier call wrote are left out.
    Raises InputError if none remain.
    """
    pictures_below = [
        (path.relative_to(input) if input.is_dir() else Path(path.name), path)
        for path in pictures.find(input, say)
    ]
    if not input.is_dir():
        return pictures_below
    root = Path(os.path.realpath(out))
    inside = functools.cache(lambda folder: Path(os.path.realpath(folder)).is_relative_to(root))
    rest = [
        (name, path)
        for name, path in pictures_below
        if not (inside(path.parent) and outputs.ours(path))
    ]
    if len(rest) < len(pictures_below):
        say(f"{len(pictures_below) - len(rest)} of them are genjax's own, in {out}; left out")
    if not rest:
        raise InputError(f"{input}: holds no pictures but those of --out {out}")
    return rest
