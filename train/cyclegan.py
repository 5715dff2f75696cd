"""Train a CycleGAN: translation between two sets of images that are not paired.

python train/cyclegan.py                                              the embedded digits, and their negatives
python train/cyclegan.py --preset paper --data-a horses/ --data-b zebras/      256x256, on a GPU
python train/cyclegan.py --preset unet64 --data-a monarch.zip --data-b sulphur.zip     64x64, within an hour of two CPU cores
python train/cyclegan.py --task dehaze --data photos/ --random-crop 128 --flip
"""

import dataclasses

import jax
import numpy as np

from genjax import data, ops, script
from genjax.core import InputError
from genjax.edit import degrade
from genjax.models import cyclegan

TASKS = {"dehaze": "haze", "lowlight": "lowlight", "deblur": "blur", "deblock": "blocks"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train a CycleGAN."""

    preset: str = ""  # paper | unet64: settings that go together (the rate falls to 0 over its steps); other options change them
    data_a: str = ""  # side a, in the words of --data
    data_b: str = ""  # side b
    task: str = ""  # dehaze | lowlight | deblur | deblock: side b is --data, side a is made from it
    steps: int = 1000  # optimizer steps in all
    batch_size: int = 4  # images a step of each side, over all devices
    resolution: tuple[int, ...] = (32,)  # SIZE, or HEIGHT WIDTH, to resize to
    model: cyclegan.Config = cyclegan.Config(channels=16, blocks=2, disc_channels=16, disc_layers=2)


# Zhu et al. 2017 have 200 epochs, the rate falling over the last 100, on about 1300 images. A U-Net copies what stays from its first steps on:
# at 64x64 the reconstructions of 300 steps are those of 4500 steps of a ResNet that costs as much (benchmarks/RESULTS.md).
PAPER = cyclegan.Config(constant_steps=130_000, decay_steps=130_000)
UNET = cyclegan.Config(
    network="unet", depth=5, channels=32, disc_channels=32, disc_layers=2, constant_steps=5500, decay_steps=4500
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
    "unet64": Arguments(preset="unet64", resolution=(64,), flip=True, batch_size=1, steps=10_000, model=UNET),
}


def sides(args: Arguments) -> data.Source:
    """The two sets as one source. Raises InputError."""
    if bool(args.data_a) != bool(args.data_b):
        missing = "--data-b" if args.data_a else "--data-a"
        raise InputError(f"{missing}: give both sides, or --task {' | '.join(TASKS)} with --data")
    if args.task and (args.task not in TASKS or args.data_a):
        raise InputError(f"--task {args.task}: one of {', '.join(TASKS)}, with --data and without --data-a, --data-b")
    script.check_options(args)
    if args.distributed:
        script.join(args.distributed)
    if args.data_a:
        first = script.open_set(args, args.data_a, "--data-a")
        shape = {"resolution": first.shape[:2], "channels": first.shape[2]}
        return data.unpaired(first, script.open_set(args, args.data_b, "--data-b", **shape))
    second = script.open_set(args, args.data)
    if not args.task:
        return data.unpaired(data.mapped(second, "negative", lambda _, image: 255 - image), second)
    form = jax.jit(degrade.DEGRADATIONS[TASKS[args.task]])

    def change(index: int, image: np.ndarray) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(args.seed), index)
        return np.asarray(ops.to_uint8(form(key, image[None].astype(np.float32) / 127.5 - 1)))[0]

    return data.unpaired(data.mapped(second, f"{TASKS[args.task]} of seed {args.seed}", change), second)


def run(args: Arguments) -> int:
    source = sides(args)
    config = script.configured(args.model, source, args)
    if args.data_a:  # as config.json has it
        args = dataclasses.replace(args, data=f"{args.data_a} and {args.data_b}")
    return script.train("cyclegan", cyclegan.recipe(config), config, source, args)


if __name__ == "__main__":
    script.main(Arguments, run, PRESETS)
