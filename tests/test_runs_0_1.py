"""Runs that version 0.1 saved load, sample as they did, and resume to the weights that
it reached (tests/fixtures/make_runs.py).
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import toys
from fixtures import make_runs

from genjax.files import tensors

ROOT = Path(__file__).parents[1]
ARCHIVES = sorted((ROOT / "tests/fixtures/runs_0.1").glob("*.zip"))
QUICK = ("vae", "gan")  # what compiles in seconds


@pytest.fixture
def unpacked(tmp_path, request):
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.mark.parametrize("unpacked", ARCHIVES, ids=lambda path: path.stem, indirect=True)
def test_a_run_samples_as_it_did(unpacked):
    np.testing.assert_allclose(
        make_runs.drawn(unpacked / "run"), np.load(unpacked / "images.npy"), atol=1e-5
    )


@pytest.mark.parametrize(
    "unpacked",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in ARCHIVES],
    ids=lambda path: path.stem,
    indirect=True,
)
def test_a_run_resumes(unpacked):
    command = json.loads((unpacked / "command.json").read_text())
    words = [
        ROOT / f"train/{command['model']}.py",
        *command["options"],
        "--out",
        "run",
        "--steps",
        "8",
    ]
    environment = {**os.environ, "XLA_FLAGS": toys.ONE_DEVICE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "step 4 of 8" in done.stderr
    assert "names of version 0.1: " in done.stderr or command["model"] == "cyclegan"
    expected, reached = (
        tensors.read(unpacked / name) for name in ("resumed.safetensors", "run/model.safetensors")
    )
    assert reached.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(reached[name], values, atol=1e-4, err_msg=name)
