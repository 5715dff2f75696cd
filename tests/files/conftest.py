"""Fixtures of the tests of files: image sets, runs, and commands.

Pictures are read through `data.load`, as users read them.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from image_sets import encode, folder, load, refused, said, summaries

import genjax as package
from genjax import cli
from genjax.models import cyclegan, dcgan, stylegan2
from genjax.training import run_folder

__all__ = ["encode", "folder", "load", "refused", "said", "summaries"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folders of a conditional GAN with named classes, a StyleGAN2 and a CycleGAN.

    Shared by all tests, which change copies only.
    """
    folder = tmp_path_factory.mktemp("runs")
    configs = {
        "labelled": (
            dcgan,
            dcgan.Config(
                shape=(8, 8, 1),
                z_dim=3,
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
                z_dim=4,
                w_dim=5,
                mapping_layers=1,
                channel_base=32,
                mbstd_group_size=2,
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
        run_folder.write_config(folder / name, settings | classes)
        weights = jax.tree.map(
            lambda x: np.float32(x + 0.1), toys.weights(module.recipe(config), scale=scale)
        )
        run_folder.export(folder / name, weights)
    return folder


@pytest.fixture(scope="session")
def load_once():
    """`genjax.load` that reads a run once per config.json.

    Most of a refused command's time would be the tracing of a model's shapes.
    """
    read = package.load

    @functools.cache
    def kept(directory, step, settings):
        return read(directory, step)

    def load(directory, step=None):
        settings = Path(directory, run_folder.CONFIG)
        if not settings.is_file():
            return read(directory, step)
        return kept(directory, step, settings.read_bytes())

    return load


@pytest.fixture
def genjax(monkeypatch, capsys, tmp_path, runs, load_once):
    """Run `genjax ...` in an empty folder; RUN/ is the folder of the runs.

    Returns the exit code and standard error.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(package, "load", load_once)

    def call(*words):
        words = [str(word).replace("RUN/", f"{runs}/") for word in words]
        monkeypatch.setattr(sys, "argv", ["genjax", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return call
