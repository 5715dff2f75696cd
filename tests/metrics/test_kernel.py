"""The kernel distance against its definition written out, and its bias: none."""

import numpy as np
import pytest

from genjax.metrics.kernel import kernel_distance


def normal(seed, n, d=16):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def discrepancy(x, y):
    """Equation 4 of the paper, its sums over pairs i != j written out, in float64."""
    kernel = lambda a, b: (np.float64(a) @ np.float64(b) / len(a) + 1) ** 3
    within = lambda z: np.mean([kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])
    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_definition():
    x, y = normal(0, 23, 5), normal(1, 23, 5) + 0.5
    result = kernel_distance(x, y, seed=0, subsets=3)
    assert result.mean == pytest.approx(discrepancy(x, y), rel=1e-5)
    assert result.std == pytest.approx(0, abs=1e-6)  # every subset is all images
    assert result.subset_size == 23


def test_features_of_positive_mean():
    """As those after a ReLU are: the kernel's large common part must not drown the difference."""
    x, y = (np.maximum(normal(seed, 60, 64) + shift, 0) + 2 for seed, shift in ((0, 0), (1, 0.2)))
    assert kernel_distance(x, y, seed=0, subsets=1).mean == pytest.approx(discrepancy(x, y), rel=1e-3)


def test_equal_distributions_are_at_distance_0_on_average():
    """Independent draws: their mean is within 3 standard errors of 0, and so not the biased estimate's, which is all above."""
    draws = np.array([kernel_distance(normal(2 * i, 50), normal(2 * i + 1, 50), seed=0, subsets=1).mean for i in range(200)])
    assert abs(draws.mean()) < 3 * draws.std() / np.sqrt(len(draws))
    assert 0.3 < (draws < 0).mean() < 0.8


def test_subsets_estimate_the_whole():
    x, y = normal(0, 400), normal(1, 300) * 1.2
    whole, parts = kernel_distance(x[:300], y, seed=0, subsets=1), kernel_distance(x, y, seed=0, subset_size=100)
    assert parts.subset_size == 100
    assert parts.std > 0
    assert parts.mean == pytest.approx(whole.mean, abs=0.2 * parts.std)
    assert kernel_distance(x, y, seed=0, subset_size=100) == parts
    assert kernel_distance(x, y, seed=1, subset_size=100) != parts


def test_order_changes_nothing():
    x, y = normal(0, 80), normal(1, 80)
    shuffled = np.random.default_rng(0).permutation(x)
    assert kernel_distance(shuffled, y, seed=0).mean == pytest.approx(kernel_distance(x, y, seed=0).mean, rel=1e-4)


def test_what_is_refused():
    with pytest.raises(ValueError, match="fake of 1 images: at least 2"):
        kernel_distance(normal(0, 10), normal(1, 1), seed=0)
    with pytest.raises(ValueError, match="width, not 16 and 4"):
        kernel_distance(normal(0, 10), normal(1, 10, 4), seed=0)
