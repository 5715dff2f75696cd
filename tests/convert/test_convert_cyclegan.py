"""The reference's names and layouts convert both ways; other files are refused."""

import dataclasses
import functools
import operator

import jax
import numpy as np
import pytest
import toys
from toys import save_pth

import genjax
from genjax import cli
from genjax.convert import cyclegan as convert
from genjax.errors import InputError
from genjax.models import cyclegan

TOY = cyclegan.Config(channels=4, blocks=2, disc_channels=4, disc_layers=2)


def theirs(params, blocks=2):
    """A network of ours under the reference's names."""
    if "first" in params:
        places = {
            "first": "1",
            "down_0": "4",
            "down_1": "7",
            "up_1": f"{10 + blocks}",
            "up_0": f"{13 + blocks}",
            "last": f"{17 + blocks}",
        }
        for i in range(blocks):
            places |= {
                f"first_{i}": f"{10 + i}.conv_block.1",
                f"second_{i}": f"{10 + i}.conv_block.5",
            }
        of_block = lambda i: {
            f"{part}_{i}": jax.tree.map(lambda x: x[i], conv)
            for part, conv in params["blocks"].items()
        }
        params = functools.reduce(operator.or_, map(of_block, range(blocks)), params)
    else:
        places = {"conv_0": "0", "conv_1": "2", "conv_2": "5", "logits": "8"}
    arrays = {}
    for ours, place in places.items():
        axes = (2, 3, 0, 1) if ours.startswith("up") else (3, 2, 0, 1)
        arrays[f"model.{place}.weight"] = np.ascontiguousarray(
            np.asarray(params[ours]["kernel"]).transpose(axes)
        )
        arrays[f"model.{place}.bias"] = np.asarray(params[ours]["bias"])
    return arrays


@pytest.fixture(scope="module")
def params():
    noisy = lambda x: (
        np.asarray(x)
        + 0.1 * np.random.default_rng(x.size).standard_normal(x.shape).astype(np.float32)
    )
    return jax.tree.map(noisy, toys.state(cyclegan.recipe(TOY)).params)


def folder_of(path, params):
    path.mkdir()
    for file, network in (
        ("G_A", "gen_a2b"),
        ("G_B", "gen_b2a"),
        ("D_A", "disc_b"),
        ("D_B", "disc_a"),
    ):
        save_pth(path / f"latest_net_{file}.pth", theirs(params[network]))
    return path


def test_a_checkpoint_folder_becomes_a_run(params, tmp_path):
    source = folder_of(tmp_path / "horse2zebra", params)
    save_pth(source / "5_net_G_A.pth", theirs(params["gen_b2a"]))  # an earlier epoch
    assert cli.convert("cyclegan", source, out=tmp_path / "run") == 0
    model, weights = genjax.load(tmp_path / "run")
    assert (
        model.config.channels,
        model.config.blocks,
        model.config.disc_channels,
        model.config.disc_layers,
    ) == (4, 2, 4, 2)
    jax.tree.map(np.testing.assert_array_equal, weights["params"], params)


def test_old_files_have_buffers_and_parallel_ones_a_prefix(params, tmp_path):
    arrays = theirs(params["gen_a2b"])
    extra = {
        "model.2.running_mean": np.zeros(4, np.float32),
        "model.2.running_var": np.ones(4, np.float32),
    }
    save_pth(
        tmp_path / "latest_net_G.pth",
        {f"module.{name}": array for name, array in (arrays | extra).items()},
    )
    config, weights = convert.weights({"G": tmp_path / "latest_net_G.pth"})
    assert config.shape == (256, 256, 3)
    assert list(weights["params"]) == ["gen_a2b"]
    jax.tree.map(np.testing.assert_array_equal, weights["params"]["gen_a2b"], params["gen_a2b"])


def test_a_generator_with_dropout_has_its_second_convolution_one_later(params):
    arrays = {
        name.replace("conv_block.5", "conv_block.6"): array
        for name, array in theirs(params["gen_a2b"]).items()
    }
    jax.tree.map(np.testing.assert_array_equal, convert.generator(arrays)[0], params["gen_a2b"])


def test_other_networks_are_refused(params, tmp_path):
    arrays = theirs(params["gen_a2b"])
    missing = {name: array for name, array in arrays.items() if name != "model.4.bias"}
    with pytest.raises(InputError, match=r"'model\.4\.bias' is missing"):
        convert.generator(missing)
    with pytest.raises(InputError, match=r"'model\.99\.weight' is not expected"):
        convert.generator(arrays | {"model.99.weight": arrays["model.4.weight"]})
    with pytest.raises(InputError, match="shape"):
        convert.generator(arrays | {"model.4.weight": arrays["model.4.bias"]})
    with pytest.raises(InputError, match="no such network"):
        convert.generator(theirs(params["disc_a"]))
    for network, file in (("disc_a", "latest_net_G.pth"), ("gen_a2b", "latest_net_D_A.pth")):
        save_pth(tmp_path / file, theirs(params[network]))
        with pytest.raises(InputError, match=file):
            convert.weights(
                {file.removeprefix("latest_net_").removesuffix(".pth"): tmp_path / file}
            )


def test_files_of_different_models_are_refused(params, tmp_path):
    other = toys.state(cyclegan.recipe(dataclasses.replace(TOY, channels=8))).params
    save_pth(tmp_path / "latest_net_G_A.pth", theirs(params["gen_a2b"]))
    save_pth(tmp_path / "latest_net_G_B.pth", theirs(other["gen_b2a"]))
    with pytest.raises(InputError, match="channels is 8, but 4"):
        convert.weights(convert.files(tmp_path))


def test_folders_without_a_generator_and_folders_that_exist_are_refused(params, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="latest_net_G_A"):
        cli.convert("cyclegan", tmp_path / "empty", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    source = folder_of(tmp_path / "model", params)
    (tmp_path / "empty/notes.txt").write_text("dear")
    for force, why in ((False, "exists"), (True, "config.json: no such file|holds more")):
        with pytest.raises(InputError, match=why):
            cli.convert("cyclegan", source, out=tmp_path / "empty", force=force)
    assert (tmp_path / "empty/notes.txt").read_text() == "dear"
    with pytest.raises(InputError, match="cyclegan"):
        cli.convert("biggan", source, out=tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        "model.x.weight",
        "model.2.3.weight",
        "model.-1.weight",
        "model." + "9" * 5000 + ".weight",
        "model..weight",
        "\x1b\n",
        "",
    ],
)
def test_names_that_no_network_has_are_refused_by_file(params, tmp_path, name):
    for network, file in (("gen_a2b", "latest_net_G_A.pth"), ("disc_b", "latest_net_D_A.pth")):
        arrays = theirs(params[network])
        save_pth(tmp_path / file, arrays | {name: next(iter(arrays.values()))})
        with pytest.raises(
            InputError, match=f"{file}: is no such network: .* is not expected"
        ) as refused:
            convert.weights(
                {file.removeprefix("latest_net_").removesuffix(".pth"): tmp_path / file}
            )
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("shape", [(), (0,), (4,), (0, 3, 7, 7), (1,) * 8])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_shapes_that_no_network_has_are_refused_by_file(params, tmp_path, shape, part):
    for network, file in (("gen_a2b", "G"), ("disc_b", "D_A")):
        arrays = theirs(params[network])
        name = f"{next(iter(arrays)).rsplit('.', 1)[0]}.{part}"
        if arrays[name].shape == shape:
            continue
        save_pth(tmp_path / "net.pth", arrays | {name: np.zeros(shape, np.float32)})
        with pytest.raises(InputError, match=r"net\.pth: is no such network"):
            convert.weights({file: tmp_path / "net.pth"})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(params, tmp_path, value):
    arrays = theirs(params["gen_a2b"])
    arrays["model.4.weight"][0, 0, 0, 0] = value
    save_pth(tmp_path / "net.pth", arrays)
    with pytest.raises(InputError, match=r"net\.pth: 'model\.4\.weight' is not finite"):
        cli.convert("cyclegan", tmp_path / "net.pth", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
