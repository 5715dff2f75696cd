"""Train a convolutional GAN, with normalisation as DCGAN or without as R3GAN.

python train/dcgan.py
    the embedded digits, on a laptop's CPU
python train/dcgan.py --preset mnist --data mnist/
    MNIST's idx files; without --data from TensorFlow Datasets
python train/dcgan.py --preset emoji64 --data emoji.zip --model.network r3gan
"""

import dataclasses

from genjax.errors import ConfigError
from genjax.models import dcgan
from genjax.training import command_line, script
from genjax.training.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train a convolutional GAN."""

    # settings that go together; learning rates fall to 0 over their steps; other
    # options change them. mnist | fashion | cifar10 | emoji64
    preset: str = ""
    batch_size: int = 64  # images per discriminator step, over all devices
    model: dcgan.Config = dcgan.Config()


# A discriminator without batch norm, its gradient penalised by R1, at high learning
# rates that fall to 0: on MNIST far ahead of DCGAN's own settings
# (benchmarks/RESULTS.md).
STEADY = dcgan.Config(
    disc_norm="none",
    r1_gamma=0.1,
    learning_rate=1e-3,
    disc_learning_rate=2e-3,
    adam_b1=0.0,
    adam_b2=0.99,
)
DIGITS = dataclasses.replace(STEADY, channels=32, r1_gamma=0.2, decay_steps=6000)
COLOUR = dataclasses.replace(STEADY, penalty_interval=4, decay_steps=30_000)
FEW = dataclasses.replace(
    COLOUR, channels=32, r1_gamma=0.5, augment=("color", "translation", "cutout")
)

PRESETS = {
    "": Arguments(),
    "mnist": Arguments(data="tfds:mnist", resolution=(32,), steps=6000, model=DIGITS),
    "fashion": Arguments(data="tfds:fashion_mnist", resolution=(32,), steps=6000, model=DIGITS),
    "cifar10": Arguments(data="tfds:cifar10", flip=True, steps=30_000, model=COLOUR),
    "emoji64": Arguments(resolution=(64,), channels=3, steps=30_000, model=FEW),
}
PRESETS = {name: dataclasses.replace(args, preset=name) for name, args in PRESETS.items()}


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    if args.preset == "emoji64" and args.data == "digits":
        raise ConfigError("preset", args.preset, "give `data` too, a folder or zip of pictures")
    return script.run(args, dcgan)


def main() -> None:
    """Parse the command line and train."""
    command_line.main("dcgan", Arguments, run, PRESETS)
