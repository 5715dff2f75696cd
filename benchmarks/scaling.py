"""One global batch over 1, 2, 4, 8 devices: equality of the losses, and communication.

    python benchmarks/scaling.py MODEL [--config C] [--batch-size N] [--devices 1 2 4 8]
                                       [--processes 2] [--steps 4]

Prints one JSON line per number of devices. The host's CPU is presented to JAX as
several devices: times would be meaningless, and none are given. The bytes are read from
the programs that the trainer compiles for a complete step with all lazy terms, with
convolutions in the form that accelerators get (a CPU's form has larger gradients before
they are summed): the results of all-reduces, all-gathers and other collectives, those
in loops counted once per iteration. Most of them are gradients. With --processes the
same batch is also distributed over several processes with one device each, which
communicate over loopback: only their losses are compared.

    loss_difference   largest relative difference of a metric from one device's, over
                      `--steps` steps
    collectives       by kind: number per step, and bytes on each device
    predicted         by system: share of the ideal speed, with the same global batch and
                      with the same batch per device. A PREDICTION, not a measurement:
                      compute time is the first program's operations as XLA counts them,
                      at 40 % of the published bfloat16 peak; every byte goes over the
                      published link speed in a ring; nothing overlaps
"""

import argparse
import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"
)

import hlo
import jax
import numpy as np
import step_time

from genjax import core
from genjax.nn import convolution
from genjax.runtime import processes
from genjax.training import trainer

# Published figures: dense bfloat16 operations per second, and bytes per second that a
# chip sends (one direction, all links).
SYSTEMS = {
    "8 x A100, NVLink 3": (312e12, 300e9),
    "8 x H100, NVLink 4": (989e12, 450e9),
    "H100 hosts, 400 Gbit/s each GPU": (989e12, 50e9),
    "TPU v4": (275e12, 300e9),
    "TPU v5e": (197e12, 100e9),
}
UTILISATION = 0.4
Traffic = dict[str, dict[str, float]]  # by kind: {"count", "bytes"}
# How often a ring sends a device's operands or results, in units of (n - 1) / n.
TRAFFIC = {
    "all-reduce": 2,
    "all-gather": 1,
    "reduce-scatter": 1,
    "all-to-all": 1,
    "collective-permute": 1,
}


def main() -> None:
    """Compare the numbers of devices and print a JSON line for each."""
    parser = step_time.case_parser("One global batch over several devices.")
    option = parser.add_argument
    option("--batch-size", type=int, default=32, help="global batch size, over all devices")
    option("--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of devices")
    option("--processes", type=int, default=0, help="number of processes, at least 2; 0 = none")
    option("--steps", type=int, default=4, help="steps over which metrics are compared")
    # ADDRESS:PORT,COUNT,INDEX, for the processes that --processes starts.
    option("--distributed", help=argparse.SUPPRESS)
    args, fields = step_time.parse_case(parser)
    if args.distributed:
        processes.join(args.distributed)
    if max(args.devices) > jax.device_count() or min(args.devices) < 1:
        parser.error(f"--devices: must be from 1 to {jax.device_count()}")
    if args.processes < 0 or args.processes == 1:
        parser.error(f"--processes {args.processes}: must be at least 2, or 0 for none")
    if args.steps < 1:
        parser.error(f"--steps {args.steps}: must be at least 1")
    if any(args.batch_size % max(1, count) for count in [*args.devices, args.processes]):
        parser.error(
            f"--batch-size {args.batch_size}: must be a multiple of each number of devices "
            "and of processes"
        )
    model = importlib.import_module(f"genjax.models.{args.model}")
    recipe = model.recipe(model.Config(**{**fields, "batch_size": args.batch_size}))
    arrays = step_time.made_up(args.model, recipe.config.shape, 256)
    if args.distributed:
        print(json.dumps(trained(recipe, arrays, jax.device_count(), args.steps)))
        return
    case = {"model": args.model, "config": args.config, "batch_size": args.batch_size}
    case |= {"steps": args.steps, "device": step_time.device_name()}
    alone, flops = {}, 0.0  # of the first number of devices
    for count in args.devices:
        step_time.say(f"{count} devices")
        metrics = trained(recipe, arrays, count, args.steps)
        kinds, operations = for_accelerators(recipe, arrays, count)
        alone, flops = alone or metrics, flops or operations
        traffic = sum(TRAFFIC[kind] * total["bytes"] for kind, total in kinds.items())
        sent = traffic * (count - 1) / count
        predicted = {
            name: {
                "global": efficiency(flops / count / (UTILISATION * peak), sent / speed),
                "each": efficiency(flops / (UTILISATION * peak), sent / speed),
            }
            for name, (peak, speed) in SYSTEMS.items()
        }
        row = {"devices": count, "processes": 1, "loss_difference": difference(metrics, alone)}
        row |= {"gflop": flops / 1e9, "collectives": kinds, "predicted": predicted}
        step_time.show(case | row)
    if args.processes:
        step_time.say(f"{args.processes} processes")
        metrics = joined(args.processes)
        row = {"devices": args.processes, "processes": args.processes}
        step_time.show(case | row | {"loss_difference": difference(metrics, alone)})


def efficiency(compute: float, communication: float) -> float:
    """Share of the ideal speed, from the seconds of each, without overlap."""
    return compute / (compute + communication)


def difference(metrics: dict[str, float], alone: dict[str, float]) -> float:
    """The largest relative difference of a metric."""
    differences = (
        abs(value - alone[name]) / max(abs(alone[name]), 1e-3) for name, value in metrics.items()
    )
    return float(max(differences))


def joined(count: int) -> dict[str, float]:
    """The metrics of this command run by `count` processes with one device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # The module puts its own such flag first; XLA takes the last.
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, *sys.argv, "--devices", "1", "--distributed"]
    processes = [
        subprocess.Popen(
            [*command, f"{address},{count},{index}"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(count)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a process failed: see above")
    return json.loads(outputs[0].splitlines()[-1])  # the network library may print before it


def trained(
    recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int, steps: int
) -> dict[str, float]:
    """Mean metrics of `steps` steps on `count` devices."""
    state, *inputs, programs = built(recipe, arrays, count)
    metrics = {}
    for program in programs:
        state, sums, _ = program(state, *inputs, np.int32(steps))
        metrics |= {name: float(value) / steps for name, value in sums.items()}
    return metrics


def for_accelerators(
    recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int
) -> tuple[Traffic, float]:
    """Collectives and operations of a step, with convolutions lowered as for a GPU."""
    usual = convolution.lowering
    convolution.lowering = lambda role, backend, *case: usual(role, "gpu", *case)
    jax.clear_caches()
    *_, programs = built(recipe, arrays, count)
    convolution.lowering = usual
    jax.clear_caches()
    flops = count * sum(program.cost_analysis()["flops"] for program in programs)
    return totals([hlo.Program(program.as_text()).collectives() for program in programs]), flops


def built(recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int) -> tuple:
    """State, root key and data on `count` devices, and the first step's programs.

    The first step has all lazy terms.
    """
    split, *inputs, one = step_time.placed(recipe, arrays, count)
    programs = [
        (trainer.repeated(part, step_time.SEED, step_time.prepare, split, True), part.plan)
        for part in trainer.programs_of(recipe, 0)
    ]
    return *inputs, [trainer.compiled(run, (*inputs, one), plan) for run, plan in programs]


def totals(traffic: Sequence[Traffic]) -> Traffic:
    """The sum of counts and bytes by kind."""
    sums: Traffic = {}
    for kinds in traffic:
        for kind, counts in kinds.items():
            before = sums.setdefault(kind, {"count": 0, "bytes": 0})
            sums[kind] = {name: before[name] + counts[name] for name in before}
    return sums


if __name__ == "__main__":
    main()
