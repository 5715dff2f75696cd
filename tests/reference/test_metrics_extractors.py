"""Extractors against torch-fidelity, pytorch-fid, clean-fid, lpips and torchvision.

Weights are random: a file in the published layout, read by both sides, proves the port
without a download.
"""

import jax
import numpy as np
import pytest

from genjax.metrics import extractors, lpips
from genjax.metrics.extractors import inception, protocols, resize, torchvision

torch = pytest.importorskip("torch")
peer = pytest.importorskip("benchmarks.peers.inception")

pytestmark = pytest.mark.reference


def nchw(images):
    return torch.tensor(np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)))


def error(ours, theirs):
    """The norm of the difference over the norm."""
    ours, theirs = np.asarray(ours, np.float64), theirs.detach().numpy().astype(np.float64)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def images(h=40, w=50, n=2):
    return np.random.default_rng(0).integers(0, 256, (n, h, w, 3), np.uint8)


# The Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    peer.torchvision()
    pytest.importorskip("torch_fidelity")
    return peer.save_random(
        tmp_path_factory.mktemp("weights") / "weights-inception-2015-12-05-random.pth"
    )


def test_every_tap_of_the_inception_is_torch_fidelitys(weights):
    theirs = peer.build(weights, inception.TAPS)
    ours = extractors.extractor("inception", weights, checksum=False).outputs(
        images(), inception.TAPS
    )
    with torch.no_grad():
        expected = dict(zip(inception.TAPS, theirs(nchw(images())), strict=True))
    errors = {tap: error(ours[tap], expected[tap]) for tap in inception.TAPS}
    print(", ".join(f"{tap}: {value:.1e}" for tap, value in errors.items()))
    assert max(errors.values()) <= 1e-4, errors


@pytest.mark.filterwarnings("ignore")
def test_the_inception_under_its_protocol_is_pytorch_fids(weights, monkeypatch):
    peer.torchvision()
    owner = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(
        owner,
        "load_state_dict_from_url",
        lambda *args, **options: torch.load(weights, weights_only=True),
    )
    network = owner.InceptionV3([0, 1, 2, 3]).eval()
    with torch.no_grad():
        expected = network(nchw(images()).float() / 255)
    taps = ("64", "192", "768", "2048")
    ours = extractors.extractor(
        "inception", weights, protocol="pytorch_fid", checksum=False
    ).outputs(images(), taps)
    errors = {
        tap: error(ours[tap], theirs.mean(dim=(2, 3)))
        for tap, theirs in zip(taps, expected, strict=True)
    }
    print(", ".join(f"{tap}: {value:.1e}" for tap, value in errors.items()))
    assert max(errors.values()) <= 1e-4, errors


# Resizers


@pytest.mark.parametrize("sizes", [(32, 32), (400, 301), (299, 299), (20, 512)])
def test_resizers_are_their_owners(sizes):
    peer.torchvision()
    tensorflows = pytest.importorskip(
        "torch_fidelity.interpolate_compat_tensorflow"
    ).interpolate_bilinear_2d_like_tensorflow1x
    x = images(*sizes)
    run = jax.jit(protocols.resized, static_argnums=(1, 2))
    expected = {
        "tf_legacy": tensorflows(nchw(x).float(), size=(299, 299), align_corners=False),
        "pytorch_fid": torch.nn.functional.interpolate(
            nchw(x).float(), size=(299, 299), mode="bilinear", align_corners=False
        ),
    }
    for name, theirs in expected.items():
        ours = run(x, protocols.protocol(name), (299, 299))
        # The originals round positions to float32
        assert error(ours, theirs.permute(0, 2, 3, 1)) <= 1e-5, name


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("sizes", [(32, 32), (400, 301), (299, 299), (20, 512)])
def test_the_clean_resizer_is_clean_fids(sizes):
    theirs = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    x = images(*sizes)
    ours = jax.jit(protocols.resized, static_argnums=(1, 2))(
        x, protocols.protocol("clean"), (299, 299)
    )
    expected = np.stack([theirs(image) for image in x])
    assert error(ours, torch.tensor(expected)) <= 1e-6
    assert np.abs(ours - expected).max() <= 2e-3  # of 255


def test_jaxs_own_resize_is_another():
    """Why there are matrices here: the default antialiases when it shrinks."""
    x = np.float32(images(64, 64))
    ours = resize.resize(x, (20, 20), "bilinear")
    assert np.abs(jax.image.resize(x, (2, 20, 20, 3), "bilinear") - ours).max() > 10


# LPIPS and its backbones


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_package_of_that_name(net):
    peer.torchvision()
    owner = pytest.importorskip("lpips")
    torch.manual_seed(0)
    module = owner.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    backbone = {
        f"features.{name.split('.', 2)[2]}": value
        for name, value in state.items()
        if name.startswith("net.slice")
    }
    params = lpips.params(backbone, state, net)
    first, second = (
        np.random.default_rng(seed).uniform(-1, 1, (3, 64, 72, 3)).astype(np.float32)
        for seed in (0, 1)
    )
    second[2] = 0.9 * first[2] + 0.1 * second[2]
    with torch.no_grad():
        theirs = module(nchw(first), nchw(second))[:, 0, 0, 0]
    np.testing.assert_allclose(
        jax.jit(lpips.lpips)(params, first, second), theirs.numpy(), rtol=1e-4
    )
    # The gradient in float64: it jumps at every ReLU, and rounding decides on which
    # side of it some of a float32's are.
    with jax.enable_x64(True):
        first, second, params = jax.tree.map(np.float64, (first, second, params))
        ours = jax.jit(jax.grad(lambda first: lpips.lpips(params, first, second).sum()))(first)
    leaf = nchw(first).requires_grad_()
    (gradient,) = torch.autograd.grad(module.double()(leaf, nchw(second)).sum(), leaf)
    assert error(ours, gradient.permute(0, 2, 3, 1)) <= 1e-9


def test_alexnets_features_and_logits_are_torchvisions():
    """The order in which its places and channels are flattened too."""
    torch.manual_seed(0)
    network = peer.torchvision().models.alexnet().eval()
    params = torchvision.params(
        {name: value.numpy() for name, value in network.state_dict().items()}, "alexnet"
    )
    x = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    ours = jax.jit(torchvision.apply, static_argnums=(2, 3))(
        params, x, "alexnet", ("features", "logits")
    )
    with torch.no_grad():
        features = network.classifier[:6](
            torch.flatten(network.avgpool(network.features(nchw(x))), 1)
        )
        assert error(ours["features"], features) <= 1e-4
        assert error(ours["logits"], network(nchw(x))) <= 1e-4
