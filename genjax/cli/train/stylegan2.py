"""Train a StyleGAN2.

python train/stylegan2.py                                                       the embedded digits at 16x16, small enough for a CPU
python train/stylegan2.py --preset tiny --data cats.zip --resolution 64 --flip  pictures, as small
python train/stylegan2.py --preset auto --data pictures/ --resolution 256 --dtype bfloat16     settings by resolution and batch, on a GPU
python train/stylegan2.py --preset cifar --data tfds:cifar10 --flip
"""

import dataclasses

from genjax.models import stylegan2
from genjax.models.stylegan2 import Config
from genjax.training import script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(script.Options):
    """Train a StyleGAN2."""

    preset: str = ""  # tiny | auto | cifar | paper256 | paper512 | paper1024 | stylegan2-f: settings that go together; other options change them
    steps: int = 2000  # optimizer steps of each network in all
    batch_size: int = 16  # images a step, over all devices
    model: Config = Config()


# Small networks, a slow average for few steps. Digits need a quarter of its features, no augmentation, and an R1 against collapse.
TINY = Config(
    augment="bgc",
    latent_size=128,
    style_size=128,
    mapping_layers=2,
    channels=2048,
    max_channels=128,
    r1=1.0,
    learning_rate=2.5e-3,
)
DIGITS = dataclasses.replace(
    TINY, augment="", latent_size=64, style_size=64, channels=512, max_channels=64, r1=10.0
)

# The settings of Karras et al. 2020b (arXiv 2006.06676), tables of appendix C, and stylegan2-f, config F of 2020 (arXiv 1912.04958).
NO_RAMP = 1e9  # of the average's half-life
PAPER = Config(
    augment="bgc", learning_rate=2.5e-3, group_size=8, ema_half_life_images=20_000, ema_ramp=NO_RAMP
)
PAPER256 = dataclasses.replace(PAPER, channels=16384, r1=1.0)
PAPER512 = dataclasses.replace(PAPER, r1=0.5)
PAPER1024 = Config(augment="bgc", r1=2.0, ema_ramp=NO_RAMP)
CIFAR = Config(
    augment="bgc",
    mapping_layers=2,
    disc_network="orig",
    group_size=32,
    learning_rate=2.5e-3,
    r1=0.01,
    path_weight=0.0,
    style_mixing=0.0,
    ema_half_life_images=500_000,
)

# Where this is left, `automatic` decides.
AUTO = Config(
    augment="bgc",
    mapping_layers=2,
    channels=0,
    learning_rate=0.0,
    r1=-1.0,
    ema_half_life_images=-1.0,
)
LONG = Arguments(batch_size=32, steps=780_000, save_every=5000)
PRESETS = {
    "": Arguments(resolution=(16,), model=DIGITS),
    "tiny": Arguments(preset="tiny", resolution=(64,), steps=20_000, model=TINY),
    "auto": dataclasses.replace(LONG, preset="auto", model=AUTO),
    "cifar": Arguments(
        preset="cifar", batch_size=64, steps=1_560_000, save_every=5000, model=CIFAR
    ),
    "paper256": Arguments(
        preset="paper256",
        resolution=(256,),
        batch_size=64,
        steps=390_000,
        save_every=5000,
        model=PAPER256,
    ),
    "paper512": Arguments(
        preset="paper512",
        resolution=(512,),
        batch_size=64,
        steps=390_000,
        save_every=5000,
        model=PAPER512,
    ),
    "paper1024": dataclasses.replace(LONG, preset="paper1024", resolution=(1024,), model=PAPER1024),
    "stylegan2-f": dataclasses.replace(
        LONG, preset="stylegan2-f", resolution=(1024,), model=Config(ema_ramp=NO_RAMP)
    ),
}


def automatic(config: Config) -> Config:
    """A Config with what its sides and batch size decide in place of what AUTO leaves open. Karras et al. 2020b, appendix C."""
    pixels, batch = (
        config.shape[0] * config.shape[1],
        max(config.batch_size, 1),
    )  # less is stylegan2.check's to refuse
    said = {
        "channels": 32768 if pixels >= 512**2 else 16384,
        "learning_rate": 2e-3 if pixels >= 1024**2 else 2.5e-3,
        "r1": 2e-4 * pixels / batch,
        "ema_half_life_images": batch * 10_000 / 32,
    }
    left = {field for field in said if getattr(config, field) == getattr(AUTO, field)}
    return dataclasses.replace(config, **{field: said[field] for field in left})


def run(args: Arguments) -> int:
    early = dataclasses.replace(
        args.model, conditional=False, batch_size=args.batch_size, dtype=args.dtype
    )
    stylegan2.check(automatic(early))  # before the data are read
    source = script.load_data(args)
    config = automatic(script.configured(args.model, source, args))
    return script.train("stylegan2", stylegan2.recipe(config), config, source, args)


def main() -> None:
    """Parse the command line and train."""
    script.main(Arguments, run, PRESETS, larger="--preset tiny, or auto on a GPU")
