"""The PyTorch GANs of the benchmarks equal ours: outputs, losses and gradients from the
same weights."""

import copy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import dcgan, gan

torch = pytest.importorskip("torch")
peers = types.SimpleNamespace(
    gan=pytest.importorskip("benchmarks.peers.gan"),
    dcgan=pytest.importorskip("benchmarks.peers.dcgan"),
)

pytestmark = pytest.mark.reference
BATCH = 8

CONFIGS = {
    "mlp": gan.Config(batch_size=BATCH),
    "mlp_colour": gan.Config(
        shape=(6, 4, 3),
        hidden=(40, 20),
        output="linear",
        loss="relativistic",
        r1_gamma=0.5,
        r2_gamma=2,
        batch_size=BATCH,
    ),
    "dcgan": dcgan.Config(channels=16, batch_size=BATCH),
    "dcgan_oblong": dcgan.Config(shape=(28, 16, 1), channels=8, loss="hinge", batch_size=BATCH),
    "dcgan_r1": dcgan.Config(
        shape=(16, 16, 3),
        channels=8,
        norm="none",
        disc_norm="none",
        loss="relativistic",
        r1_gamma=3,
        batch_size=BATCH,
    ),
}


def close(theirs, ours, tolerance=1e-4):
    """Equal to `tolerance` of the largest value.

    An elementwise relative error is meaningless where sums cancel to about 0.
    """
    ours = np.asarray(ours)
    np.testing.assert_allclose(
        theirs.detach().numpy(), ours, rtol=tolerance, atol=tolerance * np.abs(ours).max()
    )


def cancels(config, parameter):
    """Whether a parameter is the last bias of a discriminator, where it cancels.

    It does where the loss is of differences of logits, as hinge is within its margins.
    """
    return config.loss in ("relativistic", "hinge") and parameter.shape == (1,)


def nchw(images):
    """A tensor of our images."""
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module", params=CONFIGS)
def both(request):
    """Both sides with the same weights, and inputs.

    (our Python module, recipe, state, the peer's Python module, its networks, images
    float32 NHWC in [-1, 1], latents)
    """
    config = CONFIGS[request.param]
    model, peer = (gan, peers.gan) if isinstance(config, gan.Config) else (dcgan, peers.dcgan)
    recipe = model.recipe(config)
    state = jax.jit(recipe.init)(jax.random.key(1))
    # Initial biases are zero and statistics constant: a wrong order of them would not
    # show.
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + np.float32(0.05 * random.standard_normal(x.shape)), state.params
    )
    # A variance has to stay above 0.
    stats = jax.tree.map(lambda x: x + np.float32(0.5 * random.random(x.shape)), state.stats)
    state = state.replace(params=params, stats=stats)
    module = peer.build(config)
    peer.load(module, {"params": state.params, "stats": state.stats})
    images = random.uniform(-1, 1, (BATCH, *config.shape)).astype(np.float32)
    latents = random.standard_normal((BATCH, config.z_dim)).astype(np.float32)
    return model, recipe, state, peer, module, images, latents


@pytest.mark.parametrize("train", [True, False])
def test_outputs(both, train):
    model, recipe, state, _, module, images, latents = both
    networks = {"gen": (model.Generator, latents), "disc": (model.Discriminator, images)}
    module = copy.deepcopy(module).train(train)
    for name, (network, inputs) in networks.items():
        variables = {"params": state.params[name], **state.stats.get(name, {})}
        apply = lambda network, variables, inputs: network(recipe.config).apply(
            variables, inputs, jnp.zeros((BATCH, 0)), train, mutable=["batch_stats"]
        )
        ours, _ = jax.jit(apply, static_argnums=0)(network, variables, inputs)
        if name == "gen":
            close(module.gen(torch.tensor(inputs)).permute(0, 2, 3, 1), ours)
        else:
            close(module.disc(nchw(inputs)), ours)


def test_losses_and_gradients(both):
    """Losses and gradients of a step.

    After the first step Adam's first moment is 1 - b1 times the gradient. The
    generator's are compared with our discriminator's new weights: where a gradient is
    as small as Adam's epsilon, the first step amplifies its rounding error.
    """
    _, recipe, state, peer, module, images, _ = both
    config, key, module = recipe.config, jax.random.key(2), copy.deepcopy(module).train()
    step = jax.jit(recipe.step, static_argnums=3)
    after, metrics = step(state, {"images": jnp.asarray(images)}, key, recipe.plan(0))
    gradients = {
        name: jax.tree.map(lambda mu: mu / (1 - config.adam_b1), after.opt[name][0].mu)
        for name in ("gen", "disc")
    }
    latents = jax.random.normal(jax.random.split(key)[0], (BATCH, config.z_dim))
    expected = copy.deepcopy(module)
    peer.load(expected, {"params": gradients})

    def compare(network, expected):
        for (name, parameter), gradient in zip(
            network.named_parameters(), expected.parameters(), strict=True
        ):
            assert parameter.grad.abs().max() > 1e-5 or cancels(config, parameter), name
            close(parameter.grad, gradient.detach())

    real, fake = nchw(images), module.gen(torch.tensor(np.asarray(latents)))
    loss = peers.gan.disc_loss(module.disc, config, real.clone(), fake.detach())
    loss.backward()
    penalty = config.penalty_interval * sum(
        float(value) for name, value in metrics.items() if name.startswith("penalty/")
    )
    close(loss, metrics["loss/disc"] + penalty)
    compare(module.disc, expected.disc)

    updated = copy.deepcopy(module)
    peer.load(updated, {"params": {"gen": state.params["gen"], "disc": after.params["disc"]}})
    loss = peers.gan.gen_loss(updated.disc, config, real, fake)
    loss.backward()
    close(loss, metrics["loss/gen"])
    compare(module.gen, expected.gen)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_step(both, layout):
    """The peer's step moves every parameter, by no more than Adam's first step can."""
    _, recipe, _, peer, module, _, _ = both
    torch.manual_seed(0)  # of the latents
    module = copy.deepcopy(module)
    before = copy.deepcopy(module)
    images = np.random.default_rng(3).integers(0, 256, (2 * BATCH, *recipe.config.shape), np.uint8)
    loss = peer.step_fn(module, recipe.config, {"images": images}, "cpu", False, layout)()
    assert torch.isfinite(loss)
    for (name, old), new in zip(before.named_parameters(), module.parameters(), strict=True):
        moved = (new - old).abs()
        assert moved.max() > 0 or cancels(recipe.config, new), name
        assert moved.max() <= 1.01 * recipe.config.learning_rate, name
        assert new.requires_grad
