"""Videos: frames written as one .mp4 or .gif, or as a folder of PNG files.

Nothing is replaced without `force`, and a file is complete or not written at all.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import ConfigError, reason
from genjax.files import outputs
from genjax.files.grids import opaque

RATES = {".mp4": 30, ".gif": 20, "": 30}  # frames per second by suffix; "" is a folder
NUMBERED = "[0-9]" * 5 + ".png"  # glob pattern of the names of frames


def check(out: Path, force: bool, read: Sequence[Path] = ()) -> None:
    """Check that frames can be written to `out` and that nothing is lost.

    read: files and folders that the command reads. force: replace a file that genjax
    wrote.
    Raises ConfigError: `out` cannot be written, or would replace something else.
    """
    if out.suffix.lower() not in RATES:
        raise ConfigError(
            "out", out, "NAME.mp4, NAME.gif, or a name without a dot: a folder of PNG frames"
        )
    if not out.suffix:
        outputs.check_folder(out)
        return  # outputs.open_folder checks the files in it
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
    """Write frames as one .mp4 or .gif.

    Args:
        out: the file; its suffix names the format
        frames: uint8 [h, w, c], all of one shape, c 1, 3 or 4
        count: number of frames
        rate: frames per second
        check: called just before the file takes its place; may raise

    Raises:
        ConfigError: the file cannot be written
    """
    write_as = _write_mp4 if out.suffix.lower() == ".mp4" else _write_gif
    try:
        with outputs.replacing(out, check) as temporary:
            write_as(temporary, frames, count, rate)
    except OSError as error:  # PyAV's file errors are OSErrors
        raise ConfigError("out", out, f"cannot be written ({reason(error)})") from None


def check_folder(out: Path, count: int) -> None:
    """Check that a folder has no frames beyond these `count`: they would follow them.

    Raises ConfigError: it has.
    """
    beyond = sorted(path.name for path in out.glob(NUMBERED) if int(path.stem) >= count)
    if beyond:
        names = f"{beyond[0]}, {len(beyond)} in all"
        raise ConfigError(
            "out", out, f"holds frames beyond these {count} ({names}); choose another folder"
        )


def name(number: int) -> str:
    """The file name of a frame, which counts from 0."""
    return f"{number:05}.png"


def _write_gif(path: Path, frames: Iterable[np.ndarray], count: int, rate: int) -> None:
    """Write an endlessly looping GIF."""
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
    """Write H.264; odd sides are padded by one repeated row or column."""
    av = _encoder(path)
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = outputs.MARK
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        # Even sides: yuv420p stores colour at half the height and width.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        for pixels in itertools.chain([first], frames):
            even = np.pad(_opaque(pixels), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """A frame as uint8 [h, w, 3], over white: neither format has transparency."""
    return np.ascontiguousarray(np.broadcast_to(opaque(pixels), (*pixels.shape[:2], 3)))


def _encoder(out: Path) -> Any:
    """PyAV with an H.264 encoder. Raises ConfigError: it is not installed."""
    install = 'pip install "genjax-image[video]"'
    advice = f"{install}, or give a .gif, or a name without a dot for PNG frames"
    try:
        import av
    except ImportError:
        raise ConfigError("out", out, f".mp4 needs PyAV; {advice}") from None
    if "libx264" not in av.codecs_available:
        raise ConfigError("out", out, f"this PyAV has no libx264; {advice}")
    return av
