"""genjax translate and convert: names and sizes stay, nothing is lost or executed."""

import dataclasses
import errno
import json
import os
import socket
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from PIL import Image

import genjax
from genjax import cli, core, data
from genjax.edit import pictures
from genjax.errors import InputError
from genjax.files import grids
from genjax.models import cyclegan
from genjax.training import run_folder

TOY = cyclegan.Config(shape=(16, 16, 3), channels=4, blocks=1, disc_channels=4, disc_layers=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_folder.write_config(folder, {"model": "cyclegan", "config": dataclasses.asdict(TOY)})
    run_folder.export(folder, toys.weights(cyclegan.recipe(TOY)))
    return folder


def paint(path, width=21, height=14, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(levels).convert(mode).save(path, **options)


def test_a_folder_is_translated_with_names_folders_and_sizes_kept(run, tmp_path, capsys):
    paint(tmp_path / "in/a.png")
    paint(tmp_path / "in/deep/b.jpg", 9, 30)
    paint(tmp_path / "in/grey.png", 8, 8, "L")
    paint(tmp_path / "in/c.gif", 8, 8, "P")
    (tmp_path / "in/notes.txt").write_text("no picture")
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out") == 0
    sizes = {}
    for path in sorted((tmp_path / "out").rglob("*.*")):
        with Image.open(path) as image:
            sizes[str(path.relative_to(tmp_path / "out"))] = (*image.size, image.mode)
    assert sizes == {
        "a.png": (21, 14, "RGB"),
        "c.gif.png": (8, 8, "RGB"),
        "deep/b.jpg": (9, 30, "RGB"),
        "grey.png": (8, 8, "RGB"),
    }
    assert "4 of 4" in capsys.readouterr().err


def test_one_picture_is_what_the_verb_gives_in_either_direction(run, tmp_path):
    paint(tmp_path / "a.png")
    model, weights = genjax.load(run)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.float32(image)[None] / 127.5 - 1
    for direction in ("a2b", "b2a"):
        out = tmp_path / direction
        assert cli.translate(run, tmp_path / "a.png", direction=direction, out=out) == 0
        with Image.open(out / "a.png") as image:
            got = np.int32(image)
        wanted = np.int32(genjax.to_uint8(model.translate(weights, pixels, direction)))[0]
        assert np.abs(got - wanted).max() <= 1


def test_large_pictures_go_through_in_tiles(run, tmp_path):
    paint(tmp_path / "a.png", 150, 40)
    assert cli.translate(run, tmp_path / "a.png", out=tmp_path / "out", tile=32, overlap=8) == 0
    with Image.open(tmp_path / "out/a.png") as image:
        assert image.size == (150, 40)


@pytest.mark.parametrize("suffix", grids.FORMATS)
def test_transparency_is_kept_or_over_white(tmp_path, suffix):
    pixels = np.full((8, 8, 4), (200, 100, 0, 255), np.uint8)
    pixels[:, 4:, 3] = 0
    pictures.write(tmp_path / f"a{suffix}", pixels)
    with Image.open(tmp_path / f"a{suffix}") as image:
        keeps, got = image.mode == "RGBA", np.int32(image)
    assert keeps == (suffix in (".png", ".webp", ".tif", ".tiff"))
    assert np.abs(got[0, 7, 3] if keeps else got[0, 7] - 255).max() <= 2
    assert np.abs(got[0, 0, :3] - (200, 100, 0)).max() <= 12  # JPEG and WebP lose a little


def test_grey_stays_grey(tmp_path):
    pictures.write(tmp_path / "a.jpg", np.zeros((8, 8, 1), np.uint8))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "L"


def test_what_cannot_be_written_is_named_with_the_reason_and_leaves_nothing(tmp_path, monkeypatch):
    pixels = np.zeros((2, 2, 3), np.uint8)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match=r"a\.png: cannot be written \(Is a directory\)"):
        pictures.write(tmp_path / "a.png", pixels)
    with pytest.raises(
        InputError, match=r"none/a\.png: cannot be written \(No such file or directory\)"
    ):
        pictures.write(tmp_path / "none/a.png", pixels)
    with pytest.raises(InputError, match=r"a\.webp: cannot be written \(.*16383"):
        pictures.write(tmp_path / "a.webp", np.zeros((1, 2**14, 3), np.uint8))

    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"b\.png: cannot be written \(No space left on device\)"):
        pictures.write(tmp_path / "b.png", pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_nothing_is_written_over_without_force(run, tmp_path):
    paint(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_text("dear")
    with pytest.raises(InputError, match="`force`"):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out")
    with pytest.raises(InputError, match="not written by genjax"):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out", force=True)
    assert (tmp_path / "out/a.png").read_text() == "dear"
    paint(tmp_path / "gif/a.gif")  # which would become a.gif.png
    for name in ("in", "gif"):
        with pytest.raises(InputError, match="is read by this command"):
            cli.translate(run, tmp_path / name, out=tmp_path / name, force=True)


def test_the_same_command_goes_on_and_redoes_what_has_changed(run, tmp_path, capsys):
    for name in ("a.png", "b.png", "c.png"):
        paint(tmp_path / "in" / name)
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out") == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out/b.png").unlink()
    paint(tmp_path / "in/c.png", 9, 9)
    # The output of the old c.png.
    with pytest.raises(InputError, match=r"c\.png \(1 in all\): is there already.*`force`"):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out")
    capsys.readouterr()
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out", force=True) == 0
    assert "1 of 3 are done already" in capsys.readouterr().err
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert {name for name in after if after[name] != before[name]} == {"b.png", "c.png"}
    with Image.open(tmp_path / "out/c.png") as image:
        assert image.size == (9, 9)
    paint(tmp_path / "d.png")  # into the same folder
    assert cli.translate(run, tmp_path / "d.png", out=tmp_path / "out") == 0
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out") == 0
    assert "3 of 3 are done already" in capsys.readouterr().err
    with pytest.raises(InputError, match="`force`"):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out", tile=256)


def test_pictures_of_another_folder_with_the_same_names_need_force(run, tmp_path):
    for day, width in (("monday", 9), ("tuesday", 10)):
        paint(tmp_path / day / "IMG_1.png", width, 9)
    assert cli.translate(run, tmp_path / "monday", out=tmp_path / "out") == 0
    with pytest.raises(InputError, match=r"IMG_1\.png .*`force`"):
        cli.translate(run, tmp_path / "tuesday", out=tmp_path / "out")
    with Image.open(tmp_path / "out/IMG_1.png") as image:
        assert image.size == (9, 9)


@pytest.mark.parametrize("out", ["translated", "../link"])
def test_translated_pictures_are_not_translated_again(run, tmp_path, monkeypatch, capsys, out):
    """`genjax translate RUN .` writes into ./translated, and is repeated."""
    paint(tmp_path / "in/a.png")
    paint(tmp_path / "in/translated/theirs.png")
    (tmp_path / "link").symlink_to("in/translated")
    monkeypatch.chdir(tmp_path / "in")
    for times in range(2):
        assert cli.translate(run, Path("."), out=Path(out)) == 0
        assert ("2 of them are genjax's own" in capsys.readouterr().err) == bool(times)
        there = {
            str(path.relative_to(tmp_path / "in")) for path in (tmp_path / "in").rglob("*.png")
        }
        made = {"translated/a.png", "translated/translated/theirs.png"}
        assert there == {"a.png", "translated/theirs.png"} | made


def test_a_picture_that_cannot_be_written_or_needs_too_much_memory_is_left_out(
    run, tmp_path, monkeypatch, capsys
):
    for name, width in (("a.png", 8), ("long.png", 16_384), ("odd.png", 9), ("huge.png", 10)):
        paint(tmp_path / "in" / name, width, 8)
    (tmp_path / "in/long.png").rename(tmp_path / "in/long.webp")  # which a WebP cannot be

    def translator(*_):
        def translated(image):
            if image.shape[1] == 9:
                raise MemoryError
            if image.shape[1] == 10:
                raise jax.errors.JaxRuntimeError(
                    "RESOURCE_EXHAUSTED: Out of memory allocating 878 bytes."
                )
            return image

        return translated

    monkeypatch.setattr(sys.modules["genjax.cli.translate"], "translator", translator)
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out") == 1
    output = capsys.readouterr().err
    assert (
        "long.webp: cannot be written as .webp (a .webp of 8x16384 pixels: at most 16383 per side"
        in output
    )
    for name in ("odd.png", "huge.png"):
        assert f"{name}: needs more memory than there is; try a smaller --tile; left out" in output
    assert "1 of 4 pictures translated" in output
    assert [path.name for path in (tmp_path / "out").glob("*.*g")] == ["a.png"]


@pytest.mark.parametrize(
    "names",
    [
        ("c.gif", "c.gif.png"),
        ("c.ppm", "c.ppm.png"),
        ("a.JPG", "a.jpg"),
        ("d", "d.png"),
        ("e.gif", "e.gif.png/e.png"),
    ],
)
def test_two_pictures_never_become_one(run, tmp_path, names):
    for name in names:
        paint(tmp_path / "in" / name, format=None if "." in name else "PNG")
    with pytest.raises(
        InputError,
        match=f": {names[0]} (and {names[1]} would be one file|would be the folder of {names[1]})",
    ):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_pictures_are_named_and_left_out(run, tmp_path, capsys):
    paint(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    assert cli.translate(run, tmp_path / "in", out=tmp_path / "out") == 1
    assert "b.png: not an image" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png"]
    (tmp_path / "in/a.png").unlink()
    with pytest.raises(InputError, match="none of its 1"):
        cli.translate(run, tmp_path / "in", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "named"),
    [({"tile": 4}, "--tile 4"), ({"overlap": 400}, "--overlap 400"), ({"out": "file"}, "^out ")],
)
def test_options_that_mean_nothing_are_refused(run, tmp_path, options, named):
    paint(tmp_path / "in/a.png")
    (tmp_path / "file").write_text("")
    options = {"out": tmp_path / options.pop("out", "out"), **options}
    with pytest.raises(InputError, match=named):
        cli.translate(run, tmp_path / "in", **options)


def test_pictures_are_found_by_content_and_the_rest_is_summed_up(tmp_path):
    for name in ("a.png", "deep/b.jpg", ".thumbnails/a.png", "__MACOSX/._a.png", "@eaDir/x.jpg"):
        paint(tmp_path / name)
    paint(tmp_path / "c.jfif", format="JPEG")
    paint(tmp_path / "d", format="PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    output = []
    files = pictures.find(tmp_path, output.append)
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "a.png",
        "c.jfif",
        "d",
        "deep/b.jpg",
    ]
    left_out = "3 in hidden or thumbnail folders, 2 pipes or devices, 1 .txt, 1 hidden"
    assert output == [f"11 files found, 4 used; left out: {left_out}"]
    assert pictures.find(tmp_path) == files
    for path in files:
        assert pictures.read(path, 3).shape == (14, 21, 3)


@pytest.mark.parametrize("name", ["pipe", "zero", "socket", "nul\0l", "loop", "x" * 5000])
def test_only_regular_files_are_opened(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(InputError, match=r"cannot be read \(.*; give a picture"):
            pictures.find(tmp_path / name)
        with pytest.raises(pictures.Unreadable):
            pictures.read(tmp_path / name, 3)


def test_a_picture_is_read_as_a_data_set_reads_it(tmp_path):
    paint(tmp_path / "a.jpg", 301, 203, quality=90)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        pictures.read(tmp_path / "a.jpg", 3), pictures.read(tmp_path / "a.png", 3)
    )
    np.testing.assert_array_equal(
        pictures.read(tmp_path / "a.jpg", 3),
        data.load(str(tmp_path), max_bad=0, say=print).arrays["images"][0],
    )


def test_missing_and_empty_inputs_are_named(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(InputError, match=str(path)):
            pictures.find(path)


def test_weights_of_one_direction_translate_in_it_alone(run, tmp_path):
    _, weights = genjax.load(run)
    one = tmp_path / "one"
    one.mkdir()
    run_folder.write_config(one, run_folder.read_config(run))
    run_folder.export(one, {"params": {"gen_a2b": weights["params"]["gen_a2b"]}, "stats": {}})
    paint(tmp_path / "a.png")
    assert cli.translate(one, tmp_path / "a.png", out=tmp_path / "out") == 0
    with pytest.raises(InputError, match="other direction"):
        cli.translate(one, tmp_path / "a.png", direction="b2a", out=tmp_path / "back")


def test_a_run_of_another_model_is_refused(tmp_path):
    from genjax.models import vae

    config = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2)
    run_folder.write_config(
        tmp_path, {"model": "vae", "config": json.loads(json.dumps(dataclasses.asdict(config)))}
    )
    run_folder.export(tmp_path, core.weights(vae.recipe(config).init(jax.random.key(0))))
    paint(tmp_path / "a.png")
    with pytest.raises(InputError, match="another model"):
        cli.translate(tmp_path, tmp_path / "a.png", out=tmp_path / "out")
