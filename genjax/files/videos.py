"""Moving pictures: frames into one .mp4 or .gif, or into a folder of PNG files.

Nothing is written over unasked, and a file is whole or not there.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from genjax.errors import InputError, reason
from genjax.files import outputs
from genjax.files.grids import opaque

RATES = {".mp4": 30, ".gif": 20, "": 30}  # frames a second by the path's suffix; none is a folder
NUMBERED = "[0-9]" * 5 + ".png"


def check(out: Path, force: bool, read: Sequence[Path] = ()) -> None:
    """Raise InputError where `write` could not write, or would lose something. read: what the command reads."""
    if out.suffix.lower() not in RATES:
        raise InputError(
            f"--out {out}: NAME.mp4, NAME.gif, or a name without a dot: a folder of PNG frames"
        )
    if not out.suffix:
        outputs.check_folder(out)
        return  # the rest is outputs.open_folder's to see
    outputs.check_file(out, read=read, force=force)
    if out.suffix.lower() == ".mp4":
        _encoder(out)


def write(
    out: Path,
    frames: Iterable[np.ndarray],
    count: int,
    rate: int,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write `count` frames, uint8 [h, w, c] all of one size, c 1, 3 or 4, as one .mp4 or .gif.

    `check` is called before the file takes its place. Raises InputError if it cannot be written.
    """
    try:
        with outputs.replacing(out, check) as temporary:
            (_write_mp4 if out.suffix.lower() == ".mp4" else _write_gif)(
                temporary, frames, count, rate
            )
    except OSError as error:  # av's errors of files are of this kind
        raise InputError(f"--out {out}: cannot be written ({reason(error)})") from None


def check_folder(out: Path, count: int) -> None:
    """Raise InputError where a folder holds frames beyond these: they would seem to go on in those."""
    beyond = sorted(path.name for path in out.glob(NUMBERED) if int(path.stem) >= count)
    if beyond:
        raise InputError(
            f"--out {out}: holds frames beyond these {count} ({beyond[0]}, {len(beyond)} in all); choose another folder"
        )


def name(number: int) -> str:
    return f"{number:05}.png"


def _write_gif(path: Path, frames: Iterable[np.ndarray], count: int, rate: int) -> None:
    from PIL import Image

    ends = np.round(100 * np.arange(count + 1) / rate)  # a GIF counts hundredths of a second
    images = (Image.fromarray(_opaque(pixels)) for pixels in frames)
    first = next(images)
    durations = (10 * np.diff(ends)).astype(int).tolist()
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=durations,
        loop=0,
        comment=outputs.MARK.encode(),
    )


def _write_mp4(path: Path, frames: Iterable[np.ndarray], count: int, rate: int) -> None:
    av = _encoder(path)
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = outputs.MARK
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.height, stream.width = (
            height + height % 2,
            width + width % 2,
        )  # colour is kept at half the sides
        stream.pix_fmt = "yuv420p"
        for pixels in itertools.chain([first], frames):
            even = np.pad(_opaque(pixels), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3], transparency over white: neither format has any."""
    return np.ascontiguousarray(np.broadcast_to(opaque(pixels), (*pixels.shape[:2], 3)))


def _encoder(out: Path):
    """PyAV with an H.264 encoder. Raises InputError."""
    advice = (
        'pip install "genjax-image[video]", or give a .gif, or a name without a dot for PNG frames'
    )
    try:
        import av
    except ImportError:
        raise InputError(f"--out {out}: .mp4 needs PyAV; {advice}") from None
    if "libx264" not in av.codecs_available:
        raise InputError(f"--out {out}: this PyAV has no libx264; {advice}")
    return av
