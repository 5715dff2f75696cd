"""Programs are lowered for the platform that they are compiled for."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, Mesh, use_abstract_mesh

from genjax import target
from genjax.nn import ops
from genjax.runtime import xla


def own_mesh() -> Mesh:
    return jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices("cpu")[:1])


def primitives(function, *arguments) -> set[str]:
    """Primitives of a function's trace, those of inner functions included."""
    names = set()

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            names.add(equation.primitive.name)
            for inner in jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*arguments).jaxpr)
    return names


def gradient():
    """A function whose trace shows the lowerings of all three roles, and its inputs."""

    def loss(x, kernel):
        return jnp.sum(jnp.square(ops.down_conv(ops.up_conv(x, kernel), kernel)))

    return jax.grad(loss, argnums=(0, 1)), jnp.ones((2, 8, 8, 4)), jnp.ones((4, 4, 4, 4))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_another_platform_gets_its_own_lowering(platform, on_platform):
    with on_platform(platform):
        assert target.platform() == platform
        assert primitives(*gradient()) >= {"conv_general_dilated"}
        assert "dot_general" not in primitives(*gradient())
    assert target.platform() == "cpu"
    assert "dot_general" in primitives(*gradient())


@pytest.mark.parametrize("context", ["mesh", "default device", "name of the default device"])
def test_cpu_devices_in_a_process_with_a_gpu_get_the_cpus(context, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert target.platform() == "gpu"
    assert "dot_general" not in primitives(*gradient())
    contexts = {
        "mesh": lambda: use_abstract_mesh(own_mesh().abstract_mesh),
        "default device": lambda: jax.default_device(jax.devices("cpu")[0]),
        "name of the default device": lambda: jax.default_device("cpu"),
    }
    with contexts[context]():
        assert target.platform() == "cpu"
        assert "dot_general" in primitives(*gradient())


def test_the_mesh_comes_before_the_default_device(on_platform):
    with on_platform("tpu"), jax.default_device(jax.devices("cpu")[0]):
        assert target.platform() == "tpu"


def test_a_compiled_function_is_traced_again_for_another_platform(on_platform):
    """JAX's caches must tell the platforms apart."""
    traced = []

    @jax.jit
    def inner(x):
        traced.append(target.platform())
        return x

    jax.make_jaxpr(inner)(1.0)
    with on_platform("tpu"):
        jax.make_jaxpr(inner)(1.0)
    jax.make_jaxpr(inner)(1.0)
    with jax.default_device(jax.devices("cpu")[0]):
        jax.make_jaxpr(inner)(1.0)
    assert traced[:2] == ["cpu", "tpu"]
    assert set(traced[2:]) <= {"cpu"}


def test_on_sets_the_platform_of_a_mesh(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert target.on(own_mesh(), target.platform)() == "cpu"
    assert target.platform() == "gpu"


def test_the_platform_of_arrays_is_that_of_their_devices(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert (
        target.platform_of({"a": 1.0, "b": jax.device_put(jnp.ones(1), jax.devices("cpu")[0])})
        == "cpu"
    )
    assert target.platform_of({"a": jax.ShapeDtypeStruct((1,), jnp.float32)}) == "gpu"


def test_the_compilers_options_are_those_of_the_arguments_devices(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    chosen = []
    usual = xla.options
    monkeypatch.setattr(xla, "options", lambda *words: chosen.append(words) or usual(*words))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    xla.compiled(lambda x: x, (jnp.ones(1),), ("quick",))
    assert chosen == [("cpu", "quick")]
