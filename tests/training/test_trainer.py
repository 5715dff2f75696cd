"""The loop, driven with a recipe of a dozen lines: what it computes, when hooks run,
what stops it.
"""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import core, data
from genjax.core import Plan
from genjax.errors import InputError
from genjax.runtime import xla
from genjax.training import hooks, trainer


class Toy:
    """Learns the mean image by averaging; `bad` makes a metric infinite at that step,
    `due` alternates between two programs, `lazy` splits one off.
    """

    def __init__(self, batch_size=4, bad=-1, due=False, lazy=False):
        self.batch_size, self.bad, self.due = batch_size, bad, due
        self.lazy = {"x": self.enlarge} if lazy else {}
        self.config = self.sampler = None

    def init(self, key):
        return core.new_state(
            {"mean": jax.random.normal(key, (3, 2, 1))}, {"mean": ()}, aux={"noise": jnp.zeros(())}
        )

    def enlarge(self, state, batch, key, plan):
        mean = state.params["mean"] * (
            1 + 0.1 * jnp.mean(batch["images"]) + 0.01 * jax.random.normal(key)
        )
        return state.replace(params={"mean": mean}), {"toy/x": state.step.astype(jnp.float32)}

    def step(self, state, batch, key, plan):
        images = batch["images"]
        metrics = {}
        if plan.due:
            state, metrics = self.enlarge(state, batch, key, plan)
        mean = state.params["mean"] * 0.9 + 0.1 * jnp.mean(images, axis=0)
        metrics |= {
            "toy/a": jnp.where(state.step == self.bad, jnp.inf, jnp.mean(images)),
            "toy/step": state.step.astype(jnp.float32),
        }
        noise = state.aux["noise"] + jax.random.normal(key)
        return state.replace(
            step=state.step + 1, params={"mean": mean}, aux={"noise": noise}
        ), metrics

    def plan(self, step):
        return Plan(self.batch_size, (3, 2), ("x",) if self.due and step % 3 == 0 else ())

    def preview(self, weights, key, batch):
        return {"mean": weights["params"]["mean"][None]}


def source(size=10, resident=True, flip=False):
    images = np.random.default_rng(0).integers(0, 256, (size, 3, 2, 1), dtype=np.uint8)
    arrays = {"images": images}
    return data.Source(
        "toy",
        size,
        (3, 2, 1),
        0,
        "toy",
        lambda index: {"images": images[index]},
        arrays if resident else None,
        flip=flip,
    )


@pytest.fixture
def mesh():
    return jax.sharding.Mesh(
        np.array(jax.devices()[:1]), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def test_steps_are_functions_of_seed_and_step(mesh):
    """The loop equals its specification: the key folded from the step, the batch of
    (seed, step).
    """
    recipe, images = Toy(), source().arrays
    state = recipe.init(jax.random.key(7))
    for step in range(6):
        key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(7), step))
        index = data.order(7, np.uint32(step * 4) + np.arange(4, dtype=np.uint32), 10)
        batch = data.prepare({"images": jnp.asarray(images["images"][index])}, data_key, True)
        state, _ = recipe.step(state, batch, key, recipe.plan(step))
    result = trainer.fit(Toy(), source(flip=True), steps=6, seed=7, mesh=mesh)
    assert result.stopped == ""
    for ours, expected in zip(leaves(result.state), leaves(state), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("toy", [Toy(), Toy(due=True), Toy(due=True, lazy=True)])
def test_how_steps_are_dispatched_does_not_matter(mesh, toy):
    states = [
        trainer.fit(toy, source(), steps=50, mesh=mesh, log_every=every).state
        for every in (1, 7, 50)
    ]
    assert same(states[0], states[1])
    assert same(states[0], states[2])


@pytest.mark.parametrize("resident", [True, False])
def test_a_lazy_term_compiled_alone_is_that_of_the_step(mesh, resident):
    """On the same batch and key, before it; of its metrics the mean is over its own
    runs.
    """
    rows = []
    hook = hooks.every(6, lambda event: rows.append(event.row))
    fit = lambda toy: (
        trainer.fit(
            toy, source(resident=resident), steps=12, mesh=mesh, log_every=6, hooks=[hook]
        ).state
    )
    for ours, expected in zip(
        leaves(fit(Toy(due=True, lazy=True))), leaves(fit(Toy(due=True))), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    timed = lambda row: {name for name in row if name.startswith("compile_sec")}
    assert timed(rows[0]) == {"compile_sec", "compile_sec_x", "compile_sec_step"}
    assert timed(rows[2]) == {"compile_sec", "compile_sec_step", "compile_sec_step_x"}
    assert timed(rows[1]) == timed(rows[3]) == set()
    for row in (rows[1], rows[3]):
        assert row["toy/x"] == 7.5  # steps 6 and 9
        assert row["toy/step"] == 8.5


def test_streamed_is_resident_bit_for_bit(mesh):
    resident = trainer.fit(Toy(), source(flip=True), steps=20, mesh=mesh).state
    assert same(
        resident, trainer.fit(Toy(), source(resident=False, flip=True), steps=20, mesh=mesh).state
    )


def test_rows_are_means_since_the_last_row(mesh):
    rows = []
    trainer.fit(
        Toy(),
        source(),
        steps=25,
        mesh=mesh,
        log_every=10,
        hooks=[hooks.every(10, lambda e: rows.append(e.row), at_end=True)],
    )
    assert [row["step"] for row in rows] == [10, 20, 25]
    np.testing.assert_allclose([row["toy/step"] for row in rows], [4.5, 14.5, 22.0])
    assert all(row["images_per_sec"] > 0 for row in rows)
    assert [("compile_sec" in row) for row in rows] == [True, False, False]


def test_hooks_run_at_their_steps_and_at_the_end(mesh):
    seen = {"often": [], "end": [], "never": []}
    trainer.fit(
        Toy(),
        source(),
        steps=11,
        mesh=mesh,
        log_every=100,
        hooks=[
            hooks.every(4, lambda e: seen["often"].append(e.step)),
            hooks.every(5, lambda e: seen["end"].append(e.step), at_end=True),
            hooks.every(100, lambda e: seen["never"].append(e.step)),
        ],
    )
    assert seen == {"often": [4, 8], "end": [5, 10, 11], "never": []}


@pytest.mark.parametrize("resident", [True, False])
def test_what_is_not_finite_stops_the_run_naming_metric_and_step(mesh, resident):
    saved = []
    with pytest.raises(FloatingPointError, match="toy/a is inf at step 13"):
        trainer.fit(
            Toy(bad=12, due=True, lazy=True),
            source(resident=resident),
            steps=100,
            mesh=mesh,
            hooks=[hooks.every(5, lambda e: saved.append(e.step))],
        )
    assert saved == [5, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_last_hooks(mesh, number):
    saved = []

    def kill(event):
        if event.step == 20:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = trainer.fit(
        Toy(),
        source(),
        steps=1000,
        mesh=mesh,
        log_every=20,
        hooks=[
            hooks.every(20, kill),
            hooks.every(500, lambda e: saved.append(int(e.state.step)), at_end=True),
        ],
    )
    assert result.stopped == signal.Signals(number).name
    assert len(saved) == 1
    assert 20 < saved[0] < 1000
    assert int(result.state.step) == saved[0]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("when", [0, 3])
def test_a_signal_while_compiling_leaves_the_state_of_the_step_before(
    mesh, monkeypatch, capfd, when
):
    """Before any program of the step has run, a lazy term among them: going on from
    there ends as an uninterrupted run.
    """
    saved, began, compiled = [], threading.Event(), trainer.compiled
    end = threading.Event()  # or later tests in this process would meet a compilation

    def slow(run, arguments, need, stop):
        if int(arguments[0].step) == when:

            def work():
                began.set()
                end.wait(20)

            killer = threading.Thread(
                target=lambda: (began.wait(), os.kill(os.getpid(), signal.SIGTERM))
            )
            killer.start()
            return xla._beside(work, stop)
        return compiled(run, arguments, need, stop)

    toy, late = Toy(due=True, lazy=True), 3
    toy.plan = lambda step: Plan(4, (3, 2), ("x",) if step == late else ())
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "compiled", slow)
        hook = hooks.every(500, lambda event: saved.append(event.step), at_end=True)
        start = time.monotonic()
        result = trainer.fit(toy, source(), steps=8, mesh=mesh, hooks=[hook])
    assert time.monotonic() - start < 10
    assert xla.compiling()
    end.set()
    assert result.stopped == "SIGTERM"
    assert int(result.state.step) == when
    assert saved == ([when] if when else [])
    assert capfd.readouterr().err.startswith("SIGTERM: the run saves its state and stops")
    assert same(
        trainer.fit(toy, source(), steps=8, mesh=mesh, state=result.state).state,
        trainer.fit(toy, source(), steps=8, mesh=mesh).state,
    )


def test_a_step_that_does_not_fit_is_refused_before_it_runs(mesh, monkeypatch):
    toy = Toy()
    monkeypatch.setattr(xla, "available", lambda: 10**9)
    trainer.fit(toy, source(), steps=1, mesh=mesh)
    step, ran = toy.step, []
    toy.step = lambda *given: (ran.append(1), step(*given))[1]

    def none_left():
        return (
            0 if ran else 10**9
        )  # for the step, which is traced by then, and not for the first state

    monkeypatch.setattr(xla, "available", none_left)
    with pytest.raises(
        InputError,
        match=r"batch_size 4: a step needs .* GiB of memory, .* 0.0 GiB left; a smaller one takes",
    ):
        trainer.fit(toy, source(), steps=1, mesh=mesh)


def test_the_loop_runs_outside_the_main_thread(mesh):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(trainer.fit(Toy(), source(), steps=3, mesh=mesh))
    )
    thread.start()
    thread.join()
    assert int(results[0].state.step) == 3


def test_a_batch_that_devices_cannot_share_is_refused():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    with pytest.raises(
        InputError, match="batch_size 4: must be a multiple of the number of devices, 8"
    ):
        trainer.fit(Toy(), source(), steps=3)


def test_more_images_than_positions_are_refused(mesh):
    with pytest.raises(InputError, match="steps"):
        trainer.check_batches(Toy(), mesh, 0, 2**31)
