"""Networks as tables: their layers, and each form of convolution against NumPy.

All lowered products must be in full float32. Parity tests are in tests/reference.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.metrics.extractors import inception, layers, protocols, resize, torchvision


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """The published state dict's names and shapes, collected by asking for them."""

    shapes, read = {}, layers.array

    def asked(state, name, shape):
        shapes[name] = shape
        return np.broadcast_to(1.0, shape)

    layers.array = asked
    try:
        inception.params({})
    finally:
        layers.array = read
    return shapes


def primitives(jaxpr, names):
    """All equations of a jaxpr and of those inside of it, by primitive."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in names:
            yield eqn
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "jaxpr"):
                yield from primitives(inner.jaxpr, names)
            elif hasattr(inner, "eqns"):
                yield from primitives(inner, names)


@pytest.fixture(scope="module")
def params():
    state = {
        name: np.broadcast_to(np.float32(1), shape) for name, shape in inception_shapes().items()
    }
    return inception.params(state)


@pytest.fixture(scope="module")
def traced(params):
    """The program of some taps; each is traced once."""

    @functools.cache
    def trace(taps):
        images = jax.ShapeDtypeStruct((2, 299, 299, 3), np.float32)
        return jax.make_jaxpr(lambda params, x: inception.apply(params, x, taps))(params, images)

    return trace


def test_the_state_dict_has_472_arrays():
    shapes = inception_shapes()
    assert len(shapes) == 472
    assert sum(name.endswith(".conv.weight") for name in shapes) == 94
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)
    assert sum(np.prod(shape) for shape in shapes.values()) == 23_885_392


@pytest.mark.parametrize(
    ("taps", "products"),
    [
        (("64",), 3),
        (("64", "192"), 5),
        (("768",), 70),
        (("2048",), 94),
        (("logits", "logits_unbiased", "64"), 95),
    ],
)
def test_taps_have_their_sizes_and_compute_no_more_than_they_need(traced, taps, products):
    jaxpr = traced(taps)
    # Outputs are in the order of their keys
    shapes = [(2, 1008 if tap.startswith("logits") else int(tap)) for tap in sorted(taps)]
    assert [x.aval.shape for x in jaxpr.jaxpr.outvars] == shapes
    assert len(list(primitives(jaxpr.jaxpr, {"conv_general_dilated", "dot_general"}))) == products


def test_all_networks_and_resizers_multiply_in_full_float32(traced):
    """Otherwise TPUs use bfloat16 and recent GPUs TF32; no test on a CPU notices."""
    shape = jax.ShapeDtypeStruct
    vgg = {
        c.name: {
            "kernel": shape((c.kernel, c.kernel, i, c.features), np.float32),
            "bias": shape((c.features,), np.float32),
        }
        for i, c in zip(
            (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512),
            torchvision.BACKBONES["vgg16"].convs,
            strict=True,
        )
    }
    pixels = jnp.zeros((2, 8, 9, 3), jnp.uint8)
    kernel = {"kernel": jnp.zeros((5, 5, 1, 6)), "bias": jnp.zeros(6)}
    programs = [
        traced(("logits", "logits_unbiased", "64")),
        jax.make_jaxpr(lambda p, x: torchvision.activations(p, x, "vgg16"))(
            vgg, jnp.zeros((1, 32, 32, 3))
        ),
        *(
            jax.make_jaxpr(lambda x, rule=rule: resize.resize(x, (5, 4), rule))(
                jnp.zeros((1, 8, 8, 1))
            )
            for rule in resize.RULES
        ),
        jax.make_jaxpr(lambda x: protocols.preprocess(x, protocols.protocol("clean"), (7, 7)))(
            pixels
        ),
        jax.make_jaxpr(lambda x: layers.conv(x, kernel))(jnp.zeros((1, 32, 32, 1))),
    ]
    for program in programs:
        result = list(primitives(program.jaxpr, {"conv_general_dilated", "dot_general"}))
        assert result
        for each in result:
            assert {*each.params["precision"]} == {jax.lax.Precision.HIGHEST}
            assert each.outvars[0].aval.dtype == jnp.float32


def direct(x, kernel, stride, pad):
    kh, kw, _, features = kernel.shape
    x = np.pad(x, ((0, 0), (pad[0],) * 2, (pad[1],) * 2, (0, 0)))
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((len(x), height, width, features))
    for i in range(height):
        for j in range(width):
            y[:, i, j] = np.tensordot(
                x[:, stride * i : stride * i + kh, stride * j : stride * j + kw], kernel, 3
            )
    return y


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"),
    [
        ((9, 12), (1, 1), 1, (0, 0)),
        ((9, 12), (3, 3), 1, (0, 0)),
        ((9, 12), (3, 3), 1, (1, 1)),
        ((18, 17), (3, 3), 1, (1, 1)),
        ((12, 11), (3, 3), 2, (0, 0)),
        ((8, 8), (3, 3), 1, (1, 1)),
        ((8, 8), (3, 1), 1, (1, 0)),
        ((9, 12), (1, 7), 1, (0, 3)),
        ((9, 12), (7, 1), 1, (3, 0)),
        ((14, 14), (5, 5), 4, (2, 2)),
        ((5, 5), (5, 5), 1, (0, 0)),
    ],
)
@pytest.mark.parametrize(("channels", "features"), [(3, 4), (96, 100)])
def test_every_form_of_convolution_is_its_definition(size, kernel, stride, pad, channels, features):
    random = np.random.default_rng(0)
    x, w, bias = (
        random.normal(size=s).astype(np.float32)
        for s in ((2, *size, channels), (*kernel, channels, features), (features,))
    )
    y = jax.jit(layers.conv, static_argnums=(2, 3))(x, {"kernel": w, "bias": bias}, stride, pad)
    expected = direct(x, w, stride, pad) + bias
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())


def test_pools_are_their_definitions():
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    np.testing.assert_allclose(
        jax.jit(layers.average_pool)(x), np.nanmean(windows, axis=(4, 5)), atol=1e-6
    )
    pool = jax.jit(layers.max_pool, static_argnums=(1, 2, 3))
    np.testing.assert_array_equal(pool(x, 3, 1, 1), np.nanmax(windows, axis=(4, 5)))
    np.testing.assert_array_equal(
        pool(x, 3, 2, 0), np.nanmax(windows[:, 1:-1:2, 1:-1:2], axis=(4, 5))
    )
