"""How good images are: definitions in the papers' terms, each with its own in its docstring. `evaluate` measures one set against another."""

from genjax.metrics.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
