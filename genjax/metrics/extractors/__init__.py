"""What turns images into features: `extractor(name)` opens a published network, `wrap` takes any function of images."""

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
