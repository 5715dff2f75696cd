"""Extractors: published networks give their published numbers, and files are verified.

Missing, wrong or damaged weights are named; only the published Inception is called FID.
"""

import hashlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from genjax.errors import InputError
from genjax.metrics import extractors
from genjax.metrics.extractors import classifiers, layers


@pytest.fixture
def weights(shared, monkeypatch):
    monkeypatch.setenv(extractors.VARIABLE, str(shared / "weights"))
    return shared / "weights"


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def lenet_state(seed=0):
    shapes = {
        "convnet.c1": (6, 1, 5, 5),
        "convnet.c3": (16, 6, 5, 5),
        "convnet.c5": (120, 16, 5, 5),
        "fc.f6": (84, 120),
        "fc.f7": (10, 84),
    }
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(0, 0.2, shape).astype(np.float32)
    return {f"{k}.weight": draw(*shape) for k, shape in shapes.items()} | {
        f"{k}.bias": draw(s[0]) for k, s in shapes.items()
    }


@pytest.fixture
def lenet_file(tmp_path):
    save_file(lenet_state(), tmp_path / "lenet.safetensors")
    return tmp_path / "lenet.safetensors"


# The networks


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_cifar_resnets_give_their_published_numbers(weights, name):
    known = np.load(weights / f"reference/{name}_cifar.npz")
    extractor = extractors.extractor(name)
    outputs = jax.jit(classifiers.resnet)(extractor.params, known["rand_in"].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(outputs["features"], known["rand_feat"], atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], known["rand_logits"], atol=1e-4)
    assert extractor.frechet_name == f"fd_{name}"
    assert (
        extractor.digest == hashlib.sha256((weights / f"{name}_cifar.th").read_bytes()).hexdigest()
    )


def test_lenet_gives_its_published_numbers(weights):
    known = np.load(weights / "reference/csinva_lenet.npz")
    outputs = jax.jit(classifiers.lenet)(
        extractors.extractor("lenet").params, known["rand_in"].transpose(0, 2, 3, 1)
    )
    np.testing.assert_allclose(jax.nn.log_softmax(outputs["logits"]), known["rand_out"], atol=1e-4)


def test_images_become_features(lenet_file):
    extractor = extractors.extractor("lenet", lenet_file, checksum=False)
    grey = noise(3, 28, 28, 1)
    outputs = extractor.outputs(grey, ("features", "logits"))
    assert {tap: x.shape for tap, x in outputs.items()} == {"features": (3, 84), "logits": (3, 10)}
    np.testing.assert_allclose(
        extractor.features(np.repeat(grey, 3, axis=3)), outputs["features"], atol=1e-4
    )
    np.testing.assert_allclose(extractor.logits(grey), outputs["logits"], atol=1e-5)
    reverse = extractor.outputs(grey[::-1], ("features", "logits"))["features"]
    assert np.abs(reverse - outputs["features"]).max() > 0.01
    with pytest.raises(ValueError, match="lenet has no '2048'; it has features, logits"):
        extractor.outputs(grey, ("2048",))


def test_any_function_is_an_extractor():
    extractor = extractors.wrap(lambda images: images.reshape(len(images), -1) / 255, "pixels")
    np.testing.assert_allclose(extractor.features(noise(3, 2, 2, 1)), noise(3, 4) / 255, rtol=1e-6)
    assert extractor.frechet_name == "fd_pixels"
    with pytest.raises(ValueError, match="pixels has no 'logits'"):
        extractor.logits(noise(3, 2, 2, 1))


# The files


def test_absent_weights_are_named_with_their_address(monkeypatch, tmp_path):
    monkeypatch.delenv(extractors.VARIABLE, raising=False)
    for name, network in extractors.TABLE.items():
        with pytest.raises(InputError, match="GENJAX_WEIGHTS is not set") as caught:
            extractors.extractor(name)
        assert network.file.names[0] in str(caught.value)
        assert network.file.url in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv(extractors.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"no file .*lenet_epoch"):
        extractors.extractor("lenet")
    with pytest.raises(InputError, match=r"no file nowhere\.pth"):
        extractors.extractor("lenet", "nowhere.pth")
    with pytest.raises(InputError, match=r"^extractor resnet50: must be one of .*lenet"):
        extractors.extractor("resnet50")


def test_another_file_is_told_by_its_checksum(lenet_file):
    digest = hashlib.sha256(lenet_file.read_bytes()).hexdigest()
    with pytest.raises(
        InputError,
        match=rf"starts with {digest[:8]}, that of lenet.* with 7b3591ba.*checksum=False",
    ):
        extractors.extractor("lenet", lenet_file)
    with pytest.raises(InputError, match="with 00000000"):
        extractors.extractor("lenet", lenet_file, checksum="0" * 64)
    for accepted in (digest, digest[:8].upper(), False, ""):
        assert extractors.extractor("lenet", lenet_file, checksum=accepted).digest == digest


def test_damaged_and_hostile_files_are_refused(tmp_path, lenet_file):
    state = lenet_state()
    broken = {
        "absent": {k: v for k, v in state.items() if k != "fc.f7.bias"},
        "shape": state | {"fc.f6.weight": np.zeros((84, 121), np.float32)},
        "finite": state | {"convnet.c1.bias": np.full(6, np.nan, np.float32)},
    }
    for kind, words in {
        "absent": "has no array 'fc.f7.bias'",
        "shape": r"\[84, 121\], not \[84, 120\]",
        "finite": "not finite",
    }.items():
        save_file(broken[kind], tmp_path / f"{kind}.safetensors")
        with pytest.raises(InputError, match=f"{kind}.safetensors: .*{words}"):
            extractors.extractor("lenet", tmp_path / f"{kind}.safetensors", checksum=False)
    (tmp_path / "cut.safetensors").write_bytes(lenet_file.read_bytes()[:100])
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for file in ("cut.safetensors", "evil.pkl"):
        with pytest.raises(InputError, match=file):
            extractors.extractor("lenet", tmp_path / file, checksum=False)


def test_a_batch_norm_is_folded_as_it_is_defined():
    random = np.random.default_rng(0)
    state = {"c.weight": random.normal(size=(4, 3, 3, 3)), "n.num_batches_tracked": np.int64(7)}
    state |= {
        f"n.{k}": random.uniform(0.5, 2, 4)
        for k in ("weight", "bias", "running_mean", "running_var")
    }
    layer = layers.conv_layer(state, "c", (4, 3, 3, 3), "n", 1e-3)
    x = random.normal(size=(2, 5, 5, 3)).astype(np.float32)
    plain = {
        "kernel": np.float32(state["c.weight"].transpose(2, 3, 1, 0)),
        "bias": np.zeros(4, np.float32),
    }
    y = np.asarray(layers.conv(x, plain))
    expected = (y - state["n.running_mean"]) / np.sqrt(state["n.running_var"] + 1e-3) * state[
        "n.weight"
    ] + state["n.bias"]
    np.testing.assert_allclose(layers.conv(x, layer), expected, atol=1e-4)
    with pytest.raises(InputError, match="running_var is negative"):
        layers.conv_layer(state | {"n.running_var": -np.ones(4)}, "c", (4, 3, 3, 3), "n")


def test_only_the_inception_with_the_published_file_is_fid(monkeypatch, lenet_file):
    """The LeNet's file and layers stand in for the Inception's, which are 95 MB."""
    digest = hashlib.sha256(lenet_file.read_bytes()).hexdigest()
    for name, pinned, expected in (
        ("inception", digest, "fid"),
        ("inception", "0" * 64, "fd_inception"),
        ("vgg16", digest, "fd_vgg16"),
    ):
        row = extractors.TABLE["lenet"]
        monkeypatch.setitem(
            extractors.TABLE, name, row._replace(file=row.file._replace(sha256=pinned))
        )
        assert extractors.extractor(name, lenet_file, checksum=False).frechet_name == expected
