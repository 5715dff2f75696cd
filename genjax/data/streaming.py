"""Batches of a set that is not on the device, read ahead by grain's threads."""

import os
import sys
from collections.abc import Iterator

import numpy as np

from genjax.data.preparation import SECOND
from genjax.data.sampler import order, positions, side_seed
from genjax.data.source import Source, with_suffix
from genjax.errors import ConfigError

SMALL_PIXELS = 96 * 96  # images of fewer pixels are decoded by one thread


def gather(source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Read items of one set by index and stack them: stored images and labels.

    Returns "images" uint8 [n, *full_shape] and, if the set has labels, "labels" int32
    [n], for indices [n]. A partner is not read.
    """
    if source.arrays is not None and source.partner is None:
        return {name: array[indices] for name, array in source.arrays.items()}
    items = [source.read(int(index)) for index in indices]
    return {name: np.stack([item[name] for item in items]) for name in items[0]}


def first_items(source: Source, count: int) -> dict[str, np.ndarray]:
    """Read the first items as `gather` does; of two sets, the first of each."""
    items = gather(source, np.arange(min(count, source.size)))
    if (partner := source.partner) is not None:
        items |= with_suffix(gather(partner, np.arange(min(count, partner.size))))
    return items


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
    """Read the batches of first_step, first_step + 1, ... without end, for one process.

    Args:
        source: the set, resident or streamed, with or without a partner
        seed: seed of the order
        first_step: step of the first batch
        batch_size: number of images of each set, over all processes
        process_index: which process reads; each gets its contiguous share of every
            batch
        process_count: number of processes
        threads: number of decoding threads; by default one per core, at most 8, for
            images of 96x96 pixels and more, else one
        prefetch: number of batches that are read ahead

    Yields:
        "images" uint8 [batch_size / process_count, *full_shape] and, if the set has
        labels, "labels" int32 [batch_size / process_count]; of a partner the same with
        SECOND as suffix: what `take` gives for the same seed and step. `close()` of the
        iterator stops the threads.

    Raises:
        ConfigError: the batch does not divide among the processes
        InputError: while reading, what `source.read` raises
    """
    import grain

    if threads is None:
        # Opening a small image is Python's work: under its lock two threads do less of
        # it than one.
        height, width, _ = source.full_shape
        threads = min(8, os.cpu_count() or 1) if height * width >= SMALL_PIXELS else 1
    if batch_size % process_count:
        raise ConfigError(
            "batch_size",
            batch_size,
            f"does not divide among {process_count} processes; use a multiple",
        )
    share = batch_size // process_count
    first = process_index * share

    def batch(step: int) -> dict[str, np.ndarray]:
        where = positions(step, batch_size, first, first + share)
        arrays = gather(source, order(seed, where, source.size))
        if source.partner is not None:
            indices = order(side_seed(seed, SECOND), where, source.partner.size)
            arrays |= with_suffix(gather(source.partner, indices))
        return arrays

    # One element of grain's data set is one batch: the order is computed once per
    # batch, threads do not contend for single images, and starting at any step is an
    # offset.
    steps = grain.MapDataset.range(first_step, sys.maxsize).map(batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return iter(steps.to_iter_dataset(options))
