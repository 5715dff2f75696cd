"""The likelihood of a trained VAE on held-out images: one JSON line.

    python benchmarks/likelihood.py RUN --data mnist/ [--k 5000]

Minus log p(x) in nats per image, bounded from above by importance sampling with k draws
(Burda et al. 2016, equation 8), its standard error over the images, and the mean ELBO
of one draw. Images are binarised as the model does it, with one draw per image.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.progress import track

import genjax
from genjax import data
from genjax.runtime import shell
from genjax.training import script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Estimate the likelihood of a trained VAE on held-out images."""

    run: tyro.conf.Positional[Path]  # folder of a finished run
    data: str  # data set, as in train/vae.py
    split: str = "test"  # split to measure, not the one trained on
    k: int = 5000  # importance samples per image
    chunk: int = 50  # importance samples computed at a time
    batch_size: int = 100  # images per batch
    limit: int = 0  # measure only the first LIMIT images; 0 = all
    seed: int = 0  # seed of the binarisation and the samples


def main(args: Arguments) -> int:
    """Measure the run and print the JSON line; return the exit code."""
    model, weights = genjax.load(args.run)
    source = data.load(
        args.data,
        split=args.split,
        resolution=model.config.shape[:2],
        channels=model.config.shape[2],
    )
    count = min(args.limit or source.size, source.size)

    @jax.jit
    def measure(weights, key, batch):
        batch = data.prepare(batch, key, False)
        labels = batch.get("labels") if model.config.conditional != "none" else None
        likelihood = model.iw_log_likelihood(
            weights, key, batch["images"], args.k, labels, chunk=args.chunk
        )
        return likelihood, model.elbo(weights, key, batch["images"], labels)

    began, likelihoods, elbos = time.perf_counter(), [], []
    for first in track(
        range(0, count, args.batch_size), "importance sampling", disable=not sys.stderr.isatty()
    ):
        # The last batch is padded with the last image, and cut again below.
        items = [
            source.read(min(index, count - 1)) for index in range(first, first + args.batch_size)
        ]
        batch = {name: np.stack([item[name] for item in items]) for name in items[0]}
        likelihood, elbo = measure(
            weights, jax.random.fold_in(jax.random.key(args.seed), first), batch
        )
        likelihoods += np.asarray(likelihood).tolist()
        elbos += np.asarray(elbo).tolist()
    likelihoods, elbos = np.array(likelihoods[:count]), np.array(elbos[:count])
    binarize = f"_{model.config.binarize}" if model.config.likelihood == "bernoulli" else ""
    result = {
        f"nll{binarize}": -likelihoods.mean(),
        "standard_error": likelihoods.std() / np.sqrt(count),
        f"negative_elbo{binarize}": -elbos.mean(),
        "k": args.k,
        "images": count,
        "split": args.split,
        "seed": args.seed,
        "seconds": time.perf_counter() - began,
        "device": script.describe_devices(),
        "jax": jax.__version__,
    }
    rounded = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in result.items()
    }
    print(json.dumps(rounded))
    return 0


if __name__ == "__main__":
    shell.command(Arguments, main)
