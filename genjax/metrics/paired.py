"""Full-reference metrics: PSNR and SSIM of images against their references.

Both take two arrays [n, h, w, c] of one shape, uint8 or float in [-1, 1], and convert
them to [0, 1], because SSIM measures luminance from black. They compute in float64 on
the host: the variances of SSIM cancel in float32.
"""

import numpy as np

from genjax.metrics.checks import image_values
from genjax.shapes import AnyArray, Float


def psnr(images: AnyArray, references: AnyArray) -> Float[np.ndarray, " n"]:
    """Return the PSNR of each pair in dB; infinite for equal images.

    It is -10 log10 of the mean squared error of values in [0, 1]. The mean is over all
    channels together, as in scikit-image's `peak_signal_noise_ratio(data_range=1)`.

    Raises:
        ValueError: the shapes differ, or the values are not those of images, such as
            floats in [0, 1] (`checks.image_values`)
    """
    first, second = _pair(images, references)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.mean(np.square(first - second), axis=(1, 2, 3)))


def ssim(images: AnyArray, references: AnyArray) -> Float[np.ndarray, " n"]:
    """Return the structural similarity of each pair, at most 1.

    Wang et al. 2004 (IEEE TIP 13-4), equation 13, with the constants of their section
    III.C: an 11x11 Gaussian window with sigma 1.5 that lies entirely inside the image,
    biased variances, K1 = 0.01, K2 = 0.03 and range 1, averaged over positions and
    channels. This is scikit-image's `structural_similarity(data_range=1,
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1)`.

    Raises:
        ValueError: as `psnr`, and for images smaller than the window
    """
    first, second = _pair(images, references)
    if min(first.shape[1:3]) < WINDOW:
        size = f"{first.shape[1]}x{first.shape[2]}"
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW}, not {size}")
    mean_1, mean_2 = _window(first), _window(second)
    variance_1, variance_2 = _window(first**2) - mean_1**2, _window(second**2) - mean_2**2
    covariance = _window(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + 0.01**2) / (mean_1**2 + mean_2**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_1 + variance_2 + 0.03**2)
    return np.mean(luminance * structure, axis=(1, 2, 3))


WINDOW = 11  # side of SSIM's window in pixels
_GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_GAUSSIAN /= _GAUSSIAN.sum()


def _window(x: np.ndarray) -> np.ndarray:
    """The Gaussian-weighted mean at each position at least 5 pixels from the edges."""
    for axis in (1, 2):
        size = x.shape[axis] - WINDOW + 1
        # Views: one [..., size] per offset in the window
        shifted = np.lib.stride_tricks.sliding_window_view(x, size, axis)
        x = np.moveaxis(np.tensordot(shifted, _GAUSSIAN, (axis, 0)), -1, axis)
    return x


def _pair(images: AnyArray, references: AnyArray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, checked, as float64 in [0, 1]."""
    if np.ndim(images) != 4 or np.shape(images) != np.shape(references):
        shapes = f"{np.shape(images)} and {np.shape(references)}"
        raise ValueError(f"pairs of images are two arrays [n, h, w, c] of one shape, not {shapes}")
    return _unit(image_values(images)), _unit(image_values(references, "references"))


def _unit(x: AnyArray) -> np.ndarray:
    """8-bit images, or floats in [-1, 1], as float64 in [0, 1]."""
    if x.dtype == np.uint8:
        return np.asarray(x, np.float64) / 255
    return (np.asarray(x).astype(np.float64) + 1) / 2
