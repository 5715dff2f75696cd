"""The only training loop: `fit(recipe, source, ...)`. It knows no model; what it asks of one is `core.Recipe`.

Step s of a run is a function of (seed, s): the key is folded from it, the data source gives the batch of it. So nothing of the
loop itself is saved, and a run that was killed and started again ends in the same weights, bit for bit.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax import data
from genjax.core import Array, Metrics, Plan, Recipe, State
from genjax.errors import InputError, NotFinite
from genjax.runtime import xla
from genjax.training.hooks import Event, Hook

SECONDS_OUT_OF_TOUCH = 2.0  # between two looks of the host at the device: what Ctrl-C waits for, and far more than a look costs


class Result(NamedTuple):
    state: State
    stopped: (
        str  # the signal that ended it early, after saving, e.g. "SIGTERM"; "" if it ran to its end
    )


def data_mesh() -> Mesh:
    """All devices of all processes on one axis, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


class Part(NamedTuple):
    """What one program of a step does."""

    name: str
    advance: Callable  # (state, batch, key, plan) -> (State, metrics)
    plan: Plan


def parts(recipe: Recipe, step: int) -> list[Part]:
    """A step's: each lazy term that is due and can be compiled alone, and at last the step without those."""
    plan, lazy = recipe.plan(step), getattr(recipe, "lazy", {})
    alone = [
        Part(name, lazy[name], plan._replace(due=(name,))) for name in plan.due if name in lazy
    ]
    due = tuple(name for name in plan.due if name not in lazy)
    return [*alone, Part("_".join(("step", *due)), recipe.step, plan._replace(due=due))]


def abstract_state(recipe: Recipe, seed: int, mesh: Mesh) -> State:
    """The shapes, dtypes and shardings of the recipe's State, for restoring one: all of it on every device."""
    replicated = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(recipe.init, jax.random.key(seed))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes
    )


def fit(
    recipe: Recipe,
    source: data.Source,
    *,
    steps: int,
    seed: int = 0,
    state: State | None = None,
    hooks: Sequence[Hook] = (),
    log_every: int = 100,
    flip: bool = False,
    crop: tuple[int, int] | None = None,
    mesh: Mesh | None = None,
) -> Result:
    """Train to `steps` steps in all, from `state` (a restored one, which is donated) or from the start.

    `flip` and `crop` are data.prepare's. A hook runs at the multiples of its `every` and, if it asks to, at the end; `Event.row` is the mean of the metrics since the
    last multiple of `log_every`. SIGTERM and Ctrl-C end the loop early, its last hooks included; a compilation may run on then (`xla.compiling`).
    Raises InputError where batch and devices do not fit, or the memory is too small; NotFinite, naming metric and step, on a metric that is not finite.
    """
    mesh = mesh or data_mesh()
    replicated, split = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    root = root_key(seed, replicated)
    current: State = first_state(recipe, root, replicated) if state is None else state
    step = first = int(jax.device_get(current.step))
    check_batches(recipe, mesh, step, steps)

    resident = None
    if source.arrays is not None:
        resident = {name: to_devices(array, replicated) for name, array in source.arrays.items()}
    streamed = _streamed(source, seed, split) if resident is None else None
    programs: dict[Part, Callable] = {}
    intervals = {log_every} | {hook.every for hook in hooks if hook.every}
    meter, unseen = _Meter(step), []  # dispatches that the host has not looked at
    chunk = 1  # steps between two looks
    ends = step >= steps

    def arguments(state: State, images: dict[str, Array], count: int) -> tuple:
        return state, root, images, to_devices(np.array(count, np.int32), replicated)

    with _signals() as caught:
        may_leave = lambda: (
            caught if jax.process_count() == 1 else ()
        )  # where no other process waits for this one
        while not ends:
            *lazy, whole = parts(recipe, step)
            limit = min([steps, *(step - step % every + every for every in intervals)])
            count = 1
            if (
                resident is not None
            ):  # as many steps of this program alone as fit before the next look, in one dispatch
                room = min(limit - step, chunk - sum(dispatch.steps for dispatch in unseen))
                while count < room and parts(recipe, step + count) == [whole]:
                    count += 1
            images = resident if streamed is None else streamed(step, whole.plan.batch_size)
            runs = {part: 1 for part in lazy} | {whole: count}

            # Compile what is new, before any of it runs: a step that is interrupted between two of its programs could not be resumed.
            try:
                for part in [part for part in runs if part not in programs]:
                    with meter.paused():
                        began = time.perf_counter()
                        run = program(
                            part.advance, part.plan, seed, flip, split, resident is not None, crop
                        )
                        need = thrift(recipe, part.plan.batch_size)
                        programs[part] = compiled(
                            run, arguments(current, images, runs[part]), need, may_leave
                        )
                        meter.compiled(part.name, time.perf_counter() - began)
            except xla.Interrupted:
                ends = True
            else:
                for part in runs:
                    given = arguments(current, images, runs[part])
                    with jax.transfer_guard("disallow"):
                        current, sums, done = programs[part](*given)
                    unseen.append(
                        _Dispatch(
                            step,
                            runs[part],
                            runs[part] if part is whole else 0,
                            part.plan.batch_size,
                            sums,
                            done,
                        )
                    )
                step += count

            # Look at what has been done: metrics, log rows, hooks.
            if ends or step == limit or sum(dispatch.steps for dispatch in unseen) >= chunk:
                new = bool(unseen)  # or the hooks of this step have run
                if new:
                    seconds_a_step = meter.look(unseen)
                    unseen = []
                    chunk = _agree(
                        int(np.clip(SECONDS_OUT_OF_TOUCH / seconds_a_step, 1, 4 * chunk)), caught
                    )
                ends = ends or step == steps or bool(caught)
                if (new and step % log_every == 0) or (ends and step > first and step % log_every):
                    meter.close()
                with meter.paused():
                    event = Event(step, steps, current, meter.row, meter.train_sec)
                    for hook in hooks:
                        regular = hook.every == 0 or step % hook.every == 0
                        if (new and regular) or (
                            ends and hook.at_end and step > first and (new or not regular)
                        ):
                            hook.run(event)
    return Result(current, caught[0] if caught else "")


# --- the compiled part ---------------------------------------------------------------------------------------------------


def program(
    advance: Callable,
    plan: Plan,
    seed: int,
    flip: bool,
    split: NamedSharding,
    resident: bool,
    crop: tuple[int, int] | None = None,
) -> Callable:
    """(state, root key, data, count) -> (state, sums of the metrics, steps done): `advance`, a recipe's step, `count` times, fewer where a metric is not finite.

    The count is traced and the steps are a loop's body, so that they are compiled once and the results do not depend on how many
    go into a dispatch. `data` is the whole resident set, from which each step gathers its batch, or the batch itself.
    """

    @functools.partial(
        jax.jit, inline=True
    )  # so that it is traced once for its metrics' shapes and the loop
    def one(state: State, root: Array, arrays: dict[str, Array]) -> tuple[State, Metrics]:
        key, data_key = jax.random.split(jax.random.fold_in(root, state.step))
        if resident:
            arrays = data.take(
                arrays, jnp.uint32(seed), state.step.astype(jnp.uint32), plan.batch_size
            )
        batch = jax.lax.with_sharding_constraint(data.prepare(arrays, data_key, flip, crop), split)
        with jax.sharding.use_abstract_mesh(split.mesh.abstract_mesh):  # for core.over_devices
            return advance(state, batch, key, plan)

    def run(state: State, root: Array, arrays: dict[str, Array], count: Array):
        def body(carry):
            done, state, sums, _ = carry
            state, metrics = one(state, root, arrays)
            finite = jnp.all(jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))))
            return done + 1, state, jax.tree.map(jnp.add, sums, metrics), finite

        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, state, root, arrays)[1]
        )
        carry = (jnp.int32(0), state, zeros, jnp.bool_(True))
        done, state, sums, _ = jax.lax.while_loop(
            lambda carry: (carry[0] < count) & carry[3], body, carry
        )
        return state, sums, done

    return run


def compiled(
    program: Callable,
    arguments: Sequence[Any],
    need: tuple[str, str] = ("a step needs", ""),
    stop: Callable[[], object] = bool,
) -> Callable:
    """A program for these arguments, of which the first, the State, is donated. Raises as `xla.compiled`."""
    return xla.compiled(program, arguments, xla.STEP, need, stop, donate_argnums=0)


def thrift(recipe: Recipe, batch_size: int) -> tuple[str, str]:
    """What is said where a step needs too much memory: how much of what, and the options of this model that lower it."""
    config = getattr(recipe, "config", None)
    options = [f"--model.{field}" for field in ("accumulate", "remat") if hasattr(config, field)]
    return (
        f"--batch-size {batch_size}: a step needs",
        f"{' or '.join(['a smaller one', *options])} takes less",
    )


def root_key(seed: int, sharding: NamedSharding) -> Array:
    """The key that all of a run's are folded from."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=sharding)()


def first_state(recipe: Recipe, root: Array, sharding: NamedSharding | None = None) -> State:
    """What a run starts from."""
    need = ("the state of this model needs", "smaller networks take less")
    return xla.compiled(recipe.init, (root,), ("quick",), need, out_shardings=sharding)(root)


def to_devices(
    array: np.ndarray, sharding: NamedSharding, shape: tuple[int, ...] | None = None
) -> Array:
    """A global array of `shape`, of which this process holds `array`: its share of a batch, or by default all of it."""
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_process_local_data(
        sharding, array, array.shape if shape is None else shape
    )


def check_batches(recipe: Recipe, mesh: Mesh, first: int, steps: int) -> None:
    """Raise InputError if a batch that the run will meet cannot be split evenly over the devices."""
    sizes = {
        recipe.plan(step).batch_size
        for step in {first, *np.linspace(first, max(first, steps - 1), 1000, dtype=int).tolist()}
    }
    for size in sorted(sizes):
        if size % mesh.size:
            raise InputError(
                f"--batch-size {size}: must be a multiple of the number of devices, {mesh.size}"
            )
        if size * steps >= 2**32:
            raise InputError(
                f"--steps {steps}: {size} images a step allow at most {2**32 // size} steps"
            )


def _streamed(
    source: data.Source, seed: int, split: NamedSharding
) -> Callable[[int, int], dict[str, Array]]:
    """(step, batch size) -> that step's batch on the devices. Steps must come in order; one is sent ahead while another is trained on."""
    batches: Iterator[dict[str, np.ndarray]] = iter(())
    following: tuple[int, int] | None = None  # what `ahead` is of
    ahead: dict[str, Array] = {}

    def send(batch_size):
        return {
            name: to_devices(part, split, (batch_size, *part.shape[1:]))
            for name, part in next(batches).items()
        }

    def at(step, batch_size):
        nonlocal batches, following, ahead
        if following != (step, batch_size):
            place = {"process_index": jax.process_index(), "process_count": jax.process_count()}
            batches = data.stream(source, seed, step, batch_size, **place)
            ahead = send(batch_size)
        current, ahead, following = ahead, send(batch_size), (step + 1, batch_size)
        return current

    return at


# --- what the host sees --------------------------------------------------------------------------------------------------


class _Dispatch(NamedTuple):
    step: int
    runs: int  # of the program ...
    steps: int  # ... and by how many steps they advance: a lazy term's by none
    batch_size: int
    sums: Metrics
    done: Array


class _Meter:
    """Means of the metrics and the speed between two log lines; compiling and hooks do not count as training time."""

    def __init__(self, step: int):
        self.row: dict[str, float] = {"step": step}
        self._compile_sec: dict[str, float] = {}  # by program, since the last row
        self.train_sec = 0.0
        self._look = time.perf_counter()
        self._clear()

    def _clear(self):
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}  # steps that a metric came from: a lazy term's are fewer
        self._images = self._step = 0
        self._seconds = 0.0

    @contextlib.contextmanager
    def paused(self):
        began = time.perf_counter()
        yield
        self._look += time.perf_counter() - began

    def compiled(self, name: str, seconds: float) -> None:
        self._compile_sec[name] = self._compile_sec.get(name, 0.0) + seconds

    def look(self, dispatches: list[_Dispatch]) -> float:
        """Wait for these dispatches and take in their metrics; returns seconds a step. Raises NotFinite."""
        for step, runs, steps, batch_size, sums, done in dispatches:
            sums, done = jax.device_get((sums, done))
            for name, value in sums.items():
                if not np.isfinite(value):
                    raise NotFinite(name, value, step + int(done))
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
                self._counts[name] = self._counts.get(name, 0) + runs
            self._images, self._step = self._images + steps * batch_size, step + steps
        now = time.perf_counter()
        seconds, self._look = now - self._look, now
        self._seconds += seconds
        self.train_sec += seconds
        return max(seconds, 1e-9) / sum(dispatch.steps for dispatch in dispatches)

    def close(self) -> None:
        """Make `row` of what came in since the last time."""
        row: dict[str, float] = {
            "step": self._step,
            "images_per_sec": self._images / max(self._seconds, 1e-9),
        }
        if self._compile_sec:
            row["compile_sec"] = round(sum(self._compile_sec.values()), 3)
            if len(self._compile_sec) > 1:
                row |= {
                    f"compile_sec_{name}": round(seconds, 3)
                    for name, seconds in self._compile_sec.items()
                }
            self._compile_sec = {}
        self.row = row | {
            name: value / self._counts[name] for name, value in sorted(self._sums.items())
        }
        self._clear()


def _agree(chunk: int, caught: list[str]) -> int:
    """The steps until the next look, the same in every process; a signal to any process is one to all."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        chunks, stops = multihost_utils.process_allgather(
            np.array([chunk, len(caught)], np.int32)
        ).T
        chunk = int(chunks.min())
        if stops.any() and not caught:
            caught.append("a signal to another process")
    return chunk


@contextlib.contextmanager
def _signals():
    """A list that SIGTERM or Ctrl-C puts its name into; a second Ctrl-C interrupts at once. Elsewhere than in the main thread it stays empty.

    A line says so at once, from another thread: this one may be in XLA, and Python's handlers wait for it.
    """
    caught: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: Any):
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)

    def announce():
        while number := os.read(reader, 1):
            if number[0] in previous:
                name = signal.Signals(number[0]).name
                print(
                    f"{name}: the run saves its state and stops, once what is under way is done",
                    file=sys.stderr,
                    flush=True,
                )
                return

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    listener = threading.Thread(target=announce, daemon=True)
    listener.start()
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(writer)  # which ends the listener
        listener.join()
        os.close(reader)
