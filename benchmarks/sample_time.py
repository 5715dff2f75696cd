"""Time of making a batch of images, beside the same network in PyTorch: one JSON line a batch size.

    python benchmarks/sample_time.py MODEL [--config C] [--verb sample|translate|reconstruct] [--batch-size N ...] [--dtype float32|bfloat16]
                                           [--peer torch|torch-compile|reference|none] [--seconds S] [--rounds N]

Ours is the jitted verb (a CycleGAN translates, the others sample, a VAE also reconstructs) with the averaged weights and batch norm's kept
statistics: `sample` draws latents and gives images in [-1, 1], one call after another; the other verbs take noise as images, there already. The
peer is its eager network in eval mode under torch.inference_mode, from the same weights, in its faster layout and on one or all cores, whichever
is faster. Models, configurations, and how the sides take turns are step_time.py's. Each side's images stay on its device.

    ms_per_batch, peer_ms_per_batch medians of the rounds; images_per_sec, peer_images_per_sec follow from them
    ratio, ratio_spread             the peer's time over ours: median, and first and third quartile, of the rounds' ratios
    compile_sec                     trace and compile of our one program, nothing cached
    first_image_sec                 that, and the first batch
    load                            the machine's load average before the start. Wants to be about 0
"""

import argparse
import copy
import importlib
import time

import jax
import step_time
from step_time import SEED, Run, say

from genjax import core
from genjax.runtime import memory

VERBS = {"vae": ("sample", "reconstruct"), "cyclegan": ("translate",)}  # of the others: sample


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # for compile_sec
    memory.keep_freed()  # for both sides, as the scripts do
    parser = step_time.arguments(
        "Time of making images, beside the same network in PyTorch.", seconds=0.5
    )
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--verb", choices=("sample", "translate", "reconstruct"))
    args, fields = step_time.parse(parser)
    verbs = VERBS.get(args.model, ("sample",))
    args.verb = args.verb or verbs[0]
    if min(args.batch_size) < 1 or args.verb not in verbs:
        parser.error(f"--batch-size is more than 0, --verb of {args.model} is {' or '.join(verbs)}")
    for batch_size in args.batch_size:
        step_time.show(measure(args, fields, batch_size))


def measure(args: argparse.Namespace, fields: dict, batch_size: int) -> dict:
    """The row of one case at one batch size."""
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
        runs.append(
            theirs(
                module, config, args.verb, batch_size, device, compiled=args.peer == "torch-compile"
            )
        )
    ms, peer_ms, ratios = step_time.summary(
        step_time.race(runs, args.rounds, args.seconds, "a batch")
    )
    row = {
        "model": args.model,
        "config": args.config,
        "verb": args.verb,
        "device": step_time.device_name(),
        "dtype": config.dtype,
    }
    row |= {
        "batch_size": batch_size,
        "ms_per_batch": ms,
        "images_per_sec": 1000 * batch_size / ms,
    } | costs
    row |= {
        "peer": args.peer,
        "peer_ms_per_batch": peer_ms,
        "peer_images_per_sec": peer_ms and 1000 * batch_size / peer_ms,
    }
    return row | ratios | {"rounds": args.rounds} | facts


def ours(recipe, verb: str, weights: core.Weights, batch_size: int) -> tuple[Run, dict[str, float]]:
    """Our program, and what getting a first batch from it took."""
    keys = list(jax.random.split(jax.random.key(SEED), 64))
    shape = (batch_size, *recipe.config.shape)
    inputs = (
        keys
        if verb == "sample"
        else [jax.random.uniform(key, shape, minval=-1) for key in keys[:4]]
    )
    jax.block_until_ready(inputs)
    began = time.perf_counter()
    program = (
        getattr(recipe, verb)
        .lower(weights, inputs[0], *((batch_size,) if verb == "sample" else ()))
        .compile()
    )
    compile_sec = time.perf_counter() - began
    jax.block_until_ready(program(weights, inputs[0]))
    first_sec = time.perf_counter() - began

    def run(count: int) -> None:
        for number in range(count):
            images = program(weights, inputs[number % len(inputs)])
        jax.block_until_ready(images)

    return run, {"compile_sec": compile_sec, "first_image_sec": first_sec}


def theirs(module, config, verb: str, batch_size: int, device: str, compiled: bool) -> Run:
    """The peer's generator, or decoder, or both its halves."""
    import torch

    def network(peer):
        decode = lambda latents: torch.sigmoid(peer.decode(latents)) * 2 - 1
        if verb == "translate":
            return peer.gens["a2b"]
        if verb == "reconstruct":
            return lambda images: decode(peer.encode((images + 1) / 2)[0])
        return next(
            (getattr(peer, name) for name in ("generate", "gen") if hasattr(peer, name)), decode
        )

    height, width, channels = config.shape
    shape = (
        (batch_size, config.latent_size)
        if verb == "sample"
        else (batch_size, channels, height, width)
    )

    def in_layout(layout) -> dict[str, Run]:
        peer = copy.deepcopy(module).to(device).to(memory_format=layout).eval()
        generate = torch.compile(network(peer)) if compiled else network(peer)
        images = torch.rand(shape, device=device) * 2 - 1 if verb != "sample" else None
        images = images.contiguous(memory_format=layout) if images is not None else None

        @torch.inference_mode()
        def run(count: int) -> None:
            for _ in range(count):
                with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                    made = generate(
                        torch.randn(shape, device=device) if images is None else images
                    ).float()
            if device == "cuda":
                torch.cuda.synchronize()
            assert made.shape[0] == batch_size

        return {"step": run}

    return step_time.fastest(in_layout)["step"]


if __name__ == "__main__":
    main()
