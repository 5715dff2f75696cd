"""Time of sampling a batch of images, beside the same generator in PyTorch: one JSON line a batch size.

    python benchmarks/sample_time.py MODEL [--config C] [--batch-size N ...] [--dtype float32|bfloat16]
                                           [--peer torch|torch-compile|reference|none] [--seconds S] [--rounds N]

Ours is the jitted `model.sample`, with the averaged weights and batch norm's kept statistics: it draws latents and gives images in
[-1, 1], one call after another. The peer is its eager generator in eval mode under torch.inference_mode, from the same weights and
latents drawn there, in its faster layout and on one or all cores, whichever is faster. Models, configurations, and how the sides take turns are
step_time.py's. Each side's images stay on its device.

    ms_per_batch, peer_ms_per_batch medians of the rounds; images_per_sec, peer_images_per_sec follow from them
    ratio, ratio_spread             the peer's time over ours: median, and first and third quartile, of the rounds' ratios
    compile_sec                     trace and compile of our one program, nothing cached
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


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # for compile_sec
    parser = step_time.arguments("Time of sampling, beside the same generator in PyTorch.", seconds=0.5)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 1])
    args, fields = step_time.parse(parser)
    if min(args.batch_size) < 1:
        parser.error("--batch-size is more than 0")
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
    run, compile_sec = ours(recipe, weights, batch_size)
    runs = [run]
    if args.peer != "none":
        say(f"building the peer, {args.peer}")
        module, device, facts["versions"]["torch"] = step_time.peer(args.module, config, jax.device_get(weights))
        runs.append(theirs(module, config, batch_size, device, compiled=args.peer == "torch-compile"))
    ms, peer_ms, ratios = step_time.summary(step_time.race(runs, args.rounds, args.seconds, "a batch"))
    row = {"model": args.model, "config": args.config, "device": step_time.device_name(), "dtype": config.dtype}
    row |= {"batch_size": batch_size, "ms_per_batch": ms, "images_per_sec": 1000 * batch_size / ms, "compile_sec": compile_sec}
    row |= {"peer": args.peer, "peer_ms_per_batch": peer_ms, "peer_images_per_sec": peer_ms and 1000 * batch_size / peer_ms}
    return row | ratios | {"rounds": args.rounds} | facts


def ours(recipe, weights: core.Weights, batch_size: int) -> tuple[Run, float]:
    """Our program, and what compiling it took."""
    began = time.perf_counter()
    program = jax.jit(recipe.sample, static_argnums=2).lower(weights, jax.random.key(SEED), batch_size).compile()
    compile_sec = time.perf_counter() - began
    keys = list(jax.random.split(jax.random.key(SEED), 64))

    def run(count: int) -> None:
        for number in range(count):
            images = program(weights, keys[number % len(keys)])
        jax.block_until_ready(images)

    return run, compile_sec


def theirs(module, config, batch_size: int, device: str, compiled: bool) -> Run:
    """The peer's generator, or decoder."""
    import torch

    def in_layout(layout) -> dict[str, Run]:
        peer = copy.deepcopy(module).to(device).to(memory_format=layout).eval()
        decode = lambda latents: torch.sigmoid(peer.decode(latents)) * 2 - 1
        generate = next((getattr(peer, name) for name in ("generate", "gen") if hasattr(peer, name)), decode)
        generate = torch.compile(generate) if compiled else generate

        @torch.inference_mode()
        def run(count: int) -> None:
            for _ in range(count):
                with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                    images = generate(torch.randn(batch_size, config.latent_size, device=device)).float()
            if device == "cuda":
                torch.cuda.synchronize()
            assert images.shape[0] == batch_size

        return {"step": run}

    return step_time.fastest(in_layout)["step"]


if __name__ == "__main__":
    main()
