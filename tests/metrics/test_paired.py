"""PSNR and SSIM against their definitions written out, and against scikit-image."""

import math

import numpy as np
import pytest

from genjax.metrics import paired


def pictures(dtype=np.float32, size=(3, 20, 17, 3), noise=0.2):
    """Smooth images and noisy ones."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : size[1], 0 : size[2]]
    clean = np.sin(rows / 3 + columns / 4)[None, :, :, None] * random.uniform(0.3, 0.9, (size[0], 1, 1, size[3]))
    noisy = np.clip(clean + noise * random.standard_normal(size), -1, 1)
    if dtype == np.uint8:
        return np.uint8(np.rint((clean + 1) * 127.5)), np.uint8(np.rint((noisy + 1) * 127.5))
    return clean.astype(dtype), noisy.astype(dtype)


def test_psnr_is_its_definition():
    white, grey = np.full((2, 4, 5, 1), 255, np.uint8), np.full((2, 4, 5, 1), 255, np.uint8)
    grey[0] = 250
    grey[1, 0, 0] = 0
    expected = [20 * math.log10(255 / 5), 10 * math.log10(20)]
    np.testing.assert_allclose(paired.psnr(white, grey), expected, rtol=1e-12)
    assert paired.psnr(white, white).tolist() == [math.inf, math.inf]


def test_psnr_of_values_in_the_librarys_range():
    np.testing.assert_allclose(paired.psnr(np.full((1, 2, 2, 3), -1.0), np.full((1, 2, 2, 3), -0.8)), 20, rtol=1e-12)


def test_ssim_is_its_definition_at_one_place():
    """An image of the window's own size has one place: the sums written out."""
    first, second = (x[:1, :11, :11, :1] for x in pictures(np.float64))
    weights = np.exp(-(np.add.outer(np.arange(-5, 6) ** 2, np.arange(-5, 6) ** 2)) / (2 * 1.5**2))
    weights /= weights.sum()
    x, y = (first[0, :, :, 0] + 1) / 2, (second[0, :, :, 0] + 1) / 2
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy, cov = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum(), (weights * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    np.testing.assert_allclose(paired.ssim(first, second), expected, rtol=1e-10)


def test_ssim_of_equal_images_is_1_and_falls_with_noise():
    clean, _ = pictures()
    np.testing.assert_allclose(paired.ssim(clean, clean), 1, atol=1e-12)
    values = [paired.ssim(*pictures(noise=noise)).mean() for noise in (0.02, 0.1, 0.5)]
    assert 1 > values[0] > values[1] > values[2] > -1


def test_other_shapes_are_refused():
    clean, noisy = pictures()
    for metric in (paired.psnr, paired.ssim):
        with pytest.raises(ValueError, match="one shape"):
            metric(clean, noisy[:, :-1])
        with pytest.raises(ValueError, match="one shape"):
            metric(clean[0], noisy[0])
    with pytest.raises(ValueError, match="11x11"):
        paired.ssim(clean[:, :10], noisy[:, :10])


@pytest.mark.reference
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_both_are_scikit_images(dtype):
    theirs = pytest.importorskip("skimage.metrics")
    clean, noisy = pictures(dtype, (4, 40, 33, 3))
    unit = [x / 255.0 if dtype == np.uint8 else (np.float64(x) + 1) / 2 for x in (noisy, clean)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1, "data_range": 1}
    similar = [theirs.structural_similarity(x, y, **options) for x, y in zip(*unit, strict=True)]
    np.testing.assert_allclose(paired.ssim(noisy, clean), similar, rtol=1e-6)
    peak = [theirs.peak_signal_noise_ratio(y, x, data_range=1) for x, y in zip(*unit, strict=True)]
    np.testing.assert_allclose(paired.psnr(noisy, clean), peak, rtol=1e-6)
