"""The order of the data, a pure function of (seed, step), and what becomes of a batch on the device.

Image number p of a run is number p % N of epoch p // N, and an epoch is a pseudo-random permutation keyed by (seed, epoch).
The permutation is never written out: a Feistel network is a bijection of its domain whatever its round function (Luby and
Rackoff 1988), and walking its cycles until the walk is back below N makes it one of 0..N-1 (Black and Rogaway 2002,
"Ciphers with arbitrary finite domains"). So any batch of any step is a few integer operations, on host and device alike,
and a run that resumes needs no iterator state.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.source import SECOND

Array = Any  # a NumPy or a JAX array

# Small domains are the hard ones: with 12 rounds all permutations of a few images come equally often (test_sampler.py).
ROUNDS = 12
GOLDEN = 0x9E3779B9  # 2**32 / golden ratio


def order(seed: Array | int, positions: Array, size: int) -> Array:
    """The image at each position of the endless shuffled sequence.

    seed: 32-bit integer scalar (of a wider Python integer the low 32 bits); positions: integers of any shape, taken modulo
    2**32; size: number of images, 1 <= size < 2**31. Returns int32 of the shape of `positions`, each in 0..size-1: NumPy for
    NumPy arguments, and the same numbers under `jit` for JAX ones. The sequence starts anew after 2**32 images.
    """
    if not 1 <= size < 2**31:
        raise ValueError(f"size must be in 1..{2**31 - 1}, not {size}")
    on_host = not (isinstance(seed, jax.Array) or isinstance(positions, jax.Array))
    if on_host:
        with np.errstate(
            over="ignore"
        ):  # integer hashes overflow by intent; NumPy says so for scalars
            return _order(np, _word(np, seed), _word(np, positions), size)
    return _order(jnp, _word(jnp, seed), _word(jnp, positions), size)


def _word(xp, value: Array | int) -> Array:
    """`value` modulo 2**32 as uint32; of floats and Python integers only the integers that fit are meant."""
    if isinstance(value, int):
        value = np.uint32(value % 2**32)
    return xp.asarray(value).astype(xp.uint32)


def _order(xp, seed: Array, positions: Array, size: int) -> Array:
    word = xp.uint32
    epoch, offset = positions // word(size), positions % word(size)
    half = max(
        1, ((size - 1).bit_length() + 1) // 2
    )  # bits in each half: the domain is 4**half >= size
    mask = word(2**half - 1)
    key = _hash(_hash(xp.broadcast_to(seed, positions.shape) + word(GOLDEN)) ^ epoch)
    keys = [_hash(key + word(GOLDEN * (round_ + 1) % 2**32)) for round_ in range(ROUNDS)]

    def permute(number):
        # Rounds on 16 or more numbers are even permutations; a keyed swap of the first two lets odd ones come as often.
        number = xp.where(number < word(2), number ^ (key & word(1)), number)
        left, right = number >> word(half), number & mask
        for round_key in keys:
            left, right = right, left ^ (_hash(right + round_key) & mask)
        return (left << word(half)) | right

    def outside(number):
        return xp.any(number >= word(size))

    def walk(number):
        return xp.where(number >= word(size), permute(number), number)

    number = permute(offset)
    if xp is np:
        while outside(number):
            number = walk(number)
    else:
        number = jax.lax.while_loop(outside, walk, number)
    return number.astype(xp.int32)


def _hash(x: Array) -> Array:
    """A bijective mix of 32 bits with low bias: "lowbias32" of Wellons, "Prospecting for hash functions" (2018)."""
    word = np.uint32
    x = (x ^ (x >> word(16))) * word(0x7FEB352D)
    x = (x ^ (x >> word(15))) * word(0x846CA68B)
    return x ^ (x >> word(16))


def positions(step: Array | int, batch_size: int, first: int = 0, stop: int | None = None) -> Array:
    """uint32 [stop - first]: the positions of items first..stop-1 (by default all) of the batch of `step`."""
    within = np.arange(first, batch_size if stop is None else stop, dtype=np.uint32)
    if isinstance(step, jax.Array):
        return step.astype(jnp.uint32) * jnp.uint32(batch_size) + within
    return np.uint32(step * batch_size % 2**32) + within


def side_seed(seed: Array | int, suffix: str) -> Array | int:
    """The seed of the order of one of two sets, or of the only one (suffix "")."""
    return (
        seed
        if not suffix
        else (seed + GOLDEN) % 2**32
        if isinstance(seed, int)
        else seed + np.uint32(GOLDEN)
    )


def take(
    arrays: dict[str, jax.Array], seed: jax.Array, step: jax.Array, batch_size: int
) -> dict[str, jax.Array]:
    """The batch of `step` out of a resident set; inside `jit`.

    arrays: "images" uint8 [N, H, W, C] and, if any, "labels" int32 [N]; of a second set the same with SECOND at the end of their
    names, and a size of its own. seed, step: 32-bit integer scalars, may be traced. Returns the same names with leading size
    `batch_size`, the same images that `stream` gives.
    """
    where = positions(jnp.asarray(step), batch_size)
    taken = {}
    for suffix in ("", SECOND):
        own = {
            name: array for name, array in arrays.items() if name.endswith(SECOND) == bool(suffix)
        }
        if own:
            indices = order(side_seed(seed, suffix), where, own["images" + suffix].shape[0])
            taken |= {
                name: array.at[indices].get(mode="promise_in_bounds") for name, array in own.items()
            }
    return taken


def prepare(
    batch: dict[str, jax.Array], key: jax.Array, flip: bool, crop: tuple[int, int] | None = None
) -> dict[str, jax.Array]:
    """A batch as models take it; inside `jit`.

    batch: "images" uint8 [B, H, W, C], "labels" int32 [B] if any, and perhaps those of a second set; key: PRNG key; flip: mirror each
    image left to right with probability 1/2; crop: (height, width) to cut out of each image at a random place. Returns images as
    float32 in [-1, 1] and the labels as they are.
    """
    prepared = dict(batch)
    for number, name in enumerate(name for name in ("images", "images" + SECOND) if name in batch):
        flip_key, crop_key = jax.random.split(jax.random.fold_in(key, number))
        images = batch[name]
        if crop is not None:
            room = jnp.array([images.shape[1] - crop[0] + 1, images.shape[2] - crop[1] + 1])
            corners = jax.random.randint(crop_key, (images.shape[0], 2), 0, room[None])
            cut = lambda image, corner: jax.lax.dynamic_slice(
                image, (corner[0], corner[1], 0), (*crop, image.shape[2])
            )
            images = jax.vmap(cut)(images, corners)
        if flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (images.shape[0], 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1, :], images)
        prepared[name] = images.astype(jnp.float32) / 127.5 - 1.0
    return prepared
