"""Time per training step, against the same step in PyTorch: one JSON line.

    python benchmarks/step_time.py MODEL [--config C] [--batch-size N]
        [--dtype float32|bfloat16] [--peer torch|torch-compile|reference|none]
        [--seconds S] [--rounds N]
    MODEL and C: vae mlp|conv32, gan mlp, dcgan 32x32|64x64,
        cyclegan resnet6-64|resnet9-128, stylegan2 32x32|64x64|256x256

A step is complete: gather a random batch of resident uint8 images, convert it, draw
noise, forward, backward, Adam; for a GAN both players and the average of the
generator's weights. Both sides run on the same device, from the same weights, and take
turns in one process: a round is one uncounted step of ours and about `--seconds` of
counted ones, then the same of the peer. Each round gives one ratio, so that other work
on the machine affects both sides.

Ours runs as the trainer runs it, many steps per dispatch (and it sums metrics and stops
if one is not finite, which the peer does not). The peer is eager PyTorch with fused
Adam, or the same under torch.compile, in the faster of its memory layouts (contiguous
or channels last) and on one or all cores, whichever is faster. `reference`, for
StyleGAN2, is NVIDIA's own code, in the folder that the environment variable
GENJAX_STYLEGAN2_REFERENCE names (peers/stylegan2_reference.py). Lazy penalties are
raced separately; the time of a step includes its share of each.

    ms_per_step, peer_ms_per_step   medians of the rounds
    ratio, ratio_spread   the peer's time over ours, per round: median; first and third
                          quartile
    programs              with lazy penalties, for each program: its share of the steps,
                          ms on both sides, compile_sec
    compile_sec           time to trace and compile our programs, nothing cached
    peak_mb               peak memory that our compiled program declares, 10^6 bytes:
                          arguments, outputs that share no memory with them,
                          temporaries; without the resident data set
    gflop                 10^9 operations per step by the plain definition of its
                          layers: convolutions and products of the eager peer
    share_of_peak         gflop over our time, relative to a large matrix product of
                          that dtype on this device (peak_gflops, by JAX)
    load                  the machine's load average before the start, by other
                          processes; should be about 0
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

# On a GPU, leave memory for the peer.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")

import jax
import jax.numpy as jnp
import numpy as np

from genjax import core, data
from genjax.runtime import memory, xla
from genjax.training import trainer

# Fields of the model's Config, by model (a module of genjax.models and of peers) and
# configuration, of which the first is the default.
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
        "32x32": {"shape": (32, 32, 3), "channel_base": 4096, "batch_size": 8},
        "64x64": {"shape": (64, 64, 3), "channel_base": 8192, "batch_size": 8},
        "256x256": {"shape": (256, 256, 3), "channel_base": 16384, "batch_size": 16},
    },
}
IMAGES, MAX_BYTES = 10_000, 2**28  # limits of the synthetic data set
SEED = 0

Run = Callable[[int], None]  # run this many steps, and wait until they are done


def main() -> None:
    """Measure one case and print its JSON line."""
    jax.config.update("jax_enable_compilation_cache", False)  # or compile_sec would be 0
    memory.keep_freed()  # for both sides, as the scripts do
    parser = arguments("Time per training step, against the same step in PyTorch.", seconds=1.0)
    parser.add_argument("--batch-size", type=int, help="default: that of the configuration")
    args, fields = parse(parser)
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch-size {args.batch_size}: must be at least 1")
    show(measure(args, {**fields, "batch_size": args.batch_size or fields["batch_size"]}))


def measure(args: argparse.Namespace, fields: dict) -> dict:
    """Race one case; return its row."""
    model = importlib.import_module(f"genjax.models.{args.model}")
    config = model.Config(**fields)
    recipe = model.recipe(config)
    arrays = made_up(args.model, config.shape)
    facts = {"versions": {"jax": jax.__version__}, "load": load()}
    say("compiling ours")
    runs, costs, weights = ours(recipe, arrays)
    sides, flop = [runs], {}
    if args.peer != "none":
        say(f"building the peer, {args.peer}")
        module, device, facts["versions"]["torch"] = peer(args.module, config, weights)
        flop = counted(args.module, module, config, arrays, device)
        compiled = args.peer == "torch-compile"
        sides.append(theirs(args.module, module, config, arrays, device, compiled))
    shares = schedule(recipe)
    rounds = {
        name: race([side[name] for side in sides], args.rounds, args.seconds, f"per {name}")
        for name in shares
    }
    # A step's time is the sum of its programs' times, weighted by their share of the
    # steps.
    weighted = [share * np.array(rounds[name]) for name, share in shares.items()]
    ms, peer_ms, ratios = summary(np.sum(weighted, axis=0).tolist())
    row = {"model": args.model, "config": args.config, "device": device_name()}
    row |= {"dtype": config.dtype, "batch_size": config.batch_size}
    row |= {"ms_per_step": ms, "images_per_sec": 1000 * config.batch_size / ms}
    if args.peer != "none":
        gflop = sum(share * flop[name] for name, share in shares.items()) / 1e9
        peak = matmul_peak(config.dtype)
        row |= {"gflop": gflop, "peak_gflops": peak, "share_of_peak": 1000 * gflop / ms / peak}
    row["compile_sec"] = sum(cost["compile_sec"] for cost in costs.values())
    row["peak_mb"] = max(cost["peak_mb"] for cost in costs.values())
    if len(shares) > 1:
        medians = {
            name: dict(zip(("ms", "peer_ms"), summary(rounds[name])[:2], strict=True))
            for name in shares
        }
        row["programs"] = {
            name: {"share": share} | medians[name] | costs[name] for name, share in shares.items()
        }
    row |= {"peer": args.peer, "peer_ms_per_step": peer_ms} | ratios
    return row | {"rounds": args.rounds} | facts


def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
    """Scale a batch as a source without augmentation does."""
    return data.prepare(batch, key, False)


def schedule(recipe: core.Recipe) -> dict[str, float]:
    """A step's programs, with the share of the steps in which each runs."""
    steps = 240
    programs = (p for step in range(steps) for p in trainer.programs_of(recipe, step)[:-1])
    lazy = Counter(program.name for program in programs)
    return {"step": 1.0} | {name: count / steps for name, count in lazy.items()}


def ours(
    recipe: core.Recipe, arrays: dict[str, np.ndarray]
) -> tuple[dict[str, Run], dict[str, dict], core.Weights]:
    """Compile the trainer's programs on one device.

    Returns:
        the run of each program, the cost of each ("compile_sec", "peak_mb"), and the
        initial weights
    """
    split, state, root, resident, one = placed(recipe, arrays, 1)
    weights = jax.device_get(core.weights(state))

    def inputs(count: int):
        return state, root, resident, jax.device_put(np.int32(count), one.sharding)

    def compiled(part: trainer.Program) -> tuple[Run, dict]:
        began = time.perf_counter()
        repeated = trainer.repeated(part, SEED, prepare, split, True)
        program = trainer.compiled(repeated, inputs(1), part.plan)
        compile_sec = time.perf_counter() - began
        peak = xla.memory_needed(program) - sum(array.nbytes for array in arrays.values())

        def run(count: int) -> None:
            nonlocal state
            state, _, done = program(*inputs(count))
            if int(done) != count:
                raise FloatingPointError(
                    f"a metric was not finite after {int(done)} of {count} steps: "
                    "the time would be meaningless"
                )

        return run, {"compile_sec": compile_sec, "peak_mb": peak / 1e6}

    # The first step has all lazy terms.
    *lazy, step = trainer.programs_of(recipe, 0)
    programs = {part.name: compiled(part) for part in lazy}
    programs["step"] = compiled(step)
    return (
        {name: run for name, (run, _) in programs.items()},
        {name: cost for name, (_, cost) in programs.items()},
        weights,
    )


def peer(name: str, config: Any, weights: core.Weights) -> tuple[Any, str, str]:
    """The peer's module with our weights, its device, and PyTorch's version.

    A module of peers has `build(config)`, `load(module, weights)` and
    `step_fn(module, config, arrays, device, compiled, layout)`. The latter returns a
    function that does one step per call; for a step with lazy penalties, a dict of such
    functions: "step" and the penalties.
    """
    import torch

    peers = importlib.import_module(f"peers.{name}")
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # as XLA does
    # On a GPU both sides may use TF32, XLA's default; no effect on a CPU.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    module = peers.build(config)
    peers.load(module, weights)
    return module, "cpu" if jax.default_backend() == "cpu" else "cuda", torch.__version__


def theirs(
    name: str, module: Any, config: Any, arrays: dict[str, np.ndarray], device: str, compiled: bool
) -> dict[str, Run]:
    """The runs of the peer's step and of its lazy penalties.

    Args:
        name: module of peers
        module: the peer's module, with our weights
        config: the model's Config
        arrays: the resident data set
        device: cpu or cuda
        compiled: whether to use torch.compile
    """
    step_fn = importlib.import_module(f"peers.{name}").step_fn

    def repeated(step: Callable[[], Any]) -> Run:
        def run(count: int) -> None:
            for _ in range(count):
                loss = step()
            if not math.isfinite(loss.item()):  # waits for the device
                raise FloatingPointError(
                    "the peer's loss is not finite: the time would be meaningless"
                )

        return run

    def in_layout(layout: Any) -> dict[str, Run]:
        steps = step_fn(copy.deepcopy(module), config, arrays, device, compiled, layout)
        steps = steps if isinstance(steps, dict) else {"step": steps}
        return {name: repeated(step) for name, step in steps.items()}

    return fastest(in_layout)


def counted(
    name: str, module: Any, config: Any, arrays: dict[str, np.ndarray], device: str
) -> dict[str, float]:
    """Floating point operations of the peer's step and of its lazy penalties.

    Convolutions and matrix products, forward and backward. The arguments are those of
    `theirs`.
    """
    import torch
    from torch.utils import _python_dispatch, flop_counter

    def convolution(x: Any, weight: Any, transposed: bool, y: Any) -> float:
        # The gradients to x and to the weight cost the same as the value.
        return 2 * math.prod((x if transposed else y).shape) * math.prod(weight.shape[1:])

    # Not FlopCounterMode: its hooks on modules fail with gradients of gradients, and it
    # counts the backward pass of a grouped convolution `groups` times.
    class Count(_python_dispatch.TorchDispatchMode):
        total = 0.0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            value = func(*args, **(kwargs or {}))
            match func._overloadpacket:
                case torch.ops.aten.convolution:
                    self.total += convolution(args[0], args[1], args[6], value)
                case torch.ops.aten.convolution_backward:
                    gradients = sum(args[10][:2])
                    self.total += gradients * convolution(args[1], args[2], args[7], args[0])
                case name if rule := flop_counter.flop_registry.get(name):
                    self.total += rule(*args, **(kwargs or {}), out_val=value)
            return value

    step_fn = importlib.import_module(f"peers.{name}").step_fn
    steps = step_fn(copy.deepcopy(module), config, arrays, device, False, torch.contiguous_format)
    operations = {}
    for program, step in (steps if isinstance(steps, dict) else {"step": steps}).items():
        with Count() as count:
            step()
        operations[program] = count.total
    return operations


# --- shared with sample_time.py and scaling.py ----------------------------------------


def case_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that select a case of CASES."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", choices=CASES)
    configs = "; ".join(f"{model}: {', '.join(cases)}" for model, cases in CASES.items())
    parser.add_argument("--config", help=f"default: the first of {configs}")
    return parser


def parse_case(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict]:
    """Parse the command line; return the arguments and the case's Config fields."""
    args = parser.parse_args()
    args.config = args.config or next(iter(CASES[args.model]))
    if args.config not in CASES[args.model]:
        parser.error(f"--config {args.config}: must be one of {', '.join(CASES[args.model])}")
    return args, CASES[args.model][args.config]


def set_shapes(
    model: str, shape: tuple[int, ...], count: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a model's data set; by default as many images as fit."""
    count = count or min(IMAGES, MAX_BYTES // math.prod(shape))
    names = ("images", "images_b") if model == "cyclegan" else ("images",)
    return {name: (count, *shape) for name in names}


def made_up(model: str, shape: tuple[int, ...], count: int | None = None) -> dict[str, np.ndarray]:
    """A data set of random uint8 images for a model, of `set_shapes`."""
    random = np.random.default_rng(SEED)
    shapes = set_shapes(model, shape, count)
    return {name: random.integers(0, 256, size, np.uint8) for name, size in shapes.items()}


def placed(recipe: core.Recipe, arrays: dict[str, np.ndarray], count: int) -> tuple:
    """Place a run on `count` devices, as the trainer does.

    Returns:
        the sharding of a batch, the initial state, the root key, the data, and the
        int32 1
    """
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
    """A parser with the options of a race; `seconds` is the default of --seconds."""
    parser = case_parser(description)
    option = parser.add_argument
    option("--dtype", choices=("float32", "bfloat16"), default="float32")
    option("--peer", choices=("torch", "torch-compile", "reference", "none"), default="torch")
    option("--seconds", type=float, default=seconds, help="seconds of each side per round")
    option("--rounds", type=int, default=9)
    return parser


def parse(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict]:
    """Parse a race's command line; return the arguments and the Config fields."""
    args, case = parse_case(parser)
    if args.rounds < 2 or args.seconds <= 0:
        parser.error("--rounds must be at least 2, --seconds above 0")
    args.module = args.model  # the module of peers
    if args.peer == "reference":
        if args.model != "stylegan2" or "GENJAX_STYLEGAN2_REFERENCE" not in os.environ:
            parser.error(
                "--peer reference: needs stylegan2, and the environment variable "
                "GENJAX_STYLEGAN2_REFERENCE with the folder of NVIDIA's code"
            )
        args.module = "stylegan2_reference"
    return args, {**case, "dtype": args.dtype}


def load() -> float:
    """The machine's load average; warns if the machine is busy."""
    busy = os.getloadavg()[0]
    if busy > 0.5:
        say(
            f"the machine is busy (load {busy:.1f}), which slows PyTorch's threads most: "
            "the ratio is not reliable"
        )
    return busy


def race(runs: list[Run], count: int, target: float, unit: str) -> list[list[float]]:
    """Run `count` rounds of about `target` seconds per side.

    Returns:
        for each round, ms of each of `runs`: ours, and the peer's if there is one
    """
    counts = [calibrate(run, target) for run in runs]

    def turn(run: Run, steps: int) -> float:
        # Not counted: the first step after the other side's turn may have to allocate
        # its memory again.
        run(1)
        return 1000 * seconds(run, steps) / steps

    rounds = []
    for number in range(count):
        rounds.append([turn(run, steps) for run, steps in zip(runs, counts, strict=True)])
        times = ", ".join(f"{ms:.3f}" for ms in rounds[-1])
        say(f"round {number + 1} of {count}: {times} ms {unit}")
    return rounds


def summary(rounds: list[list[float]]) -> tuple[float, float | None, dict]:
    """Median ms of ours and of the peer's, and the ratio's median and quartiles.

    Without a peer its median and the ratio are None.
    """
    ms, *peer_ms = (statistics.median(side) for side in zip(*rounds, strict=True))
    if not peer_ms:
        return ms, None, {"ratio": None, "ratio_spread": None}
    ratios = [theirs / ours for ours, theirs in rounds]
    first, middle, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return ms, peer_ms[0], {"ratio": middle, "ratio_spread": [first, third]}


def fastest(in_layout: Callable[[Any], dict[str, Run]]) -> dict[str, Run]:
    """PyTorch's runs in the fastest memory layout and number of threads for "step"."""
    import torch

    def trial(runs: dict[str, Run], threads: int, best: float) -> float:
        torch.set_num_threads(threads)
        took = min(seconds(runs["step"], 1) for _ in range(2))
        if took > min(1, 2 * best):  # long steps, and clearly slower ones, need no repetition
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
    """Seconds that `count` steps take."""
    began = time.perf_counter()
    run(count)
    return time.perf_counter() - began


def calibrate(run: Run, target: float) -> int:
    """Warm up; return the number of steps that take about `target` seconds."""
    seconds(run, 1)
    if seconds(run, 1) > target:
        return 1
    count = 1
    while (took := seconds(run, count)) < target / 4:
        count *= 2
    return max(1, round(count * target / took))


def show(row: dict) -> None:
    """Print the row as a JSON line, numbers with 4 significant digits."""
    text = json.loads(json.dumps(row), parse_float=lambda number: float(f"{float(number):.4g}"))
    print(json.dumps(text), flush=True)


def matmul_peak(dtype: str) -> float:
    """10^9 operations per second, in the best of 10 large matrix products."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Not ones: a GPU multiplies them faster than other numbers, at less power.
    factor = jax.random.normal(jax.random.key(SEED), (size, size), dtype)
    product = jax.jit(jnp.matmul)

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(product(factor, factor))

    run(2)
    return 2 * size**3 / min(seconds(run, 1) for _ in range(10)) / 1e9


def device_name() -> str:
    """Name of the device, such as "cpu: AMD EPYC, family 26, 2 cores".

    The family is there because virtual machines do not name the model.
    """
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    }
    family = f", family {facts['cpu family']}" if "cpu family" in facts else ""
    cores = len(os.sched_getaffinity(0))
    return f"cpu: {facts.get('model name', 'unknown')}{family}, {cores} cores"


def say(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
