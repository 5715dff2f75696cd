"""Train a StyleGAN2.

python train/stylegan2.py
    the embedded digits at 16x16, small enough for a CPU
python train/stylegan2.py --preset tiny --data cats.zip --resolution 64 --flip
    images, as small
python train/stylegan2.py --preset auto --data images/ --resolution 256 --dtype bfloat16
    settings by resolution and batch size, on a GPU
python train/stylegan2.py --preset cifar --data tfds:cifar10 --flip
"""

import dataclasses

from genjax.models import stylegan2
from genjax.models.stylegan2 import Config
from genjax.training import command_line, script
from genjax.training.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Train a StyleGAN2."""

    # settings that go together; other options change them. tiny | auto | cifar |
    # paper256 | paper512 | paper1024 | stylegan2-f
    preset: str = ""
    steps: int = 2000  # optimizer steps of each network in all
    batch_size: int = 16  # images per step, over all devices
    model: Config = Config()


# Small networks, a slow average for few steps. Digits need a quarter of its channels,
# no augmentation, and R1 against collapse.
TINY = Config(
    augment="bgc",
    z_dim=128,
    w_dim=128,
    mapping_layers=2,
    channel_base=2048,
    channel_max=128,
    r1_gamma=1.0,
    learning_rate=2.5e-3,
)
DIGITS = dataclasses.replace(
    TINY, augment="", z_dim=64, w_dim=64, channel_base=512, channel_max=64, r1_gamma=10.0
)

# The settings of Karras et al. 2020b (arXiv 2006.06676), tables of appendix C, and
# stylegan2-f, config F of Karras et al. 2020 (arXiv 1912.04958).
NO_RAMP = 1e9  # of the average's half-life
PAPER = Config(
    augment="bgc",
    learning_rate=2.5e-3,
    mbstd_group_size=8,
    ema_half_life_images=20_000,
    ema_ramp=NO_RAMP,
)
PAPER256 = dataclasses.replace(PAPER, channel_base=16384, r1_gamma=1.0)
PAPER512 = dataclasses.replace(PAPER, r1_gamma=0.5)
PAPER1024 = Config(augment="bgc", r1_gamma=2.0, ema_ramp=NO_RAMP)
CIFAR = Config(
    augment="bgc",
    mapping_layers=2,
    disc_network="orig",
    mbstd_group_size=32,
    learning_rate=2.5e-3,
    r1_gamma=0.01,
    pl_weight=0.0,
    style_mixing_prob=0.0,
    ema_half_life_images=500_000,
)

# Where a field has AUTO's value, `automatic` decides.
AUTO = Config(
    augment="bgc",
    mapping_layers=2,
    channel_base=0,
    learning_rate=0.0,
    r1_gamma=-1.0,
    ema_half_life_images=-1.0,
)
LONG = Arguments(batch_size=32, steps=780_000, save_every=5000)
WIDE = dataclasses.replace(LONG, batch_size=64, steps=390_000)
PRESETS = {
    "": Arguments(resolution=(16,), model=DIGITS),
    "tiny": Arguments(resolution=(64,), steps=20_000, model=TINY),
    "auto": dataclasses.replace(LONG, model=AUTO),
    "cifar": dataclasses.replace(LONG, batch_size=64, steps=1_560_000, model=CIFAR),
    "paper256": dataclasses.replace(WIDE, resolution=(256,), model=PAPER256),
    "paper512": dataclasses.replace(WIDE, resolution=(512,), model=PAPER512),
    "paper1024": dataclasses.replace(LONG, resolution=(1024,), model=PAPER1024),
    "stylegan2-f": dataclasses.replace(LONG, resolution=(1024,), model=Config(ema_ramp=NO_RAMP)),
}
PRESETS = {name: dataclasses.replace(args, preset=name) for name, args in PRESETS.items()}


def automatic(config: Config) -> Config:
    """Fill in what AUTO leaves open from the resolution and the batch size.

    Karras et al. 2020b, appendix C.
    """
    pixels = config.shape[0] * config.shape[1]
    batch = max(config.batch_size, 1)  # a smaller one is refused by stylegan2.check
    values = {
        "channel_base": 32768 if pixels >= 512**2 else 16384,
        "learning_rate": 2e-3 if pixels >= 1024**2 else 2.5e-3,
        "r1_gamma": 2e-4 * pixels / batch,
        "ema_half_life_images": batch * 10_000 / 32,
    }
    opened = {name for name in values if getattr(config, name) == getattr(AUTO, name)}
    return dataclasses.replace(config, **{name: values[name] for name in opened})


def run(args: Arguments) -> int:
    """Train with these arguments; return the exit code."""
    return script.run(args, stylegan2, complete=automatic)


def main() -> None:
    """Parse the command line and train."""
    command_line.main("stylegan2", Arguments, run, PRESETS, hint="--preset tiny, or auto on a GPU")
