"""Quality and variety of the digits of runs trained on MNIST, by a published LeNet.

    python benchmarks/digits.py RUN [RUN ...] --lenet lenet_mnist.pth [--data mnist/]

Prints one JSON line per run, or with --all-steps one per retained checkpoint (a run
started with --keep 1000 retains them all), which shows whether a long run is stable.

    mean_top_probability   mean probability of LeNet's predicted class: how clear the
                           digits are
    share_min, share_max   share of samples of the least and the most frequent digit
    shares                 share of samples classified as each of the ten digits
    as_asked               conditional runs: share classified as the requested label
    fd_lenet               Frechet distance of LeNet's 84 penultimate features to those
                           of the test set, 10,000 images. It grows as n shrinks, and is
                           not comparable with a distance in other features ("FID")
    fd_lenet_train         the same distance for the training set, for scale
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
from genjax.runtime import shell
from genjax.training import run_folder, script

CHUNK = 500  # images per batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Quality and variety of the digits of runs on MNIST, by a published LeNet."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # folders of runs on MNIST
    lenet: Path  # published weights of LeNet, lenet_mnist.pth
    n: int = 10_000  # number of samples, a multiple of 500
    step: int = 0  # checkpoint step to load; 0 = final weights
    all_steps: bool = False  # measure every retained checkpoint
    data: str = ""  # MNIST, as in train/dcgan.py; default: the run's training data
    seed: int = 0  # seed of the latents


Classify = Callable[[Iterable[np.ndarray]], tuple[np.ndarray, np.ndarray]]


def reader(lenet: Path) -> Classify:
    """Load LeNet as a function of batches uint8 [CHUNK, 28, 28, 1].

    The function returns features [n, 84] and probabilities [n, 10] of all batches.

    Raises:
        InputError: the file does not hold LeNet's weights
    """
    # This protocol resizes to 32x32 by half-pixel bilinear, as LeNet was trained.
    extractor = extractors.extractor("lenet", lenet, protocol="pytorch_fid")

    def read(chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        outputs = [extractor.outputs(chunk, ("features", "logits")) for chunk in chunks]
        features, logits = (
            np.concatenate([np.asarray(output[tap]) for output in outputs])
            for tap in ("features", "logits")
        )
        return features, np.asarray(jax.nn.softmax(logits))

    return read


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance between two sets of features [n, d]."""
    return frechet.frechet_distance(frechet.moments(first), frechet.moments(second))


def chunks_of(images: np.ndarray) -> Iterator[np.ndarray]:
    """Split into equal batches: MNIST's 60,000 and 10,000 are multiples of CHUNK."""
    assert len(images) % CHUNK == 0, len(images)
    return (images[first : first + CHUNK] for first in range(0, len(images), CHUNK))


def kept_steps(run: Path) -> list[int]:
    """The steps of a run's checkpoints, ascending.

    Raises:
        InputError: the run has no checkpoints
    """
    folder = run / run_folder.CHECKPOINTS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = sorted(int(name) for name in names if name.isdigit())
    if not steps:
        raise InputError(
            f"{folder}: no checkpoints; give the folder that a training script wrote with --out"
        )
    return steps


def mnist(spec: str, read: Classify) -> tuple[np.ndarray, np.ndarray]:
    """LeNet's features of MNIST's training and test set.

    Raises:
        InputError: the data set is not MNIST
    """
    features = []
    for split, size in (("train", 60_000), ("test", 10_000)):
        source = data.load(spec, split=split, channels=1)
        if source.size != size or source.shape != (28, 28, 1) or source.arrays is None:
            raise InputError(f"--data {spec}: {source.name}; MNIST has {size} images of 28x28")
        features.append(read(chunks_of(source.arrays["images"]))[0])
    train, test = features
    return train, test


def main(args: Arguments) -> int:
    """Print one JSON line per run or checkpoint; return the exit code."""
    if not args.runs:
        raise InputError("RUN: give the folders of one or more runs")
    if args.n < CHUNK or args.n % CHUNK:
        raise InputError(f"--n {args.n}: must be a multiple of {CHUNK}")
    read = reader(args.lenet)
    references: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}
    for run in args.runs:
        spec = args.data or run_folder.read_config(run)["data"]["spec"]
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
                    f"{run}: its images are {model.config.shape}; "
                    "give a run on MNIST at 28x28 or 32x32, grey"
                )
            # Compiled once per run: its checkpoints share the model.
            draw = draw or jax.jit(
                lambda *inputs: genjax.to_uint8(model.sample(*inputs)),  # noqa: B023
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
            if model.sampler.num_labels:
                # `sample` cycles through the labels when it is given none.
                requested = np.arange(CHUNK) % model.config.num_labels
                row["as_asked"] = float((digits.reshape(-1, CHUNK) == requested).mean())
            row |= {
                "fd_lenet": frechet_distance(features, test),
                "fd_lenet_train": scale,
                "seed": args.seed,
                "seconds": time.perf_counter() - began,
                "device": script.describe_devices(),
                "jax": jax.__version__,
            }
            rounded = {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in row.items()
            }
            print(json.dumps(rounded), flush=True)
    return 0


if __name__ == "__main__":
    shell.command(Arguments, main)
