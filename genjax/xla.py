"""How the programs that take the most time are compiled: options of XLA's compiler."""

import functools
import os
from typing import Any

import jax

CPU = {
    # Of YNNPACK's kernels the reductions alone. Its products and convolutions leave cores idle beside XLA's: steps take 0 to 20 % less time
    # without them, the Inception a quarter less (benchmarks/NOTES.md).
    "reductions": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
    # Vectors as wide as AVX-512's where the processor has them: steps take up to 4 % less time.
    "wide": {"xla_cpu_prefer_vector_width": 512},
    # LLVM's first level of optimisation: all models measured are as fast, and compile in a fifth less.
    "quick": {"xla_backend_optimization_level": 1},
}
FEATURES = ("reductions", "wide")  # what networks whose features are measured are compiled with,
STEP = (*FEATURES, "quick")  # and a training step


def options(*names: str) -> dict[str, Any]:
    """What `compile` and `jit` take as compiler options: on a CPU those of these names, else none.

    Nor those that XLA_FLAGS has a word on, or that this XLA no longer knows.
    """
    if jax.default_backend() != "cpu":
        return {}
    wanted = {
        option: value for name in names for option, value in CPU[name].items() if option not in os.environ.get("XLA_FLAGS", "")
    }
    return {option: value for option, value in wanted.items() if _known(option, value)}


@functools.cache
def _known(option: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
