"""The checks that all metrics share, of the images and features that they are given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from genjax.shapes import AnyArray

EDGE = 1.001  # largest magnitude of float images: rounding may exceed 1


def image_array(images: Any, name: str = "images") -> Any:
    """Return the images, after checking shape and dtype; traced arrays are accepted.

    Images are [n, h, w, c], not empty, uint8 or float; see `image_values` for their
    values.

    Raises:
        ValueError: another shape or dtype; the message starts with `name`. Integers of
            more than 8 bits and booleans have no agreed range, and this library does
            not compute in float16
    """
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        shape = list(images.shape)
        raise ValueError(
            f"{name}: images are [n, height, width, channels], none of them 0, not {shape}"
        )
    if images.dtype not in (np.uint8, np.float32, np.float64, jnp.bfloat16):
        accepted = "uint8, or float in [-1, 1] (float32, float64, bfloat16)"
        raise ValueError(f"{name}: images are {accepted}, not {images.dtype}")
    return images


def image_values(images: AnyArray, name: str = "images", edge: float = EDGE) -> AnyArray:
    """Return the images, after checking that float values are in [-1, 1].

    Float images without any value below 0 are refused: they are probably in [0, 1] and
    would give a plausible but wrong number. Bright images that really are in [-1, 1]
    are refused too; give those as uint8, which is always accepted. Values of traced
    arrays are not checked.

    Raises:
        ValueError: as `image_array`; a float that is beyond `edge` or not finite; no
            value below 0
    """
    images = image_array(images, name)
    if images.dtype != np.uint8 and not isinstance(images, Tracer):
        values = np.asarray(images)  # XLA's minimum may drop a NaN
        value_range(float(values.min()), float(values.max()), name, edge)
    return images


def image_bytes(images: Any, name: str = "images") -> Any:
    """Return the images, after checking that they are uint8 [n, h, w, 1, 3 or 4].

    Traced arrays are accepted.

    Raises:
        ValueError: another shape or dtype: only 8-bit images have been rounded
    """
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    empty = images.ndim != 4 or 0 in images.shape
    if empty or images.dtype != np.uint8 or images.shape[3] not in (1, 3, 4):
        shape = list(images.shape)
        raise ValueError(
            f"{name} are uint8 [n, height, width, 1, 3 or 4 channels], not {images.dtype} {shape}"
        )
    return images


def value_range(low: float, high: float, name: str = "images", edge: float = EDGE) -> None:
    """Check that the least and largest value are those of float images in [-1, 1].

    Raises:
        ValueError: a value is beyond `edge` or not finite, or none is below 0; see
            `image_values`
    """
    if not -edge <= low <= high <= edge:  # False for NaN too
        raise ValueError(
            f"{name}: float images are in [-1, 1], these in [{low:g}, {high:g}]; scale or clip them"
        )
    if low >= 0:
        raise ValueError(
            f"{name}: float images are in [-1, 1], but no value of these is below 0: "
            "convert images in [0, 1] by 2 * x - 1, or give uint8"
        )


def feature_rows(features: AnyArray, name: str = "features", at_least: int = 1) -> np.ndarray:
    """Return features [n, d] as an array on the host.

    Raises:
        ValueError: another shape, no real numbers, fewer than `at_least` rows, or
            values that are not finite
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} must be an array [n, d], not {rows.shape}")
    if rows.dtype.kind not in "fiub" and rows.dtype != jnp.bfloat16:
        raise ValueError(f"{name} must be real numbers, not {rows.dtype}")
    if len(rows) < at_least:
        raise ValueError(f"{name} of {len(rows)} images: at least {at_least} are needed")
    if not np.isfinite(rows).all():
        count = (~np.isfinite(rows)).any(1).sum()
        raise ValueError(f"{name} are not finite in {count} of {len(rows)} images")
    return rows


def two_sets(at_least: int = 1, **sets: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    """Return two named sets of features, each checked by `feature_rows`, as float32.

    Raises:
        ValueError: as `feature_rows`, and if their widths differ
    """
    first, second = (
        np.ascontiguousarray(feature_rows(x, name, at_least), np.float32)
        for name, x in sets.items()
    )
    if first.shape[1] != second.shape[1]:
        names, widths = " and ".join(sets), f"{first.shape[1]} and {second.shape[1]}"
        raise ValueError(f"{names} features must have one width, not {widths}")
    return first, second
