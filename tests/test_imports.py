"""Imports only go down (DESIGN: the trainer never imports a model, a model never the trainer), and cost little."""

import ast
import subprocess
import sys
from pathlib import Path

import genjax

PACKAGE = Path(genjax.__file__).parent
LEAVES = {"shapes", "errors", "outputs"}
# fmt: off
ALLOWED = {  # module -> the genjax modules it may import
    "shapes": set(),
    "losses": set(),
    "convolution": set(),
    "ops": {"convolution"},
    "pool": set(),
    "errors": set(),
    "outputs": {"bounded"},
    "core": set(),
    "cache": set(),
    "memory": set(),
    "quiet": set(),
    "xla": {"memory"},
    "bounded": set(),
    "pth": {"core", "bounded"},
    "tensors": {"core", "bounded", "pth"},
    "layers": {"ops"},
    "augment": {"ops"},
    "models": {"core", "losses", "ops", "pool", "layers", "augment", "models"},
    "images": {"ops"},
    "data": {"core", "bounded", "quiet", "data"},
    "metrics": {
        "core", "cache", "ops", "layers", "bounded", "tensors", "outputs", "data", "checkpoint", "metrics", "genjax", "latents", "xla", "__version__"
    },
    "checkpoint": {"core", "bounded", "quiet", "tensors"},
    "convert": {"core", "pth", "tensors", "convert", "models"},
    "hooks": {"core", "checkpoint", "images", "latents", "ops"},
    "trainer": {"core", "xla", "data", "checkpoint", "hooks", "metrics"},
    "shell": {"cache", "memory", "xla"},
    "script": {"core", "shell", "data", "checkpoint", "hooks", "metrics", "trainer", "__version__"},
    "pictures": {"bounded", "data", "images"},
    "frames": {"images"},
    "latents": {"core", "ops"},
    "edit": {"ops", "edit"},
    "train": {"core", "data", "edit", "models", "script", "shell"},
    "cli": {"shell", "script", "train", "core", "genjax", "images", "latents", "pictures", "frames", "edit", "checkpoint", "convert", "models", "metrics", "__version__"},
    "__main__": {"cli"},
    "__init__": {"core", "checkpoint", "models", "ops", "images"},
}
# fmt: on


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "genjax"
        ):
            found |= (
                {node.module.split(".")[1]}
                if "." in node.module
                else {alias.name for alias in node.names}
            )
        elif isinstance(node, ast.Import):
            found |= {
                [*alias.name.split("."), "genjax"][1]
                for alias in node.names
                if alias.name.split(".")[0] == "genjax"
            }
    return found - LEAVES


def test_imports_only_go_down():
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert imports(path) <= ALLOWED[module], path


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
small = {{"shape": (8, 8, 1), "latent_size": 2, "batch_size": 2}}
for model in (
    vae.recipe(vae.Config(**small, hidden=(4,))),
    gan.recipe(gan.Config(**small, hidden=(4,), augment=("color", "translation", "cutout"))),
    dcgan.recipe(dcgan.Config(**small, channels=4)),
):
    jax.jit(model.step, static_argnums=3)(model.init(jax.random.key(0)), {{"images": jnp.zeros((2, 8, 8, 1))}}, jax.random.key(0), model.plan(0))
""")


def test_import_is_light():
    code = """
import time, jax, flax, flax.linen, flax.struct, optax
began = time.perf_counter()
import genjax, genjax.core, genjax.models.vae, genjax.models.dcgan
print(time.perf_counter() - began)
"""
    assert min(float(run(code)) for _ in range(3)) < 0.3
