"""What the metrics ask of the features that they are given."""

import numpy as np

from genjax.shapes import AnyArray


def feature_rows(features: AnyArray, name: str = "features", at_least: int = 1) -> np.ndarray:
    """The features on the host as [n, d]. Raises ValueError where they are no such array, too few, or not finite."""
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} are an array [n, d], not {rows.shape}")
    if len(rows) < at_least:
        raise ValueError(f"{name} of {len(rows)} images: at least {at_least} are needed")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} are not finite in {(~np.isfinite(rows)).any(1).sum()} of {len(rows)} images")
    return rows


def two_sets(at_least: int = 1, **sets: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    """Two named sets of features as `feature_rows`, float32. Raises ValueError where their widths differ, too."""
    first, second = (np.ascontiguousarray(feature_rows(x, name, at_least), np.float32) for name, x in sets.items())
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{' and '.join(sets)} features are of one width, not {first.shape[1]} and {second.shape[1]}")
    return first, second
