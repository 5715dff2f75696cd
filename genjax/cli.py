"""The `genjax` command: what comes after training. Each subcommand is a thin typed function over the library."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from genjax import script
from genjax.errors import one_line

PNG_BYTES = 2**31  # of the images in one PNG


def sample(
    run: Path, /, n: int | None = None, seed: int = 0, seeds: str = "", label: int | None = None, truncation: float = 1.0,
    grid: str = "", out: Path = Path("grid.png"), step: int = 0,
) -> int:  # fmt: skip
    """Draw images from a trained model into one PNG.

    Args:
        run: the folder of a finished training run, or what `genjax convert` wrote
        n: how many images; as many as --grid holds if not given, else 64
        seed: of the latents of all of them
        seeds: instead of both, a seed an image, such as 0-3,7: the image of seed 7 is the same whatever stands beside it
        label: of all images, of a conditional model; each class in turn if not given (of --seeds: the seed modulo the classes)
        truncation: below 1, latents or styles, and so images, are drawn to their mean
        grid: columns x rows, such as 8x4; near a square if not given
        out: the PNG to write
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    import jax
    import numpy as np

    import genjax
    from genjax import latents
    from genjax.errors import InputError

    columns, rows = latents.grid(grid) if grid else (None, None)
    if seeds and (n is not None or seed):
        raise InputError(f"--seeds {seeds}: names the images itself; leave out --n and --seed")
    chosen = latents.numbers("--seeds", seeds) if seeds else []
    count = len(chosen) or ((columns * rows if columns and rows else 64) if n is None else n)
    if not 1 <= count <= latents.MOST:
        raise InputError(f"--n {count}: from 1 to {latents.MOST}")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: from 0 to {2**32 - 1}")
    if columns and rows and columns * rows < count:
        raise InputError(f"--grid {grid}: holds {columns * rows} images, not {count}")
    _check_file(out)
    model, weights = _load(run, step, ("sample",), f"its model draws no images; genjax translate {run} PICTURES --out DIR")
    latents.check_truncation(model, truncation)
    most = PNG_BYTES // math.prod(model.config.shape)
    if count > most:
        raise InputError(f"--n {count}: at most {most} images of {'x'.join(map(str, model.config.shape))} in one PNG")
    labels = latents.labels(model, label, chosen or range(count))
    size = model.config.latent_size
    z = latents.of_seeds(chosen, size) if chosen else jax.random.normal(jax.random.key(seed), (count, size))
    pictures = np.concatenate(
        list(latents.batches(latents.drawer(model, truncation), weights, (), (z, labels), model.config.shape))
    )
    genjax.save_grid(pictures, out, columns=columns, rows=rows)
    script.say(f"{count} images of {'x'.join(map(str, pictures.shape[1:]))} in {out}")
    return 0


def interpolate(
    run: Path, /, seeds: str, seconds: float = 10.0, out: Path = Path("walk.gif"), fps: int = 0, space: Literal["z", "w"] = "z",
    truncation: float = 1.0, label: int | None = None, force: bool = False, step: int = 0,
) -> int:  # fmt: skip
    """Walk from the latents of one seed to those of the next, and from the last back to the first: a video without a seam.

    Args:
        run: the folder of a training run, or what `genjax convert` wrote
        seeds: two or more, such as 1,5,9
        seconds: that one round takes
        out: a .mp4 (needs the extra `video`) or .gif; a name without a dot is a folder of PNG frames
        fps: frames a second; 0: 30, of a .gif 20
        space: z, along arcs between latents, or w, along lines between a StyleGAN2's styles
        truncation: below 1, latents or styles, and so images, are drawn to their mean
        label: of all images, of a conditional model
        force: write over what is there
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    from rich.console import Console
    from rich.progress import track

    from genjax import frames, latents
    from genjax.errors import InputError
    from genjax.images import enlarged

    stops = latents.numbers("--seeds", seeds)
    if any(before == after for before, after in zip(stops, stops[1:] + stops[:1], strict=True)):
        raise InputError(f"--seeds {seeds}: two or more, each another than the one before, the first than the last")
    frames.check(out, force)
    kind = out.suffix.lower()
    rate, most = fps or frames.RATES[kind], 50 if kind == ".gif" else 120  # faster GIFs are shown slower
    if not 1 <= rate <= most:
        raise InputError(f"--fps {fps}: from 1 to {most}, or 0")
    if not len(stops) / rate <= seconds <= latents.MOST / rate:
        limits = f"{len(stops) / rate:.4g} to {latents.MOST / rate:.4g}"
        raise InputError(f"--seconds {seconds}: from {limits} with {len(stops)} seeds and {rate} frames a second")
    count = round(seconds * rate)
    advice = "its model has no latents to walk through; give a run of a GAN (a VAE's interpolate takes images)"
    model, weights = _load(run, step, ("generate", "synthesis"), advice)
    if space == "w" and not hasattr(model, "synthesis"):
        raise InputError("--space w: only a StyleGAN2 has styles; leave it out")
    latents.check_truncation(model, truncation)
    labels = latents.labels(model, label, stops)
    if labels is not None and label is None:
        raise InputError(f"--label: {run} is conditional; give one from 0 to {model.config.num_labels - 1}")
    z = latents.of_seeds(stops, model.config.latent_size)
    drawn = latents.walk(model, weights, z, labels, truncation, space, count)
    shown = track(drawn, "drawing", total=count, console=Console(stderr=True))
    frames.write(out, (enlarged(pixels[None])[0] for pixels in shown), count, rate)
    script.say(f"{count} frames, {rate} a second, from seed to seed in {out}")
    return 0


def style_mix(
    run: Path, /, rows: str, columns: str, layers: str, out: Path = Path("mix.png"), truncation: float = 1.0,
    label: int | None = None, step: int = 0,
) -> int:  # fmt: skip
    """Mix the styles of a StyleGAN2's images: a table with the row's image, some layers' styles from the column's, in one PNG.

    Args:
        run: the folder of a training run of StyleGAN2, or what `genjax convert` wrote
        rows: seeds of the first column's images, such as 85,100
        columns: seeds of the first row's images
        layers: whose styles are the column's, such as 0-6: low ones pose and shape, high ones colour and texture
        out: the PNG to write
        truncation: below 1, styles, and so images, are drawn to their mean
        label: of all images, of a conditional model; the seed modulo the classes if not given
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    import genjax
    from genjax import latents
    from genjax.errors import InputError

    seeds = {option: latents.numbers(option, text) for option, text in (("--rows", rows), ("--columns", columns))}
    table = [len(found) + 1 for found in seeds.values()]
    if table[0] * table[1] > latents.MOST:
        raise InputError(f"--rows {rows} --columns {columns}: a table of at most {latents.MOST} images")
    _check_file(out)
    model, weights = _load(run, step, ("style_mix",), "its model has no styles; give a run of train/stylegan2.py")
    latents.check_truncation(model, truncation)

    def styles(found: list[int]):
        z = latents.of_seeds(found, model.config.latent_size)
        return model.mapping(weights, z, latents.labels(model, label, found), truncation)

    across, down = styles(seeds["--columns"]), styles(seeds["--rows"])
    chosen = latents.numbers("--layers", layers, across.shape[1])
    pixels = latents.style_table(model, weights, down, across, chosen)
    genjax.save_grid(pixels, out, columns=table[1])
    script.say(f"{table[0] - 1} rows and {table[1] - 1} columns of {'x'.join(map(str, pixels.shape[1:]))} in {out}")
    return 0


def _load(run: Path, step: int, verbs: tuple[str, ...], refusal: str) -> tuple[Any, Any]:
    """A run's model, which must have one of these verbs, and its weights."""
    import genjax
    from genjax.errors import InputError

    model, weights = genjax.load(run, step or None)
    if not any(hasattr(model, verb) for verb in verbs):
        raise InputError(f"{run}: {refusal}")
    return model, weights


def _check_file(out: Path) -> None:
    from genjax.errors import InputError

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: not a file in a folder that exists")


def translate(
    run: Path, input: Path, /, direction: Literal["a2b", "b2a"] = "a2b", out: Path = Path("translated"), force: bool = False, tile: int = 512,
    overlap: int = 64, step: int = 0,
) -> int:  # fmt: skip
    """Translate a picture, or all of a folder, with a trained CycleGAN; names and sizes stay.

    Args:
        run: the folder of a training run, or what `genjax convert` wrote
        input: a picture, or a folder of pictures
        direction: a2b or b2a
        out: the folder to write to
        force: write over pictures that are there already
        tile: larger pictures are done in tiles of this side, in pixels, which bounds the memory
        overlap: pixels over which tiles fade into each other
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    from rich.console import Console
    from rich.progress import track

    from genjax import pictures
    from genjax.edit.tiles import translator
    from genjax.errors import InputError

    if not 8 <= tile <= 2**14 or not 0 <= 2 * overlap <= tile:
        raise InputError(f"--tile {tile} --overlap {overlap}: a side of at least 8, and at most half of it")
    found = pictures.find(input)
    targets = pictures.targets(found, input, out, force)
    model, weights = _load(run, step, ("translate",), "is a run of another model; give one of train/cyclegan.py")
    if f"gen_{direction}" not in weights["params"]:
        raise InputError(f"--direction {direction}: {run} holds the other direction only")
    translated = translator(model, weights, direction, tile, overlap)
    failed = 0
    for path, target in track(list(zip(found, targets, strict=True)), "translating", console=Console(stderr=True)):
        try:
            pictures.write(target, translated(pictures.read(path, model.config.shape[2])))
        except pictures.Unreadable as error:
            failed += 1
            script.say(f"{path}: {error}; left out")
    if failed == len(found):
        raise InputError(f"{input}: none of its {failed} pictures can be read")
    script.say(f"{len(found) - failed} of {len(found)} pictures translated {direction} in {out}")
    return 0 if not failed else 1


def convert(kind: str, source: Path, /, out: Path) -> int:
    """Turn published PyTorch weights into a run's folder, which the other commands read. Nothing in a file is executed.

    Args:
        kind: cyclegan or stylegan2
        source: of cyclegan, a checkpoint folder with latest_net_G_A.pth and the like, or one .pth of a generator; of stylegan2, a
            .safetensors, .npz or .pth of the arrays of NVIDIA's PyTorch networks: G_ema's (with that prefix or none) and D's
        out: the folder to write; must not exist
    """
    import dataclasses

    import jax

    from genjax import __version__, checkpoint, core, models
    from genjax.convert import cyclegan, stylegan2
    from genjax.errors import InputError

    if kind not in ("cyclegan", "stylegan2"):
        raise InputError(f"{kind}: what weights can be converted from is cyclegan or stylegan2")
    if out.exists():
        raise InputError(f"--out {out}: exists; choose another folder")
    if kind == "cyclegan":
        config, weights = cyclegan.weights({"G": source} if source.is_file() else cyclegan.files(source))
    else:
        config, weights = stylegan2.read(source)
    fields = dataclasses.asdict(config)
    like = core.weights(jax.eval_shape(models.build(kind, fields).init, jax.random.key(0)))
    checkpoint.fitted(checkpoint.flatten(weights), like, str(source))  # before anything is written
    out.mkdir(parents=True)
    checkpoint.write_config(out, {"genjax": __version__, "model": kind, "config": fields, "converted": source.name})
    checkpoint.export(out, weights)
    use = f"translate {out} PICTURES --out DIR" if kind == "cyclegan" else f"sample {out} --seeds 0-15 --truncation 0.7"
    script.say(f"{', '.join(sorted(weights['params']))} in {out}; genjax {use}")
    return 0


def export(run: Path, /, out: Path, step: int = 0) -> int:
    """Write a StyleGAN2's arrays under the key names of NVIDIA's PyTorch networks; `genjax convert` reads them back.

    Args:
        run: the folder of a training run of StyleGAN2
        out: the .safetensors to write; must not exist
        step: take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
    """
    from safetensors.numpy import save as serialize

    from genjax import checkpoint
    from genjax.convert import stylegan2
    from genjax.errors import InputError

    if out.suffix != ".safetensors" or out.exists():
        raise InputError(f"--out {out}: {'exists; choose another name' if out.exists() else 'give a NAME.safetensors'}")
    _check_file(out)
    refusal = f"only a StyleGAN2's arrays have such names; any run's own are in {checkpoint.WEIGHTS}"
    model, weights = _load(run, step, ("style_mix",), refusal)
    try:
        networks = dict(zip(("G_ema", "D"), stylegan2.arrays(model.config, weights), strict=True))
    except InputError as error:
        raise InputError(f"{run}: {error}") from None
    arrays = {f"{network}.{name}": x for network, found in networks.items() for name, x in found.items()}
    checkpoint.write_atomically(out, serialize(arrays))
    script.say(f"{len(arrays)} arrays in {out}")
    return 0


def evaluate(
    real: str, fake: str, /, metrics: str = "fd,kid,prdc", extractor: str = "inception", weights: Path | None = None,
    protocol: str = "tf_legacy", n: int = 0, real_n: int = 0, split: str = "train", fake_split: str = "train", truncation: float = 1.0,
    seed: int = 0, draws: int = 0, step: int = 0, json: Path | None = None,
) -> int:  # fmt: skip
    """Measure how near a set of images is to real ones: distances over features, precision and recall, and more.

    Args:
        real: a folder or zip of images, or anything else that --data takes
        fake: the same, or the folder of a training run, whose model draws
        metrics: of fd (Frechet), fd_infinity, kid (kernel), prdc (precision, recall, density, coverage), is, classes, vendi, nearest
        extractor: whose features: inception, vgg16, alexnet, resnet20, resnet32, lenet, or the pixels themselves
        weights: the file of its weights; if not given, under its published name in the folder that GENJAX_WEIGHTS names
        protocol: tf_legacy, pytorch_fid, clean or nvidia; distances of two protocols do not compare
        n: images of the second set; 0: all, of a run as many as the protocol's published results use
        real_n: images of the first set; 0: all
        split: which part of the first set, where it has parts
        fake_split: which part of the second
        truncation: of a run's images
        seed: of a run's images, and of every random choice
        draws: how often a run is drawn from, for the spread; 0: 3 times
        step: of a run, take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
        json: write the result, with all that it depends on, to this file
    """
    from genjax import checkpoint
    from genjax.metrics import evaluate

    if json is not None:
        _check_file(json)
    found = evaluate(
        real, fake, [name.strip() for name in metrics.split(",")], extractor=extractor, weights=weights, protocol=protocol, count=n or None,
        real_count=real_n or None, split=split, fake_split=fake_split, truncation=truncation, seed=seed, draws=draws or None, step=step or None,
        track=script.progress(),
    )  # fmt: skip
    script.say(found.fake, f"against {found.real}", f"extractor {extractor} {found.digest[:8]}, protocol {protocol}, seed {seed}")
    for name, value in found.values.items():
        spread = f" ± {found.spread[name]:.2g}" if found.spread else ""
        print(f"{name} {value:.5g}{spread}", flush=True)
    if json is not None:
        checkpoint.write_atomically(json, found.as_json().encode() + b"\n")
    return 0


def nearest(
    real: str, fake: str, /, n: int = 0, rows: int = 8, k: int = 5, held_out: str = "", held_out_split: str = "", extractor: str = "pixels",
    weights: Path | None = None, split: str = "train", fake_split: str = "train", truncation: float = 1.0, seed: int = 0, step: int = 0,
    out: Path = Path("nearest.png"),
) -> int:  # fmt: skip
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
        step: of a run, take the checkpoint of this step, be it of a run that is going on; 0: the weights that training ended with
        out: the PNG to write
    """
    import numpy as np

    import genjax
    from genjax.metrics import nearest

    _check_file(out)
    seen = nearest(
        real, fake, count=n or None, shown=rows, k=k, held_out=held_out or None, held_out_split=held_out_split or None,
        extractor=extractor, weights=weights, split=split, fake_split=fake_split, truncation=truncation, step=step or None, seed=seed, track=script.progress(),
    )  # fmt: skip
    genjax.save_grid(seen.sheet(), out, columns=1 + k)
    script.say(seen.fake, f"against {seen.real}", f"{len(seen.samples)} in {out}: a row each, then its {k} nearest")
    for name, values in (("distance", seen.found.distances[:, 0]), ("ratio", seen.found.ratio)):
        if values is not None:
            print(f"{name} median {np.median(values):.5g}, lowest {values.min():.5g}", flush=True)
    return 0


def train(model: Literal["cyclegan", "dcgan", "gan", "stylegan2", "vae"], /) -> int:
    """Train a model. `genjax train MODEL --help` lists its options, such as --data and --out.

    Args:
        model: cyclegan, dcgan, gan, stylegan2 or vae
    """
    from genjax import train

    train.run(model, ())
    return 0


def checkpoints(run: Path, /) -> int:
    """List a run's checkpoints: steps to give as --step, when they were written, their metrics; the best is marked.

    Args:
        run: the folder of a training run, which may be going on
    """
    import datetime

    from genjax import checkpoint

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
    "train": train, "checkpoints": checkpoints, "sample": sample, "eval": evaluate, "nearest": nearest, "interpolate": interpolate, "style-mix": style_mix, "translate": translate,
    "convert": convert, "export": export,
}  # fmt: skip


def main() -> None:
    """The command's entry: run a subcommand, print its one line if the input was bad, exit with its code."""
    import sys

    from tyro.extras import subcommand_cli_from_dict

    from genjax import train

    if sys.argv[1:2] == ["train"] and sys.argv[2:3] and sys.argv[2] in train.MODELS:
        train.run(sys.argv[2], sys.argv[3:])  # which parses its own options
    sys.argv[0] = "genjax"
    commands = {name: _later(command) for name, command in COMMANDS.items()}
    chosen = script.parsed(lambda: subcommand_cli_from_dict(commands, prog="genjax", description="Train models and use them."))
    script.exit_with(script.guarded(chosen))


def _later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """A command with its arguments, not run yet: while tyro parses, what is said is held back."""

    @functools.wraps(command)
    def with_arguments(*args, **options):
        return functools.partial(command, *args, **options)

    return with_arguments
