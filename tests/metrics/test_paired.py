"""PSNR and SSIM against their definitions written out, and against scikit-image."""

import math

import numpy as np
import pytest

from genjax.metrics import paired


def pictures(dtype=np.float32, size=(3, 20, 17, 3), noise=0.2):
    """Smooth images and noisy ones."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : size[1], 0 : size[2]]
    clean = np.sin(rows / 3 + columns / 4)[None, :, :, None] * random.uniform(
        0.3, 0.9, (size[0], 1, 1, size[3])
    )
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
    np.testing.assert_allclose(
        paired.psnr(np.full((1, 2, 2, 3), -1.0), np.full((1, 2, 2, 3), -0.8)), 20, rtol=1e-12
    )


def test_ssim_is_its_definition_at_one_place():
    """An image of the window's own size has one place: the sums written out."""
    first, second = (x[:1, :11, :11, :1] for x in pictures(np.float64))
    weights = np.exp(-(np.add.outer(np.arange(-5, 6) ** 2, np.arange(-5, 6) ** 2)) / (2 * 1.5**2))
    weights /= weights.sum()
    x, y = (first[0, :, :, 0] + 1) / 2, (second[0, :, :, 0] + 1) / 2
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy, cov = (
        (weights * (x - mx) ** 2).sum(),
        (weights * (y - my) ** 2).sum(),
        (weights * (x - mx) * (y - my)).sum(),
    )
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


WRONG = {
    "in [0, 1]": (
        lambda x: (x + 1) / 2,
        "no value of these is below 0: convert images in .0, 1. by 2 . x - 1, or give uint8",
    ),
    "in 0..255": (lambda x: (x + 1) * 127.5, r"are in \[-1, 1\], these in \[[0-9.]*, [0-9.]*\]"),
    "beyond 1": (lambda x: 2 * x, r"are in \[-1, 1\], these in \[-"),
    "NaN": (lambda x: np.where(np.arange(3) == 1, np.float32(np.nan), x), r"these in \[nan, nan\]"),
    "infinite": (lambda x: np.where(np.arange(3) == 1, np.float32(np.inf), x), "these in .*inf"),
    "int32": (lambda x: np.int32((x + 1) * 127.5), "uint8, or float in .*not int32"),
    "int8": (lambda x: np.int8(x * 127), "not int8"),
    "uint16": (lambda x: np.uint16((x + 1) * 32767), "not uint16"),
    "bool": (lambda x: x > 0, "not bool"),
    "float16": (lambda x: x.astype(np.float16), "not float16"),
    "complex": (lambda x: x.astype(np.complex64), "not complex64"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("metric", [paired.psnr, paired.ssim])
def test_other_numbers_are_refused(metric, kind):
    """They would give a number that looks like any other: of [0, 1] 6 dB too much."""
    change, words = WRONG[kind]
    clean, noisy = pictures()
    for arguments, name in (
        ((change(clean), change(noisy)), "images"),
        ((clean, change(noisy)), "references"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{words}"):
            metric(*arguments)


def test_the_same_images_of_any_type_give_the_same():
    clean, noisy = pictures(np.uint8)
    right = paired.psnr(clean, noisy)
    for first in (np.float32, np.float64):
        for second in (np.float32, np.uint8):
            convert = lambda x, dtype: x if dtype == np.uint8 else (x / 127.5 - 1).astype(dtype)
            np.testing.assert_allclose(
                paired.psnr(convert(clean, first), convert(noisy, second)), right, rtol=1e-6
            )
    # no value below mid-grey: as bytes there is no doubt
    bright = np.full((1, 12, 12, 1), 200, np.uint8)
    np.testing.assert_allclose(paired.psnr(bright, bright - 10), 20 * math.log10(255 / 10))


def test_no_images_are_refused():
    for shape in ((0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 4, 0)):
        with pytest.raises(ValueError, match="none of them 0"):
            paired.psnr(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))


@pytest.mark.reference
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_both_are_scikit_images(dtype):
    theirs = pytest.importorskip("skimage.metrics")
    clean, noisy = pictures(dtype, (4, 40, 33, 3))
    unit = [x / 255.0 if dtype == np.uint8 else (np.float64(x) + 1) / 2 for x in (noisy, clean)]
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "channel_axis": -1,
        "data_range": 1,
    }
    similar = [theirs.structural_similarity(x, y, **options) for x, y in zip(*unit, strict=True)]
    np.testing.assert_allclose(paired.ssim(noisy, clean), similar, rtol=1e-6)
    peak = [theirs.peak_signal_noise_ratio(y, x, data_range=1) for x, y in zip(*unit, strict=True)]
    np.testing.assert_allclose(paired.psnr(noisy, clean), peak, rtol=1e-6)
