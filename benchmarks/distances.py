"""Time and memory of the distances between two sets of features: one JSON line.

    python benchmarks/distances.py fd|kid|prdc|vendi|nearest [--images 50000] [--size 2048] [--spectrum 1.0]

The features are made up: normal, with variances that fall like i ^ -spectrum along random directions, then a ReLU; both sets
alike. How much of precision, recall, density, coverage and nearest neighbours can be decided by few directions depends on that spectrum: 0 is
the worst case, where nothing can. What the machine else does counts in `seconds`, hardly in `cpu_seconds`.

    seconds       of the wall's clock
    cpu_seconds   of all threads
    peak_mb       of the process, 10^6 bytes, both sets and the interpreter included
    value         what the metric says
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
    parser = argparse.ArgumentParser(
        description="Time and memory of the distances between two sets of features."
    )
    parser.add_argument("metric", choices=METRICS)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--spectrum", type=float, default=1.0)
    args = parser.parse_args()
    busy = load()
    real, fake = (made_up(args.images, args.size, args.spectrum, seed) for seed in (SEED, SEED + 1))
    wall, used = time.perf_counter(), time.process_time()
    value = METRICS[args.metric](real, fake)
    row = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - used}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    show(
        vars(args) | row | {"peak_mb": peak, "value": value, "load": busy, "device": device_name()}
    )


def made_up(count: int, size: int, spectrum: float, seed: int) -> np.ndarray:
    """Features, float32 [count, size]."""
    deviations = np.sqrt(np.arange(1, size + 1) ** -spectrum)[:, None]
    directions = np.float32(
        deviations * np.linalg.qr(np.random.default_rng(SEED).normal(size=(size, size)))[0]
    )
    random = np.random.default_rng(seed)
    found = np.empty((count, size), np.float32)
    for start in range(0, count, 4096):
        z = random.standard_normal((min(4096, count - start), size), np.float32)
        found[start : start + 4096] = np.maximum(z @ directions, 0)
    return found


if __name__ == "__main__":
    main()
