"""8 fake CPU devices, a compilation cache, strict ranks, shapes checked at calls."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Most of the suite's time is compiling: half without LLVM's optimisations, a third less
# again without XLA's newer emitters of loops, a tenth less without LLVM's slow passes.
# Later releases have these emitters only, and XLA aborts the process at a flag that it
# does not know.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false"
        if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
        else "",
    ]
)
# glibc's default, set explicitly: otherwise scripts that are run in a worker would make
# it keep freed memory (genjax.runtime.memory).
os.environ.setdefault("MALLOC_ARENA_TEST", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook(
    ["genjax.losses", "genjax.nn", "genjax.edit", "genjax.files.grids", "genjax.metrics"],
    "beartype.beartype",
)

jax.config.update("jax_numpy_rank_promotion", "raise")

# Full collections of the many objects that JAX keeps took a sixteenth of the suite.
gc.set_threshold(10_000, 20, 200)


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_process():
    """Release compiled programs: each takes tens of a process's 65,530 memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()


@pytest.fixture
def on_platform():
    """A context in which functions are traced as for "tpu" or "gpu", and run here."""
    kinds = {"cpu": ("cpu", None), "tpu": ("TPU v5 lite", 1), "gpu": ("NVIDIA H100", 132)}

    def context(platform):
        device = jax.sharding.AbstractDevice(*kinds[platform], platform)
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.sharding.AbstractMesh((1,), ("data",), auto, abstract_device=device)
        return jax.sharding.use_abstract_mesh(mesh)

    return context


@pytest.fixture
def plain_convolutions(monkeypatch):
    """XLA's own convolutions, which compile in two thirds of the time of a CPU's.

    tests/nn compares the two.
    """
    from genjax.nn import convolution

    monkeypatch.setattr(convolution, "lowering", lambda *_: "xla")


SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and published weights beside the checkout; skips without them."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared/data")
    return SHARED / "data"
