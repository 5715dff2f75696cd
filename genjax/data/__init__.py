"""Image sets: `load` a SPEC as a Source, `take` or `stream` batches, prepare them.

`take` gathers batches of a resident set on the device, `stream` reads those of any set
on the host, and `Source.prepare` augments and scales them on the device.

Importing it loads only numpy and jax. What decodes, reads or streams a kind of set is
imported when such a set is opened.
"""

from genjax.data.files import has_sides
from genjax.data.preparation import prepare
from genjax.data.sampler import order, take
from genjax.data.source import Source, mapped, unpaired, with_suffix
from genjax.data.specs import load
from genjax.data.streaming import first_items, gather, stream

__all__ = [
    "Source",
    "first_items",
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
