"""How good and how varied a run's digits are: python benchmarks/digits.py RUN [RUN ...] --lenet lenet_mnist.pth [--data mnist/]

A published LeNet reads samples of runs that were trained on MNIST. One JSON line a run, or with --all-steps one a kept checkpoint (a run
started with --keep 1000 keeps them all), which shows whether a long run falls apart.

    mean_top_probability            of the class that LeNet takes a sample for: how clear it is
    share_min, share_max, shares    of the samples, taken for each digit: the least, the most, and all ten
    as_asked                        of a conditional run: the share that LeNet takes for the digit that was asked for
    fd_lenet                        Frechet distance of LeNet's 84 penultimate features to those of the test set, 10,000 images. It grows
                                    as n shrinks, and compares with no distance in other features ("FID")
    fd_lenet_train                  the same distance of the training set, for scale
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.progress import track

import genjax
from genjax import data
from genjax.errors import InputError
from genjax.metrics import extractors, frechet
from genjax.training import checkpoint, script

CHUNK = 500  # images at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Read a run's digits with LeNet."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # folders of runs on MNIST
    lenet: Path  # its published weights, lenet_mnist.pth
    n: int = 10_000  # samples
    step: int = 0  # take the checkpoint of this step; 0: the weights that training ended with
    all_steps: bool = False  # every checkpoint that the run kept, in turn
    data: str = ""  # MNIST, as in train/dcgan.py; what the run was trained on if not given
    seed: int = 0  # of the latents


def reader(lenet: Path) -> Callable[[Iterable[np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    """A function of chunks uint8 [CHUNK, 28, 28, 1] that gives LeNet's (features [n, 84], probabilities [n, 10]). Raises InputError."""
    extractor = extractors.extractor(
        "lenet", lenet, protocol="pytorch_fid"
    )  # half-pixel bilinear to 32x32, as it was trained

    def read(chunks):
        outputs = [extractor.outputs(chunk, ("features", "logits")) for chunk in chunks]
        features, logits = (
            np.concatenate([np.asarray(each[tap]) for each in outputs])
            for tap in ("features", "logits")
        )
        return features, np.asarray(jax.nn.softmax(logits))

    return read


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    return frechet.frechet_distance(frechet.moments(first), frechet.moments(second))


def chunks_of(images: np.ndarray) -> Iterator[np.ndarray]:
    """In equal chunks: MNIST's 60,000 and 10,000 are multiples of CHUNK."""
    assert len(images) % CHUNK == 0, len(images)
    return (images[first : first + CHUNK] for first in range(0, len(images), CHUNK))


def kept_steps(run: Path) -> list[int]:
    """The steps of a run's checkpoints. Raises InputError if there are none."""
    folder = run / checkpoint.CHECKPOINTS
    steps = (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if folder.is_dir()
        else []
    )
    if not steps:
        raise InputError(
            f"{folder}: no checkpoints; give the folder that a training script wrote with --out"
        )
    return steps


def mnist(spec: str, read: Callable) -> tuple[np.ndarray, np.ndarray]:
    """LeNet's features of the training and of the test set. Raises InputError."""
    parts = []
    for split, size in (("train", 60_000), ("test", 10_000)):
        source = data.load(spec, split=split, channels=1)
        if source.size != size or source.shape != (28, 28, 1) or source.arrays is None:
            raise InputError(f"--data {spec}: {source.name}; MNIST has {size} images of 28x28")
        parts.append(read(chunks_of(source.arrays["images"]))[0])
    return parts[0], parts[1]


def main(args: Arguments) -> int:
    if not args.runs or args.n < CHUNK or args.n % CHUNK:
        raise InputError(
            f"--n {args.n}: a multiple of {CHUNK}"
            if args.runs
            else "RUN: give a run's folder, or several"
        )
    read = reader(args.lenet)
    references: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}
    for run in args.runs:
        spec = args.data or checkpoint.read_config(run)["data"]["spec"]
        if spec not in references:
            train, test = mnist(spec, read)
            references[spec] = train, test, frechet_distance(train, test)
        _, test, scale = references[spec]
        draw = None
        for step in kept_steps(run) if args.all_steps else [args.step or None]:
            began = time.perf_counter()
            model, weights = genjax.load(run, step)
            if model.config.shape not in ((28, 28, 1), (32, 32, 1)):
                raise InputError(
                    f"{run}: of {model.config.shape} images; give a run on MNIST at 28x28 or 32x32, grey"
                )
            draw = draw or jax.jit(
                lambda *given: genjax.to_uint8(model.sample(*given)),  # noqa: B023
                static_argnums=2,
            )
            root = jax.random.key(args.seed)
            numbers = track(
                range(args.n // CHUNK), f"{run} {step or ''}", disable=not sys.stderr.isatty()
            )
            features, probabilities = read(
                draw(weights, jax.random.fold_in(root, number), CHUNK) for number in numbers
            )
            digits = probabilities.argmax(axis=1)
            shares = np.bincount(digits, minlength=10) / args.n
            row = {
                "run": str(run),
                "step": step,
                "n": args.n,
                "mean_top_probability": float(probabilities.max(axis=1).mean()),
                "share_min": shares.min(),
                "share_max": shares.max(),
                "shares": [round(share, 4) for share in shares.tolist()],
            }
            if getattr(model.config, "conditional", "none") not in ("none", False):
                asked = (
                    np.arange(CHUNK) % model.config.num_labels
                )  # as `sample` has them when given no labels
                row["as_asked"] = float((digits.reshape(-1, CHUNK) == asked).mean())
            row |= {
                "fd_lenet": frechet_distance(features, test),
                "fd_lenet_train": scale,
                "seed": args.seed,
                "seconds": time.perf_counter() - began,
                "device": script.describe_devices(),
                "jax": jax.__version__,
            }
            shown = {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in row.items()
            }
            print(json.dumps(shown), flush=True)
    return 0


if __name__ == "__main__":
    script.main(Arguments, main)
