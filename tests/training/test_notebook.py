"""`genjax.fit`: training from Python, with and without a folder, again and again."""

import os
import signal

import jax
import numpy as np
import pytest

import genjax
from genjax import core, data
from genjax.errors import ConfigError
from genjax.models import vae
from genjax.training import hooks

CONFIG = vae.Config(shape=(8, 8, 1), hidden=(4,), z_dim=2, batch_size=8)


def weights(result):
    return jax.device_get(core.weights(result.state))


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_calls_continue_one_another_bitwise(tmp_path, capsys):
    model = vae.recipe(CONFIG)
    whole = weights(genjax.fit(model, "digits", steps=6, log_every=2))
    assert "step 6 of 6" in capsys.readouterr().err
    first = genjax.fit(model, "digits", steps=4)
    assert same(weights(genjax.fit(model, "digits", steps=6, state=first.state)), whole)

    out = tmp_path / "run"
    for steps in (4, 6, 6):  # the last call finds all done
        result = genjax.fit(model, "digits", steps=steps, out=out, log_every=2)
        assert int(result.state.step) == steps
    assert same(weights(result), whole)
    loaded, read = genjax.load(out)
    assert loaded.config == CONFIG
    assert same(read, whole)
    assert list((out / "samples").glob("*.png"))


def test_an_interrupt_saves_and_the_next_call_goes_on(tmp_path, capsys):
    model, out = vae.recipe(CONFIG), tmp_path / "run"
    stop = hooks.every(3, lambda event: os.kill(os.getpid(), signal.SIGINT))
    result = genjax.fit(model, "digits", steps=50, out=out, log_every=1, hooks=[stop])
    assert result.stopped == "SIGINT"
    assert 3 <= int(result.state.step) < 50
    after = int(result.state.step)
    genjax.fit(model, "digits", steps=after + 1, out=out)
    assert f"resuming {out}: step {after} of {after + 1}" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_by_field(tmp_path):
    model = vae.recipe(CONFIG)
    grey = data.load("digits", resolution=16)
    with pytest.raises(ConfigError, match=r"shape \(8, 8, 1\): the data have \(16, 16, 1\)"):
        genjax.fit(model, grey, steps=1)
    state = model.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="state: not with `out`"):
        genjax.fit(model, "digits", steps=1, out=tmp_path / "run", state=state)
