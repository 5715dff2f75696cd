"""jaxtyping's annotations where it is installed, inert ones elsewhere: a bare accelerator image can build and step a model without it.

The shapes are checked under pytest alone (tests/conftest.py).
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float, UInt8
else:
    try:
        from jaxtyping import Array, Float, UInt8
    except ImportError:
        Array = jax.Array

        class _Inert:
            def __class_getitem__(cls, _):
                return Any

        Float = UInt8 = _Inert

AnyArray = jax.Array | np.ndarray  # where a host array is as welcome

__all__ = ["AnyArray", "Array", "Float", "UInt8"]
