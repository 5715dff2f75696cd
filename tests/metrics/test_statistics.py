"""Statistics files as pytorch-fid and clean-fid write and read them.

They give the same distance as the images; damaged and mismatching files are refused.
"""

import numpy as np
import pytest
import toys

from genjax.errors import InputError
from genjax.metrics import evaluate, extractors, frechet, statistics
from genjax.metrics.extractors import protocols

RULES = protocols.protocol("pytorch_fid")
MATRIX = np.random.default_rng(3).normal(size=(48, 6)).astype(np.float32)
network = lambda params, x, taps: {"features": x.reshape(len(x), -1) / 255 @ MATRIX}
TOY = extractors.Extractor(
    "toy",
    lambda params, images, taps: network(params, protocols.resized(images, RULES, (4, 4)), taps),
    protocol="pytorch_fid",
    frechet_name="fd_toy",
    digest="1",
    resized=extractors.Resized(
        lambda images: protocols.resized_on_host(images, RULES, (4, 4)), network
    ),
)

pytestmark = pytest.mark.filterwarnings("ignore:.*biased")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


def published(path, images, dtype=np.float64):
    """As both packages write them: numpy.cov, compressed."""
    x = np.float64(TOY.features(images))
    np.savez_compressed(
        path, mu=x.mean(0).astype(dtype), sigma=np.cov(x, rowvar=False).astype(dtype)
    )
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_published_statistics_give_the_distance_of_the_images(tmp_path, dtype):
    real, fake = pixels(60), pixels(50, 1)
    path = published(tmp_path / "stats.npz", real, dtype)
    asked = ["fd", "fd_infinity"]
    expected = evaluate(real, fake, asked, extractor=TOY)
    result = evaluate(str(path), fake, asked, extractor=TOY)
    assert result.values == pytest.approx(expected.values, rel=1e-4)
    assert result.real == "statistics of a set of unknown size in stats.npz"
    assert (result.real_count, result.fake_count) == (0, 50)
    assert (
        evaluate(str(path), fake, asked, extractor=TOY).real_fingerprint == result.real_fingerprint
    )


def test_own_statistics_know_their_number_and_what_extracted_them(tmp_path):
    """So that a protocol that divides by n gets its covariance."""
    real, fake, path = pixels(60), pixels(50, 1), tmp_path / "own.npz"
    evaluate(real, fake, ["fd"], extractor=TOY, save_stats=path.write_bytes)
    with np.load(path) as written:
        x = np.float64(TOY.features(real))
        np.testing.assert_allclose(written["mu"], x.mean(0), rtol=1e-6)
        np.testing.assert_allclose(written["sigma"], np.cov(x.T), rtol=1e-5, atol=1e-9)
    read = statistics.read(path, TOY, "pytorch_fid", 0, 6)
    a, b = frechet.moments(TOY.features(real)), frechet.moments(TOY.features(fake))
    for ddof in (0, 1):
        assert frechet.frechet_distance(read.moments, b, ddof) == pytest.approx(
            frechet.frechet_distance(a, b, ddof), rel=1e-6
        )
    assert read.count == 60
    with pytest.raises(InputError, match="statistics of extractor toy, not other"):
        statistics.read(path, TOY._replace(name="other"), "pytorch_fid", 1, 6)
    with pytest.raises(InputError, match="statistics of protocol pytorch_fid, not clean"):
        statistics.read(path, TOY, "clean", 1, 6)
    with pytest.raises(InputError, match="statistics of digest 1, not 2"):
        statistics.read(path, TOY._replace(digest="2"), "pytorch_fid", 1, 6)


def test_statistics_of_wide_features_of_few_images(tmp_path):
    real, path = (
        np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8),
        tmp_path / "wide.npz",
    )
    evaluate(real, real[::-1], ["fd"], extractor="pixels", save_stats=path.write_bytes)
    with np.load(path) as written:
        np.testing.assert_allclose(
            written["sigma"], np.cov(real.reshape(20, -1).T / 255), atol=1e-6
        )
    assert evaluate(str(path), real, ["fd"], extractor="pixels").values[
        "fd_pixels"
    ] == pytest.approx(0, abs=1e-4)
    wide = frechet.Moments(20, np.zeros(9000), np.zeros((20, 9000)))
    with pytest.raises(InputError, match="save_stats: 9000 features"):
        statistics.as_npz(wide, TOY, "clean")


def test_what_needs_the_features_themselves_is_refused_before_images_are_read(tmp_path):
    path = published(tmp_path / "stats.npz", pixels(60))
    with pytest.raises(
        InputError,
        match=r"^metrics kid,prdc: .*npz holds only their mean and covariance; .* fd, fd_infinity",
    ):
        evaluate(str(path), "no such set", ["fd", "kid", "prdc"], extractor=TOY)
    with pytest.raises(InputError, match=r"^real_count 9: .* leave it out"):
        evaluate(str(path), "no such set", ["fd"], extractor=TOY, real_count=9)


GOOD = {"mu": np.zeros(6), "sigma": np.eye(6)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": np.zeros(7)}, r"mu \[d\] and sigma \[d, d\]"),
        ({"mu": np.zeros((1, 6))}, r"mu \[d\] and sigma"),
        ({"sigma": np.eye(6)[:5]}, r"mu \[d\] and sigma"),
        (
            {"mu": np.zeros(5), "sigma": np.eye(5)},
            "statistics of 5 features, but extractor toy gives 6",
        ),
        ({"mu": np.full(6, np.nan)}, "mu must be an array of finite"),
        ({"sigma": np.full((6, 6), np.inf)}, "sigma must be an array of finite"),
        ({"mu": np.zeros(6, int)}, "mu must be an array of finite"),
        ({"sigma": np.eye(6) + np.eye(6, k=1)}, "sigma is not a covariance"),
        ({"sigma": -np.eye(6)}, "sigma is not a covariance"),
        ({"n": np.int64(-3)}, "n is not a number of images"),
        ({"n": np.float64(30)}, "n is not a number of images"),
        ({"n": np.arange(3)}, "n is not a number of images"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(tmp_path, change, message):
    np.savez(tmp_path / "stats.npz", **(GOOD | change))
    with pytest.raises(InputError, match=f"real .*stats.npz: .*{message}"):
        evaluate(str(tmp_path / "stats.npz"), pixels(9), ["fd"], extractor=TOY)


def test_only_files_with_both_arrays_are_statistics(tmp_path):
    np.savez(tmp_path / "good.npz", **GOOD)
    np.savez(tmp_path / "images.npz", images=pixels(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:99])
    (tmp_path / "folder.npz").mkdir()
    names = ("good.npz", "images.npz", "cut.npz", "folder.npz", "none.npz")
    assert [statistics.is_file(tmp_path / name) for name in names] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert not statistics.is_file(pixels(3))


def test_a_file_of_zeros_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "WIDEST", 1024)  # a limit of 2 * 8 * 1024**2 = 2**24 bytes
    np.savez_compressed(tmp_path / "bomb.npz", **GOOD, more=np.zeros(2**21 + 2**10))
    with (
        toys.memory_below(2**20),
        pytest.raises(InputError, match=r"bomb\.npz: claims 16.* bytes, more than"),
    ):
        statistics.read(tmp_path / "bomb.npz", TOY, "pytorch_fid", 1, 6)


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "stats.npz", **(GOOD | {"n": np.array([{}], object)}))
    with pytest.raises(InputError, match=r"stats\.npz: cannot be read"):
        evaluate(str(tmp_path / "stats.npz"), pixels(9), ["fd"], extractor=TOY)
