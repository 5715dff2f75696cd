"""How near the images of trained models are to their data: one JSON line a run.

    python benchmarks/quality.py train NAME [--data FOLDER] [--runs FOLDER]
    python benchmarks/quality.py measure [NAME ...] [--data FOLDER] [--runs FOLDER] [--extractor NAME] [--n 10000]

quality_runs.py names the runs; GENJAX_WEIGHTS is the folder of the weights that they are measured by. `train` runs a line's command, and again goes on
where it was stopped. `measure` takes those that are there, as `genjax eval` does: real images at the size that the run draws. Distances of another
extractor than the Inception compare runs with each other and with nothing that was published.
"""

import argparse
import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import jax
from quality_runs import RUNS
from step_time import device_name, say, show

import genjax.metrics


def main() -> int:
    parser = argparse.ArgumentParser(
        description="How near the images of trained models are to their data."
    )
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("names", nargs="*", help=", ".join(RUNS))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--extractor", help="in place of the table's")
    parser.add_argument("--n", type=int, default=10_000, help="images of each draw")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in RUNS]:
        parser.error(f"{unknown[0]}: none of {', '.join(RUNS)}")
    if args.what == "train":
        return max(train(name, args.data, args.runs) for name in args.names or RUNS)
    chosen = [name for name in args.names or RUNS if (args.runs / name / "config.json").exists()]
    if not chosen:
        parser.error(
            f"--runs {args.runs}: holds none of {', '.join(args.names or RUNS)}; train them first"
        )
    for name in chosen:
        say(name)
        data, extractor, command = RUNS[name]
        found = genjax.metrics.evaluate(
            str(args.data / data),
            args.runs / name,
            ["fd", "kid", "prdc"],
            extractor=args.extractor or extractor,
            count=args.n,
        )
        facts = {"run": name, "training": f"python train/{command} --data {data}"}
        show(
            facts
            | dataclasses.asdict(found)
            | {"fake": name, "device": device_name(), "versions": {"jax": jax.__version__}}
        )
    return 0


def train(name: str, data: Path, runs: Path) -> int:
    """The exit code of a line's command."""
    spec, _, command = RUNS[name]
    script = Path(__file__).parent.parent / "train"
    first, *options = shlex.split(command)
    return subprocess.run(
        [sys.executable, script / first, *options, "--data", data / spec, "--out", runs / name],
        check=False,
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
