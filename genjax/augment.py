"""Random transformations of what a discriminator sees, real and generated alike: DiffAugment, Zhao et al. 2020 (arXiv 2006.10738).

Each transformation is a pure function of images [n, h, w, c] in [-1, 1] and one parameter an image, differentiable any number of
times; `diff_augment` draws the parameters. The discriminator is only ever shown T(x) and T(G(z)), and the generator's gradient
flows through T (section 3.2), so that a generator does not learn T. Statistics are float32; the images' dtype is kept.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from genjax.shapes import Array, Float

# --- the transformations -------------------------------------------------------------------------------------------------


def brightness(images: Float[Array, "n h w c"], shift: Float[Array, " n"]) -> Float[Array, "n h w c"]:
    """x + shift."""
    return images + _an_image(shift, images)


def saturation(images: Float[Array, "n h w c"], factor: Float[Array, " n"]) -> Float[Array, "n h w c"]:
    """Each pixel's channels moved to (0: grey) or from their mean: m + factor (x - m). One channel is its own mean: nothing changes."""
    if images.shape[3] == 1:
        return images
    mean = jnp.mean(images.astype(jnp.float32), axis=3, keepdims=True).astype(images.dtype)
    return mean + _an_image(factor, images) * (images - mean)


def contrast(images: Float[Array, "n h w c"], factor: Float[Array, " n"]) -> Float[Array, "n h w c"]:
    """Each image's values moved to or from their mean: m + factor (x - m)."""
    mean = jnp.mean(images.astype(jnp.float32).reshape(images.shape[0], -1), axis=1)  # one axis: XLA sums several slowly on a CPU
    mean = _an_image(mean, images)
    return mean + _an_image(factor, images) * (images - mean)


@jax.custom_vjp
def translate(images: Float[Array, "n h w c"], down: Array, right: Array) -> Float[Array, "n h w c"]:
    """y[i, j] = x[i - down, j - right], zeros from outside; int32 [n] each, of at most `reach` pixels either way (beyond, as `reach`)."""
    _, height, width, channels = images.shape
    high, wide = reach(height), reach(width)
    padded = jnp.pad(images, ((0, 0), (high, high), (wide, wide), (0, 0)))

    def window(image, down, right):
        return jax.lax.dynamic_slice(image, (high - down, wide - right, 0), (height, width, channels))

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
        jax.random.randint(key, images.shape[:1], -(size // 2 // 2), size - (size // 2 + 1) // 2 + 1)
        for key, size in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    return cutout(images, top, left)


# Section 4 and appendix: brightness within +-0.5, saturation 0 to 2, contrast 0.5 to 1.5; shifts within +-1/8; a hole of half the side.
DIFF_AUGMENT: dict[str, Callable[[Array, Array], Array]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}


def diff_augment(key: Array, images: Float[Array, "n h w c"], policy: tuple[str, ...]) -> Float[Array, "n h w c"]:
    """The transformations that `policy` names (in DIFF_AUGMENT), in its order, drawn for each image. ValueError on another name.

    Differentiable in the images, in reverse mode, any number of times; no image depends on another. Any height, width and channels.
    """
    if unknown := [name for name in policy if name not in DIFF_AUGMENT]:
        raise ValueError(f"unknown augmentation {unknown[0]!r}: one of {', '.join(DIFF_AUGMENT)}")
    for index, name in enumerate(policy):
        images = DIFF_AUGMENT[name](jax.random.fold_in(key, index), images)
    return images
