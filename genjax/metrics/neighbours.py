"""Nearest neighbours among features, exact and in bounded memory: [n, d] against [m, d] in blocks on the host.

Most pairs are far apart, and a few directions show it: with V orthonormal, |Vx - Vy|^2 + (|x - V'Vx| - |y - V'Vy|)^2 is at most |x - y|^2.
So blocks of all pairs are compared in some d' << d numbers, by one matrix product; those that may be near in at most 512; and what is left in
all d, as the sum of squared differences: |x|^2 + |y|^2 - 2xy in float32 would lose near-duplicates, which are what one looks for.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from genjax.metrics.checks import two_sets
from genjax.shapes import AnyArray

BLOCK = 2**24  # pairs at a time
THREADS = min(os.cpu_count() or 1, 4)  # blocks at a time: a fifth of a GiB each
ROUNDING = 4e-6  # of |x|^2 + |y|^2: more than what float32's matrix products are off by
CROWD = 100_000  # near pairs of a block: so many are always measured one by one
FAR = np.float32(1e30)
SAMPLE = 2048  # rows that directions are taken from
SIZES = (
    32,
    64,
    128,
    256,
    512,
)  # directions that are tried, of which the last is the second comparison's


class Neighbours(NamedTuple):
    indices: np.ndarray  # int [n, k] into the training set, nearest first
    distances: np.ndarray  # float32 [n, k], Euclidean
    ratio: (
        np.ndarray | None
    )  # float32 [n]: of the nearest's distance to the held-out images' median one; 0 for a copy


class Index(NamedTuple):
    """A set of features, made ready to be compared with."""

    points: np.ndarray  # float32 [n, d]
    mean: np.ndarray  # float32 [d]: subtracted, for what is common to all only costs digits
    basis: (
        np.ndarray | None
    )  # float32 [d, 512], orthonormal, by falling variance; None for all directions
    size: int  # d': how many of them the matrix product compares
    reduced: np.ndarray  # float32 [n, 513]: coordinates in the basis and the length of what they leave out; [n, d] without one
    right: np.ndarray  # float32 [n + padding, d' + 3]: the matrix product's second factor
    group: int  # the columns, with padding, are a multiple of it


class Block(NamedTuple):
    """A run of queries before all points."""

    start: int
    queries: np.ndarray  # float32 [rows, d]
    reduced: np.ndarray  # float32 [rows, 513] or [rows, d]
    lower: np.ndarray  # float32 [rows, n + padding]: lower bounds of the squared distances


def nearest_neighbours(
    samples: AnyArray, training: AnyArray, k: int = 1, held_out: AnyArray | None = None
) -> Neighbours:
    """Of each sample [n, d], its k nearest in the training set [m, d]; exact, equal ones at distance 0.

    With `held_out` [h, d], images of the data that the model was not trained on, also how near that is compared with them. It shows copies;
    no such number proves that a model does not memorise. Raises ValueError for fewer than k training images.
    """
    samples, training = two_sets(samples=samples, training=training)
    index = make_index(training, k)
    indices, distances = search(index, samples, k)
    if held_out is None:
        return Neighbours(indices, distances, None)
    usual = np.median(search(index, two_sets(held_out=held_out, training=training)[0], 1)[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return Neighbours(
            indices,
            distances,
            np.where(distances[:, 0] == 0, np.float32(0), distances[:, 0] / usual),
        )


def make_index(points: np.ndarray, k: int) -> Index:
    """For searches of up to k neighbours. Raises ValueError for fewer than k points."""
    if not 1 <= k <= len(points):
        raise ValueError(
            f"{k} neighbours among {len(points)} images: there must be at least one, and no more than images"
        )
    mean = points.mean(0, dtype=np.float64).astype(np.float32)
    basis, size = _basis(points, mean)
    reduced = _reduce(points, mean, basis)
    short = _shorten(reduced, size)
    group = int(np.clip(len(points) // (16 * k), 1, 64))
    right = np.zeros((-(-len(points) // group) * group, short.shape[1] + 2), np.float32)
    right[: len(points), :-2] = short
    right[:, -2], right[:, -1] = 1, FAR
    right[: len(points), -1] = _squares(short) * (1 - ROUNDING)
    return Index(points, mean, basis, size, reduced, right, group)


def over_blocks(index: Index, queries: np.ndarray, work: Callable[[Block], Any]) -> list:
    """What `work` makes of each block of the queries, in order; several at a time."""
    rows = max(BLOCK // len(index.right), 1)

    def run(start):
        some = queries[start : start + rows]
        known = queries is index.points
        reduced = (
            index.reduced[start : start + rows] if known else _reduce(some, index.mean, index.basis)
        )
        short = _shorten(reduced, index.size)
        squares = _squares(short)[:, None] * (1 - ROUNDING)
        left = np.concatenate([-2 * short, squares, np.ones_like(squares)], 1)
        return work(Block(start, some, reduced, left @ index.right.T))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(0, len(queries), rows)))


def near_pairs(
    index: Index, block: Block, limit: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, column, squared distance) of all pairs of a block that are within `limit`, squared and broadcast over [rows, n + padding].

    By row and column. A few that are just outside are among them: rounding loses none.
    """
    limit = np.broadcast_to(limit * np.float32(1 + 1e-5), block.lower.shape)
    near = block.lower <= limit
    if np.count_nonzero(near) > max(
        near.size // 10, CROWD
    ):  # a product over all of d in float64 is sooner done
        squared = _squared_block(index, block.queries)
        near = squared <= limit
        rows, columns = np.nonzero(near)
        return rows, columns, squared[near]
    rows, columns = np.divmod(np.flatnonzero(near), near.shape[1])
    if index.basis is not None:
        rounding = ROUNDING * (_squares(block.reduced)[rows] + index.right[columns, -1])
        still = (
            squared_distances(block.reduced, index.reduced, rows, columns)
            <= limit[rows, columns] + rounding
        )
        rows, columns = rows[still], columns[still]
    return rows, columns, squared_distances(block.queries, index.points, rows, columns)


def search(
    index: Index, queries: np.ndarray, k: int, *, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances [n, k] of each query's nearest points, nearest first; `same`: queries are the points, and not their own neighbours."""
    if k > len(index.points) - same:
        raise ValueError(f"{k} neighbours of {len(index.points)} images: more images are needed")
    indices, distances = np.empty((len(queries), k), int), np.empty((len(queries), k), np.float32)

    def find(block):
        start, queries, _, lower = block
        every = np.arange(len(lower))
        if same:
            lower[every, every + start] = 2 * FAR
        groups = lower.reshape(len(lower), index.group, -1)
        few = min(2 * k, groups.shape[2])
        best = np.argpartition(groups.min(1), few - 1)[
            :, :few
        ]  # any k points give an upper bound, these a close one
        columns = np.take_along_axis(groups, best[:, None], 2).argmin(1) * groups.shape[2] + best
        squared = squared_distances(
            queries, index.points, every.repeat(few), columns.ravel()
        ).reshape(-1, few)
        if same:
            squared[columns == every[:, None] + start] = FAR
        bound = np.partition(squared, k - 1)[:, k - 1 : k]
        rows, columns, squared = near_pairs(index, block, bound)
        if same:
            other = columns != rows + start
            rows, columns, squared = rows[other], columns[other], squared[other]
        order = np.lexsort((columns, squared, rows))
        first = order[np.searchsorted(rows, every)[:, None] + np.arange(k)]
        indices[start : start + len(lower)], distances[start : start + len(lower)] = (
            columns[first],
            np.sqrt(squared[first]),
        )

    over_blocks(index, queries, find)
    return indices, distances


def squared_distances(
    queries: np.ndarray, points: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Of the pairs (queries[row], points[column]), from their differences; by row."""
    squared = np.empty(len(rows), np.float32)
    row_ends = np.searchsorted(rows, np.arange(len(queries) + 1))
    for start, end in itertools.pairwise(np.union1d(row_ends, np.arange(0, len(rows), 2048))):
        difference = points[columns[start:end]]
        difference -= queries[rows[start]]
        squared[start:end] = _squares(difference)
    return squared


def _squared_block(index: Index, queries: np.ndarray) -> np.ndarray:
    """All squared distances of a block, float32 [rows, n + padding], through float64; less what float64 may be off by, so that copies are at 0."""
    squared = np.full((len(queries), len(index.right)), FAR)
    x = np.float64(queries) - index.mean
    for start in range(0, len(index.points), SAMPLE):
        y = np.float64(index.points[start : start + SAMPLE]) - index.mean
        squares = (_squares(x)[:, None] + _squares(y)) * (1 - 1e-13)
        squared[:, start : start + len(y)] = np.maximum(squares - 2 * x @ y.T, 0)
    return squared


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x)


def _reduce(x: np.ndarray, mean: np.ndarray, basis: np.ndarray | None) -> np.ndarray:
    """Coordinates in the basis and the length of what they leave out: distances between them are at most those of x."""
    if basis is None:
        return x - mean
    reduced = np.empty((len(x), basis.shape[1] + 1), np.float32)
    for start in range(0, len(x), SAMPLE):
        centred = x[start : start + SAMPLE] - mean
        inside = centred @ basis
        centred -= inside @ basis.T
        reduced[start : start + SAMPLE, :-1] = inside
        reduced[start : start + SAMPLE, -1] = np.sqrt(_squares(centred))
    return reduced


def _shorten(reduced: np.ndarray, size: int) -> np.ndarray:
    """As if reduced to `size` directions: the rest is left out."""
    if size >= reduced.shape[1]:
        return reduced
    return np.concatenate([reduced[:, :size], np.sqrt(_squares(reduced[:, size:]))[:, None]], 1)


def _basis(points: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray | None, int]:
    """The principal directions, and how many of them make a search cheapest: tried on points that they were not taken from."""
    d = points.shape[1]
    if len(points) < 3 * SAMPLE or d <= SIZES[-1]:
        return None, d
    chosen = points[np.random.default_rng(0).permutation(len(points))[: 2 * SAMPLE]] - mean
    fitted, queries, others = np.split(chosen, [SAMPLE, SAMPLE + SAMPLE // 16])
    vectors = np.linalg.eigh(fitted @ fitted.T)[1][:, : -SIZES[-1] - 1 : -1]
    basis = np.linalg.qr(fitted.T @ vectors)[0]

    def squared(x, y):
        return _squares(x)[:, None] + _squares(y) - 2 * x @ y.T

    nearest = squared(queries, others).min(1, keepdims=True)
    reduced = [_reduce(x, np.zeros_like(mean), basis) for x in (queries, others)]
    near = {
        size: (squared(*(_shorten(x, size) for x in reduced)) <= nearest).mean() - 1 / len(others)
        for size in SIZES
    }
    # Products of a pair in the first comparison, and in the others of the pairs that get there: memory makes each as dear as some 90.
    cost = {size: 2 * size + 90 * (SIZES[-1] * near[size] + d * near[SIZES[-1]]) for size in SIZES}
    best = min(SIZES, key=cost.__getitem__)
    return (basis, best) if cost[best] < 2 * d else (None, d)
