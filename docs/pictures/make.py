"""Draw the README's pictures from trained runs.

    python docs/pictures/make.py RUNS [--out docs/pictures] [--only NAME]

RUNS has the run folders dcgan, stylegan2, vae, gan and cyclegan; README.md beside this
file has the commands that train them. Sheets have the samples of 32 consecutive seeds,
the interpolation frames between seeds, the translation darkened images above what the
CycleGAN makes of them.
"""

import argparse
import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

import genjax
from genjax import data, sampling
from genjax.edit import degrade

COLUMNS, ROWS = 8, 4
LARGEST = 200_000  # bytes per picture
SHEETS = {  # run: first seed, truncation (1 where the model has none)
    "dcgan": (100, 0.9),
    "stylegan2": (0, 0.8),
    "vae": (0, 1.0),
    "gan": (0, 1.0),
}
STOPS = (6, 16, 24, 31, 6)  # seeds of the interpolation


def sheet(images: np.ndarray, columns: int, scale: int, gap: int = 4) -> np.ndarray:
    """Arrange uint8 images [n, h, w, c] in rows, each pixel enlarged to a square.

    Returns uint8 [height, width, c], with a white gap between images.
    """
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    picture = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        picture[top : top + height, left : left + width] = image
    return picture


def write(picture: np.ndarray, path: Path) -> None:
    """Write a WebP of at most `LARGEST` bytes: lossless, or of the best quality that fits."""
    image = Image.fromarray(picture.squeeze())
    for options in ({"lossless": True}, *({"quality": quality} for quality in range(95, 30, -5))):
        encoded = io.BytesIO()
        image.save(encoded, "WEBP", method=6, **options)
        if encoded.tell() <= LARGEST:
            break
    path.write_bytes(encoded.getvalue())
    print(f"{path}: {image.width}x{image.height}, {encoded.tell():,} bytes")


def samples(run: Path, first: int, truncation: float) -> np.ndarray:
    """Return uint8 images [32, h, w, c] of consecutive seeds, not selected."""
    model, weights = genjax.load(run)
    z = sampling.of_seeds(range(first, first + COLUMNS * ROWS), model.sampler.z_dim)
    if model.sampler.num_styles:  # noise has not become detail in so short a training
        styles = model.mapping(weights, z, None, truncation)
        return np.asarray(genjax.to_uint8(model.synthesis(weights, styles, noise="none")))
    return np.asarray(genjax.to_uint8(model.sampler.draw(weights, z, None, truncation)))


def interpolation(run: Path, between: int = 3, truncation: float = 0.8) -> np.ndarray:
    """Return uint8 images of a StyleGAN2, from w to w of `STOPS`.

    With this many frames between two seeds.
    """
    model, weights = genjax.load(run)
    z = sampling.of_seeds(STOPS, model.sampler.z_dim)
    styles = model.mapping(weights, z, None, truncation)
    at = jnp.linspace(0, len(STOPS) - 1, (len(STOPS) - 1) * (between + 1) + 1)
    start = jnp.minimum(at.astype(int), len(STOPS) - 2)
    share = (at - start)[:, None, None]
    between_styles = (1 - share) * styles[start] + share * styles[start + 1]
    return np.asarray(genjax.to_uint8(model.synthesis(weights, between_styles, noise="none")))


def translation(run: Path, spec: str) -> np.ndarray:
    """Return uint8 images [2 n, h, w, 3]: n darkened images, then their translations."""
    model, weights = genjax.load(run)
    source = data.load(spec, resolution=64, channels=3)
    darken = degrade.degraded("lowlight", 0)
    chosen = range(5, source.size, source.size // COLUMNS)[:COLUMNS]
    dark = np.stack([darken(index, source.read(index)["images"]) for index in chosen])
    bright = model.translate(weights, jnp.asarray(dark) / 127.5 - 1, "a2b")
    return np.concatenate([dark, np.asarray(genjax.to_uint8(bright))])


def main() -> None:
    """Draw the pictures of all runs."""
    parser = argparse.ArgumentParser(description="Draw the README's pictures from trained runs.")
    parser.add_argument("runs", type=Path, help="folder of the run folders")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    parser.add_argument("--data", default="digits", help="images for the translation")
    parser.add_argument("--only", nargs="+", help="names of pictures; default: all")
    args = parser.parse_args()

    def wanted(name: str) -> bool:
        return not args.only or name in args.only

    for name, (first, truncation) in SHEETS.items():
        if wanted(name):
            images = samples(args.runs / name, first, truncation)
            picture = sheet(images, COLUMNS, scale=max(1, 64 // images.shape[1]))
            write(picture, args.out / f"{name}.webp")
    if wanted("interpolation"):
        images = interpolation(args.runs / "stylegan2")
        write(sheet(images, len(images), scale=2, gap=2), args.out / "interpolation.webp")
    if wanted("translation"):
        images = translation(args.runs / "cyclegan", args.data)
        write(sheet(images, COLUMNS, scale=2), args.out / "translation.webp")


if __name__ == "__main__":
    main()
