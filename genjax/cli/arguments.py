"""What commands share: checks of their arguments, the run they read, the files they
write.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from genjax import sampling
from genjax.core import Sampler, Weights
from genjax.edit import pictures
from genjax.errors import InputError
from genjax.files import grids, outputs
from genjax.files.grids import FORMATS
from genjax.runtime.shell import say
from genjax.training import run_folder

PICTURE_BYTES = 2**29  # of the images in one picture
SEED = "{seed}"


def load_sampler(run: Path, step: int) -> tuple[Sampler, Weights]:
    """Load what a run's model draws images with. Raises InputError if it draws none."""
    model, weights = sampling.load(run, step or None)
    if model.sampler is None:
        advice = f"genjax translate {run} PICTURES --out DIR"
        raise InputError(f"{run}: its model draws no images of its own; {advice}")
    return model.sampler, weights


def check_counts(**options: int) -> None:
    """Raise InputError for a number below 0; 0 stands for the default."""
    for name, value in options.items():
        if value < 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: 0 or more")


def class_names(run: Path) -> list[str]:
    """Return a run's class names by number; [] where its config.json has none."""
    classes = run_folder.read_config(run).get("data", {}).get("classes")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return classes if named else []


def check_sheet(
    out: Path, shape: tuple[int, ...], count: int, columns: int | None, rows: int | None
) -> None:
    """Raise InputError if so many images of a shape do not fit into one picture of this
    format.
    """
    if count > (most := PICTURE_BYTES // math.prod(shape)):
        size = "x".join(map(str, shape))
        limit = f"one picture holds at most {most} of {size}"
        raise InputError(f"--out {out}: {count} images, but {limit}")
    try:
        grids.check_side(grids.picture_suffix(out), *grids.sheet_size(count, shape, columns, rows))
    except InputError as error:
        raise InputError(f"--out {out}: {error}") from None


def single_files(out: Path) -> tuple[Path, str] | None:
    """Return the folder and the pattern of names that --out asks for; None for one
    picture.

    Raises InputError.
    """
    known = ", ".join(FORMATS)
    if fields := re.findall(r"\{[^{}]*\}", str(out)):
        if fields != [SEED] or SEED not in out.name or out.suffix.lower() not in FORMATS:
            advice = f"{SEED} once, in the file's name, no other braces, and a suffix of {known}"
            raise InputError(f"--out {out}: a pattern has {advice}")
        return out.parent, out.name
    if not out.suffix or out.is_dir():
        return out, f"seed{SEED}.png"
    if out.suffix.lower() not in FORMATS:
        advice = "for one file per seed a folder, whose name has a dot only if it exists"
        raise InputError(f"--out {out}: one of {known}; {advice}")
    return None


def write_files(
    folder: Path,
    names: Sequence[str],
    settings: dict[str, Any],
    draw: Callable[[int], Any],
    run: Path,
    force: bool,
) -> None:
    """Write one file per image, except those that an earlier call has finished.

    Args:
        folder: where to
        names: of the files
        settings: all that the images depend on, beside their names
        draw: number of the first image -> batches uint8 [b, h, w, c]
        run: the folder that is read
        force: replace files that genjax wrote
    """
    notes = {name: outputs.note(**settings, name=name) for name in names}
    opened = outputs.open_folder(folder, names, notes.__getitem__, read=[run], force=force)
    first = next((index for index, name in enumerate(names) if name not in opened.done), len(names))
    if opened.done:
        say(f"{len(opened.done)} of {len(names)} are done already, in {folder}")
    if first == len(names):
        return
    images = (image for batch in draw(first) for image in batch)
    rest = track(
        zip(names[first:], images, strict=True),
        "drawing",
        total=len(names) - first,
        console=Console(stderr=True),
    )
    for name, image in rest:
        if name not in opened.done:
            opened.write(name, pictures.encoded(name, image, notes[name]))
