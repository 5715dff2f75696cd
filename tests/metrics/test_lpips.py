"""LPIPS against its definition over the activations; its gradients and its files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from genjax.errors import InputError
from genjax.metrics import extractors, lpips
from genjax.metrics.extractors import torchvision


def alexnet_state():
    random, state, channels = np.random.default_rng(0), {}, 3
    for conv in torchvision.BACKBONES["alexnet"].convs:
        shape = (conv.features, channels, conv.kernel, conv.kernel)
        state[f"{conv.name}.weight"] = random.normal(
            0, (2 / np.prod(shape[1:])) ** 0.5, shape
        ).astype(np.float32)
        state[f"{conv.name}.bias"] = random.normal(0, 0.1, shape[0]).astype(np.float32)
        channels = conv.features
    return state


def heads_state():
    random = np.random.default_rng(1)
    sizes = (64, 192, 384, 256, 256)
    return {
        f"lin{i}.model.1.weight": random.uniform(0, 1, (1, c, 1, 1)).astype(np.float32)
        for i, c in enumerate(sizes)
    }


@pytest.fixture(scope="module")
def params():
    return lpips.params(alexnet_state(), heads_state(), "alex")


compiled = jax.jit(lpips.lpips)


def images(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (2, 40, 36, 3)).astype(np.float32)


def test_it_is_its_definition(params):
    scaled = [
        (x - np.float32([-0.030, -0.088, -0.188])) / np.float32([0.458, 0.448, 0.450])
        for x in (images(0), images(1))
    ]
    run = jax.jit(torchvision.activations, static_argnums=2)
    expected = np.zeros(2)
    for first, second, head in zip(
        *(run(params["alex"], np.float32(x), "alexnet") for x in scaled),
        params["heads"],
        strict=True,
    ):
        unit = [
            np.float64(x) / (np.sqrt(np.sum(np.float64(x) ** 2, axis=3, keepdims=True)) + 1e-10)
            for x in (first, second)
        ]
        expected += np.mean(np.sum((unit[0] - unit[1]) ** 2 * head, axis=3), axis=(1, 2))
    np.testing.assert_allclose(compiled(params, images(0), images(1)), expected, rtol=1e-4)


def test_it_is_a_distance(params):
    np.testing.assert_array_equal(compiled(params, images(), images()), [0, 0])
    one, other = compiled(params, images(0), images(1)), compiled(params, images(1), images(0))
    np.testing.assert_allclose(one, other, rtol=1e-4)
    steps = [
        compiled(params, images(), images() + np.float32(noise) * images(1)).mean()
        for noise in (0.01, 0.1, 0.5)
    ]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_gradients_are_finite_even_where_all_channels_are_dead(params):
    dead = params | {
        "alex": {
            k: {"kernel": v["kernel"], "bias": v["bias"] - 100} for k, v in params["alex"].items()
        }
    }
    gradient = jax.jit(jax.grad(lambda params, a, b: lpips.lpips(params, a, b).sum(), argnums=1))
    a, b = images(0)[:1, :32, :32], images(1)[:1, :32, :32]
    g = gradient(params, a, b)
    assert np.isfinite(g).all()
    assert np.abs(g).max() > 0
    np.testing.assert_array_equal(gradient(dead, a, b), np.zeros_like(g))


def test_other_arrays_are_refused(params):
    with pytest.raises(ValueError, match="one shape"):
        lpips.lpips(params, jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, 32, 33, 3)))
    with pytest.raises(ValueError, match="one shape"):
        lpips.lpips(params, jnp.zeros((2, 32, 32, 1)), jnp.zeros((2, 32, 32, 1)))
    black, unit = jnp.full((2, 32, 32, 3), -1.0), jnp.full((2, 32, 32, 3), 0.3)
    for wrong, words in (
        (unit, "no value of these is below 0"),
        (255 * unit, "these in .76"),
        (jnp.nan * unit, "nan"),
    ):
        with pytest.raises(ValueError, match=f"the second images: .*{words}"):
            lpips.lpips(params, black, wrong)
    with pytest.raises(ValueError, match=r"the first images: .*not float16"):
        lpips.lpips(params, black.astype(jnp.float16), black)
    with pytest.raises(ValueError, match="float images"):
        lpips.lpips(
            params, jnp.zeros((2, 32, 32, 3), jnp.uint8), jnp.zeros((2, 32, 32, 3), jnp.uint8)
        )


def test_its_files(tmp_path, monkeypatch):
    monkeypatch.delenv(extractors.VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"weights of vgg16: .*vgg16-397923af.pth from https"):
        lpips.load("vgg")
    with pytest.raises(InputError, match="net squeeze: must be one of alex, vgg"):
        lpips.load("squeeze")
    backbone, heads = tmp_path / "alexnet.safetensors", tmp_path / "heads.safetensors"
    save_file(alexnet_state(), backbone)
    save_file(heads_state(), heads)
    loaded = lpips.load("alex", backbone, heads, checksum=False)
    np.testing.assert_array_equal(
        loaded["heads"][2], heads_state()["lin2.model.1.weight"].reshape(-1)
    )
    with pytest.raises(InputError, match=r"alexnet\.safetensors: its SHA-256 starts with"):
        lpips.load("alex", backbone, heads)
    with pytest.raises(InputError, match=r"alexnet.safetensors.*no array 'lin0"):
        lpips.load("alex", backbone, backbone, checksum=False)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_published_heads_are_the_pinned_ones(shared, net):
    heads, digest = extractors.load(
        "heads", lpips.HEADS[net], shared / f"weights/lpips_{net}.pth", lambda state: state, True
    )
    assert digest == lpips.HEADS[net].sha256
    assert min(float(x.min()) for x in heads.values()) >= 0
