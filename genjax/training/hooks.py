"""Hooks of the trainer: log rows, a progress bar, sample grids, checkpoints.

`every(n, fn)` makes any function a hook.
"""

import contextlib
import datetime
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import core, target
from genjax.core import Batch, Recipe, State
from genjax.errors import ConfigError
from genjax.files import grids, outputs
from genjax.nn import ops
from genjax.training import checkpoint, run_folder
from genjax.training.trainer import Event, Hook


def every(n: int, fn: Callable[[Event], dict[str, float] | None], *, at_end: bool = False) -> Hook:
    """Run `fn(event)` at the multiples of `n` steps; what it returns is added to the
    row.
    """
    return Hook(n, fn, at_end)


def jsonl(path: Path, n: int, resumed_at: int = 0) -> Hook:
    """Append each log row to a file.

    Rows past `resumed_at`, of steps that will be done again, and damaged lines are
    dropped first (`mend_rows`).
    """
    mend_rows(path, resumed_at)

    def write(event):
        with outputs.naming(path), path.open("a") as file:
            file.write(json.dumps(event.row) + "\n")

    return every(n, write, at_end=True)


LONGEST_ROW = 2**16  # bytes; rows have some hundreds


def mend_rows(path: Path, last: int) -> None:
    """Drop the rows of a log past step `last`, and damaged lines, with a warning.

    What is not a regular file is moved aside.
    """
    if not os.path.lexists(path):
        return
    if not path.is_file():  # a folder, a device, a pipe, a broken link
        os.replace(path, run_folder.free_name(path.with_name(f"damaged-{path.name}")))
        return
    dropped, complete = 0, True
    with (
        outputs.replacing(path) as temporary,
        path.open("rb") as file,
        temporary.open("wb") as mended,
    ):
        while line := file.readline(LONGEST_ROW):
            begins, complete = (
                complete,
                line.endswith(b"\n"),
            )  # a longer line comes in several pieces
            step = _step(line) if begins else None
            if step is None:
                dropped += begins
            elif step <= last:
                mended.write(line.rstrip(b"\n") + b"\n")
    if dropped > 1:  # one is the line that a kill cut short
        warnings.warn(f"{path}: {dropped} damaged lines are dropped", stacklevel=2)


def _step(line: bytes) -> float | None:
    """The step of a log row; None where the line is none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) in (int, float) and math.isfinite(step) else None


def tensorboard(directory: Path, n: int) -> Hook:
    """Scalars for TensorBoard.

    Needs the extra: pip install "genjax-image[tensorboard]".
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        advice = 'needs the extra: pip install "genjax-image[tensorboard]"'
        raise ConfigError("tensorboard", None, advice) from None
    writer = SummaryWriter(str(directory), flush_secs=1)

    def write(event):
        for name, value in event.row.items():
            if name != "step":
                writer.add_scalar(name, value, event.row["step"])

    return every(n, write, at_end=True)


def profile(directory: Path, n: int, first: int, steps: int) -> Hook:
    """Trace n steps with JAX's profiler, from the next multiple of n after `first`.

    By then the programs of the first steps are compiled. The trace is for TensorBoard,
    and for ui.perfetto.dev the file perfetto_trace.json.gz in it.

    Raises ConfigError where the run ends before.
    """
    start = first - first % n + n
    if start >= steps:
        raise ConfigError("profile", n, f"needs more than {start} `steps`; the trace begins there")
    tracing = False

    def trace(event):
        nonlocal tracing
        if event.step == start and not tracing:
            jax.profiler.start_trace(str(directory), create_perfetto_trace=True)
            tracing = True
        elif tracing:
            jax.block_until_ready(event.state)
            jax.profiler.stop_trace()
            tracing = False

    return every(n, trace, at_end=True)


@contextlib.contextmanager
def progress(n: int, first: int, steps: int) -> Iterator[list[Hook]]:
    """Hooks for standard error: on a terminal a bar (steps, time left, images/s,
    losses), elsewhere a line each `n` steps.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)

    def values(event):
        shown = [f"{name} {value:.4g}" for name, value in event.row.items() if "/" in name]
        return "  ".join([f"{event.row['images_per_sec']:.0f} images/s", *shown])

    def compiled_in(event) -> str:
        if "compile_sec" not in event.row:
            return ""
        programs = {
            name.removeprefix("compile_sec_"): sec
            for name, sec in event.row.items()
            if name.startswith("compile_sec_")
        }
        each = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in programs.items())
        return f"compiled in {event.row['compile_sec']:.1f} s" + (f" ({each})" if each else "")

    def line(event):
        left = f"{time_left(event, first)} left"
        compiled = f"  {compiled_in(event)}" if compiled_in(event) else ""
        print(
            f"  step {event.step} of {event.steps}  {left}{compiled}  {values(event)}",
            file=sys.stderr,
            flush=True,
        )

    if not console.is_terminal:
        yield [every(n, line, at_end=True)]
        return
    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("compiling", total=steps, completed=first, left="")

        def update(event):
            shown = values(event) if "images_per_sec" in event.row else ""
            bar.update(
                task, completed=event.step, description=shown, left=str(time_left(event, first))
            )

        def compiled(event):
            if compiled_in(event):
                bar.console.print(compiled_in(event))

        yield [every(0, update, at_end=True), every(n, compiled)]


def time_left(event: Event, first: int) -> datetime.timedelta:
    """Estimate the time for the remaining steps, at the speed since step `first`.

    Training only, without compiling, evaluations, grids and checkpoints.
    """
    per_step = event.train_sec / max(event.step - first, 1)
    return datetime.timedelta(seconds=round((event.steps - event.step) * per_step))


def samples(recipe: Recipe, directory: Path, n: int, batch: Batch, seed: int) -> Hook:
    """Write the recipe's preview of a fixed batch and key as PNG grids.

    So one sees the same samples improve. `batch` is on all devices: every process
    computes the preview, the first writes it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    split: Any = batch["images"].sharding

    def draw(weights, batch):
        return recipe.preview(weights, jax.random.key(seed), batch)

    preview = jax.jit(target.on(split.mesh, draw), out_shardings=split)

    def write(event):
        for name, pictures in preview(core.weights(event.state), batch).items():
            if jax.process_index() == 0:
                grids.save_grid(pictures, directory / f"{name}_{event.step:08d}.png")

    return every(n, write, at_end=True)


def evaluation(
    recipe: Any,
    n: int,
    name: str,
    measure: Callable[[Iterator[np.ndarray], int], float],
    count: int,
    seed: int,
    classes: np.ndarray | None = None,
    batch_size: int = 64,
) -> Hook:
    """Measure samples, always of the same latents, and add the result to the log row.

    It comes before the hooks that use the row. All processes draw and measure.

    Args:
        recipe: a model with `sample`, and `conditional` and `num_labels` in its Config
        n: interval in steps
        name: of the measurement in the row
        measure: (batches uint8 [b, h, w, c], count) -> the value
        count: number of samples
        seed: of the latents
        classes: int32 [count] of a conditional model, such as
            `metrics.sets.class_labels`; None takes each class in turn
        batch_size: number of samples drawn at once
    """
    size, config = min(count, batch_size), recipe.config
    if config.conditional == "none":
        classes = None
    elif classes is None:
        classes = np.arange(count, dtype=np.int32) % config.num_labels

    @jax.jit
    def draw(weights, key, labels):
        labels = () if labels is None else (labels,)
        return ops.to_uint8(recipe.sample(weights, key, size, *labels))

    def batch(weights, key, start):
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        labels = None if classes is None else classes[chosen]
        images = draw(weights, jax.random.fold_in(key, start), labels)
        return np.asarray(images)[: count - start]

    def write(event):
        weights, key = core.weights(event.state), jax.random.key(seed)
        batches = (batch(weights, key, start) for start in range(0, count, size))
        return {name: measure(batches, count)}

    return every(n, write)


def samples_missing(recipe: Recipe, directory: Path, step: int, state: State, batch: Batch) -> bool:
    """Return whether a grid that `samples` writes at this step is missing.

    As after a kill between the checkpoint and the grid.
    """
    names = jax.eval_shape(recipe.preview, core.weights(state), jax.random.key(0), batch)
    return not all((directory / f"{name}_{step:08d}.png").is_file() for name in names)


def save(manager, n: int, best: str = "") -> Hook:
    """Checkpoint the state; at the end too, so that nothing is lost.

    `best` names the metric whose lowest value marks the best checkpoint.
    """
    write = lambda event: checkpoint.save(manager, event.state, event.row, best)
    return every(n, write, at_end=True)
