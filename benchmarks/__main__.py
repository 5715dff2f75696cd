"""The benchmark suite.

    python -m benchmarks [--full] [--only PATTERN] [--out FILE] [--compare OLD] [--list]
                         [--runs FOLDER --data FOLDER]
    python -m benchmarks targets [--only PATTERN] [--out FILE] [--compare OLD] [--list]
    python -m benchmarks report [--results FILE]

The first form runs the cases below one after another, each in its own process: by
default those that take about 20 minutes on two CPU cores, with --full all of them, for
a GPU. It prints a table and writes the JSON lines of each script, with its command,
date and versions, to FILE as soon as the script ends. FILE is results.jsonl beside this
file by default; new lines replace those of the same case on the same device. `targets`
does the same with cases that compile the programs of every model for TPUs and GPUs,
which need not be here (targets.py; the extra `targets`): none of its figures is a
measurement.

--only PATTERN selects cases whose command matches the regular expression. --runs and
--data also measure the trained runs of quality_runs.py. --compare OLD shows what
changed against another such file. `report` writes the tables of RESULTS.md and
README.md from results.jsonl: no figure in them is typed by hand. The README.md beside
this file explains the figures.
"""

import argparse
import datetime
import json
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.quality_runs import RUNS

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"

QUICK = [
    ("step", "step_time.py vae --seconds 0.3 --rounds 7"),
    ("step", "step_time.py vae --config conv32 --seconds 0.3 --rounds 7"),
    ("step", "step_time.py gan --seconds 0.3 --rounds 7"),
    ("step", "step_time.py dcgan --seconds 2 --rounds 5"),
    ("step", "step_time.py cyclegan --seconds 2 --rounds 3"),
    ("step", "step_time.py stylegan2 --seconds 1 --rounds 3"),
    ("sample", "sample_time.py vae --seconds 0.3 --rounds 7"),
    ("sample", "sample_time.py vae --config conv32 --verb reconstruct --seconds 0.3 --rounds 7"),
    ("sample", "sample_time.py gan --seconds 0.3 --rounds 7"),
    ("sample", "sample_time.py dcgan --seconds 0.3 --rounds 7"),
    ("sample", "sample_time.py cyclegan --batch-size 8 1 --seconds 1 --rounds 5"),
    ("sample", "sample_time.py stylegan2 --config 64x64 --batch-size 8 1 --seconds 1 --rounds 5"),
    ("input", "input_pipeline.py --images 20000 --epochs 1 --waiting"),
    ("scaling", "scaling.py gan --batch-size 64 --processes 2"),
    ("metrics", "features.py --batch-size 8 --seconds 3 --rounds 5"),
    ("distances", "distances.py fd --images 10000"),
    ("distances", "distances.py kid --images 10000"),
    ("distances", "distances.py prdc --images 10000"),
]
REFERENCE_SAMPLES = "sample_time.py stylegan2 --config 64x64 --batch-size 8"
FULL = [
    ("step", "step_time.py vae --seconds 0.3 --rounds 7 --peer torch-compile"),
    ("step", "step_time.py vae --config conv32 --seconds 0.3 --rounds 7 --peer torch-compile"),
    ("step", "step_time.py gan --seconds 0.3 --rounds 7 --peer torch-compile"),
    ("step", "step_time.py dcgan --seconds 2 --rounds 5 --peer torch-compile"),
    ("step", "step_time.py vae --config conv32 --dtype bfloat16"),
    ("step", "step_time.py dcgan --config 64x64 --seconds 2 --rounds 5"),
    ("step", "step_time.py dcgan --config 64x64 --dtype bfloat16"),
    ("step", "step_time.py dcgan --config 64x64 --seconds 2 --rounds 5 --peer torch-compile"),
    ("step", "step_time.py cyclegan --config resnet9-128 --seconds 2 --rounds 3"),
    ("step", "step_time.py cyclegan --config resnet9-128 --dtype bfloat16"),
    ("step", "step_time.py cyclegan --config resnet9-128 --peer torch-compile"),
    ("step", "step_time.py stylegan2 --config 64x64 --seconds 1 --rounds 3"),
    ("step", "step_time.py stylegan2 --config 64x64 --seconds 1 --rounds 3 --peer reference"),
    ("step", "step_time.py stylegan2 --config 64x64 --dtype bfloat16"),
    ("step", "step_time.py stylegan2 --config 256x256"),
    ("step", "step_time.py stylegan2 --config 256x256 --dtype bfloat16"),
    ("step", "step_time.py stylegan2 --config 256x256 --peer torch-compile"),
    ("sample", "sample_time.py dcgan --config 64x64 --rounds 7"),
    ("sample", "sample_time.py cyclegan --config resnet9-128 --batch-size 8 1"),
    ("sample", f"{REFERENCE_SAMPLES} --seconds 1 --rounds 5 --peer reference"),
    ("sample", "sample_time.py stylegan2 --config 256x256 --batch-size 16 1"),
    ("ops", "ops.py --rounds 5 --seconds 0.2"),
    ("input", "input_pipeline.py --images 200000 --size 64 --waiting"),
    ("scaling", "scaling.py dcgan --batch-size 64 --devices 1 8"),
    ("scaling", "scaling.py cyclegan --batch-size 8 --devices 1 8 --steps 1"),
    ("scaling", "scaling.py stylegan2 --config 64x64 --batch-size 8 --devices 1 8 --steps 1"),
    ("metrics", "features.py"),
    ("distances", "distances.py fd"),
    ("distances", "distances.py kid"),
    ("distances", "distances.py prdc"),
    ("fuzz", "fuzz.py --files 3000 --commands 200 --show"),
    ("kills", "kills.py --kills 50"),
]
TARGETS = [
    ("targets", f"targets.py {case} --target {target} --dtype {dtype}")
    for case in (
        "vae --config conv32",
        "gan",
        "dcgan --config dcgan-64",
        "dcgan --config r3gan-256",
        "cyclegan --config resnet9-256",
        "stylegan2 --config 64x64-b32",
        "stylegan2 --config 64x64-ada",
        "stylegan2 --config 256x256-ada",
        "stylegan2 --config 512x512-ada",
        "stylegan2 --config 1024x1024-ada",
    )
    for target in ("v5e-4", "v6e-4", "v5p-64", "h100", "h100x8")
    for dtype in ("float32", "bfloat16")
]
QUALITY = [("quality", f"quality.py measure {name} --data DATA --runs RUNS") for name in RUNS]


def main() -> int:
    """Run the suite, or write the report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The benchmark suite."
    )
    option = parser.add_argument
    option("what", nargs="?", choices=("run", "targets", "report"), default="run")
    option("--full", action="store_true", help="all cases, for a GPU")
    option("--only", default="", help="regular expression: cases whose command matches it")
    option("--list", action="store_true", help="print the commands instead of running them")
    option("--out", type=Path, default=RESULTS, help="file for the JSON lines")
    option("--compare", type=Path, help="earlier file of JSON lines to compare with")
    option("--runs", type=Path, help="folder of the runs of quality.py")
    option("--data", type=Path, help="folder of the data sets of these runs")
    option("--results", type=Path, default=RESULTS, help="for report: JSON lines to render")
    args = parser.parse_args()
    if args.what == "report":
        for path in report.write(report.read(args.results), HERE.parent):
            print(path)
        return 0
    old = report.read(args.compare) if args.compare else []
    folders = {"RUNS": args.runs, "DATA": args.data}
    known = QUICK + FULL * args.full + QUALITY * all(folders.values())
    if args.what == "targets":
        known = TARGETS
    cases = [(part, command) for part, command in known if re.search(args.only, command)]
    if not cases:
        parser.error(f"--only {args.only}: no case matches; --list shows them")
    if args.list:
        print("\n".join(f"python benchmarks/{command}" for _, command in cases))
        return 0
    rows, failed = [], []
    for number, (part, command) in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {command}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        measured = measure(part, command, folders)
        failed += [] if measured else [command]
        print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        rows += measured
        report.keep(args.out, measured)
    print(report.render(rows))
    if old:
        print(report.compared(old, rows))
    if failed:
        print(f"failed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure(part: str, command: str, folders: dict[str, Path | None]) -> list[dict]:
    """Run a script and return its JSON lines with their provenance; [] if it fails.

    A word of the command that is a key of `folders` stands for that folder.
    """
    script, *options = [str(folders.get(word) or word) for word in shlex.split(command)]
    process = subprocess.run(
        [sys.executable, HERE / script, *options], stdout=subprocess.PIPE, text=True, check=False
    )
    if process.returncode:
        return []
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    provenance = {
        "part": part,
        "command": f"python benchmarks/{command}",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "python": platform.python_version(),
    }
    return [provenance | {"line": number} | line for number, line in enumerate(lines)]


def commit() -> str:
    """The checkout's commit, "+" appended if files other than results.jsonl differ.

    "" without a checkout.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    everything_but_results = (":/", ":(exclude,top)benchmarks/results.jsonl")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *everything_but_results)
    return git("describe", "--always") + ("+" if changed else "")


if __name__ == "__main__":
    raise SystemExit(main())
