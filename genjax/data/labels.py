"""Splits and classes of the images of a folder or zip.

Splits are top folders. Classes are the folders below them, or NVIDIA's dataset.json.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from genjax.data.source import Request, refuse
from genjax.errors import printable, reason

SPLITS = {
    "train": "train",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
# The layout of the CycleGAN data sets: trainA, trainB, testA, testB.
SIDES = {name + side: split + side.upper() for name, split in SPLITS.items() for side in "ab"}
NAMED = SPLITS | SIDES
DATASET_JSON = "dataset.json"
MAX_LABELS = 2**16
# Size limit of dataset.json, higher for sets of many files: parsed it takes many times
# its size.
JSON_BYTES = 2**23

Parts = tuple[str, ...]  # components of a path below the root


class Split(NamedTuple):
    """The files of a split, and the depth of its class folders."""

    chosen: list[int]  # indices of its files
    depth: int  # number of folders above the class folders
    names: list[str]  # of all splits; empty if the set has none
    numbered: list[int]  # indices of the files whose classes define the numbering of the labels


class Labels(NamedTuple):
    """The labels of the chosen files, and the names of the classes."""

    of: list[int] | None  # one per file; None: no labels
    count: int = 0  # number of classes
    classes: tuple[str, ...] = ()  # their names, if they have any
    # Added to the digest of the files where version 0.1.0 gave the same files other
    # labels.
    note: bytes = b""


def find_splits(files: Sequence[Parts]) -> tuple[int, list[str]]:
    """The depth of the folder that holds everything, and the splits in it.

    No names if the folders below are not splits.
    """
    depth = 0
    while files and all(len(path) > depth + 1 for path in files):
        tops = {path[depth] for path in files}
        lowered = {top.lower() for top in tops}
        if "train" in lowered and lowered <= SPLITS.keys():
            return depth, sorted(tops)
        if lowered >= {"traina", "trainb"} and lowered <= SIDES.keys():
            return depth, sorted(tops)
        if len(tops) > 1:
            break
        depth += 1
    return depth, []


def choose_split(files: Sequence[Parts], request: Request) -> Split:
    """The files of `request.split`. Raises ConfigError: the set has no such split."""
    depth, splits = find_splits(files)
    everything = list(range(len(files)))
    if not splits:
        if request.split != "train":
            instead = "its top folders would have to be named train, val or test"
            raise refuse(request, f"has no split {request.split!r}", instead)
        return Split(everything, depth, [], everything)
    wanted = NAMED.get(request.split.lower(), request.split)
    names = {top: NAMED[top.lower()] for top in splits}
    chosen = [index for index, path in enumerate(files) if names[path[depth]] == wanted]
    if chosen:
        return Split(chosen, depth + 1, splits, everything)  # labels agree between splits
    chosen = [
        index
        for index, path in enumerate(files)
        if names[path[depth]] in (f"{wanted}A", f"{wanted}B")
    ]
    if not chosen:
        raise refuse(
            request,
            f"has no split {request.split!r}",
            f"its splits are {', '.join(map(printable, splits))}",
        )
    sides = f"{request.split}A and {request.split}B"
    request.say(
        f"data: {sides}, the sides of an unpaired set, become two classes; `split` "
        f"{request.split}A takes one of them, train/cyclegan.py both as sides"
    )
    return Split(chosen, depth, splits, chosen)


def by_folders(files: Sequence[Parts], split: Split, request: Request) -> Labels:
    """Labels by the class folders of a split, in the order of their names.

    If all names are numbers, they are sorted as numbers.
    """
    depth, numbered = split.depth, [files[index] for index in split.numbered]
    inside = [len(path) > depth + 1 for path in numbered]
    if any(inside) and not all(inside):
        request.say(
            "data: some images lie in folders and some beside them, so the folders give no labels"
        )
    names = {path[depth] for path in numbered} if all(inside) else set()
    if len(names) < 2:
        return Labels(None)
    as_numbers = all(name.isascii() and name.isdigit() and len(name) < 20 for name in names)
    classes = sorted(names, key=(lambda name: (int(name), name)) if as_numbers else None)
    numbers = {name: index for index, name in enumerate(classes)}
    labels = [numbers[files[index][depth]] for index in split.chosen]
    note = b""  # version 0.1.0 sorted all names as text
    if classes != sorted(names):
        note = "\n".join(classes).encode("utf-8", "surrogateescape")
    return Labels(labels, len(classes), tuple(map(printable, classes)), note)


def by_dataset_json(
    text: Callable[[int], bytes],
    base: Parts,
    files: Sequence[Parts],
    chosen: list[int],
    request: Request,
) -> Labels | None:
    """Labels of a dataset.json as NVIDIA's dataset_tool writes it.

    It holds {"labels": [[name, number], ...] or null}, with names relative to its
    folder.

    Args:
        text: returns its bytes, given the most bytes that it may have
        base: its folder
        files: paths of all pictures of the set
        chosen: indices of those of the split
        request: arguments of `load`

    Returns:
        the labels; None if another tool wrote the file

    Raises:
        ConfigError: it is damaged, or lacks a label in 0..MAX_LABELS - 1 for an image
    """
    where = "/".join((*base, DATASET_JSON))
    mend = f"mend {DATASET_JSON}, or remove it to take the folders as classes"
    names: dict[str, int | None] = dict.fromkeys(
        "/".join(files[index][len(base) :]) for index in chosen
    )
    limit = max(JSON_BYTES, 8 * sum(len(name) + 32 for name in names))
    try:
        content: Any = json.loads(text(limit))
    except (ValueError, RecursionError, OSError) as error:
        raise refuse(
            request, f"{printable(where)} cannot be read ({reason(error)})", mend
        ) from None
    if not isinstance(content, dict) or "labels" not in content:
        request.say(f'data: {DATASET_JSON} holds no "labels" and is not used')
        return None
    entries = content["labels"]
    if entries is None:
        return Labels(None, note=b"no labels")
    if not isinstance(entries, list):
        raise refuse(request, f"the labels of {printable(where)} are not a list", mend)
    strange = 0
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise refuse(
                request,
                f"{printable(where)} has an entry that is no pair of a name and a label",
                mend,
            )
        name, label = entry[0].replace("\\", "/"), entry[1]
        if isinstance(label, list):
            raise refuse(
                request,
                f"{printable(where)} has vectors as labels",
                f"models take one whole number per image; {mend}",
            )
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < MAX_LABELS:
            raise refuse(
                request,
                f"{printable(where)} labels {printable(name)} as {printable(str(label)[:80])}",
                mend,
            )
        if name in names:
            names[name] = label
        else:
            strange += 1
    missing = [name for name, label in names.items() if label is None]
    if missing:
        missed = f"{len(missing)} of {len(names)} images ({printable(missing[0])} ...)"
        raise refuse(request, f"{printable(where)} has no label for {missed}", mend)
    if strange:
        request.say(
            f"data: {DATASET_JSON} has labels for {strange} files that are not among these images"
        )
    labels = [label for label in names.values() if label is not None]
    count = 1 + max(entry[1] for entry in entries)
    return Labels(labels, count, (), np.asarray(labels, np.int32).tobytes())
