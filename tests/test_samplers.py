"""The conformance table of everything that draws:

`core.Sampler` as each model declares it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skeleton
import toys

from genjax import sampling
from genjax.edit import walks
from genjax.errors import ConfigError
from genjax.models import dcgan, gan, stylegan2, vae

SMALL = {"shape": (8, 8, 1), "z_dim": 3}
CASES = {
    "vae": vae.recipe(vae.Config(**SMALL, hidden=(4,))),
    "vae-labels": vae.recipe(vae.Config(**SMALL, hidden=(4,), conditional="concat", num_labels=3)),
    "gan": gan.recipe(gan.Config(**SMALL, hidden=(4,))),
    "dcgan-labels": dcgan.recipe(
        dcgan.Config(**SMALL, channels=2, norm="none", conditional="projection", num_labels=3)
    ),
    "r3gan": dcgan.recipe(dcgan.Config(**SMALL, network="r3gan", channels=2, group_width=2)),
    "stylegan2-labels": stylegan2.recipe(
        stylegan2.Config(
            **SMALL,
            w_dim=4,
            mapping_layers=1,
            channel_base=32,
            conditional="projection",
            num_labels=3,
            disc_mapping_layers=1,
        )
    ),
    "skeleton": skeleton.recipe(skeleton.Config(shape=(8, 8, 1), z_dim=3)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    model = CASES[request.param]
    weights = jax.tree.map(lambda x: np.float32(x + 0.1), toys.weights(model, scale=0.3))
    draw = jax.jit(model.sampler.draw)
    return model, weights, draw


def latents(sampler, n=4):
    return jax.random.normal(jax.random.key(1), (n, sampler.z_dim))


def labels(sampler, n=4):
    return sampling.labels(sampler, None, range(n))


def test_facts_are_the_configs(case):
    model, _, _ = case
    sampler, config = model.sampler, model.config
    assert sampler.shape == config.shape
    assert sampler.z_dim == config.z_dim
    assert sampler.num_labels == (config.num_labels if config.conditional != "none" else 0)
    assert (sampler.num_styles > 0) == (sampler.map_latents is not None)
    assert (sampler.num_styles > 0) == (sampler.draw_styles is not None)


def test_images_are_those_of_sample(case):
    """`draw` on the latents of a key is what `sample` draws with it, to a rounding."""
    model, weights, draw = case
    sampler, key = model.sampler, jax.random.key(7)
    z = jax.random.normal(key, (4, sampler.z_dim))
    images = np.clip(draw(weights, z, labels(sampler), 1.0), -1, 1)
    assert images.shape == (4, *sampler.shape)
    assert images.dtype == np.float32
    assert images.std() > 1e-3
    np.testing.assert_allclose(images, model.sample(weights, key, 4), atol=1e-5)


def test_an_image_depends_on_its_latent_only(case):
    model, weights, draw = case
    sampler = model.sampler
    z, classes = latents(sampler), labels(sampler)
    images = draw(weights, z, classes, 1.0)
    classes = None if classes is None else classes[::-1]
    np.testing.assert_allclose(draw(weights, z[::-1], classes, 1.0)[::-1], images, atol=1e-5)


def test_labels_change_images_where_there_are_classes(case):
    model, weights, draw = case
    sampler = model.sampler
    if not sampler.num_labels:
        assert labels(sampler) is None
        return
    z = jnp.repeat(latents(sampler, 1), 3, axis=0)
    images = np.asarray(draw(weights, z, np.arange(3), 1.0))
    assert np.abs(images[0] - images[1:]).max(axis=(1, 2, 3)).min() > 1e-4


def test_truncation_changes_images_where_there_is_one(case):
    model, weights, draw = case
    sampler = model.sampler
    z, classes = latents(sampler), labels(sampler)
    images, less = (np.asarray(draw(weights, z, classes, t)) for t in (1.0, 0.0))
    if not sampler.has_truncation:
        np.testing.assert_array_equal(images, less)
        with pytest.raises(ConfigError, match=r"truncation 0\.5: the model has no truncation"):
            sampling.check_truncation(sampler, 0.5)
        return
    sampling.check_truncation(sampler, 0.5)
    assert np.abs(images - less).max() > 1e-4
    first = 0 if classes is None else np.flatnonzero(classes == classes[0])
    np.testing.assert_allclose(less[first], np.broadcast_to(less[0], less[first].shape), atol=1e-5)


def test_styles_give_the_images_of_their_latents(case):
    model, weights, draw = case
    sampler = model.sampler
    if not sampler.num_styles:
        with pytest.raises(ConfigError, match="space w: the model has no styles"):
            next(walks.walk(sampler, weights, latents(sampler), None, 1.0, "w", 2))
        return
    z, classes = latents(sampler), labels(sampler)
    styles = sampler.map_latents(weights, z, classes, 0.7)
    assert styles.shape[:2] == (4, sampler.num_styles)
    images = sampler.draw_styles(weights, styles)
    np.testing.assert_allclose(images, draw(weights, z, classes, 0.7), atol=1e-5)


def test_drawing_works_under_vmap_and_grad(case):
    model, weights, draw = case
    sampler = model.sampler
    z, classes = latents(sampler, 2), labels(sampler, 2)
    one = lambda z: draw(weights, z[None], None if classes is None else classes[:1], 1.0)[0]
    np.testing.assert_allclose(
        jax.vmap(one)(z[:1]),
        draw(weights, z[:1], None if classes is None else classes[:1], 1.0),
        atol=1e-5,
    )
    slope = jax.grad(lambda z: jnp.mean(one(z)))(z[0])
    assert slope.shape == (sampler.z_dim,)
    assert np.all(np.isfinite(slope))
    assert np.abs(slope).max() > 0
