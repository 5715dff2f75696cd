"""Labels of conditional models: how many classes there are, and labels one-hot."""

from typing import Any

from genjax.core import Array
from genjax.nn import layers


def num_classes(config: Any) -> int:
    """Return the number of classes that a model is conditional on; 0 for none."""
    return 0 if config.conditional == "none" else config.num_labels


def one_hot(config: Any, labels: Array | None, n: int) -> Array:
    """Return labels int32 [n] one-hot [n, num_labels]; [n, 0] if unconditional.

    Raises ValueError without labels for a conditional model.
    """
    return layers.one_hot_labels(labels, n, size=num_classes(config))
