"""Commands that measure: `eval`, `nearest`."""

import functools
import os
from pathlib import Path

import numpy as np

from genjax import metrics as library
from genjax.cli.arguments import check_counts, single_files
from genjax.errors import InputError
from genjax.files import grids, outputs
from genjax.metrics import sets, statistics
from genjax.runtime.shell import say
from genjax.training import script


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
    """Measure a set of images against real ones: distances, precision, recall ...

    Args:
        real: the real images: a folder or zip, anything else that --data takes, or a
            .npz of mu and sigma (for fd only)
        fake: the images to measure: as `real`, or a training run, whose model draws
            them; several are measured one after another, one column each
        metrics: fd (Frechet distance; called fid with inception), fd_infinity, kid
            (kernel distance), prdc (precision, recall, density, coverage), is, classes,
            vendi, nearest
        extractor: features: inception, vgg16, alexnet, resnet20, resnet32, lenet (all
            need --weights), or pixels
        weights: file of its weights; default: its published name in the folder
            GENJAX_WEIGHTS
        protocol: tf_legacy, pytorch_fid, clean or nvidia; distances of different
            protocols do not compare
        n: number of fake images; 0: all, or for a run the protocol's usual number
        real_n: number of real images; 0: all
        split: split of the real images, where they have splits
        fake_split: split of the fake images
        truncation: of a run's images
        seed: of a run's images, and of every random choice
        draws: number of sets drawn from a run, for the spread; 0: 3
        step: checkpoint step of the fake run (works during training); 0: final weights
        max_bad: largest share of unreadable files that is skipped
        json: file for the result, with all that it depends on; a list for several sets
        save_stats: .npz for mu and sigma of the real features, as pytorch-fid and
            clean-fid write it
        force: replace a file that genjax wrote
    """
    check_counts(n=n, real_n=real_n, draws=draws, step=step)
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
        say(f"{fake[0]} is measured against {real}")
    results = []
    for each in fake:
        result = library.evaluate(
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
        say(
            result.fake,
            f"against {result.real}",
            f"extractor {result.extractor} {result.digest[:8]}, "
            f"protocol {result.protocol}, seed {seed}",
        )
        results.append(result)
    if sets.is_run(real):
        say("both sets are drawn; to see which run is nearer to its data: genjax eval DATA RUN RUN")
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
    """Look for copies: show samples beside their nearest training images.

    Args:
        real: the training data: a folder or zip, or anything else that --data takes
        fake: the training run, whose model draws, or a set of images
        n: number of fake images that are measured; 0: all, of a run 1000
        rows: number of them that are shown, one row each with its neighbours, most
            suspicious first: where one training image is much nearer than the next
        k: number of neighbours
        held_out: images that the model was not trained on; gives the ratio of the
            samples' distances to theirs, near 0 for copies
        held_out_split: their split; default: test of the training data, else train
        extractor: what is compared: pixels, or the features of inception, vgg16,
            alexnet, resnet20, resnet32 or lenet
        weights: file of its weights; default: its published name in the folder
            GENJAX_WEIGHTS
        split: split of the training data, where they have splits
        fake_split: split of the fake images
        truncation: of a run's images
        seed: of a run's images
        step: checkpoint step of a run (works during training); 0: final weights
        max_bad: largest share of unreadable files that is skipped
        out: picture to write: .png, .jpg, .webp, .bmp or .tif
        force: replace a file that genjax wrote
    """
    check_counts(n=n, step=step)
    if single_files(out):
        raise InputError(f"--out {out}: one picture, so one name such as nearest.png")
    check = functools.partial(
        outputs.check_file, out, read=[real, fake, *filter(None, [weights, held_out])], force=force
    )
    check()
    if sets.is_run(real) and not sets.is_run(fake):
        real, fake, split, fake_split = fake, real, fake_split, split
    result = library.nearest(
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
    grids.save_grid(result.sheet(), out, columns=1 + k)
    say(
        result.fake,
        f"against {result.real}",
        f"{len(result.samples)} in {out}: a row each, then its {k} nearest",
    )
    for name, values in (("distance", result.found.distances[:, 0]), ("ratio", result.found.ratio)):
        if values is not None:
            print(f"{name} median {np.median(values):.5g}, lowest {values.min():.5g}", flush=True)
    return 0
