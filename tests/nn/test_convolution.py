"""Lowerings of convolutions equal the plain definition; the choice among them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import assert_same, assert_same_to_second_order, draw, loop_up, plain_conv, plain_down

from genjax.nn import convolution, ops

GEOMETRIES = [
    convolution.Geometry(1, 1, 0, (5, 6), (5, 6)),
    convolution.Geometry(3, 1, 1, (5, 6), (5, 6)),
    convolution.Geometry(3, 1, 0, (5, 7), (3, 5)),
    convolution.Geometry(4, 1, 1, (5, 6), (4, 5)),
    convolution.Geometry(3, 2, 1, (5, 6), (3, 3)),
    convolution.Geometry(4, 2, 1, (7, 6), (4, 3)),
    convolution.Geometry(3, 2, 0, (7, 9), (3, 4)),
    convolution.Geometry(2, 2, 0, (5, 7), (3, 4)),
]


FORMS = {"value": convolution.VALUE, "image": convolution.IMAGE, "kernel": convolution.KERNEL}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("role", ["value", "image", "kernel"])
def test_every_lowering_is_xlas_own(role, geometry):
    x, y = jnp.asarray(draw(2, *geometry.x, 3)), jnp.asarray(draw(2, *geometry.y, 5, seed=1))
    kernel = jnp.asarray(draw(geometry.k, geometry.k, 3, 5, seed=2))
    forms = FORMS[role]
    arguments = {"value": (x, kernel), "image": (y, kernel), "kernel": (x, y)}[role]
    want = forms["xla"](geometry, *arguments)
    for name, form in forms.items():
        if "winograd" in name and (geometry.k, geometry.stride) not in convolution.WIDE:
            continue
        if ("turned" in name or (name == "overlap" and role == "value")) and geometry.stride == 2:
            continue
        if name == "phases" and geometry.stride == 1:
            continue
        assert_same(jax.jit(form, static_argnums=0)(geometry, *arguments), want, 1e-4)


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (4, 2)])
@pytest.mark.parametrize(("m", "most"), [(2, 1e-6), (4, 3e-6)])
def test_rounding_errors_of_winograds_form_are_small(k, stride, m, most):
    geometry = convolution.Geometry(k, stride, 1, (16, 16), (16 // stride, 16 // stride))
    x, kernel = draw(4, 16, 16, 64), draw(k, k, 64, 32, seed=1)
    got = jax.jit(convolution.VALUE[f"winograd_{m}"], static_argnums=0)(
        geometry, jnp.asarray(x), jnp.asarray(kernel)
    )
    padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))[
        :, ::stride, ::stride
    ]
    want = np.einsum("nhwcab,abco->nhwo", windows, kernel.astype(np.float64))
    assert np.sqrt(np.mean((np.asarray(got) - want) ** 2)) < most * np.std(want)


@pytest.mark.parametrize("role", FORMS)
def test_the_choice_is_of_lowerings_that_apply(role):
    sizes, chosen = [1, 3, 16, 64, 128, 512], set()
    cases = itertools.product(
        GEOMETRIES, (1, 20, 40, 1000), sizes, sizes, map(jnp.dtype, (jnp.float32, jnp.bfloat16))
    )
    for geometry, *case, dtype in cases:
        name = convolution.lowering(role, "cpu", geometry, *case, dtype)
        assert name in FORMS[role]
        if "winograd" in name:
            assert (geometry.k, geometry.stride) in convolution.WIDE
            assert dtype == jnp.float32
        if geometry.stride == 2:
            assert "turned" not in name
            assert (role, name) != ("value", "overlap")
        else:
            assert name != "phases"
        assert convolution.lowering(role, "gpu", geometry, *case, dtype) == "xla"
        chosen.add(name)
    # Every form is chosen somewhere; XLA's own computes gradients on other backends
    # only.
    assert chosen | ({"xla"} if role != "value" else set()) == set(FORMS[role])


@pytest.mark.parametrize("size", [(5, 8), (1, 3)])
def test_wide_conv_is_the_definition(size, monkeypatch):
    # Wide enough for Winograd's form.
    monkeypatch.setattr(convolution, "MANY", 1)
    x, kernel = jnp.asarray(draw(1, *size, 64)), jnp.asarray(draw(3, 3, 64, 64, seed=1) / 24)
    assert_same_to_second_order(ops.conv, plain_conv, x, kernel)


def test_wide_down_conv_and_its_transpose_are_the_definition(monkeypatch):
    # 4x4 kernels in Winograd's form; an even and an odd size.
    monkeypatch.setattr(convolution, "MANY", 1)
    size, kernel = (5, 8), jnp.asarray(draw(4, 4, 16, 16, seed=1) / 16)
    assert_same_to_second_order(ops.down_conv, plain_down, jnp.asarray(draw(2, *size, 16)), kernel)
    x = jnp.asarray(draw(2, 3, 4, 16))
    wanted = loop_up(np.asarray(x), np.asarray(kernel), size)
    got = jax.jit(ops.up_conv, static_argnums=2)(x, kernel, size)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_the_form_of_other_backends_is_the_definition(monkeypatch, backend):
    """Compile for the CPU what a GPU or TPU would get."""
    monkeypatch.setattr(ops.jax, "default_backend", lambda: backend)
    x, kernel = jnp.asarray(draw(2, 5, 6, 4)), jnp.asarray(draw(4, 4, 4, 5, seed=1))
    assert_same_to_second_order(ops.down_conv, plain_down, x, kernel)
    assert_same_to_second_order(ops.conv, plain_conv, x, kernel)
    got, wanted = jax.jit(ops.up_conv)(x, kernel), loop_up(*map(np.asarray, (x, kernel)), (10, 12))
    np.testing.assert_allclose(got, wanted, atol=1e-4)
