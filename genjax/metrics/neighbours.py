"""Exact nearest neighbours among features, in bounded memory on the host.

Queries [n, d] are compared with points [m, d] block by block. Most pairs are far apart,
and a few directions suffice to show it: for orthonormal V, |Vx - Vy|^2 + (|x - V'Vx| -
|y - V'Vy|)^2 is at most |x - y|^2. So all pairs of a block are compared in d' << d
dimensions by one matrix product, those that may be near in at most 512 dimensions, and
the remaining ones in all d, as the sum of squared differences: |x|^2 + |y|^2 - 2xy in
float32 would lose near-duplicates, which are what one looks for.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from genjax.metrics.checks import two_sets
from genjax.shapes import AnyArray

BLOCK = 2**24  # pairs per block
THREADS = min(os.cpu_count() or 1, 4)  # concurrent blocks: a fifth of a GiB each
ROUNDING = 4e-6  # times |x|^2 + |y|^2: bounds the error of float32 matrix products
CROWD = 100_000  # near pairs of a block: up to this many are always measured one by one
FAR = np.float32(1e30)  # squared distance of pairs that must not be neighbours
SAMPLE = 2048  # rows that the directions are fitted to
SIZES = (32, 64, 128, 256, 512)  # candidates for d'; the last is the second comparison's

T = TypeVar("T")


class Neighbours(NamedTuple):
    """The nearest training images of each sample."""

    indices: np.ndarray  # int [n, k] into the training set, nearest first
    distances: np.ndarray  # float32 [n, k], Euclidean
    # float32 [n]: distance to the nearest over the median of the held-out images; 0 for
    # a copy
    ratio: np.ndarray | None


class Index(NamedTuple):
    """A set of features, prepared for searches."""

    points: np.ndarray  # float32 [n, d]
    mean: np.ndarray  # float32 [d]: subtracted, because a common offset only costs digits
    # float32 [d, 512], orthonormal, by decreasing variance; None: all directions are
    # used
    basis: np.ndarray | None
    size: int  # d': number of directions that the matrix product compares
    # float32 [n, 513]: coordinates in the basis and the length of the remainder; [n, d]
    # without a basis
    reduced: np.ndarray
    right: np.ndarray  # float32 [n + padding, d' + 3]: second factor of the matrix product
    group: int  # divides the number of columns, padding included


class Block(NamedTuple):
    """Consecutive queries against all points."""

    start: int
    queries: np.ndarray  # float32 [rows, d]
    reduced: np.ndarray  # float32 [rows, 513] or [rows, d]
    lower: np.ndarray  # float32 [rows, n + padding]: lower bounds of the squared distances


def nearest_neighbours(
    samples: AnyArray, training: AnyArray, k: int = 1, held_out: AnyArray | None = None
) -> Neighbours:
    """Find the k nearest training images [m, d] of each sample [n, d].

    The result is exact; equal images are at distance 0. With `held_out` [h, d],
    features of images from the data that the model was not trained on, `ratio` relates
    the distances of the samples to theirs. A low ratio shows copies; no such number
    proves that a model does not memorise.

    Raises:
        ValueError: fewer than k training images
    """
    samples, training = two_sets(samples=samples, training=training)
    index = make_index(training, k)
    indices, distances = search(index, samples, k)
    if held_out is None:
        return Neighbours(indices, distances, None)
    usual = np.median(search(index, two_sets(held_out=held_out, training=training)[0], 1)[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distances[:, 0] == 0, np.float32(0), distances[:, 0] / usual)
    return Neighbours(indices, distances, ratio)


def make_index(points: np.ndarray, k: int) -> Index:
    """Prepare points float32 [n, d] for searches of up to k neighbours.

    Raises:
        ValueError: k is below 1 or above n
    """
    if not 1 <= k <= len(points):
        raise ValueError(
            f"{k} neighbours among {len(points)} images: must be from 1 to the number of images"
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


def over_blocks(index: Index, queries: np.ndarray, work: Callable[[Block], T]) -> list[T]:
    """Return `work(block)` for each block of the queries [n, d], in order.

    Several blocks run at a time.
    """
    rows = max(BLOCK // len(index.right), 1)

    def run(start: int) -> T:
        block = queries[start : start + rows]
        if queries is index.points:
            reduced = index.reduced[start : start + rows]
        else:
            reduced = _reduce(block, index.mean, index.basis)
        short = _shorten(reduced, index.size)
        squares = _squares(short)[:, None] * (1 - ROUNDING)
        left = np.concatenate([-2 * short, squares, np.ones_like(squares)], 1)
        return work(Block(start, block, reduced, left @ index.right.T))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(0, len(queries), rows)))


def near_pairs(
    index: Index, block: Block, limit: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows, columns, squared distances) of all pairs of a block within `limit`.

    `limit` is a squared distance, broadcast over [rows, n + padding]. Pairs come sorted
    by row, then column. Rounding loses none, but may include a few that are just
    outside.
    """
    limit = np.broadcast_to(limit * np.float32(1 + 1e-5), block.lower.shape)
    near = block.lower <= limit
    if np.count_nonzero(near) > max(near.size // 10, CROWD):
        # So many pairs that a float64 product over all d is faster
        squared = _squared_block(index, block.queries)
        near = squared <= limit
        rows, columns = np.nonzero(near)
        return rows, columns, squared[near]
    rows, columns = np.divmod(np.flatnonzero(near), near.shape[1])
    if index.basis is not None:
        # The second comparison, in all directions of the basis
        rounding = ROUNDING * (_squares(block.reduced)[rows] + index.right[columns, -1])
        reduced = squared_distances(block.reduced, index.reduced, rows, columns)
        still_near = reduced <= limit[rows, columns] + rounding
        rows, columns = rows[still_near], columns[still_near]
    return rows, columns, squared_distances(block.queries, index.points, rows, columns)


def search(
    index: Index, queries: np.ndarray, k: int, *, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices int and distances float32 [n, k] of the nearest points.

    Each row is sorted by distance. With `same`, queries are the points themselves, and
    a point is not its own neighbour.

    Raises:
        ValueError: fewer than k points to choose from
    """
    if k > len(index.points) - same:
        raise ValueError(f"{k} neighbours of {len(index.points)} images: more images are needed")
    indices, distances = np.empty((len(queries), k), int), np.empty((len(queries), k), np.float32)

    def find(block: Block) -> None:
        start, queries, _, lower = block
        every = np.arange(len(lower))
        if same:
            lower[every, every + start] = 2 * FAR
        # Any k points give an upper bound of the k-th distance. The best point of each
        # of the 2 k best groups gives a close one
        groups = lower.reshape(len(lower), index.group, -1)
        few = min(2 * k, groups.shape[2])
        best = np.argpartition(groups.min(1), few - 1)[:, :few]
        columns = np.take_along_axis(groups, best[:, None], 2).argmin(1) * groups.shape[2] + best
        squared = squared_distances(queries, index.points, every.repeat(few), columns.ravel())
        squared = squared.reshape(-1, few)
        if same:
            squared[columns == every[:, None] + start] = FAR
        bound = np.partition(squared, k - 1)[:, k - 1 : k]
        rows, columns, squared = near_pairs(index, block, bound)
        if same:
            other = columns != rows + start
            rows, columns, squared = rows[other], columns[other], squared[other]
        # The first k of each row
        order = np.lexsort((columns, squared, rows))
        first = order[np.searchsorted(rows, every)[:, None] + np.arange(k)]
        indices[start : start + len(lower)] = columns[first]
        distances[start : start + len(lower)] = np.sqrt(squared[first])

    over_blocks(index, queries, find)
    return indices, distances


def squared_distances(
    queries: np.ndarray, points: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return |queries[row] - points[column]|^2 of each pair; `rows` must be sorted."""
    squared = np.empty(len(rows), np.float32)
    row_ends = np.searchsorted(rows, np.arange(len(queries) + 1))
    for start, end in itertools.pairwise(np.union1d(row_ends, np.arange(0, len(rows), 2048))):
        difference = points[columns[start:end]]
        difference -= queries[rows[start]]
        squared[start:end] = _squares(difference)
    return squared


def _squared_block(index: Index, queries: np.ndarray) -> np.ndarray:
    """All squared distances of a block, float32 [rows, n + padding], through float64.

    The rounding error of float64 is subtracted, so that copies are at 0.
    """
    squared = np.full((len(queries), len(index.right)), FAR)
    x = np.float64(queries) - index.mean
    for start in range(0, len(index.points), SAMPLE):
        y = np.float64(index.points[start : start + SAMPLE]) - index.mean
        squares = (_squares(x)[:, None] + _squares(y)) * (1 - 1e-13)
        squared[:, start : start + len(y)] = np.maximum(squares - 2 * x @ y.T, 0)
    return squared


def _squares(x: np.ndarray) -> np.ndarray:
    """The squared length of each row."""
    return np.einsum("nd,nd->n", x, x)


def _reduce(x: np.ndarray, mean: np.ndarray, basis: np.ndarray | None) -> np.ndarray:
    """Coordinates in the basis, and the length of the remainder.

    Distances between the results are at most those between the rows of x.
    """
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
    """What `_reduce` would give with the first `size` directions only."""
    if size >= reduced.shape[1]:
        return reduced
    return np.concatenate([reduced[:, :size], np.sqrt(_squares(reduced[:, size:]))[:, None]], 1)


def _basis(points: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray | None, int]:
    """The principal directions, and the number of them that makes a search cheapest.

    The number is chosen on points that the directions were not fitted to.
    """
    d = points.shape[1]
    if len(points) < 3 * SAMPLE or d <= SIZES[-1]:
        return None, d
    chosen = points[np.random.default_rng(0).permutation(len(points))[: 2 * SAMPLE]] - mean
    fitted, queries, targets = np.split(chosen, [SAMPLE, SAMPLE + SAMPLE // 16])
    vectors = np.linalg.eigh(fitted @ fitted.T)[1][:, : -SIZES[-1] - 1 : -1]
    basis = np.linalg.qr(fitted.T @ vectors)[0]

    def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _squares(x)[:, None] + _squares(y) - 2 * x @ y.T

    nearest = squared(queries, targets).min(1, keepdims=True)
    reduced = [_reduce(x, np.zeros_like(mean), basis) for x in (queries, targets)]
    near = {
        size: (squared(*(_shorten(x, size) for x in reduced)) <= nearest).mean() - 1 / len(targets)
        for size in SIZES
    }
    # Multiplications per pair in the first comparison, and in the later ones of the
    # pairs that reach them; memory access makes each of these as expensive as about 90
    cost = {size: 2 * size + 90 * (SIZES[-1] * near[size] + d * near[SIZES[-1]]) for size in SIZES}
    best = min(SIZES, key=cost.__getitem__)
    return (basis, best) if cost[best] < 2 * d else (None, d)
