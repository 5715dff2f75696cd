"""Time per batch of samples, against the same network in PyTorch.

    python benchmarks/sample_time.py MODEL [--config C]
        [--verb sample|translate|reconstruct] [--batch-size N ...]
        [--dtype float32|bfloat16] [--peer torch|torch-compile|reference|none]
        [--seconds S] [--rounds N]

Prints one JSON line per batch size. Ours is the jitted verb (a CycleGAN translates, the
others sample, a VAE also reconstructs) with the averaged weights and batch norm's
running statistics. `sample` draws latents and returns images in [-1, 1]; the other
verbs get noise as images, already on the device. The peer is its eager network in eval
mode under torch.inference_mode, with the same weights, in its faster memory layout and
on one or all cores, whichever is faster. Models, configurations and the way the sides
take turns are those of step_time.py. The images stay on the device.

    ms_per_batch, peer_ms_per_batch       medians of the rounds
    images_per_sec, peer_images_per_sec   from these medians
    ratio, ratio_spread   the peer's time over ours, per round: median; first and third
                          quartile
    compile_sec           time to trace and compile our program, nothing cached
    first_image_sec       compile_sec plus the first batch
    load                  the machine's load average before the start; should be about 0
"""

import argparse
import copy
import importlib
import time
from typing import Any

import jax
import step_time
from step_time import SEED, Run, say

from genjax import core
from genjax.runtime import memory

VERBS = {"vae": ("sample", "reconstruct"), "cyclegan": ("translate",)}  # others: sample


def main() -> None:
    """Measure each batch size and print its JSON line."""
    jax.config.update("jax_enable_compilation_cache", False)  # or compile_sec would be 0
    memory.keep_freed()  # for both sides, as the scripts do
    parser = step_time.arguments(
        "Time per batch of samples, against the same network in PyTorch.", seconds=0.5
    )
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--verb", choices=("sample", "translate", "reconstruct"))
    args, fields = step_time.parse(parser)
    verbs = VERBS.get(args.model, ("sample",))
    args.verb = args.verb or verbs[0]
    if min(args.batch_size) < 1:
        parser.error(f"--batch-size {min(args.batch_size)}: must be at least 1")
    if args.verb not in verbs:
        parser.error(f"--verb {args.verb}: of {args.model} must be {' or '.join(verbs)}")
    for batch_size in args.batch_size:
        step_time.show(measure(args, fields, batch_size))


def measure(args: argparse.Namespace, fields: dict, batch_size: int) -> dict:
    """Race one case at one batch size; return its row."""
    model = importlib.import_module(f"genjax.models.{args.model}")
    config = model.Config(**fields)
    recipe = model.recipe(config)
    weights = core.weights(jax.jit(recipe.init)(jax.random.key(SEED)))
    facts = {"versions": {"jax": jax.__version__}, "load": step_time.load()}
    say(f"compiling ours, batches of {batch_size}")
    run, costs = ours(recipe, args.verb, weights, batch_size)
    runs = [run]
    if args.peer != "none":
        say(f"building the peer, {args.peer}")
        module, device, facts["versions"]["torch"] = step_time.peer(
            args.module, config, jax.device_get(weights)
        )
        compiled = args.peer == "torch-compile"
        runs.append(theirs(module, config, args.verb, batch_size, device, compiled))
    rounds = step_time.race(runs, args.rounds, args.seconds, "per batch")
    ms, peer_ms, ratios = step_time.summary(rounds)
    row = {"model": args.model, "config": args.config, "verb": args.verb}
    row |= {"device": step_time.device_name(), "dtype": config.dtype, "batch_size": batch_size}
    row |= {"ms_per_batch": ms, "images_per_sec": 1000 * batch_size / ms} | costs
    row |= {
        "peer": args.peer,
        "peer_ms_per_batch": peer_ms,
        "peer_images_per_sec": peer_ms and 1000 * batch_size / peer_ms,
    }
    return row | ratios | {"rounds": args.rounds} | facts


def ours(
    recipe: Any, verb: str, weights: core.Weights, batch_size: int
) -> tuple[Run, dict[str, float]]:
    """Our program's run, and the seconds to its compilation and to its first batch."""
    keys = list(jax.random.split(jax.random.key(SEED), 64))
    shape = (batch_size, *recipe.config.shape)
    inputs, sizes = keys, (batch_size,)
    if verb != "sample":
        inputs, sizes = [jax.random.uniform(key, shape, minval=-1) for key in keys[:4]], ()
    jax.block_until_ready(inputs)
    began = time.perf_counter()
    function = jax.jit(getattr(recipe, verb), static_argnums=2 if sizes else ())
    program = function.lower(weights, inputs[0], *sizes).compile()
    compile_sec = time.perf_counter() - began
    jax.block_until_ready(program(weights, inputs[0]))
    first_sec = time.perf_counter() - began

    def run(count: int) -> None:
        for number in range(count):
            images = program(weights, inputs[number % len(inputs)])
        jax.block_until_ready(images)

    return run, {"compile_sec": compile_sec, "first_image_sec": first_sec}


def theirs(
    module: Any, config: Any, verb: str, batch_size: int, device: str, compiled: bool
) -> Run:
    """The run of the peer's generator, decoder, or encoder and decoder.

    Args:
        module: the peer's module, with our weights
        config: the model's Config
        verb: sample, translate or reconstruct
        batch_size: images per batch
        device: cpu or cuda
        compiled: whether to use torch.compile
    """
    import torch

    def network(peer: Any) -> Any:
        decode = lambda latents: torch.sigmoid(peer.decode(latents)) * 2 - 1
        if verb == "translate":
            return peer.gens["a2b"]
        if verb == "reconstruct":
            return lambda images: decode(peer.encode((images + 1) / 2)[0])
        return getattr(peer, "generate", getattr(peer, "gen", decode))

    height, width, channels = config.shape
    shape = (batch_size, channels, height, width)
    if verb == "sample":
        shape = (batch_size, config.z_dim)

    def in_layout(layout: torch.memory_format) -> dict[str, Run]:
        peer = copy.deepcopy(module).to(device).to(memory_format=layout).eval()
        generate = torch.compile(network(peer)) if compiled else network(peer)
        images = torch.rand(shape, device=device) * 2 - 1 if verb != "sample" else None
        images = images.contiguous(memory_format=layout) if images is not None else None

        @torch.inference_mode()
        def run(count: int) -> None:
            for _ in range(count):
                with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                    inputs = torch.randn(shape, device=device) if images is None else images
                    outputs = generate(inputs).float()
            if device == "cuda":
                torch.cuda.synchronize()
            assert outputs.shape[0] == batch_size

        return {"step": run}

    return step_time.fastest(in_layout)["step"]


if __name__ == "__main__":
    main()
