"""What happens beside training, at chosen steps: log lines, a progress bar, sample grids, checkpoints. `every(n, fn)` makes any function a hook."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from genjax import checkpoint, core, images
from genjax.core import Batch, Recipe, State


class Event(NamedTuple):
    """What a hook is told. `state` must not be kept: the next step takes its memory."""

    step: int  # steps done
    steps: int  # steps in all
    state: State
    row: dict[
        str, float
    ]  # the latest log row: step, images_per_sec, compile_sec where something was compiled, means of the metrics
    source: Any  # the data.Source


class Hook(NamedTuple):
    every: int  # steps; 0: whenever the host looks at the device, about twice a second
    run: Callable[[Event], None]
    at_end: bool  # also at the end, be it an early one


def every(n: int, fn: Callable[[Event], None], *, at_end: bool = False) -> Hook:
    """Run `fn(event)` at the multiples of `n` steps."""
    return Hook(n, fn, at_end)


def jsonl(path: Path, n: int, resumed_at: int = 0) -> Hook:
    """Append each log row to a file. Rows past `resumed_at`, of steps that will be done again, are dropped first."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _step(line) <= resumed_at]
        checkpoint.write_atomically(path, "".join(line + "\n" for line in kept).encode())

    def write(event):
        with path.open("a") as file:
            file.write(json.dumps(event.row) + "\n")

    return every(n, write, at_end=True)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # a line that a kill cut short
        return float("inf")


def tensorboard(directory: Path, n: int) -> Hook:
    """Scalars for TensorBoard. Needs the extra: pip install "genjax-image[tensorboard]"."""
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise core.InputError('--tensorboard: needs the extra, pip install "genjax-image[tensorboard]"') from None
    writer = SummaryWriter(str(directory))

    def write(event):
        for name, value in event.row.items():
            if name != "step":
                writer.add_scalar(name, value, event.row["step"])
        writer.flush()

    return every(n, write, at_end=True)


@contextlib.contextmanager
def progress(n: int, first: int, steps: int) -> Iterator[list[Hook]]:
    """Hooks for standard error: on a terminal a bar (steps, images/s, a loss, time left), elsewhere a line each `n` steps."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)

    def line(event):
        row = dict(event.row)
        speed, compiled = row.pop("images_per_sec", 0.0), row.pop("compile_sec", 0.0)
        left = "" if event.step >= event.steps or not speed else f"  step {row['step']} of {event.steps}"
        values = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
        return (
            f"{left or '  step ' + str(row['step'])}  {speed:.0f} images/s"
            + (f"  compiled in {compiled:.1f} s" if compiled else "")
            + f"  {values}"
        )

    if not console.is_terminal:
        yield [every(n, lambda event: print(line(event), file=sys.stderr, flush=True), at_end=True)]
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("compiling", total=steps, completed=first)

        def update(event):
            bar.update(task, completed=event.step, description=line(event) if len(event.row) > 1 else "")

        yield [every(0, update, at_end=True)]


def samples(recipe: Recipe, directory: Path, n: int, batch: Batch, seed: int) -> Hook:
    """Write the recipe's preview of a fixed batch and key as PNG grids, so that one sees the same samples improve.

    `batch` is on all devices: every process computes the preview, the first writes it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    preview = jax.jit(
        lambda weights, batch: recipe.preview(weights, jax.random.key(seed), batch), out_shardings=batch["images"].sharding
    )

    def write(event):
        for name, pictures in preview(core.weights(event.state), batch).items():
            if jax.process_index() == 0:
                images.save_grid(pictures, directory / f"{name}_{event.step:08d}.png")

    return every(n, write, at_end=True)


def save(manager, n: int) -> Hook:
    """Checkpoint the state; at the end too, so that nothing is lost."""
    return every(n, lambda event: checkpoint.save(manager, event.state, event.row), at_end=True)
