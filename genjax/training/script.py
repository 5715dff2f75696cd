"""What training commands share, from the options to the trained weights.

Knows no model.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax import __version__, core, data
from genjax.core import Recipe
from genjax.errors import ConfigError, NotFinite, printable, reason
from genjax.runtime import processes, xla
from genjax.runtime.shell import say
from genjax.training import checkpoint, dry_run, run_folder, trainer
from genjax.training import hooks as library
from genjax.training.command_line import DERIVED
from genjax.training.options import Options

PREVIEW_IMAGES = 32  # of the data, for previews


class Model(Protocol):
    """A model's module."""

    __name__: str
    check: Callable[[Any], None]
    recipe: Callable[[Any], Any]


class Trained(NamedTuple):
    """What `train` returns."""

    state: core.State
    step: int
    stopped: str  # the signal that ended it early; "" if it ran to its end


def run(
    args: Any,
    module: Model,
    *,
    source: Callable[[Any], data.Source] | None = None,
    named: Callable[[Any], str] = lambda args: args.data,
    complete: Callable[[Any], Any] = lambda config: config,
    best: str = "",
) -> int:
    """Train the model of a module with these arguments; return the exit code.

    Args:
        args: Options with a field `model`, the model's Config
        module: with `check` and `recipe`, such as `genjax.models.vae`
        source: opens the data; None opens --data
        named: SPEC of the data for config.json, from the arguments
        complete: fills in what a Config leaves open, once shape and batch size are
            known
        best: metric of the log rows whose lowest value marks the best checkpoint

    Raises ConfigError for bad options, before the data are read where possible.
    """
    early = {name: getattr(args, name) for name in ("batch_size", "dtype")}
    if "conditional" in _names(args.model):
        early["conditional"] = "none"
    module.check(complete(dataclasses.replace(args.model, **early)))
    opened = (source or load_data)(args)
    config = complete(configured(args.model, opened, args))
    name = module.__name__.rpartition(".")[2]
    try:
        options = dataclasses.replace(args, data=named(args))
        trained = train(name, module.recipe(config), opened, options, best)
    except NotFinite as error:
        advice = "No step was finite: look at the data, or lower the learning rates"
        if error.step > 1:
            advice = f"The same command with --steps {error.step - 1} stops and saves before it"
        say(f"stopped: {error}. {advice}")
        return 1
    if trained.stopped:
        saved = "saved; the same command resumes"
        saved = saved if trained.step else "before any was done; the same command starts again"
        say(f"stopped by {trained.stopped} at step {trained.step} of {args.steps}, {saved}")
        return 130 if trained.stopped == "SIGINT" else 143
    return 0


# --- options --------------------------------------------------------------------------


def load_data(options: Options) -> data.Source:
    """Check the options, join other processes, and open --data. Raises ConfigError."""
    begin(options)
    return open_set(options, options.data)


def begin(options: Options) -> None:
    """Check the options and join the other processes, if there are any.

    Raises ConfigError for a value that makes no sense for any data.
    """
    for field in ("steps", "batch_size", "log_every", "sample_every", "save_every", "keep"):
        _demand(options, getattr(options, field) >= 1, field, "must be at least 1")
    _demand(options, 0 <= options.seed < 2**32, "seed", "must be from 0 to 2^32 - 1")
    resident = 0 <= options.resident_mb < math.inf
    _demand(options, resident, "resident_mb", "must be at least 0, in units of 2^20 bytes")
    channels = options.channels in (0, 1, 3, 4)
    _demand(options, channels, "channels", "one of 0 (as the data), 1, 3, 4")
    for field in ("resolution", "random_crop"):
        sizes = getattr(options, field)
        if len(sizes) > 2 or any(size < 1 for size in sizes):
            advice = "one size, or a height and a width, of at least 1"
            raise ConfigError(field, " ".join(map(str, sizes)), advice)
    every, save = options.eval_every, options.save_every
    regular = every >= 0 and every % options.log_every == 0 and every % save == 0
    _demand(options, regular, "eval_every", "a multiple of `log_every` and of `save_every`, or 0")
    multiple = options.keep_every >= 0 and options.keep_every % save == 0
    _demand(options, multiple, "keep_every", f"a multiple of `save_every` {save}, or 0")
    _demand(options, options.eval_images >= 2, "eval_images", "must be at least 2")
    fits = 0 <= options.profile < options.steps
    _demand(options, fits, "profile", "a number of steps below `steps`, or 0 for none")
    if options.deterministic:
        xla.deterministic()
    if options.distributed:
        processes.join(options.distributed)


def _demand(options: Options, ok: bool, field: str, advice: str) -> None:
    if not ok:
        raise ConfigError(field, getattr(options, field), advice)


def open_set(options: Options, spec: str, field: str = "data", **changes: Any) -> data.Source:
    """Open the data set of a SPEC as the options say. Raises ConfigError.

    field: the option that the SPEC was given as
    changes: arguments of `data.load` that differ from the options
    """
    arguments: dict[str, Any] = {
        "split": options.split,
        "resolution": pair(options.resolution),
        "channels": options.channels or None,
        "crop": options.crop,
        "random_crop": pair(options.random_crop),
        "flip": options.flip,
        "max_bad": options.max_bad,
        "resident_mb": options.resident_mb,
    }
    return data.load(spec, field=field, **(arguments | changes))


def pair(sizes: tuple[int, ...]) -> tuple[int, int] | None:
    """Return (height, width) of one or two numbers, None of none."""
    return (sizes[0], sizes[-1]) if sizes else None


def configured(config: Any, source: data.Source, options: Options) -> Any:
    """Return a Config with what follows from the data and the options.

    Raises ConfigError where the Config itself says otherwise.
    """
    derived = {
        "shape": source.shape,
        "num_labels": source.num_labels,
        "batch_size": options.batch_size,
        "dtype": options.dtype,
    }
    names, default = _names(config), type(config)()
    derived = {field: derived[field] for field in DERIVED if field in names}
    for field, value in derived.items():
        if getattr(config, field) not in (value, getattr(default, field)):
            from_data = field in ("shape", "num_labels")
            advice = "comes from the data" if from_data else f"use the option `{field}`"
            raise ConfigError(f"model.{field}", getattr(config, field), advice)
    if source.num_labels and ("conditional" not in names or config.conditional == "none"):
        use = "; --model.conditional uses them" if "conditional" in names else ""
        say(f"the data have {source.num_labels} labels, which the model does not use{use}")
    return dataclasses.replace(config, **derived)


def _names(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


# --- training -------------------------------------------------------------------------


def train(
    model: str,
    recipe: Recipe,
    source: data.Source,
    options: Options,
    best: str = "",
    hooks: Sequence[trainer.Hook] = (),
) -> Trained:
    """Train a recipe in the run's folder, or resume there.

    Args:
        model: its name, a key of `models.RECIPES`
        recipe: the model
        source: the data
        options: of the run
        best: metric of the log rows whose lowest value marks the best checkpoint
        hooks: more hooks, run after the evaluation

    Raises ConfigError where folder, batch, memory or data do not fit; NotFinite.
    """
    run, mesh = options.out or Path("runs") / model, trainer.data_mesh()
    settings = settings_of(model, recipe, source, options)
    trainer.check_batches(recipe, mesh, 0, options.steps)
    measured: list[trainer.Hook] = []
    if options.eval_every:
        measured, best = evaluation(recipe, source, options)

    abstract = trainer.abstract_state(recipe, options.seed, mesh)
    if options.dry_run:
        introduce(recipe, abstract, run, 0, source, options)
        dry_run.describe(recipe, abstract, source, options, run, mesh)
        return Trained(abstract, 0, "")

    # The first state: of a checkpoint, of another run's weights, or a new one.
    start = None
    if options.transfer and not run_folder.begun(run):
        start = transfer(recipe, options, mesh)  # before anything is written
    settings = run_folder.open_run(run, settings, options.fork, source.earlier)
    try:
        manager = checkpoint.manager(run, options.keep, best, options.keep_every)
        state = checkpoint.restore(manager, abstract) or start
        if jax.process_index() == 0:  # not before the checkpoint is known to fit them
            run_folder.write_config(run, settings)
        first = int(jax.device_get(state.step)) if state is not None else 0

        # Sample grids, also those that an earlier kill prevented.
        batch = first_images(source, mesh)
        grids = library.samples(recipe, run / "samples", options.sample_every, batch, options.seed)
        ended = first % options.save_every or first >= options.steps  # where a run ended
        regular = first % options.sample_every == 0
        due = first > 0 and bool(regular or ended)
        folder = run / "samples"
        if state and due and library.samples_missing(recipe, folder, first, state, batch):
            grids.run(trainer.Event(first, options.steps, state, {}))

        if state is not None and first >= options.steps:
            if jax.process_index() == 0:  # an earlier process may have been killed before this
                run_folder.export(run, core.weights(state))
            say(f"{run} is finished: {first} steps are done; give more --steps to continue")
            return Trained(state, first, "")
        introduce(recipe, abstract, run, first, source, options)
        after: list[trainer.Hook] = []
        if jax.process_index() == 0:
            after.append(library.jsonl(run / "metrics.jsonl", options.log_every, first))
            if options.tensorboard:
                after.append(library.tensorboard(run / "tensorboard", options.log_every))
            if options.profile:
                traced = (run / "profile", options.profile, first, options.steps)
                after.append(library.profile(*traced))
        after += [library.save(manager, options.save_every, best), grids]
        try:
            result = loop(recipe, source, options, state, mesh, [*measured, *hooks], after)
        finally:
            manager.wait_until_finished()
        step = int(jax.device_get(result.state.step))
        if jax.process_index() == 0 and step:
            run_folder.export(run, core.weights(result.state))
        manager.close()
    finally:
        run_folder.unlock(run)
    if not result.stopped:
        use = f"sample {run} --n 64 --out grid.png"
        use = use if recipe.sampler else f"translate {run} PICTURES --out DIR"
        say(f"done: {run / run_folder.WEIGHTS}; genjax {use}")
    return Trained(result.state, step, result.stopped)


def settings_of(
    model: str, recipe: Recipe, source: data.Source, options: Options
) -> dict[str, Any]:
    """Return what config.json holds."""
    about: dict[str, Any] = {
        "spec": options.data,
        "name": source.name,
        "fingerprint": source.fingerprint,
        "flip": source.flip,
    }
    if source.classes:
        about["classes"] = list(source.classes)
    if source.random_crop:
        about["random_crop"] = list(source.random_crop)
    settings = {
        "genjax": __version__,
        "model": model,
        "config": dataclasses.asdict(recipe.config),
        "data": about,
        "seed": options.seed,
    }
    if options.transfer:
        settings["transfer"] = str(options.transfer)
    return settings


def introduce(
    recipe: Recipe,
    abstract: core.State,
    run: Path,
    first: int,
    source: data.Source,
    options: Options,
) -> None:
    """Print what is about to happen: the data, the networks, the run."""
    config, names = recipe.config, _names(recipe.config)
    if "decay_steps" in names and config.decay_steps:
        end = config.decay_steps + (config.constant_steps if "constant_steps" in names else 0)
        if end < options.steps:
            advice = f"with --steps {options.steps} give --model.decay-steps, too"
            say(f"learning rates are 0 from step {end} on: {advice}")
    counts = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for name, tree in abstract.params.items()
    }
    sizes = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    begins = f"{'resuming' if first else 'training'} {run}: step {first} of {options.steps}"
    say(source.name, f"parameters: {sizes}", f"{begins}, on {describe_devices()}")


def loop(
    recipe: Recipe,
    source: data.Source,
    options: Options,
    state: core.State | None,
    mesh: Mesh,
    before: Sequence[trainer.Hook],
    after: Sequence[trainer.Hook],
) -> trainer.Result:
    """Train with hooks that run before and after those of the progress bar.

    Raises ConfigError where memory runs out.
    """
    first = int(jax.device_get(state.step)) if state is not None else 0
    with library.progress(options.log_every, first, options.steps) as shown:
        try:
            return trainer.fit(
                recipe,
                source,
                steps=options.steps,
                seed=options.seed,
                state=state,
                mesh=mesh,
                log_every=options.log_every,
                hooks=[*before, *shown, *after],
            )
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            needed = f"more memory than there is ({reason(error)})"
            raise trainer.too_large(options.batch_size, needed) from None


def evaluation(
    recipe: Recipe, source: data.Source, options: Options
) -> tuple[list[trainer.Hook], str]:
    """Return the hook of --eval-every, and the name of its entry in log rows.

    Raises ConfigError.
    """
    from genjax.metrics import evaluation, extractors, sets

    every, name, count = options.eval_every, options.eval_extractor, options.eval_images
    if recipe.sampler is None:
        advice = "the model draws no images of its own; leave it out"
        raise ConfigError("eval_every", every, advice)
    if source.random_crop:
        advice = "not with `random_crop`: samples would be compared with uncropped images"
        raise ConfigError("eval_every", every, advice)
    if name not in (*extractors.TABLE, "pixels"):
        known = ", ".join(extractors.TABLE)
        raise ConfigError("eval_extractor", name, f"one of {known}, pixels")
    if count < evaluation.FEW:
        advice = "a distance of so few is biased upwards; compare it with equal counts only"
        say(f"--eval-images {count}: {advice}")
    extractor = extractors.extractor(name)
    real = sets.open_set(source, field="data")
    classes = sets.class_labels(recipe.sampler, count, options.seed, real)
    entry = f"eval/{extractor.frechet_name}"
    measure = evaluation.distance_to(real, extractor, progress())
    names = _names(recipe.config)
    slices = recipe.config.accumulate if "accumulate" in names else 1
    size = min(64, options.batch_size // slices)  # no more at once than a step has
    arguments = (recipe, every, entry, measure, count, options.seed, classes, size)
    return [library.evaluation(*arguments)], entry


def transfer(recipe: Recipe, options: Options, mesh: Mesh) -> core.State:
    """Return a State to start from with the weights of another run.

    Raises ConfigError.
    """
    assert options.transfer
    everywhere = NamedSharding(mesh, PartitionSpec())
    fresh = jax.device_get(trainer.first_state(recipe, jax.random.key(options.seed)))
    state, new = run_folder.transferred(fresh, options.transfer)
    more = f" and {len(new) - 3} more" if len(new) > 3 else ""
    missing = f"; missing there, or of other shapes: {', '.join(new[:3])}{more}" if new else ""
    say(f"weights from {options.transfer}{missing}")
    return jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=everywhere)(state)


def first_images(source: data.Source, mesh: Mesh, count: int = PREVIEW_IMAGES) -> core.Batch:
    """Return the first images of the data as a batch on all devices, for previews.

    Of two sets, the first ones of each; not mirrored.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    items = data.first_items(source, count)
    raw = {name: trainer.to_devices(array, everywhere) for name, array in items.items()}
    prepare = lambda raw: source._replace(flip=False).prepare(raw, jax.random.key(0))
    return jax.jit(prepare, out_shardings=everywhere)(raw)


def progress() -> Callable[..., Any]:
    """Return (batches, total, name) -> the batches, with a bar on standard error."""
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
        # Names come from files: [red] and :smile: in them are not markup.
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            yield from bar.track(batches, total, description=printable(name, 60))

    return track


def describe_devices() -> str:
    """Return for example "1 cpu" or "8 NVIDIA H100 in 2 processes"."""
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} {jax.devices()[0].device_kind}{several}"
