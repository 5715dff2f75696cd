"""Train a convolutional GAN, with normalisation as DCGAN or without as R3GAN.

python train/dcgan.py                                             the embedded digits, on a laptop's CPU
python train/dcgan.py --preset mnist --data mnist/                a folder with MNIST's idx files; without --data from TensorFlow Datasets
python train/dcgan.py --preset emoji64 --data emoji.zip --model.network residual
"""

import dataclasses

from genjax.errors import InputError
from genjax.models import dcgan
from genjax.training import script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train a convolutional GAN."""

    preset: str = ""  # mnist | fashion | cifar10 | emoji64: settings that go together (the rates fall to 0 over its steps); other options change them
    batch_size: int = 64  # images a discriminator step, over all devices
    model: dcgan.Config = dcgan.Config()


# A discriminator without batch norm, its slope held by R1, at high rates that fall to 0: on MNIST far ahead of DCGAN's own settings
# (benchmarks/RESULTS.md).
STEADY = dcgan.Config(
    disc_norm="none", r1=0.1, learning_rate=1e-3, disc_learning_rate=2e-3, adam_b1=0.0, adam_b2=0.99
)
DIGITS = dataclasses.replace(STEADY, channels=32, r1=0.2, decay_steps=6000)
COLOUR = dataclasses.replace(STEADY, penalty_every=4, decay_steps=30_000)
FEW = dataclasses.replace(COLOUR, channels=32, r1=0.5, augment=("color", "translation", "cutout"))

PRESETS = {
    "": Arguments(),
    "mnist": Arguments(
        preset="mnist", data="tfds:mnist", resolution=(32,), steps=6000, model=DIGITS
    ),
    "fashion": Arguments(
        preset="fashion", data="tfds:fashion_mnist", resolution=(32,), steps=6000, model=DIGITS
    ),
    "cifar10": Arguments(
        preset="cifar10", data="tfds:cifar10", flip=True, steps=30_000, model=COLOUR
    ),
    "emoji64": Arguments(preset="emoji64", resolution=(64,), channels=3, steps=30_000, model=FEW),
}


def run(args: Arguments) -> int:
    if args.preset == "emoji64" and args.data == "digits":
        raise InputError("--preset emoji64: give --data too, a folder or zip of pictures")
    dcgan.check(
        dataclasses.replace(
            args.model, conditional="none", batch_size=args.batch_size, dtype=args.dtype
        )
    )
    source = script.load_data(args)
    config = script.configured(args.model, source, args)
    return script.train("dcgan", dcgan.recipe(config), config, source, args)


def main() -> None:
    """Parse the command line and train."""
    script.main(Arguments, run, PRESETS)
