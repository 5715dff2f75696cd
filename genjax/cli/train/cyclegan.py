"""Train a CycleGAN: translation between two unpaired sets of images.

python train/cyclegan.py
    the embedded digits, and their negatives
python train/cyclegan.py --preset paper --data-a horses/ --data-b zebras/
    256x256, on a GPU
python train/cyclegan.py --preset unet64 --data horse2zebra/
    with folders trainA and trainB
python train/cyclegan.py --preset unet64 --data-a monarch.zip --data-b sulphur.zip
    64x64
python train/cyclegan.py --preset photos --task dehaze --data photos/
    haze, or with --task lowlight the dark, made from photographs
"""

import dataclasses
from typing import Any

from genjax import data
from genjax.edit import degrade
from genjax.errors import ConfigError
from genjax.models import cyclegan
from genjax.runtime.shell import say
from genjax.training import command_line, script
from genjax.training.options import Options

TASKS = {"dehaze": "haze", "lowlight": "lowlight", "deblur": "blur", "deblock": "blocks"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train a CycleGAN."""

    # settings that go together, with learning rates that fall to 0; other options
    # change them. paper | unet64 | photos
    preset: str = ""
    # side a, as --data; a folder or zip with trainA and trainB is given as --data alone
    data_a: str = ""
    data_b: str = ""  # side b
    # make side a from --data, which is side b: dehaze | lowlight | deblur | deblock
    task: str = ""
    steps: int = 1000  # number of optimizer steps in all
    batch_size: int = 4  # images per step of each side, over all devices
    # SIZE, or HEIGHT WIDTH, to resize to
    resolution: tuple[int, ...] = (32,)
    model: cyclegan.Config = cyclegan.Config(channels=16, blocks=2, disc_channels=16, disc_layers=2)


# Zhu et al. 2017 train for 200 epochs of about 1300 images, the learning rate falling
# over the last 100. A U-Net copies what stays the same from its first steps on: at
# 64x64 its reconstructions after 300 steps equal those of 4500 steps of a ResNet that
# costs as much (benchmarks/RESULTS.md). With half of their cycle weight it changes
# more.
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
# A generator that changes only light and colour needs no identity term and hardly any
# cycle term: with Zhu et al.'s weights it stays the identity, its first state. Its
# discriminators are not normalised, or they would not notice brightness. The average is
# slow, since the weights circle around a good solution.
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

SINGLE = Arguments(flip=True, batch_size=1)
CROPS: dict[str, Any] = {"resolution": (128, 192), "random_crop": (96, 144)}
PRESETS = {
    "": Arguments(),
    "paper": dataclasses.replace(
        SINGLE, resolution=(286,), random_crop=(256,), steps=260_000, save_every=5000, model=PAPER
    ),
    "unet64": dataclasses.replace(SINGLE, resolution=(64,), steps=10_000, model=UNET),
    "photos": dataclasses.replace(SINGLE, steps=8000, model=PHOTOS, **CROPS),
}
PRESETS = {name: dataclasses.replace(args, preset=name) for name, args in PRESETS.items()}


def sides(args: Arguments) -> data.Source:
    """Open both sides as one source. Raises ConfigError."""
    tasks = ", ".join(TASKS)
    if bool(args.data_a) != bool(args.data_b):
        missing = "data_b" if args.data_a else "data_a"
        raise ConfigError(missing, None, f"give both sides, or `task` ({tasks}) with `data`")
    if args.task and (args.task not in TASKS or args.data_a):
        advice = f"one of {tasks}, with `data` and without `data_a`, `data_b`"
        raise ConfigError("task", args.task, advice)
    script.begin(args)
    if args.data_a:
        first = {"spec": args.data_a, "field": "data_a"}
        return open_pair(args, first, {"spec": args.data_b, "field": "data_b"})
    if not args.task and data.has_sides(args.data):
        pair = [{"spec": args.data, "split": args.split + side} for side in "AB"]
        return open_pair(args, *pair)
    second = script.open_set(args, args.data)
    if not args.task:
        negative = data.mapped(second, "negative", lambda _, image: 255 - image)
        return data.unpaired(negative, second)
    form = TASKS[args.task]
    degraded = degrade.degraded(form, args.seed)
    return data.unpaired(data.mapped(second, f"{form} of seed {args.seed}", degraded), second)


def open_pair(args: Arguments, a: dict[str, Any], b: dict[str, Any]) -> data.Source:
    """Open two sets as sides of one shape. Raises ConfigError.

    The resolution is that of side a; both are colour if either is. a, b: arguments of
    `script.open_set`
    """
    first = script.open_set(args, **a)
    resolution = first.full_shape[:2]
    second = script.open_set(args, **b, resolution=resolution)
    channels = max(first.shape[2], second.shape[2])
    if first.shape[2] != second.shape[2]:
        grey = "a" if first.shape[2] < channels else "b"
        say(f"side {grey} is grey and becomes colour, as the other; --channels 1 makes both grey")
        if grey == "a":
            first = script.open_set(args, **a, channels=channels)
        else:
            second = script.open_set(args, **b, resolution=resolution, channels=channels)
    return data.unpaired(first, second)


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    return script.run(args, cyclegan, source=sides, named=named)


def named(args: Arguments) -> str:
    """Return the data's SPEC as config.json holds it."""
    return f"{args.data_a} and {args.data_b}" if args.data_a else args.data


def main() -> None:
    """Parse the command line and train."""
    command_line.main(
        "cyclegan", Arguments, run, PRESETS, hint="--preset unet64, or paper on a GPU"
    )
