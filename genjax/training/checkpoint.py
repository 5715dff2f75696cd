"""Checkpoints of a run: the full State, by Orbax, with sums that show damage.

What else is in the run's folder is in `run_folder`.
"""

import errno
import hashlib
import json
import math
import os
import stat
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from genjax.core import State
from genjax.errors import ConfigError, InputError, NotFinite, reason
from genjax.runtime import logging
from genjax.training import run_folder


def manager(run: Path, keep: int = 2, best: str = "", keep_every: int = 0):
    """Open run/checkpoints as an Orbax manager: asynchronous and atomic.

    It retains the newest `keep` checkpoints, the one with the lowest metric `best`,
    and, above 0, those of the multiples of `keep_every` steps.
    """
    import orbax.checkpoint as ocp

    folder = (run / run_folder.CHECKPOINTS).absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_Preserved(folder, keep, best, keep_every),
        cleanup_tmp_directories=True,
        lightweight_initialize=True,
    )
    return ocp.CheckpointManager(folder, options=options)


class _Preserved:
    """A preservation policy in Orbax's protocol.

    Metrics of earlier processes are read from the records beside the states.
    """

    def __init__(self, folder: Path, keep: int, best: str, every: int):
        self.folder, self.keep, self.best, self.every = folder, keep, best, every
        self.metrics: dict[int, dict[str, float]] = {}  # by step

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [info.step for info in checkpoints]
        for info in checkpoints:
            if info.step not in self.metrics:
                record = self.folder / str(info.step)
                self.metrics[info.step] = info.metrics or recorded(record)["metrics"]
        regular = {step for step in steps if self.every and step % self.every == 0}
        best = best_of({step: self.metrics[step] for step in steps}, self.best)
        preserved = regular | {best} | set(sorted(steps)[-self.keep :])
        return [step in preserved for step in steps]


def best_of(metrics: dict[int, dict[str, float]], name: str) -> int | None:
    """Return the step with the lowest finite metric of this name, the latest of equals.

    None where no step has the metric.
    """
    values = {
        step: row[name] for step, row in metrics.items() if math.isfinite(row.get(name, math.inf))
    }
    return min(values, key=lambda step: (values[step], -step)) if values else None


def read(run: Path, like: State, step: int) -> State:
    """Read the State of one checkpoint onto the first device; works during training.

    Raises ConfigError, for field `step`, if there is no such checkpoint or it is
    damaged.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    with _read_only(run) as manager:
        steps = sorted(manager.all_steps())
        if step not in steps:
            known = ", ".join(map(str, steps)) or "no step"
            raise ConfigError("step", step, f"{run} has checkpoints of {known}")
        state = restore(manager, like, step)
    assert state is not None
    return state


def _read_only(run: Path):
    import orbax.checkpoint as ocp

    if not (run / run_folder.CHECKPOINTS).is_dir():
        advice = "give the folder that a training script wrote"
        raise InputError(f"{run / run_folder.CHECKPOINTS}: no such folder; {advice}")
    options = ocp.CheckpointManagerOptions(read_only=True, lightweight_initialize=True)
    with logging.absl():  # Orbax warns about read_only
        return ocp.CheckpointManager((run / run_folder.CHECKPOINTS).absolute(), options=options)


class Row(NamedTuple):
    """A checkpoint in a run's listing."""

    step: int
    written: float  # seconds since 1970
    metrics: dict[str, float]  # of the log row at that step
    best: bool  # the lowest of the metric by which the run keeps its best


def listing(run: Path) -> list[Row]:
    """List a run's checkpoints by step; works during training.

    The best is marked where the checkpoints' records name the metric. Raises InputError
    if the folder has none.
    """
    with _read_only(run) as manager:
        steps = sorted(manager.all_steps())
    if not steps:
        raise InputError(f"{run / run_folder.CHECKPOINTS}: holds no checkpoint yet")
    rows, by = {}, ""
    for step in steps:
        folder = run / run_folder.CHECKPOINTS / str(step)
        record = recorded(folder)
        by = record["best"] or by
        try:
            rows[step] = folder.stat().st_mtime, record["metrics"]
        except FileNotFoundError:  # removed meanwhile by the training
            continue
    best = best_of({step: metrics for step, (_, metrics) in rows.items()}, by)
    return [Row(step, written, metrics, step == best) for step, (written, metrics) in rows.items()]


def save(manager, state: State, row: dict[str, float], best: str = "") -> None:
    """Start to write the state; return once it is copied from the device.

    `row` is recorded beside it, and `best`, the name of the metric that selects the
    best checkpoint. Raises NotFinite, having written nothing, for a state that is not
    finite.
    """
    import orbax.checkpoint as ocp

    step = int(jax.device_get(state.step))
    leaves = run_folder.flatten(state)
    sums, finite = jax.device_get(_examine(leaves))
    for name, ok in finite.items():
        if not ok:
            raise NotFinite(name, "not finite", step)
    if step in manager.all_steps():
        return
    sums = {name: int(value) for name, value in sums.items()}
    metrics = {
        key: float(value)
        for key, value in row.items()
        if isinstance(value, int | float) and key != "step"
    }
    record: dict[str, Any] = {"leaves": _described(leaves), "metrics": metrics, "best": best}
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(leaves),
        sums=ocp.args.JsonSave(sums),
        record=ocp.args.JsonSave(record | {"sha256": _digest(sums, record)}),
    )
    manager.save(step, args=items, metrics=metrics)


def restore(manager, like: State, step: int | None = None) -> State | None:
    """Read the newest undamaged checkpoint, or that of `step`; None if there is none
    yet.

    `like` is abstract: shapes, dtypes, shardings. Newer damaged checkpoints are set
    aside, with a warning.

    Raises ConfigError, for field `step` or `out`, if none can be read although there
    are some, and if the newest that can be read has another structure than `like`.
    """
    run = manager.directory.parent
    steps = [step] if step is not None else sorted(manager.all_steps(), reverse=True)
    failures: list[tuple[int, str]] = []
    if step is None:  # other files under a checkpoint's name, where it could not be saved again
        for path in Path(manager.directory).iterdir():
            name = path.name
            if name.isdecimal() and str(int(name)) == name and not path.is_dir():
                failures.append((int(name), "it is not a folder"))
    for candidate in steps:
        try:
            state = _read(manager, candidate, like)
        except OtherState as error:
            if step is not None:
                advice = f"that checkpoint of {run} does not fit its {run_folder.CONFIG}: {error}"
                raise ConfigError("step", step, advice) from None
            advice = (
                "repeat the settings that wrote it, or start another `out` from its weights with "
                f"`transfer` {run}"
            )
            wrong = f"checkpoint {candidate} does not fit these settings: {error}"
            raise ConfigError("out", run, f"{wrong}; {advice}") from None
        except Exception as error:  # whatever Orbax raises for what a crash or a disk left behind
            if lacking(error):
                raise
            failures.append((candidate, f"{type(error).__name__}: {reason(error)}"))
            continue
        for damaged, why in failures:
            warnings.warn(
                f"checkpoint {damaged} is damaged ({why}); going on from {candidate}", stacklevel=2
            )
        set_aside(manager, [damaged for damaged, _ in failures])
        return state
    if not steps:
        set_aside(manager, [damaged for damaged, _ in failures])
        return None
    if failures and step is not None:
        rest = ", ".join(str(other) for other in sorted(manager.all_steps()) if other != step)
        advice = f"there is also {rest}" if rest else "there is no other"
        raise ConfigError("step", step, f"that checkpoint of {run} is damaged; {advice}")
    if failures:
        damaged = ", ".join(str(candidate) for candidate, _ in failures)
        wrong = f"no checkpoint can be read: {damaged} damaged ({failures[0][1]})"
        advice = "choose another folder; `transfer` starts there from this one's weights, if any"
        raise ConfigError("out", run, f"{wrong}; {advice}")
    return None


def set_aside(manager, steps: list[int]) -> None:
    """Move damaged checkpoints out of run/checkpoints to free names; delete nothing."""
    if not steps:
        return
    if jax.process_count() > 1:  # none is moved while another process still reads it
        multihost_utils.sync_global_devices("damaged checkpoints are known")
    if jax.process_index() == 0:
        for step in steps:
            os.replace(
                manager.directory / str(step),
                run_folder.free_name(Path(manager.directory.parent) / f"damaged-checkpoint-{step}"),
            )
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    manager.reload()


def lacking(error: BaseException) -> bool:
    """Return whether the machine lacks memory, space or file handles.

    Such an error says nothing about what was read.
    """
    numbers = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)
    if isinstance(error, OSError) and error.errno in numbers:
        return True
    if isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
        return True
    return "Too many open files" in str(error)


def recorded(folder: Path) -> dict[str, Any]:
    """Read the "metrics" and "best" that `save` recorded beside a checkpoint's state.

    Empty where the record is damaged or of an earlier version.
    """
    try:
        record = json.loads(_bounded(folder / "record" / "metadata"))
        metrics = {
            name: value
            for name, value in record["metrics"].items()
            if isinstance(value, int | float)
        }
        return {"metrics": metrics, "best": str(record["best"])}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {"metrics": {}, "best": ""}


def _bounded(path: Path, most: int = 2**26) -> bytes:
    """Read a regular file of at most `most` bytes; raise OSError for any other."""
    if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > most:
        raise OSError(errno.EINVAL, "not a regular file, or too large", str(path))
    return path.read_bytes()


def _described(leaves: dict[str, Any]) -> dict[str, list]:
    return {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaves.items()}


def _digest(sums: dict[str, int], record: dict[str, Any]) -> str:
    """Hash all that is recorded, so that its description of the structure can be
    trusted.
    """
    content = json.dumps(
        [sums, record["leaves"], record["metrics"], record["best"]], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _read(manager, step: int, like: State) -> State:
    """Read a State; raise OtherState for another structure, others for damage."""
    import orbax.checkpoint as ocp

    folder = Path(manager.directory) / str(step)
    for path in folder.rglob("*"):  # opening a pipe would wait for ever
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise OSError(f"{path.name} is not a regular file")
    sums = json.loads(_bounded(folder / "sums" / "metadata"))
    if (folder / "record").exists():
        record = json.loads(_bounded(folder / "record" / "metadata"))
        if record["sha256"] != _digest(sums, record):
            raise OSError("its record is not the one that was written")
        leaves = record["leaves"]
    else:  # of version 0.1
        handler: Any = ocp.StandardCheckpointHandler()
        metadata = handler.metadata(folder / "state")
        leaves = _described(metadata.tree)
        if leaves.keys() != sums.keys():
            raise OSError("its files do not belong together")
    if different := _differences(leaves, _described(run_folder.flatten(like))):
        more = f", and {len(different) - 2} more" if len(different) > 2 else ""
        raise OtherState(f"{'; '.join(different[:2])}{more}")
    with logging.absl():  # the caller reports errors
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(run_folder.flatten(like)))
        )["state"]
    for name, value in jax.device_get(_examine(restored)[0]).items():
        if int(value) != sums[name]:
            raise OSError(f"the bytes of {name} are not those that were written")
    return run_folder.unflatten(like, restored, f"checkpoint {step}")


def _differences(written: dict[str, list], needed: dict[str, list]) -> list[str]:
    """Return what differs, one phrase each, shapes first: they say most."""
    shapes = [
        f"{name} is {written[name][0]} {written[name][1]}, these need {dtype} {shape}"
        for name, (dtype, shape) in needed.items()
        if name in written and list(written[name]) != [dtype, shape]
    ]
    missing = [f"it holds no {name}" for name in needed if name not in written]
    extra = [name for name in written if name not in needed]
    return shapes + missing + [f"it holds {name}, which these do not need" for name in extra]


class OtherState(ValueError):
    """An undamaged checkpoint of a State of another structure."""


@jax.jit
def _examine(leaves: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return for each leaf a 32-bit sum of its bits, weighted by position, and if it is
    finite.

    Works on leaves that are split over devices.
    """

    def bits(x):
        unsigned = x.astype(jnp.uint8) if x.dtype == bool else x.view(f"uint{8 * x.dtype.itemsize}")
        unsigned = unsigned.astype(jnp.uint32).ravel()
        places = jnp.arange(unsigned.size, dtype=jnp.uint32) * jnp.uint32(2654435769)
        places = places | jnp.uint32(1)
        return jnp.sum(unsigned * places, dtype=jnp.uint32)

    return {name: bits(x) for name, x in leaves.items()}, {
        name: jnp.all(jnp.isfinite(x)) for name, x in leaves.items()
    }
