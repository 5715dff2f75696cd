"""The `genjax` command: what comes after training. Each subcommand is a thin typed function over the library."""

import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from genjax.runtime import shell as shell  # isort: skip  # before JAX: see there
from genjax.errors import one_line
from genjax.training import script

PICTURE_BYTES = 2**29  # of the images in one picture


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
        run: the folder of a finished training run, or what `genjax convert` wrote
        n: number of images; as many as --grid holds if not given, else 64
        seed: of the latents of all images of a grid; of single files the first one's, each next file has the next seed
        seeds: instead of both, one seed per image, such as 0-3,7: an image depends on its seed only
        label: class of all images, of a conditional model: its name in config.json, else its number; each class in turn if not given
            (of --seeds and single files: the seed modulo the classes)
        truncation: below 1, pulls latents or styles, and so images, toward their mean
        grid: columns x rows, such as 8x4; near a square if not given
        out: NAME.png (or .jpg, .webp, .bmp, .tif): one grid. A folder, or a pattern such as "img-{seed}.png": one file per seed, of
            the model's exact size; the same command again goes on where it stopped
        force: replace files that genjax wrote
        step: checkpoint step to load (works during training); 0: the final weights
    """
    import jax
    import numpy as np

    import genjax
    from genjax import sampling
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.training import checkpoint

    columns, rows = sampling.grid(grid) if grid else (None, None)
    _check_whole(step=step)
    if seeds and (n is not None or seed):
        raise InputError(f"--seeds {seeds}: names the images itself; leave out --n and --seed")
    chosen = sampling.numbers("--seeds", seeds) if seeds else []
    count = len(chosen) or ((columns * rows if columns and rows else 64) if n is None else n)
    if not 1 <= count <= sampling.MOST:
        raise InputError(f"--n {count}: from 1 to {sampling.MOST}")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: from 0 to {2**32 - 1}")
    if columns and rows and columns * rows < count:
        raise InputError(f"--grid {grid}: holds {columns * rows} images, not {count}")
    files = _single_files(out)
    if files and grid:
        raise InputError(
            f"--grid {grid}: --out {out} is for single files; give a name such as grid.png, or leave it out"
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
    model, weights = _load(
        run,
        step,
        ("sample",),
        f"its model draws no images; genjax translate {run} PICTURES --out DIR",
    )
    sampling.check_truncation(model, truncation)
    size = "x".join(map(str, model.config.shape))
    if not files:
        _check_sheet(out, model.config.shape, count, columns, rows)
    index = sampling.class_index(model, label, _classes(run))
    labels = sampling.labels(model, index, chosen or range(count))
    latent = model.config.latent_size
    z = (
        sampling.of_seeds(chosen, latent)
        if chosen
        else jax.random.normal(jax.random.key(seed), (count, latent))
    )
    along, draw = (z, labels), sampling.drawer(model, truncation)
    if files:
        folder, pattern = files
        settings = {
            "command": "sample",
            "weights": checkpoint.weights_id(weights),
            "truncation": truncation,
            "label": index,
        }
        names = [pattern.replace(SEED, f"{seed:04}") for seed in chosen]
        _write_files(
            folder,
            names,
            settings,
            lambda first: sampling.batches(draw, weights, (), along, model.config.shape, first),
            run,
            force,
        )
        script.say(f"{count} images of {size} in {folder}")
        return 0
    pictures = np.concatenate(list(sampling.batches(draw, weights, (), along, model.config.shape)))
    check()  # again, for what has appeared meanwhile
    genjax.save_grid(pictures, out, columns=columns, rows=rows)
    script.say(f"{count} images of {size} in {out}")
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
    """Walk from the latents of one seed to those of the next, and from the last back to the first: a video without a seam.

    Args:
        run: the folder of a training run, or what `genjax convert` wrote
        seeds: two or more, such as 1,5,9
        seconds: length of one round
        out: a .mp4 (needs the extra `video`) or .gif; a name without a dot is a folder of PNG frames
        fps: frames per second; 0: 30, of a .gif 20
        space: z, along arcs between latents, or w, along lines between a StyleGAN2's styles
        truncation: below 1, pulls latents or styles, and so images, toward their mean
        label: class of all images, of a conditional model: its name in config.json, else its number
        force: replace files that genjax wrote
        step: checkpoint step to load (works during training); 0: the final weights
    """
    from rich.console import Console
    from rich.progress import track

    from genjax import sampling
    from genjax.errors import InputError
    from genjax.files import outputs, videos
    from genjax.files.grids import enlarged
    from genjax.training import checkpoint

    _check_whole(step=step)
    stops = sampling.numbers("--seeds", seeds)
    if any(before == after for before, after in zip(stops, stops[1:] + stops[:1], strict=True)):
        raise InputError(
            f"--seeds {seeds}: two or more, each another than the one before, the first than the last"
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
            f"--seconds {seconds}: from {limits} with {len(stops)} seeds and {rate} frames per second"
        )
    count = round(seconds * rate)
    if not kind:
        videos.check_folder(out, count)
    advice = "its model has no latents to walk through; give a run of a GAN (a VAE's interpolate takes images)"
    model, weights = _load(run, step, ("generate", "synthesis"), advice)
    if space == "w" and not hasattr(model, "synthesis"):
        raise InputError("--space w: only a StyleGAN2 has styles; leave it out")
    sampling.check_truncation(model, truncation)
    index = sampling.class_index(model, label, _classes(run))
    labels = sampling.labels(model, index, stops)
    if labels is not None and index is None:
        raise InputError(
            f"--label: {run} is conditional; give one from 0 to {model.config.num_labels - 1}"
        )
    z = sampling.of_seeds(stops, model.config.latent_size)

    def walk(first: int):
        for pixels in sampling.walk(model, weights, z, labels, truncation, space, count, first):
            yield enlarged(pixels[None])

    if kind:
        shown = track(walk(0), "drawing", total=count, console=Console(stderr=True))
        check = functools.partial(outputs.check_file, out, read=[run], force=force)
        videos.write(out, (pixels[0] for pixels in shown), count, rate, check)
    else:
        settings = {
            "command": "interpolate",
            "weights": checkpoint.weights_id(weights),
            "seeds": stops,
            "space": space,
        }
        settings |= {"truncation": truncation, "label": index, "frames": count}
        _write_files(
            out, [videos.name(number) for number in range(count)], settings, walk, run, force
        )
    script.say(f"{count} frames, {rate} per second, from seed to seed in {out}")
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
    """Mix the styles of a StyleGAN2's images: a table with the row's image, some layers' styles from the column's, in one PNG.

    Args:
        run: the folder of a training run of StyleGAN2, or what `genjax convert` wrote
        rows: seeds of the first column's images, such as 85,100
        columns: seeds of the first row's images
        layers: whose styles are the column's, such as 0-6: low ones pose and shape, high ones colour and texture
        out: the picture to write: .png, .jpg, .webp, .bmp or .tif
        truncation: below 1, pulls styles, and so images, toward their mean
        label: class of all images, of a conditional model: its name in config.json, else its number; the seed modulo the classes if not given
        force: replace a file that genjax wrote
        step: checkpoint step to load (works during training); 0: the final weights
    """
    import genjax
    from genjax import sampling
    from genjax.errors import InputError
    from genjax.files import outputs

    _check_whole(step=step)
    seeds = {
        option: sampling.numbers(option, text)
        for option, text in (("--rows", rows), ("--columns", columns))
    }
    table = [len(found) + 1 for found in seeds.values()]
    if table[0] * table[1] > sampling.MOST:
        raise InputError(
            f"--rows {rows} --columns {columns}: a table of at most {sampling.MOST} images"
        )
    if _single_files(out):
        raise InputError(f"--out {out}: one table, so one name such as mix.png")
    check = functools.partial(outputs.check_file, out, read=[run], force=force)
    check()
    model, weights = _load(
        run, step, ("style_mix",), "its model has no styles; give a run of train/stylegan2.py"
    )
    sampling.check_truncation(model, truncation)
    _check_sheet(out, model.config.shape, table[0] * table[1], table[1], table[0])
    index = sampling.class_index(model, label, _classes(run))

    def styles(found: list[int]):
        z = sampling.of_seeds(found, model.config.latent_size)
        return model.mapping(weights, z, sampling.labels(model, index, found), truncation)

    across, down = styles(seeds["--columns"]), styles(seeds["--rows"])
    chosen = sampling.numbers("--layers", layers, across.shape[1])
    pixels = sampling.style_table(model, weights, down, across, chosen)
    check()
    genjax.save_grid(pixels, out, columns=table[1])
    script.say(
        f"{table[0] - 1} rows and {table[1] - 1} columns of {'x'.join(map(str, pixels.shape[1:]))} in {out}"
    )
    return 0


def _load(run: Path, step: int, verbs: tuple[str, ...], refusal: str) -> tuple[Any, Any]:
    """A run's model, which must have one of these verbs, and its weights."""
    import genjax
    from genjax.errors import InputError

    model, weights = genjax.load(run, step or None)
    if not any(hasattr(model, verb) for verb in verbs):
        raise InputError(f"{run}: {refusal}")
    return model, weights


def _check_whole(**options: int) -> None:
    """Raise InputError for a number below 0: of these options 0 stands for the default."""
    from genjax.errors import InputError

    for name, value in options.items():
        if value < 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: 0 or more")


def _classes(run: Path) -> list[str]:
    """The names of a run's classes, in the order of their numbers; none where its config.json has none."""
    from genjax.training import checkpoint

    classes = checkpoint.read_config(run).get("data", {}).get("classes")
    return (
        classes
        if isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        else []
    )


def _check_sheet(
    out: Path, shape: tuple[int, ...], count: int, columns: int | None, rows: int | None
) -> None:
    """Raise InputError where so many images (height, width, channels) are too many for one picture of that format."""
    from genjax.errors import InputError
    from genjax.files import grids

    if count > (most := PICTURE_BYTES // math.prod(shape)):
        size = "x".join(map(str, shape))
        raise InputError(
            f"--out {out}: {count} images, but one picture holds at most {most} of {size}"
        )
    try:
        grids.check_side(grids.picture_suffix(out), *grids.sheet_size(count, shape, columns, rows))
    except InputError as error:
        raise InputError(f"--out {out}: {error}") from None


SEED = "{seed}"


def _single_files(out: Path) -> tuple[Path, str] | None:
    """The folder and the pattern of names that --out asks for; None where it is the name of one picture. Raises InputError."""
    from genjax.errors import InputError
    from genjax.files.grids import FORMATS

    known = ", ".join(FORMATS)
    if fields := re.findall(r"\{[^{}]*\}", str(out)):
        if fields != [SEED] or SEED not in out.name or out.suffix.lower() not in FORMATS:
            raise InputError(
                f"--out {out}: a pattern has {SEED} once, in the file's name, no other braces, and a suffix of {known}"
            )
        return out.parent, out.name
    if not out.suffix or out.is_dir():
        return out, f"seed{SEED}.png"
    if out.suffix.lower() not in FORMATS:
        raise InputError(
            f"--out {out}: one of {known}; for one file per seed a folder, whose name has a dot only if it exists"
        )
    return None


def _write_files(
    folder: Path,
    names: Sequence[str],
    settings: dict[str, Any],
    draw: Callable[[int], Any],
    run: Path,
    force: bool,
) -> None:
    """Write a file per image of the batches [b, h, w, c] of draw(first), but for those that an earlier try has finished.

    settings: all that the images depend on, beside their names.
    """
    from rich.console import Console
    from rich.progress import track

    from genjax.edit import pictures
    from genjax.files import outputs

    notes = {name: outputs.note(**settings, name=name) for name in names}
    opened = outputs.open_folder(folder, names, notes.__getitem__, read=[run], force=force)
    first = next((index for index, name in enumerate(names) if name not in opened.done), len(names))
    if opened.done:
        script.say(f"{len(opened.done)} of {len(names)} are done already, in {folder}")
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
    """Translate a picture, or all of a folder, with a trained CycleGAN; names and sizes stay. The same command again goes on.

    Args:
        run: the folder of a training run, or what `genjax convert` wrote
        input: a picture, or a folder of pictures
        direction: a2b or b2a
        out: the folder to write to
        force: replace files that genjax wrote
        tile: larger pictures are done in tiles of this side, in pixels, which bounds the memory
        overlap: pixels over which tiles fade into each other
        step: checkpoint step to load (works during training); 0: the final weights
    """
    import jax
    from rich.console import Console
    from rich.progress import track

    from genjax.edit import pictures
    from genjax.edit.tiles import translator
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.training import checkpoint

    _check_whole(step=step)
    if not 8 <= tile <= 2**14 or not 0 <= 2 * overlap <= tile:
        raise InputError(
            f"--tile {tile} --overlap {overlap}: a side of 8 to {2**14}, and at most half of it"
        )
    outputs.check_folder(out, read=[input])
    sources = _sources(input, out)
    names = [str(pictures.target(name)) for name, _ in sources]
    paths = dict(zip(names, (path for _, path in sources), strict=True))
    model, weights = _load(
        run, step, ("translate",), "is a run of another model; give one of train/cyclegan.py"
    )
    if f"gen_{direction}" not in weights["params"]:
        raise InputError(f"--direction {direction}: {run} holds the other direction only")
    settings = {
        "command": "translate",
        "weights": checkpoint.weights_id(weights),
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
        script.say(f"{len(folder.done)} of {len(names)} are done already, in {out}")
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
            script.say(f"{paths[name]}: {why}; left out")
            continue
        folder.write(name, data)
    if failed == len(names):
        raise InputError(f"{input}: none of its {failed} pictures can be translated")
    script.say(f"{len(names) - failed} of {len(names)} pictures translated {direction} in {out}")
    return 0 if not failed else 1


def _sources(input: Path, out: Path) -> list[tuple[Path, Path]]:
    """(name below `input`, path) of the pictures to translate: those that an earlier try wrote into `out`, where that lies in it, are none."""
    from genjax.edit import pictures
    from genjax.errors import InputError
    from genjax.files import outputs

    found = [
        (path.relative_to(input) if input.is_dir() else Path(path.name), path)
        for path in pictures.find(input, script.say)
    ]
    if not input.is_dir():
        return found
    root = Path(os.path.realpath(out))
    inside = functools.cache(lambda folder: Path(os.path.realpath(folder)).is_relative_to(root))
    rest = [
        (name, path) for name, path in found if not (inside(path.parent) and outputs.ours(path))
    ]
    if len(rest) < len(found):
        script.say(f"{len(found) - len(rest)} of them are genjax's own, in {out}; left out")
    if not rest:
        raise InputError(f"{input}: holds no pictures but those of --out {out}")
    return rest


def convert(kind: str, source: Path, /, out: Path, force: bool = False) -> int:
    """Turn published PyTorch weights into a run's folder, which the other commands read. Nothing in a file is executed.

    Args:
        kind: cyclegan or stylegan2
        source: of cyclegan, a checkpoint folder with latest_net_G_A.pth and the like, or one .pth of a generator; of stylegan2, a
            .safetensors, .npz or .pth of the arrays of NVIDIA's PyTorch networks: G_ema's (with that prefix or none) and D's
        out: the folder to make
        force: replace a folder that `genjax convert` wrote
    """
    import dataclasses

    import jax

    from genjax import __version__, core, models
    from genjax.convert import cyclegan, stylegan2
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.training import checkpoint

    if kind not in ("cyclegan", "stylegan2"):
        raise InputError(f"{kind}: what weights can be converted from is cyclegan or stylegan2")
    _check_converted(out, source, force)
    if kind == "cyclegan":
        config, weights = cyclegan.weights(
            {"G": source} if source.is_file() else cyclegan.files(source)
        )
    else:
        config, weights = stylegan2.read(source)
    fields = dataclasses.asdict(config)
    like = core.weights(jax.eval_shape(models.build(kind, fields).init, jax.random.key(0)))
    checkpoint.fitted(checkpoint.flatten(weights), like, str(source))  # before anything is written
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with outputs.replacing(out, functools.partial(_check_converted, out, source, force)) as folder:
        folder.mkdir()
        checkpoint.write_config(
            folder,
            {"genjax": __version__, "model": kind, "config": fields, "converted": source.name},
        )
        checkpoint.export(folder, weights)
    use = (
        f"translate {out} PICTURES --out DIR"
        if kind == "cyclegan"
        else f"sample {out} --seeds 0-15 --truncation 0.7"
    )
    script.say(f"{', '.join(sorted(weights['params']))} in {out}; genjax {use}")
    return 0


def _check_converted(out: Path, source: Path, force: bool) -> None:
    """Raise InputError unless a folder can be made there and nothing is lost."""
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.training import checkpoint

    outputs.check_folder(out)
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not there:
        return
    if os.path.exists(source) and (
        os.stat(source).st_dev,
        os.stat(source).st_ino,
    ) in outputs.identities([out]):
        raise InputError(f"--out {out}: is read by this command; choose another folder")
    if not force:
        raise InputError(f"--out {out}: exists; choose another folder, or add --force")
    if there - {checkpoint.CONFIG, checkpoint.WEIGHTS} or "converted" not in checkpoint.read_config(
        out
    ):
        raise InputError(
            f"--out {out}: holds more than `genjax convert` wrote; choose another folder"
        )


def export(run: Path, /, out: Path, force: bool = False, step: int = 0) -> int:
    """Write a StyleGAN2's arrays under the key names of NVIDIA's PyTorch networks; `genjax convert` reads them back.

    Args:
        run: the folder of a training run of StyleGAN2
        out: the .safetensors to write
        force: replace a file that genjax wrote
        step: checkpoint step to load (works during training); 0: the final weights
    """
    from safetensors.numpy import save as serialize

    from genjax.convert import stylegan2
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.training import checkpoint

    _check_whole(step=step)
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: give a NAME.safetensors")
    check = functools.partial(outputs.check_file, out, read=[run], force=force)
    check()
    refusal = (
        f"only a StyleGAN2's arrays have such names; any run's own are in {checkpoint.WEIGHTS}"
    )
    model, weights = _load(run, step, ("style_mix",), refusal)
    try:
        networks = dict(zip(("G_ema", "D"), stylegan2.arrays(model.config, weights), strict=True))
    except InputError as error:
        raise InputError(f"{run}: {error}") from None
    arrays = {
        f"{network}.{name}": x for network, found in networks.items() for name, x in found.items()
    }
    check()
    outputs.write_atomically(out, serialize(arrays, metadata={"software": outputs.MARK}))
    script.say(f"{len(arrays)} arrays in {out}")
    return 0


def evaluate(
    real: str,
    fake: tuple[str, ...],
    /,
    metrics: str = "fd,kid,prdc",
    extractor: str = "inception",
    weights: Path | None = None,
    protocol: str = "tf_legacy",
    n: int = 0,
    real_n: int = 0,
    split: str = "train",
    fake_split: str = "train",
    truncation: float = 1.0,
    seed: int = 0,
    draws: int = 0,
    step: int = 0,
    max_bad: float = 0.01,
    json: Path | None = None,
    save_stats: Path | None = None,
    force: bool = False,
) -> int:
    """Measure how near a set of images is to real ones: distances over features, precision and recall, and more.

    Args:
        real: a folder or zip of images, anything else that --data takes, or a .npz of mu and sigma (fd alone); of two runs the first, which draws
        fake: the same, or the folder of a training run, whose model draws; several are measured one after another, a column each
        metrics: of fd (Frechet; fid is its name with the inception), fd_infinity, kid (kernel), prdc (precision, recall, density, coverage),
            is, classes, vendi, nearest
        extractor: whose features: inception, vgg16, alexnet, resnet20, resnet32, lenet (all need --weights), or the pixels themselves
        weights: the file of its weights; if not given, under its published name in the folder that GENJAX_WEIGHTS names
        protocol: tf_legacy, pytorch_fid, clean or nvidia; distances of two protocols do not compare
        n: images of the second set; 0: all, of a run as many as the protocol's published results use
        real_n: images of the first set; 0: all
        split: which part of the first set, where it has parts
        fake_split: which part of the second
        truncation: of a run's images
        seed: of a run's images, and of every random choice
        draws: how often a run is drawn from, for the spread; 0: 3 times
        step: of the second run, checkpoint step to load (works during training); 0: the final weights
        max_bad: share of unreadable files of a set that is skipped
        json: write the result, with all that it depends on, to this file; of several second sets a list
        save_stats: write mu and sigma of the first set's features to this .npz, as pytorch-fid and clean-fid do
        force: replace a file that genjax wrote
    """
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.metrics import evaluate, sets, statistics

    _check_whole(n=n, real_n=real_n, draws=draws, step=step)
    for field, path in (("json", json), ("save_stats", save_stats)):
        if path is not None:
            outputs.check_file(
                path, field, read=[real, *fake, *filter(None, [weights])], force=force
            )
    if (
        json is not None
        and save_stats is not None
        and os.path.realpath(json) == os.path.realpath(save_stats)
    ):
        raise InputError(f"--json {json}: is the file of --save-stats, too; choose another name")
    if save_stats is not None and save_stats.suffix != ".npz":
        raise InputError(f"--save-stats {save_stats}: give a NAME.npz")
    if not fake:
        raise InputError(f"{real}: against what? give a second set or a run")
    reference = statistics.is_file(fake[0]) and not statistics.is_file(real)
    if len(fake) == 1 and ((sets.is_run(real) and not sets.is_run(fake[0])) or reference):
        real, fake, split, fake_split, n, real_n = fake[0], (real,), fake_split, split, real_n, n
        script.say(f"{fake[0]} is measured against {real}")
    results = []
    for each in fake:
        found = evaluate(
            real,
            each,
            [name.strip() for name in metrics.split(",")],
            extractor=extractor,
            weights=weights,
            protocol=protocol,
            count=n or None,
            real_count=real_n or None,
            split=split,
            fake_split=fake_split,
            truncation=truncation,
            seed=seed,
            draws=draws or None,
            step=step or None,
            max_bad=max_bad,
            track=script.progress(),
            save_stats=functools.partial(outputs.write_atomically, save_stats)
            if save_stats and not results
            else None,
        )
        script.say(
            found.fake,
            f"against {found.real}",
            f"extractor {found.extractor} {found.digest[:8]}, protocol {found.protocol}, seed {seed}",
        )
        results.append(found)
    if sets.is_run(real):
        script.say(
            "both sets are drawn; to see which run is nearer to its data: genjax eval DATA RUN RUN"
        )
    for name in results[0].values:
        columns = [
            f"{x.values[name]:.5g}" + (f" ± {x.spread[name]:.2g}" if x.spread else "")
            for x in results
        ]
        print(f"{name} {'  '.join(columns)}", flush=True)
    if json is not None:
        text = (
            results[0].as_json()
            if len(results) == 1
            else f"[{', '.join(x.as_json() for x in results)}]"
        )
        outputs.write_atomically(json, text.encode() + b"\n")
    return 0


def nearest(
    real: str,
    fake: str,
    /,
    n: int = 0,
    rows: int = 8,
    k: int = 5,
    held_out: str = "",
    held_out_split: str = "",
    extractor: str = "pixels",
    weights: Path | None = None,
    split: str = "train",
    fake_split: str = "train",
    truncation: float = 1.0,
    seed: int = 0,
    step: int = 0,
    max_bad: float = 0.01,
    out: Path = Path("nearest.png"),
    force: bool = False,
) -> int:
    """Look for copies: a model's images beside the nearest of those that it was trained on.

    Args:
        real: the data it was trained on: a folder or zip of images, or anything else that --data takes
        fake: the folder of the training run, whose model draws, or a set of images
        n: images of the second set that are measured; 0: all, of a run 1000
        rows: of these, so many are shown, a row each: it, then its neighbours. First where one training image is much nearer than the next
        k: neighbours
        held_out: images that the model was not trained on: the ratio of the samples' distances to theirs is then given, near 0 for copies
        held_out_split: which part of them, where they have parts; if not given, test of the training data itself, of another set train
        extractor: nearest in pixels, or in the features of inception, vgg16, alexnet, resnet20, resnet32 or lenet
        weights: the file of its weights; if not given, under its published name in the folder that GENJAX_WEIGHTS names
        split: which part of the training data, where it has parts
        fake_split: which part of the second set
        truncation: of a run's images
        seed: of a run's images
        step: of a run, checkpoint step to load (works during training); 0: the final weights
        max_bad: share of unreadable files of a set that is skipped
        out: the picture to write: .png, .jpg, .webp, .bmp or .tif
        force: replace a file that genjax wrote
    """
    import numpy as np

    import genjax
    from genjax.errors import InputError
    from genjax.files import outputs
    from genjax.metrics import nearest, sets

    _check_whole(n=n, step=step)
    if _single_files(out):
        raise InputError(f"--out {out}: one picture, so one name such as nearest.png")
    check = functools.partial(
        outputs.check_file, out, read=[real, fake, *filter(None, [weights, held_out])], force=force
    )
    check()
    if sets.is_run(real) and not sets.is_run(fake):
        real, fake, split, fake_split = fake, real, fake_split, split
    seen = nearest(
        real,
        fake,
        count=n or None,
        shown=rows,
        k=k,
        held_out=held_out or None,
        held_out_split=held_out_split or None,
        extractor=extractor,
        weights=weights,
        split=split,
        fake_split=fake_split,
        truncation=truncation,
        step=step or None,
        seed=seed,
        max_bad=max_bad,
        track=script.progress(),
    )
    check()
    genjax.save_grid(seen.sheet(), out, columns=1 + k)
    script.say(
        seen.fake,
        f"against {seen.real}",
        f"{len(seen.samples)} in {out}: a row each, then its {k} nearest",
    )
    for name, values in (("distance", seen.found.distances[:, 0]), ("ratio", seen.found.ratio)):
        if values is not None:
            print(f"{name} median {np.median(values):.5g}, lowest {values.min():.5g}", flush=True)
    return 0


def train(model: Literal["cyclegan", "dcgan", "gan", "stylegan2", "vae"], /) -> int:
    """Train a model. `genjax train MODEL --help` lists its options, such as --data and --out.

    Args:
        model: cyclegan, dcgan, gan, stylegan2 or vae
    """
    from genjax.cli import train

    train.run(model, ())
    return 0


def checkpoints(run: Path, /) -> int:
    """List a run's checkpoints: steps to give as --step, when they were written, their metrics; the best is marked.

    Args:
        run: the folder of a training run, which may be going on
    """
    import datetime

    from genjax.training import checkpoint

    rows = checkpoint.listing(run)
    names = sorted({name for row in rows for name in row.metrics if "/" in name})
    table = [["step", "written", *names, ""]]
    for row in rows:
        written = datetime.datetime.fromtimestamp(row.written).strftime("%Y-%m-%d %H:%M:%S")
        values = [f"{row.metrics[name]:.5g}" if name in row.metrics else "" for name in names]
        table.append([str(row.step), written, *values, "best" if row.best else ""])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        line = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        print(one_line(line.rstrip()), flush=True)
    return 0


COMMANDS = {
    "train": train,
    "checkpoints": checkpoints,
    "sample": sample,
    "eval": evaluate,
    "nearest": nearest,
    "interpolate": interpolate,
    "style-mix": style_mix,
    "translate": translate,
    "convert": convert,
    "export": export,
}


def main() -> None:
    """The command's entry: run a subcommand, print its one line if the input was bad, exit with its code."""
    import sys

    from tyro.extras import subcommand_cli_from_dict

    from genjax.cli import train

    if sys.argv[1:2] == ["train"] and sys.argv[2:3] and sys.argv[2] in train.MODELS:
        train.run(sys.argv[2], sys.argv[3:])  # which parses its own options
    sys.argv[0] = "genjax"
    commands = {name: _later(command) for name, command in COMMANDS.items()}
    chosen = script.parsed(
        lambda: subcommand_cli_from_dict(
            commands, prog="genjax", description="Train models and use them."
        )
    )
    script.exit_with(script.guarded(chosen, _option))


def _option(field: str) -> str:
    """The option of a command that sets an argument; positional arguments have none."""
    return field if field in ("real", "fake") else shell.option(field)


def _later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """A command with its arguments, not run yet: while tyro parses, what is said is held back."""

    @functools.wraps(command)
    def with_arguments(*args, **options):
        return functools.partial(command, *args, **options)

    return with_arguments
