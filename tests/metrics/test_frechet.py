"""The Frechet distance against its closed form, and its bias by number of images."""

import functools

import numpy as np
import pytest
import scipy.linalg
import toys

from genjax.metrics.frechet import (
    Moments,
    dense_scatter,
    frechet_distance,
    frechet_infinity,
    merge,
    moments,
)


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def gaussian(mean, covariance, count=1000):
    """The moments that features of just this mean and covariance would have."""
    return Moments(count, np.float64(mean), np.float64(covariance) * (count - 1))


def spread(seed, d):
    """A covariance with axes of its own."""
    x = np.random.default_rng(seed).standard_normal((d, 2 * d))
    return x @ x.T / d


def test_known_gaussians():
    ones, eye = np.ones(5), np.eye(5)
    assert frechet_distance(gaussian(0 * ones, eye), gaussian(2 * ones, eye)) == pytest.approx(
        20, rel=1e-12
    )
    assert frechet_distance(gaussian(ones, 4 * eye), gaussian(ones, 9 * eye)) == pytest.approx(
        5, rel=1e-12
    )
    assert frechet_distance(
        gaussian(ones, spread(0, 5)), gaussian(ones, spread(0, 5))
    ) == pytest.approx(0, abs=1e-12)


def test_commuting_covariances():
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    # Both have a direction without variance
    first, second = np.arange(6.0), np.arange(6.0)[::-1] ** 2
    a, b = (gaussian(np.zeros(6), axes * values @ axes.T) for values in (first, second))
    assert frechet_distance(a, b) == pytest.approx(
        np.sum((np.sqrt(first) - np.sqrt(second)) ** 2), rel=1e-6
    )


def test_covariances_that_do_not_commute():
    a, b = gaussian(np.arange(7), spread(1, 7)), gaussian(np.ones(7), spread(2, 7))
    root = scipy.linalg.sqrtm(spread(1, 7) @ spread(2, 7)).real
    expected = np.sum((np.arange(7) - 1) ** 2) + np.trace(spread(1, 7) + spread(2, 7) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_fewer_images_than_features():
    """Singular covariances, where a matrix root is inaccurate; the answer is known."""
    a, b = np.zeros((2, 40, 100))
    # 20 of 40 images in directions that the other set lacks
    a[:20, :20], b[:20, 20:40] = (np.eye(20), np.eye(20))
    variance = np.trace(np.cov(a.T))
    expected = 2 * variance + np.sum((a.mean(0) - b.mean(0)) ** 2)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)


def dense(x):
    """Moments with the scatter as [d, d], whatever the number of images."""
    return Moments(x.count, x.mean, dense_scatter(x))


@pytest.mark.parametrize(("n", "m"), [(20, 15), (20, 65), (65, 20), (75, 65)])
@pytest.mark.parametrize("ddof", [0, 1])
def test_few_images_of_wide_features_are_measured_from_their_side(n, m, ddof):
    """The distance from rows equals that from covariances and SciPy's matrix root."""
    spreads = np.geomspace(0.1, 3, 60)
    x, y = (
        np.float64(normal(0, n, 60)) * spreads,
        np.float64(normal(1, m, 60)) * spreads[::-1] + 0.2,
    )
    a, b = moments(x), moments(y)
    assert (a.wide, b.wide) == (n < 60, m < 60)
    c1, c2 = (np.cov(z.T, ddof=ddof) for z in (x, y))
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * root)
    value = frechet_distance(a, b, ddof)
    assert value == pytest.approx(frechet_distance(dense(a), dense(b), ddof), rel=1e-6)
    assert value == pytest.approx(frechet_distance(b, a, ddof), rel=1e-9)
    # A larger tolerance for SciPy's root of a singular product
    assert value == pytest.approx(expected, rel=1e-4 if min(n, m) < 60 else 1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 24), (100, 24), (20, 100), (100, 124)])
def test_extrapolation_of_wide_features(n, m):
    x, y = normal(0, n, 60), normal(1, m, 60) + 0.1
    line = frechet_infinity(moments(x), y, seed=3, points=2, smallest=m // 2)
    order = np.random.default_rng(3).permutation(m)
    half, whole = (
        frechet_distance(dense(moments(x)), dense(moments(y[order[:k]]))) for k in (m // 2, m)
    )
    assert line.value == pytest.approx(2 * whole - half, rel=1e-5)


def test_wide_features_take_no_square_matrix():
    """40 and 60 images of 32x32x3 pixels: their [d, d] would take 75 MB."""
    x, y = normal(0, 40, 3072), normal(1, 60, 3072)
    with toys.memory_below(2.5e7):
        value = frechet_distance(merge(moments(x[:25]), moments(x[25:])), moments(y))
        frechet_infinity(moments(x), y, seed=0, points=3)
    # Rows of two small sets are almost orthogonal
    assert value == pytest.approx(3072 * 2, rel=0.1)


def test_wide_moments_merge_to_those_of_both():
    x = normal(0, 90, 100)
    for first in (7, 44, 89):
        both = merge(moments(x[:first]), moments(x[first:]))
        np.testing.assert_allclose(both.mean, np.float64(x).mean(0), atol=1e-14)
        np.testing.assert_allclose(dense_scatter(both) / 89, np.cov(np.float64(x).T), atol=1e-12)
    many = functools.reduce(merge, (moments(x[start : start + 10]) for start in range(0, 90, 10)))
    np.testing.assert_allclose(dense_scatter(many), dense_scatter(moments(x)), atol=1e-10)


def test_moments_are_those_of_all_rows():
    x = normal(0, 20_000, 5)  # three blocks, the last one smaller
    count, mean, scatter = moments(x)
    assert count == 20_000
    np.testing.assert_allclose(mean, np.float64(x).mean(0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(scatter / (count - 1), np.cov(np.float64(x).T), rtol=0, atol=1e-14)


def test_merging_loses_no_digits():
    """Mean 1e4 and deviation 1 leave four digits of float32: no more may be lost."""
    x = 1e4 + normal(1, 3001, 4)
    batches = functools.reduce(
        merge, (moments(x[start : start + 7]) for start in range(0, len(x), 7))
    )
    np.testing.assert_allclose(batches.mean, np.float64(x).mean(0), rtol=1e-15)
    np.testing.assert_allclose(
        batches.scatter / 3000, np.cov(np.float64(x).T), rtol=1e-11, atol=1e-11
    )
    streams = merge(moments(x[:1]), merge(moments(x[1:1000]), moments(x[1000:])))
    np.testing.assert_allclose(streams.scatter, batches.scatter, rtol=1e-11, atol=1e-8)


def test_order_changes_nothing():
    x, y = normal(0, 300, 6), normal(1, 200, 6) + 1
    shuffled = np.random.default_rng(0).permutation(x)
    assert frechet_distance(moments(shuffled), moments(y)) == pytest.approx(
        frechet_distance(moments(x), moments(y)), rel=1e-12
    )


def test_ddof_is_a_factor_of_the_covariances():
    x, y = (moments(normal(seed, 50, 3)) for seed in (0, 1))
    mean = np.sum((x.mean - y.mean) ** 2)
    assert frechet_distance(x, y, ddof=0) - mean == pytest.approx(
        (frechet_distance(x, y) - mean) * 49 / 50, rel=1e-9
    )


@pytest.mark.parametrize(("n", "expected"), [(100, 256.2), (1000, 33.5), (4000, 8.315)])
def test_bias_over_the_number_of_images(n, expected):
    """Two samples of one distribution, 256 features: figures of NumPy and SciPy."""
    assert frechet_distance(
        moments(normal(2, n, 256)), moments(normal(3, n, 256))
    ) == pytest.approx(expected, rel=0.02)


def test_extrapolation_removes_the_bias():
    """N(0, I) against the exact N(0, 1.44 I) of 32 features, 32 * 0.2^2 = 1.28 apart.

    The mean over draws is within 3 standard errors.
    """
    real = gaussian(np.zeros(32), 1.44 * np.eye(32))
    draws = [normal(seed, 2000, 32) for seed in range(10, 26)]
    lines = [frechet_infinity(real, x, seed=0, points=8, smallest=400) for x in draws]
    bias = np.mean([frechet_distance(real, moments(x[:500])) for x in draws]) - 1.28
    values = np.array([line.value for line in lines])
    assert abs(values.mean() - 1.28) < 3 * values.std() / 4 < bias / 10
    assert np.mean([line.slope for line in lines]) == pytest.approx(500 * bias, rel=0.2)
    assert frechet_infinity(real, draws[0], seed=0, points=8, smallest=400) == lines[0]
    assert frechet_infinity(real, draws[0], seed=1, points=8, smallest=400) != lines[0]


def test_extrapolation_of_equal_distributions_is_0():
    real, x = gaussian(np.zeros(32), np.eye(32)), normal(4, 4000, 32)
    biased, line = frechet_distance(real, moments(x)), frechet_infinity(real, x, seed=0)
    assert biased > 0.03
    assert abs(line.value) < biased / 10
    assert 0 < line.residual < biased / 10


def test_extrapolation_is_the_line_through_its_counts():
    """With two counts the line is exact, through distances of the first images."""
    real, x = moments(normal(0, 300, 4)), normal(1, 200, 4)
    order = np.random.default_rng(5).permutation(200)
    half, whole = (frechet_distance(real, moments(x[order[:n]]), ddof=0) for n in (100, 200))
    line = frechet_infinity(real, x, seed=5, points=2, smallest=100, ddof=0)
    assert line.value == pytest.approx(2 * whole - half, rel=1e-9)
    assert line.residual == pytest.approx(0, abs=1e-12)


def test_invalid_input_is_refused():
    x = normal(0, 10, 3)
    with pytest.raises(ValueError, match=r"\[n, d\]"):
        moments(x[0])
    with pytest.raises(ValueError, match="at least 1"):
        moments(x[:0])
    with pytest.raises(ValueError, match="finite in 2 of 10"):
        moments(np.where(np.arange(10)[:, None] < 2, np.float32(np.nan), x))
    with pytest.raises(ValueError, match="one width, not 3 and 2"):
        frechet_distance(moments(x), moments(x[:, :2]))
    with pytest.raises(ValueError, match="more images"):
        frechet_distance(moments(x), moments(x[:1]))
    with pytest.raises(ValueError, match="at least two counts"):
        frechet_infinity(moments(x), x, seed=0, points=1)
