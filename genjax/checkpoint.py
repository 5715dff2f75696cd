"""What a run leaves on disk: checkpoints of the whole State (Orbax), and for use elsewhere its weights (safetensors) beside config.json."""

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import bounded, quiet, tensors
from genjax.core import PyTree, State, Weights
from genjax.errors import InputError, NotFinite, printable, reason
from genjax.outputs import write_atomically

CONFIG, WEIGHTS, CHECKPOINTS = "config.json", "model.safetensors", "checkpoints"


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by path: {"params/enc/posterior/kernel": array, ...}. No structure, no code, so any reader can make sense of it."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(like: PyTree, leaves: dict[str, Any], origin: str) -> PyTree:
    """The tree of `like`'s structure with these leaves. Raises InputError naming the first that is missing or of another shape."""
    for name, leaf in flatten(like).items():
        if name not in leaves:
            raise InputError(f"{origin}: holds no {name}; it was written by another model or version")
        if leaves[name].shape != leaf.shape:
            raise InputError(f"{origin}: {name} is {list(leaves[name].shape)}, the model's is {list(leaf.shape)}")
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])


# --- checkpoints ---------------------------------------------------------------------------------------------------------


def manager(run: Path, keep: int = 2, best: str = ""):
    """An Orbax manager of run/checkpoints: asynchronous, atomic, keeps the newest `keep` and the one with the lowest metric `best`."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as policy

    kept: list[Any] = [policy.LatestN(keep)]
    if best:
        kept.append(policy.BestN(get_metric_fn=lambda row: -row.get(best, np.inf), n=1, keep_checkpoints_without_metrics=False))
    options = ocp.CheckpointManagerOptions(preservation_policy=policy.AnyPreservationPolicy(kept), cleanup_tmp_directories=True)
    return ocp.CheckpointManager((run / CHECKPOINTS).absolute(), options=options)


def read(run: Path, like: State, step: int) -> State:
    """The State of one checkpoint, on the first device; the run may be going on. Raises InputError if there is no such one, or a damaged one."""
    import orbax.checkpoint as ocp

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    if not (run / CHECKPOINTS).is_dir():
        raise InputError(f"{run / CHECKPOINTS}: no such folder; give the folder that a training script wrote with --out")
    with quiet.absl():  # Orbax warns of what read_only means
        opened = ocp.CheckpointManager((run / CHECKPOINTS).absolute(), options=ocp.CheckpointManagerOptions(read_only=True))
    with opened as manager:
        steps = sorted(manager.all_steps())
        if step not in steps:
            raise InputError(f"--step {step}: {run} has checkpoints of {', '.join(map(str, steps)) or 'no step'}")
        state = restore(manager, like, step)
    assert state is not None
    return state


def save(manager, state: State, row: dict[str, float]) -> None:
    """Start to write the state; returns once it is copied from the device. Raises NotFinite rather than keep such a state."""
    import orbax.checkpoint as ocp

    step = int(jax.device_get(state.step))
    sums, finite = jax.device_get(_examine(flatten(state)))
    for name, ok in finite.items():
        if not ok:
            raise NotFinite(name, "not finite", step)
    if step in manager.all_steps():
        return
    metrics = {key: value for key, value in row.items() if isinstance(value, int | float)}
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(flatten(state)), sums=ocp.args.JsonSave({name: int(value) for name, value in sums.items()})
    )
    manager.save(step, args=items, metrics=metrics)


def restore(manager, like: State, step: int | None = None) -> State | None:
    """The newest checkpoint that is whole (or that of `step`), None if there is none yet. `like` is abstract: shapes, dtypes, shardings.

    A damaged newest one is set aside, with a warning, for the one before it. Raises InputError if there are some and none can be read.
    """
    steps = [step] if step is not None else sorted(manager.all_steps(), reverse=True)
    failures: list[tuple[int, str]] = []
    for candidate in steps:
        try:
            state = _read(manager, candidate, like)
        except OtherState as error:
            raise InputError(
                f"--out {manager.directory.parent}: checkpoint {candidate} cannot be gone on from: {error}"
            ) from None
        except Exception as error:  # whatever Orbax raises for what a crash or a disk left behind
            failures.append((candidate, f"{type(error).__name__}: {error}".splitlines()[0][:200]))
            continue
        for damaged, why in failures:
            warnings.warn(f"checkpoint {damaged} is damaged ({why}); going on from {candidate}", stacklevel=2)
            if jax.process_index() == 0:
                os.replace(manager.directory / str(damaged), manager.directory.parent / f"damaged-checkpoint-{damaged}")
        if failures:
            manager.reload()
        return state
    if failures and step is not None:
        rest = ", ".join(str(other) for other in sorted(manager.all_steps()) if other != step)
        advice = f"there is also {rest}" if rest else "there is no other"
        raise InputError(f"--step {step}: that checkpoint of {manager.directory.parent} is damaged; {advice}")
    if failures:
        raise InputError(
            f"--out {manager.directory.parent}: no checkpoint can be read ({failures[0][1]}); choose another folder, or remove this one"
        )
    return None


def _read(manager, step: int, like: State) -> State:
    import orbax.checkpoint as ocp

    written = manager.restore(step, args=ocp.args.Composite(sums=ocp.args.JsonRestore()))["sums"]
    if different := sorted(written.keys() ^ flatten(like).keys()):
        raise OtherState(
            f"it does not hold what these settings need: {', '.join(different[:3])} and {len(different)} in all differ"
        )
    leaves = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(flatten(like))))["state"]
    sums = jax.device_get(_examine(leaves)[0])
    for name, value in sums.items():
        if int(value) != written[name]:
            raise OSError(f"the bytes of {name} are not those that were written")
    return unflatten(like, leaves, f"checkpoint {step}")


class OtherState(ValueError):
    """A whole checkpoint, of a state of another structure."""


@jax.jit
def _examine(leaves: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Of each leaf: a 32-bit sum of its bits, weighted by place, and whether it is all finite. Works on leaves spread over devices."""

    def bits(x):
        unsigned = x.astype(jnp.uint8) if x.dtype == bool else x.view(f"uint{8 * x.dtype.itemsize}")
        unsigned = unsigned.astype(jnp.uint32).ravel()
        places = jnp.arange(unsigned.size, dtype=jnp.uint32) * jnp.uint32(2654435769) | jnp.uint32(1)
        return jnp.sum(unsigned * places, dtype=jnp.uint32)

    return {name: bits(x) for name, x in leaves.items()}, {name: jnp.all(jnp.isfinite(x)) for name, x in leaves.items()}


# --- weights and settings ------------------------------------------------------------------------------------------------


def export(run: Path, weights: Weights) -> None:
    """Write run/model.safetensors, the weights that sampling needs, by name, float32; nothing where they are there already."""
    from safetensors.numpy import save as serialize

    arrays = {name: np.asarray(jax.device_get(leaf), order="C") for name, leaf in flatten(weights).items()}
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
    networks = {part: {name: tree for name, tree in trees.items() if _holds(arrays, part, name)} for part, trees in like.items()}
    networks = networks if networks["params"] else like
    leaves = flatten(networks)
    unflatten(networks, arrays, origin)
    if extra := sorted(arrays.keys() - leaves.keys()):
        raise InputError(f"{origin}: {extra[0]!r} is not in this model; it was written by another model or version")
    for name, array in arrays.items():
        if array.dtype.kind in "biu" and leaves[name].dtype.kind not in "biu":
            raise InputError(f"{origin}: {name!r} is {array.dtype}, the model's is {leaves[name].dtype}")
    try:
        tensors.check_finite(arrays)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    return unflatten(networks, {name: arrays[name].astype(leaf.dtype) for name, leaf in leaves.items()}, origin)


def read_arrays(run: Path) -> dict[str, np.ndarray]:
    """All of run/model.safetensors, by name. Raises InputError."""
    path = run / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file; let the training finish, or give the --step of one in {run / CHECKPOINTS}")
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
        raise InputError(f"--transfer {run}: no {WEIGHTS} there; give the folder of a finished run, or of converted weights")
    arrays, own = read_arrays(run), []

    def fill(part: str, trees: dict[str, PyTree]) -> dict[str, PyTree]:
        leaves = flatten(trees)
        found = {name: arrays.get(f"{part}/{name}") for name in leaves}
        fits = {
            name: array is not None and array.shape == leaves[name].shape and array.dtype.kind not in "biu"
            for name, array in found.items()
        }
        own.extend(f"{part}/{name}" for name, fit in fits.items() if not fit)
        filled = [jnp.asarray(found[name], leaf.dtype) if fits[name] else leaf for name, leaf in leaves.items()]
        return jax.tree.unflatten(jax.tree.structure(trees), filled)

    new = state.replace(params=fill("params", state.params), stats=fill("stats", state.stats))
    if len(own) == len(flatten(state.params)) + len(flatten(state.stats)):
        raise InputError(f"--transfer {run}: none of its weights fit this model")
    return new.replace(ema={name: new.params[name] for name in state.ema}), own


def _holds(arrays: dict[str, Any], part: str, network: str) -> bool:
    return any(name.startswith(f"{part}/{network}/") for name in arrays)


def write_config(run: Path, settings: dict[str, Any]) -> None:
    write_atomically(run / CONFIG, json.dumps(settings, indent=2, allow_nan=False).encode() + b"\n")


FIELDS: dict[str, type] = {"model": str, "config": dict, "genjax": str, "data": dict, "seed": int, "forked": list, "transfer": str}


def read_config(run: Path) -> dict[str, Any]:
    """run/config.json, whose fields are of their types; what a model makes of its own is `models.build`'s. Raises InputError if it is no run's."""
    path = run / CONFIG
    try:
        settings = bounded.read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the folder that a training script wrote with --out") from None
    except (OSError, bounded.Malformed) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None
    if not isinstance(settings, dict) or not {"model", "config"} <= settings.keys():
        raise InputError(f"{path}: not the settings of a run (no model, no config)")
    for field, kind in FIELDS.items():
        if field in settings and type(settings[field]) is not kind:
            raise InputError(f"{path}: {field} is {printable(str(settings[field]), 40)}, which no run has")
    return settings
