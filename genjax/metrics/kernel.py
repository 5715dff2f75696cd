"""Kernel distance (KID): the squared maximum mean discrepancy of two sets of features. Binkowski et al. 2018 (arXiv 1801.01401)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics.checks import two_sets
from genjax.shapes import AnyArray, Array


class KernelDistance(NamedTuple):
    mean: float  # over subsets; unbiased, and so below 0 as often as above for equal distributions
    std: float  # over subsets: the spread of one subset's distance, not the mean's standard error
    subset_size: int  # images of each set in a subset


def kernel_distance(real: AnyArray, fake: AnyArray, seed: int, *, subsets: int = 100, subset_size: int = 1000) -> KernelDistance:
    """KID, equation 4 of the paper with the kernel (x.y / d + 1)^3 of its section 4, averaged over random subsets without replacement.

    Where a set has fewer than `subset_size` images, subsets are of the smaller set's size, as the result says. They then share images:
    `std` is too small, and 0 where both sets are used whole. Raises ValueError for fewer than 2 images.
    """
    real, fake = two_sets(2, real=real, fake=fake)
    size = min(subset_size, len(real), len(fake))
    random = np.random.default_rng(seed)
    draw = lambda features: features[random.choice(len(features), size, replace=False)]
    distances = [_discrepancy(draw(real), draw(fake)) for _ in range(subsets)]
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)), size)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate: a set's kernel with itself without the diagonal."""
    within_x, within_y, across = (np.asarray(sums, np.float64).sum() for sums in _kernel_sums(x, y))
    pairs = len(x) * (len(x) - 1)
    return float((within_x + within_y) / pairs - 2 * across / len(x) ** 2)


@jax.jit
def _kernel_sums(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Row sums of the kernel of x with itself, of y with itself (both without the diagonal), of x with y: the rest is added in float64."""

    def kernel(a, b):
        return (jnp.matmul(a, b.T, precision="highest") / a.shape[1] + 1) ** 3

    def within(a):
        return jnp.where(jnp.eye(len(a), dtype=bool), 0, kernel(a, a)).sum(1)

    return within(x), within(y), kernel(x, y).sum(1)
