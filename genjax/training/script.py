"""What the scripts in train/ share, from the command line to the trained weights. It knows no model: a script brings its recipe."""

import argparse
import contextlib
import dataclasses
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax import __version__, core, data
from genjax.core import Recipe
from genjax.errors import InputError, NotFinite, printable, reason
from genjax.runtime.shell import exit_with, guarded, parsed, say
from genjax.training import checkpoint, hooks, trainer

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every training script."""

    data: str = (
        "digits"  # digits | a folder or zip of images | .npz | a folder of idx files | tfds:NAME
    )
    out: Path | None = (
        None  # the run's folder; runs/MODEL if not given. The same command again resumes
    )
    steps: int = 5000  # optimizer steps in all
    batch_size: int = 128  # images a step, over all devices
    seed: int = 0  # of the weights, the order of the data and all noise
    dtype: str = "float32"  # float32 | bfloat16, of the computation
    split: str = "train"  # which part of the data, where it has parts
    resolution: tuple[
        int, ...
    ] = ()  # SIZE, or HEIGHT WIDTH, to resize to; the images' own or commonest size if not given
    crop: str = "center"  # center | none (stretch) | whole (left out): how other shapes are brought to the resolution
    channels: int = 0  # 1, 3 or 4; 0: 1 if all images are grey, else 3
    random_crop: tuple[
        int, ...
    ] = ()  # SIZE, or HEIGHT WIDTH, cut out of each image at a random place, each time anew
    flip: bool = False  # mirror each image left to right with probability 1/2
    max_bad: float = 0.01  # share of unreadable files that is skipped
    resident_mb: float = (
        1024  # sets of up to this many decoded MB stay on the device; larger ones stream
    )
    log_every: int = 200  # steps between log rows
    sample_every: int = 1000  # steps between sample grids
    save_every: int = 1000  # steps between checkpoints
    keep: int = 2  # newest checkpoints kept, beside the best
    keep_every: int = 0  # steps: checkpoints at multiples of this are kept for good; 0: none. A multiple of --save-every
    eval_every: int = 0  # steps between measurements of the samples' distance to the data, by which the best is kept; 0: none
    eval_images: int = 2048  # samples that are measured
    eval_extractor: str = "inception"  # whose features: it, vgg16, alexnet, resnet20, resnet32 or lenet, read from GENJAX_WEIGHTS, or pixels
    transfer: Path | None = (
        None  # start from the weights of this run, or of converted ones, where they fit
    )
    fork: bool = False  # go on from the folder's checkpoint although settings have changed
    tensorboard: bool = False  # write OUT/tensorboard too
    distributed: str = (
        ""  # several processes: auto (SLURM, Cloud TPU, Open MPI) | ADDRESS:PORT,COUNT,INDEX
    )


def main(
    arguments: type[T],
    run: Callable[[T], int],
    presets: dict[str, T] | None = None,
    larger: str = "",
) -> None:
    """Parse the command line and run. Bad input ends in one line on standard error and exit code 2.

    `presets`: the defaults of all options by the name given as --preset, "" being those without it. `larger`: those to name where pictures
    are given without one, whose networks are sized for the embedded digits.
    """
    import tyro

    def parse() -> T:
        preset = chosen(presets or {}, sys.argv[1:])
        return tyro.cli(arguments) if preset is None else tyro.cli(arguments, default=preset)

    args: Any = parsed(parse)
    if larger and not args.preset and (args.data != "digits" or getattr(args, "data_a", "")):
        print(
            f"{Path(sys.argv[0]).name}: these networks are sized for the embedded digits; for pictures there is {larger}",
            file=sys.stderr,
        )
    exit_with(guarded(lambda: run(args)))


def chosen(presets: dict[str, T], argv: list[str]) -> T | None:
    """The preset that a command line names; None where there are none. An unknown name ends in one line and exit code 2."""
    if not presets:
        return None
    option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    option.add_argument(
        "--preset", default="", nargs="?"
    )  # with nothing after it: tyro will say so
    name = option.parse_known_args(argv)[0].preset or ""
    if name not in presets:
        print(f"--preset {name}: one of {', '.join(filter(None, presets))}", file=sys.stderr)
        raise SystemExit(2)
    return presets[name]


def load_data(options: Options) -> data.Source:
    """Begin, and open the data set. Raises InputError."""
    begin(options)
    return open_set(options, options.data)


def begin(options: Options) -> None:
    """Check the options and join the other processes, if there are any. Raises InputError on a value that means nothing for any data."""
    for field in ("steps", "batch_size", "log_every", "sample_every", "save_every", "keep"):
        if getattr(options, field) < 1:
            raise InputError(
                f"--{field.replace('_', '-')} {getattr(options, field)}: must be at least 1"
            )
    if not 0 <= options.seed < 2**32:
        raise InputError(f"--seed {options.seed}: must be from 0 to 2^32 - 1")
    if not 0 <= options.resident_mb < math.inf:
        raise InputError(f"--resident-mb {options.resident_mb}: 0 or more, in units of 2^20 bytes")
    if options.channels not in (0, 1, 3, 4):
        raise InputError(f"--channels {options.channels}: one of 0 (as the data), 1, 3, 4")
    for field in ("resolution", "random_crop"):
        sizes = getattr(options, field)
        if len(sizes) > 2 or any(size < 1 for size in sizes):
            name = field.replace("_", "-")
            raise InputError(
                f"--{name} {' '.join(map(str, sizes))}: one size, or a height and a width, of at least 1"
            )
    if (
        options.eval_every < 0
        or options.eval_every % options.log_every
        or options.eval_every % options.save_every
    ):
        raise InputError(
            f"--eval-every {options.eval_every}: a multiple of --log-every and of --save-every, or 0"
        )
    if options.keep_every < 0 or options.keep_every % options.save_every:
        raise InputError(
            f"--keep-every {options.keep_every}: a multiple of --save-every {options.save_every}, or 0"
        )
    if options.eval_images < 2:
        raise InputError(f"--eval-images {options.eval_images}: must be at least 2")
    if options.distributed:
        join(options.distributed)


def open_set(options: Options, spec: str, option: str = "--data", **changes: Any) -> data.Source:
    """The data set of a SPEC that came with `option`, as the options have it but for `changes` (data.load's). Raises InputError."""
    arguments: dict[str, Any] = {
        "split": options.split,
        "resolution": pair(options.resolution),
        "channels": options.channels or None,
        "crop": options.crop,
        "max_bad": options.max_bad,
        "resident_mb": options.resident_mb,
    }
    field = option.removeprefix("--").replace("-", "_")
    source = data.load(spec, field=field, **(arguments | changes))
    crop = pair(options.random_crop)
    if crop and (crop[0] > source.shape[0] or crop[1] > source.shape[1]):
        raise InputError(
            f"--random-crop {crop[0]} {crop[1]}: the images of {option} are {source.shape[0]}x{source.shape[1]}"
        )
    return source


def pair(sizes: tuple[int, ...]) -> tuple[int, int] | None:
    """(height, width) of one or two numbers, None of none."""
    return (sizes[0], sizes[-1]) if sizes else None


def configured(config: Any, source: data.Source, options: Options) -> Any:
    """A model's Config with what the data and the shared options say of it. Raises InputError where `--model.FIELD` says otherwise."""
    shape = (*(pair(options.random_crop) or source.shape[:2]), source.shape[2])
    given = {
        "shape": shape,
        "num_labels": source.num_labels,
        "batch_size": options.batch_size,
        "dtype": options.dtype,
    }
    given = {
        field: value for field, value in given.items() if hasattr(config, field)
    }  # a model may have no use for labels
    for field, value in given.items():
        if getattr(config, field) not in (value, getattr(type(config)(), field)):
            advice = (
                "comes from the data"
                if field in ("shape", "num_labels")
                else f"use --{field.replace('_', '-')}"
            )
            raise InputError(
                f"--model.{field.replace('_', '-')} {getattr(config, field)}: {advice}"
            )
    if source.num_labels and getattr(config, "conditional", "none") in ("none", False):
        use = "; --model.conditional makes it" if hasattr(config, "conditional") else ""
        say(f"the data have {source.num_labels} labels, which the model does not use{use}")
    return dataclasses.replace(config, **given)


JOIN_SECONDS, MEET_SECONDS = (
    300,
    1800,
)  # for how long other processes are waited for: to begin, and where all must be at one point


def join(distributed: str) -> None:
    """Become one of several processes that train together. Raises InputError; ends with exit code 2 where the others do not come."""
    advice = "auto under SLURM, Cloud TPU or Open MPI, else ADDRESS:PORT,COUNT,INDEX"
    longer = JOIN_SECONDS + 60  # JAX's own end of waiting is an abort with a trace
    try:
        if distributed == "auto":
            with waiting("the other processes of --distributed auto", JOIN_SECONDS):
                jax.distributed.initialize(initialization_timeout=longer)
            return
        if not (form := re.fullmatch(r"(.+:\d+),(\d+),(\d+)", distributed)):
            raise ValueError("not of that form")
        address, count, index = form[1], int(form[2]), int(form[3])
        if not index < count:
            raise ValueError(f"INDEX {index} is not from 0 to {count - 1}")
        with waiting(
            f"the other {count - 1} processes at {address}"
            if index == 0
            else f"process 0 at {address}",
            JOIN_SECONDS,
        ):
            jax.distributed.initialize(address, count, index, initialization_timeout=longer)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--distributed {distributed}: {reason(error)}; {advice}") from None


def meet(what: str) -> None:
    """Wait until all processes have done `what`; ends with exit code 2 after MEET_SECONDS."""
    if jax.process_count() > 1:
        with waiting(f"the other {jax.process_count() - 1} processes: {what}", MEET_SECONDS):
            multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def waiting(whom: str, most: float) -> Iterator[None]:
    """Say whom is waited for if this takes more than some seconds; end the process after `most`, since the wait itself cannot be ended."""

    def say_so():
        print(f"waiting for {whom}, at most {most:g} s", file=sys.stderr, flush=True)

    def give_up():
        print(
            f"{Path(sys.argv[0]).name}: waited {most:g} s in vain for {whom}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)

    timers = [threading.Timer(min(5.0, most / 2), say_so), threading.Timer(most, give_up)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def train(
    model: str, recipe: Recipe, config: Any, source: data.Source, options: Options, best: str = ""
) -> int:
    """Train `recipe`, or go on with it, in the run's folder; returns the exit code. `best`: the log row's loss by which the best is kept."""
    run = options.out or Path("runs") / model
    settings = {
        "genjax": __version__,
        "model": model,
        "config": dataclasses.asdict(config),
        "data": {
            "spec": options.data,
            "name": source.name,
            "fingerprint": source.fingerprint,
            "flip": options.flip,
        },
        "seed": options.seed,
    }
    if source.classes:
        settings["data"]["classes"] = list(source.classes)
    crop = pair(options.random_crop)
    if crop:
        settings["data"]["random_crop"] = list(crop)
    if options.transfer:
        settings["transfer"] = str(options.transfer)
    mesh = trainer.data_mesh()
    trainer.check_batches(recipe, mesh, 0, options.steps)
    measured, best = evaluation(recipe, source, options) if options.eval_every else ([], best)
    start = (
        transfer(recipe, options, mesh) if options.transfer and not begun(run) else None
    )  # before anything is written
    settings = open_run(run, settings, options, source.earlier)
    manager = checkpoint.manager(run, options.keep, best, options.keep_every)
    state = checkpoint.restore(manager, trainer.abstract_state(recipe, options.seed, mesh)) or start
    if jax.process_index() == 0:
        checkpoint.write_config(run, settings)  # not before the checkpoint is known to fit them
    first = int(jax.device_get(state.step)) if state is not None else 0
    batch = first_images(source, mesh, crop)
    grids = hooks.samples(recipe, run / "samples", options.sample_every, batch, options.seed)
    drawn = (
        first % options.sample_every == 0 or first % options.save_every or first >= options.steps
    )  # the latter: where a run ended
    if first and drawn and hooks.samples_missing(recipe, run / "samples", first, state, batch):
        grids.run(hooks.Event(first, options.steps, state, {}))
    if state is not None and first >= options.steps:
        if (
            jax.process_index() == 0
        ):  # it may have been killed before they were, beside those of an earlier SIGTERM
            checkpoint.export(run, core.weights(state))
        say(f"{run} is finished: {first} steps are done; give more --steps to go on")
        return 0
    ends = getattr(config, "constant_steps", 0) + getattr(config, "decay_steps", 0)
    if getattr(config, "decay_steps", 0) and ends < options.steps:
        say(
            f"learning rates are 0 from step {ends} on: with --steps {options.steps} give --model.decay-steps, too"
        )
    begins = f"{'resuming' if first else 'training'} {run}: step {first} of {options.steps}, on {describe_devices()}"
    say(source.name, begins)
    with hooks.progress(options.log_every, first, options.steps) as shown:
        written = []
        if jax.process_index() == 0:
            written.append(hooks.jsonl(run / "metrics.jsonl", options.log_every, first))
            written += (
                [hooks.tensorboard(run / "tensorboard", options.log_every)]
                if options.tensorboard
                else []
            )
        written += [hooks.save(manager, options.save_every, best), grids]
        try:
            result = trainer.fit(
                recipe,
                source,
                steps=options.steps,
                seed=options.seed,
                state=state,
                mesh=mesh,
                log_every=options.log_every,
                flip=options.flip,
                crop=crop,
                hooks=[*measured, *shown, *written],
            )
        except NotFinite as error:
            advice = f"The same command with --steps {error.step - 1} goes to the step before, and saves it"
            say(
                f"stopped: {error}. {advice if error.step > 1 else 'No step was whole: look at the data, or lower the rates'}"
            )
            return 1
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            what, advice = trainer.thrift(recipe, options.batch_size)
            raise InputError(
                f"{what} more memory than there is ({reason(error)}); {advice}"
            ) from None
        finally:
            manager.wait_until_finished()
    step = int(jax.device_get(result.state.step))
    if jax.process_index() == 0 and step:
        checkpoint.export(run, core.weights(result.state))
    manager.close()
    if result.stopped:
        then = (
            "saved; the same command resumes"
            if step
            else "before any was done; the same command starts again"
        )
        say(f"stopped by {result.stopped} at step {step} of {options.steps}, {then}")
        return 130 if result.stopped == "SIGINT" else 143
    use = (
        f"sample {run} --n 64 --out grid.png"
        if hasattr(recipe, "sample")
        else f"translate {run} PICTURES --out DIR"
    )
    say(f"done: {run / checkpoint.WEIGHTS}; genjax {use}")
    return 0


def evaluation(
    recipe: Recipe, source: data.Source, options: Options
) -> tuple[list[hooks.Hook], str]:
    """The hook of --eval-every, and the name of what it puts into log rows. Raises InputError."""
    from genjax.metrics import evaluation, extractors, sets

    if not hasattr(recipe, "sample"):
        raise InputError(
            f"--eval-every {options.eval_every}: the model draws no images of its own; leave it out"
        )
    if options.random_crop:
        raise InputError(
            "--eval-every with --random-crop: samples would be compared with whole images; leave one out"
        )
    if options.eval_extractor not in (*extractors.TABLE, "pixels"):
        raise InputError(
            f"--eval-extractor {options.eval_extractor}: one of {', '.join(extractors.TABLE)}, pixels"
        )
    if options.eval_images < evaluation.FEW:
        say(
            f"--eval-images {options.eval_images}: a distance of so few is biased upwards; compare it with its like alone"
        )
    extractor = extractors.extractor(options.eval_extractor)
    real = sets.open_set(source, option="--data")
    classes = sets.class_labels(recipe, options.eval_images, options.seed, real)
    name, measure = (
        f"eval/{extractor.frechet_name}",
        evaluation.distance_to(real, extractor, progress()),
    )
    return [
        hooks.evaluation(
            recipe, options.eval_every, name, measure, options.eval_images, options.seed, classes
        )
    ], name


def transfer(recipe: Recipe, options: Options, mesh: Mesh) -> core.State:
    """A State to start from with the weights of another run. Raises InputError."""
    assert options.transfer
    everywhere = NamedSharding(mesh, PartitionSpec())
    fresh = jax.device_get(trainer.first_state(recipe, jax.random.key(options.seed)))
    state, own = checkpoint.transferred(fresh, options.transfer)
    others = (
        f"; not there, or of other shapes: {', '.join(own[:3])}{f' and {len(own) - 3} more' if len(own) > 3 else ''}"
        if own
        else ""
    )
    say(f"weights from {options.transfer}{others}")
    return jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=everywhere)(state)


def first_images(
    source: data.Source, mesh: Mesh, crop: tuple[int, int] | None = None, count: int = 32
) -> core.Batch:
    """The set's first images as a batch on all devices, for previews; of two sets the first ones of each."""
    items = data.gather(source, np.arange(min(count, source.size)))
    if source.partner is not None:
        items |= data.with_suffix(
            data.gather(source.partner, np.arange(min(count, source.partner.size)))
        )
    everywhere = NamedSharding(mesh, PartitionSpec())
    raw = {name: trainer.to_devices(array, everywhere) for name, array in items.items()}
    return jax.jit(
        lambda raw: data.prepare(raw, jax.random.key(0), False, crop), out_shardings=everywhere
    )(raw)


def begun(run: Path) -> bool:
    """Whether a run has anything that other settings would not fit: a checkpoint, or weights."""
    return any((run / checkpoint.CHECKPOINTS).glob("[0-9]*")) or (run / checkpoint.WEIGHTS).exists()


def open_run(
    run: Path, settings: dict[str, Any], options: Options, earlier: str = ""
) -> dict[str, Any]:
    """Make the run's folder, or check that the one there is of the same settings. Raises InputError, having written nothing.

    A run that has no checkpoint yet takes any settings. Returns the settings with the forks on record; a new folder has them already,
    so that it is known as a run from the start. earlier: the fingerprint that version 0.1.0 gave the same data, which its runs hold.
    """
    known = os.path.lexists(run / checkpoint.CONFIG)
    fresh = not (known and begun(run))
    if not fresh:
        try:
            before = checkpoint.read_config(run)
            changed = changes(before, settings, earlier=earlier)
        except InputError as error:
            before, changed = {}, [str(error)]
        if changed and not options.fork:
            advice = "repeat its command, choose another folder, or add --fork"
            raise InputError(
                f"--out {run}: holds a run of other settings ({'; '.join(changed)}); {advice}"
            )
        settings = settings | {"forked": forks(before) + ([changed] if changed else [])}
    elif (
        not known
        and run.exists()
        and (not run.is_dir() or any(not path.name.startswith(".") for path in run.iterdir()))
    ):
        raise InputError(f"--out {run}: exists and is no run of genjax; choose another folder")
    meet("all have looked at the folder")
    if jax.process_index() == 0:
        try:
            run.mkdir(parents=True, exist_ok=True)
            lock(run)
            checkpoint.remove_leftovers(run)
            if fresh:
                checkpoint.write_config(run, settings)
        except OSError as error:
            raise InputError(f"--out {run}: cannot be written ({reason(error)})") from None
    meet("the folder is there")
    return settings


def forks(settings: dict[str, Any]) -> list[Any]:
    """The changes on record in a config.json, by fork."""
    found = settings.get("forked", [])
    return found if isinstance(found, list) else []


_locks: list[filelock.BaseFileLock] = []  # of this process


def lock(run: Path) -> None:
    """Hold the folder until this process ends, however it ends. Raises InputError if another one does."""
    held = filelock.FileLock(run.absolute() / ".lock")
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"--out {run}: another process is training there; wait for it, or choose another folder"
        ) from None
    except NotImplementedError:  # a file system without locks
        return
    _locks.append(held)


def changes(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", earlier: str = ""
) -> list[str]:
    """What differs, a phrase each; where the data lies, the version that wrote it and earlier forks do not matter.

    earlier: another fingerprint of the new data that is as good.
    """
    found = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = prefix + key, old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{name}.", earlier)
        elif name == "data.fingerprint":
            if before not in (after, earlier or after):
                found.append("the data are other images, or labelled otherwise")
        elif name == "data.classes" and before is None:  # version 0.1.0 did not write them
            continue
        elif name not in ("genjax", "forked", "data.spec", "data.name") and before != (
            list(after) if isinstance(after, tuple) else after
        ):
            found.append(f"{name} was {before}, is {after}")
    return found


def progress() -> Callable[..., Any]:
    """A function of (batches, how many, of what) that gives the batches with a bar on standard error, in the first process."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, quiet=jax.process_index() > 0)

    def track(batches, total, name):
        # Names come from files: [red] and :smile: in them are no markup.
        text = TextColumn("{task.description}", markup=False)
        with Progress(
            text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
        ) as bar:
            yield from bar.track(batches, total, description=printable(name, 60))

    return track


def describe_devices() -> str:
    """E.g. "1 cpu" or "8 NVIDIA H100 in 2 processes"."""
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} {jax.devices()[0].device_kind}{several}"
