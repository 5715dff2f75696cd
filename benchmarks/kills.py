"""Kill commands at random moments, repeat them, and compare with undisturbed runs.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--only train]

Each round starts a command in a new folder, kills it (SIGKILL) at a moment drawn from
the last 80 % of its run time, and repeats the same command until it completes. "lost"
counts the faults: the repeated command fails; its outputs (pixels, weights, values)
differ from those of an undisturbed command; an input has changed; a temporary file is
left behind. A command that is killed after its last output, while Python exits, may
refuse to run again if its outputs are equal. Prints one JSON line per command.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from step_time import device_name

from genjax.runtime.cache import VARIABLE

ROOT = Path(__file__).parents[1]
GENJAX = [sys.executable, "-m", "genjax"]
OFTEN = "--log-every 50 --sample-every 100 --save-every 50"
LIMIT = 300  # timeout of one command in seconds


class Case(NamedTuple):
    """A command to kill."""

    name: str
    weight: int  # relative number of kills
    command: list[str]  # run in the round's folder; IN stands for the folder of inputs
    outputs: Callable[[Path], Any]  # reads from the round's folder what must be equal


def script(model: str, options: str) -> list[str]:
    """The command that trains a model."""
    return [sys.executable, str(ROOT / "train" / f"{model}.py"), *options.split()]


def weights(folder: Path) -> Any:
    """SHA-256 of the run's weights, the steps of its log and the names of its grids."""
    run = folder / "run"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    grids = sorted(path.name for path in (run / "samples").glob("*.png"))
    return digest(run / "model.safetensors"), steps, grids


def pixels(folder: Path) -> Any:
    """SHA-256 of the pixels of every picture and every frame, by name and frame."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".gif"):
            with Image.open(path) as image:
                for frame in range(getattr(image, "n_frames", 1)):
                    image.seek(frame)
                    name = f"{path.relative_to(folder)} {frame}"
                    array = np.asarray(image.convert("RGB"))
                    hashes[name] = hashlib.sha256(array.tobytes()).hexdigest()
    return hashes


def values(folder: Path) -> Any:
    """The metrics in result.json."""
    return json.loads((folder / "result.json").read_text())["values"]


def converted(folder: Path) -> Any:
    """SHA-256 of a converted network's files."""
    return {name: digest(folder / "net" / name) for name in ("config.json", "model.safetensors")}


def genjax(words: str) -> list[str]:
    """A `genjax` command."""
    return [*GENJAX, *words.split()]


def cases() -> list[Case]:
    """Every command, with its relative number of kills and its outputs."""
    gan = f"--model.hidden 64 64 --batch-size 32 --steps 400 --out run {OFTEN}"
    vae = f"--model.hidden 64 --batch-size 32 --steps 400 --out run {OFTEN}"
    convert = genjax("convert stylegan2 IN/net.safetensors --out net")
    translate = genjax("translate IN/cyclegan IN/pictures --out out")
    evaluate = genjax("eval IN/set.npz IN/gan --extractor pixels --n 500 --json result.json")
    sample = genjax("sample IN/gan --seeds 0-63 --out out/")
    interpolate = genjax("interpolate IN/gan --seeds 1,2,3 --seconds 4 --out walk.gif")
    return [
        Case("train gan", 10, script("gan", gan), weights),
        Case("train vae", 10, script("vae", vae), weights),
        Case("convert", 6, convert, converted),
        Case("translate", 8, translate, pixels),
        Case("eval", 6, evaluate, values),
        Case("sample", 4, sample, pixels),
        Case("interpolate", 6, interpolate, pixels),
    ]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all files below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_inputs(folder: Path) -> None:
    """Write small trained runs, exported weights, pictures and an array of images."""
    quick = "--steps 2 --log-every 2"
    sizes = "--model.channels 4 --model.blocks 1 --model.disc-channels 4"
    for words in (
        script("gan", f"--model.hidden 64 64 --batch-size 32 {quick} --out gan"),
        script("cyclegan", f"{sizes} --batch-size 2 {quick} --out cyclegan"),
        script("stylegan2", f"--batch-size 4 {quick} --out stylegan2"),
        genjax("export stylegan2 --out net.safetensors"),
    ):
        subprocess.run(words, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    draw = np.random.default_rng(0)
    np.savez(folder / "set.npz", images=draw.integers(0, 256, (500, 8, 8, 1), np.uint8))
    (folder / "pictures").mkdir()
    for index in range(40):
        Image.fromarray(draw.integers(0, 256, (96, 96), np.uint8)).save(
            folder / f"pictures/{index}.png"
        )


def run(
    words: list[str], folder: Path, inputs: Path, kill_after: float | None = None
) -> tuple[int, str]:
    """Run a command, killed after `kill_after` seconds; return exit code and stderr."""
    words = [word.replace("IN/", f"{inputs}/") for word in words]
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, stderr = process.communicate(timeout=LIMIT if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
    return process.returncode, stderr


def measure(
    case: Case, kills: int, inputs: Path, work: Path, draw: random.Random
) -> dict[str, Any]:
    """Kill a command `kills` times, 1 to 3 times per round; return its row."""
    folder = work / "undisturbed"
    # Run once to compile, so that the time below is that of a repeated command.
    folder.mkdir()
    run(case.command, folder, inputs)
    shutil.rmtree(folder)
    folder.mkdir()
    began = time.perf_counter()
    code, stderr = run(case.command, folder, inputs)
    seconds = time.perf_counter() - began
    if code:
        raise SystemExit(f"{case.name}: fails undisturbed: {stderr[-300:]}")
    expected, before = case.outputs(folder), digests(inputs)
    shutil.rmtree(folder)
    done, rounds, faults = 0, 0, []
    while done < kills:
        folder = work / f"round{rounds}"
        folder.mkdir()
        rounds += 1
        for _ in range(draw.randint(1, 3)):
            code, _ = run(case.command, folder, inputs, kill_after=seconds * draw.uniform(0.2, 1))
            done += code == -signal.SIGKILL
            if not code:
                break
        if code:
            code, stderr = run(case.command, folder, inputs)
        try:
            equal = case.outputs(folder) == expected
        except (OSError, ValueError):
            equal = False
        if code and not equal:
            last_line = stderr.strip().splitlines()[-1][:200]
            faults.append(f"the repeated command ended with {code}: {last_line}")
        elif not equal:
            faults.append("outputs differ from those of an undisturbed command")
        temporary = [path for path in folder.rglob("*") if path.name.endswith(".part")]
        faults += [f"left behind: {path.relative_to(folder)}" for path in temporary]
        shutil.rmtree(folder)
    changed = [name for name, value in digests(inputs).items() if before.get(name) != value]
    faults += [f"input changed: {name}" for name in changed]
    return {
        "what": case.name,
        "kills": done,
        "rounds": rounds,
        "lost": len(faults),
        "faults": faults[:5],
        "device": device_name(),
    }


def main() -> int:
    """Kill all commands and print the JSON lines; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        description="Kill commands at random moments, repeat them, compare with undisturbed runs."
    )
    option = parser.add_argument
    option("--kills", type=int, default=50, help="total number of kills")
    option("--seed", type=int, default=0, help="seed of the moments")
    option("--only", default="", help="only commands whose name contains this text")
    options = parser.parse_args()
    lost, draw = 0, random.Random(options.seed)
    chosen = [case for case in cases() if options.only in case.name]
    share = options.kills / sum(case.weight for case in chosen)
    with tempfile.TemporaryDirectory() as name:
        os.environ[VARIABLE] = f"{name}/cache"
        inputs = Path(name, "inputs")
        inputs.mkdir()
        make_inputs(inputs)
        for case in chosen:
            work = Path(name, case.name.replace(" ", "_"))
            work.mkdir()
            row = measure(case, round(share * case.weight), inputs, work, draw)
            lost += row["lost"]
            print(json.dumps(row), flush=True)
    return min(lost, 1)


if __name__ == "__main__":
    raise SystemExit(main())
