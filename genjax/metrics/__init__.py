"""Image quality metrics, each defined as in the paper that its docstring cites.

`evaluate` compares one set of images with another; `nearest` looks for copies of
training images.
"""

from genjax.metrics.copies import Nearest, nearest
from genjax.metrics.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "Nearest", "evaluate", "nearest"]
