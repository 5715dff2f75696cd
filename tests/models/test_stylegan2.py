"""StyleGAN2: sizes of the papers, shapes of any proportion, styles and truncation, what
a step descends and when.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from genjax import losses
from genjax.errors import InputError
from genjax.models import stylegan2

TOY = stylegan2.Config(
    shape=(8, 8, 3),
    z_dim=4,
    w_dim=5,
    mapping_layers=1,
    channel_base=32,
    batch_size=4,
    mbstd_group_size=2,
    pl_batch_shrink=2,
)


@functools.cache
def made(**fields):
    """A toy model, its verbs compiled, and weights of which none is at its start."""
    model = stylegan2.recipe(dataclasses.replace(TOY, **fields))
    model = model._replace(
        mapping=jax.jit(model.mapping, static_argnames="truncation_cutoff"),
        synthesis=jax.jit(model.synthesis, static_argnames="noise"),
        discriminate=jax.jit(model.discriminate),
    )
    weights = toys.weights(model, scale=1.0)
    return model, jax.tree.map(lambda x: jnp.asarray(x + 0.1), weights)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("fields", "gen", "disc"),
    [
        ({"shape": (1024, 1024, 3)}, 30_370_060, 29_012_513),
        ({"shape": (512, 512, 3)}, 30_276_583, 28_982_849),
        ({"shape": (256, 256, 3), "channel_base": 16384}, 24_767_458, 24_001_089),
        (
            {
                "shape": (32, 32, 3),
                "mapping_layers": 2,
                "disc_network": "orig",
                "conditional": "projection",
                "num_labels": 10,
            },
            20_215_315,
            23_089_664,
        ),
    ],
)
def test_sizes_are_the_published(fields, gen, disc):
    state = jax.eval_shape(stylegan2.recipe(stylegan2.Config(**fields)).init, jax.random.key(0))
    assert (count(state.params["gen"]), count(state.params["disc"])) == (gen, disc)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ((64, 64, 3), [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]),
        ((48, 64, 1), [(6, 8), (12, 16), (24, 32), (48, 64)]),
        ((96, 144, 3), [(6, 9), (12, 18), (24, 36), (48, 72), (96, 144)]),
        ((5, 7, 3), [(5, 7)]),
    ],
)
def test_any_sides_are_a_constant_doubled(shape, levels):
    assert stylegan2.levels(dataclasses.replace(TOY, shape=shape)) == levels


@pytest.mark.parametrize(
    ("shape", "network"), [((6, 10, 4), "skip"), ((12, 20, 1), "resnet"), ((5, 4, 3), "orig")]
)
def test_images_of_any_shape_are_drawn_and_judged(shape, network):
    model, weights = made(shape=shape, gen_network=network, disc_network=network)
    images = model.synthesis(weights, normal(0, 4, stylegan2.num_styles(model.config), 5))
    assert images.shape == (4, *shape)
    assert model.discriminate(weights, images).shape == (4,)


def test_truncation_moves_the_first_styles_to_their_mean():
    model, weights = made()
    latents, mean = normal(0, 3, 4), weights["stats"]["gen"]["mean_style"][None, None]
    styles = model.mapping(weights, latents)
    assert styles.shape == (3, 4, 5)
    np.testing.assert_array_equal(styles[:, 0], styles[:, 3])
    half = model.mapping(weights, latents, None, 0.5, truncation_cutoff=3)
    np.testing.assert_allclose(half[:, :3], 0.5 * (styles[:, :3] + mean), rtol=1e-5)
    np.testing.assert_array_equal(half[:, 3], styles[:, 3])
    np.testing.assert_allclose(
        model.mapping(weights, latents, None, 0.0), np.broadcast_to(mean, (3, 4, 5)), rtol=1e-6
    )


def test_each_image_has_its_own_styles_and_noise_is_one_of_three():
    model, weights = made()
    styles = normal(0, 2, 4, 5)
    images = model.synthesis(weights, styles)
    np.testing.assert_allclose(
        model.synthesis(weights, styles[::-1]), images[::-1], rtol=1e-4, atol=1e-5
    )
    same = jnp.stack([styles[0]] * 2)
    for noise, key, alike in (
        ("const", None, True),
        ("none", None, True),
        ("random", jax.random.key(0), False),
    ):
        first, second = model.synthesis(weights, same, noise=noise, key=key)
        assert np.allclose(first, second, atol=1e-5) == alike, noise
    assert not np.allclose(images, model.synthesis(weights, styles, noise="none"))
    for noise, key in (("random", None), ("const", jax.random.key(0)), ("white", None)):
        with pytest.raises(ValueError, match="noise"):
            model.synthesis(weights, styles, noise=noise, key=key)


def test_style_mix_takes_the_layers_asked_for_from_the_columns():
    model, weights = made()
    rows, columns = normal(0, 2, 4, 5), normal(1, 3, 4, 5)
    images = model.style_mix(weights, rows, columns, slice(2, 4))
    assert images.shape == (2, 3, 8, 8, 3)
    mixed = jnp.concatenate([rows[1, :2], columns[2, 2:]])
    np.testing.assert_allclose(
        images[1, 2], jnp.clip(model.synthesis(weights, mixed[None])[0], -1, 1), atol=1e-5
    )


def test_interpolation_goes_from_end_to_end_in_both_spaces():
    model, weights = made()
    first, second = normal(0, 2, 4), normal(1, 2, 4)
    for space in ("z", "w"):
        images = model.interpolate(weights, first, second, 3, space=space)
        assert images.shape == (2, 3, 8, 8, 3)
        for place, latents in ((0, first), (2, second)):
            ends = jnp.clip(model.synthesis(weights, model.mapping(weights, latents)), -1, 1)
            np.testing.assert_allclose(images[:, place], ends, atol=1e-3)
    with pytest.raises(ValueError, match="space"):
        model.interpolate(weights, first, second, 3, space="x")


def test_labels_condition_both_networks_and_are_asked_for():
    model, weights = made(conditional="projection", num_labels=3, disc_mapping_layers=1)
    latents, images = normal(0, 2, 4), normal(1, 2, 8, 8, 3)
    styles, logits = (
        [f(weights, x, jnp.int32([0, label]))[1] for label in (1, 2)]
        for f, x in ((model.mapping, latents), (model.discriminate, images))
    )
    assert not np.allclose(*styles)
    assert not np.allclose(*logits)
    with pytest.raises(ValueError, match="labels"):
        model.mapping(weights, latents)


def test_lazy_penalties_are_due_at_their_steps():
    plans = [stylegan2.recipe(TOY).plan(step).due for step in range(17)]
    assert plans[0] == plans[16] == ("path", "r1")
    assert [step for step, due in enumerate(plans) if due == ("path",)] == [4, 8, 12]
    assert set(stylegan2.recipe(TOY).lazy) == {"path", "r1"}
    assert {
        stylegan2.recipe(dataclasses.replace(TOY, r1_gamma=0.0, pl_weight=0.0)).plan(step).due
        for step in range(17)
    } == {()}


def test_a_step_descends_the_losses_of_the_paper():
    """Path length's mean, w's mean and the penalties as logged, from the verbs on the
    state before.
    """
    fields = {
        "style_mixing_prob": 0.0,
        "r1_interval": 1,
        "pl_interval": 1,
        "pl_batch_shrink": 1,
        "learning_rate": 1e-9,
        "pl_decay": 0.25,
    }
    model, _ = made(**fields)
    state = toys.state(model, 1.0)
    assert float(state.params["gen"]["synthesis"]["conv_0"]["noise_strength"]) == 0
    real = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3), minval=-1)
    after, metrics = jax.jit(model.step, static_argnums=3)(
        state, {"images": real}, jax.random.key(2), model.plan(0)
    )
    raw = {"params": state.params, "stats": state.stats}
    step_key, _, path_key = (
        jax.random.split(key, 1)[0] for key in jax.random.split(jax.random.key(2), 3)
    )
    style_key = jax.random.split(step_key, 4)[0]

    def styles_of(key):
        return model.mapping(raw, jax.random.normal(jax.random.split(key)[0], (4, 4)))

    @jax.jit
    def terms(real):
        styles, keys = styles_of(style_key), jax.random.split(path_key, 3)
        draw = lambda w: model.synthesis(raw, w, noise="none")
        r1 = jnp.mean(losses.r1(lambda x: model.discriminate(raw, x), real))
        lengths = losses.path_lengths(draw, keys[2], styles_of(keys[0]))
        return (
            styles,
            model.discriminate(raw, real),
            model.discriminate(raw, draw(styles)),
            r1,
            lengths,
        )

    styles, real_logits, fake_logits, r1, lengths = terms(real)
    softplus = lambda x: np.log1p(np.exp(x))
    np.testing.assert_allclose(
        metrics["loss/disc"], np.mean(softplus(-real_logits) + softplus(fake_logits)), rtol=1e-4
    )
    np.testing.assert_allclose(metrics["loss/gen"], np.mean(softplus(-fake_logits)), rtol=1e-4)
    np.testing.assert_allclose(metrics["penalty/r1"], 5 * r1, rtol=1e-3)
    np.testing.assert_allclose(
        after.stats["gen"]["mean_style"], 0.005 * styles[:, 0].mean(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(metrics["health/path_length"], lengths.mean(), rtol=1e-4)
    np.testing.assert_allclose(after.aux["path_length"], 0.25 * lengths.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        metrics["penalty/path"], 2 * np.mean((lengths - 0.25 * lengths.mean()) ** 2), rtol=1e-3
    )


@pytest.mark.parametrize("network", stylegan2.config.DISC_NETWORKS)
def test_the_discriminators_layers_are_named_in_order(network):
    config = dataclasses.replace(TOY, disc_network=network)
    names = stylegan2.networks.disc_layers(config)
    assert sorted([*names, "last_dense", "logits"]) == sorted(
        jax.eval_shape(stylegan2.recipe(config).init, jax.random.key(0)).params["disc"]
    )
    assert names[:3] == ["rgb_1", "conv_1", "down_1"]


def test_frozen_layers_stay_and_slices_train():
    model, _ = made(freeze_disc=2, accumulate=2, mbstd_group_size=2, ema_half_life_images=0.0)
    state, batch = toys.state(model, 1.0), {"images": normal(0, 4, 8, 8, 3)}
    for advance in (model.step, model.lazy["r1"]):
        after, metrics = jax.jit(advance, static_argnums=3)(
            state, batch, jax.random.key(1), model.plan(1)
        )
        assert all(np.isfinite(value) for value in metrics.values())
        moved = {
            name: not np.array_equal(part["kernel"], after.params["disc"][name]["kernel"])
            for name, part in state.params["disc"].items()
        }
        assert moved == {name: name not in ("rgb_1", "conv_1") for name in moved}


def test_slices_have_the_gradient_of_the_batch():
    """Of R1, which draws nothing, and where no image is compared with others:

    Adam's second moment is its square.
    """
    squares = []
    for accumulate in (1, 2):
        model, _ = made(accumulate=accumulate, mbstd_group_size=1)
        state, batch = toys.state(model, 1.0), {"images": normal(0, 4, 8, 8, 3)}
        after, _ = jax.jit(model.lazy["r1"], static_argnums=3)(
            state, batch, jax.random.key(1), model.plan(0)
        )
        squares.append(jax.tree.leaves(after.opt["disc"][0].nu))
    for whole, sliced in zip(*squares, strict=True):
        np.testing.assert_allclose(sliced, whole, rtol=1e-3, atol=1e-5 * np.abs(whole).max())


def test_the_probability_of_augmentation_follows_the_logits_or_stays():
    """Where the target is below all signs it rises each fourth step by 4 batches of 500
    thousand images; a fixed one never moves.
    """
    seen = {}
    for name, fields in {
        "follows": {"ada_target": -2.0, "ada_kimg": 0.1},
        "stays": {"ada_p": 0.25},
    }.items():
        model, _ = made(shape=(4, 4, 3), augment="blit", pl_weight=0.0, r1_gamma=0.0, **fields)
        state, step = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.step, static_argnums=3)
        for i in range(8):
            state, metrics = step(
                state, {"images": normal(i, 4, 4, 4, 3)}, jax.random.key(i), model.plan(i)
            )
            seen.setdefault(name, []).append(float(metrics["health/augment_p"]))
    np.testing.assert_allclose(seen["follows"], [0] * 4 + [0.16] * 4, rtol=1e-5)
    assert seen["stays"] == [0.25] * 8


def test_bfloat16_networks_are_near_the_float32_ones_and_clamped():
    plain, weights = made()
    narrow, _ = made(dtype="bfloat16")
    styles = normal(0, 2, 4, 5)
    images, rounded = plain.synthesis(weights, styles), narrow.synthesis(weights, styles)
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(images - rounded).max() < 0.05 * np.abs(images).max()
    clamped, _ = made(dtype="bfloat16", conv_clamp=0.01)
    assert (
        np.abs(clamped.synthesis(weights, styles)).max() <= 0.03
    )  # a sum of two RGB images, one enlarged


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"gen_network": "progressive"}, "gen_network"),
        ({"disc_network": "progressive"}, "disc_network"),
        ({"conditional": "projection"}, "conditional"),
        ({"mbstd_group_size": 3}, "batch_size 4"),
        ({"shape": (3, 8, 3)}, "shape 3x8"),
        ({"augment": "bgx"}, "augment"),
        ({"pl_interval": 0}, "pl_interval"),
        ({"accumulate": 3}, "accumulate 3"),
        ({"style_mixing_prob": 1.5}, "style_mixing_prob"),
        ({"dtype": "float16"}, "dtype"),
        ({"ada_target": 60.0}, "ada_target 60"),
        ({"resample_filter": (1, 3, 2)}, "resample_filter"),
        ({"resample_filter": ()}, "resample_filter"),
    ],
)
def test_configs_that_mean_nothing_are_refused(fields, named):
    with pytest.raises(InputError, match=named):
        stylegan2.recipe(dataclasses.replace(TOY, **fields))
