"""How good images are: definitions in the papers' terms, each with its own in its docstring. `evaluate` measures one set against another, `nearest` shows copies."""

from genjax.metrics.copies import Nearest, nearest
from genjax.metrics.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "Nearest", "evaluate", "nearest"]
