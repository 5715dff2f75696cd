"""Compiler options: where they apply, and that one of them takes effect."""

import time

import jax
import jax.numpy as jnp
import pytest

from genjax.errors import InputError
from genjax.runtime import memory, xla


def test_on_a_cpu_the_options_of_these_names(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert xla.options("cpu") == {}
    assert xla.options("cpu", "quick") == xla.CPU["quick"]
    assert xla.options("cpu", "reductions", "quick") == xla.CPU["reductions"] | xla.CPU["quick"]


@pytest.mark.parametrize(
    "option", ["xla_backend_optimization_level", "xla_cpu_experimental_ynn_fusion_type"]
)
def test_a_word_in_the_environment_counts_more(option, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_some=1 --{option}=2")
    assert set(xla.options("cpu", "reductions", "quick")) == {
        "xla_backend_optimization_level",
        "xla_cpu_experimental_ynn_fusion_type",
    } - {option}


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_elsewhere_none(platform):
    assert xla.options(platform, "reductions", "quick") == {}


def test_what_this_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setitem(xla.CPU, "gone", {"xla_cpu_of_another_year": True})
    assert xla.options("cpu", "gone", "quick") == xla.CPU["quick"]


def test_products_are_xlas_own(monkeypatch):
    """If this fails with a new XLA, measure whether the option is still of use."""
    monkeypatch.setenv("XLA_FLAGS", "")
    lowered = jax.jit(jnp.matmul).lower(jnp.ones((64, 784)), jnp.ones((784, 256)))
    assert "__ynn_fusion" in lowered.compile().as_text()
    assert "__ynn_fusion" not in lowered.compile(xla.options("cpu", "reductions")).as_text()


def test_a_program_that_needs_too_much_is_named_with_its_advice():
    arguments = (jnp.ones(4),)
    huge = lambda x: jnp.sum(
        jax.random.normal(jax.random.key(0), (2**22, 2**12)) @ jnp.ones((2**12, 2**10)) * x[0]
    )
    with pytest.raises(InputError, match=r"[\d,.]+ GiB of memory, cpu has [\d,.]+ GiB left"):
        xla.compiled(huge, arguments, ())
    assert xla.compiled(lambda x: x + 1, arguments, ())(*arguments)[0] == 2


def test_what_fails_beside_the_main_thread_is_raised_in_it():
    def bad(x):
        raise KeyError("of the trace")

    with pytest.raises(KeyError, match="of the trace"):
        xla.compiled(bad, (jnp.ones(1),), ())


def test_a_long_compilation_says_that_it_goes_on(monkeypatch, capsys):
    def slow(x):
        time.sleep(0.5)
        return x

    monkeypatch.setattr(xla, "TOLD_SECONDS", 0.1)
    xla.compiled(slow, (jnp.ones(1),), ())
    assert "  compiling for 0 s\n" in capsys.readouterr().err


def test_the_memory_left_is_the_least_of_all_limits(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 900 kB\nMemAvailable:   800 kB\n",
        "/sys/fs/cgroup/memory.max": "600000\n",
        "/sys/fs/cgroup/memory.current": "500000\n",
        "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 300000\n",
        "/proc/self/limits": "Max address space    unlimited    unlimited    bytes\n",
        "/proc/self/statm": "10 2 3",
    }

    def read(path):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(memory.Path, "read_text", read)
    assert memory.available() == 600000 - (500000 - 300000)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert memory.available() == 800 * 1024
    files["/proc/self/limits"] = f"Max address space {10 * memory._PAGE + 5000} unlimited bytes\n"
    assert memory.available() == 5000
    files.clear()
    assert memory.available() is None
