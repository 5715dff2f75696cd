"""genjax.load of a run in any state of damage: one line that names the file and the
field; nothing is made of wrong settings or weights.
"""

import dataclasses
import json
import os
import time

import jax
import numpy as np
import pytest
import toys

import genjax
from genjax import core, models
from genjax.errors import InputError
from genjax.models import cyclegan, dcgan, gan, stylegan2, vae
from genjax.training import run_folder

TOY = gan.Config(shape=(4, 4, 1), hidden=(3,), z_dim=2)


@pytest.fixture
def run(tmp_path):
    run_folder.export(tmp_path, toys.weights(gan.recipe(TOY)))
    write(tmp_path)
    return tmp_path


def write(run, **changes):
    config = dataclasses.asdict(TOY) | changes
    run_folder.write_config(run, {"genjax": "0.0.9", "model": "gan", "config": config})


def refusal(run) -> str:
    with pytest.raises(InputError) as refused:
        genjax.load(run)
    assert str(refused.value).startswith(str(run))
    return str(refused.value)


def test_a_run_is_loaded_in_float32(run):
    model, weights = genjax.load(run)
    assert model.config == TOY
    jax.tree.map(np.testing.assert_array_equal, weights, toys.weights(gan.recipe(TOY)))


@pytest.mark.parametrize("module", [vae, gan, dcgan, cyclegan, stylegan2])
def test_every_config_comes_back_from_json(module):
    name = module.__name__.rsplit(".", 1)[1]
    shape = {"shape": (32, 32, 3)} if name != "stylegan2" else {}
    config = module.Config(**shape)
    assert models.build(name, json.loads(json.dumps(dataclasses.asdict(config)))).config == config


WRONG = {
    "hidden": (3, [True], ["x"], [1.5], [[1]], {"a": 1}, None, [2**40], [-1], [1] * 65, "abc"),
    "z_dim": (True, 1.0, "2", [2], None, 2**40, 0, -3),
    "learning_rate": ("x", None, True, [], -1.0),
    "shape": ([4, 4], [4, 4, 1, 1], [2**31, 2**31, 3], [0, 4, 1], [4, 4, "1"]),
    "augment": ("color", [3], ["nope"]),
    "loss": (3, "nope", None),
    "conditional": (True, "\x1b[31m"),
    "unknown": (1,),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_fields_of_wrong_types_and_sizes_are_refused_by_name(run, field, value):
    write(run, **{field: value})
    said = refusal(run)
    assert field in said.replace("-", "_")
    assert "written by genjax 0.0.9" in said
    assert said.isprintable()


@pytest.mark.parametrize("model", ["stylegan", "", "os", 3, None, ["gan"], "x" * 10_000, "\x1b"])
def test_models_that_are_none_are_refused(run, model):
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(settings | {"model": model}))
    assert len(refusal(run)) < 1000


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("stylegan2", {"mapping_layers": 10**9}),
        ("stylegan2", {"disc_mapping_layers": 65}),
        ("gan", {"hidden": [1] * 10**5}),
        ("dcgan", {"channels": 2**40}),
        ("vae", {"z_dim": 2**40}),
        ("cyclegan", {"blocks": 10**6}),
        ("dcgan", {"network": "r3gan", "blocks": 64, "shape": [8192, 8192, 3]}),
        ("gan", {"shape": [2**31, 2**31, 3]}),
    ],
)
def test_absurd_networks_are_refused_before_they_are_traced(name, config):
    began = time.monotonic()
    with pytest.raises(InputError, match="at most"):
        models.build(name, config)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**5, b'{"model": "gan", "config": {"hidden": [1e999]}}', b"9" * 5000, bytes(100)],
)
def test_settings_that_are_no_json_of_a_run_are_refused(run, content):
    (run / "config.json").write_bytes(content)
    refusal(run)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros", "loop"])
def test_what_is_no_regular_file_is_refused(run, name, kind):
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "folder":
        (run / name).mkdir()
    else:
        (run / name).symlink_to("/dev/zero" if kind == "zeros" else name)
    assert name in refusal(run)


def changed(run, change):
    arrays = run_folder.read_arrays(run)
    change(arrays)
    from safetensors.numpy import save

    (run / "model.safetensors").write_bytes(save(arrays))
    return sorted(arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name_in_load_and_transfer(run, value):
    def change(arrays):
        arrays["params/gen/pixels/kernel"][0, 0] = value

    changed(run, change)
    assert "'params/gen/pixels/kernel' is not finite" in refusal(run)
    with pytest.raises(InputError, match="'params/gen/pixels/kernel' is not finite"):
        run_folder.transferred(toys.state(gan.recipe(TOY)), run)


def test_values_beyond_float32_are_infinite(run):
    def change(arrays):
        arrays["params/gen/pixels/bias"] = np.full(16, 1e300)

    changed(run, change)
    assert "'params/gen/pixels/bias' is not finite" in refusal(run)


def test_weights_of_other_precisions_become_the_models(run):
    def change(arrays):
        arrays["params/gen/pixels/bias"] = np.arange(16, dtype=np.float64) / 3

    changed(run, change)
    bias = genjax.load(run)[1]["params"]["gen"]["pixels"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, (np.arange(16) / 3).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda arrays: arrays.pop("params/gen/pixels/bias"), "holds no params/gen/pixels/bias"),
        (
            lambda arrays: arrays.update({"params/gen/extra": np.zeros(3, np.float32)}),
            "'params/gen/extra' is not in this model",
        ),
        (
            lambda arrays: arrays.update({"params/gen/pixels/bias": np.zeros(3, np.float32)}),
            r"\[3\], the model's is \[16\]",
        ),
        (
            lambda arrays: arrays.update({"params/gen/pixels/bias": np.zeros(16, np.int64)}),
            "is int64, the model's is float32",
        ),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_name(run, change, why):
    changed(run, change)
    with pytest.raises(InputError, match=why):
        genjax.load(run)


def test_transfer_lists_what_does_not_fit(run):
    wider = gan.recipe(dataclasses.replace(TOY, hidden=(5,)))
    state, own = run_folder.transferred(toys.state(wider), run)
    assert "params/gen/pixels/kernel" in own
    assert "params/gen/pixels/bias" not in own
    np.testing.assert_array_equal(
        state.params["gen"]["pixels"]["bias"],
        toys.weights(gan.recipe(TOY))["params"]["gen"]["pixels"]["bias"],
    )
    assert isinstance(state, core.State)
