"""Classes of the samples measured during training: as frequent as in the data."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import core, data
from genjax.errors import InputError
from genjax.metrics import evaluation
from genjax.training import hooks, script, trainer
from genjax.training.options import Options


class Showing:
    """Draws one pixel that is its label; draws no classes of its own."""

    def __init__(self, num_labels, batch_size=8):
        fields = {"num_labels": num_labels, "conditional": "concat", "batch_size": batch_size}
        self.config = dataclasses.make_dataclass("Config", fields)(**fields)
        self.sampler = core.Sampler((1, 1, 1), 1, num_labels, lambda *_: None)

    def sample(self, weights, key, n, labels):
        assert labels.shape == (n,)
        return (labels * 2 / 255 - 1).astype(jnp.float32)[:, None, None, None]


def measured(hook):
    """The labels of the samples that a hook measures."""
    state = core.new_state({"net": jnp.zeros(1)}, {})
    return hook.run(trainer.Event(1, 1, state, {}))["eval/fd"]


def test_each_class_in_turn_over_all_batches():
    hook = hooks.evaluation(
        Showing(100),
        1,
        "eval/fd",
        lambda batches, count: np.concatenate(list(batches)).ravel(),
        30,
        0,
    )
    np.testing.assert_array_equal(measured(hook), np.arange(30))


def test_the_classes_that_are_given():
    classes = np.int32([5, 5, 3, 200, 5, 0, 1, 5, 5, 7, 2])
    hook = hooks.evaluation(
        Showing(201),
        1,
        "eval/fd",
        lambda batches, count: np.concatenate(list(batches)).ravel(),
        11,
        0,
        classes,
    )
    np.testing.assert_array_equal(measured(hook), classes)


@pytest.mark.parametrize("streamed", [False, True])
def test_eval_every_draws_classes_as_often_as_the_data_have_them(tmp_path, monkeypatch, streamed):
    for label, count in (("a", 27), ("b", 0), ("c", 3)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for index in range(max(count, 1)):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(
                tmp_path / "set" / label / f"{index}.png"
            )
    source = data.load(str(tmp_path / "set"), resident_mb=0 if streamed else 9)
    assert (source.arrays is None) == streamed
    seen = []
    measure = lambda batches, count: float(seen.append(np.concatenate(list(batches)).ravel()) or 0)
    monkeypatch.setattr(evaluation, "distance_to", lambda real, extractor, track: measure)
    options = Options(eval_every=1, eval_images=3000, eval_extractor="pixels", seed=4)
    [hook], name = script.evaluation(Showing(3, 512), source, options)
    assert name == "eval/fd_pixels"
    hook.run(trainer.Event(1, 1, core.new_state({"net": jnp.zeros(1)}, {}), {}))
    labels = np.repeat([0, 1, 2], [27, 1, 3])
    np.testing.assert_array_equal(seen[0], np.random.default_rng(4).choice(labels, 3000))
    with pytest.raises(InputError, match="has 3 classes, but the model draws 2"):
        script.evaluation(Showing(2), source, options)


def test_what_a_bar_shows_is_no_markup(capsys):
    assert list(
        script.progress()([1, 2], 2, "folder [red]cat[/red] :smile:\x1b[31m: 2 images")
    ) == [1, 2]
    assert "folder [red]cat[/red] :smile:\\x1b[31m: 2 images" in " ".join(
        capsys.readouterr().err.split()
    )
