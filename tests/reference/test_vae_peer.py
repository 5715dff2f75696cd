"""The PyTorch VAE of the benchmarks equals ours: outputs, loss and gradients from the
same weights."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core
from genjax.models import vae

torch = pytest.importorskip("torch")
peer = pytest.importorskip("benchmarks.peers.vae")

pytestmark = pytest.mark.reference
BATCH = 8

CONFIGS = {
    "mlp": vae.Config(),
    "mlp_colour": vae.Config(shape=(6, 4, 3), hidden=(40, 20, 10), activation="gelu", z_dim=7),
    "conv": vae.Config(shape=(32, 32, 3), network="conv"),
    "conv_oblong": vae.Config(shape=(16, 8, 3), network="conv", channels=(8, 12), z_dim=7),
}


def close(theirs, ours, tolerance=1e-4):
    """Equal to `tolerance` of the largest value.

    An elementwise relative error is meaningless where sums cancel to about 0.
    """
    ours = np.asarray(ours)
    np.testing.assert_allclose(
        theirs.detach().numpy(), ours, rtol=tolerance, atol=tolerance * np.abs(ours).max()
    )


@pytest.fixture(scope="module", params=CONFIGS)
def both(request):
    """(recipe, state, the peer's module with the same weights, images, the same
    images).

    Images are float32 NHWC in [-1, 1], and NCHW in [0, 1].
    """
    config = CONFIGS[request.param]
    recipe = vae.recipe(config)
    state = recipe.init(jax.random.key(1))
    # Initial biases are zero: a wrong order of them would not show.
    random = np.random.default_rng(0)
    state = state.replace(
        params=jax.tree.map(
            lambda x: x + np.float32(0.05 * random.standard_normal(x.shape)), state.params
        )
    )
    module = peer.build(config)
    peer.load(module, core.weights(state))
    pixels = random.integers(0, 256, (BATCH, *config.shape), np.uint8)
    x = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
    return recipe, state, module, jnp.float32(pixels) / 127.5 - 1, x


def test_outputs(both):
    recipe, state, module, images, x = both
    for theirs, ours in zip(
        module.encode(x), jax.jit(recipe.encode)(core.weights(state), images), strict=True
    ):
        close(theirs, ours)
    latents = (
        np.random.default_rng(1).standard_normal((BATCH, recipe.config.z_dim)).astype(np.float32)
    )
    logits, _ = jax.jit(vae.networks.Decoder(recipe.config).apply)(
        {"params": state.params["dec"]}, latents, jnp.zeros((BATCH, 0))
    )
    close(module.decode(torch.tensor(latents)).permute(0, 2, 3, 1), logits)


def test_loss_and_gradients(both):
    """Loss and gradients of `elbo` with the same noise; a step hides its gradients."""
    recipe, state, module, images, x = both
    key = jax.random.key(2)

    def loss_fn(params):
        return -jnp.mean(recipe.elbo({"params": params, "stats": {}}, key, images))

    loss, gradients = jax.jit(jax.value_and_grad(loss_fn))(state.params)
    noise = vae.verbs._noise(jax.random.split(key)[1], jnp.arange(1), BATCH, recipe.config.z_dim)[
        :, 0
    ]
    theirs = module.loss(x, torch.tensor(np.asarray(noise)))
    module.zero_grad()
    theirs.backward()
    close(theirs, loss)
    ours = copy.deepcopy(module)
    peer.load(ours, {"params": gradients})
    for parameter, gradient in zip(module.parameters(), ours.parameters(), strict=True):
        close(parameter.grad, gradient.detach())


def test_step(both):
    """One step with the noise that `step` draws: its loss and Adam's parameter updates.

    Updates are compared on average: where a gradient is as small as Adam's epsilon, the
    first step amplifies its rounding error.
    """
    recipe, state, module, images, x = both
    config, key, module = recipe.config, jax.random.key(3), copy.deepcopy(module)
    noise = jax.random.normal(jax.random.split(key)[1], (BATCH, 1, config.z_dim))[:, 0]
    after, metrics = jax.jit(recipe.step, static_argnums=3)(
        state, {"images": images}, key, core.Plan(BATCH, config.shape[:2])
    )
    before, ours = copy.deepcopy(module), copy.deepcopy(module)
    peer.load(ours, core.weights(after))
    optimizer = torch.optim.Adam(
        module.parameters(), lr=config.learning_rate, eps=config.adam_eps, fused=True
    )
    loss = module.loss(x, torch.tensor(np.asarray(noise)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    close(loss, metrics["loss/objective"])
    for old, theirs, expected in zip(
        before.parameters(), module.parameters(), ours.parameters(), strict=True
    ):
        assert (theirs - expected).abs().mean() <= 1e-3 * (expected - old).abs().mean()
