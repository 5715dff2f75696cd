"""Shared by the tests of commands: command lines, inputs, contents of folders."""

import os

import numpy as np
from PIL import Image

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5

WALK = "interpolate RUN/labelled --label 1 --seeds 0,1 --fps 2 --seconds"
SETS = "set.npz other.npz --extractor pixels"
# By command: the command line up to its output, its suffix, a file that it reads.
FILES = {
    "sample": ("sample RUN/labelled --n 2 --out", ".png", "RUN/labelled/model.safetensors"),
    "interpolate": (f"{WALK} 2 --out", ".gif", "RUN/labelled/config.json"),
    "style-mix": (
        "style-mix RUN/styled --rows 1 --columns 2 --layers 0 --out",
        ".png",
        "RUN/styled/model.safetensors",
    ),
    "export": ("export RUN/styled --out", ".safetensors", "RUN/styled/model.safetensors"),
    "eval": (f"eval {SETS} --metrics kid --json", ".json", "other.npz"),
    "nearest": (f"nearest {SETS} --rows 2 --k 2 --out", ".png", "set.npz"),
}
# By command: the command line up to its output, the name of a file that it writes.
FOLDERS = {
    "sample": ("sample RUN/labelled --seeds 0-2 --out", "seed0001.png"),
    "interpolate": (f"{WALK} 2 --out", "00001.png"),
    "translate": ("translate RUN/translating pictures --out", "b.png"),
}


def everything(*folders):
    """Contents of folders by path: a file's bytes, a link's target, or a mode."""
    content = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            link = path.is_symlink() and os.readlink(path)
            content[path] = link or (path.read_bytes() if path.is_file() else path.stat().st_mode)
    return content


def make_inputs(folder):
    """Two sets, and a folder of two pictures, for commands to read."""
    for seed, name in enumerate(("set", "other")):
        np.savez(
            folder / f"{name}.npz",
            images=np.random.default_rng(seed).integers(0, 256, (8, 8, 8, 1), np.uint8),
        )
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(PIXELS).save(folder / "pictures" / name)


def assert_refused(genjax, words, why, *folders):
    """Assert that a command fails with one line that says `why`, writing nothing."""
    before = everything(*folders)
    code, said = genjax(*words)
    *summary, line = said.splitlines()
    assert (code, why in line, line[:8], len(summary) <= (words[0] == "translate")) == (
        2,
        True,
        "genjax: ",
        True,
    ), (words, said)
    assert everything(*folders) == before, words
