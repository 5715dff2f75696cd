"""Random transformations of what a discriminator sees, real and generated alike, so that few images do for training it.

DiffAugment: Zhao et al. 2020 (arXiv 2006.10738). ADA, "Training Generative Adversarial Networks with Limited Data": Karras et al. 2020
(arXiv 2006.06676), its pipeline (section 2 and appendix B) and the controller of its probability (section 3).

Each transformation is a pure function of images [n, h, w, c] in [-1, 1] and parameters, one an image, differentiable in the images any
number of times in reverse mode; what draws the parameters is apart from it. `diff_augment` and `ada` do both, `augment` is either. The
discriminator is only ever shown T(x) and T(G(z)), and the generator's gradient flows through T, so that a generator does not learn T.
The images' dtype is kept; what is more than a sum or a product of two values is computed in float32.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from genjax.nn import ops
from genjax.shapes import Array, Float

# --- DiffAugment's transformations -------------------------------------------------------------------------------------------------


def brightness(
    images: Float[Array, "n h w c"], shift: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """x + shift."""
    return images + _an_image(shift, images)


def saturation(
    images: Float[Array, "n h w c"], factor: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Each pixel's channels moved to (0: grey) or from their mean: m + factor (x - m). One channel is its own mean: nothing changes."""
    if images.shape[3] == 1:
        return images
    mean = jnp.mean(images.astype(jnp.float32), axis=3, keepdims=True).astype(images.dtype)
    return mean + _an_image(factor, images) * (images - mean)


def contrast(
    images: Float[Array, "n h w c"], factor: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """Each image's values moved to or from their mean: m + factor (x - m)."""
    mean = jnp.mean(
        images.astype(jnp.float32).reshape(images.shape[0], -1), axis=1
    )  # one axis: XLA sums several slowly on a CPU
    mean = _an_image(mean, images)
    return mean + _an_image(factor, images) * (images - mean)


@jax.custom_vjp
def translate(
    images: Float[Array, "n h w c"], down: Array, right: Array
) -> Float[Array, "n h w c"]:
    """y[i, j] = x[i - down, j - right], zeros from outside; int32 [n] each, of at most `reach` pixels either way (beyond, as `reach`)."""
    _, height, width, channels = images.shape
    high, wide = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)))

    def window(image, down, right):
        return jax.lax.dynamic_slice(
            image, (high - down, wide - right, 0), (height, width, channels)
        )

    return jax.vmap(window)(padded, down, right)


# The transpose of a shift is the shift back. Autodiff knows only that it is a scatter, which is slower and on GPUs sums in any order.
translate.defvjp(
    lambda images, down, right: (translate(images, down, right), (down, right)),
    lambda shifts, g: (translate(g, -shifts[0], -shifts[1]), None, None),
)


def cutout(images: Float[Array, "n h w c"], top: Array, left: Array) -> Float[Array, "n h w c"]:
    """Zeros in the rectangle of h // 2 rows from `top` and w // 2 columns from `left`, int32 [n] each; it may reach over the edge."""

    def inside(first, size):
        offset = jnp.arange(size)[None] - first[:, None]
        return (offset >= 0) & (offset < size // 2)

    hole = inside(top, images.shape[1])[:, :, None] & inside(left, images.shape[2])[:, None, :]
    return jnp.where(hole[..., None], jnp.zeros((), images.dtype), images)


def reach(size: int) -> int:
    """The most pixels by which a side of `size` is shifted: an eighth, rounded."""
    return int(size / 8 + 0.5)


def _an_image(values: Array, images: Array) -> Array:
    """[n] -> [n, 1, 1, 1], of the images' dtype."""
    return values.astype(images.dtype)[:, None, None, None]


# --- drawn, as Zhao et al. do --------------------------------------------------------------------------------------------


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
    """The rectangle's centre is uniform over the image: even ones lie between pixels, and so have one place more."""
    top, left = (
        jax.random.randint(
            key, images.shape[:1], -(size // 2 // 2), size - (size // 2 + 1) // 2 + 1
        )
        for key, size in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    return cutout(images, top, left)


# Section 4 and appendix: brightness within +-0.5, saturation 0 to 2, contrast 0.5 to 1.5; shifts within +-1/8; a hole of half the side.
DIFF_AUGMENT: dict[str, Callable[[Array, Array], Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def diff_augment(
    key: Array, images: Float[Array, "n h w c"], policy: tuple[str, ...], p: Array | float = 1.0
) -> Float[Array, "n h w c"]:
    """The transformations that `policy` names (in DIFF_AUGMENT), in its order, drawn for each image. ValueError on another name.

    The paper always applies them; with p, each to each image with that probability, apart from the others.

    Differentiable in the images, in reverse mode, any number of times; no image depends on another. Any height, width and channels.
    """
    if unknown := [name for name in policy if name not in DIFF_AUGMENT]:
        raise ValueError(f"unknown augmentation {unknown[0]!r}: one of {', '.join(DIFF_AUGMENT)}")
    always = isinstance(p, (int, float)) and p >= 1  # nothing to draw, then
    chosen = (
        None
        if always
        else _chosen(jax.random.fold_in(key, len(policy)), (len(policy), images.shape[0]), p)
    )
    for index, name in enumerate(policy):
        changed = DIFF_AUGMENT[name](jax.random.fold_in(key, index), images)
        images = changed if chosen is None else _where(chosen[index], changed, images)
    return images


# --- ADA's transformations: pixel blitting -------------------------------------------------------------------------------


def flip(images: Float[Array, "n h w c"], flipped: Array) -> Float[Array, "n h w c"]:
    """Mirrored left to right where `flipped`, bool [n]."""
    return _where(flipped, images[:, :, ::-1], images)


def turn(images: Float[Array, "n h w c"], quarters: Array) -> Float[Array, "n h w c"]:
    """Turned counter-clockwise by `quarters`, int32 [n], of a circle: `numpy.rot90`.

    The size is kept, so images that are not square turn by half circles alone: an odd number of quarters counts as one less.
    """
    if images.shape[1] == images.shape[2]:
        images = _where(quarters % 2 == 1, jnp.swapaxes(images, 1, 2)[:, ::-1], images)
    return _where(quarters % 4 >= 2, images[:, ::-1, ::-1], images)


def shift(images: Float[Array, "n h w c"], down: Array, right: Array) -> Float[Array, "n h w c"]:
    """`translate`, but what comes in from outside is the image reflected at the centres of its edge pixels."""
    _, height, width, _ = images.shape
    high, wide = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)), mode="reflect")
    moved = translate(
        padded, jnp.clip(down, -high, high), jnp.clip(right, -wide, wide)
    )  # its zeros stay out of the middle
    return moved[:, high : high + height, wide : wide + width]


def blit(
    images: Float[Array, "n h w c"], flipped: Array, quarters: Array, down: Array, right: Array
) -> Float[Array, "n h w c"]:
    """Pixels moved and not changed: `flip`, `turn`, `shift`."""
    return shift(turn(flip(images, flipped), quarters), down, right)


def _where(chosen: Array, images: Array, others: Array) -> Array:
    """[n], and images [n, h, w, c] twice: of each image the first where `chosen`, bit by bit."""
    return jnp.where(chosen[:, None, None, None], images, others)


# --- ADA's transformations: geometry -------------------------------------------------------------------------------------

# Daubechies' symlet of 6 vanishing moments, the low pass (Ten Lectures on Wavelets, 1992, table 6.3), of norm 1.
# fmt: off
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466, 0.787641141030194,
    0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)
# fmt: on
# The delay of SYM6 for the lowest frequencies, in its taps: pixel i lies at 2 i + CENTRE of the image at twice the size. With the first
# moment a plane of constant slope is sampled without error; the middle of the taps, 5.5, would be 0.2 pixels beside it.
CENTRE = sum(index * tap for index, tap in enumerate(SYM6)) / sum(SYM6)
MARGIN = 3  # pixels outside the image that the filter on the way back sees: as far as this, the way up and back is exact


def scaling(x: Array, y: Array) -> Array:
    """[n] each -> [n, 3, 3]: the plane (x to the right, y down, 1) scaled."""
    return _matrices([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def rotation(angle: Array) -> Array:
    """[n] in radians -> [n, 3, 3]: x towards y, which is clockwise as images are shown."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def translation(x: Array, y: Array) -> Array:
    """[n] each, in pixels -> [n, 3, 3]."""
    return _matrices([[1, 0, x], [0, 1, y], [0, 0, 1]])


def resample(
    images: Float[Array, "n h w c"], inverse: Float[Array, "n 3 3"]
) -> Float[Array, "n h w c"]:
    """y at the point q shows x at `inverse` (q, 1): affine, points (right, down) in pixels from the image's middle. The identity is exact.

    To twice the size by SYM6, sampled there linearly between 2x2 values onto a grid of twice the size, and back by the same filter, whose
    shifts by 2 are orthonormal: what no matrix moves comes back. Outside, the image is reflected at the centres of its edge pixels: the
    filter sees `MARGIN` + 3 reflected pixels on each side, and points further out are reflected back in, however far they are. (The paper
    pads by as much as the matrices need; that would be a size that depends on what is drawn.)

    The transpose of sampling is a scatter that adds: on GPUs it sums in any order unless XLA is told to be deterministic
    (--xla_gpu_deterministic_ops).
    """
    _, height, width, _ = images.shape
    pads = (0, 0), (MARGIN + 3, MARGIN + 3), (MARGIN + 3, MARGIN + 3), (0, 0)
    padded = jnp.pad(images.astype(jnp.float32), pads, mode="reflect")
    # The pixel i is at 2 i + CENTRE + 1 of this: its first row and column are the place -1.
    large = ops.fir(
        padded, [math.sqrt(2) * tap for tap in SYM6[::-1]], (2 * height + 12, 2 * width + 12), up=2
    )
    # The places 0 .. 2 n + 9 of the output, as pixels from its middle: all that the filter on the way back sees, with no padding.
    y, x = ((jnp.arange(2 * size + 10) - CENTRE) / 2 - (size - 1) / 2 for size in (height, width))
    across, along = (
        (line[:, 0, None] * x[None] + line[:, 2, None])[:, None]
        + (line[:, 1, None] * y[None])[:, :, None]
        for line in (inverse[:, 0], inverse[:, 1])
    )
    rows, columns = (
        2 * _seen(place + (size - 1) / 2, size) + CENTRE + 1
        for place, size in ((along, height), (across, width))
    )
    small = ops.fir(
        bilinear(large, rows, columns),
        [tap / math.sqrt(2) for tap in SYM6],
        (height, width),
        down=2,
    )
    return _where(
        jnp.all(inverse == jnp.eye(3)[None], axis=(1, 2)), images, small.astype(images.dtype)
    )


def bilinear(
    images: Float[Array, "n h w c"], rows: Float[Array, "n a b"], columns: Float[Array, "n a b"]
) -> Float[Array, "n a b c"]:
    """Values between the centres of the 2x2 pixels around each place; images of 2x2 at least. Beyond the edge they go on linearly."""
    _, height, width, channels = images.shape
    row, column = (
        jnp.clip(jnp.floor(place), 0, size - 2).astype(jnp.int32)
        for place, size in ((rows, height), (columns, width))
    )
    below, beside = (
        (rows - row)[..., None].astype(images.dtype),
        (columns - column)[..., None].astype(images.dtype),
    )
    flat, first = images.reshape(len(images), height * width, channels), row * width + column
    take = jax.vmap(
        lambda pixels, index: jnp.take(pixels, index, axis=0, mode="clip")
    )  # clipped: there is no place outside
    above = (1 - beside) * take(flat, first) + beside * take(flat, first + 1)
    return (1 - below) * above + below * (
        (1 - beside) * take(flat, first + width) + beside * take(flat, first + width + 1)
    )


def _seen(place: Array, size: int) -> Array:
    """Where in the padded image: the same up to `MARGIN` pixels outside, reflected back in beyond."""
    return jnp.where(
        (place < -MARGIN) | (place > size - 1 + MARGIN), _reflected(place, size), place
    )


def _reflected(place, size: int):
    """Along a side of `size` pixels, reflected at the centres of the first and the last as often as it takes. NumPy's arrays or JAX's."""
    last = size - 1
    return last - abs(place % (2 * last) - last) if last else 0 * place


def _matrices(entries: list[list[Array | int]]) -> Array:
    """Rows of numbers and of arrays [n] -> [n, rows, columns]."""
    flat = jnp.broadcast_arrays(*(jnp.float32(entry) for row in entries for entry in row))
    return jnp.stack(flat, axis=1).reshape(-1, len(entries), len(entries[0]))


def _product(*matrices: Array) -> Array:
    """[n, k, k] each, in the order of writing: the last is applied first. Products of ones and zeros are exact."""
    return functools.reduce(
        lambda a, b: jnp.einsum("nij,njk->nik", a, b, precision="highest"), matrices
    )


# --- ADA's transformations: colour ---------------------------------------------------------------------------------------


def shifted_colors(shift: Array) -> Array:
    """[n] -> [n, 4, 4] of (red, green, blue, 1): `shift` added to each, brightness."""
    return _matrices([[1, 0, 0, shift], [0, 1, 0, shift], [0, 0, 1, shift], [0, 0, 0, 1]])


def scaled_colors(factor: Array) -> Array:
    """[n] -> [n, 4, 4]: each times `factor`, contrast about mid-grey."""
    return _matrices([[factor, 0, 0, 0], [0, factor, 0, 0], [0, 0, factor, 0], [0, 0, 0, 1]])


def flipped_luma(flipped: Array) -> Array:
    """[n] of 0 or 1 -> [n, 4, 4]: reflected at the plane of no luma, that is light for dark with the hue kept."""
    off = -2 * flipped / 3
    return _matrices(
        [[1 + off, off, off, 0], [off, 1 + off, off, 0], [off, off, 1 + off, 0], [0, 0, 0, 1]]
    )


def turned_hue(angle: Array) -> Array:
    """[n] in radians -> [n, 4, 4]: turned about the luma axis (1, 1, 1) / sqrt 3, by Rodrigues' formula."""
    mean, sin = (1 - jnp.cos(angle)) / 3, jnp.sin(angle) / math.sqrt(3)
    same, after, before = jnp.cos(angle) + mean, mean + sin, mean - sin
    return _matrices(
        [[same, before, after, 0], [after, same, before, 0], [before, after, same, 0], [0, 0, 0, 1]]
    )


def scaled_saturation(factor: Array) -> Array:
    """[n] -> [n, 4, 4]: the distance from the luma axis times `factor`; at 0, grey."""
    mean = (1 - factor) / 3
    same = factor + mean
    return _matrices(
        [[same, mean, mean, 0], [mean, same, mean, 0], [mean, mean, same, 0], [0, 0, 0, 1]]
    )


def recolor(
    images: Float[Array, "n h w c"], matrix: Float[Array, "n 4 4"]
) -> Float[Array, "n h w c"]:
    """`matrix` (red, green, blue, 1) of each pixel. The identity is exact.

    Of 1 channel, the mean of what becomes of the three of a grey pixel: hue and saturation mean nothing, a luma flip is a negative. Of 4
    channels, the last, alpha, is kept. ValueError on another number.
    """
    channels = images.shape[3]
    if channels not in (1, 3, 4):
        raise ValueError(f"colours of images of {channels} channels: 1, 3 or 4")
    if channels == 1:  # the rows' mean, of red = green = blue
        mean = jnp.mean(matrix[:, :3], axis=1)
        linear, offset = jnp.sum(mean[:, :3], axis=1)[:, None, None], mean[:, 3, None]
    else:
        linear, offset = matrix[:, :3, :3], matrix[:, :3, 3]
    colors = images[..., :3].astype(jnp.float32)
    # A sum of products and no einsum: 3 channels are no work for a matrix unit, and its float32 is not everywhere one.
    terms = [colors[..., i, None] * linear[:, None, None, :, i] for i in range(colors.shape[3])]
    colors = sum(terms, offset[:, None, None, :]).astype(images.dtype)
    changed = jnp.concatenate([colors, images[..., 3:]], axis=3) if channels == 4 else colors
    return _where(jnp.all(matrix == jnp.eye(4)[None], axis=(1, 2)), images, changed)


# --- ADA's transformations: image-space filtering and corruption ---------------------------------------------------------

SYM2 = tuple(  # Daubechies' wavelet of 2 vanishing moments, the low pass, of norm 1
    (a + b * math.sqrt(3)) / math.sqrt(32) for a, b in ((1, 1), (3, 1), (3, -1), (1, -1))
)
# The bands [0, 1/8], [1/8, 1/4], [1/4, 1/2] and [1/2, 1] pi, and how a natural image's power, about 1/f, is spread over them.
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def _tree() -> np.ndarray:
    """H(z) H(1/z) / 2 and its mirror H(-z) H(-1/z) / 2 sum to 1, as the wavelet is orthonormal: each scale's low one is split at the next."""
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    kept, split = np.ones(1), []
    for scale in (1, 2, 4):
        spread = np.zeros((2, 6 * scale + 1))  # z to z^scale
        spread[:, ::scale] = low, low * (-1.0) ** np.arange(-3, 4)
        split.append(np.convolve(kept, spread[1]))
        kept = np.convolve(kept, spread[0])
    return np.stack([np.pad(taps, (43 - len(taps)) // 2) for taps in (kept, *reversed(split))])


BANDS = _tree()  # [4, 43]: symmetric filters, which sum to the identity


@functools.cache
def _band_matrices(size: int) -> np.ndarray:
    """[4, size, size] float32: BANDS along a side of `size`, reflected at the centres of its edge pixels."""
    matrices, pixels = np.zeros((4, size, size)), np.arange(size)
    for offset in range(-21, 22):
        matrices[:, pixels, _reflected(pixels + offset, size)] += BANDS[:, offset + 21, None]
    return matrices.astype(np.float32)


def amplify(images: Float[Array, "n h w c"], gains: Float[Array, "n 4"]) -> Float[Array, "n h w c"]:
    """The sum of BANDS, each times its gain, along both sides. Gains of 1 are exact; alpha, if any, is kept.

    Filters that differ by image would be a grouped convolution. These are products with a matrix an image [size, size], as are their
    gradients: size / 43 times the multiplications, in the form that machines do best. The program holds 16 size^2 bytes of BANDS.
    """
    colors = images[..., : 3 if images.shape[3] == 4 else None].astype(jnp.float32)
    across, along = (
        jnp.einsum("nb,bij->nij", gains, _band_matrices(size), precision="highest")
        for size in images.shape[1:3]
    )
    colors = jnp.einsum("nij,njwc->niwc", across, colors, precision="highest")
    colors = jnp.einsum("nij,nhjc->nhic", along, colors, precision="highest").astype(images.dtype)
    changed = jnp.concatenate([colors, images[..., 3:]], axis=3) if images.shape[3] == 4 else colors
    return _where(jnp.all(gains == 1, axis=1), images, changed)


def noise(
    images: Float[Array, "n h w c"], field: Float[Array, "n h w c"], deviation: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """images + deviation field, `field` of variance 1. A deviation of 0 is exact; alpha, if any, is kept."""
    changed = images + _an_image(deviation, images) * field.astype(images.dtype)
    if images.shape[3] == 4:
        changed = jnp.concatenate([changed[..., :3], images[..., 3:]], axis=3)
    return _where(deviation == 0, images, changed)


# --- drawn, as Karras et al. do (appendix B) -----------------------------------------------------------------------------
# Of (key, the images' shape, p) the parameters of one group's transformation. Each of its parts is drawn with probability p for each
# image, apart from the others, and else has the value that changes nothing. Few calls draw many numbers: each is compiled for seconds.


def draw_blit(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array, Array, Array]:
    """A flip or none; 0 to 3 quarters (of images that are not square 0 or 2); up to an eighth of the size, rounded to pixels."""
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
    """The inverse of: scaled, turned, stretched one way and shrunk the other, turned, moved."""
    (n, height, width, _), keys = shape, jax.random.split(key, 3)
    either = 1 - jnp.sqrt(
        1 - p
    )  # with this probability each, one of the two turns or both are drawn with probability p
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
    """Brightness, contrast, luma flip, hue and saturation, in that order, as one matrix."""
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
    """For one band after another a gain, and all four then divided so that the power expected of a natural image is what it was."""
    keys = jax.random.split(key)
    chosen = _chosen(keys[0], (shape[0], 4), p)
    gain = jnp.where(chosen, jnp.exp2(jax.random.normal(keys[1], (shape[0], 4))), 1.0)
    power = 1 + jnp.array(POWER)[None] * (jnp.square(gain) - 1)  # of each with the other three at 1
    gains = gain / jnp.sqrt(jnp.prod(power, axis=1, keepdims=True))
    return (jnp.where(jnp.any(chosen, axis=1, keepdims=True), gains, 1.0),)


def draw_noise(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array]:
    """Of a deviation from half a normal distribution of deviation 0.1."""
    keys = jax.random.split(key, 3)
    deviation = 0.1 * jnp.abs(jax.random.normal(keys[1], shape[:1]))
    return jax.random.normal(keys[2], shape), jnp.where(
        _chosen(keys[0], shape[:1], p), deviation, 0.0
    )


def draw_cutout(key: Array, shape: tuple[int, ...], p: Array) -> tuple[Array, Array]:
    """A centre anywhere in the image. Not drawn, the hole is below and right of the image."""
    (n, *sizes), keys = shape[:3], jax.random.split(key)
    chosen, centre = _chosen(keys[0], (n,), p), jax.random.uniform(keys[1], (2, n))
    top, left = (
        jnp.where(chosen, jnp.floor(place * size - size // 2 / 2 + 0.5), size).astype(jnp.int32)
        for place, size in zip(centre, sizes, strict=True)
    )
    return top, left


def _chosen(key: Array, shape: tuple[int, ...], p: Array | float) -> Array:
    """Each true with probability p: never at 0, always at 1."""
    return jax.random.uniform(key, shape) < p


def _if_any(chosen: Array, matrices: Array) -> Array:
    """[parts, n], and matrices [n, k, k]: the identity where none is chosen, exactly, however the backend rounds a cosine of 0."""
    return jnp.where(
        jnp.any(chosen, axis=0)[:, None, None], matrices, jnp.eye(matrices.shape[1])[None]
    )


# In the order of application: what draws the parameters, and what applies them.
GROUPS: dict[
    str, tuple[Callable[[Array, tuple[int, ...], Array], tuple[Array, ...]], Callable[..., Array]]
] = {
    "blit": (draw_blit, blit),
    "geom": (draw_geometry, resample),
    "color": (draw_color, recolor),
    "filter": (draw_gains, amplify),
    "noise": (draw_noise, noise),
    "cutout": (draw_cutout, cutout),
}
PRESETS: dict[
    str, tuple[str, ...]
] = {  # each group alone, and the first so many: section 2.3's cases
    **{name: (name,) for name in GROUPS},
    **{
        initials: tuple(GROUPS)[: len(initials)]
        for initials in ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc")
    },
}


def ada(
    key: Array, images: Float[Array, "n h w c"], p: Array | float, groups: tuple[str, ...]
) -> Float[Array, "n h w c"]:
    """The transformations that `groups` names (in GROUPS), in the paper's order, each of each image with probability p in [0, 1].

    At p = 0 the images come back bit by bit. p may be traced; groups are static. 1, 3 or 4 channels (the last is alpha, which is moved
    and cut and not changed otherwise), any height and width; no image depends on another. ValueError on another group's name.

    The paper makes one matrix of pixel blitting and geometry; here blitting moves pixels first, exactly, and so is not filtered.
    """
    if unknown := [name for name in groups if name not in GROUPS]:
        raise ValueError(
            f"unknown group {unknown[0]!r} of augmentations: out of {', '.join(GROUPS)}"
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
    """ADA where `policy` is the name of one of PRESETS; DiffAugment where it is a tuple of names in DIFF_AUGMENT ("color" is in both).

    Each transformation of each image with probability p: at 1 the papers' DiffAugment, and all that ADA has. ValueError on another name.
    """
    if isinstance(policy, str):
        if policy not in PRESETS:
            raise ValueError(
                f"unknown preset {policy!r} of augmentations: one of {', '.join(PRESETS)}"
            )
        return ada(key, images, p, PRESETS[policy])
    return diff_augment(key, images, policy, p)


# --- the controller of p (section 3.1) -----------------------------------------------------------------------------------


def controller_start(p: float = 0.0) -> dict[str, Array]:
    """What `controller_update` carries: p in [0, 1], the sum of the signs of D(real) since p last moved, and how many they are."""
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
    """After a step (the first is 0) in which `signs_real` were those of the discriminator's logits of augmented real images: what to carry on.

    After each `interval` steps p moves by as much as takes `speed_kimg` thousand images from 0 to 1: up where r_t = E[sign D(real)] over
    the steps since (equation 1), which says how far D is overfitting, is above `target`, down where it is below. `batch_size` images a step.
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
