"""What the input costs: opening a large zip, streaming it, and drawing from a resident set. JSON lines on stdout.

    python benchmarks/input_pipeline.py [--images 200000] [--size 32] [--epochs 3] [--threads N] [--batch-size 256] [--waiting]

The zip holds generated PNGs in ten class folders, half smooth and half noise. Memory is that of this process, in MB (2**20
bytes), jax and the rest included; the set is generated in another process, so that its memory does not count. "waiting" is the share of
a training step of DCGAN from a streamed set in which the loop waits for its batch; "slower" what streaming costs in all, one minus the resident set's
time over the streamed set's: on a CPU decoding also takes the cores that train.
"""

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
import time
import zipfile
from pathlib import Path

import jax
import numpy as np
from step_time import device_name

from genjax import data
from genjax.models import dcgan
from genjax.training import hooks, trainer


def generate(path: Path, images: int, size: int) -> None:
    """A zip of `images` PNGs of size x size, out of 256 different ones."""
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
    """Memory of this process now; /proc is Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def report(what: str, **figures) -> None:
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    row = {
        "what": what,
        **figures,
        "rss_mb": rss_mb(),
        "peak_rss_mb": peak,
        "device": device_name(),
    }
    print(json.dumps(row), flush=True)


def measure_stream(path: Path, epochs: int, batch_size: int, threads: int | None) -> None:
    started = time.perf_counter()
    source = data.load(str(path), resident_mb=0)
    report("open", seconds=round(time.perf_counter() - started, 2), name=source.name)
    steps = max(1, source.size // batch_size)
    batches = data.stream(source, 0, 0, batch_size, threads=threads)
    next(batches)  # starts grain
    for epoch in range(epochs):
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        rate = steps * batch_size / (time.perf_counter() - started)
        report(
            "stream",
            epoch=epoch,
            threads=threads,
            batch_size=batch_size,
            images_per_sec=round(rate),
        )
    batches.close()


def measure_resident(images: int, size: int, batch_size: int) -> None:
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
    """Train from the zip, streamed and resident."""
    stream, waits, ms = data.stream, [], {}

    def watched(*args, **kwargs):
        batches = stream(*args, **kwargs)
        while True:
            began = time.perf_counter()
            batch = next(batches)
            waits.append(time.perf_counter() - began)
            yield batch

    data.stream = watched
    for kind, resident_mb in (("streamed", 0), ("resident", 2**20)):
        source = data.load(str(path), resident_mb=resident_mb)
        recipe, times = dcgan.recipe(dcgan.Config(shape=source.shape)), []
        note = hooks.every(every, lambda event, times=times: times.append(time.perf_counter()))
        trainer.fit(recipe, source, steps=steps, log_every=every, hooks=[note])
        ms[kind] = 1000 * float(np.median(np.diff(times))) / every
    data.stream = stream
    waiting = (
        1000 * float(np.mean(waits[every + 1 :])) / ms["streamed"]
    )  # the loop asks for a step's batch in the step before
    slower = 1 - ms["resident"] / ms["streamed"]
    report(
        "waiting",
        model="dcgan",
        batch_size=recipe.config.batch_size,
        ms_per_step=ms,
        waiting=waiting,
        slower=slower,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="as the library chooses, if not given")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--waiting", action="store_true", help="train too, streamed and resident")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.zip"
        worker = multiprocessing.get_context("spawn").Process(
            target=generate, args=(path, options.images, options.size)
        )
        worker.start()
        worker.join()
        report(
            "generated",
            images=options.images,
            size=options.size,
            zip_mb=round(path.stat().st_size / 2**20, 1),
        )
        measure_stream(path, options.epochs, options.batch_size, options.threads)
        if options.waiting:
            measure_waiting(path)
    measure_resident(min(options.images, 20_000), options.size, options.batch_size)


if __name__ == "__main__":
    main()
