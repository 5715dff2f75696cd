"""Augment and scale batches on the device: random crop, random flip, [-1, 1]."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

SECOND = "_b"  # suffix of the names of a batch that come from the second of two sets

Size = tuple[int, int]  # height, width in pixels


def prepare(
    batch: dict[str, jax.Array], key: jax.Array, flip: bool, crop: Size | None = None
) -> dict[str, jax.Array]:
    """Augment and scale a batch; usable inside `jit` with `flip` and `crop` static.

    `Source.prepare` calls it with the flip and crop that the source was loaded with.

    Args:
        batch: "images" uint8 [B, H, W, C], "labels" int32 [B] if there are labels, and
            in a batch of two sets the same names with SECOND as suffix
        key: PRNG key; the two sets of a batch are augmented independently
        flip: mirror each image left to right with probability 1/2
        crop: (height, width) to cut out of each image at a uniformly random place

    Returns:
        the same names: images float32 in [-1, 1], labels unchanged
    """
    return prepare_sets(batch, key, [(flip, crop), (flip, crop)])


def prepare_sets(
    batch: dict[str, jax.Array], key: jax.Array, augmentations: Sequence[tuple[bool, Size | None]]
) -> dict[str, jax.Array]:
    """`prepare` with (flip, crop) of the first and of the second set of the batch."""
    prepared = dict(batch)
    names = ("images", "images" + SECOND)
    present = [pair for pair in zip(names, augmentations, strict=True) if pair[0] in batch]
    for number, (name, (flip, crop)) in enumerate(present):
        flip_key, crop_key = jax.random.split(jax.random.fold_in(key, number))
        images = batch[name]
        if crop is not None:
            images = _random_crop(images, crop_key, crop)
        if flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (images.shape[0], 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1, :], images)
        prepared[name] = images.astype(jnp.float32) / 127.5 - 1.0
    return prepared


def _random_crop(images: jax.Array, key: jax.Array, size: Size) -> jax.Array:
    """[B, height, width, C] cut out of each image at a uniformly random place."""
    corners_end = jnp.array([images.shape[1] - size[0] + 1, images.shape[2] - size[1] + 1])
    corners = jax.random.randint(key, (images.shape[0], 2), 0, corners_end[None])

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (*size, image.shape[2]))

    return jax.vmap(cut)(images, corners)
