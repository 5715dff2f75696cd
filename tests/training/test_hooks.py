"""Logs: what a killed run left is mended, and TensorBoard is fed when asked."""

import json
import os
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core
from genjax.errors import InputError
from genjax.training import hooks, trainer


def event(step, steps=30):
    row = {"step": step, "images_per_sec": 5.0, "loss/a": 1.0 / step}
    return trainer.Event(step, steps, core.new_state({"net": jnp.zeros(1)}, {}), row)


def test_rows_past_the_checkpoint_and_half_written_ones_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "loss/a": 1}\n{"step": 20, "loss/a": 2}\n{"step": 30, "lo')
    hooks.jsonl(path, 10, resumed_at=10).run(event(20))
    assert [json.loads(line)["loss/a"] for line in path.read_text().splitlines()] == [1, 0.05]


WHOLE = [b'{"step": 10, "loss/a": 1}', b'{"step": 20, "loss/a": 2}']


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"",
        b"[]",
        b"3",
        b"null",
        b'{"loss/a": 1}',
        b'{"step": "20"}',
        b'{"step": NaN}',
        b'{"step": -Infinity}',
        b'{"step": 1e999}',
        b'{"step": true}',
        b'{"step": [1]}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b'{"step": 5, "x": "' + b"x" * 2**18 + b'"}',
        b"\0" * 2**17,
        b'{"step": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_damaged_line_is_dropped_and_no_other(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([WHOLE[0], line, WHOLE[1]]))  # the last without its end
    hooks.mend_rows(path, 20)
    assert path.read_bytes() == b"".join(row + b"\n" for row in WHOLE)
    hooks.mend_rows(path, 10)
    assert path.read_bytes() == WHOLE[0] + b"\n"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "make", [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero"), os.mkfifo]
)
def test_what_is_no_file_is_moved_aside(tmp_path, make):
    path = tmp_path / "metrics.jsonl"
    for name in ("damaged-metrics.jsonl", "damaged-metrics.jsonl-2"):
        make(path)
        hooks.jsonl(path, 10).run(event(10))
        assert json.loads(path.read_text())["step"] == 10
        assert os.path.lexists(tmp_path / name)
        path.unlink()


def test_tensorboard_gets_the_scalars(tmp_path):
    hooks.tensorboard(tmp_path, 10).run(event(10))
    (file,) = tmp_path.iterdir()
    deadline = time.monotonic() + 10
    while b"loss/a" not in file.read_bytes():  # its writer is a thread
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"genjax-image\[tensorboard\]"):
        hooks.tensorboard(tmp_path, 10)


def test_progress_lines_say_how_long_it_takes(capsys):
    with hooks.progress(10, 0, 30) as shown:
        for hook in shown:
            hook.run(event(10))
    said = capsys.readouterr().err
    assert "step 10 of 30" in said
    assert "left" in said
    assert "5 images/s" in said


def test_the_time_left_is_that_of_training_alone(capsys):
    """Whatever compiling, evaluations, grids and checkpoints took meanwhile."""
    with hooks.progress(10, 10, 30) as (line,):
        line.run(event(20)._replace(train_sec=20.0, row=event(20).row | {"compile_sec": 100.0}))
        line.run(event(30)._replace(train_sec=30.0))
    said = capsys.readouterr().err.splitlines()
    assert "step 20 of 30  0:00:20 left  compiled in 100.0 s" in said[0]
    assert "step 30 of 30  0:00:00 left" in said[1]


@pytest.mark.parametrize("size", [32, 256])
def test_samples_are_measured_always_of_the_same_latents(size):
    """In batches of the given size, or of all where that is less; the last is cut."""

    class Drawing:
        config = types.SimpleNamespace(conditional="none", num_labels=0)

        @staticmethod
        def sample(weights, key, n):
            assert n == min(size, 70)
            return jax.random.uniform(key, (n, 2, 2, 1), minval=-1) + weights["params"]["net"][0]

    seen = []

    def measure(batches, count):
        seen.append(np.concatenate(list(batches)))
        assert len(seen[-1]) == count
        return 0.25

    hook = hooks.evaluation(Drawing, 10, "eval/fd_toy", measure, 70, seed=3, batch_size=size)
    assert hook.run(event(10)) == {"eval/fd_toy": 0.25}
    hook.run(event(20))
    assert seen[0].dtype == np.uint8
    np.testing.assert_array_equal(*seen)
    assert len(np.unique(seen[0], axis=0)) == 70
