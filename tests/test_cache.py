"""Compiled programs are kept by default, where a person says, and nothing breaks where they cannot be."""

import os
import subprocess
import sys

from genjax import cache, script

PROGRAM = """
import jax
from genjax import cache
cache.keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 2 + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


def where(**given):
    """Where a fresh process keeps its programs."""
    env = {name: value for name, value in os.environ.items() if name not in ("JAX_COMPILATION_CACHE_DIR", cache.VARIABLE)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env | given, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.strip()


def test_programs_are_kept_in_the_cache(tmp_path):
    kept = where(**{cache.VARIABLE: str(tmp_path)})
    assert kept.startswith(str(tmp_path / "programs"))
    assert os.listdir(kept)


def test_jaxs_own_setting_is_left_alone(tmp_path):
    assert where(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"), **{cache.VARIABLE: str(tmp_path)}) == str(tmp_path / "own")
    assert not (tmp_path / "programs").exists()


def test_a_folder_that_cannot_be_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert where(**{cache.VARIABLE: str(tmp_path / "file")}) == "None"


def test_every_command_keeps_what_it_compiles(monkeypatch):
    called = []
    monkeypatch.setattr(cache, "keep_programs", lambda: called.append(True))
    assert script.guarded(lambda: 0) == 0
    assert called == [True]
