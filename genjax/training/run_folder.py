"""The folder of a run: config.json, the weights as safetensors, the lock; and its
settings.

Checkpoints of the State are in `checkpoint`.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import PyTree, State, Weights
from genjax.errors import ConfigError, InputError, printable, reason
from genjax.files import bounded, outputs, tensors
from genjax.files.outputs import sweep, write_atomically
from genjax.runtime import processes
from genjax.runtime.shell import say
from genjax.training import aliases

CONFIG, WEIGHTS, CHECKPOINTS = "config.json", "model.safetensors", "checkpoints"
FIELDS: dict[str, type] = {  # of config.json, and their types
    "model": str,
    "config": dict,
    "genjax": str,
    "data": dict,
    "seed": int,
    "forked": list,
    "transfer": str,
}


def read_config(run: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Read run/config.json and check the types of its fields.

    The model's own fields are checked by `models.build`; those of version 0.1 get their
    current names (`aliases`), which one line to `say` lists.

    Raises InputError where the file is missing, unreadable, or not that of a run.
    """
    path = run / CONFIG
    try:
        settings = bounded.read_json(path)
    except FileNotFoundError:
        advice = "give the folder that a training script wrote"
        raise InputError(f"{path}: no such file; {advice}") from None
    except (OSError, bounded.Malformed) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from None
    if not isinstance(settings, dict) or not {"model", "config"} <= settings.keys():
        raise InputError(f"{path}: not the settings of a run (no model, no config)")
    for field, kind in FIELDS.items():
        if field in settings and type(settings[field]) is not kind:
            shown = printable(str(settings[field]), 40)
            raise InputError(f"{path}: {field} is {shown}, which no run has")
    settings["config"], renamed = aliases.current(settings["model"], settings["config"])
    if renamed:
        say(f"{path}: names of version 0.1: {', '.join(renamed)}")
    return settings


def write_config(run: Path, settings: dict[str, Any]) -> None:
    """Write run/config.json atomically."""
    write_atomically(run / CONFIG, json.dumps(settings, indent=2, allow_nan=False).encode() + b"\n")


# --- opening a run --------------------------------------------------------------------


def begun(run: Path) -> bool:
    """Return whether a run has a checkpoint or weights, which other settings would not
    fit.
    """
    return any((run / CHECKPOINTS).glob("[0-9]*")) or (run / WEIGHTS).exists()


def open_run(
    run: Path, settings: dict[str, Any], fork: bool = False, earlier: str = ""
) -> dict[str, Any]:
    """Make the run's folder, or check that the existing one has the same settings.

    A run without a checkpoint takes any settings. Returns the settings with the
    recorded forks; they are written into a new folder at once, so that it is known as a
    run from the start.

    Args:
        run: the folder
        settings: what config.json is to hold
        fork: go on although settings have changed, and record the changes
        earlier: fingerprint that version 0.1.0 gave the same data, and wrote into its
            runs

    Raises ConfigError, having written nothing, where the folder is not a run or has
    other settings.
    """
    outputs.check_local(run, "out")
    exists = os.path.lexists(run / CONFIG)
    fresh = not (exists and begun(run))
    if not fresh:
        try:
            before = read_config(run, say)
            changed = changes(before, settings, earlier=earlier)
        except InputError as error:
            before, changed = {}, [str(error)]
        if changed and not fork:
            advice = "repeat its command, choose another folder, or add `fork`"
            other = f"holds a run of other settings ({'; '.join(changed)})"
            raise ConfigError("out", run, f"{other}; {advice}")
        settings = settings | {"forked": forks(before) + ([changed] if changed else [])}
    elif not exists and run.exists() and not _empty(run):
        raise ConfigError("out", run, "exists and is not a run of genjax; choose another folder")
    processes.meet("all have looked at the folder")
    if jax.process_index() == 0:
        try:
            run.mkdir(parents=True, exist_ok=True)
            lock(run)
            remove_leftovers(run)
            if fresh:
                write_config(run, settings)
        except OSError as error:
            raise ConfigError("out", run, f"cannot be written ({reason(error)})") from None
    processes.meet("the folder is there")
    return settings


def _empty(path: Path) -> bool:
    """Return whether a path is a folder without visible files."""
    return path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())


def forks(settings: dict[str, Any]) -> list[Any]:
    """Return the changes recorded in a config.json, one entry per fork."""
    recorded = settings.get("forked", [])
    return recorded if isinstance(recorded, list) else []


_locks: dict[Path, filelock.BaseFileLock] = {}  # that this process holds


def lock(run: Path) -> None:
    """Hold the folder until `unlock` or the end of this process, however it ends.

    Raises ConfigError if another process, or another run of this one, holds it.
    """
    file_lock = filelock.FileLock(run.absolute() / ".lock")
    try:
        file_lock.acquire(timeout=0)
    except filelock.Timeout:
        advice = "another process is training there; wait for it, or choose another folder"
        raise ConfigError("out", run, advice) from None
    except NotImplementedError:  # a file system without locks
        return
    _locks[run.absolute()] = file_lock


def unlock(run: Path) -> None:
    """Release the folder, so that this process can train there again."""
    if file_lock := _locks.pop(run.absolute(), None):
        file_lock.release()


# Settings that may differ: where the data are, the version that wrote them, earlier
# forks.
IRRELEVANT = ("genjax", "forked", "data.spec", "data.name")


def changes(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", earlier: str = ""
) -> list[str]:
    """Return what differs between settings, one phrase each.

    earlier: another fingerprint of the new data that is as good
    """
    phrases = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = prefix + key, old.get(key), new.get(key)
        after = list(after) if isinstance(after, tuple) else after
        if isinstance(before, dict) and isinstance(after, dict):
            phrases += changes(before, after, f"{name}.", earlier)
        elif name == "data.fingerprint":
            if before not in (after, earlier or after):
                phrases.append("the data are other images, or labelled otherwise")
        elif name == "data.classes" and before is None:  # version 0.1.0 did not write them
            continue
        elif name not in IRRELEVANT and before != after:
            phrases.append(f"{name} was {before}, is {after}")
    return phrases


def remove_leftovers(run: Path) -> None:
    """Remove temporary files of a killed training; call it while the folder's lock is
    held.
    """
    for folder in (run, run / "samples"):
        sweep(folder)
        for path in folder.glob(".*"):  # as version 0.1 named them
            names = r"\.(config\.json|model\.safetensors|metrics\.jsonl|\w+\.png)\.\d+"
            if re.fullmatch(names, path.name) and path.is_file():
                path.unlink()


def free_name(path: Path) -> Path:
    """Return `path`, or with -2, -3 ... appended where it exists."""
    numbered = (path.with_name(f"{path.name}-{count}") for count in itertools.count(2))
    names = itertools.chain([path], numbered)
    return next(name for name in names if not os.path.lexists(name))


# --- weights --------------------------------------------------------------------------


def export(run: Path, weights: Weights) -> None:
    """Write run/model.safetensors: the weights that sampling needs, by name, float32.

    Nothing is written where the file holds them already.
    """
    from safetensors.numpy import save as serialize

    arrays = {
        name: np.asarray(jax.device_get(leaf), order="C") for name, leaf in flatten(weights).items()
    }
    path, content = run / WEIGHTS, serialize(arrays, metadata={"format": "genjax"})
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def weights_id(weights: Weights) -> str:
    """Return the SHA-256 of names, shapes and values of weights: their identity."""
    digest = hashlib.sha256()
    for name, leaf in flatten(weights).items():
        array = np.asarray(jax.device_get(leaf), order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def read_weights(run: Path, like: Weights) -> Weights:
    """Read the weights of run/model.safetensors in the structure of `like`.

    Networks may be missing, as in weights that were converted for one direction only;
    the result lacks them then. Raises InputError if the file is missing or holds other
    weights.
    """
    return jax.tree.map(jnp.asarray, fitted(read_arrays(run), like, str(run / WEIGHTS)))


def read_arrays(run: Path) -> dict[str, np.ndarray]:
    """Read all arrays of run/model.safetensors by name. Raises InputError."""
    path = run / WEIGHTS
    if not path.is_file():
        advice = f"let the training finish, or give the `step` of one in {run / CHECKPOINTS}"
        raise InputError(f"{path}: no such file; {advice}")
    arrays = tensors.read(path)
    try:
        tensors.check_finite(arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return arrays


def fitted(arrays: dict[str, Any], like: Weights, origin: str) -> Weights:
    """Return arrays by path as the tree of `like`, in its dtypes; networks may be
    missing.

    Raises InputError, naming the array, where one is missing, not the model's, of
    another shape or kind, or not finite.
    """
    networks = {
        part: {name: tree for name, tree in trees.items() if _holds(arrays, part, name)}
        for part, trees in like.items()
    }
    networks = networks if networks["params"] else like
    leaves = flatten(networks)
    unflatten(networks, arrays, origin)
    if extra := sorted(arrays.keys() - leaves.keys()):
        advice = "it was written by another model or version"
        raise InputError(f"{origin}: {extra[0]!r} is not in this model; {advice}")
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


def transferred(state: State, run: Path) -> tuple[State, list[str]]:
    """Fill a new State with another run's weights where names and shapes are the same.

    The averages are filled too. Returns the State, and the names of the arrays that
    keep their own values. Raises ConfigError, for field `transfer`, if nothing fits.
    """
    if not (run / WEIGHTS).is_file():
        advice = "give the folder of a finished run, or of converted weights"
        raise ConfigError("transfer", run, f"no {WEIGHTS} there; {advice}")
    arrays, own = read_arrays(run), []

    def fill(part: str, trees: dict[str, PyTree]) -> dict[str, PyTree]:
        leaves = flatten(trees)
        given = {name: arrays.get(f"{part}/{name}") for name in leaves}
        fits = {
            name: array is not None
            and array.shape == leaves[name].shape
            and array.dtype.kind not in "biu"
            for name, array in given.items()
        }
        own.extend(f"{part}/{name}" for name, fit in fits.items() if not fit)
        filled = [
            jnp.asarray(given[name], leaf.dtype) if fits[name] else leaf
            for name, leaf in leaves.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(trees), filled)

    new = state.replace(params=fill("params", state.params), stats=fill("stats", state.stats))
    if len(own) == len(flatten(state.params)) + len(flatten(state.stats)):
        raise ConfigError("transfer", run, "none of its weights fit this model")
    return new.replace(ema={name: new.params[name] for name in state.ema}), own


def _holds(arrays: dict[str, Any], part: str, network: str) -> bool:
    return any(name.startswith(f"{part}/{network}/") for name in arrays)


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by path: {"params/enc/posterior/kernel": array, ...}.

    No structure, no code, so any reader can make sense of it.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(like: PyTree, leaves: dict[str, Any], origin: str) -> PyTree:
    """The tree of `like`'s structure with these leaves.

    Raises InputError naming the first that is missing or of another shape.
    """
    for name, leaf in flatten(like).items():
        if name not in leaves:
            advice = "it was written by another model or version"
            raise InputError(f"{origin}: holds no {name}; {advice}")
        if leaves[name].shape != leaf.shape:
            raise InputError(
                f"{origin}: {name} is {list(leaves[name].shape)}, the model's is {list(leaf.shape)}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in flatten(like)])
