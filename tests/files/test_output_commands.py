"""No command loses a file, and a repeated conversion replaces only what it wrote."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toys
from commands import FILES, FOLDERS, assert_refused, everything, make_inputs

from genjax.files import outputs
from genjax.training import run_folder


@pytest.mark.parametrize("command", FILES)
def test_a_file_is_lost_by_no_command(genjax, runs, tmp_path, command):
    words, suffix, read = FILES[command]
    words, read = words.split(), Path(read.replace("RUN", str(runs)))
    option = words[-1]
    make_inputs(tmp_path)
    ways = {  # the name of the output: (why it is refused, and why with --force)
        "theirs": ("is there already", "was not written by genjax"),
        "soft": ("is read", "is read"),
        "hard": ("is read", "is read"),
        "folder": ("is a folder", "is a folder"),
        "null": ("is no regular file", "is no regular file"),
        "pipe": ("is no regular file", "is no regular file"),
        "missing/x": ("not in a folder that exists", "not in a folder that exists"),
        "set.npz/x": ("not in a folder that exists", "not in a folder that exists"),
    }
    (tmp_path / f"theirs{suffix}").write_bytes(b"dear")
    (tmp_path / f"soft{suffix}").symlink_to(read)
    os.link(read, tmp_path / f"hard{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"null{suffix}").symlink_to("/dev/null")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    if command == "sample":
        del ways["folder"]  # it takes single files
    if command in ("style-mix", "nearest"):
        ways["folder"] = ("one ", "one ")  # picture, table
    for name, reasons in ways.items():
        for force, why in zip(([], ["--force"]), reasons, strict=True):
            assert_refused(
                genjax,
                [*words, f"{name}{suffix}", *force],
                f"{option} {name}{suffix}: {why}",
                tmp_path,
                runs,
            )
    before = everything(tmp_path, runs)
    assert genjax(*words, f"mine{suffix}")[0] == 0
    mine = tmp_path / f"mine{suffix}"
    assert outputs.ours(mine)
    written = mine.read_bytes()
    assert_refused(genjax, [*words, mine.name], "is there already", tmp_path, runs)
    mine.write_bytes(b"half of " + outputs.MARK.encode())
    assert genjax(*words, mine.name, "--force")[0] == 0
    assert everything(tmp_path, runs) == before | {mine: written}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folders_files_are_lost_by_no_command(genjax, runs, tmp_path, command):
    words, name = FOLDERS[command]
    words = words.split()
    make_inputs(tmp_path)
    (tmp_path / "file").write_bytes(b"dear")
    for out in ("file", "file/out", words[1]):
        for force in ([], ["--force"]):
            assert_refused(
                genjax,
                [*words, out, *force],
                f"--out {out.replace('RUN/', f'{runs}/')}: ",
                tmp_path,
                runs,
            )
    for out, make, reasons in (
        (
            "theirs",
            lambda path: path.write_bytes(b"dear"),
            ("is there already", "was not written by genjax"),
        ),
        ("folder", lambda path: path.mkdir(), ("no regular file", "no regular file")),
        ("null", lambda path: path.symlink_to("/dev/null"), ("no regular file", "no regular file")),
        (
            "link",
            lambda path: path.symlink_to("../set.npz"),
            ("is there already", "was not written by genjax"),
        ),
    ):
        (tmp_path / out).mkdir()
        make(tmp_path / out / name)
        for force, why in zip(([], ["--force"]), reasons, strict=True):
            assert_refused(genjax, [*words, out, *force], why, tmp_path, runs)
    assert genjax(*words, "mine")[0] == 0
    before = everything(tmp_path, runs)
    code, said = genjax(*words, "mine")  # done already
    assert code == 0
    assert "are done already" in said
    assert everything(tmp_path, runs) == before
    (tmp_path / "mine" / name).write_bytes(b"half of " + outputs.MARK.encode())
    assert_refused(genjax, [*words, "mine"], f"{name} (1 in all): is there already", tmp_path, runs)
    assert genjax(*words, "mine", "--force")[0] == 0
    assert everything(tmp_path, runs) == before


def test_convert_replaces_only_what_it_wrote(genjax, runs, tmp_path):
    assert genjax("export", "RUN/styled", "--out", "net.safetensors")[0] == 0
    words = ["convert", "stylegan2", "net.safetensors", "--out"]
    (tmp_path / "file").write_bytes(b"dear")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_bytes(b"dear")
    os.link(tmp_path / "net.safetensors", tmp_path / "folder/net.safetensors")
    shutil.copytree(runs / "styled", tmp_path / "trained")
    for out, why, forced in (
        ("file", "is a file", "is a file"),
        ("file/run", "file", "file"),
        ("folder", "is read", "is read"),
        ("trained", "exists", "holds more than `genjax convert` wrote"),
    ):
        for force, text in (([], why), (["--force"], forced)):
            assert_refused(genjax, [*words, out, *force], text, tmp_path)
    assert genjax(*words, "deep/run")[0] == 0
    before = everything(tmp_path)
    assert_refused(
        genjax, [*words, "deep/run"], "exists; choose another folder, or add --force", tmp_path
    )
    (tmp_path / "deep/run/model.safetensors").write_bytes(b"")
    assert genjax(*words, "deep/run", "--force")[0] == 0
    assert everything(tmp_path) == before


def test_a_killed_conversion_is_done_when_repeated(genjax, tmp_path, monkeypatch):
    assert genjax("export", "RUN/styled", "--out", "net.safetensors")[0] == 0
    code = (
        "import os, signal; from genjax.training import run_folder; from genjax import cli\n"
        "run_folder.export = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.main()"
    )
    words = ["convert", "stylegan2", "net.safetensors", "--out", "run"]
    environment = os.environ | {"XLA_FLAGS": toys.ONE_DEVICE}
    killed = subprocess.run(
        [sys.executable, "-c", code, *words],
        check=False,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    assert killed.returncode == -signal.SIGKILL
    [left] = [path for path in tmp_path.iterdir() if path.name != "net.safetensors"]
    assert outputs.PART.fullmatch(left.name)
    assert genjax(*words)[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"net.safetensors", "run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        run_folder.CONFIG,
        run_folder.WEIGHTS,
    }
