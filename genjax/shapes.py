"""Shape annotations of jaxtyping where it is installed, inert ones elsewhere.

A bare accelerator image can so build and step a model without jaxtyping. Shapes are
checked under pytest only (tests/conftest.py).
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, UInt8
else:
    try:
        from jaxtyping import Array, Float, Int, UInt8
    except ImportError:
        Array = jax.Array

        class _Inert:
            def __class_getitem__(cls, _):
                return Any

        Float = Int = UInt8 = _Inert

AnyArray = jax.Array | np.ndarray  # for functions that also take NumPy arrays

__all__ = ["AnyArray", "Array", "Float", "Int", "UInt8"]
