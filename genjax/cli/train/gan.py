"""Train the plain GAN: two MLPs.

python train/gan.py                                               the embedded digits, on a laptop's CPU
python train/gan.py --data mnist/ --steps 50000                   a folder with MNIST's idx files
python train/gan.py --data mnist/ --model.loss wasserstein --model.gradient-penalty 10 --model.disc-steps 5 --model.adam-b1 0
"""

import dataclasses

from genjax.models import gan
from genjax.training import script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train the plain GAN: two MLPs."""

    batch_size: int = 64  # images a discriminator step, over all devices
    model: gan.Config = gan.Config()


def run(args: Arguments) -> int:
    gan.check(
        dataclasses.replace(
            args.model, conditional="none", batch_size=args.batch_size, dtype=args.dtype
        )
    )
    source = script.load_data(args)
    config = script.configured(args.model, source, args)
    return script.train("gan", gan.recipe(config), config, source, args)


def main() -> None:
    """Parse the command line and train."""
    script.main(Arguments, run)
