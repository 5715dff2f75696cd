"""Sample quality of trained models: one JSON line per run.

    python benchmarks/quality.py train NAME [--data FOLDER] [--runs FOLDER]
    python benchmarks/quality.py measure [NAME ...] [--data FOLDER] [--runs FOLDER]
                                         [--extractor NAME] [--n 10000]

quality_runs.py lists the runs; the environment variable GENJAX_WEIGHTS names the folder
of the extractors' weights. `train` runs the command of a run; the same command again
resumes. `measure` measures the runs that exist, as `genjax eval` does, with the real
images at the run's resolution. Distances of extractors other than the Inception network
compare these runs with each other, not with published values.
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
    """Train or measure the named runs, by default all; return the exit code."""
    parser = argparse.ArgumentParser(description="Sample quality of trained models.")
    option = parser.add_argument
    option("what", choices=("train", "measure"))
    option("names", nargs="*", help=", ".join(RUNS))
    option("--data", type=Path, default=Path("data"), help="folder of the data sets")
    option("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    option("--extractor", help="extractor of the features; default: that of quality_runs.py")
    option("--n", type=int, default=10_000, help="number of images per draw")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in RUNS]:
        parser.error(f"{unknown[0]}: must be one of {', '.join(RUNS)}")
    if args.what == "train":
        return max(train(name, args.data, args.runs) for name in args.names or RUNS)
    chosen = [name for name in args.names or RUNS if (args.runs / name / "config.json").exists()]
    if not chosen:
        parser.error(
            f"--runs {args.runs}: has none of {', '.join(args.names or RUNS)}; train them first"
        )
    for name in chosen:
        say(name)
        data, extractor, command = RUNS[name]
        result = genjax.metrics.evaluate(
            str(args.data / data),
            args.runs / name,
            ["fd", "kid", "prdc"],
            extractor=args.extractor or extractor,
            count=args.n,
        )
        facts = {"run": name, "training": f"python train/{command} --data {data}"}
        where = {"fake": name, "device": device_name(), "versions": {"jax": jax.__version__}}
        show(facts | dataclasses.asdict(result) | where)
    return 0


def train(name: str, data: Path, runs: Path) -> int:
    """Train one run by its command; return the exit code."""
    spec, _, command = RUNS[name]
    script = Path(__file__).parent.parent / "train"
    first, *options = shlex.split(command)
    return subprocess.run(
        [sys.executable, script / first, *options, "--data", data / spec, "--out", runs / name],
        check=False,
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
