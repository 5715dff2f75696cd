"""benchmarks/restore.py: the published AOD-Net gives its published outputs, pictures
are held out, and the figures are of pairs."""

import dataclasses
import json
import zipfile

import jax
import numpy as np
import pytest
import toys

from genjax.edit import pictures
from genjax.errors import InputError
from genjax.metrics import paired
from genjax.models import cyclegan
from genjax.training import run_folder

restore = pytest.importorskip("benchmarks.restore")

TOY = cyclegan.Config(shape=(32, 32, 3), channels=4, blocks=0, disc_channels=4, disc_layers=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with random weights."""
    path = tmp_path_factory.mktemp("restore") / "run"
    path.mkdir()
    run_folder.write_config(
        path, {"genjax": "0", "model": "cyclegan", "config": dataclasses.asdict(TOY)}
    )
    run_folder.export(path, toys.weights(cyclegan.recipe(TOY)))
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder of three small pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        image = np.random.default_rng(i).integers(60, 200, (24, 20, 3)).astype(np.uint8)
        pictures.write(folder / f"{i}.png", image)
    return folder


def test_split_holds_every_fifth_out(tmp_path, photos):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for i in range(10):
            archive.write(photos / "0.png", f"deep/{i}.png")
        archive.writestr("deep/notes.txt", "")
    assert restore.split(tmp_path / "all.zip", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out/val").iterdir()) == ["4.png", "9.png"]
    assert len(list((tmp_path / "out/train").iterdir())) == 8
    with pytest.raises(InputError, match="exists"):
        restore.split(tmp_path / "all.zip", tmp_path / "out")
    with pytest.raises(InputError, match="not a zip"):
        restore.split(photos / "0.png", tmp_path / "other")


def test_pairs_are_measured_by_name(run, photos, tmp_path, capsys):
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in photos.iterdir():
        pictures.write(dark / path.name, pictures.read(path, 3) // 2)
    restore.pairs(run, photos, degraded=dark, out=tmp_path / "shown")
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    both = [
        np.stack([pictures.read(folder / f"{i}.png", 3) for i in range(3)])
        for folder in (dark, photos)
    ]
    assert row["n"] == 3
    assert row["psnr_input"] == pytest.approx(paired.psnr(*both).mean(), abs=1e-3)
    assert row["ssim_input"] == pytest.approx(paired.ssim(*both).mean(), abs=1e-3)
    shown = [pictures.read(tmp_path / f"shown/{i}.png", 3) for i in range(3)]
    restored = np.stack([image[:, 20:40] for image in shown])
    assert row["psnr"] == pytest.approx(paired.psnr(restored, both[1]).mean(), abs=1e-3)
    assert row["psnr_least"] == pytest.approx(paired.psnr(restored, both[1]).min(), abs=1e-3)


def test_made_pairs_and_reconstructions(run, photos, capsys):
    restore.pairs(run, photos, making="haze")
    restore.cycle(run, photos, direction="b2a")
    made, back = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert made["degraded"] == "haze"
    assert made["psnr_input"] < 25
    assert back["n"] == 3
    assert 0 < back["psnr"] < 30


@pytest.mark.parametrize(
    "options", [{}, {"making": "smoke"}, {"making": "haze", "degraded": "there"}], ids=str
)
def test_bad_input_is_named(run, photos, options):
    if "degraded" in options:
        options = options | {"degraded": photos}
    with pytest.raises(InputError, match="--making"):
        restore.pairs(run, photos, **options)


@pytest.mark.reference
def test_aod_net_is_the_published_one(shared):
    weights = restore.pth.state_dict(shared / "weights/aodnet.pth")
    reference = np.load(shared / "weights/reference/aodnet.npz")
    ours = jax.jit(restore.aod_net_values)(weights, reference["rand_in"].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(ours, reference["rand_out"].transpose(0, 2, 3, 1), atol=1e-4)
