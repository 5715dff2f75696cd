"""The cases and runs of the benchmarks use options and fields that exist."""

import dataclasses
import importlib

import pytest

from benchmarks import __main__ as suite
from benchmarks.quality_runs import RUNS
from genjax.training import aliases


@pytest.fixture
def step_time(monkeypatch):
    """The module of the cases, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(str(suite.HERE))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    return importlib.import_module("benchmarks.step_time")


def test_the_fields_of_the_cases_are_those_of_their_configs(step_time):
    for name, configs in step_time.CASES.items():
        model = importlib.import_module(f"genjax.models.{name}")
        for fields in configs.values():
            assert model.recipe(model.Config(**fields)).config.batch_size == fields["batch_size"]


@pytest.mark.parametrize("name", RUNS)
def test_the_options_of_the_quality_runs_exist(name):
    script, *words = RUNS[name][2].split()
    model = script.removesuffix(".py")
    assert aliases.current_options(model, words) == (words, [])
    config = importlib.import_module(f"genjax.models.{model}").Config
    fields = {f"--model.{field.name.replace('_', '-')}" for field in dataclasses.fields(config)}
    assert {word for word in words if word.startswith("--model.")} <= fields
