"""Metrics of features against prdc, torch-fidelity and pytorch-fid."""

import numpy as np
import pytest

from genjax.metrics.frechet import frechet_distance, moments
from genjax.metrics.kid import discrepancy, kernel_distance
from genjax.metrics.prdc import manifold_scores
from genjax.metrics.scores import inception_score

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.reference


@pytest.fixture(autouse=True)
def torchvision():
    """Which both packages import, for networks that are not used here."""
    pytest.importorskip("benchmarks.peers.inception").torchvision()


@pytest.fixture(params=[(0, 400, 64), (1, 900, 48), (2, 150, 200)], ids=str)
def features(request):
    """(real, fake) as after a ReLU: correlated, of positive mean, a distance apart.

    The last pair has fewer images than features.
    """
    seed, n, d = request.param
    random = np.random.default_rng(seed)
    mix = random.standard_normal((24, d)) * 0.4
    real, fake = (
        np.maximum(random.standard_normal((n, 24)) @ mix * scale + 0.3, 0) for scale in (1, 0.8)
    )
    return np.float32(real), np.float32(fake)


def agree(record_property, ours, theirs):
    """Within 1e-3; the difference goes into the report (`--junit-xml`, `-rP`)."""
    ours, theirs = np.array(ours, float), np.array(theirs, float)
    worst = float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-12)))
    record_property("largest relative difference", worst)
    print(f"largest relative difference {worst:.1e} of {ours}")
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@pytest.mark.filterwarnings("default")  # theirs
def test_frechet_distance_is_torch_fidelitys(features, record_property):
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [theirs.fid_features_to_statistics(torch.tensor(x)) for x in features]
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)[
        "frechet_inception_distance"
    ]
    agree(record_property, frechet_distance(*map(moments, features)), expected)


@pytest.mark.filterwarnings("default")
def test_frechet_distance_is_pytorch_fids(features, record_property):
    theirs = pytest.importorskip("pytorch_fid.fid_score")
    statistics = [y for x in features for y in (np.mean(x, axis=0), np.cov(x, rowvar=False))]
    agree(
        record_property,
        frechet_distance(*map(moments, features)),
        theirs.calculate_frechet_distance(*statistics),
    )


@pytest.mark.filterwarnings("default")
def test_kernel_distance_is_torch_fidelitys(features, record_property):
    """Of subsets that are all images: the draws of both differ."""
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    options = {
        "kid_subsets": 1,
        "kid_subset_size": len(features[0]),
        "rng_seed": 0,
        "verbose": False,
    }
    expected = theirs.kid_features_to_metric(*map(torch.tensor, features), **options)[
        "kernel_inception_distance_mean"
    ]
    agree(record_property, discrepancy(*features), expected)


@pytest.mark.filterwarnings("default")
def test_kernel_distance_over_subsets_is_torch_fidelitys(features):
    """Mean and spread over different draws: as near as 400 subsets tell."""
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    options = {"kid_subsets": 400, "kid_subset_size": 50, "rng_seed": 0, "verbose": False}
    expected = theirs.kid_features_to_metric(*map(torch.tensor, features), **options)
    ours = kernel_distance(*features, seed=0, subsets=400, subset_size=50)
    assert abs(ours.mean - expected["kernel_inception_distance_mean"]) < 4 * ours.std / np.sqrt(200)
    assert ours.std == pytest.approx(expected["kernel_inception_distance_std"], rel=0.2)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score_is_torch_fidelitys(splits, record_property):
    theirs = pytest.importorskip("torch_fidelity.metric_isc")
    logits = np.float32(3 * np.random.default_rng(0).standard_normal((1003, 100)))
    expected = theirs.isc_features_to_metric(torch.tensor(logits), splits=splits, shuffle=False)
    agree(record_property, inception_score(logits, splits=splits), list(expected.values()))


@pytest.mark.filterwarnings("default")
def test_precision_and_recall_are_torch_fidelitys(features, record_property):
    """Which takes the fake images first, and balls with their radius."""
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = map(torch.tensor, features)
    options = {
        "prc_neighborhood": 3,
        "prc_batch_size": 100,
        "save_cpu_ram": False,
        "verbose": False,
    }
    expected = theirs.prc_features_to_metric(fake, real, **options)
    agree(
        record_property, manifold_scores(*features)[:2], [expected["precision"], expected["recall"]]
    )


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("k", [3, 5])
def test_all_four_are_prdcs(features, k, record_property):
    """Balls without their radius, one k for all."""
    theirs = pytest.importorskip("prdc").compute_prdc(*features, k)
    ours = manifold_scores(*features, k=k, k_density=k, closed=False)
    agree(record_property, ours, [theirs[name] for name in ours._fields])
