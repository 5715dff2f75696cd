"""The fuzz campaign: damaged files for every reader, wrong command lines for every command, and what came of each.

    python benchmarks/fuzz.py [--files 3000] [--commands 200] [--seed 0] [--only KIND] [--show]

Case N of a seed is the same everywhere: a kind of file (fuzz_files.kinds), a way to damage it,
a place. It is read as training, translating, converting, evaluating, resuming would read it; a
command line has one or two options, or a folder, wrong. Nothing is downloaded. Counted are

    refused      by one line (InputError), or a picture left out of its set with a line that says so
    same         what the intact file gives: the damage did not matter, or was repaired
    other        accepted with other values, where nothing in the file could have shown it
    traceback    any other exception; of a command, a traceback or an exit code that it has not
    hang         more than 20 seconds; of a command, which may turn out right and work for longer,
                 20 seconds in which it says nothing
    memory       more than 2 GB resident: of a file, 1.5 GB more than before it was read
    silent       accepted without a word although the damage could be seen: other values of a file
                 whose bytes all have a checksum (PNG, zip, gzip, .npz, checkpoints, cached features),
                 of a file that was cut short, of a mended file (log, checkpoint, features), or NaN
                 in weights; of a command, exit code 0 with nothing said
    execution    a process started, a name imported by a pickle, or a canary file made
    overwrite    an input changed that its reader does not mend, or a device (/dev/null) was replaced
    lost         a log, a checkpoint or features that a reader has to mend, refused; control characters
                 on the terminal, or an output beside the one asked for

Each prints one JSON line per kind; with --show, one line per fault on standard error.
"""

import argparse
import contextlib
import hashlib
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

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # as a script, so that `benchmarks` is a package in its workers too

import numpy as np

from benchmarks import fuzz_commands, fuzz_files
from benchmarks.step_time import device_name
from genjax.edit.pictures import Unreadable
from genjax.errors import InputError

SECONDS = 20
MEMORY = 2 * 10**9
GROWTH = (
    15 * 10**8
)  # MEMORY less what a process that has read nothing holds, JAX included: under 0.5 GB
FAULTS = ("traceback", "hang", "memory", "silent", "execution", "overwrite", "lost")
OUTCOMES = ("refused", "same", "other", *FAULTS)
EVENTS = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
}  # audited: sys.addaudithook


class Result(NamedTuple):
    what: str  # kind of file, or command
    case: int
    damage: str
    outcome: str
    detail: str = ""


class Hang(BaseException):
    """A case took too long."""


# --- files ---------------------------------------------------------------------------------------------------------------


def file_cases(whole: Path, seed: int, numbers: range, only: str = "") -> Iterator[Result]:
    """Read the cases of these numbers, in this process. `whole` is what fuzz_files.make filled."""
    kinds = {
        name: kind
        for name, kind in fuzz_files.kinds().items()
        if re.search(only, name) and (whole / name).is_dir()
    }
    names = list(kinds)
    watch = watched()
    expected = {}
    for number in numbers:
        name = names[number % len(names)]
        if name not in expected:
            with (
                copied(whole, name) as folder,
                contextlib.suppress(InputError),
            ):  # a kind that this version does not read yet
                expected[name] = {}, []
                expected[name] = kinds[name].read(folder, placed(folder, kinds[name]))
        with copied(whole, name) as folder, np.errstate(all="ignore"):
            result = one_file(folder, name, kinds[name], seed, number, expected[name], watch)
        yield result


@contextlib.contextmanager
def copied(whole: Path, name: str) -> Iterator[Path]:
    """A copy of a kind's folder, from inside an empty folder."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as work:
        shutil.copytree(whole / name, Path(work, name))
        os.chdir(work)
        try:
            yield Path(work, name)
        finally:
            os.chdir(before)


def placed(folder: Path, kind: fuzz_files.Kind, rng: random.Random | None = None) -> Path:
    found = sorted(path for path in folder.glob(kind.place) if path.is_file())
    return rng.choice(found) if rng else found[0]


def one_file(folder, name, kind, seed, number, expected, watch) -> Result:
    rng = random.Random(f"{seed}/{number}")
    target = placed(folder, kind, rng)
    if rng.random() < 0.05:
        damage = fuzz_files.special(rng, target)
    else:
        damage, content = fuzz_files.damaged(rng, target)
        target.write_bytes(content)
    before = digests(folder)
    watch.clear()
    reset_peak()
    held = peak()
    result = lambda outcome, detail="": Result(name, number, damage, outcome, detail)
    try:
        with (
            limited(SECONDS),
            open(os.devnull, "w") as nothing,
            contextlib.redirect_stderr(nothing),
        ):
            found, said = kind.read(folder, target)
        outcome = judged(kind, damage, found, said, *expected)
    except (InputError, Unreadable) as error:
        outcome = result("lost" if kind.mended else "refused", str(error))
        outcome = (
            result("lost", "not one printable line: " + repr(str(error)))
            if not str(error).isprintable()
            else outcome
        )
    except Hang:
        outcome = result("hang")
    except OSError as error:  # script.guarded names its file and the reason
        outcome = result(
            "refused" if error.strerror and error.filename and not kind.mended else "traceback",
            repr(error),
        )
    except BaseException as error:
        outcome = result("traceback", f"{repr(error)[:300]} {last_place(error)}")
    if isinstance(outcome, str):
        outcome = result(outcome)
    if watch or list(Path().rglob(fuzz_files.CANARY)):
        return result("execution", str(sorted(watch)))
    if (grown := peak() - held) > GROWTH:
        return result("memory", f"{grown / 1e9:.1f} GB")
    if (not kind.mended and digests(folder) != before) or not fuzz_commands.devices_stand():
        return result("overwrite")
    return outcome


def judged(
    kind: fuzz_files.Kind,
    damage: str,
    found: Any,
    said: list[str],
    expected: Any,
    expected_said: list[str],
) -> str:
    if equal(found, expected):
        return "same"
    if said != expected_said and not kind.mended:
        return "refused"
    if kind.read is not fuzz_files.read_tensors and any(not finite(x) for x in found.values()):
        return "silent"
    plain = damage not in (
        "odd_arrays",
        "odd_json",
        "deep_json",
        "hostile",
        "bomb",
    )  # those are whole files of other content
    return "silent" if kind.mended or damage == "cut" or (kind.summed and plain) else "other"


def equal(first: Any, second: Any) -> bool:
    if first.keys() != second.keys():
        return False
    return all(np.array_equal(np.asarray(first[name]), np.asarray(second[name])) for name in first)


def finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def watched() -> set[str]:
    """The set that gets the names of EVENTS from here on."""
    seen: set[str] = set()
    sys.addaudithook(lambda event, _: seen.add(event) if event in EVENTS else None)
    return seen


@contextlib.contextmanager
def limited(seconds: float):
    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes, since `reset_peak` where the system has it."""
    try:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all regular files below."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def last_place(error: BaseException) -> str:
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "genjax" in frame.filename
    ]
    return f"at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


# --- files, in workers that may be killed --------------------------------------------------------------------------------


def from_workers(whole: Path, seed: int, count: int, only: str, workers: int) -> Iterator[Result]:
    """All cases, over so many processes. One that does not answer is killed, and another goes on after its case."""
    results: queue.Queue[Result | None] = queue.Queue()

    def work(first: int) -> None:
        number = first
        while number < count:
            for result in one_worker(whole, seed, range(number, count, workers), only):
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


def one_worker(whole: Path, seed: int, numbers: range, only: str) -> Iterator[Result]:
    """The results of a process, the last one made up where it has to be killed, or ended by itself."""
    words = [
        "--worker",
        f"{numbers.start}:{numbers.stop}:{numbers.step}",
        "--whole",
        str(whole),
        "--seed",
        str(seed),
        "--only",
        only,
    ]
    process = subprocess.Popen(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert process.stdout  # without a buffer, which select could not look into
    number = numbers.start
    try:
        while number < numbers.stop:
            began, bytes_held, ready = time.monotonic(), 0, []
            while (
                not ready and time.monotonic() < began + 6 * SECONDS and bytes_held < 1.5 * MEMORY
            ):
                ready, _, _ = select.select([process.stdout], [], [], 0.2)
                bytes_held = resident(process.pid)
            line = process.stdout.readline() if ready else b""
            if not line:  # it ended, or does not answer
                outcome = (
                    "traceback" if ready else "memory" if bytes_held >= 1.5 * MEMORY else "hang"
                )
                yield Result(
                    "killed",
                    number,
                    "",
                    outcome,
                    f"{bytes_held / 1e9:.1f} GB, exit code {process.poll()}",
                )
                return
            result = Result(*json.loads(line))
            number = result.case + numbers.step
            yield result
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resident(process: int) -> int:
    """Bytes of memory of a process; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return 0


# --- the campaign --------------------------------------------------------------------------------------------------------


def summary(results: list[Result]) -> list[dict[str, Any]]:
    """A row per kind of file and per command, and one of each of the two in all."""
    rows = []
    names = dict.fromkeys(result.what for result in results)
    groups = {name: [result for result in results if result.what == name] for name in names}
    groups["all commands"] = [result for result in results if result.what in fuzz_commands.BASE]
    groups["all files"] = [result for result in results if result.what not in fuzz_commands.BASE]
    for name, group in groups.items():
        counted = Counter(result.outcome for result in group)
        if group:
            rows.append(
                {
                    "what": name,
                    "cases": len(group),
                    **{outcome: counted[outcome] for outcome in OUTCOMES},
                }
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help="kinds of files, or commands, that this regular expression finds"
    )
    parser.add_argument(
        "--show", action="store_true", help="faults on standard error, with the case's number"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--whole", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        for result in file_cases(
            args.whole, args.seed, range(*map(int, args.worker.split(":"))), args.only
        ):
            print(json.dumps(result), flush=True)
        return 0
    results = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["GENJAX_CACHE"] = f"{work}/cache"
        whole = Path(work, "whole")
        fuzz_files.make(whole)
        files = from_workers(whole, args.seed, args.files, args.only, max(1, (os.cpu_count() or 1)))
        commands = fuzz_commands.cases(
            Path(work, "commands"), args.seed, range(args.commands), args.only
        )
        for result in (one for source in (files, commands) for one in source):
            results.append(result)
            if args.show and result.outcome in FAULTS:
                print(*result, file=sys.stderr, flush=True)
    for row in summary(results):
        print(json.dumps(row | {"seed": args.seed, "device": device_name()}), flush=True)
    return int(any(result.outcome in FAULTS for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
