"""Types of the verbs that models share. Each model documents its own:
`help(model.sample)`.

Weights are `core.weights(state)` or those of `genjax.load`; images float32 [n, h, w, c]
in [-1, 1]; latents float32 [n, z_dim]; labels int32 [n], of a conditional model.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from genjax.core import Array, Weights

Number = float | Array


class OfLatents(Protocol):
    """Latents [n, z_dim] -> images."""

    def __call__(self, weights: Weights, latents: Array, labels: Array | None = None) -> Array: ...


class OfImages(Protocol):
    """Images -> an array of one entry per image."""

    def __call__(self, weights: Weights, images: Array, labels: Array | None = None) -> Array: ...


class Sample(Protocol):
    """A key and a number -> images; latents are scaled by `truncation`."""

    def __call__(
        self,
        weights: Weights,
        key: Array,
        n: int,
        labels: Array | None = None,
        truncation: Number = 1.0,
    ) -> Array: ...


class Interpolate(Protocol):
    """Two batches and a number -> images [n, count, h, w, c] between them."""

    def __call__(
        self, weights: Weights, first: Array, second: Array, count: int, labels: Array | None = None
    ) -> Array: ...


def bind(function: Callable[..., Any], first: Any) -> Any:
    """Return `function` with its first argument given, its name and documentation
    retained.

    So `help(model.sample)` shows what a user passes: the signature without that
    argument."""

    def bound(*args: Any, **kwargs: Any) -> Any:
        return function(first, *args, **kwargs)

    signature = inspect.signature(function)
    functools.update_wrapper(bound, function)
    rest = list(signature.parameters.values())[1:]
    bound.__dict__["__signature__"] = signature.replace(parameters=rest)
    return bound
