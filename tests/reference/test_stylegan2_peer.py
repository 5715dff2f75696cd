"""StyleGAN2 against PyTorch: converted random weights with the published key names, for
every architecture, conditional and unconditional."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import losses
from genjax.convert import stylegan2 as convert
from genjax.models import stylegan2

torch = pytest.importorskip("torch")
peer = pytest.importorskip("benchmarks.peers.stylegan2")

pytestmark = pytest.mark.reference

TOY = stylegan2.Config(
    shape=(16, 16, 3),
    z_dim=24,
    w_dim=20,
    mapping_layers=2,
    channel_base=192,
    channel_max=16,
    mbstd_group_size=2,
    batch_size=4,
)
CONDITIONAL = dataclasses.replace(
    TOY, conditional="projection", num_labels=5, disc_mapping_layers=3
)


def close(ours, theirs, tolerance):
    """Equal to `tolerance` of the largest value."""
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(
        np.asarray(ours), theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max()
    )


def nhwc(images):
    """PyTorch's images in our layout."""
    return images.permute(0, 2, 3, 1)


def random_modules(config):
    """The peer's networks, with arrays that start as constants made random too."""
    torch.manual_seed(0)
    gen, disc = peer.Generator(config), peer.Discriminator(config)
    with torch.no_grad():
        for name, parameter in [
            *gen.named_parameters(),
            *gen.named_buffers(),
            *disc.named_parameters(),
        ]:
            if name.endswith(("bias", "strength", "w_avg")):
                parameter += 0.3 * torch.randn_like(parameter)
    return gen, disc


def both(config):
    """(peer's generator and discriminator, our model, the converted weights)."""
    gen, disc = random_modules(config)
    converted, weights = convert.weights(
        {name: x.numpy() for name, x in gen.state_dict().items()},
        {name: x.numpy() for name, x in disc.state_dict().items()},
        mbstd_group_size=config.mbstd_group_size,
        batch_size=config.batch_size,
    )
    assert converted == config
    return gen, disc, stylegan2.recipe(converted), weights


@pytest.mark.parametrize("network", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("config", [TOY, CONDITIONAL], ids=["plain", "conditional"])
def test_images_and_logits_are_those_of_pytorch(config, network):
    config = dataclasses.replace(config, gen_network=network, disc_network=network)
    gen, disc, model, weights = both(config)
    random = np.random.default_rng(0)
    latents = random.standard_normal((4, config.z_dim)).astype(np.float32)
    labels = np.array([0, 3, 4, 3], np.int32) if config.conditional != "none" else None
    hot = None if labels is None else torch.eye(5)[torch.tensor(labels).long()]
    styles = gen.mapping(torch.tensor(latents), hot)
    for cutoff in (None, 3):
        ours = jax.jit(model.mapping, static_argnums=4)(weights, latents, labels, 0.7, cutoff)
        theirs = styles[:, None].repeat(1, ours.shape[1], 1)
        theirs[:, :cutoff] = gen.mapping.w_avg.lerp(theirs[:, :cutoff], 0.7)
        close(ours, theirs, 1e-5)
    for noise in ("const", "none"):
        images = jax.jit(model.synthesis, static_argnums=2)(weights, ours, noise)
        close(images, nhwc(gen.synthesis(theirs, noise)), 1e-4)
    pixels = torch.tensor(random.uniform(-1, 1, (4, 3, 16, 16)).astype(np.float32))
    close(
        jax.jit(model.discriminate)(weights, nhwc(pixels).numpy(), labels), disc(pixels, hot), 1e-4
    )


def test_penalties_and_their_gradients_are_those_of_pytorch(monkeypatch):
    gen, disc, model, weights = both(TOY)
    random = np.random.default_rng(1)
    pixels = torch.tensor(
        random.uniform(-1, 1, (4, 3, 16, 16)).astype(np.float32), requires_grad=True
    )
    (slope,) = torch.autograd.grad(disc(pixels).sum(), pixels, create_graph=True)
    r1 = slope.square().sum(dim=(1, 2, 3))
    r1.mean().backward()

    def ours_r1(params):
        changed = {"params": {**weights["params"], "disc": params}, "stats": {}}
        values = losses.r1(
            lambda images: model.discriminate(changed, images),
            jnp.asarray(nhwc(pixels).detach().numpy()),
        )
        return jnp.mean(values), values

    gradient, values = jax.jit(jax.grad(ours_r1, has_aux=True))(weights["params"]["disc"])
    close(values, r1, 1e-3)
    _, wanted = convert.weights(
        {name: x.numpy() for name, x in gen.state_dict().items()}, gradients(disc)
    )
    compare(gradient, wanted["params"]["disc"])

    styles = torch.tensor(random.standard_normal((4, 6, 20)).astype(np.float32), requires_grad=True)
    directions = random.standard_normal((4, 16, 16, 3)).astype(np.float32)
    images = gen.synthesis(styles)
    (slope,) = torch.autograd.grad(
        (nhwc(images) * torch.tensor(directions) / 16).sum(), styles, create_graph=True
    )
    lengths = slope.square().sum(dim=2).mean(dim=1).sqrt()
    (lengths - 0.5).square().mean().backward()
    monkeypatch.setattr(
        jax.random, "normal", lambda key, shape, *_: jnp.asarray(directions.reshape(shape))
    )

    def ours_path(params):
        changed = {"params": {"gen": params}, "stats": weights["stats"]}
        lengths = losses.path_lengths(
            lambda w: model.synthesis(changed, w),
            jax.random.key(0),
            jnp.asarray(styles.detach().numpy()),
        )
        return jnp.mean(jnp.square(lengths - 0.5)), lengths

    gradient, values = jax.jit(jax.grad(ours_path, has_aux=True))(weights["params"]["gen"])
    close(values, lengths, 1e-3)
    _, wanted = convert.weights(
        gradients(gen) | {name: x.numpy() for name, x in gen.named_buffers()}
    )
    compare(gradient["synthesis"], wanted["params"]["gen"]["synthesis"])


def gradients(module):
    """The gradients of a module by name; zeros where there is none."""
    none = lambda x: torch.zeros_like(x) if x.grad is None else x.grad
    return {name: none(x).numpy() for name, x in module.named_parameters()}


def compare(ours, theirs):
    """Equal trees, to 1e-3 or to 1e-4 of the largest value."""
    largest = max(np.abs(x).max() for x in jax.tree.leaves(theirs))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * largest), ours, theirs
    )


@pytest.mark.parametrize("network", ["skip", "resnet", "orig"])
def test_our_weights_go_into_pytorch(network):
    config = dataclasses.replace(CONDITIONAL, gen_network=network, disc_network=network)
    model = stylegan2.recipe(config)
    state = model.init(jax.random.key(0))
    gen_arrays, disc_arrays = convert.arrays(config, {"params": state.params, "stats": state.stats})
    assert {
        f"b{size}.{layer}.{convert.BUFFER}"
        for size, layer in ((4, "conv"), (8, "conv0"), (16, "fromrgb"))
    } <= disc_arrays.keys()
    gen, disc = peer.Generator(config), peer.Discriminator(config)
    filters = lambda arrays: {
        name: torch.tensor(x) for name, x in arrays.items() if not name.endswith(convert.BUFFER)
    }
    gen.load_state_dict(filters(gen_arrays))
    disc.load_state_dict(filters(disc_arrays))
    again = convert.weights(gen_arrays, disc_arrays)[1]
    jax.tree.map(np.testing.assert_array_equal, again["params"], jax.device_get(state.params))
    jax.tree.map(np.testing.assert_array_equal, again["stats"], jax.device_get(state.stats))
