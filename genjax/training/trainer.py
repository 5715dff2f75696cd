"""The only training loop: `fit(recipe, source, ...)`. It knows no model, only
`core.Recipe`.

Step s of a run is a function of (seed, s): its key is folded from both, and so is its
batch. Nothing of the loop itself is saved, and a run that was killed and started again
ends in the same weights, bit for bit.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax import data, target
from genjax.core import Array, Metrics, Plan, Recipe, State, Step
from genjax.errors import ConfigError, InputError
from genjax.runtime import signals, xla
from genjax.training.meter import Dispatch, Meter

# Time between host-device syncs: how long Ctrl-C waits, and far more than a sync costs.
HOST_SYNC_SECONDS = 2.0


class Event(NamedTuple):
    """What a hook gets. `state` must not be kept: the next step reuses its memory."""

    step: int  # steps done
    steps: int  # steps in all
    state: State
    # the latest log row: step, images_per_sec, means of metrics, compile_sec after
    # compiling, and what earlier hooks of this step returned
    row: dict[str, float]
    # seconds of training in this process so far, without compiling and hooks
    train_sec: float = 0.0


class Hook(NamedTuple):
    """A function to run during training; what it returns is added to the log row."""

    every: int  # interval in steps; 0: at each host-device sync, about twice a second
    run: Callable[[Event], dict[str, float] | None]
    at_end: bool  # also at the end, even an early one


class Result(NamedTuple):
    """What `fit` returns."""

    state: State
    stopped: str  # the signal that ended it early, after saving: "SIGTERM", "SIGINT", or ""


def data_mesh() -> Mesh:
    """Return all devices of all processes on one axis, over which batches are split."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


class Program(NamedTuple):
    """What one compiled program of a step computes."""

    name: str
    advance: Step
    plan: Plan


def programs_of(recipe: Recipe, step: int) -> list[Program]:
    """Return the programs of one step: lazy terms that are due, then the main step."""
    plan, lazy = recipe.plan(step), recipe.lazy
    alone = [Program(n, lazy[n], plan._replace(due=(n,))) for n in plan.due if n in lazy]
    due = tuple(name for name in plan.due if name not in lazy)
    return [*alone, Program("_".join(("step", *due)), recipe.step, plan._replace(due=due))]


def abstract_state(recipe: Recipe, seed: int, mesh: Mesh) -> State:
    """Return shapes, dtypes and shardings of the recipe's State, replicated, for
    restoring.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(recipe.init, jax.random.key(seed))
    abstract = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated)
    return jax.tree.map(abstract, shapes)


def fit(
    recipe: Recipe,
    source: data.Source,
    *,
    steps: int,
    seed: int = 0,
    state: State | None = None,
    hooks: Sequence[Hook] = (),
    log_every: int = 100,
    mesh: Mesh | None = None,
) -> Result:
    """Train to `steps` steps in all.

    A hook runs at the multiples of its `every` and, if it asks for it, at the end.
    SIGTERM and Ctrl-C end the loop early, its last hooks included; a compilation may
    continue then (`xla.compiling`).

    Args:
        recipe: the model
        source: the data, with the augmentation that it carries
        steps: number of steps in all, those done before included
        seed: of the weights, the order of the data and all noise
        state: a restored one, which is donated; None starts from step 0
        hooks: run in this order
        log_every: interval in steps over which metrics are averaged for `Event.row`
        mesh: devices with an axis "data"; None takes all

    Raises ConfigError where batch and devices do not fit, or memory is too small;
    NotFinite, with the metric's name and the step, for a metric that is not finite.
    """
    mesh = mesh or data_mesh()
    replicated = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))

    # The state, and the data where they stay on the device.
    root = root_key(seed, replicated)
    current: State = first_state(recipe, root, replicated) if state is None else state
    step = first = int(jax.device_get(current.step))
    check_batches(recipe, mesh, step, steps)
    resident = None
    if source.arrays is not None:
        resident = {name: to_devices(array, replicated) for name, array in source.arrays.items()}
    batches = _Batches(source, seed, split)

    compiled_programs: dict[Program, Callable[..., Any]] = {}
    intervals = {log_every} | {hook.every for hook in hooks if hook.every}
    meter = Meter(step)
    pending: list[Dispatch] = []  # since the last sync
    chunk = 1  # steps between two syncs
    ending = step >= steps

    def arguments(state: State, images: dict[str, Array], count: int) -> tuple[Any, ...]:
        return state, root, images, to_devices(np.array(count, np.int32), replicated)

    with signals.caught() as stops:
        # Whether to abandon a compilation; not where other processes wait for this one.
        abandon = lambda: stops if jax.process_count() == 1 else ()
        while not ending:
            # What to run: the programs of this step; of a main step on resident data,
            # as many in one dispatch as fit before the next sync.
            *lazy, main = programs_of(recipe, step)
            limit = min([steps, *(step - step % every + every for every in intervals)])
            count = 1
            if resident is not None:
                room = min(limit - step, chunk - sum(dispatch.steps for dispatch in pending))
                while count < room and programs_of(recipe, step + count) == [main]:
                    count += 1
            runs = {program: 1 for program in lazy} | {main: count}

            # The data of this step.
            images = batches.at(step, main.plan.batch_size) if resident is None else resident

            # Compile what is new, before any of it runs: a step interrupted between two
            # of its programs could not be resumed.
            try:
                for program in [program for program in runs if program not in compiled_programs]:
                    with meter.paused():
                        began = time.perf_counter()
                        repeat = repeated(
                            program, seed, source.prepare, split, resident is not None
                        )
                        given = arguments(current, images, runs[program])
                        compiled_programs[program] = compiled(repeat, given, main.plan, abandon)
                        meter.compiled(program.name, time.perf_counter() - began)
            except xla.Interrupted:
                ending = True
            else:
                # Dispatch.
                for program, times in runs.items():
                    given = arguments(current, images, times)
                    with jax.transfer_guard("disallow"):
                        current, sums, done = compiled_programs[program](*given)
                    advance = times if program is main else 0
                    size = program.plan.batch_size
                    pending.append(Dispatch(step, times, advance, size, sums, done))
                step += count

            # Sync: metrics, log row, hooks.
            if ending or step == limit or sum(dispatch.steps for dispatch in pending) >= chunk:
                new = bool(pending)  # or the hooks of this step have run already
                if new:
                    seconds = meter.sync(pending)
                    pending = []
                    chunk = _agree(int(np.clip(HOST_SYNC_SECONDS / seconds, 1, 4 * chunk)), stops)
                ending = ending or step == steps or bool(stops)
                early = ending and step > first and step % log_every
                if (new and step % log_every == 0) or early:
                    meter.close()
                with meter.paused():
                    event = Event(step, steps, current, meter.row, meter.train_sec)
                    for hook in hooks:
                        regular = hook.every == 0 or step % hook.every == 0
                        last = ending and hook.at_end and step > first and (new or not regular)
                        if (new and regular) or last:
                            event.row.update(hook.run(event) or {})
    return Result(current, stops[0] if stops else "")


# --- the compiled programs ------------------------------------------------------------


def repeated(
    program: Program,
    seed: int,
    prepare: Callable[[dict[str, Array], Array], dict[str, Array]],
    split: NamedSharding,
    resident: bool,
) -> Callable[..., Any]:
    """Return (state, root key, data, count) -> (state, sums of the metrics, runs done).

    It runs the program `count` times, fewer where a metric is not finite. The count is
    traced and the body of the loop compiled once, so that results do not depend on how
    many steps go into a dispatch. `data` is the full resident set, out of which each
    step gathers its batch, or the batch itself.
    """
    plan = program.plan

    @functools.partial(jax.jit, inline=True)  # traced once, for the metrics' shapes and the loop
    def one(state: State, root: Array, arrays: dict[str, Array]) -> tuple[State, Metrics]:
        key, data_key = jax.random.split(jax.random.fold_in(root, state.step))
        if resident:
            step = state.step.astype(jnp.uint32)
            arrays = data.take(arrays, jnp.uint32(seed), step, plan.batch_size)
        batch = jax.lax.with_sharding_constraint(prepare(arrays, data_key), split)
        return program.advance(state, batch, key, plan)

    def run(state: State, root: Array, arrays: dict[str, Array], count: Array):
        def body(carry):
            done, state, sums, _ = carry
            state, metrics = one(state, root, arrays)
            finite = jnp.all(jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))))
            return done + 1, state, jax.tree.map(jnp.add, sums, metrics), finite

        metrics = jax.eval_shape(one, state, root, arrays)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
        going = lambda carry: (carry[0] < count) & carry[3]
        carry = (jnp.int32(0), state, zeros, jnp.bool_(True))
        done, state, sums, _ = jax.lax.while_loop(going, body, carry)
        return state, sums, done

    return target.on(split.mesh, run)


def compiled(
    run: Callable[..., Any],
    arguments: Sequence[Any],
    plan: Plan,
    abandon: Callable[[], object] = bool,
) -> Callable[..., Any]:
    """Compile `run` for these arguments, of which the first, the State, is donated.

    Raises ConfigError for field `batch_size` where it needs more memory than there is,
    and `xla.Interrupted` where `abandon()` is true before it is done.
    """
    try:
        return xla.compiled(run, arguments, xla.STEP, stop=abandon, donate_argnums=0)
    except xla.NotEnoughMemory as error:
        raise too_large(plan.batch_size, str(error)) from None


def too_large(batch_size: int, needed: str) -> ConfigError:
    """Return the error for a batch whose step needs too much memory."""
    less = "a smaller one takes less, as do `accumulate` and `remat` of models that have them"
    return ConfigError("batch_size", batch_size, f"a step needs {needed}; {less}")


def root_key(seed: int, sharding: NamedSharding) -> Array:
    """Return the key that all keys of a run are folded from."""
    return jax.jit(lambda: jax.random.key(seed), out_shardings=sharding)()


def first_state(recipe: Recipe, root: Array, sharding: NamedSharding | None = None) -> State:
    """Return the State that a run starts from.

    Raises InputError where memory is too small.
    """
    init = target.on(sharding.mesh, recipe.init) if sharding else recipe.init
    try:
        return xla.compiled(init, (root,), ("quick",), out_shardings=sharding)(root)
    except xla.NotEnoughMemory as error:
        raise InputError(
            f"the state of this model needs {error}; smaller networks take less"
        ) from None


def to_devices(
    array: np.ndarray, sharding: NamedSharding, shape: tuple[int, ...] | None = None
) -> Array:
    """Return a global array of `shape`.

    `array` is what this process holds of it: its share of a batch, or by default all.
    """
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    shape = array.shape if shape is None else shape
    return jax.make_array_from_process_local_data(sharding, array, shape)


def check_batches(recipe: Recipe, mesh: Mesh, first: int, steps: int) -> None:
    """Raise ConfigError for a batch that cannot be split evenly over the devices.

    Batch sizes are those of 1000 steps, evenly spaced.
    """
    sampled = np.linspace(first, max(first, steps - 1), 1000, dtype=int).tolist()
    for size in sorted({recipe.plan(step).batch_size for step in {first, *sampled}}):
        if size % mesh.size:
            advice = f"must be a multiple of the number of devices, {mesh.size}"
            raise ConfigError("batch_size", size, advice)
        if size * steps >= 2**32:
            advice = f"{size} images per step allow at most {2**32 // size} steps"
            raise ConfigError("steps", steps, advice)


class _Batches:
    """Batches of a streamed set on the devices, one sent ahead while another is trained
    on.
    """

    def __init__(self, source: data.Source, seed: int, split: NamedSharding):
        self.source, self.seed, self.split = source, seed, split
        self.batches: Iterator[dict[str, np.ndarray]] = iter(())
        self.ahead: dict[str, Array] = {}
        self.ahead_of: tuple[int, int] | None = None  # its step and batch size

    def at(self, step: int, batch_size: int) -> dict[str, Array]:
        """Return the batch of a step. Steps must come in order."""
        if self.ahead_of != (step, batch_size):
            process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
            self.batches = data.stream(self.source, self.seed, step, batch_size, **process)
            self.ahead = self._send(batch_size)
        current, self.ahead = self.ahead, self._send(batch_size)
        self.ahead_of = (step + 1, batch_size)
        return current

    def _send(self, batch_size: int) -> dict[str, Array]:
        return {
            name: to_devices(array, self.split, (batch_size, *array.shape[1:]))
            for name, array in next(self.batches).items()
        }


def _agree(chunk: int, stops: list[str]) -> int:
    """Return the steps until the next sync, the same in every process.

    A signal to any process is one to all.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        gathered = multihost_utils.process_allgather(np.array([chunk, len(stops)], np.int32))
        chunks, signalled = gathered.T
        chunk = int(chunks.min())
        if signalled.any() and not stops:
            stops.append("a signal to another process")
    return chunk
