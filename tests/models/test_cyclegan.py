"""CycleGAN: sizes of the paper, what a step descends, translation of any shape."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core, losses
from genjax.core import InputError
from genjax.models import cyclegan

TOY = cyclegan.Config(shape=(16, 16, 3), channels=4, blocks=1, disc_channels=4, disc_layers=1, batch_size=2, pool_size=3)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def pictures(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


def test_sizes_are_the_papers():
    state = jax.eval_shape(cyclegan.recipe(cyclegan.Config()).init, jax.random.key(0))
    assert [count(state.params[name]) for name in ("gen_a2b", "gen_b2a")] == [11_378_179] * 2
    assert [count(state.params[name]) for name in ("disc_a", "disc_b")] == [2_764_737] * 2
    six = jax.eval_shape(cyclegan.recipe(cyclegan.Config(blocks=6)).init, jax.random.key(0))
    assert count(six.params["gen_a2b"]) == 11_378_179 - 3 * 2 * (9 * 256 * 256 + 256)


def test_a_discriminator_sees_patches_of_70():
    model = cyclegan.recipe(cyclegan.Config(channels=4, blocks=1, disc_channels=4))
    weights = core.weights(model.init(jax.random.key(0)))
    assert model.discriminate(weights, jnp.zeros((1, 256, 256, 3))).shape == (1, 30, 30)
    seen = jax.grad(lambda x: judge(weights, x)[0, 15, 15])

    def judge(weights, x):  # without the normalisation, which sees everything, what is seen is the convolutions' reach
        params = weights["params"]["disc_b"]
        for i in range(4):
            kernel = jnp.abs(params[f"conv_{i}"]["kernel"])
            x = jax.lax.conv_general_dilated(
                x, kernel, (2 if i < 3 else 1,) * 2, [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        last = jnp.abs(params["logits"]["kernel"])
        return jax.lax.conv_general_dilated(x, last, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))[..., 0]

    reached = np.argwhere(np.asarray(seen(jnp.zeros((1, 256, 256, 3))))[0, :, :, 0])
    assert (reached.max(axis=0) - reached.min(axis=0) + 1).tolist() == [70, 70]


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (8, 9), (5, 2), (1, 1)])
@pytest.mark.parametrize("network", ["resnet", "unet"])
def test_translation_keeps_any_size(size, network):
    model = cyclegan.recipe(dataclasses.replace(TOY, network=network, depth=3))
    weights = core.weights(model.init(jax.random.key(0)))
    translated = model.translate(weights, pictures(0, 2, *size, 3), "b2a")
    assert translated.shape == (2, *size, 3)
    assert np.all(np.abs(translated) <= 1)


def test_each_image_is_translated_by_itself():
    for fields in ({}, {"upsample": "resize"}, {"network": "unet", "depth": 3}):
        model = cyclegan.recipe(dataclasses.replace(TOY, **fields))
        weights = core.weights(model.init(jax.random.key(0)))
        both = pictures(0, 2, 16, 16, 3)
        alone = jnp.concatenate([model.translate(weights, both[:1]), model.translate(weights, both[1:])])
        np.testing.assert_allclose(model.translate(weights, both), alone, atol=1e-5)


def test_directions_are_two_networks_and_others_are_refused():
    model = cyclegan.recipe(TOY)
    weights, images = core.weights(model.init(jax.random.key(0))), pictures(0, 1, 16, 16, 3)
    there, back = model.translate(weights, images), model.translate(weights, images, "b2a")
    assert not np.allclose(there, back)
    np.testing.assert_allclose(model.cycle(weights, images), model.translate(weights, there, "b2a"), atol=1e-6)
    with pytest.raises(ValueError, match="a2b or b2a"):
        model.translate(weights, images, "up")


def test_the_losses_are_those_of_the_paper():
    """The logged terms of the first step, from the verbs: equations 1 and 2, with squares in place of logarithms, and section 5.2."""
    model = cyclegan.recipe(dataclasses.replace(TOY, ssim_weight=0.0))
    state = model.init(jax.random.key(0))
    raw = {"params": state.params, "stats": {}}
    a, b = pictures(1, 2, 16, 16, 3), pictures(2, 2, 16, 16, 3)
    _, metrics = jax.jit(model.step, static_argnums=3)(state, {"images": a, "images_b": b}, jax.random.key(3), model.plan(0))
    fake_a, fake_b = model.translate(raw, b, "b2a"), model.translate(raw, a)
    expected = {
        "loss/gen_a": jnp.mean((model.discriminate(raw, fake_a, "a") - 1) ** 2),
        "loss/gen_b": jnp.mean((model.discriminate(raw, fake_b, "b") - 1) ** 2),
        "loss/cycle_a": jnp.mean(jnp.abs(model.translate(raw, fake_b, "b2a") - a)),
        "loss/cycle_b": jnp.mean(jnp.abs(model.translate(raw, fake_a) - b)),
        "loss/identity_a": jnp.mean(jnp.abs(model.translate(raw, a, "b2a") - a)),
        "loss/identity_b": jnp.mean(jnp.abs(model.translate(raw, b) - b)),
        "loss/disc_a": 0.5 * jnp.mean((model.discriminate(raw, a, "a") - 1) ** 2 + model.discriminate(raw, fake_a, "a") ** 2),
        "loss/disc_b": 0.5 * jnp.mean((model.discriminate(raw, b, "b") - 1) ** 2 + model.discriminate(raw, fake_b, "b") ** 2),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_the_pool_is_part_of_the_state_and_fills():
    model = cyclegan.recipe(TOY)
    state, step = model.init(jax.random.key(0)), jax.jit(model.step, static_argnums=3)
    batch = {"images": pictures(1, 2, 16, 16, 3), "images_b": pictures(2, 2, 16, 16, 3)}
    fake = model.translate({"params": state.params}, batch["images"])
    state, _ = step(state, batch, jax.random.key(0), model.plan(0))
    assert int(state.aux["pool_b"]["count"]) == 2
    np.testing.assert_allclose(state.aux["pool_b"]["images"][:2], fake, atol=1e-5)
    state, _ = step(state, batch, jax.random.key(1), model.plan(1))
    assert int(state.aux["pool_a"]["count"]) == 3


def test_the_rate_is_constant_and_then_falls_to_0_on_a_line():
    model = cyclegan.recipe(
        dataclasses.replace(TOY, constant_steps=1, decay_steps=2, ema_half_life_images=0.0, adam_b1=0.0, adam_b2=0.0)
    )
    state, step = model.init(jax.random.key(0)), jax.jit(model.step, static_argnums=3)
    moved = []
    for i in range(4):
        batch = {"images": pictures(i, 2, 16, 16, 3), "images_b": pictures(9 + i, 2, 16, 16, 3)}
        after, _ = step(state, batch, jax.random.key(i), model.plan(i))
        change = jax.tree.map(lambda new, old: jnp.max(jnp.abs(new - old)), after.params["gen_a2b"], state.params["gen_a2b"])
        moved.append(float(max(jax.tree.leaves(change))))
        state = after
    np.testing.assert_allclose(moved, [2e-4, 2e-4, 1e-4, 0], atol=2e-6)  # Adam without memory moves by the rate


def test_the_ssim_term_is_that_of_the_reconstruction():
    batch = {"images": pictures(1, 2, 16, 16, 3), "images_b": pictures(2, 2, 16, 16, 3)}
    rows = {}
    for weight in (0.0, 0.5):
        model = cyclegan.recipe(dataclasses.replace(TOY, ssim_weight=weight))
        state = model.init(jax.random.key(0))
        rows[weight] = jax.jit(model.step, static_argnums=3)(state, batch, jax.random.key(3), model.plan(0))[1]
    back = model.cycle({"params": state.params}, batch["images"])
    extra = 0.5 * (1 - jnp.mean(losses.ssim(batch["images"], back)))
    np.testing.assert_allclose(rows[0.5]["loss/cycle_a"] - rows[0.0]["loss/cycle_a"], extra, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"network": "vgg"}, "--model.network"),
        ({"loss": "relativistic"}, "--model.loss"),
        ({"upsample": "bilinear"}, "--model.upsample"),
        ({"pool_size": -1}, "--model.pool-size"),
        ({"disc_layers": 3}, "--model.disc-layers"),
        ({"shape": (18, 16, 3)}, "--resolution 18 16"),
        ({"network": "unet", "depth": 5}, "multiple of 32"),
        ({"shape": (8, 8, 3), "ssim_weight": 1.0}, "--model.ssim-weight"),
        ({"learning_rate": 0.0}, "--model.learning-rate"),
    ],
)
def test_configs_that_mean_nothing_are_refused(fields, named):
    with pytest.raises(InputError, match=named):
        cyclegan.recipe(dataclasses.replace(TOY, **fields))
