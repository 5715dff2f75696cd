"""Convolutional GANs: shapes and parameter counts, batch norm's two modes, spectral
norm, and blocks that start as the identity.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core
from genjax.errors import InputError
from genjax.models import dcgan
from genjax.nn import layers

TINY = dcgan.Config(shape=(8, 12, 1), channels=4, z_dim=3, batch_size=8)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_dcgan_has_the_papers_size():
    # 64x64: 3,576,704 and 2,765,568 without any bias; ours has one where no batch norm
    # follows: 3 colours, 64 features, 1 logit.
    params = jax.eval_shape(
        dcgan.recipe(dcgan.Config(shape=(64, 64, 3))).init, jax.random.key(0)
    ).params
    assert count(params["gen"]) == 3_576_704 + 3
    assert count(params["disc"]) == 2_765_568 + 64 + 1


@pytest.mark.parametrize("network", ["dcgan", "r3gan"])
@pytest.mark.parametrize(
    ("size", "smallest"),
    [
        ((16, 16), (4, 4)),
        ((256, 256), (4, 4)),
        ((28, 28), (7, 7)),
        ((64, 160), (4, 10)),
        ((96, 48), (12, 6)),
    ],
)
def test_sizes(network, size, smallest):
    shape = (*size, 3)
    assert dcgan.stages(shape)[1] == smallest
    model = dcgan.recipe(dcgan.Config(shape=shape, network=network, channels=4, group_width=4))
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.eval_shape(lambda w: model.sample(w, jax.random.key(0), 2), core.weights(state))
    assert images.shape == (2, *shape)
    assert jax.eval_shape(
        lambda w, x: model.discriminate(w, x), core.weights(state), images
    ).shape == (2,)


def trained(steps, **changes):
    model = dcgan.recipe(dataclasses.replace(TINY, **changes))
    levels = np.random.default_rng(1).integers(0, 256, (8, *model.config.shape))
    step = jax.jit(model.step, static_argnums=3)
    state = jax.jit(model.init)(jax.random.key(0))
    for index in range(steps):
        state, _ = step(
            state,
            {"images": jnp.float32(levels) / 127.5 - 1},
            jax.random.key(index),
            model.plan(index),
        )
    return model, state


def test_batch_norm_normalises_in_training_and_remembers_afterwards():
    x = jax.random.normal(jax.random.key(0), (16, 3, 5, 2)) * jnp.float32([[[[2.0, 0.1]]]]) + 3
    norm = layers.BatchNorm(train=True)
    variables = norm.init(jax.random.key(0), x)
    y, seen = norm.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(np.mean(y, axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(np.var(y, axis=(0, 1, 2)), 1, rtol=3e-3)
    np.testing.assert_allclose(seen["batch_stats"]["mean"], np.mean(x, axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(
        seen["batch_stats"]["variance"], np.var(x, axis=(0, 1, 2)), rtol=1e-3
    )
    later = layers.BatchNorm(train=False).apply({"params": variables["params"], **seen}, x[:1])
    np.testing.assert_allclose(later, y[:1], atol=1e-3)


def test_a_sample_does_not_depend_on_the_others_of_its_batch():
    model, state = trained(3)
    latents = jax.random.normal(jax.random.key(0), (5, 3))
    together = model.generate(core.weights(state), latents)
    np.testing.assert_allclose(
        model.generate(core.weights(state), latents[2:3]), together[2:3], atol=1e-5
    )


def test_the_generators_statistics_are_averaged_with_its_weights():
    _, state = trained(
        12, ema_half_life_images=1e6, ema_ramp=1e9
    )  # hardly any new weight: statistics as at the start
    start = trained(0)[1]
    for old, new in zip(
        jax.tree.leaves(start.stats["gen"]), jax.tree.leaves(state.stats["gen"]), strict=True
    ):
        np.testing.assert_allclose(new, old, atol=1e-2)


def test_spectral_norm_bounds_every_layer():
    _, state = trained(
        30, shape=(16, 16, 1), disc_norm="none", spectral=True, loss="hinge", learning_rate=1e-5
    )
    kernel = state.params["disc"]["down_1"]["kernel"]
    layer = layers.Conv(kernel.shape[-1], kernel=4, stride=2, spectral=True, use_bias=False)
    stats = {"spectral": state.stats["disc"]["spectral"]["down_1"]}
    sigma = np.linalg.norm(np.asarray(kernel).reshape(-1, kernel.shape[-1]), ord=2)
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, kernel.shape[2]))
    plain = layers.Conv(kernel.shape[-1], kernel=4, stride=2, use_bias=False).apply(
        {"params": {"kernel": kernel}}, x
    )
    np.testing.assert_allclose(
        layer.apply({"params": {"kernel": kernel}, **stats}, x), plain / sigma, rtol=1e-2, atol=1e-4
    )


def test_residual_blocks_start_as_the_identity():
    block = dcgan.Block(dcgan.Config(network="r3gan", group_width=4), jnp.dtype("float32"))
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    variables = block.init(jax.random.key(1), x)
    np.testing.assert_array_equal(block.apply(variables, x), x)
    moved = jax.tree.map(lambda p: p + 0.1, variables)
    assert np.max(np.abs(block.apply(moved, x) - x)) > 0.1


def test_bfloat16_networks_give_float32_images_near_the_float32_ones():
    for network in ("dcgan", "r3gan"):
        config = dataclasses.replace(TINY, network=network, group_width=4)
        model, narrow = (
            dcgan.recipe(config),
            dcgan.recipe(dataclasses.replace(config, dtype="bfloat16")),
        )
        weights = core.weights(jax.jit(model.init)(jax.random.key(0)))
        wide, images = (
            jax.jit(m.sample, static_argnums=2)(weights, jax.random.key(1), 4)
            for m in (model, narrow)
        )
        assert images.dtype == jnp.float32
        np.testing.assert_allclose(images, wide, atol=0.05)
        logits = jax.jit(narrow.discriminate)(weights, images)
        assert logits.dtype == jnp.float32
        assert np.any(logits != logits.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"network": "big"}, "network big: one of dcgan, r3gan"),
        ({"norm": "layer"}, "norm layer"),
        ({"r1_gamma": 1.0}, "disc_norm batch: a penalty"),
        ({"network": "r3gan", "channels": 7, "group_width": 4}, "group_width 4: must divide"),
        ({"network": "r3gan", "spectral": True, "group_width": 4}, "spectral True: only"),
        ({"shape": (7, 8, 1)}, "shape 7x8: each side"),
        ({"channels": 0}, "channels 0"),
    ],
)
def test_a_config_that_means_nothing_is_refused(changes, option):
    with pytest.raises(InputError, match=option):
        dcgan.recipe(dataclasses.replace(TINY, **changes))
