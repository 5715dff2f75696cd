"""The platform that a program is traced and compiled for: decided here, nowhere else.

A program may be compiled for devices that this process does not have, or for CPU
devices in a process with a GPU. So the platform is that of the mesh in context, which
`on` sets; without one, that of `jax.default_device`, then JAX's default backend. All
three are part of JAX's own cache keys: a function traced for one platform is traced
again for another.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AbstractMesh, Mesh

P = ParamSpec("P")
R = TypeVar("R")


def platform() -> str:
    """The platform of the current trace: "cpu", "gpu" or "tpu"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None:
        config: Any = jax.config
        device = config.jax_default_device or jax.default_backend()
    return _standard(device if isinstance(device, str) else device.platform)


def platform_of(arrays: Any) -> str:
    """The platform that a tree of arrays or ShapeDtypeStructs with shardings is on.

    That of the first that has a sharding; `platform()` if none has.
    """
    for leaf in jax.tree.leaves(arrays):
        if (sharding := getattr(leaf, "sharding", None)) is not None:
            return _standard(next(iter(sharding.device_set)).platform)
    return platform()


def on(mesh: Mesh | AbstractMesh, function: Callable[P, R]) -> Callable[P, R]:
    """Return `function`, traced for the devices of `mesh`."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return traced


def _standard(name: str) -> str:
    return {"cuda": "gpu", "rocm": "gpu"}.get(name, name)
