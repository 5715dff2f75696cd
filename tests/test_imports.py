"""Imports only go down: the trainer never imports a model, a model never the trainer."""

import ast
import subprocess
import sys
from pathlib import Path

import genjax

PACKAGE = Path(genjax.__file__).parent

# Floors of the house, from the ground up, and what a room on each may import from those
# below. A room is a module or package below genjax; its longest name here counts.
# Anything may import errors, shapes and target.
FLOORS: list[dict[str, set[str]]] = [
    {"errors": set(), "shapes": set(), "target": set(), "__init__": set()},
    {"losses": set(), "nn": set(), "runtime": set()},
    {"core": set(), "files": {"nn"}},
    {"data": {"files", "runtime"}, "models": {"core", "losses", "nn"}},
    {"training": {*("core", "nn", "runtime", "data", "files")}},
    {"sampling": {"core", "nn", "runtime", "models", "training", "__init__"}},
    {
        "metrics": {
            *("core", "nn", "runtime", "files", "data", "training"),
            *("sampling", "__init__"),
        },
        "edit": {"core", "nn", "files", "data", "sampling"},
        "convert": {"core", "files", "models"},
    },
    {
        # the command line of training, and its form for notebooks
        "training.script": {"core", "runtime", "data", "training", "metrics", "__init__"}
    },
    {"training.notebook": {"core", "data", "training", "training.script"}},
    {
        "cli": {
            *("core", "runtime", "data", "files", "models", "training", "training.script"),
            *("sampling", "metrics", "edit", "convert", "__init__"),
        }
    },
    {"__main__": {"cli"}},
]
ROOMS = {room: below for floor in FLOORS for room, below in floor.items()}
EVERYWHERE = {"errors", "shapes", "target"}


def room(module: str) -> str:
    """The room of a dotted name below genjax; "__init__" for the package itself."""
    names = module.split(".") if module else ["__init__"]
    for length in range(len(names), 0, -1):
        if (name := ".".join(names[:length])) in ROOMS:
            return name
    return "__init__"  # __version__, load, save_grid ...


def imports(path: Path) -> set[str]:
    """The rooms that a module imports, its own left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "genjax":
                names |= {alias.name for alias in node.names}
            elif node.module.startswith("genjax."):
                package = node.module.removeprefix("genjax.")
                names |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules = (alias.name for alias in node.names)
            names |= {
                name.removeprefix("genjax.") for name in modules if name.startswith("genjax.")
            }
    return {room(name) for name in names}


def rooms_imported() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {name: set() for name in ROOMS}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        own = room(module.removesuffix(".__init__"))
        graph[own] |= imports(path) - {own}
    return graph


def test_imports_only_go_down_and_nothing_unused_is_allowed():
    lower: set[str] = set()
    for floor in FLOORS:
        for name, below in floor.items():
            assert below <= lower, f"{name} may import {below - lower}, which is not below it"
        lower |= set(floor)
    graph = {name: found - EVERYWHERE for name, found in rooms_imported().items()}
    del graph["__init__"]  # which imports its members at their first use
    assert graph == {name: below for name, below in ROOMS.items() if name != "__init__"}


def test_the_trainer_imports_no_model():
    for path in (PACKAGE / "training").rglob("*.py"):
        assert "models" not in imports(path), path


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_stepping_a_model_needs_only_jax_flax_optax_and_numpy():
    blocked = [
        "PIL",
        "safetensors",
        "grain",
        "tensorflow_datasets",
        "sklearn",
        "tyro",
        "jaxtyping",
        "tensorboardX",
    ]
    run(f"""
import sys
sys.modules.update(dict.fromkeys({blocked}))
import jax, jax.numpy as jnp
from genjax.models import dcgan, gan, vae
small = {{"shape": (8, 8, 1), "z_dim": 2, "batch_size": 2}}
for model in (
    vae.recipe(vae.Config(**small, hidden=(4,))),
    gan.recipe(gan.Config(**small, hidden=(4,), augment=("color", "translation", "cutout"))),
    dcgan.recipe(dcgan.Config(**small, channels=4)),
):
    state = jax.eval_shape(model.init, jax.random.key(0))
    batch = {{"images": jnp.zeros((2, 8, 8, 1))}}
    step = lambda *given: model.step(*given, model.plan(0))
    jax.eval_shape(step, state, batch, jax.random.key(0))
""")


def test_import_is_light():
    code = """
import time, jax, flax, flax.linen, flax.struct, optax
began = time.perf_counter()
import genjax, genjax.core, genjax.models.vae, genjax.models.dcgan
print(time.perf_counter() - began)
"""
    assert min(float(run(code)) for _ in range(3)) < 0.3
