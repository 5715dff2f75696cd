"""Train a variational autoencoder.

python train/vae.py
    the embedded digits, seconds on a laptop's CPU
python train/vae.py --data mnist/ --model.binarize dynamic
    a folder with MNIST's idx files, as a likelihood model
python train/vae.py --data photos.zip --resolution 64 --model.network conv \\
    --model.likelihood logistic
"""

import dataclasses

from genjax.models import vae
from genjax.training import command_line, script
from genjax.training.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train a variational autoencoder."""

    model: vae.Config = vae.Config()


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    return script.run(args, vae, best="loss/objective")


def main() -> None:
    """Parse the command line and train."""
    command_line.main("vae", Arguments, run)
