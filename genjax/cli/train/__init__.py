"""Training from the command line: one module per model, with its options, presets and `main()`.

`genjax train MODEL ...` of an installed package and `python train/MODEL.py ...` of a checkout run the same.
"""

import importlib
import sys
from collections.abc import Sequence

from genjax.runtime import (
    shell as shell,
)  # before JAX, whose complaints of the environment it turns into one line

MODELS = ("cyclegan", "dcgan", "gan", "stylegan2", "vae")


def run(model: str, options: Sequence[str]) -> None:
    """Run a model's `main()` with these options; exits as it does."""
    sys.argv = [f"genjax train {model}", *options]  # as its help and messages begin
    importlib.import_module(f"genjax.cli.train.{model}").main()
