"""Names of version 0.1: what run folders and options hold is read by the present names."""

import dataclasses
import importlib

import pytest

from genjax import models
from genjax.training import aliases


def test_fields_of_a_run_folder():
    old = {"latent_size": 8, "channels": 512, "conditional": True, "r1": 1.0, "taps": [1, 3, 3, 1]}
    new, renamed = aliases.current("stylegan2", old)
    assert new == {
        "z_dim": 8,
        "channel_base": 512,
        "conditional": "projection",
        "r1_gamma": 1.0,
        "resample_filter": [1, 3, 3, 1],
    }
    assert renamed == [
        "latent_size is z_dim",
        "channels is channel_base",
        "conditional True is projection",
        "r1 is r1_gamma",
        "taps is resample_filter",
    ]
    assert aliases.current("stylegan2", new) == (new, [])
    assert aliases.current("dcgan", {"network": "residual", "channels": 3})[0] == {
        "network": "r3gan",
        "channels": 3,
    }


@pytest.mark.parametrize("model", aliases.FIELDS)
def test_old_names_lead_to_fields_that_exist_and_are_free(model):
    config = importlib.import_module(models.RECIPES[model]).Config
    names = {field.name for field in dataclasses.fields(config)}
    assert set(aliases.FIELDS[model].values()) <= names
    assert not set(aliases.FIELDS[model]) & names
    for name, _ in [key for key in aliases.VALUES if key[0] == model]:
        assert name in models.RECIPES


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("stylegan2", "--model.r1 2 --steps 3", "--model.r1-gamma 2 --steps 3"),
        ("stylegan2", "--model.r1_every=4", "--model.r1-interval=4"),
        ("stylegan2", "--model.conditional", "--model.conditional projection"),
        ("stylegan2", "--model.conditional --flip", "--model.conditional projection --flip"),
        ("vae", "--model.conditional True", "--model.conditional concat"),
        ("vae", "--model.no-conditional", "--model.conditional none"),
        ("vae", "--model.conditional concat", "--model.conditional concat"),
        ("dcgan", "--model.network residual", "--model.network r3gan"),
        ("dcgan", "--model.network=residual", "--model.network=r3gan"),
        ("dcgan", "--model.channels 8 --data residual", "--model.channels 8 --data residual"),
        ("cyclegan", "--model.channels 8", "--model.channels 8"),
    ],
)
def test_words_of_a_command_line(model, words, expected):
    options, renamed = aliases.current_options(model, words.split())
    assert options == expected.split()
    assert bool(renamed) == (words != expected)
