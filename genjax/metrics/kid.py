"""Kernel distance (KID): the squared maximum mean discrepancy of two sets of features.

Binkowski et al. 2018 (arXiv 1801.01401).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics.checks import two_sets
from genjax.shapes import AnyArray, Array


class KernelDistance(NamedTuple):
    """The kernel distance over random subsets."""

    mean: float  # over subsets; unbiased, so negative half of the time for equal distributions
    # Over subsets; for sets of fewer than 2 * subset_size images the standard error of
    # the distance (see `kernel_distance`)
    std: float
    subset_sizes: tuple[int, int]  # images per subset of the real set and of the fake one


def kernel_distance(
    real: AnyArray, fake: AnyArray, seed: int, *, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    """Average the KID of random subsets of real features [n, d] and fake ones [m, d].

    Equation 4 of the paper with the kernel (x.y / d + 1)^3 of its section 4. A subset
    is drawn without replacement and holds `subset_size` images of each set, as
    published, but at most half of the set: the mean of the distance does not depend on
    the size, and subsets of all images would not differ.

    Over halves, `std` is the delete-half jackknife estimate of the standard error of
    the distance of all images (Shao and Wu 1989, Ann. Statist. 17-3, equation 1.4 with
    d = n / 2; up to sqrt(3) too large if the distributions are equal). Over smaller
    subsets it is what publications report: the spread of the distance of one subset.

    Args:
        real: features of the real images
        fake: features of the generated images
        seed: of the choice of subsets
        subsets: number of subsets
        subset_size: largest number of images of each set in a subset

    Raises:
        ValueError: fewer than 4 images in a set, fewer than 2 subsets, or subsets of
            fewer than 2 images
    """
    real, fake = two_sets(4, real=real, fake=fake)
    if subsets < 2 or subset_size < 2:
        raise ValueError(
            f"{subsets} subsets of {subset_size} images: at least 2 subsets of 2 images are needed"
        )
    sizes = min(subset_size, len(real) // 2), min(subset_size, len(fake) // 2)
    random = np.random.default_rng(seed)
    draw = lambda features, size: features[random.choice(len(features), size, replace=False)]
    distances = [discrepancy(draw(real, sizes[0]), draw(fake, sizes[1])) for _ in range(subsets)]
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)), sizes)


def discrepancy(x: AnyArray, y: AnyArray) -> float:
    """Return the unbiased estimate of equation 4 over all of x [n, d] and y [m, d].

    The kernel of a set with itself excludes the diagonal.
    """
    sums = (np.asarray(each, np.float64).sum() for each in _kernel_sums(x, y))
    pairs = (len(x) * (len(x) - 1), len(y) * (len(y) - 1), len(x) * len(y))
    within_x, within_y, across = (total / count for total, count in zip(sums, pairs, strict=True))
    return float(within_x + within_y - 2 * across)


@jax.jit
def _kernel_sums(x: AnyArray, y: AnyArray) -> tuple[Array, Array, Array]:
    """Row sums of the kernel: x with x and y with y without the diagonal, and x with y.

    The caller adds up the rows in float64.
    """

    def kernel(a, b):
        return (jnp.matmul(a, b.T, precision="highest") / a.shape[1] + 1) ** 3

    def within(a):
        return jnp.where(jnp.eye(len(a), dtype=bool), 0, kernel(a, a)).sum(1)

    return within(x), within(y), kernel(x, y).sum(1)
