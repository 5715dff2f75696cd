"""Files of other networks or with NaN are refused, naming the file and the array."""

import numpy as np
import pytest
import toys
from safetensors.numpy import save_file

from genjax import cli
from genjax.convert import stylegan2 as convert
from genjax.errors import InputError
from genjax.models import stylegan2

TOY = stylegan2.Config(
    shape=(8, 8, 3),
    z_dim=3,
    w_dim=4,
    mapping_layers=2,
    channel_base=32,
    channel_max=4,
    batch_size=4,
    num_labels=2,
    conditional="projection",
)


@pytest.fixture(scope="module")
def arrays():
    gen, disc = convert.arrays(TOY, toys.weights(stylegan2.recipe(TOY)))
    return {f"G_ema.{name}": x for name, x in gen.items()} | {
        f"D.{name}": x for name, x in disc.items()
    }


def refusal(folder, arrays) -> str:
    save_file(
        {name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / "net.safetensors"
    )
    with pytest.raises(InputError) as refused:
        cli.convert("stylegan2", folder / "net.safetensors", out=folder / "run")
    assert str(refused.value).startswith(f"{folder / 'net.safetensors'}: ")
    assert not (folder / "run").exists()
    return str(refused.value)


def test_whole_ones_are_read(arrays, tmp_path):
    save_file(
        {name: np.ascontiguousarray(x) for name, x in arrays.items()}, tmp_path / "net.safetensors"
    )
    config, weights = convert.read(tmp_path / "net.safetensors")
    assert (config.shape, config.num_labels, config.z_dim, config.mapping_layers) == (
        (8, 8, 3),
        2,
        3,
        2,
    )
    assert weights["params"].keys() == {"gen", "disc"}


def test_arrays_of_other_shapes_are_refused(arrays, tmp_path):
    for index, (name, array) in enumerate(arrays.items()):
        shape = ((), (0,), (1,) * 6, (*array.shape, 1))[index % 4]
        if shape != array.shape and index % 3 == 0:
            refusal(tmp_path, arrays | {name: np.zeros(shape, np.float32)})


def test_every_array_that_is_not_finite_is_refused_by_name(arrays, tmp_path):
    for name, array in arrays.items():
        broken = np.array(array)
        broken.flat[-1] = np.nan
        assert f"'{name.split('.', 1)[1]}'" in refusal(tmp_path, arrays | {name: broken})


@pytest.mark.parametrize(
    "name",
    [
        "synthesis.b" + "9" * 5000 + ".conv1.weight",
        "synthesis.b12.conv1.weight",
        "mapping.fc" + "9" * 5000 + ".weight",
        "mapping.fcx.weight",
        "x",
        "",
    ],
)
def test_names_that_no_stylegan2_has_are_refused(arrays, tmp_path, name):
    assert refusal(
        tmp_path, arrays | {f"G_ema.{name}": np.zeros((4, 4, 3, 3), np.float32)}
    ).isprintable()
