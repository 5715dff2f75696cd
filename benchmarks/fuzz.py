"""The fuzz campaign: damaged files for every reader, wrong lines for every command.

    python benchmarks/fuzz.py [--files 3000] [--commands 200] [--seed 0] [--only KIND]
                              [--show]

Case N of a seed is the same everywhere: a kind of file (fuzz_files.kinds), a way to
damage it and a position. It is read as by training, translating, converting, evaluating
or resuming. A command line has one or two wrong options or a wrong folder. Nothing is
downloaded. The outcomes:

    refused     with one line (InputError), or a picture skipped with a line that says
                so
    same        as with the intact file: the damage had no effect, or was repaired
    other       accepted with other values, where nothing in the file reveals the damage
    traceback   any other exception; for a command, a traceback or an undocumented exit
                code
    hang        more than 20 seconds; for a command, which may be valid and work for
                longer, 20 seconds without output
    memory      more than 2 GB resident; for a file, 1.5 GB more than before reading it
    silent      accepted without a message although the damage is detectable: other
                values from a file with checksums over all bytes (PNG, zip, gzip, .npz,
                checkpoints, cached features), from a truncated file, from a file that
                its reader repairs (log, checkpoint, features), or NaN in weights; for a
                command, exit code 0 without output
    execution   a process was started, a pickle imported a name, or a canary file
                appeared
    overwrite   an input changed that its reader does not repair, or a device
                (/dev/null) was replaced
    lost        a log, a checkpoint or features that the reader has to repair were
                refused; control characters on the terminal

Prints one JSON line per kind of file and per command; with --show, one line per fault
on standard error.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import queue
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# So that `benchmarks` is a package when this runs as a script, in workers too.
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import fuzz_commands, fuzz_files
from benchmarks.step_time import device_name
from genjax.edit.pictures import Unreadable
from genjax.errors import InputError

SECONDS = 20
MEMORY = 2 * 10**9
# MEMORY minus the memory of a process with JAX that has read nothing, under 0.5 GB.
GROWTH = 15 * 10**8
FAULTS = ("traceback", "hang", "memory", "silent", "execution", "overwrite", "lost")
OUTCOMES = ("refused", "same", "other", *FAULTS)
# Audit events (sys.addaudithook) that count as execution.
EVENTS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"}


class Result(NamedTuple):
    """The outcome of one case."""

    what: str  # kind of file, or command
    case: int
    damage: str  # way of the damage, or the command line
    outcome: str  # one of OUTCOMES
    detail: str = ""


class Hang(BaseException):
    """A case took too long."""


# --- files ----------------------------------------------------------------------------


def file_cases(intact: Path, seed: int, numbers: range, only: str = "") -> Iterator[Result]:
    """Run the cases of these numbers in this process.

    `intact` is the folder that fuzz_files.make filled; `only` is a regular expression
    of kinds.
    """
    kinds = {
        name: kind
        for name, kind in fuzz_files.kinds().items()
        if re.search(only, name) and (intact / name).is_dir()
    }
    names = list(kinds)
    events = watched()
    expected: dict[str, fuzz_files.Outcome] = {}
    for number in numbers:
        name = names[number % len(names)]
        if name not in expected:
            expected[name] = {}, []
            # Suppressed: a kind that this version does not read yet.
            with copied(intact, name) as folder, contextlib.suppress(InputError):
                expected[name] = kinds[name].read(folder, placed(folder, kinds[name]))
        with copied(intact, name) as folder, np.errstate(all="ignore"):
            result = one_file(folder, kinds[name], seed, number, expected[name], events)
        yield result


@contextlib.contextmanager
def copied(intact: Path, name: str) -> Iterator[Path]:
    """Copy a kind's folder into an empty working directory; yields the copy."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as work:
        shutil.copytree(intact / name, Path(work, name))
        os.chdir(work)
        try:
            yield Path(work, name)
        finally:
            os.chdir(before)


def placed(folder: Path, kind: fuzz_files.Kind, rng: random.Random | None = None) -> Path:
    """The file to damage: the first of those that match, or a random one."""
    matches = sorted(path for path in folder.glob(kind.place) if path.is_file())
    return rng.choice(matches) if rng else matches[0]


def one_file(
    folder: Path,
    kind: fuzz_files.Kind,
    seed: int,
    number: int,
    expected: fuzz_files.Outcome,
    events: set[str],
) -> Result:
    """Damage a file, read it and judge the outcome.

    Args:
        folder: copy of the kind's folder, which bears the kind's name
        kind: the kind of file
        seed: seed of the campaign
        number: number of the case
        expected: what the intact file gives
        events: the set that audit events are added to
    """
    rng = random.Random(f"{seed}/{number}")
    target = placed(folder, kind, rng)
    if rng.random() < 0.05:
        damage = fuzz_files.special(rng, target)
    else:
        damage, content = fuzz_files.damaged(rng, target)
        target.write_bytes(content)
    before = digests(folder)
    events.clear()
    reset_peak()
    peak_before = peak()
    result = lambda outcome, detail="": Result(folder.name, number, damage, outcome, detail)
    try:
        with (
            limited(SECONDS),
            open(os.devnull, "w") as nothing,
            contextlib.redirect_stderr(nothing),
        ):
            values, messages = kind.read(folder, target)
        outcome = result(judged(kind, damage, values, messages, *expected))
    except (InputError, Unreadable) as error:
        outcome = result("lost" if kind.mended else "refused", str(error))
        if not str(error).isprintable():
            outcome = result("lost", "not one printable line: " + repr(str(error)))
    except Hang:
        outcome = result("hang")
    except OSError as error:
        # With both, `shell.guarded` prints one line with the file and the reason.
        one_line = error.strerror and error.filename and not kind.mended
        outcome = result("refused" if one_line else "traceback", repr(error))
    except BaseException as error:
        outcome = result("traceback", f"{repr(error)[:300]} {last_place(error)}")
    if events or list(Path().rglob(fuzz_files.CANARY)):
        return result("execution", str(sorted(events)))
    if (growth := peak() - peak_before) > GROWTH:
        return result("memory", f"{growth / 1e9:.1f} GB")
    if (not kind.mended and digests(folder) != before) or not fuzz_commands.devices_stand():
        return result("overwrite")
    return outcome


def judged(
    kind: fuzz_files.Kind,
    damage: str,
    values: Any,
    messages: list[str],
    expected: Any,
    expected_messages: list[str],
) -> str:
    """The outcome of a file that was read without an exception.

    Args:
        kind: the kind of file
        damage: the way of the damage
        values: what was read, by name
        messages: what the reader reported
        expected: what the intact file gives
        expected_messages: what the reader reports of the intact file
    """
    if equal(values, expected):
        return "same"
    if messages != expected_messages and not kind.mended:
        return "refused"
    if kind.read is not fuzz_files.read_tensors and any(not finite(x) for x in values.values()):
        return "silent"
    # These are intact files with other content.
    intact = damage in ("odd_arrays", "odd_json", "deep_json", "hostile", "bomb")
    detectable = kind.mended or damage == "cut" or (kind.summed and not intact)
    return "silent" if detectable else "other"


def equal(first: Any, second: Any) -> bool:
    """Whether two dicts have the same names and equal arrays."""
    if first.keys() != second.keys():
        return False
    return all(np.array_equal(np.asarray(first[name]), np.asarray(second[name])) for name in first)


def finite(value: Any) -> bool:
    """Whether an array has no NaN and no infinity."""
    array = np.asarray(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def watched() -> set[str]:
    """Start auditing; return the set that the names of EVENTS are added to."""
    events: set[str] = set()
    sys.addaudithook(lambda event, _: events.add(event) if event in EVENTS else None)
    return events


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Hang in the block after this many seconds."""

    def alarm(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reset_peak() -> None:
    """Start measuring the peak memory anew, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Peak memory in bytes, since `reset_peak` where the system can."""
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return 1024 * int(match[1] if match else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all regular files below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def last_place(error: BaseException) -> str:
    """File and line of the innermost frame of an error that is in genjax; or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "genjax" in frame.filename]
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


# --- files, in workers that may be killed ---------------------------------------------


def from_workers(intact: Path, seed: int, count: int, only: str, workers: int) -> Iterator[Result]:
    """Run all cases in `workers` processes.

    A process that does not answer is killed; a new one continues after its case.
    """
    results: queue.Queue[Result | None] = queue.Queue()

    def work(first: int) -> None:
        number = first
        while number < count:
            for result in one_worker(intact, seed, range(number, count, workers), only):
                results.put(result)
                number = result.case + workers
        results.put(None)

    for first in range(workers):
        threading.Thread(target=work, args=(first,), daemon=True).start()
    ended = 0
    while ended < workers:
        result = results.get()
        if result is None:
            ended += 1
        else:
            yield result


def one_worker(intact: Path, seed: int, numbers: range, only: str) -> Iterator[Result]:
    """The results of one process.

    If the process exits early or has to be killed, a last result says so.
    """
    cases = f"{numbers.start}:{numbers.stop}:{numbers.step}"
    words = ["--worker", cases, "--intact", str(intact), "--seed", str(seed), "--only", only]
    # Without a buffer, whose content `select` would not see.
    process = subprocess.Popen(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert process.stdout
    number, limit = numbers.start, 1.5 * MEMORY
    try:
        while number < numbers.stop:
            deadline, memory, ready = time.monotonic() + 6 * SECONDS, 0, []
            while not ready and time.monotonic() < deadline and memory < limit:
                ready, _, _ = select.select([process.stdout], [], [], 0.2)
                memory = resident(process.pid)
            line = process.stdout.readline() if ready else b""
            if not line:  # it exited, or does not answer
                outcome = "traceback" if ready else "memory" if memory >= limit else "hang"
                detail = f"{memory / 1e9:.1f} GB, exit code {process.poll()}"
                yield Result("killed", number, "", outcome, detail)
                return
            result = Result(*json.loads(line))
            number = result.case + numbers.step
            yield result
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resident(process: int) -> int:
    """Resident memory of a process in bytes; 0 after it has exited."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- the campaign ---------------------------------------------------------------------


def summary(results: list[Result]) -> list[dict[str, Any]]:
    """A row per kind of file and per command, and one with the totals of each."""
    rows = []
    names = dict.fromkeys(result.what for result in results)
    groups = {name: [result for result in results if result.what == name] for name in names}
    groups["all commands"] = [result for result in results if result.what in fuzz_commands.BASE]
    groups["all files"] = [result for result in results if result.what not in fuzz_commands.BASE]
    for name, group in groups.items():
        counts = Counter(result.outcome for result in group)
        if group:
            row = {"what": name, "cases": len(group)}
            rows.append(row | {outcome: counts[outcome] for outcome in OUTCOMES})
    return rows


def main() -> int:
    """Run the campaign and print the JSON lines; exit code 1 if there are faults."""
    parser = argparse.ArgumentParser(
        description="The fuzz campaign: damaged files for every reader, wrong command lines."
    )
    option = parser.add_argument
    option("--files", type=int, default=3000, help="number of damaged files")
    option("--commands", type=int, default=200, help="number of wrong command lines")
    option("--seed", type=int, default=0, help="seed of the campaign")
    option("--only", default="", help="regular expression: kinds of files, or commands")
    option("--show", action="store_true", help="print the faults on standard error")
    option("--worker", help=argparse.SUPPRESS)
    option("--intact", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        numbers = range(*map(int, args.worker.split(":")))
        for result in file_cases(args.intact, args.seed, numbers, args.only):
            print(json.dumps(result), flush=True)
        return 0
    results = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["GENJAX_CACHE"] = f"{work}/cache"
        intact = Path(work, "intact")
        fuzz_files.make(intact)
        files = from_workers(intact, args.seed, args.files, args.only, os.cpu_count() or 1)
        lines = range(args.commands)
        commands = fuzz_commands.cases(Path(work, "commands"), args.seed, lines, args.only)
        for result in itertools.chain(files, commands):
            results.append(result)
            if args.show and result.outcome in FAULTS:
                print(*result, file=sys.stderr, flush=True)
    for row in summary(results):
        print(json.dumps(row | {"seed": args.seed, "device": device_name()}), flush=True)
    return int(any(result.outcome in FAULTS for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
