"""The library's rules for outputs: nothing is lost, kills leave no damage."""

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.errors import ConfigError, InputError
from genjax.files import grids, outputs
from genjax.training import run_folder

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
PNG = grids.encode(PIXELS, ".png")


# --- the mark -------------------------------------------------------------------------


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


# --- one file -------------------------------------------------------------------------


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
    # The targets of links in a folder are read, too.
    (tmp_path / "gallery/a.png").symlink_to("../shown.png")
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
        ("mine.png", "add `force`", ""),
        ("theirs.png", "add `force`", "not written by genjax"),
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
            with pytest.raises(ConfigError, match=f"^json .*{why}"):
                outputs.check_file(there / name, "json", read=read, force=force)
        else:
            outputs.check_file(there / name, "json", read=read, force=force)


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
    # After a new start of a container, where process numbers repeat.
    monkeypatch.setattr(outputs, "_STARTED", time.time() + 100)
    outputs.sweep(tmp_path)
    assert not (tmp_path / f".genjax-{os.getpid()}-{here}-00000000.part").exists()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here that a test may name")
def test_a_device_is_never_replaced(tmp_path):
    """A log may be a link to /dev/null: root would replace the device."""
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


# --- a folder of files ----------------------------------------------------------------


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
    with pytest.raises(InputError, match=r"b\.png \(1 in all\): is there already.*`force`"):
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
    with pytest.raises(InputError, match=r"a\.png \(1 in all\): is there already.*`force`"):
        opened(out, tile=9)
    assert opened(out, tile=9, force=True).done == set()
    (out / "b.png").write_bytes(b"dear")
    for force, why in ((False, "`force`"), (True, r"b\.png .*not written by genjax")):
        with pytest.raises(InputError, match=why):
            opened(out, tile=9, force=force)
    assert (out / "b.png").read_bytes() == b"dear"


def test_only_the_sources_of_files_that_are_there_are_read(tmp_path):
    """Hashing 100,000 photographs takes longer than finding what is in the way."""
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
    with pytest.raises(ConfigError, match=r"^out "):
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


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://bucket/a/run"])
def test_an_address_of_an_object_store_makes_no_local_folder(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"out {address}: object stores are not supported yet"):
        run_folder.open_run(Path(address), {})
    for check in (outputs.check_folder, outputs.check_file):
        with pytest.raises(ConfigError, match=f"out {address}: object stores are not supported"):
            check(Path(address))
    assert list(tmp_path.iterdir()) == []
    outputs.check_folder(tmp_path / "C:/a")
