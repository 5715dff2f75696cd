"""What a run leaves on disk: checkpoints of the whole State (Orbax), and for use elsewhere its weights (safetensors) beside config.json."""

import errno
import hashlib
import itertools
import json
import math
import os
import re
import stat
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from genjax.core import PyTree, State, Weights
from genjax.errors import InputError, NotFinite, printable, reason
from genjax.files import bounded, tensors
from genjax.files.outputs import sweep, write_atomically
from genjax.runtime import logging

CONFIG, WEIGHTS, CHECKPOINTS = "config.json", "model.safetensors", "checkpoints"


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by path: {"params/enc/posterior/kernel": array, ...}. No structure, no code, so any reader can make sense of it."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(like: PyTree, leaves: dict[str, Any], origin: str) -> PyTree:
    """The tree of `like`'s structure with these leaves. Raises InputError naming the first that is missing or of another shape."""
    for name, leaf in flatten(like).items():
        if name not in leaves:
            raise InputError(
                f"{origin}: holds no {name}; it was written by another model or version"
            )
        if leaves[name].shape != leaf.shape:
            raise InputError(
                f"{origin}: {name} is {list(leaves[name].shape)}, the model's is {list(leaf.shape)}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])


# --- checkpoints ---------------------------------------------------------------------------------------------------------


def manager(run: Path, keep: int = 2, best: str = "", keep_every: int = 0):
    """Open run/checkpoints as an Orbax manager: asynchronous and atomic.

    It retains the newest `keep` checkpoints, the one with the lowest metric `best`, and, above 0, those of the multiples of
    `keep_every` steps.
    """
    import orbax.checkpoint as ocp

    folder = (run / CHECKPOINTS).absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_Preserved(folder, keep, best, keep_every),
        cleanup_tmp_directories=True,
        lightweight_initialize=True,
    )
    return ocp.CheckpointManager(folder, options=options)


class _Preserved:
    """Orbax's protocol of a preservation policy. Metrics of earlier processes are those on record beside the state."""

    def __init__(self, folder: Path, keep: int, best: str, every: int):
        self.folder, self.keep, self.best, self.every = folder, keep, best, every
        self.metrics: dict[int, dict[str, float]] = {}  # by step

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [info.step for info in checkpoints]
        for info in checkpoints:
            if info.step not in self.metrics:
                self.metrics[info.step] = (
                    info.metrics or recorded(self.folder / str(info.step))["metrics"]
                )
        kept = set(sorted(steps)[-self.keep :]) | {
            step for step in steps if self.every and step % self.every == 0
        }
        if best := best_of({step: self.metrics[step] for step in steps}, self.best):
            kept.add(best)
        return [step in kept for step in steps]


def best_of(metrics: dict[int, dict[str, float]], name: str) -> int | None:
    """The step with the lowest finite metric of this name, the latest of equals; None where no step has it."""
    values = {
        step: row[name] for step, row in metrics.items() if math.isfinite(row.get(name, math.inf))
    }
    return min(values, key=lambda step: (values[step], -step)) if values else None


def read(run: Path, like: State, step: int) -> State:
    """The State of one checkpoint, on the first device; the run may be going on. Raises InputError if there is no such one, or a damaged one."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    with _read_only(run) as manager:
        steps = sorted(manager.all_steps())
        if step not in steps:
            raise InputError(
                f"--step {step}: {run} has checkpoints of {', '.join(map(str, steps)) or 'no step'}"
            )
        state = restore(manager, like, step)
    assert state is not None
    return state


def _read_only(run: Path):
    import orbax.checkpoint as ocp

    if not (run / CHECKPOINTS).is_dir():
        raise InputError(
            f"{run / CHECKPOINTS}: no such folder; give the folder that a training script wrote with --out"
        )
    options = ocp.CheckpointManagerOptions(read_only=True, lightweight_initialize=True)
    with logging.absl():  # Orbax warns of what read_only means
        return ocp.CheckpointManager((run / CHECKPOINTS).absolute(), options=options)


class Row(NamedTuple):
    """A checkpoint in a run's listing."""

    step: int
    written: float  # seconds since 1970
    metrics: dict[str, float]  # of the log row at that step
    best: bool  # the lowest of the metric by which the run keeps its best


def listing(run: Path) -> list[Row]:
    """A run's checkpoints, by step; the run may be going on. Raises InputError if the folder has none.

    The best is marked where the checkpoints' records name the metric.
    """
    with _read_only(run) as manager:
        steps = sorted(manager.all_steps())
    if not steps:
        raise InputError(f"{run / CHECKPOINTS}: holds no checkpoint yet")
    rows, by = {}, ""
    for step in steps:
        folder = run / CHECKPOINTS / str(step)
        record = recorded(folder)
        by = record["best"] or by
        try:
            rows[step] = folder.stat().st_mtime, record["metrics"]
        except FileNotFoundError:  # removed meanwhile, by the training that is going on
            continue
    best = best_of({step: metrics for step, (_, metrics) in rows.items()}, by)
    return [Row(step, written, metrics, step == best) for step, (written, metrics) in rows.items()]


def save(manager, state: State, row: dict[str, float], best: str = "") -> None:
    """Start to write the state; returns once it is copied from the device.

    `row` is recorded beside it, and `best`, the name of the metric by which the best is kept. Raises NotFinite rather than keep such a state.
    """
    import orbax.checkpoint as ocp

    step = int(jax.device_get(state.step))
    leaves = flatten(state)
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
    """The newest checkpoint that is whole (or that of `step`), None if there is none yet. `like` is abstract: shapes, dtypes, shardings.

    Damaged ones that are newer are set aside, with a warning. Raises InputError if there are some and none can be read, and if the newest
    that can be read is of another structure than `like`.
    """
    run = manager.directory.parent
    steps = [step] if step is not None else sorted(manager.all_steps(), reverse=True)
    failures: list[tuple[int, str]] = []
    if step is None:  # what lies in the place of a checkpoint, where it could not be saved again
        strange = [
            path
            for path in Path(manager.directory).iterdir()
            if path.name.isdecimal() and not path.is_dir()
        ]
        failures = [
            (int(path.name), "it is not a folder")
            for path in strange
            if str(int(path.name)) == path.name
        ]
    for candidate in steps:
        try:
            state = _read(manager, candidate, like)
        except OtherState as error:
            if step is not None:
                raise InputError(
                    f"--step {step}: that checkpoint of {run} does not fit its {CONFIG}: {error}"
                ) from None
            advice = f"repeat the settings that wrote it, or start another --out from its weights with --transfer {run}"
            raise InputError(
                f"--out {run}: checkpoint {candidate} does not fit these settings: {error}; {advice}"
            ) from None
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
        raise InputError(f"--step {step}: that checkpoint of {run} is damaged; {advice}")
    if failures:
        damaged = ", ".join(str(candidate) for candidate, _ in failures)
        raise InputError(
            f"--out {run}: no checkpoint can be read: {damaged} damaged ({failures[0][1]}); choose another folder, "
            "and --transfer starts there from this one's weights, if it has any"
        )
    return None


def set_aside(manager, steps: list[int]) -> None:
    """Move damaged checkpoints out of run/checkpoints, to names that are free; nothing is deleted."""
    if not steps:
        return
    if jax.process_count() > 1:  # none is moved while another process still reads it
        multihost_utils.sync_global_devices("damaged checkpoints are known")
    if jax.process_index() == 0:
        for step in steps:
            os.replace(
                manager.directory / str(step),
                free_name(Path(manager.directory.parent) / f"damaged-checkpoint-{step}"),
            )
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    manager.reload()


def free_name(path: Path) -> Path:
    """`path`, or with -2, -3 ... behind it where something lies there."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}-{count}") for count in itertools.count(2))
    )
    return next(name for name in names if not os.path.lexists(name))


def lacking(error: BaseException) -> bool:
    """Whether an error is the machine's, which lacks memory, files or permission, and says nothing about what was read."""
    if isinstance(error, OSError) and error.errno in (
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
    ):
        return True
    return isinstance(
        error, MemoryError | jax.errors.JaxRuntimeError
    ) or "Too many open files" in str(error)


def recorded(folder: Path) -> dict[str, Any]:
    """What stands beside a checkpoint's state: "metrics" and "best" of `save`; empty where it is damaged or of an earlier version."""
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
    """The bytes of a regular file. Raises OSError where it is none, or of more than `most` bytes."""
    if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > most:
        raise OSError(errno.EINVAL, "not a regular file, or too large", str(path))
    return path.read_bytes()


def _described(leaves: dict[str, Any]) -> dict[str, list]:
    return {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaves.items()}


def _digest(sums: dict[str, int], record: dict[str, Any]) -> str:
    """Of all that is recorded: what it says of the state's structure can be relied on where this is right."""
    content = json.dumps(
        [sums, record["leaves"], record["metrics"], record["best"]], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def _read(manager, step: int, like: State) -> State:
    """Raises OtherState if it is another structure's, anything else if it is damaged."""
    import orbax.checkpoint as ocp

    folder = Path(manager.directory) / str(step)
    for path in folder.rglob("*"):  # to open a pipe would wait for ever
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise OSError(f"{path.name} is not a regular file")
    sums = json.loads(_bounded(folder / "sums" / "metadata"))
    if (folder / "record").exists():
        record = json.loads(_bounded(folder / "record" / "metadata"))
        if record["sha256"] != _digest(sums, record):
            raise OSError("its record is not the one that was written")
        leaves = record["leaves"]
    else:  # of version 0.1
        found = ocp.StandardCheckpointHandler().metadata(folder / "state")
        leaves = _described(getattr(found, "tree", found))
        if leaves.keys() != sums.keys():
            raise OSError("its parts do not belong together")
    if different := _differences(leaves, _described(flatten(like))):
        more = f", and {len(different) - 2} more" if len(different) > 2 else ""
        raise OtherState(f"{'; '.join(different[:2])}{more}")
    with logging.absl():  # what goes wrong is said by the one that asked
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(flatten(like)))
        )["state"]
    for name, value in jax.device_get(_examine(restored)[0]).items():
        if int(value) != sums[name]:
            raise OSError(f"the bytes of {name} are not those that were written")
    return unflatten(like, restored, f"checkpoint {step}")


def _differences(written: dict[str, list], needed: dict[str, list]) -> list[str]:
    """What differs, a phrase each, shapes first: they say most."""
    shaped = [
        f"{name} is {written[name][0]} {written[name][1]}, these need {dtype} {shape}"
        for name, (dtype, shape) in needed.items()
        if name in written and list(written[name]) != [dtype, shape]
    ]
    missing = [f"it holds no {name}" for name in needed if name not in written]
    return (
        shaped
        + missing
        + [f"it holds {name}, which these do not need" for name in written if name not in needed]
    )


class OtherState(ValueError):
    """A whole checkpoint, of a state of another structure."""


@jax.jit
def _examine(leaves: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Of each leaf: a 32-bit sum of its bits, weighted by place, and whether it is all finite. Works on leaves spread over devices."""

    def bits(x):
        unsigned = x.astype(jnp.uint8) if x.dtype == bool else x.view(f"uint{8 * x.dtype.itemsize}")
        unsigned = unsigned.astype(jnp.uint32).ravel()
        places = jnp.arange(unsigned.size, dtype=jnp.uint32) * jnp.uint32(2654435769) | jnp.uint32(
            1
        )
        return jnp.sum(unsigned * places, dtype=jnp.uint32)

    return {name: bits(x) for name, x in leaves.items()}, {
        name: jnp.all(jnp.isfinite(x)) for name, x in leaves.items()
    }


# --- weights and settings ------------------------------------------------------------------------------------------------


def remove_leftovers(run: Path) -> None:
    """Remove the temporary files that a killed training left in its folder; call it while the folder's lock is held."""
    for folder in (run, run / "samples"):
        sweep(folder)
        for path in folder.glob(".*"):  # as version 0.1 named them
            if (
                re.fullmatch(
                    r"\.(config\.json|model\.safetensors|metrics\.jsonl|\w+\.png)\.\d+", path.name
                )
                and path.is_file()
            ):
                path.unlink()


def export(run: Path, weights: Weights) -> None:
    """Write run/model.safetensors, the weights that sampling needs, by name, float32; nothing where they are there already."""
    from safetensors.numpy import save as serialize

    arrays = {
        name: np.asarray(jax.device_get(leaf), order="C") for name, leaf in flatten(weights).items()
    }
    path, content = run / WEIGHTS, serialize(arrays, metadata={"format": "genjax"})
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def weights_id(weights: Weights) -> str:
    """SHA-256 of the names, shapes and values of weights: what tells them from any other."""
    digest = hashlib.sha256()
    for name, leaf in flatten(weights).items():
        array = np.asarray(jax.device_get(leaf), order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def read_weights(run: Path, like: Weights) -> Weights:
    """The weights of run/model.safetensors in the structure of `like`. Raises InputError if there are none, or others.

    Whole networks may be missing, as in weights that were converted for one direction only; the result has none of them then.
    """
    return jax.tree.map(jnp.asarray, fitted(read_arrays(run), like, str(run / WEIGHTS)))


def fitted(arrays: dict[str, Any], like: Weights, origin: str) -> Weights:
    """Arrays by path, of all of `like`'s networks or some, as its tree and in its dtypes.

    Raises InputError, naming the array, where one is missing, not the model's, of another shape or kind, or not finite.
    """
    networks = {
        part: {name: tree for name, tree in trees.items() if _holds(arrays, part, name)}
        for part, trees in like.items()
    }
    networks = networks if networks["params"] else like
    leaves = flatten(networks)
    unflatten(networks, arrays, origin)
    if extra := sorted(arrays.keys() - leaves.keys()):
        raise InputError(
            f"{origin}: {extra[0]!r} is not in this model; it was written by another model or version"
        )
    for name, array in arrays.items():
        if array.dtype.kind in "biu" and leaves[name].dtype.kind not in "biu":
            raise InputError(
                f"{origin}: {name!r} is {array.dtype}, the model's is {leaves[name].dtype}"
            )
    try:
        tensors.check_finite(arrays)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    return unflatten(
        networks, {name: arrays[name].astype(leaf.dtype) for name, leaf in leaves.items()}, origin
    )


def read_arrays(run: Path) -> dict[str, np.ndarray]:
    """All of run/model.safetensors, by name. Raises InputError."""
    path = run / WEIGHTS
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; let the training finish, or give the --step of one in {run / CHECKPOINTS}"
        )
    arrays = tensors.read(path)
    try:
        tensors.check_finite(arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return arrays


def transferred(state: State, run: Path) -> tuple[State, list[str]]:
    """A new State with another run's weights where they have the same names and shapes, in the averages too; and the names of what is not there.

    Raises InputError if nothing fits.
    """
    if not (run / WEIGHTS).is_file():
        raise InputError(
            f"--transfer {run}: no {WEIGHTS} there; give the folder of a finished run, or of converted weights"
        )
    arrays, own = read_arrays(run), []

    def fill(part: str, trees: dict[str, PyTree]) -> dict[str, PyTree]:
        leaves = flatten(trees)
        found = {name: arrays.get(f"{part}/{name}") for name in leaves}
        fits = {
            name: array is not None
            and array.shape == leaves[name].shape
            and array.dtype.kind not in "biu"
            for name, array in found.items()
        }
        own.extend(f"{part}/{name}" for name, fit in fits.items() if not fit)
        filled = [
            jnp.asarray(found[name], leaf.dtype) if fits[name] else leaf
            for name, leaf in leaves.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(trees), filled)

    new = state.replace(params=fill("params", state.params), stats=fill("stats", state.stats))
    if len(own) == len(flatten(state.params)) + len(flatten(state.stats)):
        raise InputError(f"--transfer {run}: none of its weights fit this model")
    return new.replace(ema={name: new.params[name] for name in state.ema}), own


def _holds(arrays: dict[str, Any], part: str, network: str) -> bool:
    return any(name.startswith(f"{part}/{network}/") for name in arrays)


def write_config(run: Path, settings: dict[str, Any]) -> None:
    write_atomically(run / CONFIG, json.dumps(settings, indent=2, allow_nan=False).encode() + b"\n")


FIELDS: dict[str, type] = {
    "model": str,
    "config": dict,
    "genjax": str,
    "data": dict,
    "seed": int,
    "forked": list,
    "transfer": str,
}


def read_config(run: Path) -> dict[str, Any]:
    """run/config.json, whose fields are of their types; what a model makes of its own is `models.build`'s. Raises InputError if it is no run's."""
    path = run / CONFIG
    try:
        settings = bounded.read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; give the folder that a training script wrote with --out"
        ) from None
    except (OSError, bounded.Malformed) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None
    if not isinstance(settings, dict) or not {"model", "config"} <= settings.keys():
        raise InputError(f"{path}: not the settings of a run (no model, no config)")
    for field, kind in FIELDS.items():
        if field in settings and type(settings[field]) is not kind:
            raise InputError(
                f"{path}: {field} is {printable(str(settings[field]), 40)}, which no run has"
            )
    return settings
