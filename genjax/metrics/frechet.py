"""Frechet distance between Gaussians fitted to two sets of features. Heusel et al. 2017 (arXiv 1706.08500), equation 6.

In float64 on the host: the distance is a small difference of large sums, and no accelerator is good at a matrix root.
"""

import functools
from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import feature_rows
from genjax.shapes import AnyArray

ROWS = 8192  # in float64 at a time


class Moments(NamedTuple):
    """All that the distance needs of a set of features; those of two sets make those of both (`merge`)."""

    count: int
    mean: np.ndarray  # float64 [d]
    scatter: np.ndarray  # float64 [d, d]: the sum of outer products of deviations from the mean


class Extrapolation(NamedTuple):
    """The line value + slope / N through distances of N images."""

    value: float  # at N = infinity; may be a little below 0
    slope: float
    residual: float  # root mean square of what the line misses, in the distance's unit


def moments(features: AnyArray) -> Moments:
    """Count, mean and scatter of features [n, d]. Raises ValueError for no images or numbers that are not finite."""
    x = feature_rows(features)
    return functools.reduce(merge, (_moments(x[start : start + ROWS]) for start in range(0, len(x), ROWS)))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets together. Chan, Golub and LeVeque 1979 (Stanford STAN-CS-79-773).

    It adds deviations, not squares, so that nothing cancels however many batches, devices or hosts there are.
    """
    _same_width(a, b)
    count, step = a.count + b.count, b.mean - a.mean
    scatter = a.scatter + b.scatter
    scatter += np.outer(step, step * (a.count * b.count / count))
    return Moments(count, a.mean + step * (b.count / count), scatter)


def frechet_distance(a: Moments, b: Moments, ddof: int = 1) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), from 0 up, in the features' unit squared; symmetric.

    Covariances are scatter / (count - ddof): 1 in most packages, 0 in NVIDIA's. Raises ValueError for a set of `ddof` images or fewer.
    """
    _same_width(a, b)
    return _distance(a.mean, _covariance(a, ddof), _root(_covariance(a, ddof)), b, ddof)


def frechet_infinity(
    real: Moments,
    fake_features: AnyArray,
    seed: int,
    *,
    points: int = 15,
    smallest: int | None = None,
    ddof: int = 1,
) -> Extrapolation:
    """The distance of infinitely many fake images. Chong and Forsyth 2020 (arXiv 1911.07023).

    The distance of N images is biased up by nearly slope / N, and by a slope that depends on the generator. A line over 1/N is fitted to the
    distances of `points` counts N, evenly spaced from `smallest` (a tenth of the images unless given; the paper's 5000 of 50,000) to
    all. The images of each count are the first of one shuffle by `seed`, so that each is read once. The bias of the real images'
    own number stays. Raises ValueError for fewer than two counts.
    """
    x = feature_rows(fake_features, "fake", 2)
    counts = np.unique(np.linspace(max(len(x) // 10, 2) if smallest is None else smallest, len(x), points).astype(int))
    if len(counts) < 2 or counts[0] <= ddof:
        raise ValueError(f"{points} counts of images from {counts[0]} to {len(x)}: at least two counts above {ddof} are needed")
    order = np.random.default_rng(seed).permutation(len(x))
    covariance = _covariance(real, ddof)
    root, so_far, distances = _root(covariance), None, []
    for piece in np.split(order, counts[:-1]):
        new = moments(x[piece])
        so_far = new if so_far is None else merge(so_far, new)
        _same_width(real, so_far)
        distances.append(_distance(real.mean, covariance, root, so_far, ddof))
    line = np.stack([np.ones(len(counts)), 1 / counts], 1)
    (value, slope), *_ = np.linalg.lstsq(line, np.array(distances), rcond=None)
    return Extrapolation(float(value), float(slope), float(np.sqrt(np.mean((line @ [value, slope] - distances) ** 2))))


def _moments(x: np.ndarray) -> Moments:
    deviations = x.astype(np.float64)
    mean = deviations.mean(0)
    deviations -= mean
    return Moments(len(x), mean, deviations.T @ deviations)


def _covariance(x: Moments, ddof: int) -> np.ndarray:
    if x.count <= ddof:
        raise ValueError(f"the covariance of {x.count} images with ddof {ddof}: more images are needed")
    return x.scatter / (x.count - ddof)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R [d, d] with R R' = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def _distance(mean: np.ndarray, covariance: np.ndarray, root: np.ndarray, b: Moments, ddof: int) -> float:
    """C1 C2 = R R' C2 has the eigenvalues of R' C2 R, which is symmetric: they are real, and below 0 by rounding alone."""
    other = _covariance(b, ddof)
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ other @ root), 0)).sum()
    return float(max(np.sum((mean - b.mean) ** 2) + np.trace(covariance) + np.trace(other) - 2 * overlap, 0))


def _same_width(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"both sets' features are of one width, not {len(a.mean)} and {len(b.mean)}")
