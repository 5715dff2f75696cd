"""jaxtyping's annotations where it is installed, inert ones elsewhere: a bare accelerator image can build and step a model without it.

The shapes are checked under pytest alone (tests/conftest.py).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
else:
    try:
        from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
    except ImportError:
        from jax import Array

        class _Inert:
            def __class_getitem__(cls, _):
                return Any

        Float = Int = UInt8 = _Inert
        PRNGKeyArray = Array

__all__ = ["Array", "Float", "Int", "PRNGKeyArray", "UInt8"]
