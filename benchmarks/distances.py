"""Time and memory of the distances between two sets of features: one JSON line.

    python benchmarks/distances.py fd|kid|prdc|vendi|nearest
                                   [--images 50000] [--size 2048] [--spectrum 1.0]

Both sets of features are synthetic and drawn alike: normal, with variances that decay
like i ^ -spectrum along random directions, then a ReLU. How many of the comparisons of
precision, recall, density, coverage and nearest neighbours a few directions can decide
depends on that spectrum: 0 is the worst case, where they decide none. Other work on the
machine affects `seconds`, but hardly `cpu_seconds`.

    seconds       wall-clock time
    cpu_seconds   CPU time of all threads
    peak_mb       peak memory of the process in 10^6 bytes, including both sets
    value         value of the metric
"""

import argparse
import resource
import time

import numpy as np
from step_time import SEED, device_name, load, show

from genjax.metrics import frechet, kid, neighbours, prdc, scores

METRICS = {
    "fd": lambda real, fake: frechet.frechet_distance(frechet.moments(real), frechet.moments(fake)),
    "kid": lambda real, fake: kid.kernel_distance(real, fake, SEED).mean,
    "prdc": lambda real, fake: prdc.manifold_scores(real, fake)._asdict(),
    "vendi": lambda real, fake: scores.vendi_score(fake),
    "nearest": lambda real, fake: float(
        np.median(neighbours.nearest_neighbours(fake, real).distances)
    ),
}


def main() -> None:
    """Measure one metric and print its JSON line."""
    parser = argparse.ArgumentParser(
        description="Time and memory of the distances between two sets of features."
    )
    option = parser.add_argument
    option("metric", choices=METRICS)
    option("--images", type=int, default=50_000, help="number of images per set")
    option("--size", type=int, default=2048, help="number of features")
    option("--spectrum", type=float, default=1.0, help="decay of the variances, i ^ -spectrum")
    args = parser.parse_args()
    busy = load()
    real, fake = (made_up(args.images, args.size, args.spectrum, seed) for seed in (SEED, SEED + 1))
    began, cpu_began = time.perf_counter(), time.process_time()
    value = METRICS[args.metric](real, fake)
    row = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    row |= {"peak_mb": peak, "value": value, "load": busy, "device": device_name()}
    show(vars(args) | row)


def made_up(count: int, size: int, spectrum: float, seed: int) -> np.ndarray:
    """Synthetic features, float32 [count, size]; `seed` does not affect directions."""
    deviations = np.sqrt(np.arange(1, size + 1) ** -spectrum)[:, None]
    directions = np.float32(
        deviations * np.linalg.qr(np.random.default_rng(SEED).normal(size=(size, size)))[0]
    )
    random = np.random.default_rng(seed)
    features = np.empty((count, size), np.float32)
    for start in range(0, count, 4096):
        z = random.standard_normal((min(4096, count - start), size), np.float32)
        features[start : start + 4096] = np.maximum(z @ directions, 0)
    return features


if __name__ == "__main__":
    main()
