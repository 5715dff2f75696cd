"""One global batch over 1, 2, 4, 8 devices: are the losses equal, and what do the devices tell each other? One JSON line a number of devices.

    python benchmarks/scaling.py MODEL [--config C] [--batch-size N] [--devices 1 2 4 8] [--processes 2] [--steps 4]

The host's CPU is made to look like so many devices: times would mean nothing, and none are given. The bytes are read from the program that the
trainer compiles, whole step, all lazy terms, with convolutions in the form that accelerators get (a CPU's form has larger gradients until they are
summed): results of its all-reduces, all-gathers and the like, those in loops as often as the loops run. Most of them are gradients. With
--processes, the same batch also over so many processes of a device each, which talk over loopback: only their losses are compared.

    loss_difference   largest relative difference of a metric from one device's, over `--steps` steps
    collectives       by kind: how many a step, and their bytes on each device
    predicted         by system: share of the ideal speed, with the global batch as it is and with a batch as large on each device. A PREDICTION, no
                      measurement: compute time is the first program's operations as XLA counts them, at 40 % of the published bfloat16 peak;
                      each byte goes over the published link speed by a ring; nothing overlaps
"""

import argparse
import importlib
import json
import math
import os
import re
import socket
import subprocess
import sys

os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"
)

import jax
import numpy as np
import step_time

from genjax import core
from genjax.nn import convolution
from genjax.training import script, trainer

# Published figures: bfloat16 operations a second, dense, and bytes a second that a chip sends (one direction, all links).
SYSTEMS = {
    "8 x A100, NVLink 3": (312e12, 300e9),
    "8 x H100, NVLink 4": (989e12, 450e9),
    "H100 hosts, 400 Gbit/s each GPU": (989e12, 50e9),
    "TPU v4": (275e12, 300e9),
    "TPU v5e": (197e12, 100e9),
}
UTILISATION = 0.4
WIDTHS = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
Traffic = dict[str, dict[str, float]]  # by kind: {"count", "bytes"}
# What a ring sends of a device's operands or results, in units of (n - 1) / n.
TRAFFIC = {
    "all-reduce": 2,
    "all-gather": 1,
    "reduce-scatter": 1,
    "all-to-all": 1,
    "collective-permute": 1,
}


def main() -> None:
    parser = step_time.case_parser("One global batch over several devices.")
    parser.add_argument("--batch-size", type=int, default=32, help="of all devices together")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--processes", type=int, default=0, help="at least 2")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--distributed", help=argparse.SUPPRESS
    )  # of the processes that --processes starts
    args, fields = step_time.parse_case(parser)
    if args.distributed:
        script.join(args.distributed)
    if max(args.devices) > jax.device_count() or min(args.devices) < 1:
        parser.error(f"--devices: from 1 to {jax.device_count()}")
    if args.processes < 0 or args.processes == 1:
        parser.error("--processes: at least 2, or 0 for none")
    if (
        any(args.batch_size % max(1, count) for count in [*args.devices, args.processes])
        or args.steps < 1
    ):
        parser.error(
            "--batch-size is a multiple of each number of devices and of processes, --steps at least 1"
        )
    model = importlib.import_module(f"genjax.models.{args.model}")
    recipe = model.recipe(model.Config(**{**fields, "batch_size": args.batch_size}))
    arrays = step_time.made_up(args.model, recipe.config.shape, 256)
    if args.distributed:
        print(json.dumps(trained(recipe, arrays, jax.device_count(), args.steps)))
        return
    case = {
        "model": args.model,
        "config": args.config,
        "batch_size": args.batch_size,
        "steps": args.steps,
    }
    case |= {"device": step_time.device_name()}
    alone, flops = {}, 0.0
    for count in args.devices:
        step_time.say(f"{count} devices")
        metrics = trained(recipe, arrays, count, args.steps)
        kinds, operations = for_accelerators(recipe, arrays, count)
        alone, flops = alone or metrics, flops or operations
        sent = (
            sum(TRAFFIC[kind] * found["bytes"] for kind, found in kinds.items())
            * (count - 1)
            / count
        )
        predicted = {}
        for name, (peak, speed) in SYSTEMS.items():
            seconds = [share * flops / (UTILISATION * peak) for share in (1 / count, 1)]
            predicted[name] = dict(
                zip(
                    ("global", "each"),
                    [took / (took + sent / speed) for took in seconds],
                    strict=True,
                )
            )
        found = {
            "devices": count,
            "processes": 1,
            "loss_difference": difference(metrics, alone),
            "gflop": flops / 1e9,
        }
        step_time.show(case | found | {"collectives": kinds, "predicted": predicted})
    if args.processes:
        step_time.say(f"{args.processes} processes")
        metrics = joined(args.processes)
        found = {
            "devices": args.processes,
            "processes": args.processes,
            "loss_difference": difference(metrics, alone),
        }
        step_time.show(case | found)


def difference(metrics: dict[str, float], alone: dict[str, float]) -> float:
    """The largest relative one."""
    return float(
        max(
            abs(value - alone[name]) / max(abs(alone[name]), 1e-3)
            for name, value in metrics.items()
        )
    )


def joined(count: int) -> dict[str, float]:
    """What the first says of `count` processes that run this command line together, with a device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }  # the last such flag holds
    running = [
        subprocess.Popen(
            [
                sys.executable,
                *sys.argv,
                "--devices",
                "1",
                "--distributed",
                f"{address},{count},{index}",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(count)
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a process failed: see above")
    return json.loads(said[0].splitlines()[-1])  # after what the network library says


def trained(
    recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int, steps: int
) -> dict[str, float]:
    """Means of the metrics of some steps on `count` devices."""
    state, *rest, programs = built(recipe, arrays, count)
    metrics = {}
    for program in programs:
        state, sums, _ = program(state, *rest, np.int32(steps))
        metrics |= {name: float(value) / steps for name, value in sums.items()}
    return metrics


def for_accelerators(
    recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int
) -> tuple[Traffic, float]:
    """What the devices tell each other in a step, and the step's operations, with convolutions lowered as for a GPU."""
    usual = convolution.lowering
    convolution.lowering = lambda role, backend, *case: usual(role, "gpu", *case)
    jax.clear_caches()
    *_, programs = built(recipe, arrays, count)
    convolution.lowering = usual
    jax.clear_caches()
    flops = count * sum(program.cost_analysis()["flops"] for program in programs)
    return totals([collectives(program.as_text()) for program in programs]), flops


def built(recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int) -> tuple:
    """State, root key and data on `count` devices, and the first step's programs, which has all lazy terms."""
    split, *inputs, one = step_time.placed(recipe, arrays, count)
    made = [
        trainer.program(part.advance, part.plan, step_time.SEED, False, split, True)
        for part in trainer.parts(recipe, 0)
    ]
    return *inputs, [trainer.compiled(program, (*inputs, one)) for program in made]


def collectives(text: str) -> Traffic:
    """Of a run of a compiled program, from its text. Loops of unknown length, as the trainer's over steps, count once."""
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if opening := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            lines = bodies.setdefault("ENTRY" if opening[1] else opening[2], [])
        lines.append(line)
    return _of("ENTRY", bodies)


def _of(name: str, bodies: dict[str, list[str]]) -> Traffic:
    """What a computation and those that it calls send."""
    found = []
    for line in bodies[name]:
        if kind := re.search(rf" ({'|'.join(TRAFFIC)})(?:-start)?\(", line):
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", line[: kind.start()].split("=", 1)[1])
            size = sum(
                WIDTHS[dtype] * math.prod(int(side) for side in sides.split(",") if side)
                for dtype, sides in arrays
            )
            found.append({kind[1]: {"count": 1, "bytes": size}})
            continue
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        times = int(trips[1]) if trips else 1
        for inner in re.findall(
            r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)", line
        ):
            if inner in bodies:
                found.append(
                    {
                        k: {part: times * x for part, x in both.items()}
                        for k, both in _of(inner, bodies).items()
                    }
                )
    return totals(found)


def totals(parts: list[Traffic]) -> Traffic:
    sums: Traffic = {}
    for part in parts:
        for kind, found in part.items():
            own = sums.setdefault(kind, {"count": 0, "bytes": 0})
            sums[kind] = {name: own[name] + found[name] for name in own}
    return sums


if __name__ == "__main__":
    main()
