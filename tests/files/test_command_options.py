"""Single files and grids, what options may say, and frames after a kill."""

import shutil

import numpy as np
import pytest
from commands import WALK, assert_refused, everything, make_inputs
from PIL import Image

from genjax import sampling
from genjax.cli import arguments
from genjax.errors import InputError
from genjax.files import grids
from genjax.training import run_folder

# --- single files ---------------------------------------------------------------------


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


# --- what options may say -------------------------------------------------------------


def test_classes_go_by_name_or_number(runs, load_once):
    model, _ = load_once(runs / "labelled")
    names = arguments.class_names(runs / "labelled")
    chosen = [
        sampling.class_index(model.sampler, label, names) for label in ("", "cat", "dog", "7", "1")
    ]
    assert chosen == [None, 1, 2, 0, 1]  # of "7" the name, for there is one
    for label, why in (
        ("cats", "label cats: one of its 3 classes, such as cat, or a number from 0 to 2"),
        ("3", "or a number from 0 to 2"),
        ("-1", "or a number from 0 to 2"),
        ("9" * 5000, "or a number from 0 to 2"),
        ("\u0663", "or a number from 0 to 2"),
    ):
        with pytest.raises(InputError, match=why):
            sampling.class_index(model.sampler, label, names)
    with pytest.raises(InputError, match="label cat: from 0 to 2"):
        sampling.class_index(model.sampler, "cat", [])
    with pytest.raises(InputError, match="label cat: the model was trained without labels"):
        sampling.class_index(load_once(runs / "styled")[0].sampler, "cat", names)


@pytest.mark.parametrize(
    "classes", [None, 3, {}, ["a", 3], [["a"]], ["dog\x1b[31m\n"] * 3, ["x" * 10**6]]
)
def test_classes_on_record_may_be_anything(genjax, runs, tmp_path, classes):
    shutil.copytree(runs / "labelled", tmp_path / "run")
    run_folder.write_config(
        tmp_path / "run", run_folder.read_config(runs / "labelled") | {"data": {"classes": classes}}
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
    settings = run_folder.read_config(tmp_path / "run")
    for change, why in (
        ({"shape": [7, 8, 1]}, "shape 7x8: each side"),
        ({"channels": 0}, "channels 0"),
    ):
        run_folder.write_config(
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


# --- going on -------------------------------------------------------------------------


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
