"""Precision and recall, density and coverage: which images are within the balls around the other set's, up to their k-th neighbours."""

from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import two_sets
from genjax.metrics.neighbours import make_index, near_pairs, over_blocks, search
from genjax.shapes import AnyArray


class ManifoldScores(NamedTuple):
    precision: float  # 0 to 1: fake images within a ball of a real one
    recall: float  # 0 to 1: real images within a ball of a fake one
    density: float  # 0 up: balls of real images that a fake one is in, over k; 1 expected of equal distributions
    coverage: float  # 0 to 1: real images with a fake one in their ball


def manifold_scores(
    real: AnyArray, fake: AnyArray, *, k: int = 3, k_density: int = 5, closed: bool | None = None
) -> ManifoldScores:
    """Precision and recall with k neighbours, equation 2 of Kynkaanniemi et al. 2019 (arXiv 1904.06991); density and coverage with `k_density`,
    equations 3 and 5 of Naeem et al. 2020 (arXiv 2002.09797); of features real [n, d] and fake [m, d].

    An image is not its own neighbour, an equal one is. Whether an image at the radius is within matters for copies alone: of the same
    images as both sets, each is at the radius of others, and of images that are all there k + 1 times all radii are 0. If `closed` is None,
    each score is its own paper's: precision and recall with <= (equation 2 there, NVIDIA, torch-fidelity), density and coverage with < (the
    second paper's package prdc). True: <= for all four. False: < for all four, which with k = k_density is prdc's `compute_prdc`, on exact
    duplicates too wherever its distances are exact: its matrix product leaves copies at 1e-8 of their length, here they are at 0.
    Raises ValueError for k images or fewer.
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
    realistic, recalled, covered = (
        np.zeros(len(fake), bool),
        np.zeros(len(real), bool),
        np.zeros(len(real), bool),
    )

    def mark(block):
        reach = fake_radii[block.start : block.start + len(block.queries), None]
        rows, columns, squared = near_pairs(index, block, np.maximum(largest, reach**2))
        distances, rows = np.sqrt(squared), rows + block.start
        realistic[rows[within_ball(distances, real_radii[columns])]] = True
        recalled[columns[within_ball(distances, fake_radii[rows])]] = True
        inside = within_density(distances, density_radii[columns])
        covered[columns[inside]] = True
        return np.count_nonzero(inside)

    density = sum(over_blocks(index, fake, mark)) / (k_density * len(fake))
    return ManifoldScores(
        float(realistic.mean()), float(recalled.mean()), float(density), float(covered.mean())
    )
