"""train/cyclegan.py: which sets become its sides, what it records and writes, and what it refuses."""

import json

import numpy as np
import pytest

import genjax
from genjax import pictures
from genjax.errors import InputError
from genjax.train import cyclegan as train

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
    options = {**folders, "resolution": (12,), "random_crop": (8,), "batch_size": 8, "model": TOY, "log_every": 1}
    run = tmp_path / "run"
    assert train.run(train.Arguments(**options, out=run, steps=2)) == 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"data_a": "x"}, "--data-b"),
        ({"data_b": "x"}, "--data-a"),
        ({"task": "colour"}, "--task colour: one of dehaze"),
        ({"task": "dehaze", "data_a": "x", "data_b": "y"}, "--task dehaze"),
        ({"random_crop": (64,)}, "--random-crop 64 64"),
        ({"random_crop": (0,)}, "--random-crop 0"),
        ({"data_a": "digits", "data_b": "nowhere"}, "--data-b 'nowhere'"),
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
