"""What every command refuses to write over, and what a kill leaves to be gone on with."""

import dataclasses
import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from PIL import Image

from genjax import cli, load, sampling
from genjax.errors import InputError
from genjax.files import grids, outputs
from genjax.models import cyclegan, dcgan, stylegan2
from genjax.training import checkpoint

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
PNG = grids.encode(PIXELS, ".png")


# --- the mark ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", grids.FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_format_carries_the_mark_and_the_same_pixels(tmp_path, suffix, channels):
    pixels = np.concatenate([PIXELS, np.full((4, 4, 1), 255, np.uint8)], -1)[..., :channels]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(grids.encode(pixels, suffix))
    assert outputs.ours(path)
    assert not outputs.ours(path, "this way")
    path.write_bytes(grids.encode(pixels, suffix, "this way"))
    assert outputs.ours(path, "this way")
    assert path.read_bytes() == grids.encode(pixels, suffix, "this way")
    with Image.open(path) as image:
        got = np.asarray(image).reshape(4, 4, -1)[..., :3]
    if suffix in (".png", ".bmp", ".tif", ".tiff"):
        np.testing.assert_array_equal(got, pixels[..., :3])


def test_only_files_that_genjax_wrote_are_known_as_such(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "theirs.png")
    os.mkfifo(tmp_path / "pipe")
    for name in ("theirs.png", "pipe", ".", "missing"):
        assert not outputs.ours(tmp_path / name)


# --- one file ----------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path):
    """A folder of what may be in the way, by the name of an output."""
    (tmp_path / "mine.png").write_bytes(PNG)
    (tmp_path / "theirs.png").write_bytes(b"dear")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.safetensors").write_bytes(b"dear " + outputs.MARK.encode())
    (tmp_path / "set.npz").write_bytes(b"dear " + outputs.MARK.encode())
    os.link(tmp_path / "set.npz", tmp_path / "hard.npz")
    (tmp_path / "soft.npz").symlink_to("set.npz")
    (tmp_path / "into_run.png").symlink_to("run/model.safetensors")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery/a.png").symlink_to(
        "../shown.png"
    )  # what a folder of links shows is read, too
    (tmp_path / "shown.png").write_bytes(PNG)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "null.png").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "unforced", "forced"),
    [
        ("new.png", "", ""),
        ("mine.png", "add --force", ""),
        ("theirs.png", "add --force", "not written by genjax"),
        ("run", "is a folder", "is a folder"),
        ("run/model.safetensors", "is read", "is read"),
        ("run/../run/model.safetensors", "is read", "is read"),
        ("into_run.png", "is read", "is read"),
        ("run/new.png", "", ""),
        ("set.npz", "is read", "is read"),
        ("hard.npz", "is read", "is read"),
        ("soft.npz", "is read", "is read"),
        ("shown.png", "is read", "is read"),
        ("gallery/a.png", "is read", "is read"),
        ("gallery/b.png", "", ""),
        ("loop.png", "no regular file", "no regular file"),
        (
            "loop.png/new.png",
            "cannot be written|not in a folder",
            "cannot be written|not in a folder",
        ),
        ("x" * 300 + ".png", "too long", "too long"),
        ("nul\0l.png", "null", "null"),
        ("dangling.png", "no regular file", "no regular file"),
        ("null.png", "no regular file", "no regular file"),
        ("pipe.png", "no regular file", "no regular file"),
        ("missing/new.png", "not in a folder", "not in a folder"),
        ("theirs.png/new.png", "not in a folder", "not in a folder"),
        ("", "is a folder", "is a folder"),
    ],
)
def test_what_may_be_written_over(there, name, unforced, forced):
    for force, why in ((False, unforced), (True, forced)):
        read = [there / "run", there / "set.npz", there / "gallery", "digits", "nul\0l"]
        if why:
            with pytest.raises(InputError, match=f"^--json .*{why}"):
                outputs.check_file(there / name, "--json", read=read, force=force)
        else:
            outputs.check_file(there / name, "--json", read=read, force=force)


def test_a_file_is_whole_or_not_there_and_what_kills_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from genjax.files import outputs\n"
        "with outputs.replacing(pathlib.Path(sys.argv[1])) as path:\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert outputs.PART.fullmatch(left.name)
    with pytest.raises(FileNotFoundError), outputs.replacing(tmp_path / "a.json") as path:
        path.with_name("missing").read_bytes()
    assert list(tmp_path.iterdir()) == []
    outputs.write_atomically(tmp_path / "a.json", b"whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_temporary_files_of_processes_that_live_stay(tmp_path):
    with outputs.replacing(tmp_path / "a.json") as path:
        path.write_bytes(b"mine")
        outputs.write_atomically(tmp_path / "b.json", b"other")
        assert path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}


def test_which_temporary_files_are_removed(tmp_path, monkeypatch):
    here, gone = outputs._host(), 2**22 + 1  # more than Linux gives to any process
    names = {
        f".genjax-{gone}-{here}-00000000.part": False,
        f".genjax-{os.getpid()}-{here}-00000000.part": True,
        f".genjax-1-{here}-00000000.part": True,  # somebody else's that lives
        f".genjax-{gone}-00000000-00000000.part": True,  # another machine's
        f".genjax-{gone}-{here}-00000000.png": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"")
    old = tmp_path / ".genjax-7-00000000-00000000.part"
    old.mkdir()
    (old / "config.json").write_bytes(b"")
    os.utime(old, (time.time() - 2 * outputs.STALE_SECONDS,) * 2)
    outputs.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        name for name, stays in names.items() if stays
    }
    monkeypatch.setattr(
        outputs, "_STARTED", time.time() + 100
    )  # of a container's earlier life, where numbers repeat
    outputs.sweep(tmp_path)
    assert not (tmp_path / f".genjax-{os.getpid()}-{here}-00000000.part").exists()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here that a test may name")
def test_a_device_is_never_replaced(tmp_path):
    """Where a cached file was a link to /dev/null, a process that may write to /dev had replaced the device."""
    ends = os.openpty()
    device = Path(os.ttyname(ends[1]))
    (tmp_path / "log").symlink_to(device)
    outputs.write_atomically(tmp_path / "log", b"row")
    assert not (tmp_path / "log").is_symlink()
    assert (tmp_path / "log").read_bytes() == b"row"
    with pytest.raises(OSError, match="is a device, not a file"):
        outputs.write_atomically(device, b"row")
    assert device.is_char_device()
    for end in ends:
        os.close(end)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to("real.json")
    outputs.write_atomically(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"


# --- a folder of files -------------------------------------------------------------------


NAMES = ["a.png", "b.png", "sub/c.png"]


def notes(names=NAMES, tile=8, **sources):
    return {name: outputs.note(tile=tile, source=sources.get(name[-5], "")) for name in names}


def opened(out, names=NAMES, tile=8, sources=(), **options):
    return outputs.open_folder(
        out, names, notes(names, tile, **dict(sources)).__getitem__, **options
    )


def write(folder, *names, tile=8):
    for name in names:
        folder.write(name, grids.encode(PIXELS, ".png", notes(tile=tile, names=[name])[name]))


def test_the_same_command_goes_on_where_it_was_killed(tmp_path):
    out = tmp_path / "out"
    write(opened(out), "a.png", "sub/c.png")
    again = opened(out)
    assert again.done == {"a.png", "sub/c.png"}
    write(again, "b.png")
    assert opened(out).done == set(NAMES)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "sub"]


def test_a_file_that_is_not_the_one_that_was_written_needs_force(tmp_path):
    out = tmp_path / "out"
    write(opened(out), *NAMES)
    (out / "a.png").unlink()
    (out / "b.png").write_bytes(grids.encode(255 - PIXELS, ".png"))
    with pytest.raises(InputError, match=r"b\.png \(1 in all\): is there already.*--force"):
        opened(out)
    again = opened(out, force=True)
    assert (again.done, again.replaced) == ({"sub/c.png"}, {"b.png"})


def test_a_file_of_another_source_needs_force(tmp_path):
    """As of two cameras that both number their pictures from 1."""
    out = tmp_path / "out"
    write(opened(out), *NAMES)
    with pytest.raises(InputError, match=r"a\.png \(1 in all\): is there already"):
        opened(out, sources={"a": "another"})
    assert opened(out).done == set(NAMES)


def test_other_settings_need_force_and_foreign_files_stay(tmp_path):
    out = tmp_path / "out"
    write(opened(out), "a.png")
    with pytest.raises(InputError, match=r"a\.png \(1 in all\): is there already.*--force"):
        opened(out, tile=9)
    assert opened(out, tile=9, force=True).done == set()
    (out / "b.png").write_bytes(b"dear")
    for force, why in ((False, "--force"), (True, r"b\.png .*not written by genjax")):
        with pytest.raises(InputError, match=why):
            opened(out, tile=9, force=force)
    assert (out / "b.png").read_bytes() == b"dear"


def test_only_the_sources_of_files_that_are_there_are_read(tmp_path):
    """To hash a hundred thousand photographs takes longer than to say what is in the way."""
    asked = []
    outputs.open_folder(tmp_path / "out", NAMES, asked.append)
    assert asked == []
    write(opened(tmp_path / "out"), "b.png")
    outputs.open_folder(tmp_path / "out", NAMES, lambda name: asked.append(name) or notes()[name])
    assert asked == ["b.png"]


def test_a_folder_takes_the_files_of_several_commands(tmp_path):
    out = tmp_path / "out"
    write(opened(out, ["cat.png"], tile=1), "cat.png", tile=1)
    write(opened(out, ["dog.png"], tile=2), "dog.png", tile=2)
    assert opened(out, ["cat.png"], tile=1).done == {"cat.png"}
    assert opened(out, ["dog.png"], tile=2).done == {"dog.png"}


def test_what_appears_meanwhile_stays(tmp_path):
    folder = opened(tmp_path / "out")
    (tmp_path / "out/a.png").write_bytes(b"dear")
    with pytest.raises(InputError, match=r"a\.png: has appeared meanwhile"):
        write(folder, "a.png")
    check = functools.partial(outputs.check_file, tmp_path / "grid.png")
    check()

    def draw():
        with outputs.replacing(tmp_path / "grid.png", check) as temporary:
            temporary.write_bytes(PNG)
            (tmp_path / "grid.png").write_bytes(b"dear")

    with pytest.raises(InputError, match="is there already"):
        draw()
    assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "grid.png").read_bytes() == b"dear"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "grid.png"}


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.png"],
        ["A.png", "a.png"],
        ["\u00e9.png", "e\u0301.png"],
        ["STRASSE.png", "stra\u00dfe.png"],
        ["x.png", "X.png/a.png"],
    ],
)
def test_two_outputs_never_have_one_name(tmp_path, names):
    with pytest.raises(InputError, match=r"would be (one file|the folder of)"):
        opened(tmp_path / "out", names)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file", "file/out", "dangling", "loop/out", "x" * 300])
def test_a_folder_that_cannot_be_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"dear")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"^--out "):
        opened(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_of_the_disk_names_the_file_and_not_its_temporary_one(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = opened(tmp_path / "out")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=r"out/a\.png: cannot be written \(No space left on device\)"
    ):
        write(folder, "a.png")
    with pytest.raises(OSError, match="No space left") as caught:
        outputs.write_atomically(tmp_path / "a.json", b"")
    assert caught.value.filename == str(tmp_path / "a.json")


# --- the commands ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of a conditional GAN, whose config.json names its classes, a StyleGAN2 and a CycleGAN."""
    folder = tmp_path_factory.mktemp("runs")
    configs = {
        "labelled": (
            dcgan,
            dcgan.Config(
                shape=(8, 8, 1),
                latent_size=3,
                channels=4,
                norm="none",
                conditional="concat",
                num_labels=3,
            ),
            0.3,
        ),
        "styled": (
            stylegan2,
            stylegan2.Config(
                shape=(8, 8, 3),
                latent_size=4,
                style_size=5,
                mapping_layers=1,
                channels=32,
                group_size=2,
            ),
            1,
        ),
        "translating": (
            cyclegan,
            cyclegan.Config(
                shape=(16, 16, 3), channels=4, blocks=1, disc_channels=4, disc_layers=1
            ),
            0.02,
        ),
    }
    for name, (module, config, scale) in configs.items():
        (folder / name).mkdir()
        settings = {
            "model": module.__name__.rsplit(".", 1)[-1],
            "config": dataclasses.asdict(config),
        }
        classes = {"data": {"classes": ["7", "cat", "dog"]}} if name == "labelled" else {}
        checkpoint.write_config(folder / name, settings | classes)
        weights = jax.tree.map(
            lambda x: np.float32(x + 0.1), toys.weights(module.recipe(config), scale=scale)
        )
        checkpoint.export(folder / name, weights)
    return folder


@pytest.fixture
def genjax(monkeypatch, capsys, tmp_path, runs):
    """Runs `genjax ...` in an empty folder, RUN/ being that of the runs -> (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        words = [str(word).replace("RUN/", f"{runs}/") for word in words]
        monkeypatch.setattr(sys, "argv", ["genjax", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return call


WALK = "interpolate RUN/labelled --label 1 --seeds 0,1 --fps 2 --seconds"
SETS = "set.npz other.npz --extractor pixels"
FILES = {  # a command to the option of its output, the output's suffix, a file that it reads
    "sample": ("sample RUN/labelled --n 2 --out", ".png", "RUN/labelled/model.safetensors"),
    "interpolate": (f"{WALK} 2 --out", ".gif", "RUN/labelled/config.json"),
    "style-mix": (
        "style-mix RUN/styled --rows 1 --columns 2 --layers 0 --out",
        ".png",
        "RUN/styled/model.safetensors",
    ),
    "export": ("export RUN/styled --out", ".safetensors", "RUN/styled/model.safetensors"),
    "eval": (f"eval {SETS} --metrics kid --json", ".json", "other.npz"),
    "nearest": (f"nearest {SETS} --rows 2 --k 2 --out", ".png", "set.npz"),
}
FOLDERS = {  # a command to --out, and the name of one of its files
    "sample": ("sample RUN/labelled --seeds 0-2 --out", "seed0001.png"),
    "interpolate": (f"{WALK} 2 --out", "00001.png"),
    "translate": ("translate RUN/translating pictures --out", "b.png"),
}


def everything(*folders):
    """What lies in these folders, by path: a file's bytes, where a link leads to, or the kind of anything else."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            link = path.is_symlink() and os.readlink(path)
            found[path] = link or (path.read_bytes() if path.is_file() else path.stat().st_mode)
    return found


def make_inputs(folder):
    for seed, name in enumerate(("set", "other")):
        np.savez(
            folder / f"{name}.npz",
            images=np.random.default_rng(seed).integers(0, 256, (8, 8, 8, 1), np.uint8),
        )
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(PIXELS).save(folder / "pictures" / name)


def assert_refused(genjax, words, why, *folders):
    before = everything(*folders)
    code, said = genjax(*words)
    *summary, line = said.splitlines()
    assert (code, why in line, line[:8], len(summary) <= (words[0] == "translate")) == (
        2,
        True,
        "genjax: ",
        True,
    ), (words, said)
    assert everything(*folders) == before, words


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
        "import os, signal; from genjax.training import checkpoint; from genjax import cli\n"
        "checkpoint.export = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
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
        checkpoint.CONFIG,
        checkpoint.WEIGHTS,
    }


# --- single files ------------------------------------------------------------------------


def test_single_files_are_of_the_models_size_and_of_their_seed_alone(genjax, tmp_path):
    sample = ("sample", "RUN/labelled", "--label", "cat", "--seeds")
    for out in ("many", "x-{seed}.bmp", "more/"):
        assert genjax(*sample, "0-2,4", "--out", out)[0] == 0
    assert genjax(*sample, "4", "--out", "one.png")[0] == 0
    names = ["seed0000.png", "seed0001.png", "seed0002.png", "seed0004.png"]
    assert sorted(path.name for path in (tmp_path / "many").glob("*.png")) == names
    for path in (tmp_path / "many/seed0004.png", tmp_path / "x-0004.bmp", tmp_path / "one.png"):
        with Image.open(path) as image, Image.open(tmp_path / "more/seed0004.png") as other:
            assert image.size == (8, 8)
            assert np.abs(np.int32(image) - np.int32(other)).max() <= 1


@pytest.mark.parametrize("suffix", grids.FORMATS)
def test_one_picture_is_of_the_models_size_in_the_format_of_its_suffix(genjax, tmp_path, suffix):
    assert genjax("sample", "RUN/labelled", "--n", 1, "--out", f"one{suffix}")[0] == 0
    with Image.open(tmp_path / f"one{suffix}") as image:
        assert (image.size, image.format) == ((8, 8), grids.FORMATS[suffix])


def test_a_number_of_single_files_has_consecutive_seeds(genjax, tmp_path):
    for words in (("--n", 3, "--seed", 5, "--out", "n"), ("--seeds", "5-7", "--out", "seeds")):
        assert genjax("sample", "RUN/labelled", *words)[0] == 0
    for name in ("seed0005.png", "seed0006.png", "seed0007.png"):
        assert (tmp_path / "n" / name).read_bytes() == (tmp_path / "seeds" / name).read_bytes()


def test_more_seeds_join_a_folder(genjax, tmp_path):
    assert genjax("sample", "RUN/labelled", "--seeds", "0-1", "--out", "many")[0] == 0
    before = everything(tmp_path)
    code, said = genjax("sample", "RUN/labelled", "--seeds", "0-3", "--out", "many")
    assert code == 0
    assert "2 of 4 are done already" in said
    names = [f"seed{seed:04}.png" for seed in range(4)]
    assert sorted(path.name for path in (tmp_path / "many").glob("*.png")) == names
    after = everything(tmp_path)
    assert all(after[path] == before[path] for path in before if path.suffix == ".png")


@pytest.mark.parametrize("gap", [1, 3])
def test_a_grid_has_its_gap_between_images_only(tmp_path, gap):
    grids.save_grid(np.zeros((6, 50, 60, 3), np.uint8), tmp_path / "grid.png", columns=3, gap=gap)
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (100 + gap, 180 + 2 * gap, 3)
    assert not any(
        edge.any() for edge in (pixels[0, :60], pixels[-1, -60:], pixels[:50, 0], pixels[-50:, -1])
    )
    assert (pixels[50 : 50 + gap] == 255).all()


# --- what options may say ----------------------------------------------------------------


def test_classes_go_by_name_or_number(runs):
    model, _ = load(runs / "labelled")
    names = cli._classes(runs / "labelled")
    chosen = [sampling.class_index(model, label, names) for label in ("", "cat", "dog", "7", "1")]
    assert chosen == [None, 1, 2, 0, 1]  # of "7" the name, for there is one
    for label, why in (
        ("cats", "--label cats: one of its 3 classes, such as cat, or a number from 0 to 2"),
        ("3", "or a number from 0 to 2"),
        ("-1", "or a number from 0 to 2"),
        ("9" * 5000, "or a number from 0 to 2"),
        ("\u0663", "or a number from 0 to 2"),
    ):
        with pytest.raises(InputError, match=why):
            sampling.class_index(model, label, names)
    with pytest.raises(InputError, match="--label cat: from 0 to 2"):
        sampling.class_index(model, "cat", [])
    with pytest.raises(InputError, match="--label cat: the model was trained without labels"):
        sampling.class_index(load(runs / "styled")[0], "cat", names)


@pytest.mark.parametrize(
    "classes", [None, 3, {}, ["a", 3], [["a"]], ["dog\x1b[31m\n"] * 3, ["x" * 10**6]]
)
def test_classes_on_record_may_be_anything(genjax, runs, tmp_path, classes):
    shutil.copytree(runs / "labelled", tmp_path / "run")
    checkpoint.write_config(
        tmp_path / "run", checkpoint.read_config(runs / "labelled") | {"data": {"classes": classes}}
    )
    code, said = genjax("sample", "run", "--label", "doge")
    assert code == 2
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    assert "\x1b" not in said
    assert genjax("sample", "run", "--label", "2", "--n", "1")[0] == 0


def test_what_a_runs_settings_are_not_is_said_without_options_that_the_command_lacks(
    genjax, runs, tmp_path
):
    shutil.copytree(runs / "labelled", tmp_path / "run")
    settings = checkpoint.read_config(tmp_path / "run")
    for change, why in (
        ({"shape": [7, 8, 1]}, "resolution 7 8: each side"),
        ({"channels": 0}, "channels 0"),
    ):
        checkpoint.write_config(
            tmp_path / "run", settings | {"config": settings["config"] | change}
        )
        code, said = genjax("sample", "run")
        assert code == 2
        assert f"config.json: {why}" in said
        assert "--" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sample RUN/labelled --out a-{seed}-{seed}.png", "a pattern has {seed} once"),
        ("sample RUN/labelled --out a-{seed}.txt", "a pattern has {seed} once"),
        ("sample RUN/labelled --out a-{seed:04}.png", "a pattern has {seed} once"),
        ("sample RUN/labelled --out a-{0.__class__}.png", "a pattern has {seed} once"),
        ("sample RUN/labelled --out {seed}/a.png", "a pattern has {seed} once"),
        ("sample RUN/labelled --out {seed}/{seed}.png", "a pattern has {seed} once"),
        ("sample RUN/labelled --out grid.txt", "--out grid.txt: one of .png"),
        ("sample RUN/labelled --out many --grid 2x2", "--grid 2x2"),
        ("sample RUN/labelled --seeds 1,2,1 --out many", "--seeds 1,2,1: names a seed twice"),
        ("sample RUN/labelled --seed 4294967295 --n 2 --out many", "--seed 4294967295"),
        ("sample RUN/labelled --n 0", "--n 0"),
        ("sample RUN/labelled --n 65537", "--n 65537"),
        ("sample RUN/labelled --seed -1", "--seed -1"),
        ("sample RUN/labelled --step -1", "--step -1"),
        ("sample RUN/labelled --truncation inf", "--truncation"),
        ("sample RUN/labelled --truncation 1e30", "--truncation 1e+30"),
        (
            "sample RUN/labelled --grid 2000x1 --out x.jpg",
            "--out x.jpg: a .jpg of 48x97999 pixels: at most 65500",
        ),
        (
            "sample RUN/labelled --grid 1x400 --out x.webp",
            "--out x.webp: a .webp of 19599x48 pixels: at most 16383",
        ),
        (
            "interpolate RUN/labelled --seeds 0,1 --label 1 --seconds inf",
            "--seconds inf: a finite number",
        ),
        ("interpolate RUN/labelled --seeds 0,1 --label 1 --seconds -1", "--seconds -1"),
        ("interpolate RUN/labelled --seeds 0,1 --label 1 --fps -1", "--fps -1"),
        ("interpolate RUN/labelled --seeds 0,1 --label 1 --step -2", "--step -2"),
        ("style-mix RUN/styled --rows 1 --columns 2 --layers 0 --step -1", "--step -1"),
        ("style-mix RUN/styled --rows 0-999 --columns 0-999 --layers 0", "a table of at most"),
        ("translate RUN/translating pictures --tile 99999999", "--tile 99999999"),
        ("translate RUN/translating pictures --overlap -1", "--overlap -1"),
        ("translate RUN/translating pictures --step -1", "--step -1"),
        ("export RUN/styled --out x.safetensors --step -1", "--step -1"),
        ("export RUN/styled --out x.npz", "--out x.npz: give a NAME.safetensors"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_written(
    genjax, runs, tmp_path, words, said
):
    make_inputs(tmp_path)
    assert_refused(genjax, words.split(), said, tmp_path)


# --- going on ----------------------------------------------------------------------------


def test_frames_go_on_after_a_kill(genjax, tmp_path):
    walk = [*WALK.replace("--fps 2", "--fps 10").split(), "10", "--out"]
    assert genjax(*walk, "whole")[0] == 0
    assert genjax(*walk, "cut")[0] == 0
    for number in range(70, 100):
        (tmp_path / f"cut/{number:05}.png").unlink()
    code, said = genjax(*walk, "cut")
    assert code == 0
    assert "70 of 100" in said
    for number in range(100):
        name = f"{number:05}.png"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pictures_of_the_frames_naming_are_never_written_over(genjax, tmp_path):
    """FFHQ's are 00000.png to 69999.png."""
    for count, why in ((5, "holds frames beyond these 4"), (3, "not written by genjax")):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05}.png").write_bytes(b"dear")
        assert_refused(genjax, [*WALK.split(), "2", "--force", "--out", str(count)], why, tmp_path)
