"""Precision and recall, density and coverage.

They count images inside the balls around the images of the other set; the radius of a
ball is the distance to the k-th neighbour.
"""

from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import two_sets
from genjax.metrics.neighbours import Block, make_index, near_pairs, over_blocks, search
from genjax.shapes import AnyArray


class ManifoldScores(NamedTuple):
    """Fidelity (precision, density) and diversity (recall, coverage)."""

    precision: float  # 0 to 1: share of fake images inside a ball of a real one
    recall: float  # 0 to 1: share of real images inside a ball of a fake one
    # 0 up: number of real balls that a fake image is in, over k; its expectation is 1
    # for equal distributions
    density: float
    coverage: float  # 0 to 1: share of real images with a fake one in their ball


def manifold_scores(
    real: AnyArray, fake: AnyArray, *, k: int = 3, k_density: int = 5, closed: bool | None = None
) -> ManifoldScores:
    """Compute all four scores of real features [n, d] and fake ones [m, d].

    Precision and recall: equation 2 of Kynkaanniemi et al. 2019 (arXiv 1904.06991).
    Density and coverage: equations 3 and 5 of Naeem et al. 2020 (arXiv 2002.09797).

    An image is not its own neighbour, but an equal image is. Whether a ball includes
    its surface matters for copies only: if both sets hold the same images, each is at
    the radius of others, and if every image occurs k + 1 times, all radii are 0.

    Args:
        real: features of the real images
        fake: features of the generated images
        k: neighbours for precision and recall
        k_density: neighbours for density and coverage
        closed: whether balls include their surface. None: as in the paper of each
            score, <= for precision and recall (equation 2, NVIDIA, torch-fidelity) and
            < for density and coverage (the second paper's package prdc). True: <= for
            all four. False: < for all four; with k = k_density this is prdc's
            `compute_prdc`, also for exact duplicates if its distances are exact: its
            matrix product leaves copies at 1e-8 of their length, here they are at 0

    Raises:
        ValueError: max(k, k_density) images or fewer in a set
    """
    real, fake = two_sets(max(k, k_density) + 1, real=real, fake=fake)
    within_ball = np.less if closed is False else np.less_equal
    within_density = np.less_equal if closed else np.less
    index = make_index(real, max(k, k_density))
    real_distances = search(index, real, max(k, k_density), same=True)[1]
    real_radii, density_radii = real_distances[:, k - 1], real_distances[:, k_density - 1]
    fake_radii = search(make_index(fake, k), fake, k, same=True)[1][:, -1]

    padding = len(index.right) - len(real)
    largest = np.pad(np.maximum(real_radii, density_radii), (0, padding)) ** 2
    realistic = np.zeros(len(fake), bool)
    recalled, covered = np.zeros((2, len(real)), bool)

    def mark(block: Block) -> int:
        """Mark the images of one block; return its count for the density."""
        reach = fake_radii[block.start : block.start + len(block.queries), None]
        rows, columns, squared = near_pairs(index, block, np.maximum(largest, reach**2))
        distances, rows = np.sqrt(squared), rows + block.start
        realistic[rows[within_ball(distances, real_radii[columns])]] = True
        recalled[columns[within_ball(distances, fake_radii[rows])]] = True
        inside = within_density(distances, density_radii[columns])
        covered[columns[inside]] = True
        return int(np.count_nonzero(inside))

    density = sum(over_blocks(index, fake, mark)) / (k_density * len(fake))
    return ManifoldScores(
        float(realistic.mean()), float(recalled.mean()), float(density), float(covered.mean())
    )
