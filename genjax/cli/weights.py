"""Commands about weights: `convert`, `export`, `checkpoints`."""

import dataclasses
import datetime
import functools
import os
from pathlib import Path

import jax
from safetensors.numpy import save as serialize

from genjax import __version__, core, models, sampling
from genjax.cli.arguments import check_counts
from genjax.convert import cyclegan, stylegan2
from genjax.errors import InputError, one_line
from genjax.files import outputs
from genjax.models.stylegan2 import StyleGAN2
from genjax.runtime.shell import say
from genjax.training import checkpoint, run_folder


def convert(kind: str, source: Path, /, out: Path, force: bool = False) -> int:
    """Convert published PyTorch weights to a run folder; nothing in a file is executed.

    Args:
        kind: cyclegan or stylegan2
        source: for cyclegan a checkpoint folder with latest_net_G_A.pth and the like,
            or one .pth of a generator; for stylegan2 a .safetensors, .npz or .pth with
            the arrays of NVIDIA's PyTorch networks G_ema (with or without that prefix)
            and D
        out: folder to make
        force: replace a folder that `genjax convert` wrote
    """
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
    run_folder.fitted(run_folder.flatten(weights), like, str(source))  # before anything is written
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with outputs.replacing(out, functools.partial(_check_converted, out, source, force)) as folder:
        folder.mkdir()
        run_folder.write_config(
            folder,
            {"genjax": __version__, "model": kind, "config": fields, "converted": source.name},
        )
        run_folder.export(folder, weights)
    use = (
        f"translate {out} PICTURES --out DIR"
        if kind == "cyclegan"
        else f"sample {out} --seeds 0-15 --truncation 0.7"
    )
    say(f"{', '.join(sorted(weights['params']))} in {out}; genjax {use}")
    return 0


def _check_converted(out: Path, source: Path, force: bool) -> None:
    """Raise InputError unless a folder can be made there and nothing is lost."""
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
    if there - {run_folder.CONFIG, run_folder.WEIGHTS} or "converted" not in run_folder.read_config(
        out
    ):
        raise InputError(
            f"--out {out}: holds more than `genjax convert` wrote; choose another folder"
        )


def export(run: Path, /, out: Path, force: bool = False, step: int = 0) -> int:
    """Export a StyleGAN2 under the names of NVIDIA's PyTorch networks.

    `genjax convert` reads the file back.

    Args:
        run: folder of a training run of StyleGAN2
        out: .safetensors to write
        force: replace a file that genjax wrote
        step: checkpoint step to load (works during training); 0: final weights
    """
    check_counts(step=step)
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: give a NAME.safetensors")
    check = functools.partial(outputs.check_file, out, read=[run], force=force)
    check()
    refusal = (
        f"only a StyleGAN2's arrays have such names; any run's own are in {run_folder.WEIGHTS}"
    )
    model, weights = sampling.load(run, step or None)
    if not isinstance(model, StyleGAN2):
        raise InputError(f"{run}: {refusal}")
    try:
        networks = dict(zip(("G_ema", "D"), stylegan2.arrays(model.config, weights), strict=True))
    except InputError as error:
        raise InputError(f"{run}: {error}") from None
    arrays = {
        f"{network}.{name}": x for network, found in networks.items() for name, x in found.items()
    }
    check()
    outputs.write_atomically(out, serialize(arrays, metadata={"software": outputs.MARK}))
    say(f"{len(arrays)} arrays in {out}")
    return 0


def checkpoints(run: Path, /) -> int:
    """List a run's checkpoints: step, time, metrics; the best is marked.

    Args:
        run: folder of a training run; works during training
    """
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
