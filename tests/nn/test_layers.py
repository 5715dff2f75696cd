"""Layers against their definitions in NumPy, and their shapes and dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import draw, plain_conv, plain_fir_down, plain_up_fir

from genjax.nn import layers

TAPS = (1, 3, 3, 1)


def run(module, *inputs, mutable=()):
    """Parameters of a layer, and its output under jit, in NumPy."""
    inputs = [jnp.asarray(x) for x in inputs]
    variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    apply = jax.jit(functools.partial(module.apply, mutable=list(mutable)))
    return jax.tree.map(np.asarray, (variables, apply(variables, *inputs)[0]))


@pytest.mark.parametrize("name", layers.ACTIVATIONS)
def test_mlp_is_dense_layers_with_an_activation_after_each(name):
    x = draw(3, 4)
    variables, y = run(layers.MLP((5, 2), name), x)
    for layer in ("Dense_0", "Dense_1"):
        params = variables["params"][layer]
        x = np.asarray(layers.ACTIVATIONS[name](x @ params["kernel"] + params["bias"]))
    np.testing.assert_allclose(y, x, atol=1e-5)


def test_elu_is_its_definition():
    x = draw(50)
    np.testing.assert_allclose(
        layers.ACTIVATIONS["elu"](jnp.asarray(x)), np.where(x > 0, x, np.expm1(x)), atol=1e-6
    )


def test_spectral_normalisation_tends_to_the_largest_singular_value_1():
    x = jnp.asarray(np.eye(6, dtype=np.float32))
    module = layers.Dense(4, use_bias=False, spectral=True)
    variables = module.init(jax.random.key(0), x)
    update = jax.jit(lambda variables: module.apply(variables, x, mutable=["spectral"]))
    for _ in range(60):
        y, state = update(variables)
        variables = {**variables, **state}
    kernel = np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(y, kernel / np.linalg.svd(kernel)[1][0], rtol=1e-3, atol=1e-4)
    # Not mutable: the vector stays as it is.
    np.testing.assert_allclose(module.apply(variables, x), y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "size", "shape"),
    [(1, None, (5, 6)), (2, None, (3, 3)), ("up", None, (10, 12)), ("up", (9, 12), (9, 12))],
)
def test_conv_has_its_sizes_a_bias_and_no_gradient_to_a_fixed_one(stride, size, shape):
    module = layers.Conv(4, kernel=3, stride=stride, size=size, fixed_bias=True)
    x = jnp.asarray(draw(2, 5, 6, 3))
    variables = module.init(jax.random.key(0), x)
    loss = jax.jit(jax.value_and_grad(lambda v: jnp.mean(module.apply(v, x)), allow_int=True))
    base, slopes = loss(variables)
    assert jax.eval_shape(module.apply, variables, x).shape == (2, *shape, 4)
    np.testing.assert_array_equal(slopes["params"]["bias"], 0)
    assert np.any(slopes["params"]["kernel"] != 0)
    shifted = jax.tree.map(lambda v: v + 1 if v.ndim == 1 else v, variables)
    np.testing.assert_allclose(loss(shifted)[0], base + 1, atol=1e-5)


def test_conv_takes_padding_and_groups_and_refuses_other_strides():
    x = draw(2, 5, 6, 4)
    variables, y = run(layers.Conv(6, groups=2, use_bias=False), x)
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 2, 6)
    np.testing.assert_allclose(y, plain_conv(x, kernel, groups=2), atol=1e-5)
    variables, y = run(layers.Conv(6, pad=0, use_bias=False), x)
    np.testing.assert_allclose(y, plain_conv(x, variables["params"]["kernel"], 0), atol=1e-5)
    with pytest.raises(ValueError, match="stride is 1, 2 or 'up', not 3"):
        run(layers.Conv(6, stride=3), x)


def test_logit_is_a_dense_layer_plus_the_projection():
    x, labels = draw(3, 5), np.eye(4, dtype=np.float32)[[0, 3, 3]]
    variables, y = run(layers.Logit(projection=True), x, labels)
    out, embed = (variables["params"][name] for name in ("out", "embed"))
    expected = (x @ out["kernel"] + out["bias"])[:, 0] + np.sum(
        labels @ embed["kernel"] * x, axis=1
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_batch_norm_uses_the_batch_in_training_and_stored_statistics_otherwise():
    x = 2 * draw(4, 3, 5, 2) + 1
    module = layers.BatchNorm(train=True)
    variables = module.init(jax.random.key(0), jnp.asarray(x))
    y, state = module.apply(variables, jnp.asarray(x), mutable=["batch_stats"])
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["variance"], variance, rtol=1e-4)
    params = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -1.0])}
    stored = {"mean": jnp.array([1.0, 2.0]), "variance": jnp.array([4.0, 0.25])}
    variables = {"params": params, "batch_stats": stored}
    y = layers.BatchNorm(train=False).apply(variables, jnp.asarray(x))
    expected = (x - [1, 2]) / np.sqrt(np.array([4, 0.25]) + 1e-5) * [2, 3] + [0.5, -1]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_instance_norm_is_per_image_and_takes_given_statistics(n):
    x, module = 3 * draw(n, 4, 5, 2) - 1, layers.InstanceNorm()
    mean, variance = (f(axis=(1, 2), keepdims=True) for f in (x.mean, x.var))
    y, state = module.apply({}, jnp.asarray(x), mutable=["instance"])
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    part = module.apply(state, jnp.asarray(x[:, :2]))
    np.testing.assert_allclose(part, np.asarray(y)[:, :2], atol=1e-5)


def test_equalised_layers_scale_weights_when_they_are_used():
    x, images = draw(3, 50), draw(2, 6, 8, 3)
    variables, y = run(layers.EqualizedDense(400, rate=0.01, bias_start=1.0), x)
    kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
    np.testing.assert_allclose([kernel.std(), bias.mean()], [100, 100], rtol=0.02)
    np.testing.assert_allclose(y, x @ kernel * 0.01 / 50**0.5 + 1, atol=1e-4)
    for size, down in ((3, False), (3, True), (1, False), (1, True)):
        variables, y = run(layers.EqualizedConv(4, size, down), images)
        kernel = variables["params"]["kernel"] / (3 * size**2) ** 0.5
        plain = plain_fir_down(images, kernel, TAPS) if down else plain_conv(images, kernel)
        np.testing.assert_allclose(y, plain, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_conv_is_a_convolution_with_one_kernel_per_image(up, demodulate):
    x, scales = draw(2, 4, 6, 3), draw(2, 3, seed=1)
    module = layers.ModulatedConv(5, up=up, demodulate=demodulate)
    variables, y = run(module, x, scales)
    for image, scale, got in zip(x, scales, y, strict=True):
        kernel = variables["params"]["kernel"] * scale[:, None]
        if demodulate:
            kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        else:
            kernel = kernel / 27**0.5
        plain = plain_up_fir(image[None], kernel, TAPS) if up else plain_conv(image[None], kernel)
        np.testing.assert_allclose(got[None], plain, atol=1e-5)
    half = layers.ModulatedConv(5, up=up, demodulate=demodulate, dtype=jnp.bfloat16)
    low = half.apply(variables, jnp.asarray(x), jnp.asarray(100 * scales))
    assert low.dtype == jnp.bfloat16
    wanted = y if demodulate else 100 * y
    np.testing.assert_allclose(low.astype(jnp.float32), wanted, atol=0.05 * np.abs(wanted).max())


def test_leaky_one_hot_and_planes():
    x = jnp.array([-10.0, -1.0, 1.0, 10.0])
    np.testing.assert_allclose(layers.leaky(x, 1.0), [-2, -0.2, 1, 10], rtol=1e-6)
    np.testing.assert_allclose(layers.leaky(x, 2**0.5, 3.0), [-(8**0.5), -(0.08**0.5), 2**0.5, 3])
    labels = layers.one_hot_labels(jnp.array([1, 0]), 2, 3)
    assert labels.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert layers.one_hot_labels(None, 2, 0).shape == (2, 0)
    with pytest.raises(ValueError, match="needs labels"):
        layers.one_hot_labels(None, 2, 3)
    images = jnp.asarray(draw(2, 4, 5, 1))
    with_labels = layers.with_planes(images, labels)
    np.testing.assert_array_equal(with_labels[..., :1], images)
    np.testing.assert_array_equal(with_labels[:, 2, 3, 1:], labels)
