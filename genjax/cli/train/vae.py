"""Train a variational autoencoder.

python train/vae.py                                          the embedded digits, a few seconds on a laptop's CPU
python train/vae.py --data mnist/ --model.binarize dynamic   a folder with MNIST's idx files, as a likelihood model
python train/vae.py --data photos.zip --resolution 64 --model.network conv --model.likelihood logistic
"""

import dataclasses

from genjax.models import vae
from genjax.training import script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train a variational autoencoder."""

    model: vae.Config = vae.Config()


def run(args: Arguments) -> int:
    vae.check(
        dataclasses.replace(
            args.model, conditional=False, batch_size=args.batch_size, dtype=args.dtype
        )
    )
    source = script.load_data(args)
    config = script.configured(args.model, source, args)
    return script.train("vae", vae.recipe(config), config, source, args, best="loss/objective")


def main() -> None:
    """Parse the command line and train."""
    script.main(Arguments, run)
