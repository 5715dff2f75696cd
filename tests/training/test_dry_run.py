"""--dry-run, --profile and --deterministic."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from safetensors.numpy import load_file

from genjax.errors import ConfigError
from genjax.models import stylegan2, vae
from genjax.runtime import xla
from genjax.training import dry_run, hooks, run_folder, script, trainer
from genjax.training.options import Options

ROOT = Path(__file__).parents[2]
TOY = vae.Config(shape=(8, 8, 1), hidden=(8,), z_dim=2, batch_size=8)


def trained(out, steps=6, config=TOY, **changes):
    often = {"log_every": 2, "save_every": 2, "sample_every": 2}
    options = Options(out=out, steps=steps, batch_size=8, **(often | changes))
    return script.train("vae", vae.recipe(config), script.load_data(options), options)


def test_a_dry_run_prints_what_a_run_needs_and_writes_nothing(tmp_path, capsys):
    trained(tmp_path / "run", dry_run=True, keep=3)
    assert not (tmp_path / "run").exists()
    said = capsys.readouterr().err
    assert "parameters: dec " in said
    assert "program step: " in said
    assert "every 2 steps" in said
    assert "3 retained" in said
    assert said.rstrip().endswith("dry run: nothing was trained or written")
    trained(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "samples"}


@pytest.mark.parametrize("resident_mb", [1024, 0], ids=["resident", "streamed"])
def test_its_memory_is_that_of_the_program_that_runs(resident_mb, tmp_path, monkeypatch):
    """The trainer compiles for arrays what the dry run compiles for their shapes."""
    np.savez(tmp_path / "set.npz", images=np.zeros((40, 8, 8, 1), np.uint8))
    options = Options(
        data=str(tmp_path / "set.npz"), batch_size=8, steps=2, resident_mb=resident_mb
    )
    source, recipe = script.load_data(options), vae.recipe(TOY)
    mesh = trainer.data_mesh()
    state = trainer.abstract_state(recipe, 0, mesh)
    needed = dry_run.describe(recipe, state, source, options, tmp_path, mesh)
    sizes, compiled = [], trainer.compiled

    def spied(*given, **named):
        program = compiled(*given, **named)
        sizes.append(program.memory_analysis())
        return program

    monkeypatch.setattr(trainer, "compiled", spied)
    trainer.fit(recipe, source, steps=2)
    (size,) = sizes
    total = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes
    assert needed == {"step": total - size.alias_size_in_bytes}


def test_every_program_of_the_first_steps_is_named():
    config = stylegan2.Config(shape=(8, 8, 1), r1_interval=4, pl_interval=3, batch_size=8)
    recipe = stylegan2.recipe(config)
    assert {p.name for p in dry_run.programs(recipe, 100)} == {"step", "r1", "path"}
    assert [p.name for p in dry_run.programs(recipe, 1)] == ["path", "r1", "step"]


def test_a_profile_is_written_and_changes_nothing(tmp_path):
    trained(tmp_path / "plain", steps=8)
    trained(tmp_path / "traced", steps=8, profile=2)
    (trace,) = (tmp_path / "traced/profile").rglob("perfetto_trace.json.gz")
    assert b"traceEvents" in gzip.decompress(trace.read_bytes())
    assert list((tmp_path / "traced/profile").rglob("*.xplane.pb"))
    plain, traced = (
        load_file(tmp_path / name / run_folder.WEIGHTS) for name in ("plain", "traced")
    )
    assert all(np.array_equal(plain[name], traced[name]) for name in plain)


def test_a_profile_that_would_begin_after_the_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="profile 6: needs more than 6 `steps`"):
        hooks.profile(tmp_path, 6, 0, 6)
    with pytest.raises(ConfigError, match="profile -1"):
        script.begin(Options(profile=-1))
    with pytest.raises(ConfigError, match="profile 6: a number of steps below"):
        trained(tmp_path / "run", steps=6, profile=6)
    assert not (tmp_path / "run").exists()


def test_deterministic_sets_the_option_of_xla_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    for _ in range(2):
        script.begin(Options(deterministic=True))
        assert os.environ["XLA_FLAGS"] == "--xla_some=1 --xla_gpu_deterministic_ops=true"
    monkeypatch.delenv("XLA_FLAGS")
    xla.deterministic()
    assert os.environ["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"


def test_xla_knows_the_option_for_deterministic_sums(tmp_path):
    """Of GPUs; a CPU accepts it. XLA aborts at what it does not know."""
    words = ["--deterministic", "--steps", "2", "--model.hidden", "8", "--out", tmp_path / "run"]
    command = [sys.executable, str(ROOT / "train/vae.py"), *map(str, words)]
    environment = {**os.environ, "XLA_FLAGS": toys.ONE_DEVICE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / run_folder.WEIGHTS).exists()
