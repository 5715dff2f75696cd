"""Opening an image set needs numpy and jax only, until a set asks for more."""

import json
import subprocess
import sys

import pytest

HEAVY = ("flax", "optax", "orbax", "PIL", "grain", "sklearn", "tensorflow_datasets", "safetensors")


def loaded(module: str) -> set[str]:
    """The top-level packages that a fresh interpreter loads with `module`."""
    program = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("module", ["genjax.data", "genjax.files.decode"])
def test_import_is_light(module):
    packages = loaded(module)
    assert packages.isdisjoint(HEAVY)
    assert "numpy" in packages
    assert "jax" not in packages or module == "genjax.data"
