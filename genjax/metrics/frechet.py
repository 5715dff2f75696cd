"""Frechet distance between Gaussians fitted to two sets of features.

Heusel et al. 2017 (arXiv 1706.08500), equation 6. Computed in float64 on the host: the
distance is a small difference of large sums, and accelerators are slow at matrix roots.
If there are fewer images than feature dimensions (raw pixels), no [d, d] matrix is ever
made: see `Moments`.
"""

import functools
from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import feature_rows
from genjax.shapes import AnyArray

ROWS = 8192  # rows converted to float64 at a time


class Moments(NamedTuple):
    """The moments of a set of features that the distance needs.

    `merge` combines those of two sets.
    """

    count: int
    mean: np.ndarray  # float64 [d]
    scatter: np.ndarray
    """float64 [d, d]: S, the sum of outer products of deviations from the mean. Or, if
    that takes fewer rows, [r, d] with r < d: rows R with R' R = S, such as the
    deviations of r images."""

    @property
    def wide(self) -> bool:
        """Whether `scatter` holds rows R instead of S = R' R."""
        return len(self.scatter) < len(self.mean)


class Extrapolation(NamedTuple):
    """The line value + slope / N fitted to distances of N images."""

    value: float  # at N = infinity; may be slightly negative
    slope: float
    residual: float  # root mean square residual of the fit, in the unit of the distance


def moments(features: AnyArray) -> Moments:
    """Return count, mean and scatter of features [n, d].

    Raises:
        ValueError: no images, or values that are not finite
    """
    x = feature_rows(features)
    if len(x) < x.shape[1]:
        return _deviations(x)
    blocks = (_moments(x[start : start + ROWS]) for start in range(0, len(x), ROWS))
    return functools.reduce(merge, blocks)


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of both sets together.

    Chan, Golub and LeVeque 1979 (Stanford STAN-CS-79-773). It adds deviations rather
    than squares, so nothing cancels, for any number of batches, devices or hosts.

    Raises:
        ValueError: the features differ in width
    """
    _same_width(a, b)
    count, step = a.count + b.count, b.mean - a.mean
    weight, mean = a.count * b.count / count, a.mean + step * (b.count / count)
    if a.wide and b.wide and len(a.scatter) + len(b.scatter) + 1 < len(mean):
        rows = np.concatenate([a.scatter, b.scatter, step[None] * np.sqrt(weight)])
        return Moments(count, mean, rows)
    scatter = dense_scatter(a) + dense_scatter(b)
    scatter += np.outer(step, step * weight)
    return Moments(count, mean, scatter)


def dense_scatter(x: Moments) -> np.ndarray:
    """Return the scatter as a [d, d] matrix."""
    return x.scatter.T @ x.scatter if x.wide else x.scatter


def frechet_distance(a: Moments, b: Moments, ddof: int = 1) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    It is at least 0, in the squared unit of the features, and symmetric. Covariances
    are scatter / (count - ddof): `ddof` is 1 in most packages, 0 in NVIDIA's.

    Raises:
        ValueError: a set of `ddof` images or fewer; the features differ in width
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
    """Extrapolate the distance to infinitely many fake images.

    Chong and Forsyth 2020 (arXiv 1911.07023). The distance of N images is biased
    upwards by approximately slope / N, and the slope depends on the generator. A line
    in 1/N is fitted to distances of evenly spaced counts N. Each count takes the first
    images of one shuffle, so each image is read once. The bias from the number of real
    images remains.

    Args:
        real: moments of the real images
        fake_features: features [n, d] of the generated images
        seed: of the shuffle
        points: number of counts N, up to n
        smallest: smallest count; None: n / 10 (the paper: 5000 of 50,000)
        ddof: as in `frechet_distance`

    Raises:
        ValueError: fewer than two counts above `ddof`; the features differ in width
    """
    x = feature_rows(fake_features, "fake", 2)
    first = max(len(x) // 10, 2) if smallest is None else smallest
    counts = np.unique(np.linspace(first, len(x), points).astype(int))
    if len(counts) < 2 or counts[0] <= ddof:
        span = f"from {counts[0]} to {len(x)}"
        raise ValueError(
            f"{points} counts of images {span}: at least two counts above {ddof} are needed"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    so_far, rows, distances = None, None, []
    for piece in np.split(order, counts[:-1]):
        new = moments(x[piece])
        so_far = new if so_far is None else merge(so_far, new)
        _same_width(real, so_far)
        if so_far.wide and not real.wide:  # the rows of the fake set are the smaller factor
            distances.append(frechet_distance(real, so_far, ddof))
            continue
        rows = _rows(real) if rows is None else rows
        distances.append(_distance(real, rows, so_far, ddof))
    line = np.stack([np.ones(len(counts)), 1 / counts], 1)
    (value, slope), *_ = np.linalg.lstsq(line, np.array(distances), rcond=None)
    residual = np.sqrt(np.mean((line @ [value, slope] - distances) ** 2))
    return Extrapolation(float(value), float(slope), float(residual))


def _deviations(x: np.ndarray) -> Moments:
    """Moments with the deviations of the images as rows."""
    deviations = x.astype(np.float64)
    mean = deviations.mean(0)
    deviations -= mean
    return Moments(len(x), mean, deviations)


def _moments(x: np.ndarray) -> Moments:
    """Moments with a dense scatter."""
    count, mean, deviations = _deviations(x)
    return Moments(count, mean, deviations.T @ deviations)


def _rows(x: Moments) -> np.ndarray:
    """R [r, d] with R' R = scatter."""
    if x.wide:
        return x.scatter
    values, vectors = np.linalg.eigh(x.scatter)
    return (vectors * np.sqrt(np.maximum(values, 0))).T


def _distance(a: Moments, rows: np.ndarray, b: Moments, ddof: int) -> float:
    """The distance, given rows R of a, whose scatter is R' R.

    R' R S2 has the eigenvalues of R S2 R', which is symmetric: they are real, and
    negative only by rounding. With S2 = Q' Q their roots are the singular values of R
    Q', no more than there are images.
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
    """The trace of the scatter."""
    return float(np.vdot(x.scatter, x.scatter) if x.wide else np.trace(x.scatter))


def _same_width(a: Moments, b: Moments) -> None:
    """Raise ValueError if the features differ in width."""
    if a.mean.shape != b.mean.shape:
        widths = f"{len(a.mean)} and {len(b.mean)}"
        raise ValueError(f"features of both sets must have one width, not {widths}")
