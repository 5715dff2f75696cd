"""Kill commands at random moments, repeat each until it is done, and compare what they leave with what they leave undisturbed.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--only train]

Each round starts a command in a folder of its own, kills it (SIGKILL) at a moment drawn from
the last 80 % of its time, and repeats the same command until it ends by itself. Lost: the
repeated command fails, its outputs differ from those of the command that was left alone (pixels,
weights, values), an input has changed, or a temporary file stays behind. A command that is killed
after its last output, while Python ends, may refuse to do it again: its outputs must be equal.
One JSON line per command on standard output.
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
LIMIT = 300  # seconds that one command may take


class Case(NamedTuple):
    name: str
    weight: int  # share of the kills
    command: list[str]  # run in the round's folder; IN stands for the folder of inputs
    outputs: Callable[[Path], Any]  # of the round's folder: what must be equal


def script(model: str, options: str) -> list[str]:
    return [sys.executable, str(ROOT / "train" / f"{model}.py"), *options.split()]


def weights(folder: Path) -> Any:
    """SHA-256 of the run's weights, and the steps of its log and sample grids."""
    run = folder / "run"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    grids = sorted(path.name for path in (run / "samples").glob("*.png"))
    return digest(run / "model.safetensors"), steps, grids


def pixels(folder: Path) -> Any:
    """SHA-256 of the pixels of every picture and every frame."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".gif"):
            with Image.open(path) as image:
                for frame in range(getattr(image, "n_frames", 1)):
                    image.seek(frame)
                    name = f"{path.relative_to(folder)} {frame}"
                    found[name] = hashlib.sha256(
                        np.asarray(image.convert("RGB")).tobytes()
                    ).hexdigest()
    return found


def values(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())["values"]


def converted(folder: Path) -> Any:
    return {name: digest(folder / "net" / name) for name in ("config.json", "model.safetensors")}


def cases() -> list[Case]:
    gan = f"--model.hidden 64 64 --batch-size 32 --steps 400 --out run {OFTEN}"
    vae = f"--model.hidden 64 --batch-size 32 --steps 400 --out run {OFTEN}"
    return [
        Case("train gan", 10, script("gan", gan), weights),
        Case("train vae", 10, script("vae", vae), weights),
        Case(
            "convert",
            6,
            [*GENJAX, *["convert", "stylegan2", "IN/net.safetensors", "--out", "net"]],
            converted,
        ),
        Case(
            "translate",
            8,
            [*GENJAX, *["translate", "IN/cyclegan", "IN/pictures", "--out", "out"]],
            pixels,
        ),
        Case(
            "eval",
            6,
            [
                *GENJAX,
                *[
                    "eval",
                    "IN/set.npz",
                    "IN/gan",
                    "--extractor",
                    "pixels",
                    "--n",
                    "500",
                    "--json",
                    "result.json",
                ],
            ],
            values,
        ),
        Case(
            "sample",
            4,
            [*GENJAX, *["sample", "IN/gan", "--seeds", "0-63", "--out", "out/"]],
            pixels,
        ),
        Case(
            "interpolate",
            6,
            [
                *GENJAX,
                *[
                    "interpolate",
                    "IN/gan",
                    "--seeds",
                    "1,2,3",
                    "--seconds",
                    "4",
                    "--out",
                    "walk.gif",
                ],
            ],
            pixels,
        ),
    ]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_inputs(folder: Path) -> None:
    """Small trained runs, exported weights, pictures and an array of images."""
    quick = "--steps 2 --log-every 2"
    for words in (
        script("gan", f"--model.hidden 64 64 --batch-size 32 {quick} --out gan"),
        script(
            "cyclegan",
            f"--model.channels 4 --model.blocks 1 --model.disc-channels 4 --batch-size 2 {quick} --out cyclegan",
        ),
        script("stylegan2", f"--batch-size 4 {quick} --out stylegan2"),
        [*GENJAX, *["export", "stylegan2", "--out", "net.safetensors"]],
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
    """(exit code, standard error) of a command, which is killed after so many seconds if it still runs."""
    words = [word.replace("IN/", f"{inputs}/") for word in words]
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = process.communicate(timeout=LIMIT if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    return process.returncode, said


def measure(
    case: Case, kills: int, inputs: Path, work: Path, draw: random.Random
) -> dict[str, Any]:
    """Kill a command so often, a few times before it may end, and count what was lost."""
    folder = work / "undisturbed"
    folder.mkdir()
    run(
        case.command, folder, inputs
    )  # compiles, so that the time below is that of the repeated command
    shutil.rmtree(folder)
    folder.mkdir()
    began = time.perf_counter()
    code, said = run(case.command, folder, inputs)
    seconds = time.perf_counter() - began
    if code:
        raise SystemExit(f"{case.name}: does not run by itself: {said[-300:]}")
    wanted, before = case.outputs(folder), digests(inputs)
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
            code, said = run(case.command, folder, inputs)
        try:
            equal = case.outputs(folder) == wanted
        except (OSError, ValueError):
            equal = False
        if code and not equal:
            faults.append(
                f"the repeated command ended with {code}: {said.strip().splitlines()[-1][:200]}"
            )
        elif not equal:
            faults.append("other outputs than undisturbed")
        left = [
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.name.endswith(".part")
        ]
        faults += [f"left behind: {name}" for name in left]
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", default="", help="commands whose name holds this")
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
