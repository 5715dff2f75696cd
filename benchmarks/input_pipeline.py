"""Speed of the input pipeline: opening and streaming a large zip, and resident batches.

    python benchmarks/input_pipeline.py [--images 200000] [--size 32] [--epochs 3]
                                        [--threads N] [--batch-size 256] [--waiting]

Prints JSON lines. The zip holds generated PNGs in ten class folders, half smooth and
half noise. Memory is that of this process in MB (2**20 bytes), JAX included; the set is
generated in another process, so that its memory does not count. "waiting" is the share
of a DCGAN training step that the loop spends waiting for its streamed batch; "slower"
is the total cost of streaming, one minus the resident set's time over the streamed
set's: on a CPU, decoding competes with training for the cores.
"""

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
import time
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from step_time import device_name

from genjax import data
from genjax.models import dcgan
from genjax.training import hooks, trainer


def generate(path: Path, images: int, size: int) -> None:
    """Write a zip of `images` PNGs of size x size, 256 of them distinct."""
    from PIL import Image

    random = np.random.default_rng(0)
    encoded = []
    for index in range(256):
        small = random.integers(
            0, 256, (size if index % 2 else 4, size if index % 2 else 4, 3), np.uint8
        )
        stream = io.BytesIO()
        Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(stream, "PNG")
        encoded.append(stream.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(images):
            archive.writestr(f"{index % 10}/{index:07d}.png", encoded[index % 256])


def rss_mb() -> float:
    """Resident memory of this process now, from /proc (Linux only)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def report(what: str, **figures: Any) -> None:
    """Print the figures and the process's memory as a JSON line."""
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    facts = {"rss_mb": rss_mb(), "peak_rss_mb": peak, "device": device_name()}
    print(json.dumps({"what": what, **figures, **facts}), flush=True)


def measure_stream(path: Path, epochs: int, batch_size: int, threads: int | None) -> None:
    """Time opening the zip and streaming it for some epochs."""
    started = time.perf_counter()
    source = data.load(str(path), resident_mb=0)
    report("open", seconds=round(time.perf_counter() - started, 2), name=source.name)
    steps = max(1, source.size // batch_size)
    # `stream` returns a generator, whose `close` stops the workers.
    batches = cast(Generator, data.stream(source, 0, 0, batch_size, threads=threads))
    next(batches)  # the first batch starts grain
    for epoch in range(epochs):
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        rate = round(steps * batch_size / (time.perf_counter() - started))
        facts = {"threads": threads, "batch_size": batch_size, "images_per_sec": rate}
        report("stream", epoch=epoch, **facts)
    batches.close()


def measure_resident(images: int, size: int, batch_size: int) -> None:
    """Time gathering and converting batches of a set on the device."""
    random = np.random.default_rng(0)
    arrays = {
        "images": random.integers(0, 256, (images, size, size, 3), np.uint8),
        "labels": np.zeros(images, np.int32),
    }
    on_device = jax.device_put(arrays)

    @jax.jit
    def batch(arrays, seed, step):
        return data.prepare(data.take(arrays, seed, step, batch_size), jax.random.key(0), True)

    jax.block_until_ready(batch(on_device, np.uint32(0), np.int32(0)))
    steps = 200
    started = time.perf_counter()
    for step in range(steps):
        jax.block_until_ready(batch(on_device, np.uint32(0), np.int32(step)))
    rate = steps * batch_size / (time.perf_counter() - started)
    report("resident", images=images, batch_size=batch_size, images_per_sec=round(rate))


def measure_waiting(path: Path, steps: int = 40, every: int = 5) -> None:
    """Train a DCGAN from the zip, streamed and resident, and compare the step times."""
    stream, waits, ms = data.stream, [], {}

    def timed(*args: Any, **kwargs: Any) -> Iterator[dict[str, np.ndarray]]:
        batches = stream(*args, **kwargs)
        while True:
            began = time.perf_counter()
            batch = next(batches)
            waits.append(time.perf_counter() - began)
            yield batch

    data.stream = timed
    for kind, resident_mb in (("streamed", 0), ("resident", 2**20)):
        source = data.load(str(path), resident_mb=resident_mb)
        recipe, times = dcgan.recipe(dcgan.Config(shape=source.shape)), []
        note = hooks.every(every, lambda event, times=times: times.append(time.perf_counter()))
        trainer.fit(recipe, source, steps=steps, log_every=every, hooks=[note])
        ms[kind] = 1000 * float(np.median(np.diff(times))) / every
    data.stream = stream
    # The first waits are warm-up; the loop asks for a step's batch one step ahead.
    waiting = 1000 * float(np.mean(waits[every + 1 :])) / ms["streamed"]
    slower = 1 - ms["resident"] / ms["streamed"]
    facts = {"model": "dcgan", "batch_size": recipe.config.batch_size, "ms_per_step": ms}
    report("waiting", **facts, waiting=waiting, slower=slower)


def main() -> None:
    """Generate a zip and print the JSON lines."""
    parser = argparse.ArgumentParser(
        description="Speed of the input pipeline: a large zip, streamed, and resident batches."
    )
    option = parser.add_argument
    option("--images", type=int, default=200_000, help="number of images")
    option("--size", type=int, default=32, help="height and width of the images in pixels")
    option("--epochs", type=int, default=3)
    option("--threads", type=int, help="decoding threads; default: the library's choice")
    option("--batch-size", type=int, default=256)
    option("--waiting", action="store_true", help="also train, streamed and resident")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.zip"
        worker = multiprocessing.get_context("spawn").Process(
            target=generate, args=(path, options.images, options.size)
        )
        worker.start()
        worker.join()
        zip_mb = round(path.stat().st_size / 2**20, 1)
        report("generated", images=options.images, size=options.size, zip_mb=zip_mb)
        measure_stream(path, options.epochs, options.batch_size, options.threads)
        if options.waiting:
            measure_waiting(path)
    measure_resident(min(options.images, 20_000), options.size, options.batch_size)


if __name__ == "__main__":
    main()
