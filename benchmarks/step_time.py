"""Time of a training step, beside the same step in PyTorch: one JSON line.

    python benchmarks/step_time.py MODEL [--config C] [--batch-size N] [--dtype float32|bfloat16]
                                         [--peer torch|torch-compile|reference|none] [--seconds S] [--rounds N]
    MODEL and C: vae mlp|conv32, gan mlp, dcgan 32x32|64x64, cyclegan resnet6-64|resnet9-128, stylegan2 32x32|64x64|256x256

A step is all of it: gather a random batch of resident uint8 images, convert it, draw noise, forward, backward, Adam; of a GAN for
both players, and the average of the generator's weights. Both sides run on the same device, from the same weights, in one process,
by turns: a round is a step of ours that is not counted and about `--seconds` that are, and then as much of the peer, and each round
gives one ratio, so that what else the machine does meets both. Ours runs as the trainer runs it, many steps in one dispatch (and it
counts metrics and stops on one that is not finite, which the peer does not). The peer is eager PyTorch with fused Adam, or the same under torch.compile, in the faster of its memory layouts (contiguous or channels last) and on
one or all cores, whichever is faster. `reference`, of StyleGAN2, is NVIDIA's own code, whose folder the environment variable
GENJAX_STYLEGAN2_REFERENCE names (peers/stylegan2_reference.py). Lazy penalties are raced apart; a step is with its share of each.

    ms_per_step, peer_ms_per_step   medians of the rounds
    ratio, ratio_spread             the peer's time over ours: median, and first and third quartile, of the rounds' ratios
    programs                        of a step with lazy penalties: each one's share of the steps, ms on both sides, compile_sec
    compile_sec                     trace and compile of our programs, nothing cached
    peak_mb                         what our compiled program says that it holds at once, 10^6 bytes: arguments, outputs that share no
                                    memory with them, temporaries; beside the resident data set
    gflop                           of a step by the plain definition of its layers: convolutions and products of the eager peer, 10^9
    share_of_peak                   gflop over our time, over what a large matrix product of that dtype reaches here (peak_gflops, by our side)
    load                            the machine's load average before the start: what other processes kept busy. Wants to be about 0
"""

import argparse
import copy
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")  # of a GPU: the peer needs some too

import jax
import jax.numpy as jnp
import numpy as np

from genjax import core
from genjax.runtime import memory
from genjax.training import trainer

# By model (a module of genjax.models, and of peers) and configuration, the first being the default: fields of the model's Config.
CASES = {
    "vae": {
        "mlp": {"batch_size": 128},
        "conv32": {"shape": (32, 32, 3), "network": "conv", "batch_size": 64},
    },
    "gan": {"mlp": {"shape": (28, 28, 1), "hidden": (256, 256), "batch_size": 64}},
    "dcgan": {
        "32x32": {"shape": (32, 32, 3), "batch_size": 64},
        "64x64": {"shape": (64, 64, 3), "batch_size": 64},
    },
    "cyclegan": {
        "resnet6-64": {"shape": (64, 64, 3), "blocks": 6, "batch_size": 8},
        "resnet9-128": {"shape": (128, 128, 3), "blocks": 9, "batch_size": 1},
    },
    "stylegan2": {
        "32x32": {"shape": (32, 32, 3), "channels": 4096, "batch_size": 8},
        "64x64": {"shape": (64, 64, 3), "channels": 8192, "batch_size": 8},
        "256x256": {"shape": (256, 256, 3), "channels": 16384, "batch_size": 16},
    },
}
IMAGES, MAX_BYTES = 10_000, 2**28  # in the synthetic data set: so many images, or of so many bytes
SEED = 0

Run = Callable[[int], None]  # do so many steps, and wait until they are done


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # for compile_sec
    memory.keep_freed()  # for both sides, as the scripts do
    parser = arguments("Time of a training step, beside the same step in PyTorch.", seconds=1.0)
    parser.add_argument("--batch-size", type=int)
    args, fields = parse(parser)
    if args.batch_size is not None and args.batch_size < 1:
        parser.error("--batch-size is more than 0")
    show(measure(args, {**fields, "batch_size": args.batch_size or fields["batch_size"]}))


def measure(args: argparse.Namespace, fields: dict) -> dict:
    """The row of one case."""
    model = importlib.import_module(f"genjax.models.{args.model}")
    config = model.Config(**fields)
    recipe = model.recipe(config)
    count = min(IMAGES, MAX_BYTES // math.prod(config.shape))
    arrays = made_up(args.model, config.shape, count)
    facts = {"versions": {"jax": jax.__version__}, "load": load()}
    say("compiling ours")
    own, costs, weights = ours(recipe, arrays)
    sides = [own]
    if args.peer != "none":
        say(f"building the peer, {args.peer}")
        module, device, facts["versions"]["torch"] = peer(args.module, config, weights)
        flop = counted(args.module, module, config, arrays, device)
        sides.append(
            theirs(
                args.module, module, config, arrays, device, compiled=args.peer == "torch-compile"
            )
        )
    shares = schedule(recipe)
    rounds = {
        name: race([side[name] for side in sides], args.rounds, args.seconds, f"a {name}")
        for name in shares
    }
    weighted = [[share * np.array(ms) for ms in rounds[name]] for name, share in shares.items()]
    ms, peer_ms, ratios = summary([sum(parts).tolist() for parts in zip(*weighted, strict=True)])
    row = {
        "model": args.model,
        "config": args.config,
        "device": device_name(),
        "dtype": config.dtype,
    }
    row |= {
        "batch_size": config.batch_size,
        "ms_per_step": ms,
        "images_per_sec": 1000 * config.batch_size / ms,
    }
    if args.peer != "none":
        gflop = sum(share * flop[name] for name, share in shares.items()) / 1e9
        peak = matmul_peak(config.dtype)
        row |= {"gflop": gflop, "peak_gflops": peak, "share_of_peak": 1000 * gflop / ms / peak}
    row |= {
        name: fold(costs[part][name] for part in costs)
        for name, fold in (("compile_sec", sum), ("peak_mb", max))
    }
    if len(shares) > 1:
        medians = {
            name: dict(zip(("ms", "peer_ms"), summary(rounds[name])[:2], strict=True))
            for name in shares
        }
        row["programs"] = {
            name: {"share": share} | medians[name] | costs[name] for name, share in shares.items()
        }
    return (
        row
        | {"peer": args.peer, "peer_ms_per_step": peer_ms}
        | ratios
        | {"rounds": args.rounds}
        | facts
    )


def schedule(recipe: core.Recipe) -> dict[str, float]:
    """A step's programs, and what share of the steps each is run in."""
    steps = 240
    lazy = Counter(part.name for step in range(steps) for part in trainer.parts(recipe, step)[:-1])
    return {"step": 1.0} | {name: count / steps for name, count in lazy.items()}


def ours(
    recipe: core.Recipe, arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Run], dict[str, dict], core.Weights]:
    """The trainer's programs on one device; what compiling each took and what it holds; and the weights that they start from."""
    split, state, root, resident, one = placed(recipe, arrays, 1)
    weights = jax.device_get(core.weights(state))

    def inputs(count: int):
        return state, root, resident, jax.device_put(np.int32(count), one.sharding)

    def compiled(advance: Callable, plan: core.Plan) -> tuple[Run, dict]:
        began = time.perf_counter()
        program = trainer.compiled(
            trainer.program(advance, plan, SEED, False, split, True), inputs(1)
        )
        compile_sec = time.perf_counter() - began
        memory = program.memory_analysis()
        held = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
        held -= sum(array.nbytes for array in arrays.values())

        def run(count: int) -> None:
            nonlocal state
            state, _, done = program(*inputs(count))
            if int(done) != count:
                raise FloatingPointError(
                    f"a metric was not finite after {int(done)} of {count} steps: its time would mean nothing"
                )

        return run, {"compile_sec": compile_sec, "peak_mb": held / 1e6}

    *lazy, whole = trainer.parts(recipe, 0)  # the first step has all of them
    made = {part.name: compiled(part.advance, part.plan) for part in lazy} | {
        "step": compiled(whole.advance, whole.plan)
    }
    return (
        {name: run for name, (run, _) in made.items()},
        {name: cost for name, (_, cost) in made.items()},
        weights,
    )


def peer(name: str, config, weights: core.Weights) -> tuple[Any, str, str]:
    """The peer's module with our weights, the device that it is meant for, and PyTorch's version. A module of peers has
    `build(config)`, `load(module, weights)` and `step_fn(module, config, arrays, device, compiled, layout)`, which gives a function
    that does one step a call; of a step with lazy penalties a dict of such functions, "step" and the penalties.
    """
    import torch

    peers = importlib.import_module(f"peers.{name}")
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # as XLA does
    torch.set_float32_matmul_precision(
        "high"
    )  # on a GPU both sides may use TF32, XLA's default; means nothing on a CPU
    torch.backends.cudnn.benchmark = True
    module = peers.build(config)
    peers.load(module, weights)
    return module, "cpu" if jax.default_backend() == "cpu" else "cuda", torch.__version__


def theirs(
    name: str, module, config, arrays: dict[str, np.ndarray], device: str, compiled: bool
) -> dict[str, Run]:
    """The peer's step, and its lazy penalties."""
    step_fn = importlib.import_module(f"peers.{name}").step_fn

    def repeated(step: Callable) -> Run:
        def run(count: int) -> None:
            for _ in range(count):
                loss = step()
            if not math.isfinite(loss.item()):  # waits for the device
                raise FloatingPointError(
                    "the peer's loss is not finite: its time would mean nothing"
                )

        return run

    def in_layout(layout) -> dict[str, Run]:
        steps = step_fn(copy.deepcopy(module), config, arrays, device, compiled, layout)
        return {
            name: repeated(step)
            for name, step in (steps if isinstance(steps, dict) else {"step": steps}).items()
        }

    return fastest(in_layout)


def counted(
    name: str, module, config, arrays: dict[str, np.ndarray], device: str
) -> dict[str, float]:
    """Floating point operations of the peer's step, and of its lazy penalties: convolutions and matrix products, forward and backward."""
    import torch
    from torch.utils import _python_dispatch, flop_counter

    def convolution(
        x, weight, transposed, y
    ) -> float:  # its gradients to x and to the weight cost the same
        return 2 * math.prod((x if transposed else y).shape) * math.prod(weight.shape[1:])

    class Count(
        _python_dispatch.TorchDispatchMode
    ):  # FlopCounterMode's hooks on modules do not survive gradients of gradients
        total = 0.0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            value = func(*args, **(kwargs or {}))
            match func._overloadpacket:
                case torch.ops.aten.convolution:
                    self.total += convolution(args[0], args[1], args[6], value)
                case (
                    torch.ops.aten.convolution_backward
                ):  # FlopCounterMode counts grouped ones groups times
                    self.total += sum(args[10][:2]) * convolution(
                        args[1], args[2], args[7], args[0]
                    )
                case name if rule := flop_counter.flop_registry.get(name):
                    self.total += rule(*args, **(kwargs or {}), out_val=value)
            return value

    step_fn = importlib.import_module(f"peers.{name}").step_fn
    steps = step_fn(copy.deepcopy(module), config, arrays, device, False, torch.contiguous_format)
    found = {}
    for part, step in (steps if isinstance(steps, dict) else {"step": steps}).items():
        with Count() as count:
            step()
        found[part] = count.total
    return found


# --- what sample_time.py and scaling.py share ----------------------------------------------------------------------------


def case_parser(description: str) -> argparse.ArgumentParser:
    """Options that name a case of CASES."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", choices=CASES)
    parser.add_argument(
        "--config", help="; ".join(f"{model}: {', '.join(cases)}" for model, cases in CASES.items())
    )
    return parser


def parse_case(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict]:
    """The arguments, and the case that they name: fields of its Config."""
    args = parser.parse_args()
    args.config = args.config or next(iter(CASES[args.model]))
    if args.config not in CASES[args.model]:
        parser.error(f"--config {args.config}: one of {', '.join(CASES[args.model])}")
    return args, CASES[args.model][args.config]


def made_up(model: str, shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    """A data set of `count` random images for a model."""
    random = np.random.default_rng(SEED)
    names = ("images", "images_b") if model == "cyclegan" else ("images",)
    return {name: random.integers(0, 256, (count, *shape), np.uint8) for name in names}


def placed(recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int) -> tuple:
    """On `count` devices, as the trainer has it: how a batch is split, a first state, the root key, the data, and the number 1."""
    mesh = jax.make_mesh(
        (count,), ("data",), devices=jax.devices()[:count], axis_types=(jax.sharding.AxisType.Auto,)
    )
    everywhere, split = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((), ("data",))
    )
    root = trainer.root_key(SEED, everywhere)
    resident = {name: trainer.to_devices(array, everywhere) for name, array in arrays.items()}
    one = trainer.to_devices(np.array(1, np.int32), everywhere)
    return split, trainer.first_state(recipe, root, everywhere), root, resident, one


def arguments(description: str, seconds: float) -> argparse.ArgumentParser:
    """The options of a race; `seconds` is the default of its option."""
    parser = case_parser(description)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--peer", choices=("torch", "torch-compile", "reference", "none"), default="torch"
    )
    parser.add_argument("--seconds", type=float, default=seconds, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=9)
    return parser


def parse(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict]:
    """The arguments, and fields of the case's Config."""
    args, case = parse_case(parser)
    if args.rounds < 2 or args.seconds <= 0:
        parser.error("--rounds is at least 2, --seconds more than 0")
    args.module = args.model  # of peers
    if args.peer == "reference":
        if args.model != "stylegan2" or "GENJAX_STYLEGAN2_REFERENCE" not in os.environ:
            parser.error(
                "--peer reference: of stylegan2, and GENJAX_STYLEGAN2_REFERENCE names the folder of NVIDIA's code"
            )
        args.module = "stylegan2_reference"
    return args, {**case, "dtype": args.dtype}


def load() -> float:
    """The machine's load average, with a warning if it is busy."""
    busy = os.getloadavg()[0]
    if busy > 0.5:
        say(
            f"the machine is busy (load {busy:.1f}), and PyTorch's threads suffer most: do not trust the ratio"
        )
    return busy


def race(runs: list[Run], count: int, target: float, what: str) -> list[list[float]]:
    """`count` rounds of about `target` seconds a side: of each the ms of ours and of the peer's, if any."""
    counts = [calibrate(run, target) for run in runs]

    def turn(run: Run, steps: int) -> float:
        run(
            1
        )  # not counted: it comes after the other side's turn, and where memory is not kept has to have its own anew
        return 1000 * seconds(run, steps) / steps

    rounds = []
    for number in range(count):
        rounds.append([turn(run, steps) for run, steps in zip(runs, counts, strict=True)])
        say(
            f"round {number + 1} of {count}: "
            + ", ".join(f"{ms:.3f}" for ms in rounds[-1])
            + f" ms {what}"
        )
    return rounds


def summary(rounds: list[list[float]]) -> tuple[float, float | None, dict]:
    """Median ms of ours and of the peer's, if any, and the median of their ratio with its first and third quartile."""
    ms, *peer_ms = (statistics.median(side) for side in zip(*rounds, strict=True))
    if not peer_ms:
        return ms, None, {"ratio": None, "ratio_spread": None}
    first, middle, third = statistics.quantiles(
        [peer / own for own, peer in rounds], n=4, method="inclusive"
    )
    return ms, peer_ms[0], {"ratio": middle, "ratio_spread": [first, third]}


def fastest(in_layout: Callable[[Any], dict[str, Run]]) -> dict[str, Run]:
    """PyTorch's runs in the memory layout, and on one or all cores, in which "step" takes the least time."""
    import torch

    def trial(runs, threads: int, best: float) -> float:
        torch.set_num_threads(threads)
        took = min(seconds(runs["step"], 1) for _ in range(2))
        if took > min(1, 2 * best):  # long steps differ by enough, and need no more of them to tell
            return took
        count = calibrate(runs["step"], 0.2)
        return min(seconds(runs["step"], count) for _ in range(3)) / count

    best, chosen = math.inf, None
    for layout in (torch.contiguous_format, torch.channels_last):
        runs = in_layout(layout)
        for threads in (len(os.sched_getaffinity(0)), 1):
            took = trial(runs, threads, best)
            if took < best:
                best, chosen = took, (runs, threads, layout)
    assert chosen
    runs, threads, layout = chosen
    torch.set_num_threads(threads)
    say(f"{layout}, {threads} threads")
    return runs


def seconds(run: Run, count: int) -> float:
    began = time.perf_counter()
    run(count)
    return time.perf_counter() - began


def calibrate(run: Run, target: float) -> int:
    """Warm up, then the steps that take about `target` seconds."""
    seconds(run, 1)
    if seconds(run, 1) > target:
        return 1
    count = 1
    while (took := seconds(run, count)) < target / 4:
        count *= 2
    return max(1, round(count * target / took))


def show(row: dict) -> None:
    """Print the row as JSON, numbers with 4 digits."""
    text = json.loads(json.dumps(row), parse_float=lambda number: float(f"{float(number):.4g}"))
    print(json.dumps(text), flush=True)


def matmul_peak(dtype: str) -> float:
    """10^9 operations a second of the best of some large matrix products on one device."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    factor = jax.device_put(jnp.ones((size, size), dtype), jax.devices()[0])
    product = jax.jit(jnp.matmul)

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(product(factor, factor))

    run(2)
    return 2 * size**3 / min(seconds(run, 1) for _ in range(10)) / 1e9


def device_name() -> str:
    """E.g. "cpu: AMD EPYC, family 26, 2 cores": what results stand under. Virtual machines name no model, hence the family."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    }
    family = f", family {facts['cpu family']}" if "cpu family" in facts else ""
    return (
        f"cpu: {facts.get('model name', 'unknown')}{family}, {len(os.sched_getaffinity(0))} cores"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
