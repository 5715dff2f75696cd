"""What the metrics require of the images and the features that they are given: one check for all of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from genjax.shapes import AnyArray

EDGE = 1.001  # float images may pass 1 by rounding


def image_array(images: Any, name: str = "images") -> Any:
    """The images if their form is right: [n, h, w, c], not empty, uint8 or float; see `image_values`. Also of traced arrays.

    Raises ValueError, naming `name`, for other shapes and for other numbers: integers of more than 8 bits and
    booleans have no agreed range, and float16 is no type that this library computes in.
    """
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{name}: images are [n, height, width, channels], none of them 0, not {list(images.shape)}"
        )
    if images.dtype not in (np.uint8, np.float32, np.float64, jnp.bfloat16):
        raise ValueError(
            f"{name}: images are uint8, or float in [-1, 1] (float32, float64, bfloat16), not {images.dtype}"
        )
    return images


def image_values(images: AnyArray, name: str = "images", edge: float = EDGE) -> AnyArray:
    """`image_array`, whose values, where they are floats and known, are those of images in [-1, 1].

    Raises ValueError for a value beyond `edge` or not finite, and where no value is below 0: such floats are in
    [0, 1] and would give a number that looks like any other. All that is bright in an array of true [-1, 1] is
    refused with them; as uint8 it is always accepted. Traced values are not looked at.
    """
    images = image_array(images, name)
    if images.dtype != np.uint8 and not isinstance(images, Tracer):
        values = np.asarray(images)  # XLA's minimum may lose a NaN
        value_range(float(values.min()), float(values.max()), name, edge)
    return images


def image_bytes(images: Any, name: str = "images") -> Any:
    """Images uint8 [n, h, w, 1, 3 or 4], be they traced. Raises ValueError for others: what is not 8-bit has not been rounded."""
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if (
        images.ndim != 4
        or 0 in images.shape
        or images.dtype != np.uint8
        or images.shape[3] not in (1, 3, 4)
    ):
        shape = list(images.shape)
        raise ValueError(
            f"{name} are uint8 [n, height, width, 1, 3 or 4 channels], not {images.dtype} {shape}"
        )
    return images


def value_range(low: float, high: float, name: str = "images", edge: float = EDGE) -> None:
    """Raise ValueError where the least and the largest value are not those of float images in [-1, 1]; see `image_values`."""
    if not -edge <= low <= high <= edge:  # false of NaN too
        raise ValueError(
            f"{name}: float images are in [-1, 1], these in [{low:g}, {high:g}]; scale or clip them"
        )
    if low >= 0:
        raise ValueError(
            f"{name}: float images are in [-1, 1], and no value of these is below 0: "
            "make those in [0, 1] 2 * x - 1, or give uint8"
        )


def feature_rows(features: AnyArray, name: str = "features", at_least: int = 1) -> np.ndarray:
    """The features on the host as [n, d]. Raises ValueError where they are no such array, too few, or not finite."""
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} are an array [n, d], not {rows.shape}")
    if rows.dtype.kind not in "fiub" and rows.dtype != jnp.bfloat16:
        raise ValueError(f"{name} are real numbers, not {rows.dtype}")
    if len(rows) < at_least:
        raise ValueError(f"{name} of {len(rows)} images: at least {at_least} are needed")
    if not np.isfinite(rows).all():
        raise ValueError(
            f"{name} are not finite in {(~np.isfinite(rows)).any(1).sum()} of {len(rows)} images"
        )
    return rows


def two_sets(at_least: int = 1, **sets: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    """Two named sets of features as `feature_rows`, float32. Raises ValueError where their widths differ, too."""
    first, second = (
        np.ascontiguousarray(feature_rows(x, name, at_least), np.float32)
        for name, x in sets.items()
    )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{' and '.join(sets)} features are of one width, not {first.shape[1]} and {second.shape[1]}"
        )
    return first, second
