"""train/cyclegan.py: which sets become its sides, what it records and writes, and what
it refuses.
"""

import json

import numpy as np
import pytest

import genjax
from genjax.cli.train import cyclegan as train
from genjax.edit import pictures
from genjax.errors import InputError

pytestmark = pytest.mark.usefixtures("plain_convolutions")
TOY = train.cyclegan.Config(channels=2, blocks=0, disc_channels=2, disc_layers=1)


@pytest.fixture
def folders(tmp_path):
    """Six pictures of 14x12 and four of 9x9 with transparency."""
    for folder, shape, count in (("a", (14, 12, 3), 6), ("b", (9, 9, 4), 4)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            image = np.random.default_rng(i).integers(0, 256, shape).astype(np.uint8)
            pictures.write(tmp_path / folder / f"{i}.png", image)
    return {"data_a": str(tmp_path / "a"), "data_b": str(tmp_path / "b")}


def test_two_folders_train(folders, tmp_path):
    options = {
        **folders,
        "resolution": (12,),
        "random_crop": (8,),
        "batch_size": 8,
        "model": TOY,
        "log_every": 1,
    }
    run = tmp_path / "run"
    assert train.run(train.Arguments(**options, out=run, steps=2)) == 0
    assert [
        json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ] == [1, 2]
    settings = json.loads((run / "config.json").read_text())
    assert settings["data"]["spec"] == f"{folders['data_a']} and {folders['data_b']}"
    assert settings["data"]["random_crop"] == [8, 8]
    assert settings["config"]["shape"] == [8, 8, 3]
    assert {path.name[:3] for path in (run / "samples").iterdir()} == {"a2b", "b2a"}
    model, weights = genjax.load(run)
    assert model.translate(weights, np.zeros((1, 9, 7, 3), np.float32)).shape == (1, 9, 7, 3)


@pytest.mark.parametrize("task", train.TASKS)
def test_a_task_makes_side_a_from_side_b(folders, task):
    arguments = train.Arguments(task=task, data=folders["data_a"], resolution=(12,), seed=3)
    source, again = train.sides(arguments), train.sides(arguments)
    assert f"{train.TASKS[task]} of seed 3" in source.name
    clean, made = source.partner.arrays["images"], source.arrays["images"]
    assert made.shape == clean.shape == (6, 12, 12, 3)
    assert not np.array_equal(made, clean)
    np.testing.assert_array_equal(made, again.arrays["images"])
    assert source.fingerprint == again.fingerprint


def test_without_options_the_digits_meet_their_negatives():
    source = train.sides(train.Arguments())
    np.testing.assert_array_equal(source.arrays["images"], 255 - source.partner.arrays["images"])


def levels(folder, shape, count, first):
    """Pictures that are constant: first, first + 1, ..."""
    folder.mkdir(parents=True)
    for i in range(count):
        pictures.write(folder / f"{i}.png", np.full(shape, first + i, np.uint8))


@pytest.mark.parametrize(
    ("a", "b", "grey"), [((9, 9, 1), (9, 9, 3), "a"), ((9, 9, 3), (9, 9, 1), "b")]
)
def test_both_sides_are_colour_if_either_is(tmp_path, capsys, a, b, grey):
    levels(tmp_path / "a", a, 3, 10)
    levels(tmp_path / "b", b, 2, 90)
    options = {"data_a": str(tmp_path / "a"), "data_b": str(tmp_path / "b"), "resolution": ()}
    source = train.sides(train.Arguments(**options))
    assert source.shape == source.partner.shape == (9, 9, 3)
    np.testing.assert_array_equal(source.arrays["images"][:, 0, 0], [[10] * 3, [11] * 3, [12] * 3])
    np.testing.assert_array_equal(source.partner.arrays["images"][:, 0, 0], [[90] * 3, [91] * 3])
    assert f"side {grey} is grey and becomes colour" in capsys.readouterr().err
    single = train.sides(train.Arguments(**options, channels=1))
    assert single.shape == single.partner.shape == (9, 9, 1)
    assert "becomes colour" not in capsys.readouterr().err


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_folder_with_train_a_and_train_b_is_both_sides(tmp_path, wrapped):
    root = tmp_path / "set" / "horse2zebra" if wrapped else tmp_path / "set"
    for name, first in (("testA", 10), ("testB", 30), ("trainA", 50), ("trainB", 70)):
        levels(root / name, (9, 9, 3), 2, first)
    for split, firsts in (("train", (50, 70)), ("test", (10, 30))):
        source = train.sides(
            train.Arguments(data=str(tmp_path / "set"), split=split, resolution=())
        )
        for side, first in zip((source, source.partner), firsts, strict=True):
            np.testing.assert_array_equal(side.arrays["images"][:, 0, 0, 0], [first, first + 1])
        assert source.num_labels == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"data_a": "x"}, "data_b"),
        ({"data_b": "x"}, "data_a"),
        ({"task": "colour"}, "task colour: one of dehaze"),
        ({"task": "dehaze", "data_a": "x", "data_b": "y"}, "task dehaze"),
        ({"random_crop": (64,)}, "random_crop 64 64"),
        ({"random_crop": (0,)}, "random_crop 0"),
        ({"data_a": "digits", "data_b": "nowhere"}, "data_b 'nowhere'"),
    ],
)
def test_options_that_do_not_go_together_are_named(options, named):
    with pytest.raises(InputError, match=named):
        train.sides(train.Arguments(**options))


@pytest.mark.parametrize("name", [name for name in train.PRESETS if name])
def test_a_preset_is_a_whole_schedule(name):
    preset = train.PRESETS[name]
    assert preset.preset == name
    assert preset.model.constant_steps + preset.model.decay_steps == preset.steps
    size = train.script.pair(preset.random_crop or preset.resolution)
    train.cyclegan.check(train.dataclasses.replace(preset.model, shape=(*size, 3)))
