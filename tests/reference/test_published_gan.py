"""A published GAN in PyTorch (an MLP, 64-256-256-784 on MNIST) gives the same outputs
in our plain GAN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.models import gan

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def published(shared):
    """(model, published weights, published outputs)."""
    torch = pytest.importorskip("torch")

    def dense(network):
        """The three dense layers of a network; PyTorch stores kernels as [out, in]."""
        theirs = torch.load(
            shared / f"weights/gan_mlp_mnist_{network}.ckpt", weights_only=True, map_location="cpu"
        )
        return [
            {
                "kernel": jnp.asarray(theirs[f"{i}.weight"].T),
                "bias": jnp.asarray(theirs[f"{i}.bias"]),
            }
            for i in (0, 2, 4)
        ]

    (first, second, pixels), (third, fourth, logit) = dense("g"), dense("d")
    weights = {
        "params": {
            "gen": {"hidden": {"Dense_0": first, "Dense_1": second}, "pixels": pixels},
            "disc": {"hidden": {"Dense_0": third, "Dense_1": fourth}, "logit": {"out": logit}},
        },
        "stats": {},
    }
    model = gan.recipe(gan.Config(shape=(28, 28, 1), hidden=(256, 256), z_dim=64, output="tanh"))
    shapes = jax.eval_shape(model.init, jax.random.key(0)).params
    assert jax.tree.map(lambda x: x.shape, weights["params"]) == jax.tree.map(
        lambda x: x.shape, shapes
    )
    return model, weights, np.load(shared / "weights/reference/csinva_mlp_gan.npz")


def close(ours, theirs):
    """Equal to 1e-4."""
    np.testing.assert_allclose(np.asarray(ours).reshape(theirs.shape), theirs, atol=1e-4)


def test_its_images_are_the_reference_ones(published):
    model, weights, reference = published
    close(jax.jit(model.generate)(weights, reference["z"]), reference["g"])


def test_its_judgements_are_the_reference_ones(published, shared):
    model, weights, reference = published
    discriminate = jax.jit(lambda images: jax.nn.sigmoid(model.discriminate(weights, images)))
    close(discriminate(reference["g"].reshape(-1, 28, 28, 1)), reference["d_fake"])
    arrays = data.load(str(shared / "mnist"), split="test").arrays
    assert arrays is not None
    images = arrays["images"][:16]
    close(discriminate(jnp.float32(images) / 127.5 - 1), reference["d_real_t10k_first16"])
