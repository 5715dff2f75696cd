"""Compiled programs are cached by default, elsewhere if told, or not at all."""

import os
import stat
import subprocess
import sys

import pytest

from genjax.runtime import cache, shell

PROGRAM = """
import jax
from genjax.runtime import cache
cache.keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 2 + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


def where(message="", **given):
    """Cache folder of a fresh process, which prints `message` or nothing."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JAX_COMPILATION_CACHE_DIR", cache.VARIABLE)
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env | given, capture_output=True, text=True, check=True
    )
    assert message in done.stderr if message else not done.stderr
    return done.stdout.strip()


def test_programs_are_kept_in_the_cache(tmp_path):
    folder = where(**{cache.VARIABLE: str(tmp_path)})
    assert folder.startswith(str(tmp_path / "programs"))
    assert os.listdir(folder)


def test_jaxs_own_setting_is_left_alone(tmp_path):
    assert where(
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"), **{cache.VARIABLE: str(tmp_path)}
    ) == str(tmp_path / "own")
    assert not (tmp_path / "programs").exists()


def test_a_folder_that_cannot_be_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert where(**{cache.VARIABLE: str(tmp_path / "file")}) == "None"


def test_folders_are_private_to_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache.private("programs/x") == tmp_path / "programs/x"
    (tmp_path / "programs").chmod(0o755)  # as version 0.1 made it
    assert cache.private("programs/x") is not None
    folders = (tmp_path / "programs", tmp_path / "programs/x")
    assert [stat.S_IMODE(path.stat().st_mode) for path in folders] == [0o700] * 2
    (tmp_path / "programs").chmod(0o777)  # others may have put programs there
    with pytest.warns(UserWarning, match="nothing is cached: others may write to "):
        assert cache.private("programs/x") is None


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away"
)
def test_a_folder_of_another_user_is_not_used(tmp_path):
    """The commands say why, and work without a cache."""
    (tmp_path / "programs").mkdir()
    os.chown(tmp_path / "programs", 12345, 12345)
    assert where("belongs to another user", **{cache.VARIABLE: str(tmp_path)}) == "None"


DAMAGED = PROGRAM.replace(
    "cache.keep_programs()", "from genjax.runtime import shell; shell.guarded(lambda: 0)"
)


def test_a_damaged_program_is_replaced(tmp_path):
    """The first run reports and replaces it; the next is silent."""
    env = {
        name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"
    } | {cache.VARIABLE: str(tmp_path)}
    run = lambda: (
        subprocess.run(
            [sys.executable, "-c", DAMAGED], env=env, capture_output=True, text=True, check=True
        ).stderr
    )
    assert run() == ""
    files = {path: path.read_bytes() for path in (tmp_path / "programs").rglob("*-cache")}
    assert files
    for path, content in files.items():
        path.write_bytes(content[: len(content) // 2])
    output = run()
    assert output.count("is damaged") == len(files)
    assert len(output.splitlines()) == len(files)
    assert {
        path: len(path.read_bytes()) > len(content) // 2 for path, content in files.items()
    } == dict.fromkeys(files, True)
    assert run() == ""


def test_every_command_keeps_what_it_compiles(monkeypatch):
    called = []
    monkeypatch.setattr(cache, "keep_programs", lambda: called.append(True))
    assert shell.guarded(lambda: 0) == 0
    assert called == [True]
