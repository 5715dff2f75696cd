"""train/stylegan2.py: its presets are the published settings, `auto` follows sides and
batch, and a run writes what others read.
"""

import dataclasses
import json

import jax
import pytest

import genjax
from genjax.cli.train import stylegan2 as train
from genjax.errors import InputError


@pytest.mark.parametrize("name", train.PRESETS)
def test_a_preset_is_a_whole_setting(name):
    preset = train.PRESETS[name]
    assert preset.preset == name
    shape = (*(train.script.pair(preset.resolution) or (32, 32)), 3)
    train.stylegan2.check(
        train.automatic(
            dataclasses.replace(preset.model, shape=shape, batch_size=preset.batch_size)
        )
    )


def test_auto_follows_sides_and_batch_but_not_over_what_is_given():
    auto = dataclasses.replace(train.PRESETS["auto"].model, shape=(256, 256, 3), batch_size=32)
    found = train.automatic(auto)
    assert (found.channel_base, found.learning_rate, found.ema_half_life_images) == (
        16384,
        2.5e-3,
        10_000,
    )
    assert found.r1_gamma == pytest.approx(0.4096)
    large = train.automatic(dataclasses.replace(auto, shape=(1024, 1024, 3), batch_size=4))
    assert (large.channel_base, large.learning_rate, large.ema_half_life_images) == (
        32768,
        2e-3,
        1250,
    )
    assert train.automatic(dataclasses.replace(auto, r1_gamma=3.0)).r1_gamma == 3.0
    plain = train.Config()  # what is given may be what it would be without the preset
    given = {
        field: getattr(plain, field)
        for field in ("channel_base", "learning_rate", "r1_gamma", "ema_half_life_images")
    }
    assert train.automatic(dataclasses.replace(auto, **given)) == dataclasses.replace(auto, **given)
    with pytest.raises(InputError, match="batch_size 0"):
        train.stylegan2.check(train.automatic(dataclasses.replace(auto, batch_size=0)))
    for name, preset in train.PRESETS.items():
        assert name == "auto" or train.automatic(preset.model) == preset.model


def test_a_run_is_written_and_loaded(tmp_path):
    model = train.Config(
        z_dim=4, w_dim=4, mapping_layers=1, channel_base=16, pl_weight=0.0, r1_gamma=0.0
    )
    options = {
        "resolution": (8,),
        "batch_size": 8,
        "model": model,
        "log_every": 1,
        "out": tmp_path / "run",
    }
    assert train.run(train.Arguments(**options, steps=1)) == 0
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert {"loss/disc", "loss/gen", "health/overfitting"} <= row.keys()
    assert {path.name.split("_")[0] for path in (tmp_path / "run/samples").iterdir()} == {
        "samples",
        "truncated",
    }
    loaded, weights = genjax.load(tmp_path / "run")
    assert loaded.sample(weights, jax.random.key(0), 2).shape == (2, 8, 8, 1)
    with pytest.raises(InputError, match="batch_size 6"):
        train.run(train.Arguments(**{**options, "batch_size": 6}, steps=1))
