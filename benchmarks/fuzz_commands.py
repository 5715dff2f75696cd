"""Wrong command lines: every command and training script, with one or two options or
inputs replaced by invalid ones."""

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
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks import fuzz, fuzz_files, torch_files  # circular: `fuzz` is used in calls only
from genjax import __version__, cli, core
from genjax.convert import cyclegan, stylegan2
from genjax.models import cyclegan as cyclegan_model
from genjax.models import dcgan, gan, vae
from genjax.models import stylegan2 as stylegan2_model
from genjax.runtime import xla
from genjax.training import run_folder
from genjax.training.options import Options

ROOT = Path(__file__).parents[1]
TINY = "--steps 2 --batch-size 8 --log-every 1 --sample-every 2 --save-every 2"
TINY += " --model.hidden 8 --model.z-dim 2"
SET = "--data IN/set.npz"
# Valid command lines; IN/ is the folder of inputs.
BASE = {
    "sample": "IN/run --n 2 --out one.png",
    "interpolate": "IN/run --seeds 1,2 --seconds 0.2 --out walk.gif",
    "style-mix": "IN/style --rows 1 --columns 2 --layers 0 --out mix.png",
    "translate": "IN/cycle IN/pictures --out translated",
    "convert": "cyclegan IN/net.pth --out net",
    "export": "IN/style --out net.safetensors",
    "eval": "IN/set.npz IN/set.npz --extractor pixels --metrics fd --json result.json",
    "nearest": "IN/set.npz IN/set.npz --out nearest.png",
    "train gan": f"{TINY} {SET} --out trained",
    "train vae": f"{TINY} {SET} --out trained",
    "train dcgan": "--steps 1 --batch-size 4 --model.channels 4 "
    f"{SET} --resolution 8 --out trained",
    "train cyclegan": "--steps 1 --batch-size 1 --model.channels 2 --model.disc-channels 2 "
    f"{SET} --resolution 16 --out trained",
    "train stylegan2": f"--steps 1 --batch-size 4 {SET} --out trained",
}
MODELS = {
    "gan": gan,
    "vae": vae,
    "dcgan": dcgan,
    "cyclegan": cyclegan_model,
    "stylegan2": stylegan2_model,
}
# Invalid values of options, by type.
NUMBERS = ("-1", "0", "nan", "inf", "-inf", "1e400", "9" * 20, f"-{'9' * 20}", "1.5", "0x10")
NUMBERS += ("\u0663", "1e", "2 3", "1,1", "5-1", "1-99999999", "0x0", "-1x-1", "3x")
TEXTS = ("", " ", "x", "None", "[1]", "\x1b[31mred", "a\nb", "\r", "\u202e", "x" * 5000)
TEXTS += ("--", "*", "%s", "{seed}", "{", "tfds:no_such_set", os.fsdecode(b"\xff\xfe"))
INPUTS = "pipe loop socket empty zeros.png run run/model.safetensors run/config.json"
INPUTS += " run/checkpoints set.npz net.pth pictures pictures/a.png text.txt hostile.pth"
INPUTS += " hostile.npz truncated.npz deep odd style cycle"
PATHS = ("nowhere", "nowhere/x.png", "/dev/zero", "/dev/full", "/dev/stdin", "/proc/self/mem")
PATHS += ("IN", *(f"IN/{name}" for name in INPUTS.split()), "~", "..", ".")


# --- inputs ---------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Write the inputs: runs, sets, pictures, weights, and files of no use."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    fuzz_files.make_run(folder / "run")
    (folder / "net.pth").write_bytes(torch_files.pth_zip(fuzz_files.generator(draw)))
    config, weights = cyclegan.weights({"G": folder / "net.pth"})
    write_run(folder / "cycle", "cyclegan", config, weights)
    weights = fuzz_files.made_up(stylegan2_model.recipe(fuzz_files.STYLEGAN2))
    write_run(folder / "style", "stylegan2", fuzz_files.STYLEGAN2, weights)
    gen, _ = stylegan2.arrays(fuzz_files.STYLEGAN2, weights)
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
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as file:
        file.bind("socket")  # a relative path, because that of a socket has to be short
    os.chdir(here)


def write_run(run: Path, model: str, config: Any, weights: core.Weights) -> None:
    """Write the folder of a run with these weights."""
    run.mkdir()
    run_folder.export(run, weights)
    settings = {"genjax": __version__, "model": model, "config": dataclasses.asdict(config)}
    run_folder.write_config(run, settings)


# --- lines ----------------------------------------------------------------------------


def options(what: str) -> dict[str, tuple[str, ...]]:
    """The options of a command or script, each with invalid values for its type."""
    if what.startswith("train "):
        types = {field.name: field.type for field in dataclasses.fields(Options)}
        config = MODELS[what.split()[1]].Config
        types |= {f"model.{field.name}": field.type for field in dataclasses.fields(config)}
    else:
        parameters = inspect.signature(cli.COMMANDS[what]).parameters.values()
        types = {
            parameter.name: parameter.annotation
            for parameter in parameters
            if parameter.kind is not parameter.POSITIONAL_ONLY
        }
    # --distributed would wait for other processes.
    types = {
        name: str(getattr(kind, "__name__", kind))
        for name, kind in types.items()
        if name != "distributed"
    }
    invalid = {"int": NUMBERS, "float": NUMBERS, "tuple": NUMBERS, "Path": PATHS}
    invalid["str"] = (*TEXTS, *PATHS)
    matches = {
        name: next((values for key, values in invalid.items() if key in kind), None)
        for name, kind in types.items()
    }
    return {f"--{name.replace('_', '-')}": values for name, values in matches.items() if values}


def line(what: str, rng: random.Random) -> list[str]:
    """A valid command line with one or two errors: the words after the command."""
    words = BASE[what].split()
    for _ in range(rng.choice((1, 1, 2))):
        positional = [
            at
            for at, word in enumerate(words)
            if not word.startswith("--") and (at == 0 or not words[at - 1].startswith("--"))
        ]
        if positional and rng.random() < 0.25:
            words[rng.choice(positional)] = rng.choice(rng.choice((TEXTS, PATHS, PATHS)))
            continue
        option, values = rng.choice(list(options(what).items()))
        value = rng.choice(values if rng.random() < 0.8 else rng.choice((NUMBERS, TEXTS, PATHS)))
        if option in words:
            words[words.index(option) + 1 : words.index(option) + 2] = [value]
        else:
            words += [option, *([value] if rng.random() < 0.95 else [])]
    return words


def cases(
    work: Path, seed: int, numbers: range, only: str = "", inside: bool = False
) -> "Iterator[fuzz.Result]":
    """Run the command lines of these numbers, each in an empty folder.

    Args:
        work: an empty folder
        seed: seed of the campaign
        numbers: numbers of the cases
        only: regular expression of commands
        inside: run in this process rather than in one per line; of the training scripts
            only the GAN's, since training takes long
    """
    names = [
        name
        for name in BASE
        if re.search(only, name)
        and (not inside or not name.startswith("train") or name == "train gan")
    ]
    if not names:
        return
    inputs, copy = work / "in", work / "intact"
    make(inputs)
    intact = contents(inputs)
    # `copytree` cannot copy these two.
    skipped = shutil.ignore_patterns("pipe", "socket")
    shutil.copytree(inputs, copy, symlinks=True, ignore=skipped)
    for number in numbers:
        rng = random.Random(f"{seed}/command/{number}")
        what = names[number % len(names)]
        words = line(what, rng)
        folder = work / f"at{number}"
        folder.mkdir()
        began = time.monotonic()
        typed = [
            word.replace("IN", str(inputs), 1) if word.startswith("IN") else word for word in words
        ]
        code, output = (run_inside if inside else run_process)(what, typed, folder, fuzz.SECONDS)
        seconds = time.monotonic() - began
        after = contents(inputs)
        outcome = judged(code, output)
        changed = {name for name, digest in intact.items() if after.get(name) != digest}
        if changed or not devices_stand():
            outcome = "overwrite"
        if (folder / fuzz_files.CANARY).exists() or (inputs / fuzz_files.CANARY).exists():
            outcome = "execution"
        # Restore the inputs for the next line; an output may have been written among
        # them.
        for name in after.keys() ^ intact.keys() | changed:
            restore(copy / name, inputs / name)
        shutil.rmtree(folder, ignore_errors=True)
        last = (output.strip().splitlines() or [""])[-1]
        detail = f"{code} after {seconds:.0f} s: {last[:300]!r}"
        yield fuzz.Result(what, number, " ".join(words)[:300], outcome, detail)


def judged(code: int | str, output: str) -> str:
    """The outcome of a command, from its exit code or "hang" and its output."""
    if code == "hang":
        return "hang"
    if "Traceback" in output or code not in (0, 1, 2, 130, 143):
        return "traceback"
    lines = output.replace("\r\n", "\n").replace("\r", "\n")
    if not all(c.isprintable() or c in "\n\t" for c in lines):
        return "lost"
    if code == 0:
        return "same" if output.strip() else "silent"
    return "refused" if output.strip() else "silent"


def devices_stand() -> bool:
    """Whether the devices that links among the inputs point to are still devices.

    A process that may write to /dev could replace them.
    """
    return all(Path("/dev", name).is_char_device() for name in ("null", "zero", "full"))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of the regular files below a folder, "other" for everything else."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if regular else "other"
        digests[str(path.relative_to(folder))] = digest
    return digests


def restore(intact: Path, path: Path) -> None:
    """Replace `path` by a copy of `intact`; remove it if that does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if intact.is_dir():
        shutil.copytree(intact, path, symlinks=True)
    elif intact.exists():
        shutil.copy(intact, path)


def run_process(what: str, words: list[str], folder: Path, limit: float) -> tuple[int | str, str]:
    """Run a command; return its exit code and its output.

    Instead of the exit code, "hang" if there is no output for `limit` seconds.
    """
    start = ["-m", "genjax", what]
    if what.startswith("train "):
        start = [str(ROOT / "train" / f"{what.split()[1]}.py")]
    # A line may be valid after all and train: it has to compile fast, not run fast.
    fast = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **fast}
    # Without a buffer, whose content `select` would not see.
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
    assert process.stdout
    output = b""
    while select.select([process.stdout], [], [], limit)[0]:
        if not (chunk := process.stdout.read(65536)):
            return process.wait(), output.decode(errors="surrogateescape")
        output += chunk
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "hang", output.decode(errors="surrogateescape")


def run_inside(what: str, words: list[str], folder: Path, limit: float) -> tuple[int | str, str]:
    """Run a command in this process, which saves seconds; else as `run_process`."""
    before = os.getcwd(), sys.argv, warnings.showwarning
    output = io.StringIO()
    os.chdir(folder)
    sys.argv = ["genjax", what, *words]
    try:
        with (
            fuzz.limited(limit),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            # After an abandoned compilation a command ends its process; not this one.
            mock.patch.object(xla, "compiling", return_value=False),
        ):
            if what.startswith("train "):
                path = ROOT / "train" / f"{what.split()[1]}.py"
                sys.argv = [str(path), *words]
                runpy.run_path(str(path), run_name="__main__")
            else:
                cli.main()
        return 0, output.getvalue()
    except fuzz.Hang:
        return "hang", output.getvalue()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code)), output.getvalue()
    except Exception:
        return 1, output.getvalue() + traceback.format_exc()
    finally:
        os.chdir(before[0])
        sys.argv, warnings.showwarning = before[1:]
