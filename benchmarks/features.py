"""Images per second through the Inception network of the FID papers: one JSON line.

    python benchmarks/features.py [--batch-size N] [--size PIXELS] [--protocol P]
                                  [--peer torch|none] [--seconds S] [--rounds N]

Compared with torch-fidelity, with random weights: from uint8 images in memory to the
2048 features, resized by the protocol (ours; torch-fidelity always resizes as
tf_legacy). Both sides run on the same device and take turns in one process, so that
other work on the machine affects both. The peer is eager PyTorch in the faster of its
memory layouts, on one or all cores, whichever is faster. For one core each: `taskset -c
0 python benchmarks/features.py`.

    images_per_sec, peer_images_per_sec   medians of the rounds
    ratio, ratio_spread   the peer's time over ours, per round: median; first and third
                          quartile
    error                 norm of the difference of the features over the norm of the
                          peer's
    compile_sec           time to trace and compile our program, nothing cached
    load                  the machine's load average before the start; should be about 0
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from peers import inception as peer
from peers.tensors import to_layout
from step_time import SEED, Run, device_name, fastest, load, race, show, summary

from genjax import target
from genjax.metrics import extractors
from genjax.metrics.extractors import protocols
from genjax.runtime import memory, xla


def main() -> None:
    """Race the two sides and print the JSON line."""
    memory.keep_freed()  # for both sides
    parser = argparse.ArgumentParser(
        description="Images per second through the Inception network, against torch-fidelity."
    )
    option = parser.add_argument
    option("--batch-size", type=int, default=32)
    option("--size", type=int, default=32, help="height and width of the images in pixels")
    option("--protocol", choices=protocols.PROTOCOLS, default="tf_legacy")
    option("--peer", choices=("torch", "none"), default="torch")
    option("--seconds", type=float, default=5, help="seconds of each side per round")
    option("--rounds", type=int, default=7)
    args = parser.parse_args()
    if min(args.batch_size, args.size) < 1 or args.rounds < 2 or args.seconds <= 0:
        parser.error(
            "--batch-size and --size must be at least 1, --rounds at least 2, --seconds above 0"
        )
    jax.config.update("jax_enable_compilation_cache", False)  # or compile_sec would be 0
    busy = load()
    images = np.random.default_rng(SEED).integers(
        0, 256, (args.batch_size, args.size, args.size, 3), np.uint8
    )
    with tempfile.TemporaryDirectory() as folder:
        path = peer.save_random(Path(folder) / "weights.pth", SEED)
        run, features, compile_sec = ours(path, images, args.protocol)
        row = {
            "network": "inception",
            **{k: v for k, v in vars(args).items() if k not in ("seconds", "rounds")},
        }
        runs = [run]
        if args.peer == "torch":
            run, expected = theirs(path, images)
            runs.append(run)
            row["error"] = float(np.linalg.norm(features - expected) / np.linalg.norm(expected))
    ms, peer_ms, ratios = summary(race(runs, args.rounds, args.seconds, "per batch"))
    row |= {
        "images_per_sec": 1000 * args.batch_size / ms,
        "peer_images_per_sec": peer_ms and 1000 * args.batch_size / peer_ms,
    }
    show(row | ratios | {"compile_sec": compile_sec, "load": busy, "device": device_name()})


def ours(path: Path, images: np.ndarray, protocol: str) -> tuple[Run, np.ndarray, float]:
    """Our program: its run, its features [n, 2048] and the seconds to compile it."""
    extractor = extractors.extractor("inception", path, protocol=protocol, checksum=False)
    began = time.perf_counter()
    lowered = jax.jit(extractor.apply, static_argnums=2).lower(
        extractor.params, jnp.asarray(images), ("features",)
    )
    program = lowered.compile(xla.options(target.platform(), *xla.FEATURES))
    took = time.perf_counter() - began

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(program(extractor.params, jnp.asarray(images)))

    return run, np.asarray(program(extractor.params, jnp.asarray(images))["features"]), took


def theirs(path: Path, images: np.ndarray) -> tuple[Run, np.ndarray]:
    """The peer's network: its run and its features [n, 2048]."""
    import torch

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    network = peer.build(path).to(device)
    # Full float32, as ours.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def in_layout(layout: torch.memory_format) -> dict[str, Run]:
        to_layout(network, layout)
        x = torch.tensor(images.transpose(0, 3, 1, 2)).to(device).contiguous(memory_format=layout)

        def run(count: int) -> None:
            to_layout(network, layout)
            with torch.no_grad():
                for _ in range(count):
                    network(x)[0].cpu()

        return {"step": run}

    with torch.no_grad():
        features = network(torch.tensor(images.transpose(0, 3, 1, 2)).to(device))[0].cpu().numpy()
    return fastest(in_layout)["step"], features


if __name__ == "__main__":
    main()
