"""Image sets: `load` any SPEC into a Source, then `take` resident batches on the device or `stream` the others from the host.

Light to import: numpy and jax only. What decodes, reads or streams a certain kind of set is imported when one is met.
"""

from genjax.data.files import has_sides
from genjax.data.sampler import order, prepare, take
from genjax.data.source import Source, mapped, unpaired, with_suffix
from genjax.data.specs import load
from genjax.data.streaming import gather, stream

__all__ = [
    "Source",
    "gather",
    "has_sides",
    "load",
    "mapped",
    "order",
    "prepare",
    "stream",
    "take",
    "unpaired",
    "with_suffix",
]
