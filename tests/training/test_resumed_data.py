"""What a run's config.json holds of its data, and which data it goes on with."""

import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.models import gan, vae
from genjax.training import run_folder, script
from genjax.training.options import Options

SETTINGS = {
    "data": {"spec": "a", "name": "b", "fingerprint": "new", "classes": ["cat", "dog"]},
    "seed": 0,
}


def before(**changed):
    """The settings of an existing run."""
    return {
        **SETTINGS,
        "data": {
            key: value
            for key, value in {**SETTINGS["data"], **changed}.items()
            if value is not None
        },
    }


def test_the_fingerprint_of_version_0_1_0_is_accepted_and_no_other():
    assert run_folder.changes(before(), SETTINGS) == []
    assert run_folder.changes(before(fingerprint="old"), SETTINGS, earlier="old") == []
    assert run_folder.changes(before(fingerprint="older"), SETTINGS, earlier="old") == [
        "the data are other images, or labelled otherwise"
    ]
    assert run_folder.changes(before(fingerprint="old"), SETTINGS) == [
        "the data are other images, or labelled otherwise"
    ]
    assert run_folder.changes(before(fingerprint=""), SETTINGS) == [
        "the data are other images, or labelled otherwise"
    ]


def test_a_run_without_class_names_goes_on_and_one_with_others_does_not():
    assert run_folder.changes(before(classes=None), SETTINGS) == []
    assert run_folder.changes(before(classes=["dog", "cat"]), SETTINGS) == [
        "data.classes was ['dog', 'cat'], is ['cat', 'dog']"
    ]


@pytest.fixture
def folder(tmp_path):
    for name in ("1", "2", "10"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((8, 8), 20 * int(name) + i, np.uint8)).save(
                tmp_path / "set" / name / f"{i}.png"
            )
    return str(tmp_path / "set")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (gan.Config(), True),
        (gan.Config(conditional="concat"), False),
        (vae.Config(), True),
        (vae.Config(conditional="concat"), False),
    ],
)
def test_labels_that_the_model_does_not_use_are_told(folder, capsys, config, told):
    source = data.load(folder, say=print)
    assert source.classes == ("1", "2", "10")
    script.configured(config, source, Options(batch_size=getattr(config, "batch_size", 128)))
    line = "the data have 3 labels, which the model does not use; --model.conditional uses them\n"
    assert capsys.readouterr().err == (line if told else "")
