"""PyTorch calls whose type stubs are too narrow, typed once for all peers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def to_layout(
    module: nn.Module, layout: torch.memory_format, device: str | None = None
) -> nn.Module:
    """Move a module to a memory layout, and to `device`, in place; return it."""
    if device is not None:
        module.to(device)
    # The stubs of `Module.to` know no `memory_format` without a device and a dtype.
    return module.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def tensor(array: Any) -> Tensor:
    """A tensor with the values of a JAX or NumPy array."""
    return torch.tensor(np.asarray(array))


def assign(target: Tensor | None, array: Any) -> None:
    """Copy an array into a parameter or buffer that exists, without a gradient."""
    if target is None:
        raise ValueError("the layer has no such parameter")
    with torch.no_grad():
        target.copy_(tensor(array))
