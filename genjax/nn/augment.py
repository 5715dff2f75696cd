"""Random transformations of the discriminator's inputs, for training on few images.

DiffAugment: Zhao et al. 2020 (arXiv 2006.10738). ADA, "Training Generative Adversarial
Networks with Limited Data": Karras et al. 2020 (arXiv 2006.06676), its pipeline
(section 2 and appendix B) and the controller of its probability (section 3).

Each transformation is a pure function of images [n, h, w, c] in [-1, 1] and parameters,
one per image, differentiable in the images to any order in reverse mode; drawing the
parameters is separate. `diff_augment` and `ada` do both; `augment` dispatches to
either. The discriminator sees only T(x) and T(G(z)), and the generator's gradient flows
through T, so the generator does not learn T. The dtype of the images is preserved;
anything beyond a sum or a product of two values is computed in float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.nn import interpolation, ops
from genjax.shapes import Array, Float

# --- DiffAugment: transformations -----------------------------------------------------


def brightness(
    images: Float[Array, "n h w c"], shift: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Add `shift`, one value per image."""
    return images + _an_image(shift, images)


def saturation(
    images: Float[Array, "n h w c"], factor: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Scale the distance of each pixel from its channel mean m: m + factor (x - m).

    A factor of 0 gives grey. Images of one channel are unchanged.
    """
    if images.shape[3] == 1:
        return images
    mean = jnp.mean(images.astype(jnp.float32), axis=3, keepdims=True).astype(images.dtype)
    return mean + _an_image(factor, images) * (images - mean)


def contrast(
    images: Float[Array, "n h w c"], factor: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Scale the distance of each value from the image's mean m: m + factor (x - m)."""
    # Over one axis: XLA sums over several slowly on a CPU.
    mean = jnp.mean(images.astype(jnp.float32).reshape(images.shape[0], -1), axis=1)
    mean = _an_image(mean, images)
    return mean + _an_image(factor, images) * (images - mean)


@jax.custom_vjp
def translate(
    images: Float[Array, "n h w c"], down: Array, right: Array
) -> Float[Array, "n h w c"]:
    """Shift images by whole pixels, with zeros from outside.

    y[i, j] = x[i - down, j - right]; `down` and `right` are int32 [n], clipped to
    +-`reach(size)` pixels.
    """
    _, height, width, channels = images.shape
    high, wide = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)))

    def window(image, down, right):
        return jax.lax.dynamic_slice(
            image, (high - down, wide - right, 0), (height, width, channels)
        )

    return jax.vmap(window)(padded, down, right)


# The transpose of a shift is the shift back. Autodiff would make it a scatter, which is
# slower and on GPUs sums in any order.
translate.defvjp(
    lambda images, down, right: (translate(images, down, right), (down, right)),
    lambda shifts, g: (translate(g, -shifts[0], -shifts[1]), None, None),
)


def cutout(images: Float[Array, "n h w c"], top: Array, left: Array) -> Float[Array, "n h w c"]:
    """Set to zero a rectangle of h // 2 rows from `top` and w // 2 columns from `left`.

    `top` and `left` are int32 [n]; the rectangle may extend beyond the edges.
    """

    def inside(first, size):
        offset = jnp.arange(size)[None] - first[:, None]
        return (offset >= 0) & (offset < size // 2)

    hole = inside(top, images.shape[1])[:, :, None] & inside(left, images.shape[2])[:, None, :]
    return jnp.where(hole[..., None], jnp.zeros((), images.dtype), images)


def reach(size: int) -> int:
    """Largest shift of a side of `size` pixels: an eighth, rounded."""
    return int(size / 8 + 0.5)


def _an_image(values: Array, images: Array) -> Array:
    """[n] -> [n, 1, 1, 1], in the images' dtype."""
    return values.astype(images.dtype)[:, None, None, None]


# --- DiffAugment: random draws --------------------------------------------------------


def _color(key: Array, images: Array) -> Array:
    shift, saturate, contrasts = jax.random.uniform(key, (3, images.shape[0]))
    images = saturation(brightness(images, shift - 0.5), 2 * saturate)
    return contrast(images, 0.5 + contrasts)


def _translation(key: Array, images: Array) -> Array:
    down, right = (
        jax.random.randint(key, images.shape[:1], -reach(size), reach(size) + 1)
        for key, size in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    return translate(images, down, right)


def _cutout(key: Array, images: Array) -> Array:
    """Cutout with a uniformly drawn centre.

    The centre of a rectangle of even size lies between pixels, so it has one more
    position.
    """
    top, left = (
        jax.random.randint(
            key, images.shape[:1], -(size // 2 // 2), size - (size // 2 + 1) // 2 + 1
        )
        for key, size in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    return cutout(images, top, left)


# Section 4 and appendix: brightness within +-0.5, saturation 0 to 2, contrast 0.5 to
# 1.5; shifts within +-1/8 of the size; a cutout of half the side.
DIFF_AUGMENT: dict[str, Callable[[Array, Array], Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def diff_augment(
    key: Array, images: Float[Array, "n h w c"], policy: tuple[str, ...], p: Array | float = 1.0
) -> Float[Array, "n h w c"]:
    """Apply the transformations named in `policy`, drawn independently per image.

    Differentiable in the images to any order in reverse mode; images do not depend on
    each other; any height, width and number of channels.

    Args:
        key: PRNG key
        images: images in [-1, 1]
        policy: names in DIFF_AUGMENT, applied in this order
        p: probability of each transformation of each image, drawn independently; the
            paper always applies them (1)

    Raises:
        ValueError: `policy` has a name that is not in DIFF_AUGMENT.
    """
    if unknown := [name for name in policy if name not in DIFF_AUGMENT]:
        raise ValueError(f"unknown augmentation {unknown[0]!r}: one of {', '.join(DIFF_AUGMENT)}")
    always = isinstance(p, (int, float)) and p >= 1  # nothing to draw
    chosen = (
        None
        if always
        else _chosen(jax.random.fold_in(key, len(policy)), (len(policy), images.shape[0]), p)
    )
    for index, name in enumerate(policy):
        changed = DIFF_AUGMENT[name](jax.random.fold_in(key, index), images)
        images = changed if chosen is None else _where(chosen[index], changed, images)
    return images


# --- ADA: pixel blitting --------------------------------------------------------------


def flip(images: Float[Array, "n h w c"], flipped: Array) -> Float[Array, "n h w c"]:
    """Mirror left to right where `flipped`, bool [n]."""
    return _where(flipped, images[:, :, ::-1], images)


def turn(images: Float[Array, "n h w c"], quarters: Array) -> Float[Array, "n h w c"]:
    """Rotate counter-clockwise by `quarters` quarter turns, like `numpy.rot90`.

    `quarters` is int32 [n]. The shape is preserved, so images that are not square are
    rotated by 180 degrees only: an odd number of quarter turns is rounded down to an
    even one.
    """
    if images.shape[1] == images.shape[2]:
        images = _where(quarters % 2 == 1, jnp.swapaxes(images, 1, 2)[:, ::-1], images)
    return _where(quarters % 4 >= 2, images[:, ::-1, ::-1], images)


def shift(images: Float[Array, "n h w c"], down: Array, right: Array) -> Float[Array, "n h w c"]:
    """`translate` with reflection at the centres of the edge pixels, not zeros."""
    _, height, width, _ = images.shape
    high, wide = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)), mode="reflect")
    # The zeros that `translate` brings in stay outside the crop.
    moved = translate(padded, jnp.clip(down, -high, high), jnp.clip(right, -wide, wide))
    return moved[:, high : high + height, wide : wide + width]


def blit(
    images: Float[Array, "n h w c"], flipped: Array, quarters: Array, down: Array, right: Array
) -> Float[Array, "n h w c"]:
    """Pixel blitting: `flip`, `turn`, then `shift`. Values only move."""
    return shift(turn(flip(images, flipped), quarters), down, right)


def _where(chosen: Array, images: Array, others: Array) -> Array:
    """Select per image, exactly: `images` where `chosen` [n], else `others`."""
    return jnp.where(chosen[:, None, None, None], images, others)


# --- ADA: geometry --------------------------------------------------------------------

# Low-pass filter of Daubechies' symlet with 6 vanishing moments, of norm 1 (Ten
# Lectures on Wavelets, 1992, table 6.3).
# fmt: off
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)
# fmt: on
# Delay of SYM6 at the lowest frequencies, in taps: pixel i lies at 2 i + CENTRE of the
# image at twice the size. With the first moment a constant slope is sampled without
# error; the middle of the taps, 5.5, would be 0.2 pixels off.
CENTRE = sum(index * tap for index, tap in enumerate(SYM6)) / sum(SYM6)
# Pixels outside the image that the downsampling filter sees; within them, upsampling
# then downsampling is exact.
MARGIN = 3


def scaling(x: Array, y: Array) -> Array:
    """Matrix that scales the plane (x right, y down, 1): [n] each -> [n, 3, 3]."""
    return _matrices([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def rotation(angle: Array) -> Array:
    """Matrix of a rotation from x to y, clockwise on screen: [n] -> [n, 3, 3]."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def translation(x: Array, y: Array) -> Array:
    """Matrix of a translation in pixels: [n] each -> [n, 3, 3]."""
    return _matrices([[1, 0, x], [0, 1, y], [0, 0, 1]])


def resample(
    images: Float[Array, "n h w c"], inverse: Float[Array, "n 3 3"]
) -> Float[Array, "n h w c"]:
    """Affine transformation: y at the point q is x at the point `inverse` (q, 1).

    Points are (right, down) in pixels from the centre of the image. The identity is
    exact.

    Upsamples by 2 with SYM6, samples bilinearly on a grid of twice the size, and
    downsamples with the same filter. Shifts of SYM6 by 2 are orthonormal, so the
    identity and whole shifts lose nothing. Outside, the image is reflected at the
    centres of its edge pixels: the filter sees `MARGIN` + 3 reflected pixels on each
    side, and points further out are reflected back in, at any distance. (The paper pads
    by as much as the matrices need, which would be a size that depends on the draw.)

    The transpose of sampling is a scatter-add: on GPUs it sums in any order unless XLA
    is told to be deterministic (--xla_gpu_deterministic_ops).
    """
    _, height, width, _ = images.shape
    pads = (0, 0), (MARGIN + 3, MARGIN + 3), (MARGIN + 3, MARGIN + 3), (0, 0)
    padded = jnp.pad(images.astype(jnp.float32), pads, mode="reflect")
    # Pixel i is at 2 i + CENTRE + 1 of this array, whose first row and column are at
    # -1.
    large = ops.fir(
        padded, [math.sqrt(2) * tap for tap in SYM6[::-1]], (2 * height + 12, 2 * width + 12), up=2
    )
    rows, columns = source_points((height, width), inverse)
    small = ops.fir(
        interpolation.bilinear(large, rows, columns),
        [tap / math.sqrt(2) for tap in SYM6],
        (height, width),
        down=2,
    )
    return _where(
        jnp.all(inverse == jnp.eye(3)[None], axis=(1, 2)), images, small.astype(images.dtype)
    )


def source_points(
    shape: tuple[int, int], inverse: Float[Array, "n 3 3"]
) -> tuple[Float[Array, "n a b"], Float[Array, "n a b"]]:
    """Rows and columns at which `resample` interpolates its doubled image.

    `shape` is the height and width of the images.
    """
    # Positions 0 .. 2 n + 9 of the output at twice the size, in pixels from its centre:
    # all that the downsampling filter sees, without padding.
    y, x = ((jnp.arange(2 * size + 10) - CENTRE) / 2 - (size - 1) / 2 for size in shape)
    source_x, source_y = (
        (row[:, 0, None] * x[None] + row[:, 2, None])[:, None]
        + (row[:, 1, None] * y[None])[:, :, None]
        for row in (inverse[:, 0], inverse[:, 1])
    )
    rows, columns = (
        2 * _padded_position(point + (size - 1) / 2, size) + CENTRE + 1
        for point, size in zip((source_y, source_x), shape, strict=True)
    )
    return rows, columns


def _padded_position(place: Array, size: int) -> Array:
    """Reflect points more than `MARGIN` pixels outside the image back into it."""
    return jnp.where(
        (place < -MARGIN) | (place > size - 1 + MARGIN), _reflected(place, size), place
    )


def _reflected(place: Any, size: int) -> Any:
    """Reflect a coordinate at the centres of the first and last pixel, repeatedly.

    Takes arrays of NumPy or JAX.
    """
    last = size - 1
    return last - abs(place % (2 * last) - last) if last else 0 * place


def _matrices(entries: list[list[Array | int]]) -> Array:
    """Stack rows of numbers and arrays [n] into matrices [n, rows, columns]."""
    flat = jnp.broadcast_arrays(*(jnp.float32(entry) for row in entries for entry in row))
    return jnp.stack(flat, axis=1).reshape(-1, len(entries), len(entries[0]))


def _product(*matrices: Array) -> Array:
    """Matrix product of [n, k, k] arrays, in the order written (last applied first).

    Products of ones and zeros are exact.
    """
    return functools.reduce(
        lambda a, b: jnp.einsum("nij,njk->nik", a, b, precision="highest"), matrices
    )


# --- ADA: colour ----------------------------------------------------------------------


def shifted_colors(shift: Array) -> Array:
    """Brightness matrix on (red, green, blue, 1), adding `shift`: [n] -> [n, 4, 4]."""
    return _matrices([[1, 0, 0, shift], [0, 1, 0, shift], [0, 0, 1, shift], [0, 0, 0, 1]])


def scaled_colors(factor: Array) -> Array:
    """Contrast matrix: scales each channel about mid-grey. [n] -> [n, 4, 4]."""
    return _matrices([[factor, 0, 0, 0], [0, factor, 0, 0], [0, 0, factor, 0], [0, 0, 0, 1]])


def flipped_luma(flipped: Array) -> Array:
    """Matrix that inverts luma and preserves hue, if `flipped`: [n] -> [n, 4, 4]."""
    off = -2 * flipped / 3
    return _matrices(
        [[1 + off, off, off, 0], [off, 1 + off, off, 0], [off, off, 1 + off, 0], [0, 0, 0, 1]]
    )


def turned_hue(angle: Array) -> Array:
    """Matrix of a rotation by `angle` radians about the luma axis (1, 1, 1) / sqrt 3.

    [n] -> [n, 4, 4], by Rodrigues' formula.
    """
    mean, sin = (1 - jnp.cos(angle)) / 3, jnp.sin(angle) / math.sqrt(3)
    same, after, before = jnp.cos(angle) + mean, mean + sin, mean - sin
    return _matrices(
        [[same, before, after, 0], [after, same, before, 0], [before, after, same, 0], [0, 0, 0, 1]]
    )


def scaled_saturation(factor: Array) -> Array:
    """Matrix that scales the distance from the luma axis (0: grey): [n, 4, 4]."""
    mean = (1 - factor) / 3
    same = factor + mean
    return _matrices(
        [[same, mean, mean, 0], [mean, same, mean, 0], [mean, mean, same, 0], [0, 0, 0, 1]]
    )


def recolor(
    images: Float[Array, "n h w c"], matrix: Float[Array, "n 4 4"]
) -> Float[Array, "n h w c"]:
    """Apply `matrix` to (red, green, blue, 1) of each pixel. The identity is exact.

    1-channel input: transform grey as RGB and average, so hue and saturation have no
    effect and a luma flip is a negative. 4-channel input: the last, alpha, is
    unchanged.

    Raises:
        ValueError: the images do not have 1, 3 or 4 channels.
    """
    channels = images.shape[3]
    if channels not in (1, 3, 4):
        raise ValueError(f"images of {channels} channels: must have 1, 3 or 4 to change colours")
    if channels == 1:  # mean of the rows, of red = green = blue
        mean = jnp.mean(matrix[:, :3], axis=1)
        linear, offset = jnp.sum(mean[:, :3], axis=1)[:, None, None], mean[:, 3, None]
    else:
        linear, offset = matrix[:, :3, :3], matrix[:, :3, 3]
    colors = images[..., :3].astype(jnp.float32)
    # A sum of products rather than an einsum: 3 channels are too few for a matrix unit,
    # whose float32 is also reduced precision on some devices.
    terms = [colors[..., i, None] * linear[:, None, None, :, i] for i in range(colors.shape[3])]
    colors = sum(terms, offset[:, None, None, :]).astype(images.dtype)
    changed = jnp.concatenate([colors, images[..., 3:]], axis=3) if channels == 4 else colors
    return _where(jnp.all(matrix == jnp.eye(4)[None], axis=(1, 2)), images, changed)


# --- ADA: image-space filtering and corruption ----------------------------------------

# Low-pass filter of Daubechies' wavelet with 2 vanishing moments, of norm 1.
SYM2 = tuple((a + b * math.sqrt(3)) / math.sqrt(32) for a, b in ((1, 1), (3, 1), (3, -1), (1, -1)))
# Expected share of a natural image's power, about 1/f, in the bands [0, 1/8], [1/8,
# 1/4], [1/4, 1/2] and [1/2, 1] pi.
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def _tree() -> np.ndarray:
    """Band filters of the wavelet packet tree, [4, 43], lowest band first.

    H(z) H(1/z) / 2 and its mirror H(-z) H(-1/z) / 2 sum to 1, because the wavelet is
    orthonormal: each scale's low band is split at the next.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    lowest, split = np.ones(1), []
    for scale in (1, 2, 4):
        spread = np.zeros((2, 6 * scale + 1))  # z to z^scale
        spread[:, ::scale] = low, low * (-1.0) ** np.arange(-3, 4)
        split.append(np.convolve(lowest, spread[1]))
        lowest = np.convolve(lowest, spread[0])
    return np.stack([np.pad(taps, (43 - len(taps)) // 2) for taps in (lowest, *reversed(split))])


BANDS = _tree()  # [4, 43]: symmetric filters that sum to the identity


@functools.cache
def _band_matrices(size: int) -> np.ndarray:
    """BANDS along a side of `size` with reflected edges: float32 [4, size, size]."""
    matrices, pixels = np.zeros((4, size, size)), np.arange(size)
    for offset in range(-21, 22):
        matrices[:, pixels, _reflected(pixels + offset, size)] += BANDS[:, offset + 21, None]
    return matrices.astype(np.float32)


def amplify(images: Float[Array, "n h w c"], gains: Float[Array, "n 4"]) -> Float[Array, "n h w c"]:
    """Amplify four frequency bands: sum of BANDS times their gains, along both sides.

    Gains of 1 are exact; alpha, if any, is unchanged.

    Filters that differ per image would be a grouped convolution. These are matrix
    products with one matrix [size, size] per image, and so are their gradients: size /
    43 times as many multiplications, in the form that hardware does best. The program
    holds 16 size^2 bytes of BANDS.
    """
    colors = images[..., : 3 if images.shape[3] == 4 else None].astype(jnp.float32)
    vertical, horizontal = (
        jnp.einsum("nb,bij->nij", gains, _band_matrices(size), precision="highest")
        for size in images.shape[1:3]
    )
    colors = jnp.einsum("nij,njwc->niwc", vertical, colors, precision="highest")
    colors = jnp.einsum("nij,nhjc->nhic", horizontal, colors, precision="highest")
    colors = colors.astype(images.dtype)
    changed = jnp.concatenate([colors, images[..., 3:]], axis=3) if images.shape[3] == 4 else colors
    return _where(jnp.all(gains == 1, axis=1), images, changed)


def noise(
    images: Float[Array, "n h w c"], field: Float[Array, "n h w c"], deviation: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Add `deviation` times `field`, which has variance 1.

    A deviation of 0 is exact; alpha, if any, is unchanged.
    """
    changed = images + _an_image(deviation, images) * field.astype(images.dtype)
    if images.shape[3] == 4:
        changed = jnp.concatenate([changed[..., :3], images[..., 3:]], axis=3)
    return _where(deviation == 0, images, changed)


# --- ADA: random draws (appendix B) ---------------------------------------------------
# Each function maps (key, shape of the images, p) to the parameters of one group. Each
# transformation in the group is drawn independently with probability p per image;
# otherwise its parameter is neutral. Numbers are drawn in few calls: each takes seconds
# to compile.


def draw_blit(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array, Array, Array]:
    """Draw a flip, a rotation by 0 to 3 quarter turns and a shift.

    Images that are not square are rotated by 0 or 180 degrees. The shift is at most an
    eighth of the size, rounded to pixels.
    """
    (n, height, width, _), keys = shape, jax.random.split(key)
    flipping, turning, moving = _chosen(keys[0], (3, n), p)
    side, quarter, *places = jax.random.uniform(keys[1], (4, n))
    turns = jnp.floor(4 * quarter) if height == width else 2 * jnp.floor(2 * quarter)
    down, right = (
        jnp.floor(jnp.where(moving, place - 0.5, 0.0) / 4 * size + 0.5).astype(jnp.int32)
        for place, size in zip(places, (height, width), strict=True)
    )
    return flipping & (side < 0.5), jnp.where(turning, turns, 0).astype(jnp.int32), down, right


def draw_geometry(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array]:
    """Draw the inverse of an affine transformation.

    Isotropic scaling, rotation, anisotropic scaling, rotation, translation.
    """
    (n, height, width, _), keys = shape, jax.random.split(key, 3)
    # With this probability for each rotation, at least one is drawn with probability p.
    either = 1 - jnp.sqrt(1 - p)
    chosen = _chosen(keys[0], (5, n), jnp.stack([p, either, p, either, p])[:, None])
    first, second = jax.random.uniform(keys[1], (2, n), minval=-jnp.pi, maxval=jnp.pi)
    scale, stretch, right, down = jax.random.normal(keys[2], (4, n))
    scale = jnp.where(chosen[0], jnp.exp2(-0.2 * scale), 1.0)
    stretch = jnp.where(chosen[2], jnp.exp2(-0.2 * stretch), 1.0)
    inverse = _product(
        scaling(scale, scale),
        rotation(jnp.where(chosen[1], first, 0.0)),
        scaling(stretch, 1 / stretch),
        rotation(jnp.where(chosen[3], second, 0.0)),
        translation(
            jnp.where(chosen[4], right * width / 8, 0.0),
            jnp.where(chosen[4], down * height / 8, 0.0),
        ),
    )
    return (_if_any(chosen, inverse),)


def draw_color(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array]:
    """Draw brightness, contrast, luma flip, hue and saturation, in that order.

    They are multiplied into one matrix.
    """
    n, keys = shape[0], jax.random.split(key, 3)
    chosen = _chosen(keys[0], (5, n), p)
    shift, contrasts, saturates = jax.random.normal(keys[1], (3, n))
    side, angle = jax.random.uniform(keys[2], (2, n))
    matrix = _product(
        scaled_saturation(jnp.where(chosen[4], jnp.exp2(saturates), 1.0)),
        turned_hue(jnp.where(chosen[3], 2 * jnp.pi * angle, 0.0)),
        flipped_luma(jnp.where(chosen[2] & (side < 0.5), 1.0, 0.0)),
        scaled_colors(jnp.where(chosen[1], jnp.exp2(0.5 * contrasts), 1.0)),
        shifted_colors(jnp.where(chosen[0], 0.2 * shift, 0.0)),
    )
    return (_if_any(chosen, matrix),)


def draw_gains(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array]:
    """Draw a gain per band.

    All four are then divided so as to preserve the expected power of a natural image.
    """
    keys = jax.random.split(key)
    chosen = _chosen(keys[0], (shape[0], 4), p)
    gain = jnp.where(chosen, jnp.exp2(jax.random.normal(keys[1], (shape[0], 4))), 1.0)
    # Expected power if only this band is amplified.
    power = 1 + jnp.array(POWER)[None] * (jnp.square(gain) - 1)
    gains = gain / jnp.sqrt(jnp.prod(power, axis=1, keepdims=True))
    return (jnp.where(jnp.any(chosen, axis=1, keepdims=True), gains, 1.0),)


def draw_noise(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array]:
    """Draw a noise field, and its deviation from a half-normal law of scale 0.1."""
    keys = jax.random.split(key, 3)
    deviation = 0.1 * jnp.abs(jax.random.normal(keys[1], shape[:1]))
    return jax.random.normal(keys[2], shape), jnp.where(
        _chosen(keys[0], shape[:1], p), deviation, 0.0
    )


def draw_cutout(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array]:
    """Draw a centre anywhere in the image; outside it for images not chosen."""
    (n, *sizes), keys = shape[:3], jax.random.split(key)
    chosen, centre = _chosen(keys[0], (n,), p), jax.random.uniform(keys[1], (2, n))
    top, left = (
        jnp.where(chosen, jnp.floor(place * size - size // 2 / 2 + 0.5), size).astype(jnp.int32)
        for place, size in zip(centre, sizes, strict=True)
    )
    return top, left


def _chosen(key: Array, shape: tuple[int, ...], p: Array | float) -> Array:
    """Bernoulli draws with probability p: never true at 0, always at 1."""
    return jax.random.uniform(key, shape) < p


def _if_any(chosen: Array, matrices: Array) -> Array:
    """Select `matrices` where any of `chosen` [draws, n], else the exact identity.

    The backend may round a cosine of 0.
    """
    return jnp.where(
        jnp.any(chosen, axis=0)[:, None, None], matrices, jnp.eye(matrices.shape[1])[None]
    )


Draw = Callable[[Array, tuple[int, ...], Array], tuple[Array, ...]]
# In the order of application: the function that draws parameters, and the one that
# applies them.
GROUPS: dict[str, tuple[Draw, Callable[..., Array]]] = {
    "blit": (draw_blit, blit),
    "geom": (draw_geometry, resample),
    "color": (draw_color, recolor),
    "filter": (draw_gains, amplify),
    "noise": (draw_noise, noise),
    "cutout": (draw_cutout, cutout),
}
# Each group alone, and the first 2, 3, ... groups together: the cases of section 2.3.
PRESETS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in GROUPS},
    **{
        initials: tuple(GROUPS)[: len(initials)]
        for initials in ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc")
    },
}


def ada(
    key: Array, images: Float[Array, "n h w c"], p: Array | float, groups: tuple[str, ...]
) -> Float[Array, "n h w c"]:
    """Apply ADA's transformations of `groups`, each to each image with probability p.

    The order is the paper's. p = 0 returns the images bit for bit. Any height and
    width; images do not depend on each other. The paper merges pixel blitting and
    geometry into one matrix; here blitting moves pixels first, exactly and unfiltered.

    Args:
        key: PRNG key
        images: images in [-1, 1] of 1, 3 or 4 channels; the fourth, alpha, is moved and
            cut out but not changed otherwise
        p: probability in [0, 1]; may be traced
        groups: names in GROUPS; static

    Raises:
        ValueError: `groups` has a name that is not in GROUPS.
    """
    if unknown := [name for name in groups if name not in GROUPS]:
        raise ValueError(
            f"unknown group {unknown[0]!r} of augmentations: one of {', '.join(GROUPS)}"
        )
    changed = images.astype(jnp.float32)
    for index, (name, (draw, apply)) in enumerate(GROUPS.items()):
        if name in groups:
            changed = apply(
                changed, *draw(jax.random.fold_in(key, index), images.shape, jnp.float32(p))
            )
    return changed.astype(images.dtype)


def augment(
    key: Array,
    images: Float[Array, "n h w c"],
    policy: str | tuple[str, ...],
    p: Array | float = 1.0,
) -> Float[Array, "n h w c"]:
    """Augment by ADA if `policy` is a string, by DiffAugment if it is a tuple.

    Args:
        key: PRNG key
        images: images in [-1, 1]
        policy: a name in PRESETS (ADA), or names in DIFF_AUGMENT; "color" is in both
        p: probability of each transformation of each image; at 1, the papers'
            DiffAugment, or all that ADA has

    Raises:
        ValueError: a name is unknown.
    """
    if isinstance(policy, str):
        if policy not in PRESETS:
            raise ValueError(
                f"unknown preset {policy!r} of augmentations: one of {', '.join(PRESETS)}"
            )
        return ada(key, images, p, PRESETS[policy])
    return diff_augment(key, images, policy, p)


# --- ADA: controller of p (section 3.1) -----------------------------------------------


def controller_start(p: float = 0.0) -> dict[str, Array]:
    """Initial state of `controller_update`.

    p in [0, 1], the sum of sign(D(real)) since p last changed, and the number of those
    signs.
    """
    return {"p": jnp.float32(p), "signs": jnp.float32(0), "seen": jnp.float32(0)}


def controller_update(
    carried: dict[str, Array],
    signs_real: Float[Array, "*shape"],
    step: Array | int,
    *,
    batch_size: int,
    target: float = 0.6,
    interval: int = 4,
    speed_kimg: float = 500.0,
) -> dict[str, Array]:
    """Update the ADA state after one step, from sign(D(x)) of augmented real images.

    After each `interval` steps p changes by a fixed amount: up if r_t = E[sign D(real)]
    over the steps since (equation 1), a measure of the discriminator's overfitting, is
    above `target`, down if below.

    Args:
        carried: state, from `controller_start` or the previous update
        signs_real: signs of the discriminator's logits of this step
        step: number of this step, from 0
        batch_size: number of real images per step
        target: target of r_t
        interval: number of steps between changes of p
        speed_kimg: thousands of images in which p can go from 0 to 1
    """
    signs = carried["signs"] + jnp.sum(signs_real.astype(jnp.float32))
    seen = carried["seen"] + signs_real.size
    move = jnp.sign(signs / seen - target) * (batch_size * interval / (speed_kimg * 1000))
    moved = {
        "p": jnp.clip(carried["p"] + move, 0, 1),
        "signs": jnp.zeros_like(signs),
        "seen": jnp.zeros_like(seen),
    }
    due = (jnp.asarray(step) + 1) % interval == 0
    return jax.tree.map(
        lambda new, old: jnp.where(due, new, old),
        moved,
        {"p": carried["p"], "signs": signs, "seen": seen},
    )
