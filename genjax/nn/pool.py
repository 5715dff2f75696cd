"""A pool of earlier generated images, which a discriminator is shown too. Shrivastava et al. 2017 (arXiv 1612.07828), section 2.3."""

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def empty(size: int, shape: tuple[int, ...]) -> dict[str, Array]:
    """A pool for `size` images of `shape`: "images" float32 [size, *shape] and "count" int32, how many are kept."""
    return {"images": jnp.zeros((size, *shape), jnp.float32), "count": jnp.int32(0)}


def exchange(pool: dict[str, Array], key: Array, images: Array) -> tuple[dict[str, Array], Array]:
    """Show `images` [n, *shape] to the pool, one after another; returns the pool and what it gives back for them, [n, *shape].

    Until the pool is full it keeps each image and gives it back. Then, with probability 1/2, the image takes the place of a random
    kept one, which is given back; else it is given back itself and not kept. A pool of size 0 gives back all.
    """
    size = pool["images"].shape[0]
    if size == 0:
        return pool, images

    def one(pool: dict[str, Array], inputs: Any):
        image, key = inputs
        coin, place = jax.random.split(key)
        full = pool["count"] >= size
        index = jnp.where(full, jax.random.randint(place, (), 0, size), pool["count"])
        swap = full & jax.random.bernoulli(coin)
        kept = pool["images"][index]
        stored = jnp.where(swap | ~full, image, kept)
        pool = {
            "images": pool["images"].at[index].set(stored),
            "count": jnp.minimum(pool["count"] + 1, size),
        }
        return pool, jnp.where(swap, kept, image)

    return jax.lax.scan(
        one, pool, (images.astype(jnp.float32), jax.random.split(key, images.shape[0]))
    )
