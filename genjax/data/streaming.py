"""Batches of a set that does not lie on the device, read ahead by grain's threads."""

import os
import sys
from collections.abc import Iterator

import numpy as np

from genjax.data.sampler import order, positions, side_seed
from genjax.data.source import SECOND, Source, with_suffix
from genjax.errors import InputError


def gather(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
    """These items of one set, stacked."""
    if source.arrays is not None and source.partner is None:
        return {name: array[indices] for name, array in source.arrays.items()}
    items = [source.read(int(index)) for index in indices]
    return {name: np.stack([item[name] for item in items]) for name in items[0]}


def stream(
    source: Source,
    seed: int,
    first_step: int,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
    prefetch: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of first_step, first_step + 1, ... without end, for one process of `process_count`.

    batch_size is that of all processes together; each gets its contiguous share of every batch. `threads` decode (by default one a
    core for images of 96x96 and more, else one), and up to `prefetch` batches wait. Yields "images" uint8 [batch_size / process_count, H, W, C] and, if the set has labels, "labels"
    int32 [batch_size / process_count], and of a second set the same with SECOND at the end of the names: what `take` gives for the same seed and step. The iterator has a `close()`, which stops
    the threads. Raises InputError when the batch cannot be shared equally, and while reading what `source.read` raises.
    """
    import grain

    if (
        threads is None
    ):  # opening a small image is Python's work, and its lock lets two threads do less of that than one
        threads = min(8, os.cpu_count() or 1) if source.shape[0] * source.shape[1] >= 96 * 96 else 1
    if batch_size % process_count:
        raise InputError(
            f"--batch-size {batch_size}: does not divide among {process_count} processes; use a multiple"
        )
    share = batch_size // process_count
    first = process_index * share

    def batch(step: int) -> dict[str, np.ndarray]:
        where = positions(step, batch_size, first, first + share)
        parts = gather(source, order(seed, where, source.size))
        if source.partner is not None:
            parts |= with_suffix(
                gather(source.partner, order(side_seed(seed, SECOND), where, source.partner.size))
            )
        return parts

    # One element of the data set is one whole step: the order is computed once a batch, threads do not contend for single
    # images, and starting at any step is an offset.
    steps = grain.MapDataset.range(first_step, sys.maxsize).map(batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return iter(steps.to_iter_dataset(options))
