"""`load`: open an image set with the reader of its kind."""

import os
import stat
import sys
from collections.abc import Callable

from genjax.data import arrays, files, tfds
from genjax.data.items import Items, build
from genjax.data.source import Request, Source, refuse
from genjax.errors import ConfigError, reason
from genjax.files.bounded import Malformed, open_regular
from genjax.files.decode import MODES, quiet_pillow

ACCEPTED = "use 'digits', a folder or .zip of images, a .npz, a folder of idx files, or tfds:NAME"
MAX_SIDE = 2**14  # pixels
ADJUSTABLE = ("resolution", "max_bad", "resident_mb")


def is_size(resolution: tuple[int, ...]) -> bool:
    """Whether these are a height and a width from 1 to MAX_SIDE pixels."""
    return len(resolution) == 2 and all(1 <= side <= MAX_SIDE for side in resolution)


def to_stderr(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def load(
    spec: str,
    *,
    split: str = "train",
    resolution: int | tuple[int, int] | None = None,
    channels: int | None = None,
    crop: str = "center",
    flip: bool = False,
    random_crop: int | tuple[int, int] | None = None,
    max_bad: float = 0.01,
    resident_mb: float = 1024,
    say: Callable[[str], None] = to_stderr,
    field: str = "data",
    adjustable: tuple[str, ...] = ADJUSTABLE,
    own_sizes: bool = False,
) -> Source:
    """Open a set of images.

        source = data.load("photos.zip", resolution=286, flip=True, random_crop=256)
        source.shape  # (256, 256, 3)

    Args:
        spec: "digits" (embedded) | a folder or .zip of images, whose folders become
            labels | a .npz | a folder of idx files | "tfds:NAME"
        split: which split to open, where the set has splits
        resolution: height and width in pixels, or one number for both; by default the
            most common size of the images
        channels: 1 grey, 3 RGB, 4 RGBA; by default 1 if all images are grey, else 3
        crop: "center" scales the shorter side and crops the longer, "none" stretches,
            "whole" does neither: images of another size count as unreadable
        flip: `Source.prepare` mirrors each image left to right with probability 1/2
        random_crop: height and width in pixels, or one number for both, that
            `Source.prepare` cuts out of each image at a random place
        max_bad: share of the images, 0 to 1, that may be unreadable
        resident_mb: in units of 2**20 bytes; sets that take more when decoded are
            streamed
        say: receives each line about images that were converted or skipped
        field: the name that errors give to `spec`
        adjustable: arguments of `load` that messages may advise to change: those of
            "resolution", "max_bad" and "resident_mb" that the caller can set
        own_sizes: keep the size of each image of a folder, zip or tfds set, and let
            only `Source.read` give them

    Raises:
        ConfigError: an argument is out of range, the set cannot be used, or
            `random_crop` is larger than its images; one line that says what would work
    """
    if isinstance(resolution, int):
        resolution = (resolution, resolution)
    if isinstance(random_crop, int):
        random_crop = (random_crop, random_crop)
    checks = (
        ("resolution", resolution, resolution is None or is_size(resolution), f"1 to {MAX_SIDE}"),
        (
            "channels",
            channels,
            channels is None or channels in MODES,
            "1 (grey), 3 (RGB) or 4 (RGBA)",
        ),
        ("crop", crop, crop in ("center", "none", "whole"), "center, none or whole"),
        (
            "random_crop",
            random_crop,
            random_crop is None or is_size(random_crop),
            f"1 to {MAX_SIDE}",
        ),
        ("max_bad", max_bad, 0 <= max_bad <= 1, "a share from 0 to 1"),
    )
    for name, value, valid, instead in checks:
        if not valid:
            raise ConfigError(name, value, f"cannot be used; give {instead}")
    if random_crop is not None and own_sizes:
        raise ConfigError("random_crop", None, "images that keep their own sizes are not cropped")
    quiet_pillow()
    request = Request(
        spec,
        field,
        split,
        resolution,
        channels,
        "own" if own_sizes else crop,
        max_bad,
        resident_mb,
        say,
        adjustable,
    )
    source = build(find(request), request)
    if random_crop is not None:
        height, width, _ = source.full_shape
        if random_crop[0] > height or random_crop[1] > width:
            raise ConfigError(
                "random_crop",
                " ".join(map(str, random_crop)),
                f"the images of `{field}` are {height}x{width}",
            )
    return source._replace(flip=flip, random_crop=random_crop)


def find(request: Request) -> Items:
    """List the set of `request.spec` with the reader of its kind.

    Raises ConfigError: there is no such set, or it cannot be read.
    """
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
    """The reader of a folder or file; None for a file of an unknown kind.

    Raises ConfigError: it does not exist, is not a regular file, or may not be read.
    """
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
