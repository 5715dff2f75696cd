"""Kernel distance (KID): the squared maximum mean discrepancy of two sets of features. Binkowski et al. 2018 (arXiv 1801.01401)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics.checks import two_sets
from genjax.shapes import AnyArray, Array


class KernelDistance(NamedTuple):
    mean: float  # over subsets; unbiased, and so below 0 as often as above for equal distributions
    std: float  # over subsets; of sets below 2 * subset_size images the standard error of the distance (see there)
    subset_sizes: tuple[int, int]  # images of the real and of the fake set in a subset


def kernel_distance(
    real: AnyArray, fake: AnyArray, seed: int, *, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    """KID, equation 4 of the paper with the kernel (x.y / d + 1)^3 of its section 4, averaged over random subsets without replacement.

    Subsets are of `subset_size` images of each set, as published, but of no more than half of it: the distance's mean
    does not depend on the size, and subsets of all images would not differ. Over halves, drawn without replacement,
    `std` is the delete-half jackknife's estimate of the standard error of the distance of all images (Shao and Wu 1989,
    Ann. Statist. 17-3, equation 1.4 with d = n / 2; up to sqrt(3) too large where both distributions are equal). Over
    smaller subsets it is what publications report: the spread of one subset's distance.
    Raises ValueError for fewer than 4 images and fewer than 2 subsets.
    """
    real, fake = two_sets(4, real=real, fake=fake)
    if subsets < 2 or subset_size < 2:
        raise ValueError(f"{subsets} subsets of {subset_size} images: at least 2 of at least 2")
    sizes = min(subset_size, len(real) // 2), min(subset_size, len(fake) // 2)
    random = np.random.default_rng(seed)
    draw = lambda features, size: features[random.choice(len(features), size, replace=False)]
    distances = [discrepancy(draw(real, sizes[0]), draw(fake, sizes[1])) for _ in range(subsets)]
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)), sizes)


def discrepancy(x: AnyArray, y: AnyArray) -> float:
    """The unbiased estimate of equation 4 from all of two sets [n, d] and [m, d]: a set's kernel with itself is without the diagonal."""
    sums = (np.asarray(each, np.float64).sum() for each in _kernel_sums(x, y))
    pairs = (len(x) * (len(x) - 1), len(y) * (len(y) - 1), len(x) * len(y))
    within_x, within_y, across = (total / count for total, count in zip(sums, pairs, strict=True))
    return float(within_x + within_y - 2 * across)


@jax.jit
def _kernel_sums(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Row sums of the kernel of x with itself, of y with itself (both without the diagonal), of x with y: the rest is added in float64."""

    def kernel(a, b):
        return (jnp.matmul(a, b.T, precision="highest") / a.shape[1] + 1) ** 3

    def within(a):
        return jnp.where(jnp.eye(len(a), dtype=bool), 0, kernel(a, a)).sum(1)

    return within(x), within(y), kernel(x, y).sum(1)
