"""Training from the command line: one module per model, with its options, presets and
`main`.

`genjax train MODEL ...` of an installed package and `python train/MODEL.py ...` of a
checkout run the same.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Literal

from genjax.runtime import shell as shell  # isort: skip  # before JAX: it reports a bad environment
from genjax.models import RECIPES

MODELS = tuple(sorted(RECIPES))


def run(model: str, options: Sequence[str]) -> None:
    """Run a model's `main` with these options; exit as it does."""
    sys.argv = [f"genjax train {model}", *options]  # the name that its help and messages show
    importlib.import_module(f"genjax.cli.train.{model}").main()


def train(model: Literal[MODELS], /) -> int:  # pyright: ignore[reportInvalidTypeForm]
    """Train a model. `genjax train MODEL --help` lists its options, such as --data and
    --out.

    Args:
        model: name of the model
    """
    run(model, ())
    return 0
