"""CycleGAN: sizes of the paper, what a step descends, translation of any shape."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from genjax import core, losses
from genjax.errors import InputError
from genjax.models import cyclegan
from genjax.nn import layers

TOY = cyclegan.Config(
    shape=(16, 16, 3),
    channels=4,
    blocks=1,
    disc_channels=4,
    disc_layers=1,
    batch_size=2,
    pool_size=3,
    constant_steps=1,
    decay_steps=2,
    adam_b1=0.0,
    adam_b2=0.0,
)


@functools.cache
def made(**fields):
    """A toy model, its verbs compiled."""
    model = cyclegan.recipe(dataclasses.replace(TOY, **fields))
    static = {"translate": "direction", "cycle": "direction", "discriminate": "side"}
    return model._replace(
        **{
            verb: jax.jit(getattr(model, verb), static_argnames=name)
            for verb, name in static.items()
        }
    )


@functools.cache
def steps(count=1, **fields):
    """The states before and after each of `count` steps, of which the first batch is
    `BATCH`, and the first one's metrics.
    """
    model = made(**fields)
    state, step = toys.state(model), jax.jit(model.step, static_argnums=3)
    states, rows = [state], []
    for i in range(count):
        batch = {name: jnp.roll(images, i, axis=1) for name, images in BATCH.items()}
        state, metrics = step(state, batch, jax.random.key(i), model.plan(i))
        states.append(state)
        rows.append(metrics)
    return states, rows[0]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def pictures(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


BATCH = {"images": pictures(1, 2, 16, 16, 3), "images_b": pictures(2, 2, 16, 16, 3)}


def test_logits_of_bfloat16_networks_are_not_rounded():
    model = made(dtype="bfloat16")
    logits = model.discriminate(core.weights(toys.state(model)), BATCH["images"])
    assert logits.dtype == jnp.float32
    assert np.any(logits != logits.astype(jnp.bfloat16))


@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_and_its_gradient_are_the_definition(batch):
    x, g = pictures(1, batch, 4, 5, 3), pictures(2, batch, 4, 5, 3)
    norm = layers.InstanceNorm()

    def plain(x):
        return (x - x.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(
            x.var((1, 2), keepdims=True) + 1e-5
        )

    for form in (lambda f: f(x), lambda f: jax.vjp(f, x)[1](g)[0]):
        np.testing.assert_allclose(form(lambda x: norm.apply({}, x)), form(plain), atol=1e-5)


def test_sizes_are_the_papers():
    state = jax.eval_shape(cyclegan.recipe(cyclegan.Config()).init, jax.random.key(0))
    assert [count(state.params[name]) for name in ("gen_a2b", "gen_b2a")] == [11_378_179] * 2
    assert [count(state.params[name]) for name in ("disc_a", "disc_b")] == [2_764_737] * 2
    six = jax.eval_shape(cyclegan.recipe(cyclegan.Config(blocks=6)).init, jax.random.key(0))
    assert count(six.params["gen_a2b"]) == 11_378_179 - 3 * 2 * (9 * 256 * 256 + 256)


def test_a_discriminator_sees_patches_of_70():
    model = cyclegan.recipe(cyclegan.Config(channels=4, blocks=1, disc_channels=4))
    weights = toys.weights(model)
    assert jax.eval_shape(model.discriminate, weights, jnp.zeros((1, 256, 256, 3))).shape == (
        1,
        30,
        30,
    )
    seen = jax.jit(jax.grad(lambda x: judge(weights, x)[0, 15, 15]))

    def judge(
        weights, x
    ):  # without the normalisation, which sees everything, what is seen is the convolutions' reach
        params = weights["params"]["disc_b"]
        for i in range(4):
            kernel = jnp.abs(params[f"conv_{i}"]["kernel"])
            x = jax.lax.conv_general_dilated(
                x,
                kernel,
                (2 if i < 3 else 1,) * 2,
                [(1, 1)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        last = jnp.abs(params["logits"]["kernel"])
        return jax.lax.conv_general_dilated(
            x, last, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[..., 0]

    reached = np.argwhere(np.asarray(seen(jnp.zeros((1, 256, 256, 3))))[0, :, :, 0])
    assert (reached.max(axis=0) - reached.min(axis=0) + 1).tolist() == [70, 70]


@pytest.mark.parametrize("size", [(17, 23), (5, 2), (1, 1)])
@pytest.mark.parametrize("network", ["resnet", "unet", "affine"])
def test_translation_keeps_any_size(size, network):
    model = made(network=network, depth=3)
    translated = model.translate(toys.weights(model), pictures(0, 2, *size, 3), "b2a")
    assert translated.shape == (2, *size, 3)
    assert np.all(np.abs(translated) <= 1)


def test_each_image_is_translated_by_itself():
    for fields in (
        {},
        {"upsample": "resize"},
        {"network": "unet", "depth": 3},
        {"network": "affine", "depth": 3},
    ):
        model = made(**fields)
        weights, both = toys.weights(model), pictures(0, 2, 16, 16, 3)
        alone = model.translate(weights, jnp.stack([both[0], both[0]]))
        np.testing.assert_allclose(model.translate(weights, both)[0], alone[0], atol=1e-5)


def test_an_affine_network_is_a_gain_and_an_offset_of_each_channel():
    model, images = made(network="affine", depth=3), pictures(0, 2, 17, 23, 3)
    weights = core.weights(jax.jit(model.init)(jax.random.key(0)))
    assert (
        np.max(np.abs(model.translate(weights, images) - images)) < 0.3
    )  # it begins near the identity
    last = weights["params"]["gen_a2b"]["last"]
    last["kernel"] = jnp.zeros_like(last["kernel"])
    last["bias"] = jnp.float32([jnp.log(2), 0, 0, 0, 0.25, 3])
    red, green, blue = (images[..., i] for i in range(3))
    expected = jnp.stack(
        [jnp.clip(2 * red + 1, -1, 1), jnp.minimum(green + 0.5, 1), jnp.ones_like(blue)], axis=-1
    )
    np.testing.assert_allclose(model.translate(weights, images), expected, atol=1e-6)


def test_without_its_norms_a_discriminator_sees_how_bright_an_image_is():
    images, logits = pictures(0, 1, 16, 16, 3), {}
    for norm in ("instance", "none"):
        model = made(disc_layers=2, disc_norm=norm)
        weights = toys.weights(model, scale=0.4)  # so that the norm's epsilon is nothing
        logits[norm] = [
            np.ravel(model.discriminate(weights, scale * images)) for scale in (0.25, 0.5)
        ]
    dark, bright = logits["none"]
    np.testing.assert_allclose(bright, 2 * dark, rtol=1e-3, atol=1e-4)
    dark, bright = logits["instance"]
    np.testing.assert_allclose(bright, dark, atol=0.05 * np.std(dark))


def test_directions_are_two_networks_and_others_are_refused():
    model = made()
    weights, images = toys.weights(model), pictures(0, 2, 16, 16, 3)
    there, back = model.translate(weights, images), model.translate(weights, images, "b2a")
    assert not np.allclose(there, back)
    np.testing.assert_allclose(
        model.cycle(weights, images), model.translate(weights, there, "b2a"), atol=1e-6
    )
    with pytest.raises(ValueError, match="a2b or b2a"):
        model.translate(weights, images, "up")


def test_the_losses_are_those_of_the_paper():
    """The logged terms of the first step, from the verbs: equations 1 and 2, with
    squares in place of logarithms, and section 5.2.
    """
    model, (states, metrics) = made(), steps(3)
    raw = {"params": states[0].params, "stats": {}}
    a, b = BATCH["images"], BATCH["images_b"]
    fake_a, fake_b = model.translate(raw, b, "b2a"), model.translate(raw, a)
    expected = {
        "loss/gen_a": jnp.mean((model.discriminate(raw, fake_a, "a") - 1) ** 2),
        "loss/gen_b": jnp.mean((model.discriminate(raw, fake_b, "b") - 1) ** 2),
        "loss/cycle_a": jnp.mean(jnp.abs(model.translate(raw, fake_b, "b2a") - a)),
        "loss/cycle_b": jnp.mean(jnp.abs(model.translate(raw, fake_a) - b)),
        "loss/identity_a": jnp.mean(jnp.abs(model.translate(raw, a, "b2a") - a)),
        "loss/identity_b": jnp.mean(jnp.abs(model.translate(raw, b) - b)),
        "loss/disc_a": 0.5
        * jnp.mean(
            (model.discriminate(raw, a, "a") - 1) ** 2 + model.discriminate(raw, fake_a, "a") ** 2
        ),
        "loss/disc_b": 0.5
        * jnp.mean(
            (model.discriminate(raw, b, "b") - 1) ** 2 + model.discriminate(raw, fake_b, "b") ** 2
        ),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_the_pool_is_part_of_the_state_and_fills():
    states, _ = steps(3)
    fake = made().translate({"params": states[0].params}, BATCH["images"])
    assert int(states[1].aux["pool_b"]["count"]) == 2
    np.testing.assert_allclose(states[1].aux["pool_b"]["images"][:2], fake, atol=1e-5)
    assert int(states[2].aux["pool_a"]["count"]) == 3


def test_the_rate_is_constant_and_then_falls_to_0_on_a_line():
    states, _ = steps(3)
    moved = []
    for before, after in itertools.pairwise(states):
        change = jax.tree.map(
            lambda new, old: np.max(np.abs(new - old)),
            after.params["gen_a2b"],
            before.params["gen_a2b"],
        )
        moved.append(max(jax.tree.leaves(change)))
    np.testing.assert_allclose(
        moved, [2e-4, 2e-4, 1e-4], atol=2e-6
    )  # Adam without memory moves by the rate


def test_the_cycle_of_one_side_alone_and_its_ssim_term():
    one, both = steps(cycle_share_a=0.0, ssim_weight=0.5)[1], steps(3)[1]
    assert both.keys() - one.keys() == {"loss/cycle_a"}
    model, images = made(), BATCH["images_b"]
    back = model.cycle({"params": steps(3)[0][0].params}, images, "b2a")
    extra = 0.5 * (1 - jnp.mean(losses.ssim(images, back)))
    np.testing.assert_allclose(one["loss/cycle_b"] - both["loss/cycle_b"], extra, rtol=1e-4)


def test_noise_is_put_on_what_must_find_its_way_back():
    plain = {
        "network": "affine",
        "depth": 2,
        "blocks": 0,
        "identity_weight": 0.0,
        "cycle_share_a": 0.0,
    }
    states, metrics = steps(**plain, cycle_noise=0.5)
    model, raw = made(**plain), {"params": states[0].params}
    fake = model.translate(raw, BATCH["images_b"], "b2a")
    noise = jax.random.normal(
        jax.random.fold_in(jax.random.split(jax.random.key(0))[0], 2), fake.shape
    )
    expected = jnp.mean(jnp.abs(model.translate(raw, fake + 0.5 * noise) - BATCH["images_b"]))
    np.testing.assert_allclose(metrics["loss/cycle_b"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"network": "vgg"}, "network"),
        ({"loss": "relativistic"}, "loss"),
        ({"upsample": "bilinear"}, "upsample"),
        ({"pool_size": -1}, "pool_size"),
        ({"disc_layers": 3}, "disc_layers"),
        ({"shape": (18, 16, 3)}, "shape 18x16"),
        ({"network": "unet", "depth": 5}, "multiple of 32"),
        ({"shape": (8, 8, 3), "ssim_weight": 1.0}, "ssim_weight"),
        ({"network": "affine", "depth": 7}, "depth"),
        ({"disc_norm": "batch"}, "disc_norm"),
        ({"cycle_noise": -1.0}, "cycle_noise"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_configs_that_mean_nothing_are_refused(fields, named):
    with pytest.raises(InputError, match=named):
        cyclegan.recipe(dataclasses.replace(TOY, **fields))
