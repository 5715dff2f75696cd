"""Pool of earlier generated images to show to a discriminator.

Shrivastava et al. 2017 (arXiv 1612.07828), section 2.3.
"""

import jax
import jax.numpy as jnp

from genjax.shapes import Array, Float


def empty(size: int, shape: tuple[int, ...]) -> dict[str, Array]:
    """Make an empty pool for `size` images of `shape`.

    Returns "images", float32 [size, *shape], and "count", int32, the number of images
    stored.
    """
    return {"images": jnp.zeros((size, *shape), jnp.float32), "count": jnp.int32(0)}


def exchange(
    pool: dict[str, Array], key: Array, images: Float[Array, "n ..."]
) -> tuple[dict[str, Array], Float[Array, "n ..."]]:
    """Pass `images` through the pool, one after another.

    Returns the new pool and the images to show the discriminator, float32 [n, *shape].
    Until the pool is full, each image is stored and returned. After that, with
    probability 1/2, an image replaces a random stored one, which is returned in its
    place; otherwise it is returned and not stored. A pool of size 0 returns all images
    unchanged.
    """
    size = pool["images"].shape[0]
    if size == 0:
        return pool, images

    def one(pool: dict[str, Array], inputs: tuple[Array, Array]) -> tuple[dict[str, Array], Array]:
        image, key = inputs
        coin, place = jax.random.split(key)
        full = pool["count"] >= size
        index = jnp.where(full, jax.random.randint(place, (), 0, size), pool["count"])
        swap = full & jax.random.bernoulli(coin)
        previous = pool["images"][index]
        stored = jnp.where(swap | ~full, image, previous)
        pool = {
            "images": pool["images"].at[index].set(stored),
            "count": jnp.minimum(pool["count"] + 1, size),
        }
        return pool, jnp.where(swap, previous, image)

    return jax.lax.scan(
        one, pool, (images.astype(jnp.float32), jax.random.split(key, images.shape[0]))
    )
