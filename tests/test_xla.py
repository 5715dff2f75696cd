"""Compiler options: where they apply, and that one of them does what it is there for."""

import jax
import jax.numpy as jnp
import pytest

from genjax import xla


def test_on_a_cpu_the_options_of_these_names(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert xla.options() == {}
    assert xla.options("quick") == xla.CPU["quick"]
    assert xla.options("reductions", "quick") == xla.CPU["reductions"] | xla.CPU["quick"]


@pytest.mark.parametrize("option", ["xla_backend_optimization_level", "xla_cpu_experimental_ynn_fusion_type"])
def test_a_word_in_the_environment_counts_more(option, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_some=1 --{option}=2")
    assert set(xla.options("reductions", "quick")) == {
        "xla_backend_optimization_level",
        "xla_cpu_experimental_ynn_fusion_type",
    } - {option}


def test_elsewhere_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert xla.options("reductions", "quick") == {}


def test_what_this_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setitem(xla.CPU, "gone", {"xla_cpu_of_another_year": True})
    assert xla.options("gone", "quick") == xla.CPU["quick"]


def test_products_are_xlas_own(monkeypatch):
    """This is about the XLA of today: where it fails, measure again whether the option is still of use."""
    monkeypatch.setenv("XLA_FLAGS", "")
    lowered = jax.jit(jnp.matmul).lower(jnp.ones((64, 784)), jnp.ones((784, 256)))
    assert "__ynn_fusion" in lowered.compile().as_text()
    assert "__ynn_fusion" not in lowered.compile(xla.options("reductions")).as_text()
