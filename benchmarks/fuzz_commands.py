"""Wrong command lines: every command and training script with one or two options, or an input, replaced by what nobody should give."""

import contextlib
import dataclasses
import hashlib
import inspect
import io
import os
import pickle
import random
import re
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import fuzz_files
from genjax import __version__, cli
from genjax.convert import cyclegan, stylegan2
from genjax.models import cyclegan as cyclegan_model
from genjax.models import dcgan, gan, vae
from genjax.models import stylegan2 as stylegan2_model
from genjax.training import checkpoint, script

ROOT = Path(__file__).parents[1]
TINY = "--steps 2 --batch-size 8 --log-every 1 --sample-every 2 --save-every 2 --model.hidden 8 --model.latent-size 2"
BASE = {  # that work as they are; IN/ is the folder of inputs
    "sample": "IN/run --n 2 --out one.png",
    "interpolate": "IN/run --seeds 1,2 --seconds 0.2 --out walk.gif",
    "style-mix": "IN/style --rows 1 --columns 2 --layers 0 --out mix.png",
    "translate": "IN/cycle IN/pictures --out translated",
    "convert": "cyclegan IN/net.pth --out net",
    "export": "IN/style --out net.safetensors",
    "eval": "IN/set.npz IN/set.npz --extractor pixels --metrics fd --json result.json",
    "nearest": "IN/set.npz IN/set.npz --out nearest.png",
    "train gan": f"{TINY} --data IN/set.npz --out trained",
    "train vae": f"{TINY} --data IN/set.npz --out trained",
    "train dcgan": "--steps 1 --batch-size 4 --model.channels 4 --data IN/set.npz --resolution 8 --out trained",
    "train cyclegan": "--steps 1 --batch-size 1 --model.channels 2 --model.disc-channels 2 --data IN/set.npz --resolution 16 --out trained",
    "train stylegan2": "--steps 1 --batch-size 4 --data IN/set.npz --out trained",
}
MODELS = {
    "gan": gan,
    "vae": vae,
    "dcgan": dcgan,
    "cyclegan": cyclegan_model,
    "stylegan2": stylegan2_model,
}
NUMBERS = (
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "99999999999999999999",
    "-99999999999999999999",
    "1.5",
    "0x10",
    "\u0663",
    "1e",
    "2 3",
    "1,1",
    "5-1",
    "1-99999999",
    "0x0",
    "-1x-1",
    "3x",
)
TEXTS = (
    "",
    " ",
    "x",
    "None",
    "[1]",
    "\x1b[31mred",
    "a\nb",
    "\r",
    "\u202e",
    "x" * 5000,
    "--",
    "*",
    "%s",
    "{seed}",
    "{",
    "tfds:no_such_set",
    os.fsdecode(b"\xff\xfe"),
)
PATHS = (
    "nowhere",
    "nowhere/x.png",
    "/dev/zero",
    "/dev/full",
    "/dev/stdin",
    "/proc/self/mem",
    "IN",
    "IN/pipe",
    "IN/loop",
    "IN/socket",
    "IN/empty",
    "IN/zeros.png",
    "IN/run",
    "IN/run/model.safetensors",
    "IN/run/config.json",
    "IN/run/checkpoints",
    "IN/set.npz",
    "IN/net.pth",
    "IN/pictures",
    "IN/pictures/a.png",
    "IN/text.txt",
    "IN/hostile.pth",
    "IN/hostile.npz",
    "IN/truncated.npz",
    "IN/deep",
    "IN/odd",
    "IN/style",
    "IN/cycle",
    "~",
    "..",
    ".",
)


# --- inputs --------------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Runs, sets, pictures, weights, and what lies in the way."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    fuzz_files.make_run(folder / "run")
    (folder / "net.pth").write_bytes(fuzz_files.pth_zip(fuzz_files.generator(draw)))
    config, weights = cyclegan.weights({"G": folder / "net.pth"})
    write_run(folder / "cycle", "cyclegan", config, weights)
    write_run(
        folder / "style",
        "stylegan2",
        fuzz_files.STYLEGAN2,
        fuzz_files.made_up(stylegan2_model.recipe(fuzz_files.STYLEGAN2)),
    )
    gen, _ = stylegan2.arrays(
        fuzz_files.STYLEGAN2, fuzz_files.made_up(stylegan2_model.recipe(fuzz_files.STYLEGAN2))
    )
    (folder / "net.safetensors").write_bytes(fuzz_files.tensor_file(".safetensors")(gen))
    images = draw.integers(0, 256, (16, 8, 8, 1), np.uint8)
    np.savez(folder / "set.npz", images=images)
    (folder / "truncated.npz").write_bytes((folder / "set.npz").read_bytes()[:-300])
    for name in ("pictures", "odd", "empty", "deep"):
        (folder / name).mkdir()
    for name in ("pictures/a.png", "pictures/b.png", "odd/a.png", "odd/a.bmp", "odd/\u202egnp.png"):
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name)
    (folder / "odd/bad\x1b[31m\n.png").write_bytes(b"bad")
    (folder / "odd" / os.fsdecode(b"\xff.png")).write_bytes((folder / "odd/a.png").read_bytes())
    (folder / "deep/config.json").write_text("[" * 100_000 + "]" * 100_000)
    (folder / "text.txt").write_text("text")
    program = pickle.dumps({"w": fuzz_files.Payload()}, 2)
    (folder / "hostile.pth").write_bytes(program)
    np.savez(folder / "hostile.npz", images=np.array([fuzz_files.Payload()], object))
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "zeros.png").symlink_to("/dev/zero")
    here = os.getcwd()
    os.chdir(folder)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    os.chdir(here)


def write_run(run: Path, model: str, config, weights) -> None:
    run.mkdir()
    checkpoint.export(run, weights)
    checkpoint.write_config(
        run, {"genjax": __version__, "model": model, "config": dataclasses.asdict(config)}
    )


# --- lines ---------------------------------------------------------------------------------------------------------------


def options(what: str) -> dict[str, tuple[str, ...]]:
    """The options that a command or script has, as they are typed, each with the odd values that suit its type best."""
    if what.startswith("train "):
        shared = {field.name: field.type for field in dataclasses.fields(script.Options)}
        kinds = shared | {
            f"model.{field.name}": field.type
            for field in dataclasses.fields(MODELS[what.split()[1]].Config)
        }
    else:
        found = inspect.signature(cli.COMMANDS[what]).parameters.values()
        kinds = {
            kind.name: kind.annotation for kind in found if kind.kind is not kind.POSITIONAL_ONLY
        }
    named = {
        name: str(getattr(kind, "__name__", kind))
        for name, kind in kinds.items()
        if name != "distributed"
    }
    odd = {
        "int": NUMBERS,
        "float": NUMBERS,
        "tuple": NUMBERS,
        "Path": PATHS,
        "str": (*TEXTS, *PATHS),
    }
    fits = {
        name: next((values for key, values in odd.items() if key in kind), None)
        for name, kind in named.items()
    }
    return {f"--{name.replace('_', '-')}": values for name, values in fits.items() if values}


def line(what: str, rng: random.Random) -> list[str]:
    """The words after the command: its line that works with one or two things wrong."""
    words = BASE[what].split()
    for _ in range(rng.choice((1, 1, 2))):
        named = [
            at
            for at, word in enumerate(words)
            if not word.startswith("--") and (at == 0 or not words[at - 1].startswith("--"))
        ]
        if named and rng.random() < 0.25:
            words[rng.choice(named)] = rng.choice(rng.choice((TEXTS, PATHS, PATHS)))
            continue
        option, values = rng.choice(list(options(what).items()))
        odd = rng.choice(values if rng.random() < 0.8 else rng.choice((NUMBERS, TEXTS, PATHS)))
        if option in words:
            words[words.index(option) + 1 : words.index(option) + 2] = [odd]
        else:
            words += [option, *([odd] if rng.random() < 0.95 else [])]
    return words


def cases(work: Path, seed: int, numbers: range, only: str = "", inside: bool = False) -> Iterator:
    """Run the lines of these numbers, each in an empty folder: as processes, or `inside` this one."""
    from benchmarks.fuzz import SECONDS, Result

    names = [
        name
        for name in BASE
        if re.search(only, name)
        and (not inside or not name.startswith("train") or name == "train gan")
    ]
    if not names:
        return
    make(work / "in")
    intact = contents(work / "in")
    shutil.copytree(
        work / "in",
        work / "intact",
        symlinks=True,
        ignore=lambda _, found: {"pipe", "socket"} & set(found),
    )
    for number in numbers:
        rng = random.Random(f"{seed}/command/{number}")
        what = names[number % len(names)]
        words = line(what, rng)
        folder = work / f"at{number}"
        folder.mkdir()
        began = time.monotonic()
        typed = [
            word.replace("IN", str(work / "in"), 1) if word.startswith("IN") else word
            for word in words
        ]
        code, said = (run_inside if inside else run_process)(what, typed, folder, SECONDS)
        seconds = time.monotonic() - began
        after = contents(work / "in")
        outcome = judged(code, said)
        if any(after.get(name) != digest for name, digest in intact.items()) or not devices_stand():
            outcome = "overwrite"
        if (folder / fuzz_files.CANARY).exists() or (work / "in" / fuzz_files.CANARY).exists():
            outcome = "execution"
        if after != intact:  # an output may lie there; the next line has the inputs as they were
            for name in after.keys() ^ intact.keys() | {
                name for name in intact if after.get(name) != intact[name]
            }:
                restore(work / "intact" / name, work / "in" / name)
        shutil.rmtree(folder, ignore_errors=True)
        last = (said.strip().splitlines() or [""])[-1]
        yield Result(
            what,
            number,
            " ".join(words)[:300],
            outcome,
            f"{code} after {seconds:.0f} s: {last[:300]!r}",
        )


def judged(code: int | str, said: str) -> str:
    if code == "hang":
        return "hang"
    if "Traceback" in said or code not in (0, 1, 2, 130, 143):
        return "traceback"
    if not all(
        c.isprintable() or c in "\n\t" for c in said.replace("\r\n", "\n").replace("\r", "\n")
    ):
        return "lost"
    if code == 0:
        return "same" if said.strip() else "silent"
    return "refused" if said.strip() else "silent"


def devices_stand() -> bool:
    """Whether the devices that links in the inputs lead to are still devices: who may write to /dev could replace them."""
    return all(Path("/dev", name).is_char_device() for name in ("null", "zero", "full"))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of the regular files below, and what the others are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = (
            hashlib.sha256(path.read_bytes()).hexdigest() if regular else "other"
        )
    return found


def restore(intact: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if intact.is_dir():
        shutil.copytree(intact, path, symlinks=True)
    elif intact.exists():
        shutil.copy(intact, path)


def run_process(what: str, words: list[str], folder: Path, limit: float) -> tuple[int | str, str]:
    """(exit code, or "hang" once it has said nothing for `limit` seconds, and all that was said)."""
    start = (
        [str(ROOT / "train" / f"{what.split()[1]}.py")]
        if what.startswith("train ")
        else ["-m", "genjax", what]
    )
    # A line may turn out right and train: what is compiled then need not be fast.
    fast = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **fast}
    process = subprocess.Popen(
        [sys.executable, *start, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
        bufsize=0,
    )
    assert process.stdout  # without a buffer, which select could not look into
    said = b""
    while select.select([process.stdout], [], [], limit)[0]:
        if not (more := process.stdout.read(65536)):
            return process.wait(), said.decode(errors="surrogateescape")
        said += more
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "hang", said.decode(errors="surrogateescape")


def run_inside(what: str, words: list[str], folder: Path, limit: float) -> tuple[int | str, str]:
    """The same without a process of its own: seconds are spared, and a traceback is one."""
    import traceback
    import warnings

    from benchmarks.fuzz import Hang, limited

    before = os.getcwd(), sys.argv, warnings.showwarning
    said = io.StringIO()
    os.chdir(folder)
    sys.argv = ["genjax", what, *words]
    try:
        with limited(limit), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if what.startswith("train "):
                path = ROOT / "train" / f"{what.split()[1]}.py"
                sys.argv = [str(path), *words]
                runpy.run_path(str(path), run_name="__main__")
            else:
                cli.main()
        return 0, said.getvalue()
    except Hang:
        return "hang", said.getvalue()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code)), said.getvalue()
    except Exception:
        return 1, said.getvalue() + traceback.format_exc()
    finally:
        os.chdir(before[0])
        sys.argv, warnings.showwarning = before[1:]
