"""Extractors turn images into features.

`extractor(name)` opens a published network; `wrap` makes one of any function of images.
"""

from genjax.metrics.extractors.table import (
    PIXELS,
    TABLE,
    VARIABLE,
    Extractor,
    File,
    Resized,
    extractor,
    find,
    load,
    wrap,
)

__all__ = [
    "PIXELS",
    "TABLE",
    "VARIABLE",
    "Extractor",
    "File",
    "Resized",
    "extractor",
    "find",
    "load",
    "wrap",
]
