"""The order of the data as a pure function of (seed, step), and batches in that order.

Image number p of a run is number p % N of epoch p // N, and an epoch is a pseudo-random
permutation keyed by (seed, epoch). The permutation is never written out: a Feistel
network is a bijection of its domain for any round function (Luby and Rackoff 1988), and
cycle walking, which repeats it until the number is below N, restricts it to 0..N-1
(Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). So the batch of any
step takes a few integer operations, on host and device alike, and a run resumes without
iterator state.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.preparation import SECOND

Array = Any  # a NumPy or a JAX array

# Small domains are the hard ones: with 12 rounds all permutations of a few images are
# equally frequent (test_sampler.py).
ROUNDS = 12
GOLDEN = 0x9E3779B9  # 2**32 / golden ratio


def order(seed: Array | int, positions: Array, size: int) -> Array:
    """The image at each position of the endless shuffled sequence.

    The sequence repeats after 2**32 positions.

    Args:
        seed: 32-bit integers whose shape broadcasts to that of `positions`; of a wider
            Python integer the low 32 bits count
        positions: integers of any shape, taken modulo 2**32
        size: number of images, 1 <= size < 2**31

    Returns:
        int32 of the shape of `positions`, each in 0..size-1: NumPy for NumPy arguments,
        and the same numbers under `jit` for JAX arrays

    Raises:
        ValueError: `size` is out of range
    """
    if not 1 <= size < 2**31:
        raise ValueError(f"size must be in 1..{2**31 - 1}, not {size}")
    on_host = not (isinstance(seed, jax.Array) or isinstance(positions, jax.Array))
    if on_host:
        # Integer hashes overflow by intent; NumPy warns of it for scalars.
        with np.errstate(over="ignore"):
            return _order(np, _word(np, seed), _word(np, positions), size)
    return _order(jnp, _word(jnp, seed), _word(jnp, positions), size)


def _word(xp: Any, value: Array | int) -> Array:
    """`value` modulo 2**32 as uint32; a Python integer may be of any size."""
    if isinstance(value, int):
        value = np.uint32(value % 2**32)
    return xp.asarray(value).astype(xp.uint32)


def _order(xp: Any, seed: Array, positions: Array, size: int) -> Array:
    """`order` of uint32 arrays, with xp NumPy or jax.numpy."""
    word = xp.uint32
    epoch, offset = positions // word(size), positions % word(size)
    # Bits in each half: the domain is 4**half >= size.
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = word(2**half - 1)
    key = _hash(_hash(xp.broadcast_to(seed, positions.shape) + word(GOLDEN)) ^ epoch)
    keys = [_hash(key + word(GOLDEN * (round_ + 1) % 2**32)) for round_ in range(ROUNDS)]

    def permute(number: Array) -> Array:
        # Rounds on 16 or more numbers are even permutations; a keyed swap of the first
        # two numbers makes odd ones as frequent.
        number = xp.where(number < word(2), number ^ (key & word(1)), number)
        left, right = number >> word(half), number & mask
        for round_key in keys:
            left, right = right, left ^ (_hash(right + round_key) & mask)
        return (left << word(half)) | right

    def outside(number: Array) -> Array:
        return xp.any(number >= word(size))

    def walk(number: Array) -> Array:
        return xp.where(number >= word(size), permute(number), number)

    number = permute(offset)
    if xp is np:
        while outside(number):
            number = walk(number)
    else:
        number = jax.lax.while_loop(outside, walk, number)
    return number.astype(xp.int32)


def _hash(x: Array) -> Array:
    """A bijective hash of 32 bits with low bias.

    "lowbias32" of Wellons, "Prospecting for hash functions" (2018).
    """
    word = np.uint32
    x = (x ^ (x >> word(16))) * word(0x7FEB352D)
    x = (x ^ (x >> word(15))) * word(0x846CA68B)
    return x ^ (x >> word(16))


def positions(step: Array | int, batch_size: int, first: int = 0, stop: int | None = None) -> Array:
    """Positions of the images first..stop-1 (all by default) of the batch of `step`.

    Returns uint32 [stop - first]. All steps of a run have the same `batch_size`.
    """
    within = np.arange(first, batch_size if stop is None else stop, dtype=np.uint32)
    if isinstance(step, jax.Array):
        return step.astype(jnp.uint32) * jnp.uint32(batch_size) + within
    return np.uint32(step * batch_size % 2**32) + within


def side_seed(seed: Array | int, suffix: str) -> Array | int:
    """The seed of the order of the first set (suffix "") or the second (SECOND)."""
    if not suffix:
        return seed
    if isinstance(seed, int):
        return (seed + GOLDEN) % 2**32
    return seed + np.uint32(GOLDEN)


def take(
    arrays: dict[str, jax.Array], seed: jax.Array, step: jax.Array, batch_size: int
) -> dict[str, jax.Array]:
    """Gather the batch of `step` out of a resident set; usable inside `jit`.

    Args:
        arrays: "images" uint8 [N, H, W, C] and, if the set has labels, "labels" int32
            [N]; of a second set the same with SECOND as suffix, and another N
        seed: 32-bit integer scalar, may be traced
        step: 32-bit integer scalar, may be traced
        batch_size: number of images of each set, static

    Returns:
        the same names with leading size `batch_size`, the images that `stream` gives
    """
    where = positions(jnp.asarray(step), batch_size)
    batch = {}
    for suffix in ("", SECOND):
        members = {
            name: array for name, array in arrays.items() if name.endswith(SECOND) == bool(suffix)
        }
        if members:
            size = members["images" + suffix].shape[0]
            indices = order(side_seed(seed, suffix), where, size)
            batch |= {
                name: array.at[indices].get(mode="promise_in_bounds")
                for name, array in members.items()
            }
    return batch
