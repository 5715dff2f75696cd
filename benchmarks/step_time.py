"""Time of a training step, beside the same step in PyTorch: one JSON line.

    python benchmarks/step_time.py vae [--config mlp|conv32] [--batch-size N] [--dtype float32|bfloat16]
                                       [--peer torch|torch-compile|none] [--seconds S] [--rounds N]

A step is all of it: gather a random batch of resident uint8 images, convert it, draw noise, forward, backward, Adam. Both sides
run on the same device, from the same weights, in one process, by turns: a round is about `--seconds` of ours and then as much of
the peer's, and each round gives one ratio, so that what else the machine does meets both. Ours runs as the trainer runs it, many
steps in one dispatch (and it counts metrics and stops on one that is not finite, which the peer does not). The peer is eager
PyTorch with fused Adam, on one or all cores, whichever is faster, or the same under torch.compile.

    ms_per_step, peer_ms_per_step   medians of the rounds
    ratio, ratio_spread             the peer's time over ours: median, and first and third quartile, of the rounds' ratios
    compile_sec                     trace and compile of our one program, nothing cached
    peak_mb                         what our compiled program says that it holds at once, 10^6 bytes: arguments, outputs that share no
                                    memory with them, temporaries; beside the resident data set
    load                            the machine's load average before the start: what other processes kept busy. Wants to be about 0
"""

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")  # of a GPU: the peer needs some too

import jax
import numpy as np

from genjax import core, trainer

# By model (a module of genjax.models, and of peers) and configuration, the first being the default: fields of the model's Config.
CASES = {
    "vae": {
        "mlp": {"batch_size": 128},
        "conv32": {"shape": (32, 32, 3), "network": "conv", "batch_size": 64},
    },
}
IMAGES = 10_000  # in the synthetic data set
SEED = 0

Run = Callable[[int], None]  # do so many steps, and wait until they are done


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a training step, beside the same step in PyTorch.")
    parser.add_argument("model", choices=CASES)
    parser.add_argument("--config", help="; ".join(f"{model}: {', '.join(cases)}" for model, cases in CASES.items()))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--peer", choices=("torch", "torch-compile", "none"), default="torch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    cases = CASES[args.model]
    args.config = args.config or next(iter(cases))
    if args.config not in cases:
        parser.error(f"--config {args.config}: one of {', '.join(cases)}")
    if args.rounds < 2 or args.seconds <= 0 or (args.batch_size or 1) < 1:
        parser.error("--rounds is at least 2, --seconds and --batch-size more than 0")
    row = json.dumps(measure(args, cases[args.config]))
    print(json.dumps(json.loads(row, parse_float=lambda number: float(f"{float(number):.4g}"))))


def measure(args: argparse.Namespace, fields: dict) -> dict:
    """The row of one case."""
    jax.config.update("jax_enable_compilation_cache", False)  # for compile_sec
    model = importlib.import_module(f"genjax.models.{args.model}")
    fields = {**fields, "dtype": args.dtype, "batch_size": args.batch_size or fields["batch_size"]}
    config = model.Config(**fields)
    recipe = model.recipe(config)
    images = np.random.default_rng(SEED).integers(0, 256, (IMAGES, *config.shape), np.uint8)
    versions, load = {"jax": jax.__version__}, os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}), and PyTorch's threads suffer most: do not trust the ratio")

    say("compiling ours")
    run, facts, weights = ours(recipe, {"images": images})
    runs = [run]
    if args.peer != "none":
        import torch

        versions["torch"] = torch.__version__
        say(f"building the peer, {args.peer}")
        runs.append(theirs(args.model, config, {"images": images}, weights, compiled=args.peer == "torch-compile"))
        say(f"{torch.get_num_threads()} threads")
    counts = [calibrate(run, args.seconds) for run in runs]
    rounds = []
    for number in range(args.rounds):
        rounds.append([1000 * seconds(run, count) / count for run, count in zip(runs, counts, strict=True)])
        say(f"round {number + 1} of {args.rounds}: " + ", ".join(f"{ms:.3f}" for ms in rounds[-1]) + " ms a step")

    ours_ms, *peer_ms = (statistics.median(side) for side in zip(*rounds, strict=True))
    row = {"model": args.model, "config": args.config, "device": device_name(), "dtype": config.dtype}
    row |= {"batch_size": config.batch_size, "ms_per_step": ours_ms, "images_per_sec": 1000 * config.batch_size / ours_ms} | facts
    row |= {"peer": args.peer, "peer_ms_per_step": None, "ratio": None, "ratio_spread": None}
    if peer_ms:
        first, middle, third = statistics.quantiles([peer / own for own, peer in rounds], n=4, method="inclusive")
        row |= {"peer_ms_per_step": peer_ms[0], "ratio": middle, "ratio_spread": [first, third]}
    return row | {"rounds": args.rounds, "load": load, "versions": versions}


def ours(recipe: core.Recipe, arrays: dict[str, np.ndarray]) -> tuple[Run, dict, core.Weights]:
    """The trainer's program on one device; what compiling it took and what it holds; and the weights that it starts from."""
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    replicated, split = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("data",)))
    root = jax.device_put(jax.random.key(SEED), replicated)
    resident = jax.device_put(arrays, replicated)
    state = jax.jit(recipe.init, out_shardings=replicated)(root)
    weights = jax.device_get(core.weights(state))

    def arguments(count: int):
        return state, root, resident, jax.device_put(np.int32(count), replicated)

    began = time.perf_counter()
    advance = trainer.program(recipe, recipe.plan(0), SEED, False, split, True)
    program = jax.jit(advance, donate_argnums=0).lower(*arguments(1)).compile()
    compile_sec = time.perf_counter() - began
    memory = program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
    held -= sum(array.nbytes for array in arrays.values())

    def run(count: int) -> None:
        nonlocal state
        state, _, done = program(*arguments(count))
        if int(done) != count:
            raise FloatingPointError(f"a metric was not finite after {int(done)} of {count} steps: its time would mean nothing")

    return run, {"compile_sec": compile_sec, "peak_mb": held / 1e6}, weights


def theirs(name: str, config, arrays: dict[str, np.ndarray], weights: core.Weights, compiled: bool) -> Run:
    """The peer's step, from the same weights. A module of peers has `build(config)`, `load(module, weights)` and
    `step_fn(module, config, arrays, device, compiled)`, which gives a function that does one step a call.
    """
    import torch

    peer = importlib.import_module(f"peers.{name}")
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # as XLA does
    torch.set_float32_matmul_precision("high")  # on a GPU both sides may use TF32, XLA's default; means nothing on a CPU
    torch.backends.cudnn.benchmark = True
    module = peer.build(config)
    peer.load(module, weights)
    step = peer.step_fn(module, config, arrays, device, compiled)

    def run(count: int) -> None:
        for _ in range(count):
            loss = step()
        if not math.isfinite(loss.item()):  # waits for the device
            raise FloatingPointError("the peer's loss is not finite: its time would mean nothing")

    def trial(threads: int) -> float:
        torch.set_num_threads(threads)
        return min(seconds(run, 5) for _ in range(3))

    torch.set_num_threads(min((len(os.sched_getaffinity(0)), 1), key=trial))
    return run


def seconds(run: Run, count: int) -> float:
    began = time.perf_counter()
    run(count)
    return time.perf_counter() - began


def calibrate(run: Run, target: float) -> int:
    """Warm up, then the steps that take about `target` seconds."""
    seconds(run, 3)
    count = 1
    while (took := seconds(run, count)) < target / 4:
        count *= 2
    return max(1, round(count * target / took))


def device_name() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return f"cpu: {names[0] if names else 'unknown'}, {len(os.sched_getaffinity(0))} cores"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
