"""Commands that draw: `sample`, `interpolate`, `style-mix`."""

import functools
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from genjax import sampling
from genjax.cli.arguments import (
    SEED,
    check_counts,
    check_sheet,
    class_names,
    load_sampler,
    single_files,
    write_files,
)
from genjax.edit import walks
from genjax.errors import InputError
from genjax.files import grids, outputs, videos
from genjax.runtime.shell import say
from genjax.training import run_folder


def sample(
    run: Path,
    /,
    n: int | None = None,
    seed: int = 0,
    seeds: str = "",
    label: str = "",
    truncation: float = 1.0,
    grid: str = "",
    out: Path = Path("grid.png"),
    force: bool = False,
    step: int = 0,
) -> int:
    """Draw images from a trained model, as one grid or as single files.

    Args:
        run: folder of a finished training run, or of `genjax convert`
        n: number of images; default: as many as --grid holds, else 64
        seed: seed of the latents of a grid; for single files the first file's, each
            next file having the next seed
        seeds: instead of --n and --seed, one seed per image, such as 0-3,7; an image
            depends on its seed only
        label: class of all images of a conditional model, by name or number; default:
            each class in turn (by seed for --seeds and single files)
        truncation: below 1 pulls latents (or w) toward their mean
        grid: columns x rows, such as 8x4; default: nearly square
        out: NAME.png (or .jpg, .webp, .bmp, .tif) for one grid; a folder, or a pattern
            such as "img-{seed}.png", for one file per seed of the model's size, where
            the same command continues after an interruption
        force: replace files that genjax wrote
        step: checkpoint step to load (works during training); 0: final weights
    """
    columns, rows = sampling.grid(grid) if grid else (None, None)
    check_counts(step=step)
    if seeds and (n is not None or seed):
        raise InputError(f"--seeds {seeds}: names the images itself; leave out --n and --seed")
    chosen = sampling.numbers("seeds", seeds) if seeds else []
    count = len(chosen) or ((columns * rows if columns and rows else 64) if n is None else n)
    if not 1 <= count <= sampling.MOST:
        raise InputError(f"--n {count}: from 1 to {sampling.MOST}")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: from 0 to {2**32 - 1}")
    if columns and rows and columns * rows < count:
        raise InputError(f"--grid {grid}: holds {columns * rows} images, not {count}")
    files = single_files(out)
    if files and grid:
        raise InputError(
            f"--grid {grid}: --out {out} is for single files; give a name such as grid.png, "
            "or leave it out"
        )
    if files and not seeds:
        if seed + count > 2**32:
            raise InputError(f"--seed {seed}: {count} seeds from it on pass {2**32 - 1}")
        chosen = list(range(seed, seed + count))
    if files and len(set(chosen)) < count:
        raise InputError(
            f"--seeds {seeds}: names a seed twice, but it has one file; name each once"
        )
    check = functools.partial(outputs.check_file, out, read=[run], force=force)
    outputs.check_folder(files[0]) if files else check()
    sampler, weights = load_sampler(run, step)
    sampling.check_truncation(sampler, truncation)
    size = "x".join(map(str, sampler.shape))
    if not files:
        check_sheet(out, sampler.shape, count, columns, rows)
    index = sampling.class_index(sampler, label, class_names(run))
    labels = sampling.labels(sampler, index, chosen or range(count))
    if chosen:
        z = sampling.of_seeds(chosen, sampler.z_dim)
    else:
        z = jax.random.normal(jax.random.key(seed), (count, sampler.z_dim))
    draw = sampling.drawer(sampler, truncation)

    def images(first: int = 0):
        return sampling.batches(draw, weights, (), (z, labels), sampler.shape, first)

    if files:
        folder, pattern = files
        settings = {"command": "sample", "weights": run_folder.weights_id(weights)}
        settings |= {"truncation": truncation, "label": index}
        names = [pattern.replace(SEED, f"{seed:04}") for seed in chosen]
        write_files(folder, names, settings, images, run, force)
        say(f"{count} images of {size} in {folder}")
        return 0
    pictures = np.concatenate(list(images()))
    check()  # again, for what has appeared meanwhile
    grids.save_grid(pictures, out, columns=columns, rows=rows)
    say(f"{count} images of {size} in {out}")
    return 0


def interpolate(
    run: Path,
    /,
    seeds: str,
    seconds: float = 10.0,
    out: Path = Path("walk.gif"),
    fps: int = 0,
    space: Literal["z", "w"] = "z",
    truncation: float = 1.0,
    label: str = "",
    force: bool = False,
    step: int = 0,
) -> int:
    """Make a seamless video of a walk from seed to seed, and back to the first.

    Args:
        run: folder of a training run, or of `genjax convert`
        seeds: two or more, such as 1,5,9
        seconds: length of one round in seconds
        out: a .mp4 (needs the extra `video`) or .gif; a name without a dot is a folder
            of PNG frames
        fps: frames per second; 0: 30, for a .gif 20
        space: z, along arcs between latents, or w, along lines between styles
        truncation: below 1 pulls latents (or w) toward their mean
        label: class of all images of a conditional model, by name or number
        force: replace files that genjax wrote
        step: checkpoint step to load (works during training); 0: final weights
    """
    check_counts(step=step)
    stops = sampling.numbers("seeds", seeds)
    if any(before == after for before, after in zip(stops, stops[1:] + stops[:1], strict=True)):
        raise InputError(
            f"--seeds {seeds}: two or more, each different from the one before, the first "
            "from the last"
        )
    videos.check(out, force, [run])
    kind = out.suffix.lower()
    rate, most = (
        fps or videos.RATES[kind],
        50 if kind == ".gif" else 120,
    )  # faster GIFs are shown slower
    if not 1 <= rate <= most:
        raise InputError(f"--fps {fps}: from 1 to {most}, or 0")
    if not len(stops) / rate <= seconds <= sampling.MOST / rate:
        limits = f"{len(stops) / rate:.4g} to {sampling.MOST / rate:.4g}"
        raise InputError(
            f"--seconds {seconds}: from {limits} with {len(stops)} seeds and {rate} frames "
            "per second"
        )
    count = round(seconds * rate)
    if not kind:
        videos.check_folder(out, count)
    sampler, weights = load_sampler(run, step)
    if space == "w" and not sampler.num_styles:
        raise InputError("--space w: the model has no styles; leave it out")
    sampling.check_truncation(sampler, truncation)
    index = sampling.class_index(sampler, label, class_names(run))
    labels = sampling.labels(sampler, index, stops)
    if labels is not None and index is None:
        classes = f"one from 0 to {sampler.num_labels - 1}"
        raise InputError(f"--label: {run} is conditional; give {classes}")
    z = sampling.of_seeds(stops, sampler.z_dim)

    def walk(first: int):
        for pixels in walks.walk(sampler, weights, z, labels, truncation, space, count, first):
            yield grids.enlarged(pixels[None])

    if kind:
        shown = track(walk(0), "drawing", total=count, console=Console(stderr=True))
        check = functools.partial(outputs.check_file, out, read=[run], force=force)
        videos.write(out, (pixels[0] for pixels in shown), count, rate, check)
    else:
        settings = {
            "command": "interpolate",
            "weights": run_folder.weights_id(weights),
            "seeds": stops,
            "space": space,
        }
        settings |= {"truncation": truncation, "label": index, "frames": count}
        write_files(
            out, [videos.name(number) for number in range(count)], settings, walk, run, force
        )
    say(f"{count} frames, {rate} per second, from seed to seed in {out}")
    return 0


def style_mix(
    run: Path,
    /,
    rows: str,
    columns: str,
    layers: str,
    out: Path = Path("mix.png"),
    truncation: float = 1.0,
    label: str = "",
    force: bool = False,
    step: int = 0,
) -> int:
    """Make a table of mixed styles: the row's, and in some layers the column's.

    Args:
        run: folder of a training run of StyleGAN2, or of `genjax convert`
        rows: seeds of the first column's images, such as 85,100
        columns: seeds of the first row's images
        layers: layers that take the column's style, such as 0-6: low ones set pose and
            shape, high ones colour and texture
        out: picture to write: .png, .jpg, .webp, .bmp or .tif
        truncation: below 1 pulls w toward its mean
        label: class of all images of a conditional model, by name or number; default:
            by seed
        force: replace a file that genjax wrote
        step: checkpoint step to load (works during training); 0: final weights
    """
    check_counts(step=step)
    given = {"rows": rows, "columns": columns}
    seeds = {name: sampling.numbers(name, text) for name, text in given.items()}
    table = [len(chosen) + 1 for chosen in seeds.values()]
    if table[0] * table[1] > sampling.MOST:
        raise InputError(
            f"--rows {rows} --columns {columns}: a table of at most {sampling.MOST} images"
        )
    if single_files(out):
        raise InputError(f"--out {out}: one table, so one name such as mix.png")
    check = functools.partial(outputs.check_file, out, read=[run], force=force)
    check()
    sampler, weights = load_sampler(run, step)
    map_latents = sampler.map_latents
    if map_latents is None:
        raise InputError(f"{run}: its model has no styles; give a run of train/stylegan2.py")
    sampling.check_truncation(sampler, truncation)
    check_sheet(out, sampler.shape, table[0] * table[1], table[1], table[0])
    index = sampling.class_index(sampler, label, class_names(run))

    def styles(seeds: list[int]):
        z = sampling.of_seeds(seeds, sampler.z_dim)
        labels = sampling.labels(sampler, index, seeds)
        return map_latents(weights, z, labels, truncation)

    across, down = styles(seeds["columns"]), styles(seeds["rows"])
    chosen = sampling.numbers("layers", layers, across.shape[1])
    pixels = walks.style_table(sampler, weights, down, across, chosen)
    check()
    grids.save_grid(pixels, out, columns=table[1])
    say(
        f"{table[0] - 1} rows and {table[1] - 1} columns of "
        f"{'x'.join(map(str, pixels.shape[1:]))} in {out}"
    )
    return 0
