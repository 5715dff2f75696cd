"""What every command refuses to write over, and what a kill leaves to be gone on with."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import toys
from PIL import Image

from genjax import cli, images, outputs
from genjax.errors import InputError

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


# --- the mark ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", images.FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_format_carries_the_mark_and_the_same_pixels(tmp_path, suffix, channels):
    pixels = np.concatenate([PIXELS, np.full((4, 4, 1), 255, np.uint8)], -1)[..., :channels]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(images.encode(pixels, suffix))
    assert outputs.ours(path)
    assert not outputs.ours(path, "of another kind")
    path.write_bytes(images.encode(pixels, suffix, "of this kind"))
    assert outputs.ours(path, "of this kind")
    assert path.read_bytes() == images.encode(pixels, suffix, "of this kind")
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
    (tmp_path / "mine.png").write_bytes(images.encode(PIXELS, ".png"))
    (tmp_path / "theirs.png").write_bytes(b"dear")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.safetensors").write_bytes(b"dear " + outputs.MARK.encode())
    (tmp_path / "set.npz").write_bytes(b"dear " + outputs.MARK.encode())
    os.link(tmp_path / "set.npz", tmp_path / "hard.npz")
    (tmp_path / "soft.npz").symlink_to("set.npz")
    (tmp_path / "into_run.png").symlink_to("run/model.safetensors")
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
        read = [there / "run", there / "set.npz", "digits"]
        if why:
            with pytest.raises(InputError, match=f"^--json .*{why}"):
                outputs.check_file(there / name, "--json", read=read, force=force)
        else:
            outputs.check_file(there / name, "--json", read=read, force=force)


def test_a_file_is_whole_or_not_there_and_what_kills_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from genjax import outputs\n"
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


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to("real.json")
    outputs.write_atomically(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"


# --- a folder of files -------------------------------------------------------------------

NAMES = ["a.png", "b.png", "sub/c.png"]


def notes(tile=8, **sources):
    return [(name, outputs.note(tile=tile, source=sources.get(name[-5], ""))) for name in NAMES]


def write(out, *names, tile=8):
    for name, note in notes(tile):
        if name in names:
            (out / name).write_bytes(images.encode(PIXELS, ".png", note))


def test_the_same_command_goes_on_where_it_was_killed(tmp_path):
    assert outputs.open_folder(tmp_path / "out", notes()) == set()
    write(tmp_path / "out", "a.png", "sub/c.png")
    assert outputs.open_folder(tmp_path / "out", notes()) == {"a.png", "sub/c.png"}
    with pytest.raises(InputError, match="--force"):  # its source has changed
        outputs.open_folder(tmp_path / "out", notes(c="new"))
    assert outputs.open_folder(tmp_path / "out", notes(c="new"), force=True) == {"a.png"}


def test_other_settings_need_force_and_foreign_files_stay(tmp_path):
    out = tmp_path / "out"
    outputs.open_folder(out, notes())
    write(out, "a.png")
    with pytest.raises(InputError, match=r"a\.png \(1 in all\): is there already.*--force"):
        outputs.open_folder(out, notes(tile=9))
    assert outputs.open_folder(out, notes(tile=9), force=True) == set()
    (out / "b.png").write_bytes(b"dear")
    for force, why in ((False, "--force"), (True, r"b\.png .*not written by genjax")):
        with pytest.raises(InputError, match=why):
            outputs.open_folder(out, notes(tile=9), force=force)
    assert (out / "b.png").read_bytes() == b"dear"


def test_two_outputs_never_have_one_name(tmp_path):
    for names in (["a.png", "a.png"], ["A.png", "a.png"]):
        with pytest.raises(InputError, match="two files would be"):
            outputs.open_folder(tmp_path / "out", [(name, "") for name in names])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_or_has_one_as_parent_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"dear")
    for name in ("file", "file/out"):
        with pytest.raises(InputError, match="--out"):
            outputs.open_folder(tmp_path / name, notes())


# --- the commands ------------------------------------------------------------------------


def genjax(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["genjax", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A conditional GAN of 8x8, whose config.json names its three classes."""
    import dataclasses

    import jax

    from genjax import checkpoint
    from genjax.models import dcgan

    folder = tmp_path_factory.mktemp("runs") / "labelled"
    folder.mkdir()
    config = dcgan.Config(
        shape=(8, 8, 1), latent_size=3, channels=4, norm="none", conditional="concat", num_labels=3
    )
    settings = {"model": "dcgan", "config": dataclasses.asdict(config)}
    checkpoint.write_config(folder, settings | {"data": {"classes": ["7", "cat", "dog"]}})
    weights = toys.weights(dcgan.recipe(config), scale=0.3)
    checkpoint.export(folder, jax.tree.map(lambda x: np.float32(x + 0.1), weights))
    return folder


def test_single_files_are_of_the_models_size_and_of_their_seed_alone(run, tmp_path, monkeypatch, capsys):
    for out in ("many", "x-{seed}.bmp", "one.png", "more/"):
        seeds = "4" if out == "one.png" else "0-2,4"
        code, _ = genjax(monkeypatch, capsys, "sample", run, "--seeds", seeds, "--label", "cat", "--out", f"{tmp_path}/{out}")
        assert code == 0
    names = ["seed0000.png", "seed0001.png", "seed0002.png", "seed0004.png"]
    assert sorted(path.name for path in (tmp_path / "many").glob("*.png")) == names
    for path in (tmp_path / "many/seed0004.png", tmp_path / "x-0004.bmp", tmp_path / "one.png"):
        with Image.open(path) as image, Image.open(tmp_path / "more/seed0004.png") as other:
            assert image.size == (8, 8)
            assert np.abs(np.int32(image) - np.int32(other)).max() <= 1


def test_a_number_of_single_files_has_consecutive_seeds(run, tmp_path, monkeypatch, capsys):
    for words in (("--n", 3, "--seed", 5, "--out", tmp_path / "n"), ("--seeds", "5-7", "--out", tmp_path / "seeds")):
        assert genjax(monkeypatch, capsys, "sample", run, *words)[0] == 0
    for name in ("seed0005.png", "seed0006.png", "seed0007.png"):
        assert (tmp_path / "n" / name).read_bytes() == (tmp_path / "seeds" / name).read_bytes()


def test_classes_go_by_name_or_number(run):
    chosen = [cli._class(run, label) for label in ("", "cat", "dog", "7", "1")]
    assert chosen == [None, 1, 2, 0, 1]  # of "7" the name, for there is one
    with pytest.raises(InputError, match="--label cats: one of its 3 classes, such as cat"):
        cli._class(run, "cats")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "RUN", "--out", "RUN/model.safetensors"], "--out"),
        (["sample", "RUN", "--out", "RUN/config.json"], "--out"),
        (["sample", "RUN", "--out", "theirs.png", "--force"], "not written by genjax"),
        (["sample", "RUN", "--out", "a-{seed}-{seed}.png"], "a pattern has {seed} in it once"),
        (["sample", "RUN", "--out", "a-{seed}.txt"], "a pattern has {seed} in it once"),
        (["sample", "RUN", "--out", "grid.txt"], "one of .png"),
        (["sample", "RUN", "--out", "many", "--grid", "2x2"], "--grid"),
        (["interpolate", "RUN", "--seeds", "0,1", "--label", "0", "--seconds", "1", "--out", "theirs.gif", "--force"], "not written by genjax"),
        (["nearest", "set.npz", "set.npz", "--out", "set.npz", "--force"], "one of .png"),
        (["nearest", "set.npz", "set.npz", "--out", "theirs.png"], "--force"),
        (["eval", "set.npz", "set.npz", "--json", "set.npz", "--force"], "--json set.npz: is read"),
        (["eval", "set.npz", "set.npz", "--json", "missing/x.json"], "--json missing/x.json: not in a folder"),
        (["eval", "set.npz", "set.npz", "--json", "theirs.png", "--force"], "--json theirs.png: was not written"),
        (["convert", "cyclegan", "RUN", "--out", "RUN", "--force"], "--out"),
        (["export", "RUN", "--out", "RUN/model.safetensors", "--force"], "is read"),
    ],
)  # fmt: skip
def test_no_command_writes_over_what_it_reads_or_what_is_not_genjaxs(run, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    for name in ("theirs.png", "theirs.gif"):
        (tmp_path / name).write_bytes(b"dear")
    np.savez("set.npz", images=np.zeros((8, 8, 8, 1), np.uint8))
    before = {path: path.read_bytes() for folder in (tmp_path, run) for path in folder.iterdir()}
    code, line = genjax(monkeypatch, capsys, *(word.replace("RUN", str(run)) for word in words))
    assert code == 2
    assert said in line
    assert len(line.splitlines()) == 1
    assert {path: path.read_bytes() for folder in (tmp_path, run) for path in folder.iterdir()} == before


def test_frames_go_on_after_a_kill(run, tmp_path, monkeypatch, capsys):
    walk = ("interpolate", run, "--label", 1, "--seeds", "0,1", "--seconds", 10, "--fps", 10, "--out")
    assert genjax(monkeypatch, capsys, *walk, tmp_path / "whole")[0] == 0
    assert genjax(monkeypatch, capsys, *walk, tmp_path / "cut")[0] == 0
    for number in range(70, 100):
        (tmp_path / f"cut/{number:05}.png").unlink()
    code, said = genjax(monkeypatch, capsys, *walk, tmp_path / "cut")
    assert code == 0
    assert "70 of 100" in said
    for number in range(100):
        name = f"{number:05}.png"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(list((tmp_path / "cut").iterdir())) == 100


def test_pictures_of_the_frames_naming_are_never_written_over(run, tmp_path, monkeypatch, capsys):
    """FFHQ's are 00000.png to 69999.png."""
    walk = ("interpolate", run, "--label", 1, "--seeds", "0,1", "--seconds", 2, "--fps", 2, "--force", "--out")
    for count, why in ((5, "holds frames beyond these 4"), (3, "not written by genjax")):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05}.png").write_bytes(b"dear")
        code, said = genjax(monkeypatch, capsys, *walk, folder)
        assert code == 2
        assert why in said
        assert [path.read_bytes() for path in folder.iterdir()] == [b"dear"] * count
