"""Image generation and editing models in JAX.

    model, weights = genjax.load("runs/vae")
    images = model.sample(weights, jax.random.key(0), 16)
    genjax.save_grid(images, "grid.png")

`genjax.fit(recipe, source, steps=1000)` trains from Python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from genjax.files.grids import save_grid
    from genjax.nn.ops import to_uint8
    from genjax.sampling import load
    from genjax.training.notebook import fit

__all__ = ["fit", "load", "save_grid", "to_uint8"]

# Imported at first use, so that `import genjax` costs nothing.
_MEMBERS = {
    "fit": "genjax.training.notebook",
    "load": "genjax.sampling",
    "save_grid": "genjax.files.grids",
    "to_uint8": "genjax.nn.ops",
}
# Modules of version 0.1 by their present names; `from genjax import ops` still works.
_MOVED = {
    "augment": "nn.augment",
    "checkpoint": "training.checkpoint",
    "hooks": "training.hooks",
    "images": "files.grids",
    "latents": "sampling",
    "layers": "nn.layers",
    "ops": "nn.ops",
    "script": "training.script",
    "trainer": "training.trainer",
}


def __getattr__(name: str) -> Any:
    if name in _MEMBERS:
        return getattr(import_module(_MEMBERS[name]), name)
    if name in _MOVED:
        return import_module(f"genjax.{_MOVED[name]}")
    raise AttributeError(f"module 'genjax' has no attribute {name!r}")
