"""Compile a model's programs for TPUs and GPUs on a machine that has neither.

    python benchmarks/targets.py MODEL [--config C] [--target T]
        [--dtype float32|bfloat16] [--options JSON] [--text FOLDER]

Prints one JSON line. NOTHING HERE IS A MEASUREMENT OF SPEED: the compilers of TPUs
(libtpu) and of GPUs (JAX's CUDA plugin) run on a CPU, and what is read off are the
programs that they make. Install the extra `targets`; the models and configurations are
those of step_time.py and PUBLISHED; batch sizes are per device.

    compiles, reason      whether all programs compile; the first line of the error
    compile_cpu_sec       CPU seconds to trace and compile all of them
    memory_mb             per device, of the largest program: arguments, outputs and
                          temporaries, 10^6 bytes, without the resident data set; and
                          its share of the chip's memory, `memory_share`
    gflop, bf16_share     per device and step: 10^9 operations of convolutions and
                          products, and the share of those whose operands are bfloat16
    float32               the largest products of float32 operands, with their GFLOP
    accessed_gb           10^9 bytes that a step's operations read and write, as the
                          compiler counts them (of GPUs: as hlo.py does)
    moves                 transposes, copies, pads and converts that stand alone, by
                          kind: number and bytes read and written; `moves_share` of
                          accessed_gb
    padding               bytes of the convolutions' operands in memory over those
                          without padding to tiles (TPUs)
    collectives           by kind: number, and bytes per device
    roofline_ms           the larger of operations over peak and bytes over bandwidth
    estimate_ms           the TPU compiler's own ESTIMATE of a step. It ignores that a
                          float32 product takes several passes, and waits for links
    programs              these for each program of a step, with its share of the steps
"""

import argparse
import importlib
import json
import math
import os
import resource
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import hlo
import jax
import jax.numpy as jnp
import numpy as np
import step_time
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax import core, target
from genjax.runtime import xla
from genjax.training import trainer


class Chip(NamedTuple):
    """Published figures of a chip."""

    flops: float  # bfloat16 operations per second
    bandwidth: float  # of its memory, bytes per second
    memory: float  # bytes


class Target(NamedTuple):
    """Devices to compile for."""

    chip: Chip
    topology: str  # of TPUs; "" for GPUs
    devices: int


V5E = Chip(197e12, 819e9, 16e9)
V6E = Chip(918e12, 1640e9, 32e9)
V5P = Chip(459e12, 2765e9, 95e9)
H100 = Chip(989e12, 3350e9, 80e9)
TARGETS = {
    "v5e-1": Target(V5E, "v5e:2x2", 1),
    "v5e-4": Target(V5E, "v5e:2x2", 4),
    "v5e-256": Target(V5E, "v5e:16x16", 256),
    "v6e-4": Target(V6E, "v6e:2x2", 4),
    "v5p-64": Target(V5P, "v5p:4x4x4", 64),
    "h100": Target(H100, "", 1),
    "h100x8": Target(H100, "", 8),
}
# Configurations of published sizes, with the published batch per device: DCGAN,
# CycleGAN, StyleGAN2 with ADA on 8 GPUs (the reference's --cfg=stylegan2), R3GAN on 8.
STYLEGAN2 = {"augment": "bgc", "batch_size": 8}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "dcgan": {
        "dcgan-64": {"shape": (64, 64, 3), "batch_size": 128},
        "r3gan-256": {
            "shape": (256, 256, 3),
            "network": "r3gan",
            "loss": "relativistic",
            "r1_gamma": 1.0,
            "r2_gamma": 1.0,
            "batch_size": 32,
        },
    },
    "cyclegan": {"resnet9-256": {"shape": (256, 256, 3), "blocks": 9, "batch_size": 1}},
    "stylegan2": {
        "64x64-ada": {"shape": (64, 64, 3), "channel_base": 8192, **STYLEGAN2, "batch_size": 32},
        "64x64-b32": {"shape": (64, 64, 3), "channel_base": 8192, "batch_size": 32},
        "256x256-ada": {"shape": (256, 256, 3), "channel_base": 16384, **STYLEGAN2},
        "512x512-ada": {"shape": (512, 512, 3), "channel_base": 32768, **STYLEGAN2},
        "1024x1024-ada": {
            "shape": (1024, 1024, 3),
            "channel_base": 32768,
            **STYLEGAN2,
            "batch_size": 4,
        },
    },
}
CASES = {
    model: {**step_time.CASES.get(model, {}), **PUBLISHED.get(model, {})}
    for model in {**step_time.CASES, **PUBLISHED}
}


def main() -> None:
    """Compile one case and print its JSON line."""
    parser = argparse.ArgumentParser(description="Compile a step for devices that are not here.")
    option = parser.add_argument
    option("model", choices=CASES)
    option("--config", help="default: the model's first; step_time.py and PUBLISHED list them")
    option("--target", choices=TARGETS, default="v5e-1")
    option("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    option("--options", default="{}", help="JSON object: further fields of the Config")
    option("--text", type=Path, help="folder for the programs' texts")
    args = parser.parse_args()
    cases = CASES[args.model]
    args.config = args.config or next(iter(cases))
    if args.config not in cases:
        parser.error(f"--config {args.config}: must be one of {', '.join(cases)}")
    fields = {**cases[args.config], "dtype": args.dtype, **json.loads(args.options)}
    row: dict[str, Any] = {"model": args.model, "config": args.config, "device": args.target}
    row |= {"dtype": args.dtype, "options": args.options if args.options != "{}" else ""}
    versions = {"jax": jax.__version__} | installed("libtpu", "jax-cuda13-plugin")
    row |= measure(args.model, fields, args.target, args.text) | {"versions": versions}
    step_time.show(row)


def measure(name: str, fields: dict[str, Any], where: str, folder: Path | None = None) -> dict:
    """Compile all programs of one model's step for a target; return the row."""
    chip, _, count = TARGETS[where]
    model = importlib.import_module(f"genjax.models.{name}")
    config = model.Config(**{**fields, "batch_size": fields["batch_size"] * count})
    recipe = model.recipe(config)
    row: dict[str, Any] = {"devices": count, "batch_size": config.batch_size}
    mesh = mesh_of(where)
    shares = step_time.schedule(recipe)
    programs, began = {}, cpu_seconds()
    shapes = step_time.set_shapes(name, config.shape)
    for part in trainer.programs_of(recipe, 0):
        step_time.say(f"compiling {part.name} of {name} for {where}")
        try:
            compiled = lowered(recipe, part, mesh, shapes).compile()
        except jax.errors.JaxRuntimeError as error:
            return row | {"compiles": False, "reason": f"{part.name}: {reason(error)}"}
        share = shares[part.name if part.name in shares else "step"]
        if folder:
            (folder / f"{name}-{where}-{part.name}.txt").write_text(compiled.as_text() or "")
        programs[part.name] = {"share": share} | facts(
            compiled, chip, sum(map(math.prod, shapes.values()))
        )
    row |= {"compiles": True, "compile_cpu_sec": cpu_seconds() - began}
    row |= summed(programs, chip)
    if row["estimate_ms"]:
        row["estimated_images_per_sec"] = 1000 * config.batch_size / row["estimate_ms"]
    return row | {"programs": programs}


def mesh_of(where: str) -> Mesh:
    """The devices of a target on one axis, "data"."""
    _, topology, count = TARGETS[where]
    if topology:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    else:
        # ptxas, of the package nvidia-cuda-nvcc
        packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
        tools = [str(path) for path in packages.glob("cu*/bin")]
        os.environ["PATH"] = os.pathsep.join([*tools, os.environ["PATH"]])
        shape = f"1x1x{count}"
        facts = (Path(__file__).parent / "h100.pbtxt").read_text()
        found = topologies.get_topology_desc(
            platform="cuda", topology_name=shape, topology=shape, target_config=facts
        )
    devices = np.array(found.devices[:count]).reshape(-1)
    return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))


def lowered(
    recipe: core.Recipe, part: trainer.Program, mesh: Mesh, shapes: dict[str, tuple[int, ...]]
) -> jax.stages.Lowered:
    """A program of a step as the trainer compiles it, for devices that need not exist.

    `shapes` are those of the resident set.
    """
    split, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))

    def abstract(tree: Any) -> Any:
        struct = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)
        return jax.tree.map(struct, tree)

    root = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(target.on(mesh, recipe.init), root)
    resident = {name: jax.ShapeDtypeStruct(shape, jnp.uint8) for name, shape in shapes.items()}
    run = trainer.repeated(part, step_time.SEED, step_time.prepare, split, True)
    arguments = (state, root, resident, jax.ShapeDtypeStruct((), jnp.int32))
    return jax.jit(run, donate_argnums=0).lower(*abstract(arguments))


def facts(compiled: Any, chip: Chip, resident: int) -> dict[str, Any]:
    """What a compiled program says of itself. `resident`: bytes of the resident set."""
    program = hlo.Program(compiled.as_text())
    cost = compiled.cost_analysis() or {}
    products = program.products()
    flop = sum(operations for _, operations, _ in products)
    low = sum(operations for dtype, operations, _ in products if dtype in ("bf16", "f16"))
    moves: dict[str, dict[str, float]] = {}
    alone = program.moves(entry=False)  # what is outside of the loop is no part of a step
    for kind, size, _ in alone:
        before = moves.setdefault(kind, {"count": 0, "gb": 0.0})
        moves[kind] = {"count": before["count"] + 1, "gb": before["gb"] + size / 1e9}
    plain, padded = program.padding()
    accessed = cost.get("bytes accessed") or program.accessed()
    return {
        "memory_mb": (xla.memory_needed(compiled) - resident) / 1e6,
        "gflop": flop / 1e9,
        "bf16_gflop": low / 1e9,
        "float32": largest([p for p in products if p[0] not in ("bf16", "f16")]),
        "accessed_gb": accessed / 1e9,
        "moves": moves,
        "moved": largest([(kind, float(size), i) for kind, size, i in alone]),
        "padding": padded / plain if plain else 1.0,
        "collectives": program.collectives(),
        "roofline_ms": 1000 * max(flop / chip.flops, accessed / chip.bandwidth),
        "estimate_ms": estimate(cost.get("optimal_seconds")),
    }


def largest(found: list[tuple[str, float, hlo.Instruction]], count: int = 4) -> list[str]:
    """The largest instructions, with their 10^9 operations or bytes and origin."""
    ordered = sorted(found, key=lambda entry: -entry[1])[:count]
    described = []
    for kind, size, instruction in ordered:
        shape = instruction.shapes[0]
        where = origin(instruction.attributes)
        described.append(f"{size / 1e9:.3g} {kind} {shape.dtype}{list(shape.dims)} {where}".strip())
    return described


def origin(attributes: str) -> str:
    """The operation of JAX that an instruction comes from, shortened."""
    _, _, rest = attributes.partition('op_name="')
    name = rest.partition('"')[0]
    return "/".join(name.split("/")[-3:])


def estimate(seconds: float | None) -> float | None:
    """The TPU compiler's estimate in ms; None where there is none.

    An operation without a cost counts as -1 second in it: the whole seconds are added
    back.
    """
    if seconds is None or seconds == 0:
        return None
    return 1000 * (seconds - math.floor(seconds) if seconds < 0 else seconds)


def summed(programs: dict[str, dict[str, Any]], chip: Chip) -> dict[str, Any]:
    """The figures of a step: its programs', weighted by their share of the steps."""

    def total(name: str) -> float:
        return sum(program["share"] * (program[name] or 0) for program in programs.values())

    memory = max(program["memory_mb"] for program in programs.values())
    moved = sum(
        program["share"] * kind["gb"]
        for program in programs.values()
        for kind in program["moves"].values()
    )
    gflop, accessed = total("gflop"), total("accessed_gb")
    estimated = all(program["estimate_ms"] for program in programs.values())
    return {
        "memory_mb": memory,
        "memory_share": memory * 1e6 / chip.memory,
        "gflop": gflop,
        "bf16_share": total("bf16_gflop") / gflop if gflop else None,
        "accessed_gb": accessed,
        "moves_share": moved / accessed if accessed else None,
        "padding": max(program["padding"] for program in programs.values()),
        "collectives_mb": sum(
            program["share"] * kind["bytes"] / 1e6
            for program in programs.values()
            for kind in program["collectives"].values()
        ),
        "roofline_ms": total("roofline_ms"),
        "estimate_ms": total("estimate_ms") if estimated else None,
    }


def reason(error: Exception) -> str:
    """The first line of an error, shortened."""
    return str(error).strip().splitlines()[0][:300]


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def installed(*names: str) -> dict[str, str]:
    """Versions of those of some packages that are installed."""
    from importlib import metadata

    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            step_time.say(f"{name} is not installed")
    return versions


if __name__ == "__main__":
    sys.exit(main())
