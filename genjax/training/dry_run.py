"""`--dry-run`: what a run would compile, need and write, without training."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax import core, data
from genjax.core import Recipe
from genjax.runtime import xla
from genjax.runtime.shell import say
from genjax.training import run_folder, trainer
from genjax.training.options import Options

PLANNED = 1000  # first steps of the run whose programs are compiled


def describe(
    recipe: Recipe, state: core.State, source: data.Source, options: Options, run: Path, mesh: Mesh
) -> dict[str, int]:
    """Compile the programs of a run and print what it needs; write nothing.

    `state` is the run's, or its shapes and shardings.
    Returns the bytes of memory that each program needs on a device, by its name.

    Raises ConfigError where a program does not fit into the memory that there is.
    """
    arguments = [state, *inputs(source, options, mesh)]
    needed = {}
    for program in programs(recipe, options.steps):
        began = time.perf_counter()
        run_program = trainer.repeated(
            program,
            options.seed,
            source.prepare,
            NamedSharding(mesh, PartitionSpec("data")),
            source.arrays is not None,
        )
        compiled = trainer.compiled(run_program, arguments, program.plan)
        needed[program.name] = size = xla.memory_needed(compiled)
        took = time.perf_counter() - began
        say(f"program {program.name}: {megabytes(size)} per device, compiled in {took:.1f} s")
    weights, checkpoint = nbytes(core.weights(state)), nbytes(state)
    pictures = jax.eval_shape(
        recipe.preview, core.weights(state), jax.random.key(0), preview_batch(source)
    )
    say(
        f"{run / 'config.json'}, {run / 'metrics.jsonl'}: settings, log rows",
        f"{run / 'samples'}: {', '.join(pictures)} every {options.sample_every} steps",
        f"{run / 'checkpoints'}: {megabytes(checkpoint)} each, {options.keep} retained, "
        f"every {options.save_every} steps",
        f"{run / run_folder.WEIGHTS}: {megabytes(weights)}, at the end",
        "dry run: nothing was trained or written",
    )
    return needed


def programs(recipe: Recipe, steps: int) -> list[trainer.Program]:
    """The distinct programs of the first steps of a run, in the order of their use."""
    found = (p for step in range(min(steps, PLANNED)) for p in trainer.programs_of(recipe, step))
    return list(dict.fromkeys(found))


def inputs(source: data.Source, options: Options, mesh: Mesh) -> tuple[Any, ...]:
    """Shapes of what a program gets beside the state: key, data, number of steps."""
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))

    def struct(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding = everywhere) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    if source.arrays is not None:
        arrays = {name: struct(array.shape, array.dtype) for name, array in source.arrays.items()}
    else:
        shapes = {
            name: (array.shape[1:], array.dtype)
            for name, array in data.first_items(source, 1).items()
        }
        arrays = {
            name: struct((options.batch_size, *shape), dtype, split)
            for name, (shape, dtype) in shapes.items()
        }
    key = jax.eval_shape(lambda: jax.random.key(0))
    return struct(key.shape, key.dtype), arrays, struct((), jnp.int32)


def preview_batch(source: data.Source) -> Any:
    """Shapes of a batch for previews."""
    prepare = lambda raw: source.prepare(raw, jax.random.key(0))
    return jax.eval_shape(prepare, data.first_items(source, 1))


def nbytes(tree: Any) -> int:
    """Size of all arrays of a tree."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def megabytes(size: int) -> str:
    """Such as "1,204 MB" (10^6 bytes)."""
    return f"{size / 1e6:,.{0 if size >= 1e7 else 1}f} MB"
