"""The benchmark suite.

    python -m benchmarks [--full] [--only PATTERN] [--out FILE] [--compare OLD] [--list] [--runs FOLDER --data FOLDER]
    python -m benchmarks report [--results FILE]

The first runs the cases below one after another, each in a process of its own; quick: some 20 minutes on two CPU cores; --full: all, for
a GPU. It prints a table, and writes what each script said, a JSON line each, with its command, date and versions, into FILE as soon as it
is there (results.jsonl beside this file if not given, where a case's earlier lines from the same device give way). --only PATTERN: cases
whose command the regular expression finds. --runs and --data: also measure the trained runs of quality_runs.py. --compare OLD: what moved
against another such file. `report` writes the tables of RESULTS.md and README.md from results.jsonl: no figure in them is typed by hand.
README.md beside this file says what a number means.
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
    (
        "sample",
        "sample_time.py stylegan2 --config 64x64 --batch-size 8 --seconds 1 --rounds 5 --peer reference",
    ),
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
QUALITY = [("quality", f"quality.py measure {name} --data DATA --runs RUNS") for name in RUNS]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The benchmark suite."
    )
    parser.add_argument("what", nargs="?", choices=("run", "report"), default="run")
    parser.add_argument("--full", action="store_true", help="all cases, for a GPU")
    parser.add_argument(
        "--only", default="", help="cases whose command this regular expression finds"
    )
    parser.add_argument("--list", action="store_true", help="print the commands, and run none")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON lines")
    parser.add_argument(
        "--compare", type=Path, help="JSON lines of another time, to say what moved"
    )
    parser.add_argument("--runs", type=Path, help="folder of the runs of quality.py")
    parser.add_argument("--data", type=Path, help="folder of their data sets")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="of report: the JSON lines to render"
    )
    args = parser.parse_args()
    if args.what == "report":
        for path in report.write(report.read(args.results), HERE.parent):
            print(path)
        return 0
    old = report.read(args.compare) if args.compare else []
    folders = {"RUNS": args.runs, "DATA": args.data}
    known = QUICK + FULL * args.full + QUALITY * all(folders.values())
    cases = [(part, command) for part, command in known if re.search(args.only, command)]
    if not cases:
        parser.error(f"--only {args.only}: finds no case; --list shows them")
    if args.list:
        print("\n".join(f"python benchmarks/{command}" for _, command in cases))
        return 0
    rows, failed = [], []
    for number, (part, command) in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {command}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        made = measured(part, command, folders)
        failed += [] if made else [command]
        print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        rows += made
        report.keep(args.out, made)
    print(report.render(rows))
    if old:
        print(report.compared(old, rows))
    if failed:
        print(f"failed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measured(part: str, command: str, folders: dict[str, Path | None]) -> list[dict]:
    """The lines that a script printed, and how they came about; none of one that fails. The names of `folders` stand for them in a command."""
    script, *options = [str(folders.get(word) or word) for word in shlex.split(command)]
    done = subprocess.run(
        [sys.executable, HERE / script, *options], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return []
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    facts = {
        "part": part,
        "command": f"python benchmarks/{command}",
        "date": datetime.date.today().isoformat(),
    }
    facts |= {"commit": commit(), "python": platform.python_version()}
    return [facts | {"line": number} | line for number, line in enumerate(lines)]


def commit() -> str:
    """Of the checkout, with + where files other than results differ from it; "" where there is none."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git(
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":(exclude,top)benchmarks/results.jsonl",
    )
    return git("describe", "--always") + ("+" if changed else "")


if __name__ == "__main__":
    raise SystemExit(main())
