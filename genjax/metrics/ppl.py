"""Perceptual path length: how unevenly images change along straight ways through a generator's latents.

Karras et al. 2019 (arXiv 1812.04948), section 4.1, and the choices of their second paper (arXiv 1912.04958). Images stay float32 from the
generator to the distance: at an epsilon of 1e-4 the two of a pair differ by less than 8 bits can say, and rounding multiplies the result by 30.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics import checks
from genjax.nn import ops
from genjax.shapes import AnyArray, Array, Float

Generate = Callable[
    [Any], Any
]  # latents [n, d] -> images float [n, h, w, c] in [-1, 1]; noise, if any, the same in each call
Distance = Callable[[Any, Any], Any]  # two arrays of images -> [n], such as LPIPS over VGG16


def lerp(
    first: Float[Array, "n d"], second: Float[Array, "n d"], t: Float[Array, "n 1"]
) -> Float[Array, "n d"]:
    """The point at t of the straight way: for styles, W."""
    return first + t * (second - first)


OVERSHOOT = 10.0  # a generator's images are not clipped, and may pass 1 by much; those of other ranges pass this

WAYS = {"w": lerp, "z": ops.slerp}


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
    """distance / epsilon^2 of the images at t and at t + epsilon between each two latents: equations 2 (z) and 3 (w). Pure; raises ValueError."""
    return _compared(generate, distance, first, second, t, space, epsilon)[0]


def _compared(generate, distance, first, second, t, space, epsilon) -> tuple[Array, Array, Array]:
    """The lengths, and the least and the largest value of the images."""
    if space not in WAYS:
        raise ValueError(f"space {space!r}: w (straight ways) or z (great circles)")
    images = [generate(WAYS[space](first, second, at[:, None])) for at in (t, t + epsilon)]
    if any(x.dtype != jnp.float32 for x in images):
        raise ValueError(
            f"images are float32 in [-1, 1], not {images[0].dtype}: rounded ones give another, larger length"
        )
    for x in images:
        checks.image_values(x, edge=OVERSHOOT)
    return distance(*images) / epsilon**2, jnp.min(images[0]), jnp.max(images[0])


def summary(lengths: Float[AnyArray, " n"], discard: tuple[float, float] = (1.0, 99.0)) -> float:
    """The mean of the lengths between two percentiles, both of them actual lengths that are kept."""
    lengths = np.asarray(lengths, np.float64)
    if lengths.ndim != 1 or not len(lengths) or not np.isfinite(lengths).all():
        raise ValueError("path lengths [n] are finite and at least one")
    low, high = (
        np.percentile(lengths, discard[0], method="lower"),
        np.percentile(lengths, discard[1], method="higher"),
    )
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
    """The perceptual path length over `samples` pairs of `latents(key, n) -> [n, d]`: styles for space "w", normal latents for "z".

    `sampling` "full" is at places t uniform in 0..1, as in 2019; "end" at t = 0, as from 2020 on. Images are compared as `generate` gives them:
    crop and shrink them there (to 256 with VGG16 as published), and say so beside the number. Raises ValueError, also for images of which no
    value is below 0, as in [0, 1], which would give a quarter of the length.
    """
    if sampling not in ("full", "end"):
        raise ValueError(f"sampling {sampling!r}: full or end")
    if samples < 1 or batch_size < 1:
        raise ValueError(f"{samples} samples by {batch_size}: at least 1")

    @jax.jit
    def batch(i):
        keys = jax.random.split(jax.random.fold_in(key, i), 3)
        first, second = latents(keys[0], batch_size), latents(keys[1], batch_size)
        t = (
            jax.random.uniform(keys[2], (batch_size,))
            if sampling == "full"
            else jnp.zeros(batch_size)
        )
        return _compared(generate, distance, first, second, t, space, epsilon)

    lengths, lows, highs = zip(
        *(map(np.asarray, batch(i)) for i in range(-(-samples // batch_size))), strict=True
    )
    joined = np.concatenate(lengths)[:samples]
    if np.isfinite(joined).all():  # else `summary` says so
        checks.value_range(float(np.min(lows)), float(np.max(highs)), edge=OVERSHOOT)
    return summary(joined, discard)
