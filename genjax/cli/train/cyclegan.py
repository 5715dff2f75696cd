"""Train a CycleGAN: translation between two sets of images that are not paired.

python train/cyclegan.py                                              the embedded digits, and their negatives
python train/cyclegan.py --preset paper --data-a horses/ --data-b zebras/      256x256, on a GPU
python train/cyclegan.py --preset unet64 --data horse2zebra/          its folders trainA and trainB are the sides
python train/cyclegan.py --preset unet64 --data-a monarch.zip --data-b sulphur.zip     64x64
python train/cyclegan.py --preset photos --task dehaze --data photos/           haze, or with --task lowlight the dark, taken from photographs
"""

import dataclasses
from typing import Any

from genjax import data
from genjax.edit import degrade
from genjax.errors import InputError
from genjax.models import cyclegan
from genjax.training import script

TASKS = {"dehaze": "haze", "lowlight": "lowlight", "deblur": "blur", "deblock": "blocks"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train a CycleGAN."""

    preset: str = ""  # paper | unet64 | photos: settings that go together, rates that fall to 0 too; other options change them
    data_a: str = ""  # side a, in the words of --data; a folder or zip with trainA and trainB is given as --data alone
    data_b: str = ""  # side b
    task: str = ""  # dehaze | lowlight | deblur | deblock: side b is --data, side a is made from it
    steps: int = 1000  # optimizer steps in all
    batch_size: int = 4  # images a step of each side, over all devices
    resolution: tuple[int, ...] = (32,)  # SIZE, or HEIGHT WIDTH, to resize to
    model: cyclegan.Config = cyclegan.Config(channels=16, blocks=2, disc_channels=16, disc_layers=2)


# Zhu et al. 2017 have 200 epochs, the rate falling over the last 100, on about 1300 images. A U-Net copies what stays from its first steps on:
# at 64x64 the reconstructions of 300 steps are those of 4500 steps of a ResNet that costs as much (benchmarks/RESULTS.md). With half of their
# weight of the cycle it dares to change more.
PAPER = cyclegan.Config(constant_steps=130_000, decay_steps=130_000)
UNET = cyclegan.Config(
    network="unet",
    depth=5,
    channels=32,
    cycle_weight=5.0,
    disc_channels=32,
    disc_layers=2,
    constant_steps=5500,
    decay_steps=4500,
)
# A generator that can change light and colour alone needs no help from the identity, and hardly any from the cycle: with Zhu et al.'s weights
# it stays what it is at first, the identity. Its discriminators are not normalised, or they would not see how bright a picture is.
# The average is slow, since the game moves around what is likely.
PHOTOS = cyclegan.Config(
    network="affine",
    depth=2,
    channels=16,
    blocks=3,
    cycle_weight=1.0,
    identity_weight=0.0,
    disc_channels=24,
    disc_norm="none",
    constant_steps=4000,
    decay_steps=4000,
    ema_half_life_images=3000,
    ema_ramp=0.5,
)

PRESETS = {
    "": Arguments(),
    "paper": Arguments(
        preset="paper",
        resolution=(286,),
        random_crop=(256,),
        flip=True,
        batch_size=1,
        steps=260_000,
        save_every=5000,
        model=PAPER,
    ),
    "unet64": Arguments(
        preset="unet64", resolution=(64,), flip=True, batch_size=1, steps=10_000, model=UNET
    ),
    "photos": Arguments(
        preset="photos",
        resolution=(128, 192),
        random_crop=(96, 144),
        flip=True,
        batch_size=1,
        steps=8000,
        model=PHOTOS,
    ),
}


def sides(args: Arguments) -> data.Source:
    """The two sets as one source. Raises InputError."""
    if bool(args.data_a) != bool(args.data_b):
        missing = "--data-b" if args.data_a else "--data-a"
        raise InputError(f"{missing}: give both sides, or --task {' | '.join(TASKS)} with --data")
    if args.task and (args.task not in TASKS or args.data_a):
        raise InputError(
            f"--task {args.task}: one of {', '.join(TASKS)}, with --data and without --data-a, --data-b"
        )
    script.begin(args)
    if args.data_a:
        return open_pair(
            args,
            {"spec": args.data_a, "option": "--data-a"},
            {"spec": args.data_b, "option": "--data-b"},
        )
    if not args.task and data.has_sides(args.data):
        return open_pair(args, *({"spec": args.data, "split": args.split + side} for side in "AB"))
    second = script.open_set(args, args.data)
    if not args.task:
        return data.unpaired(data.mapped(second, "negative", lambda _, image: 255 - image), second)
    form = TASKS[args.task]
    return data.unpaired(
        data.mapped(second, f"{form} of seed {args.seed}", degrade.degraded(form, args.seed)),
        second,
    )


def open_pair(args: Arguments, a: dict[str, Any], b: dict[str, Any]) -> data.Source:
    """Two sets as sides of one shape: the resolution of side a, colour if either is. a, b: of script.open_set. Raises InputError."""
    first = script.open_set(args, **a)
    second = script.open_set(args, **b, resolution=first.shape[:2])
    channels = max(first.shape[2], second.shape[2])
    if first.shape[2] != second.shape[2]:
        grey = "a" if first.shape[2] < channels else "b"
        script.say(
            f"side {grey} is grey and becomes colour, as the other; --channels 1 makes both grey"
        )
        if grey == "a":
            first = script.open_set(args, **a, channels=channels)
        else:
            second = script.open_set(args, **b, resolution=first.shape[:2], channels=channels)
    return data.unpaired(first, second)


def run(args: Arguments) -> int:
    source = sides(args)
    config = script.configured(args.model, source, args)
    if args.data_a:  # as config.json has it
        args = dataclasses.replace(args, data=f"{args.data_a} and {args.data_b}")
    return script.train("cyclegan", cyclegan.recipe(config), config, source, args)


def main() -> None:
    """Parse the command line and train."""
    script.main(Arguments, run, PRESETS, larger="--preset unet64, or paper on a GPU")
