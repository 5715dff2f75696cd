"""`load`: which reader reads which SPEC."""

import os
import stat
import sys
from collections.abc import Callable

from genjax.data import arrays, files, tfds
from genjax.data.items import Items, build
from genjax.data.source import Request, Source, refuse
from genjax.errors import InputError, reason
from genjax.files.bounded import Malformed, open_regular
from genjax.files.decode import MODES, quiet_pillow

ACCEPTED = "use 'digits', a folder or .zip of images, a .npz, a folder of idx files, or tfds:NAME"
MAX_SIDE = 2**14  # pixels
OPTIONS = ("--resolution", "--max-bad", "--resident-mb")  # of training scripts


def is_size(resolution: tuple[int, ...]) -> bool:
    return len(resolution) == 2 and all(1 <= side <= MAX_SIDE for side in resolution)


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load(
    spec: str,
    *,
    split: str = "train",
    resolution: int | tuple[int, int] | None = None,
    channels: int | None = None,
    crop: str = "center",
    max_bad: float = 0.01,
    resident_mb: float = 1024,
    say: Callable[[str], None] = to_stderr,
    option: str = "--data",
    options: tuple[str, ...] | None = None,
    own_sizes: bool = False,
) -> Source:
    """Open a set of images.

    spec: "digits" (embedded) | a folder or .zip of images, whose folders become labels | a .npz | a folder of idx files |
    "tfds:NAME". split: which part, where the set has parts. resolution: height and width in pixels, one number for both; by
    default that of the images, or of most of them. channels: 1 grey, 3 RGB, 4 RGBA; by default 1 if all are grey, else 3.
    crop: "center" scales the shorter side and cuts the longer, "none" stretches, "whole" does neither: what has another size
    counts as unreadable. max_bad: share of the images that may be unreadable. resident_mb: sets whose decoded bytes (in units
    of 2**20) exceed it are streamed. say: gets each line about what was converted or skipped. option: the command-line option
    that messages name. options: the others that they may advise, by default OPTIONS for a training script's `option`, else none.
    own_sizes: images of a folder, zip or tfds set are not brought to one shape, and only `read` gives them.

    Raises InputError, with one line that says what would work.
    """
    if isinstance(resolution, int):
        resolution = (resolution, resolution)
    checks = (
        ("--resolution", resolution, resolution is None or is_size(resolution), f"1 to {MAX_SIDE}"),
        (
            "--channels",
            channels,
            channels is None or channels in MODES,
            "1 (grey), 3 (RGB) or 4 (RGBA)",
        ),
        ("--crop", crop, crop in ("center", "none", "whole"), "center, none or whole"),
        ("--max-bad", max_bad, 0 <= max_bad <= 1, "a share from 0 to 1"),
    )
    for name, value, right, instead in checks:
        if not right:
            raise InputError(f"{name} {value}: cannot be used; give {instead}")
    quiet_pillow()
    if options is None:
        options = OPTIONS if option.startswith("--data") else ()
    request = Request(
        spec,
        option,
        split,
        resolution,
        channels,
        "own" if own_sizes else crop,
        max_bad,
        resident_mb,
        say,
        options,
    )
    return build(find(request), request)


def find(request: Request) -> Items:
    """Hand the SPEC to the reader of its kind. Raises InputError."""
    if request.spec == "digits":
        return arrays.read_digits(request)
    if request.spec.startswith("tfds:"):
        return tfds.read_tfds(request.spec.removeprefix("tfds:"), request)
    path = os.path.expanduser(request.spec)
    reader = choose_reader(path, request)
    if reader is None:
        raise refuse(request, "is not a kind of file that holds a set", ACCEPTED)
    return reader(path, request)


def choose_reader(path: str, request: Request) -> Callable[[str, Request], Items] | None:
    """The reader of a folder or file. Raises InputError when the system does not let us see it."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return arrays.read_idx if arrays.idx_names(path) else files.read_folder
        if not stat.S_ISREG(mode):
            raise Malformed("is not a regular file")
        open_regular(path).close()
    except FileNotFoundError:
        raise refuse(request, "does not exist", ACCEPTED) from None
    except Malformed as error:
        raise refuse(request, str(error), ACCEPTED) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise refuse(request, f"cannot be read ({reason(error)})", ACCEPTED) from None
    return {".npz": arrays.read_npz, ".zip": files.read_zip}.get(os.path.splitext(path)[1].lower())
