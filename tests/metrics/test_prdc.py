"""Manifold scores and nearest neighbours against their definitions."""

import numpy as np
import pytest

from genjax.metrics import neighbours
from genjax.metrics.neighbours import nearest_neighbours
from genjax.metrics.prdc import manifold_scores


def normal(seed, n, d=16):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def distances(x, y):
    return np.sqrt(np.square(np.float64(x)[:, None] - np.float64(y)).sum(-1))


def defined(real, fake, k, k_density):
    """The papers' equations, literally: (precision, recall, density, coverage)."""
    radius = lambda x, k: np.sort(distances(x, x))[:, k]  # its own distance, 0, is the first
    across = distances(fake, real)
    balls = across <= radius(real, k_density)
    precise, recalled = across <= radius(real, k), across <= radius(fake, k)[:, None]
    return (
        precise.any(1).mean(),
        recalled.any(0).mean(),
        balls.sum() / (k_density * len(fake)),
        balls.any(0).mean(),
    )


@pytest.fixture(params=["differences", "reduced", "crowded"])
def way(request, monkeypatch):
    """The three branches of a block, at sizes where the definition is affordable.

    There are several blocks, the last one smaller.
    """
    monkeypatch.setattr(neighbours, "BLOCK", 7000)
    if request.param == "reduced":
        monkeypatch.setattr(neighbours, "SAMPLE", 40)
        monkeypatch.setattr(neighbours, "SIZES", (3, 12))
    if request.param == "crowded":
        monkeypatch.setattr(neighbours, "CROWD", 0)
        monkeypatch.setattr(neighbours, "near_pairs", crowded := of_all(neighbours.near_pairs))
        monkeypatch.setattr("genjax.metrics.prdc.near_pairs", crowded)
    return request.param


def of_all(near_pairs):
    """As if all pairs might be near."""
    return lambda index, block, limit: near_pairs(
        index, block._replace(lower=np.zeros_like(block.lower)), limit
    )


def correlated(seed, n, d=24):
    """Features with a few strong directions, none along an axis, far from 0."""
    axes = np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]
    return np.float32(normal(seed, n, d) * np.geomspace(1, 1e-4, d) @ axes + 5)


@pytest.mark.parametrize(("k", "k_density"), [(3, 5), (1, 1), (4, 2)])
def test_definition(way, k, k_density):
    real, fake = correlated(0, 203), 0.3 + 0.94 * correlated(1, 151)
    assert manifold_scores(real, fake, k=k, k_density=k_density) == pytest.approx(
        defined(real, fake, k, k_density), rel=1e-12
    )


def test_nearest_neighbours_are_those_of_the_definition(way):
    samples, training = correlated(0, 61), correlated(1, 337)
    result = nearest_neighbours(samples, training, 6)
    expected = distances(samples, training)
    np.testing.assert_array_equal(result.indices, np.argsort(expected)[:, :6])
    np.testing.assert_allclose(result.distances, np.sort(expected)[:, :6], rtol=1e-5)
    assert result.ratio is None


def test_the_cheap_comparison_is_used_where_it_pays(monkeypatch):
    monkeypatch.setattr(neighbours, "SAMPLE", 40)
    monkeypatch.setattr(neighbours, "SIZES", (3, 12))
    for seed in range(4):
        index = neighbours.make_index(correlated(seed, 203), 1)
        assert index.basis.shape == (24, 12)
        assert index.right.shape == (204, index.size + 3)
    # Too few to fit directions to
    assert neighbours.make_index(correlated(0, 100), 1).basis is None
    wide = normal(0, 400, 200)
    assert neighbours.make_index(wide, 1).basis is None  # no direction tells more than another


def test_lower_bounds_are_below():
    """With any number of directions, for near-duplicates far from the origin."""
    points = np.float32(correlated(0, 300, 64) + 1000)
    queries = points[:100] + np.float32(1e-3) * normal(1, 100, 64)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 20)).astype(np.float32))[0]
    for size in (0, 3, 19, 20):
        x, y = (
            neighbours._shorten(neighbours._reduce(z, points.mean(0), basis), size)
            for z in (queries, points)
        )
        assert (distances(x, y) <= distances(queries, points) * (1 + 1e-5) + 1e-4).all()


def test_copies_are_found(way):
    training = correlated(0, 700) + 100
    samples = np.concatenate([training[[300, 5]], correlated(1, 9) + 100, training[[5]]])
    result = nearest_neighbours(samples, training, held_out=correlated(2, 90) + 100)
    assert result.indices[[0, 1, -1], 0].tolist() == [300, 5, 5]
    assert result.distances[[0, 1, -1], 0].tolist() == [0, 0, 0]
    assert result.ratio[[0, 1, -1]].tolist() == [0, 0, 0]
    assert result.ratio[2:-1].min() > 0.3


def test_near_copies_are_found_far_from_the_origin():
    """At 1e-5 of 1e6 * d, which |x|^2 + |y|^2 - 2xy in float32 cannot resolve."""
    training = 1000 + normal(0, 500)
    samples = training[:50] + np.float32(1e-3) * normal(1, 50)
    result = nearest_neighbours(samples, training)
    np.testing.assert_array_equal(result.indices[:, 0], np.arange(50))
    np.testing.assert_allclose(
        result.distances[:, 0],
        np.linalg.norm(np.float64(samples) - training[:50], axis=1),
        rtol=1e-5,
    )


def test_ratio_of_images_that_are_no_copies_is_about_1():
    training, samples, held_out = normal(0, 900), normal(1, 200), normal(2, 300)
    result = nearest_neighbours(samples, training, held_out=held_out)
    usual = np.median(distances(held_out, training).min(1))
    np.testing.assert_allclose(result.ratio, result.distances[:, 0] / usual, rtol=1e-5)
    assert np.median(result.ratio) == pytest.approx(1, abs=0.05)


def test_mode_collapse_is_precise_and_recalls_nothing():
    """A generator that covers a collapsed data set gets the reverse."""
    broad, collapsed = normal(0, 600), normal(1, 600) * 0.01
    scores, swapped = manifold_scores(broad, collapsed), manifold_scores(collapsed, broad)
    assert scores.precision == 1
    assert scores.recall == 0
    assert scores.coverage < 0.2
    assert swapped.precision == 0
    assert swapped.recall == 1
    assert swapped.density == swapped.coverage == 0


def test_equal_distributions():
    """Expected of independent draws: 1 and 1 - 1/2^k (Naeem et al., section 3.3)."""
    scores = manifold_scores(normal(0, 2000, 4), normal(1, 2000, 4))
    assert scores.density == pytest.approx(1, abs=0.03)
    assert scores.coverage == pytest.approx(1 - 1 / 2**5, abs=0.02)
    assert scores.precision == pytest.approx(scores.recall, abs=0.03)


def test_order_changes_nothing(way):
    real, fake = correlated(0, 203), correlated(1, 151)
    shuffle = np.random.default_rng(0).permutation
    assert manifold_scores(shuffle(real), shuffle(fake)) == pytest.approx(
        manifold_scores(real, fake), rel=1e-12
    )


def test_whether_the_radius_itself_is_within():
    """Points on a line, 1 apart; the fake ones at just a radius of some."""
    real, fake = np.float32([[0], [1], [2], [3]]), np.float32([[-1], [4], [40]])
    closed, opened = (
        manifold_scores(real, fake, k=1, k_density=1, closed=closed) for closed in (True, False)
    )
    # The ball of one fake image holds all real ones
    assert closed == pytest.approx((2 / 3, 1, 2 / 3, 1 / 2))
    assert opened == pytest.approx((0, 1, 0, 0))


@pytest.mark.parametrize("way", ["differences", "reduced"], indirect=True)
def test_the_same_images_as_both_sets(way):
    """Each is in its own ball, and on the surface of those it is k-th neighbour of."""
    x = correlated(0, 203)
    closed, opened = (manifold_scores(x, x, closed=closed) for closed in (True, False))
    across = distances(x, x)
    inside = across <= np.sort(across)[:, 5] * (1 + 1e-9)
    assert closed.density == pytest.approx(inside.sum() / (5 * 203), rel=1e-12)
    assert opened.density == pytest.approx(closed.density - 1 / 5, rel=1e-12)
    assert closed[:2] == opened[:2] == (1, 1)


def test_exact_duplicates_by_hand():
    """On a line, k = 1: twins at 0, singles at 3 and 5; their radii are 0, 0, 2, 2."""
    # The radii of the fake images are 5, 0, 0, 2
    real, fake = np.float32([[0], [0], [3], [5]]), np.float32([[0], [5], [5], [7]])
    scores = {
        closed: manifold_scores(real, fake, k=1, k_density=1, closed=closed)
        for closed in (True, False, None)
    }
    # Fake 0 is at the radius of both twins; each 5 within that of 5 and at that of 3; 7
    # at that of 5.
    assert scores[True] == pytest.approx((1, 1, (2 + 2 + 2 + 1) / 4, 1))
    # Real 0, 0 and 3 lie within the ball of fake 0, and 5 only at the edge of others.
    assert scores[False] == pytest.approx((2 / 4, 3 / 4, 2 / 4, 1 / 4))
    assert scores[None] == (*scores[True][:2], *scores[False][2:])


@pytest.mark.reference
@pytest.mark.parametrize("k", [1, 3, 5])
def test_exact_duplicates_are_counted_as_in_prdc(k):
    """Integers, whose distances are exact in prdc too: many ties and duplicates."""
    compute_prdc = pytest.importorskip("prdc").compute_prdc
    for seed in range(8):
        random = np.random.default_rng(seed)
        real, fake = (
            random.integers(0, 4 + more, (n, 3)).astype(np.float32)
            for n, more in ((60, 0), (45, 2))
        )
        theirs = compute_prdc(real, fake, k)
        ours = manifold_scores(real, fake, k=k, k_density=k, closed=False)
        assert ours._asdict() == pytest.approx(theirs, rel=1e-12)
        mixed = manifold_scores(real, fake, k=k, k_density=k)
        assert (mixed.density, mixed.coverage) == (ours.density, ours.coverage)
        assert mixed.precision > ours.precision


def test_all_images_equal(way):
    same = np.ones((250, 24), np.float32)
    assert manifold_scores(same, same, closed=True) == (1, 1, 50, 1)
    assert manifold_scores(same, same) == (1, 1, 0, 0)  # each as its own paper has it
    assert manifold_scores(same, same, closed=False) == (0, 0, 0, 0)
    assert manifold_scores(same, same[:100] + 1) == (0, 0, 0, 0)


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="fake of 5 images: at least 6"):
        manifold_scores(normal(0, 10), normal(1, 5))
    with pytest.raises(ValueError, match="width, not 16 and 4"):
        manifold_scores(normal(0, 10), normal(1, 10, 4))
    with pytest.raises(ValueError, match="5 neighbours among 4"):
        nearest_neighbours(normal(0, 10), normal(1, 4), 5)
    with pytest.raises(
        ValueError, match="held_out and training features must have one width, not 4 and 16"
    ):
        nearest_neighbours(normal(0, 10), normal(1, 10), held_out=normal(2, 10, 4))
