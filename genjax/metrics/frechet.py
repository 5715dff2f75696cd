"""Frechet distance between Gaussians fitted to two sets of features. Heusel et al. 2017 (arXiv 1706.08500), equation 6.

In float64 on the host: the distance is a small difference of large sums, and no accelerator is good at a matrix root.
Of features that are wider than the images are many (raw pixels) no [d, d] is ever made: see `Moments`.
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
    scatter: np.ndarray
    """float64 [d, d]: S, the sum of outer products of deviations from the mean; or, where fewer rows do, [r, d] with
    r < d: rows R with R' R = S, such as the deviations of r images."""

    @property
    def wide(self) -> bool:
        """Whether `scatter` is rows whose products make S."""
        return len(self.scatter) < len(self.mean)


class Extrapolation(NamedTuple):
    """The line value + slope / N through distances of N images."""

    value: float  # at N = infinity; may be a little below 0
    slope: float
    residual: float  # root mean square of what the line misses, in the distance's unit


def moments(features: AnyArray) -> Moments:
    """Count, mean and scatter of features [n, d]. Raises ValueError for no images or numbers that are not finite."""
    x = feature_rows(features)
    if len(x) < x.shape[1]:
        return _deviations(x)
    return functools.reduce(
        merge, (_moments(x[start : start + ROWS]) for start in range(0, len(x), ROWS))
    )


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets together. Chan, Golub and LeVeque 1979 (Stanford STAN-CS-79-773).

    It adds deviations, not squares, so that nothing cancels however many batches, devices or hosts there are.
    """
    _same_width(a, b)
    count, step = a.count + b.count, b.mean - a.mean
    weight, mean = a.count * b.count / count, a.mean + step * (b.count / count)
    if a.wide and b.wide and len(a.scatter) + len(b.scatter) + 1 < len(mean):
        return Moments(
            count, mean, np.concatenate([a.scatter, b.scatter, step[None] * np.sqrt(weight)])
        )
    scatter = dense_scatter(a) + dense_scatter(b)
    scatter += np.outer(step, step * weight)
    return Moments(count, mean, scatter)


def dense_scatter(x: Moments) -> np.ndarray:
    """The scatter as [d, d], whichever way it is held."""
    return x.scatter.T @ x.scatter if x.wide else x.scatter


def frechet_distance(a: Moments, b: Moments, ddof: int = 1) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), from 0 up, in the features' unit squared; symmetric.

    Covariances are scatter / (count - ddof): 1 in most packages, 0 in NVIDIA's. Raises ValueError for a set of `ddof` images or fewer.
    """
    _same_width(a, b)
    first, second = (b, a) if b.wide and not a.wide else (a, b)
    return _distance(first, _rows(first), second, ddof)


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
    counts = np.unique(
        np.linspace(max(len(x) // 10, 2) if smallest is None else smallest, len(x), points).astype(
            int
        )
    )
    if len(counts) < 2 or counts[0] <= ddof:
        raise ValueError(
            f"{points} counts of images from {counts[0]} to {len(x)}: at least two counts above {ddof} are needed"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    so_far, rows, distances = None, None, []
    for piece in np.split(order, counts[:-1]):
        new = moments(x[piece])
        so_far = new if so_far is None else merge(so_far, new)
        _same_width(real, so_far)
        if so_far.wide and not real.wide:  # its rows are the smaller side
            distances.append(frechet_distance(real, so_far, ddof))
            continue
        rows = _rows(real) if rows is None else rows
        distances.append(_distance(real, rows, so_far, ddof))
    line = np.stack([np.ones(len(counts)), 1 / counts], 1)
    (value, slope), *_ = np.linalg.lstsq(line, np.array(distances), rcond=None)
    return Extrapolation(
        float(value),
        float(slope),
        float(np.sqrt(np.mean((line @ [value, slope] - distances) ** 2))),
    )


def _deviations(x: np.ndarray) -> Moments:
    deviations = x.astype(np.float64)
    mean = deviations.mean(0)
    deviations -= mean
    return Moments(len(x), mean, deviations)


def _moments(x: np.ndarray) -> Moments:
    count, mean, deviations = _deviations(x)
    return Moments(count, mean, deviations.T @ deviations)


def _rows(x: Moments) -> np.ndarray:
    """R [r, d] with R' R = scatter."""
    if x.wide:
        return x.scatter
    values, vectors = np.linalg.eigh(x.scatter)
    return (vectors * np.sqrt(np.maximum(values, 0))).T


def _distance(a: Moments, rows: np.ndarray, b: Moments, ddof: int) -> float:
    """The distance, given rows R of a: its scatter is R' R.

    R' R S2 has the eigenvalues of R S2 R', which is symmetric: they are real, and below 0 by rounding alone. With
    S2 = Q' Q their roots are the singular values of R Q', as few as there are images.
    """
    for x in (a, b):
        if x.count <= ddof:
            raise ValueError(
                f"the covariance of {x.count} images with ddof {ddof}: more images are needed"
            )
    if b.wide:
        overlap = np.linalg.svd(rows @ b.scatter.T, compute_uv=False).sum()
    else:
        overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(rows @ b.scatter @ rows.T), 0)).sum()
    traces = sum(_trace(x) / (x.count - ddof) for x in (a, b))
    overlap /= np.sqrt((a.count - ddof) * (b.count - ddof))
    return float(max(np.sum((a.mean - b.mean) ** 2) + traces - 2 * overlap, 0))


def _trace(x: Moments) -> float:
    return float(np.vdot(x.scatter, x.scatter) if x.wide else np.trace(x.scatter))


def _same_width(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"both sets' features are of one width, not {len(a.mean)} and {len(b.mean)}"
        )
