"""A published VAE in PyTorch (784-400-20 on MNIST) has equal outputs in our MLP VAE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.models import vae

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def published(shared):
    """(model, published weights)."""
    torch = pytest.importorskip("torch")
    theirs = {
        name: value.numpy()
        for name, value in torch.load(shared / "weights/vae_mnist.pth", weights_only=True).items()
    }

    def dense(*names):
        """A dense layer; PyTorch stores kernels as [out, in].

        Mean and log variance are two layers there and one here.
        """
        kernel = np.concatenate([theirs[f"{name}.weight"] for name in names]).T
        return {
            "kernel": jnp.asarray(kernel),
            "bias": jnp.asarray(np.concatenate([theirs[f"{name}.bias"] for name in names])),
        }

    weights = {
        "params": {
            "enc": {"hidden": {"Dense_0": dense("fc1")}, "posterior": dense("fc21", "fc22")},
            "dec": {"hidden": {"Dense_0": dense("fc3")}, "pixels": dense("fc4")},
        },
        "stats": {},
    }
    model = vae.recipe(vae.Config(shape=(28, 28, 1), hidden=(400,), z_dim=20, activation="relu"))
    shapes = jax.eval_shape(model.init, jax.random.key(0)).params
    assert jax.tree.map(lambda x: x.shape, weights["params"]) == jax.tree.map(
        lambda x: x.shape, shapes
    )
    return model, weights


@pytest.fixture(scope="module")
def mnist_test(shared):
    """The test images, float32 in [-1, 1]."""
    arrays = data.load(str(shared / "mnist"), split="test").arrays
    assert arrays is not None
    return jnp.float32(arrays["images"]) / 127.5 - 1


def close(ours, theirs):
    """Equal to 1e-4."""
    np.testing.assert_allclose(np.asarray(ours).reshape(theirs.shape), theirs, atol=1e-4)


def test_its_outputs_are_the_reference_ones(published, mnist_test, shared):
    model, weights = published
    reference = np.load(shared / "weights/reference/csinva_vae.npz")
    images = mnist_test[reference["x_index"]]
    mean, log_variance = model.encode(weights, images)
    close(mean, reference["mu"])
    close(log_variance, reference["logvar"])
    close((model.reconstruct(weights, images) + 1) / 2, reference["recon_mu"])
    close((model.decode(weights, jnp.asarray(reference["z"])) + 1) / 2, reference["decode_z"])
    close(
        (model.decode(weights, jnp.asarray(reference["rand_z"])) + 1) / 2, reference["rand_decode"]
    )
    mean, log_variance = model.encode(
        weights, jnp.asarray(reference["rand_in"]).reshape(-1, 28, 28, 1) * 2 - 1
    )
    close(mean, reference["rand_mu"])
    close(log_variance, reference["rand_logvar"])


def test_its_negative_elbo_is_the_published_figure(published, mnist_test):
    model, weights = published
    elbo = jax.jit(model.elbo)
    values = [
        elbo(weights, jax.random.key(first), mnist_test[first : first + 1000])
        for first in range(0, 10_000, 1000)
    ]
    assert abs(-np.mean(values) - 103.2) < 0.3
