"""Copies planted among samples are found and shown beside the images they copy."""

import dataclasses
import sys

import numpy as np
import pytest
import toys
from PIL import Image

from genjax import cli
from genjax.errors import InputError
from genjax.metrics import extractors, nearest
from genjax.models import dcgan
from genjax.training import run_folder


def pixels(n, seed=0, size=4):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_planted_copies_come_first_beside_what_they_copy():
    training, samples = pixels(60), pixels(30, 1)
    samples[7], samples[20] = training[11], np.clip(training[42].astype(int) + 3, 0, 255)
    seen = nearest(training, samples, shown=3, k=2, held_out=pixels(40, 2))
    assert seen.order[:2].tolist() == [7, 20]
    assert seen.found.indices[[7, 20], 0].tolist() == [11, 42]
    np.testing.assert_array_equal(seen.training[:2, 0], training[[11, 42]])
    np.testing.assert_array_equal(seen.samples, samples[seen.order])
    assert seen.found.distances[7, 0] == 0
    difference = np.float64(samples[20]) / 255 - np.float64(training[42]) / 255
    np.testing.assert_allclose(seen.found.distances[20, 0], np.linalg.norm(difference), rtol=1e-5)
    assert seen.found.ratio is not None
    assert seen.found.ratio[7] == 0
    assert seen.found.ratio[20] < 0.1
    assert 0.9 < np.median(seen.found.ratio) < 1.1


def test_images_held_out_of_the_set_itself_are_its_test_split(tmp_path):
    for part, count in (("set/train", 9), ("set/test", 3), ("other", 4)):
        (tmp_path / part).mkdir(parents=True)
        for index, image in enumerate(pixels(count, count)):
            Image.fromarray(image).save(tmp_path / part / f"{index}.png")
    known, samples = str(tmp_path / "set"), pixels(5, 3)  # samples that were held out
    assert nearest(known, pixels(3, 3), held_out=known, k=1).found.ratio is not None
    images = np.concatenate([pixels(3, 3), samples[3:]])
    own = nearest(known, images, held_out=known, k=1).found
    other = nearest(known, images, held_out=str(tmp_path / "other"), k=1).found
    np.testing.assert_allclose(
        own.ratio, own.distances[:, 0] / np.median(own.distances[:3, 0]), rtol=1e-5
    )
    assert not np.allclose(own.ratio, other.ratio)


def test_the_sheet_has_one_row_per_sample():
    seen = nearest(pixels(60), pixels(30, 1), shown=3, k=2)
    rows = seen.sheet().reshape(3, 3, 4, 4, 3)
    np.testing.assert_array_equal(rows[:, 0], seen.samples)
    np.testing.assert_array_equal(rows[:, 1:], seen.training)


def test_the_command_compares_a_run_at_its_own_size(tmp_path, monkeypatch, capsys):
    config = dcgan.Config(shape=(8, 8, 3), z_dim=3, channels=4, norm="none")
    (tmp_path / "run").mkdir()
    run_folder.write_config(
        tmp_path / "run", {"model": "dcgan", "config": dataclasses.asdict(config)}
    )
    run_folder.export(tmp_path / "run", toys.weights(dcgan.recipe(config), scale=0.5))
    (tmp_path / "data").mkdir()
    for index, image in enumerate(pixels(12, size=16)):
        Image.fromarray(image).save(tmp_path / "data" / f"{index}.png")
    out = tmp_path / "nearest.png"
    arguments = [
        str(tmp_path / "data"),
        str(tmp_path / "run"),
        "--n",
        "20",
        "--rows",
        "4",
        "--k",
        "2",
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["genjax", "nearest", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    message = capsys.readouterr()
    assert "12 images of 8x8x3" in message.err
    assert message.out.startswith("distance median ")
    with Image.open(out) as sheet:
        assert sheet.size == (3 * 49 - 1, 4 * 49 - 1)  # no line at the edges


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 61}, "^k 61: .*60 images"),
        ({"shown": 0}, "^shown 0: must be from 1 to 1000"),
        (
            {"fake": pixels(3, size=8)},
            "^extractor pixels: images of .*use the features of a network",
        ),
        ({"extractor": "none"}, "^extractor none: must be one of pixels, inception"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        nearest(pixels(60), **({"fake": pixels(5, 1)} | options))


def test_pixels_are_an_extractor_without_weights():
    extractor = extractors.extractor("pixels")
    np.testing.assert_allclose(
        extractor.features(pixels(2)), pixels(2).reshape(2, -1) / 255, rtol=1e-6
    )
