"""CycleGAN against PyTorch: converted random weights of the reference's structure, and
the training step of the benchmark's peer."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import cli, core
from genjax.models import cyclegan

torch = pytest.importorskip("torch")
peer = pytest.importorskip("benchmarks.peers.cyclegan")

pytestmark = pytest.mark.reference

TOY = cyclegan.Config(
    shape=(32, 32, 3),
    channels=8,
    blocks=2,
    disc_channels=8,
    disc_layers=2,
    batch_size=3,
    pool_size=2,
)


def close(theirs, ours, tolerance=1e-4):
    """Equal to `tolerance` of the largest value."""
    ours = np.asarray(ours)
    np.testing.assert_allclose(
        theirs.detach().numpy(), ours, rtol=tolerance, atol=tolerance * np.abs(ours).max()
    )


def nchw(images):
    """A tensor of our images."""
    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("blocks", [6, 9])
@pytest.mark.parametrize("legacy", [False, True])
def test_converted_weights_translate_as_in_pytorch(tmp_path, blocks, legacy):
    torch.manual_seed(0)
    module = peer.build(cyclegan.Config(channels=16, blocks=blocks, disc_channels=16))
    (tmp_path / "model").mkdir()
    files = {
        "G_A": module.gens["a2b"],
        "G_B": module.gens["b2a"],
        "D_A": module.discs["b"],
        "D_B": module.discs["a"],
    }
    for name, network in files.items():
        path = tmp_path / f"model/latest_net_{name}.pth"
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    cli.convert("cyclegan", tmp_path / "model", out=tmp_path / "run")
    model, weights = genjax.load(tmp_path / "run")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 96, 3)).astype(np.float32)
    with torch.no_grad():
        for way in ("a2b", "b2a"):
            theirs = module.gens[way](nchw(images)).permute(0, 2, 3, 1)
            np.testing.assert_allclose(
                model.translate(weights, images, way), theirs.numpy(), atol=1e-4
            )
        for side in "ab":
            close(module.discs[side](nchw(images))[:, 0], model.discriminate(weights, images, side))


@pytest.fixture(scope="module")
def both():
    """(recipe, state, peer's module with the same weights)."""
    recipe = cyclegan.recipe(TOY)
    state = recipe.init(jax.random.key(1))
    random = np.random.default_rng(0)
    state = state.replace(
        params=jax.tree.map(
            lambda x: x + np.float32(0.05 * random.standard_normal(x.shape)), state.params
        )
    )
    module = peer.build(TOY)
    peer.load(module, {"params": state.params})
    return recipe, state, module


def test_losses_and_gradients(both):
    """The gradients of a step are those of the objective written in PyTorch.

    After the first step Adam's first moment is 1 - b1 times the gradient.
    """
    recipe, state, module = both
    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, 32, 32, 3)).astype(np.float32)
    batch = {"images": jnp.asarray(images[0]), "images_b": jnp.asarray(images[1])}
    after, metrics = jax.jit(recipe.step, static_argnums=3)(
        state, batch, jax.random.key(0), recipe.plan(0)
    )
    gradients = {**after.opt["gens"][0].mu, **after.opt["discs"][0].mu}
    expected = copy.deepcopy(module)
    peer.load(expected, {"params": jax.tree.map(lambda mu: mu / (1 - TOY.adam_b1), gradients)})

    module = copy.deepcopy(module)
    real_a, real_b = nchw(images[0]), nchw(images[1])
    fake_b, fake_a = module.gens["a2b"](real_a), module.gens["b2a"](real_b)
    adversarial = (module.discs["b"](fake_b) - 1).square().mean() + (
        module.discs["a"](fake_a) - 1
    ).square().mean()
    cycle = (module.gens["b2a"](fake_b) - real_a).abs().mean() + (
        module.gens["a2b"](fake_a) - real_b
    ).abs().mean()
    identity = (module.gens["a2b"](real_b) - real_b).abs().mean() + (
        module.gens["b2a"](real_a) - real_a
    ).abs().mean()
    (adversarial + 10 * cycle + 5 * identity).backward()
    close(adversarial, metrics["loss/gen_a"] + metrics["loss/gen_b"])
    close(cycle, metrics["loss/cycle_a"] + metrics["loss/cycle_b"])
    close(identity, metrics["loss/identity_a"] + metrics["loss/identity_b"])
    compare(module.gens, expected.gens)

    module.discs.zero_grad()
    # The pools of 2 are filled by the first two images; our state tells which of them
    # was swapped with the third.
    pools = {side: after.aux[f"pool_{side}"]["images"] for side in "ab"}
    loss = torch.zeros(())
    for side, real, fake in (("a", real_a, fake_a), ("b", real_b, fake_b)):
        generated = fake.detach().permute(0, 2, 3, 1).numpy()
        swapped = [i for i in range(2) if not np.allclose(pools[side][i], generated[i], atol=1e-4)]
        replayed = generated
        if swapped:
            third = generated[swapped[0] : swapped[0] + 1]
            replayed = np.concatenate([generated[:2], third])
        on_real, on_fake = module.discs[side](real), module.discs[side](nchw(replayed))
        loss = loss + 0.5 * ((on_real - 1).square().mean() + on_fake.square().mean())
    loss.backward()
    close(loss, metrics["loss/disc_a"] + metrics["loss/disc_b"])
    compare(module.discs, expected.discs)


def compare(network, expected):
    """The gradients of a network equal the parameters of `expected`."""
    for (name, parameter), gradient in zip(
        network.named_parameters(), expected.parameters(), strict=True
    ):
        if gradient.detach().abs().max() > 1e-5:  # a bias before a normalisation has no gradient
            close(parameter.grad, gradient.detach(), 1e-3)
        else:
            assert parameter.grad.abs().max() < 1e-4, name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_peers_step_descends(both, layout):
    _, _, module = both
    torch.manual_seed(0)
    module = copy.deepcopy(module)
    before = copy.deepcopy(module)
    sets = np.random.default_rng(3).integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
    step = peer.step_fn(module, TOY, {"images": sets[0], "images_b": sets[1]}, "cpu", False, layout)
    losses = [float(step()) for _ in range(25)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    for (name, old), new in zip(before.named_parameters(), module.named_parameters(), strict=True):
        if name.endswith("weight"):
            assert (new[1] - old).abs().max() > 0, name


def test_averages_translate(both):
    _, state, _ = both
    assert set(core.weights(state)["params"]) == {"gen_a2b", "gen_b2a", "disc_a", "disc_b"}
    assert set(state.ema) == {"gen_a2b", "gen_b2a"}
