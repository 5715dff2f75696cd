"""Perceptual path length: how unevenly images change along paths through latent space.

Karras et al. 2019 (arXiv 1812.04948), section 4.1, with the options of their second
paper (arXiv 1912.04958). Images stay float32 from the generator to the distance: at an
epsilon of 1e-4 the two images of a pair differ by less than 8 bits resolve, and
rounding would multiply the result by 30.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics import checks
from genjax.nn import ops
from genjax.shapes import AnyArray, Array, Float

# Latents [n, d] -> images float [n, h, w, c] in [-1, 1]; noise, if any, must be the
# same in each call
Generate = Callable[[Any], Any]
Distance = Callable[[Any, Any], Any]  # two arrays of images -> [n], such as LPIPS over VGG16


def lerp(
    first: Float[Array, "n d"], second: Float[Array, "n d"], t: Float[Array, "n 1"]
) -> Float[Array, "n d"]:
    """Interpolate linearly: `first` at t = 0, `second` at t = 1. For styles, in W."""
    return first + t * (second - first)


# Largest magnitude of images: those of a generator are not clipped and may exceed 1 by
# much, but values in another range, such as 0..255, exceed this
OVERSHOOT = 10.0

WAYS = {"w": lerp, "z": ops.slerp}  # interpolation by latent space


def path_lengths(
    generate: Generate,
    distance: Distance,
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    t: Float[Array, " n"],
    *,
    space: str = "w",
    epsilon: float = 1e-4,
) -> Float[Array, " n"]:
    """Return distance / epsilon^2 between the images at t and at t + epsilon.

    Equations 2 (space "z") and 3 ("w"). A pure function.

    Args:
        generate: the generator
        distance: of two arrays of images, per pair
        first: latents where each path starts
        second: latents where each path ends
        t: position on each path, in [0, 1]
        space: "w": linear interpolation; "z": spherical interpolation
        epsilon: distance of the two positions

    Raises:
        ValueError: an unknown `space`; images that are not float32 in about [-1, 1]
    """
    return _compare(generate, distance, first, second, t, space, epsilon)[0]


def _compare(
    generate: Generate,
    distance: Distance,
    first: Array,
    second: Array,
    t: Array,
    space: str,
    epsilon: float,
) -> tuple[Array, Array, Array]:
    """The path lengths, and the least and largest value of the images."""
    if space not in WAYS:
        raise ValueError(f"space {space!r}: must be w (linear paths) or z (great circles)")
    images = [generate(WAYS[space](first, second, at[:, None])) for at in (t, t + epsilon)]
    if any(x.dtype != jnp.float32 for x in images):
        raise ValueError(
            f"images must be float32 in [-1, 1], not {images[0].dtype}: "
            "rounding makes the path length larger"
        )
    for x in images:
        checks.image_values(x, edge=OVERSHOOT)
    return distance(*images) / epsilon**2, jnp.min(images[0]), jnp.max(images[0])


def summary(lengths: Float[AnyArray, " n"], discard: tuple[float, float] = (1.0, 99.0)) -> float:
    """Return the mean of the lengths between two percentiles.

    Both percentiles are rounded outwards to lengths that occur, which are included.

    Raises:
        ValueError: no lengths, or lengths that are not finite
    """
    lengths = np.asarray(lengths, np.float64)
    if lengths.ndim != 1 or not len(lengths) or not np.isfinite(lengths).all():
        raise ValueError("path lengths [n] must be finite and at least one")
    low = np.percentile(lengths, discard[0], method="lower")
    high = np.percentile(lengths, discard[1], method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def perceptual_path_length(
    latents: Callable[[Array, int], Any],
    generate: Generate,
    distance: Distance,
    *,
    key: Array,
    samples: int = 50_000,
    batch_size: int = 32,
    space: str = "w",
    sampling: str = "end",
    epsilon: float = 1e-4,
    discard: tuple[float, float] = (1.0, 99.0),
) -> float:
    """Return the perceptual path length over random pairs of latents.

    Images are compared as `generate` gives them: crop and shrink them there (to 256
    pixels for VGG16 as published), and report that with the number.

    Args:
        latents: (key, n) -> [n, d]: styles for space "w", normal latents for "z"
        generate: the generator
        distance: of two arrays of images, per pair
        key: of the latents and positions
        samples: number of pairs
        batch_size: pairs per batch
        space: "w" or "z", as in `path_lengths`
        sampling: "full": positions t uniform in [0, 1], as in 2019; "end": t = 0, as
            from 2020 on
        epsilon: distance of the two positions on a path
        discard: percentiles, beyond which lengths are discarded

    Raises:
        ValueError: an unknown `sampling` or `space`; fewer than 1 sample; images that
            are not float32 in about [-1, 1], or without a value below 0, as in [0, 1],
            which would give a quarter of the length
    """
    if sampling not in ("full", "end"):
        raise ValueError(f"sampling {sampling!r}: must be full or end")
    if samples < 1 or batch_size < 1:
        raise ValueError(f"{samples} samples in batches of {batch_size}: must be at least 1")

    @jax.jit
    def batch(i):
        keys = jax.random.split(jax.random.fold_in(key, i), 3)
        first, second = latents(keys[0], batch_size), latents(keys[1], batch_size)
        t = jnp.zeros(batch_size)
        if sampling == "full":
            t = jax.random.uniform(keys[2], (batch_size,))
        return _compare(generate, distance, first, second, t, space, epsilon)

    batches = [[np.asarray(x) for x in batch(i)] for i in range(-(-samples // batch_size))]
    lengths, lows, highs = zip(*batches, strict=True)
    joined = np.concatenate(lengths)[:samples]
    if np.isfinite(joined).all():  # Otherwise `summary` raises
        checks.value_range(float(np.min(lows)), float(np.max(highs)), edge=OVERSHOOT)
    return summary(joined, discard)
