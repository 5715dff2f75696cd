"""Train the plain GAN: two MLPs.

python train/gan.py
    the embedded digits, on a laptop's CPU
python train/gan.py --data mnist/ --steps 50000
    a folder with MNIST's idx files
python train/gan.py --data mnist/ --model.loss wasserstein --model.disc-steps 5 \\
    --model.gradient-penalty 10 --model.adam-b1 0
"""

import dataclasses

from genjax.models import gan
from genjax.training import command_line, script
from genjax.training.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train the plain GAN: two MLPs."""

    batch_size: int = 64  # images per discriminator step, over all devices
    model: gan.Config = gan.Config()


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    return script.run(args, gan)


def main() -> None:
    """Parse the command line and train."""
    command_line.main("gan", Arguments, run)
