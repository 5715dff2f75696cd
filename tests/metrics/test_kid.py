"""The kernel distance against its definition written out, and its bias: none."""

import itertools

import numpy as np
import pytest

from genjax.metrics.kid import discrepancy, kernel_distance


def normal(seed, n, d=16):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def defined(x, y):
    """Equation 4 of the paper, its sums over pairs i != j written out, in float64."""
    kernel = lambda a, b: (np.float64(a) @ np.float64(b) / len(a) + 1) ** 3
    within = lambda z: np.mean(
        [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
    )
    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_definition():
    x, y = normal(0, 23, 5), normal(1, 31, 5) + 0.5
    assert discrepancy(x, y) == pytest.approx(defined(x, y), rel=1e-5)


def test_subsets_of_a_small_set_are_halves():
    """Over all halves of 4 and of 6 images, the mean is the distance of all images."""
    x, y = normal(0, 4, 3), normal(1, 6, 3) + 0.5
    result = kernel_distance(x, y, seed=0, subsets=1000)
    assert result.subset_sizes == (2, 3)
    halves = lambda n, m: [list(part) for part in itertools.combinations(range(n), m)]
    every = [defined(x[a], y[b]) for a in halves(4, 2) for b in halves(6, 3)]
    assert np.mean(every) == pytest.approx(defined(x, y), rel=1e-9)
    assert result.mean == pytest.approx(np.mean(every), abs=4 * np.std(every) / 1000**0.5)
    assert result.std == pytest.approx(np.std(every), rel=0.1)


def test_std_of_small_sets_is_the_standard_error():
    """Over draws of the data; up to sqrt(3) too large for equal distributions."""
    for shift, least, most in ((0.3, 0.85, 1.15), (0.0, 1.2, 2.1)):
        pairs = [(normal(2 * i, 100), normal(2 * i + 1, 60) + np.float32(shift)) for i in range(40)]
        actual = np.std([discrepancy(x, y) for x, y in pairs])
        reported = np.mean([kernel_distance(x, y, seed=0, subsets=25).std for x, y in pairs])
        assert least < reported / actual < most


def test_subsets_of_large_sets_are_the_published_ones():
    x = normal(0, 2500, 4)
    assert kernel_distance(x, x[:2100], seed=0, subsets=2).subset_sizes == (1000, 1000)
    assert kernel_distance(x, x[:300], seed=0, subsets=2).subset_sizes == (1000, 150)


def test_features_of_positive_mean():
    """As after a ReLU: the large common part of the kernel must hide nothing."""
    x, y = (np.maximum(normal(seed, 60, 64) + shift, 0) + 2 for seed, shift in ((0, 0), (1, 0.2)))
    assert discrepancy(x, y) == pytest.approx(defined(x, y), rel=1e-3)


def test_equal_distributions_are_at_distance_0_on_average():
    """The mean of independent draws is within 3 standard errors of 0.

    The biased estimate is always above 0.
    """
    draws = np.array([discrepancy(normal(2 * i, 50), normal(2 * i + 1, 50)) for i in range(200)])
    assert abs(draws.mean()) < 3 * draws.std() / np.sqrt(len(draws))
    assert 0.3 < (draws < 0).mean() < 0.8


def test_subsets_estimate_the_whole():
    x, y = normal(0, 400), normal(1, 300) * 1.2
    whole, parts = discrepancy(x, y), kernel_distance(x, y, seed=0, subset_size=100)
    assert parts.subset_sizes == (100, 100)
    assert parts.std > 0
    assert parts.mean == pytest.approx(whole, abs=0.2 * parts.std)
    assert kernel_distance(x, y, seed=0, subset_size=100) == parts
    assert kernel_distance(x, y, seed=1, subset_size=100) != parts


def test_order_changes_nothing():
    x, y = normal(0, 80), normal(1, 80)
    shuffled = np.random.default_rng(0).permutation(x)
    assert discrepancy(shuffled, y) == pytest.approx(discrepancy(x, y), rel=1e-4)


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="fake of 3 images: at least 4"):
        kernel_distance(normal(0, 10), normal(1, 3), seed=0)
    with pytest.raises(ValueError, match="width, not 16 and 4"):
        kernel_distance(normal(0, 10), normal(1, 10, 4), seed=0)
    with pytest.raises(ValueError, match="1 subsets of 1000 images: at least 2 subsets"):
        kernel_distance(normal(0, 10), normal(1, 10), seed=0, subsets=1)
    with pytest.raises(ValueError, match="real must be real numbers, not complex64"):
        kernel_distance(normal(0, 10) * 1j, normal(1, 10), seed=0)
