"""The files of the fuzz campaign: small intact files of every kind, ways to damage
them, and how each kind is read.

All damage is a function of a `random.Random`, so that case N of a seed is the same file
everywhere.
"""

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

import genjax
from benchmarks import torch_files
from genjax import core, data
from genjax.convert import cyclegan, stylegan2
from genjax.edit import pictures
from genjax.files import tensors
from genjax.metrics import evaluate, extractors
from genjax.models import gan
from genjax.models import stylegan2 as stylegan2_model
from genjax.training import checkpoint, hooks, run_folder

CANARY = "executed"  # the file that hostile payloads would create
GAN = gan.Config(shape=(8, 8, 1), hidden=(8,), z_dim=4, batch_size=8)
STYLEGAN2 = stylegan2_model.Config(
    shape=(8, 8, 3),
    z_dim=4,
    w_dim=4,
    mapping_layers=1,
    channel_base=32,
    channel_max=4,
    batch_size=4,
)
STEPS = (10, 20)  # steps of the run's checkpoints

# What was read, and the messages of the reader.
Outcome = tuple[Any, list[str]]


class Kind(NamedTuple):
    """A kind of file."""

    place: str  # glob of the file to damage, in the folder that `make` filled
    read: Callable[[Path, Path], Outcome]  # reads the damaged file: (folder, file)
    summed: bool = False  # a checksum of the format, or of ours, covers every byte
    mended: bool = False  # the reader repairs or replaces the file


# --- intact files ---------------------------------------------------------------------


def make(folder: Path) -> None:
    """Write intact files, with one folder for each of `kinds()`."""
    draw = np.random.default_rng(0)
    ramp = (
        np.linspace(0, 255, 24)[None, :, None]
        + np.linspace(-20, 20, 20)[:, None, None]
        + np.array([0, 20, -40])
    )
    photo = Image.fromarray(np.clip(ramp + draw.normal(0, 8, (20, 24, 3)), 0, 255).astype(np.uint8))
    for name, (suffix, image, options) in pictures_of(photo).items():
        (folder / name).mkdir(parents=True)
        image.save(folder / name / f"b{suffix}", **options)
        for other in ("a.png", "c.png"):
            photo.save(folder / name / other)
    small = draw.integers(0, 256, (12, 8, 8, 1), np.uint8)
    labels = np.arange(12) % 3
    sets = "zip npz npz_deflated idx idx_gz labels stats features"
    for name in f"{sets} pth legacy safetensors arrays stylegan2".split():
        (folder / name).mkdir()
    with zipfile.ZipFile(folder / "zip/set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(6):
            archive.writestr(f"{'ab'[index % 2]}/{index}.png", encoded(small[index, :, :, 0]))
    np.savez(folder / "npz/set.npz", images=small, labels=labels)
    np.savez_compressed(folder / "npz_deflated/set.npz", images=small, labels=labels)
    for name, pack, suffix in (("idx", bytes, ""), ("idx_gz", gzip.compress, ".gz")):
        images = folder / name / f"train-images-idx3-ubyte{suffix}"
        head = b"\0\0\x08\x03" + struct.pack(">III", 12, 8, 8)
        images.write_bytes(pack(head + small.tobytes()))
        head = b"\0\0\x08\x01" + struct.pack(">I", 12)
        labels_file = folder / name / f"train-labels-idx1-ubyte{suffix}"
        labels_file.write_bytes(pack(head + labels.astype(np.uint8).tobytes()))
    for index in range(4):
        (folder / f"labels/{index}.png").write_bytes(encoded(small[index, :, :, 0]))
    listed = [[f"{index}.png", index % 2] for index in range(4)]
    (folder / "labels/dataset.json").write_text(json.dumps({"labels": listed}))
    arrays = generator(draw)
    (folder / "pth/net.pth").write_bytes(torch_files.pth_zip(arrays))
    (folder / "legacy/net.pth").write_bytes(torch_files.pth_legacy(arrays))
    safetensors = tensor_file(".safetensors")
    (folder / "safetensors/net.safetensors").write_bytes(safetensors(arrays))
    (folder / "arrays/net.npz").write_bytes(tensor_file(".npz")(arrays))
    gen, disc = stylegan2.arrays(STYLEGAN2, made_up(stylegan2_model.recipe(STYLEGAN2)))
    both = {f"G_ema.{name}": x for name, x in gen.items()}
    both |= {f"D.{name}": x for name, x in disc.items()}
    (folder / "stylegan2/net.safetensors").write_bytes(safetensors(both))
    rows = draw.normal(size=(32, 64))
    np.savez(folder / "stats/stats.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    np.savez(folder / "stats/set.npz", images=small)
    np.savez(folder / "features/set.npz", images=small)
    for name in ("config", "weights", "log", "checkpoint"):
        make_run(folder / name / "run")
    read_features(folder / "features", folder)  # fills the cache of features


def pictures_of(photo: Image.Image) -> dict[str, tuple[str, Image.Image, dict[str, Any]]]:
    """Suffix, image and options of `save` for each picture format of Pillow."""
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [photo.rotate(90).quantize(64)]}
    formats: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "png": (".png", photo, {}),
        "png_palette": (".png", photo.quantize(64), {}),
        "png_16bit": (".png", deep, {}),
        "jpeg": (".jpg", photo, {"quality": 90}),
        "jpeg_progressive": (".jpg", photo, {"progressive": True}),
        "gif": (".gif", photo.quantize(64), frames),
        "bmp": (".bmp", photo, {}),
        "webp": (".webp", photo, {}),
        "webp_lossless": (".webp", photo, {"lossless": True}),
        "tiff": (".tif", photo, {"save_all": True, "append_images": [photo]}),
        "tiff_deflate": (".tif", photo, {"compression": "tiff_adobe_deflate"}),
        "ppm": (".ppm", photo, {}),
        "pgm": (".pgm", photo.convert("L"), {}),
        "avif": (".avif", photo, {}),
        "jpeg2000": (".jp2", photo, {}),
    }
    return {name: row for name, row in formats.items() if row[0] in Image.registered_extensions()}


def encoded(pixels: np.ndarray) -> bytes:
    """The PNG of a grey or colour image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def generator(draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of a CycleGAN generator with 4 channels and one block.

    Names are those of the reference repository.
    """
    shapes = {
        "1": (4, 3, 7, 7),
        "4": (8, 4, 3, 3),
        "7": (16, 8, 3, 3),
        "10.conv_block.1": (16, 16, 3, 3),
        "10.conv_block.5": (16, 16, 3, 3),
        "11": (16, 8, 3, 3),
        "14": (8, 4, 3, 3),
        "18": (3, 4, 7, 7),
    }
    arrays = {}
    for name, shape in shapes.items():
        features = shape[1 if name in ("11", "14") else 0]  # these two are transposed
        arrays[f"model.{name}.weight"] = draw.normal(0, 0.1, shape).astype(np.float32)
        arrays[f"model.{name}.bias"] = np.zeros(features, np.float32)
    return arrays


def made_up(model: Any) -> core.Weights:
    """Random weights of a model, without compiling its `init`."""
    like = core.weights(jax.eval_shape(model.init, jax.random.key(0)))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: draw.normal(0, 0.1, x.shape).astype(x.dtype), like)


def make_run(run: Path) -> None:
    """Write the folder of a finished training run."""
    run.mkdir(parents=True)
    model = gan.recipe(GAN)
    draw = np.random.default_rng(0)
    like = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.tree.map(lambda x: draw.normal(0, 0.1, x.shape).astype(x.dtype), like)
    manager = checkpoint.manager(run)
    for step in STEPS:
        checkpoint.save(manager, state.replace(step=np.int32(step)), {"step": step})
        manager.wait_until_finished()
    manager.close()
    run_folder.export(run, core.weights(state))
    fields = {name: list(x) if isinstance(x, tuple) else x for name, x in vars(GAN).items()}
    settings = {"genjax": genjax.__version__, "model": "gan", "config": fields}
    run_folder.write_config(run, settings | {"data": {"spec": "digits"}, "seed": 0})
    rows = [json.dumps({"step": step, "loss/gen": 0.5}) for step in range(2, 22, 2)]
    (run / "metrics.jsonl").write_text("".join(f"{row}\n" for row in rows))


def tensor_file(suffix: str) -> Callable[[dict[str, np.ndarray]], bytes]:
    """The function that encodes arrays as a file of this suffix."""

    def npz(arrays):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    def safetensors(arrays):
        from safetensors.numpy import save

        return save({name: np.ascontiguousarray(x) for name, x in arrays.items()})

    return {".npz": npz, ".safetensors": safetensors, ".pth": torch_files.pth_zip}[suffix]


class Payload:
    """An object whose pickle runs a shell command when it is loaded."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


# --- readers --------------------------------------------------------------------------


def read_set(folder: Path, target: Path) -> Outcome:
    """Read a data set as --data does, resident and streamed."""
    messages: list[str] = []
    arrays: dict[str, Any] = {}
    for mb in (64, 0):
        spec = target if target.suffix in (".npz", ".zip") else folder
        source = data.load(str(spec), max_bad=0.5, resident_mb=mb, say=messages.append)
        items = data.gather(source, np.arange(source.size))
        arrays |= {f"{name} {mb}": np.asarray(x) for name, x in items.items()}
        arrays["classes"] = np.int64(source.num_labels)
    return arrays, messages


def read_picture(folder: Path, target: Path) -> Outcome:
    """Read a picture as an item of a data set, and as `genjax translate` does."""
    arrays, messages = read_set(folder, target)
    with contextlib.suppress(pictures.Unreadable):
        arrays["picture"] = pictures.read(target, 3)
    return arrays, messages


def read_tensors(folder: Path, target: Path) -> Outcome:
    """Read a file of arrays."""
    return tensors.read(target), []


def read_cyclegan(folder: Path, target: Path) -> Outcome:
    """Read a CycleGAN generator as `genjax convert` does."""
    return run_folder.flatten(cyclegan.weights({"G": target})[1]), []


def read_stylegan2(folder: Path, target: Path) -> Outcome:
    """Read a StyleGAN2 as `genjax convert` does."""
    return run_folder.flatten(stylegan2.read(target)[1]), []


def read_run(folder: Path, target: Path) -> Outcome:
    """Load a run."""
    model, weights = genjax.load(folder / "run")
    return run_folder.flatten(weights) | {"config": repr(model.config)}, []


def read_log(folder: Path, target: Path) -> Outcome:
    """Resume a log; returns the undamaged rows that are gone afterwards.

    Undamaged rows have to remain, once each; nothing else is required of a log.
    """
    intact = {
        json.dumps({"step": step, "loss/gen": 0.5}).encode() for step in range(2, STEPS[-1] + 1, 2)
    }
    before: list[bytes] = []
    with contextlib.suppress(OSError):
        if target.is_file() and target.stat().st_size < 2**20:
            before = target.read_bytes().split(b"\n")
    hooks.jsonl(target, 10, STEPS[-1])
    after = target.read_bytes().split(b"\n") if target.exists() else []
    return {"lost": sorted(row.decode() for row in intact & set(before) if row not in after)}, []


def read_checkpoint(folder: Path, target: Path) -> Outcome:
    """Restore the newest checkpoint or, after a warning, the one before it."""
    import warnings

    like = jax.eval_shape(gan.recipe(GAN).init, jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        manager = checkpoint.manager(folder / "run")
        try:
            state = checkpoint.restore(manager, like)
        finally:
            manager.close()
    leaves = {}
    if state is not None:
        leaves = {name: np.asarray(x) for name, x in run_folder.flatten(state).items()}
    if leaves and int(leaves.pop("step")) not in (STEPS if messages else STEPS[-1:]):
        leaves = {}
    return leaves, [str(warning.message) for warning in messages]


def flat(images: Any) -> Any:
    """Images as rows of pixels in [0, 1]: an extractor without a network."""
    return images.reshape(len(images), -1) / 255


def evaluated(real: Path, fake: Path, metric: str) -> dict[str, Any]:
    """Evaluate a metric over pixels."""
    pixels = extractors.wrap(flat, "pixels", digest="1")
    return dict(evaluate(str(real), str(fake), [metric], extractor=pixels).values)


def read_features(folder: Path, target: Path) -> Outcome:
    """Evaluate a metric with the cache of features in `folder`."""
    before = os.environ.get("GENJAX_CACHE")
    os.environ["GENJAX_CACHE"] = str(folder / "cache")
    try:
        return evaluated(folder / "set.npz", folder / "set.npz", "prdc"), []
    finally:
        os.environ.pop("GENJAX_CACHE") if before is None else os.environ.update(GENJAX_CACHE=before)


def read_stats(folder: Path, target: Path) -> Outcome:
    """Evaluate a metric with published statistics."""
    return evaluated(target, folder / "set.npz", "fd"), []


def kinds() -> dict[str, Kind]:
    """Every kind by name.

    PNG, zip, gzip, and our checkpoints, features and .pth zips have checksums.
    """
    photo = Image.new("RGB", (1, 1))
    suffixes = {name: row[0] for name, row in pictures_of(photo).items()}
    kinds_of_pictures = {
        name: Kind(f"b{suffix}", read_picture, suffix == ".png")
        for name, suffix in suffixes.items()
    }
    return kinds_of_pictures | {
        "zip": Kind("set.zip", read_set, True),
        "npz": Kind("set.npz", read_set, True),
        "npz_deflated": Kind("set.npz", read_set, True),
        "idx": Kind("train-*", read_set),
        "idx_gz": Kind("train-*", read_set, True),
        "labels": Kind("dataset.json", read_set),
        "pth": Kind("net.pth", read_cyclegan, True),
        "legacy": Kind("net.pth", read_cyclegan),
        "safetensors": Kind("net.safetensors", read_tensors),
        "arrays": Kind("net.npz", read_tensors, True),
        "stylegan2": Kind("net.safetensors", read_stylegan2),
        "stats": Kind("stats.npz", read_stats, True),
        "config": Kind("run/config.json", read_run),
        "weights": Kind("run/model.safetensors", read_run),
        "log": Kind("run/metrics.jsonl", read_log, True, True),
        "checkpoint": Kind(f"run/checkpoints/{STEPS[-1]}/**/*", read_checkpoint, True, True),
        "features": Kind("cache/features/*", read_features, True, True),
    }


# --- damage ---------------------------------------------------------------------------

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
EXTREMES += (2**40, 2**63 - 1, 2**64 - 1)
ODD_TEXTS = ("", "\x1b[31m", "\n", "\ud800", "\u202e", "../../x", "/dev/zero", "x" * 70_000)
ODD_TEXTS += ("9" * 5000, "nan", "\x00", "\u0664")
ODD_VALUES = (None, True, -1, 0, 2**31, 2**63, 10**30, 1.5, 1e308, -0.0, [], {}, [[]], "x")
ODD_VALUES += ([1] * 1000, {"a": {"b": []}})

Damage = Callable[[random.Random, bytes], bytes]


def damaged(rng: random.Random, path: Path) -> tuple[str, bytes]:
    """Damage a file in a random way; return the way's name and the new content."""
    content, name = path.read_bytes(), path.name
    # A way that is listed several times is drawn as often.
    ways: list[Damage] = [flipped, flipped, overwritten, cut, cut, grown, moved, zeroed]
    ways += [extreme, extreme]
    if name.endswith((".json", ".jsonl")):
        ways += [odd_json] * 8 + [deep_json]
    if name.endswith((".pth", ".npz", ".safetensors")):
        ways += [lambda rng, _: odd_arrays(rng, path)] * 4
    if name.endswith((".pth", ".npz", ".zip", ".safetensors")):
        ways += [hostile, bomb]
    way = rng.choice(ways)
    return way.__name__.replace("<lambda>", "odd_arrays"), way(rng, content)


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Flip one or eight bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(rng: random.Random, content: bytes) -> bytes:
    """Overwrite up to 63 bytes with random ones."""
    at, size = rng.randrange(len(content) + 1), rng.randrange(1, 64)
    return content[:at] + rng.randbytes(size) + content[at + size :]


def cut(rng: random.Random, content: bytes) -> bytes:
    """Truncate the file."""
    return content[: rng.randrange(len(content))] if content else b""


def grown(rng: random.Random, content: bytes) -> bytes:
    """Insert random bytes at the start, the end or anywhere."""
    at = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
    return content[:at] + rng.randbytes(rng.choice((1, 100, 70_000))) + content[at:]


def moved(rng: random.Random, content: bytes) -> bytes:
    """Remove or repeat a range of bytes, or move the end to the start."""
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    removed, repeated = content[:first] + content[second:], content[:second] + content[first:]
    return rng.choice((removed, repeated, content[second:] + content[:second]))


def zeroed(rng: random.Random, content: bytes) -> bytes:
    """Set a range of bytes to zero."""
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + bytes(second - first) + content[second:]


def extreme(rng: random.Random, content: bytes) -> bytes:
    """Set 1 to 8 bytes to an extreme number, often in a header or a zip's directory."""
    size = rng.choice((1, 2, 4, 4, 8))
    last = max(1, len(content) - size)
    at = rng.choice(
        (rng.randrange(last), rng.randrange(min(last, 64)), max(0, last - rng.randrange(1, 80)))
    )
    number = (rng.choice(EXTREMES) & (256**size - 1)).to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + number + content[at + size :]


def odd_json(rng: random.Random, content: bytes) -> bytes:
    """Replace, remove or rename one value or name anywhere in a JSON tree."""
    lines = content.split(b"\n")
    chosen = rng.randrange(len(lines)) if content.count(b"\n{") > 2 else None  # a .jsonl
    try:
        tree = json.loads(lines[chosen] if chosen is not None else content)
    except ValueError:
        return content + b"{"
    places = [(tree, key) for key in (tree if isinstance(tree, dict) else range(len(tree)))]
    for holder, key in places:
        child = holder[key]
        if isinstance(child, dict | list) and len(places) < 10_000:
            places += [
                (child, inner)
                for inner in (child if isinstance(child, dict) else range(len(child)))
            ]
    holder, key = rng.choice(places) if places else (tree, None)
    way = rng.randrange(4)
    if key is not None and way == 0:
        del holder[key]
    elif isinstance(holder, dict) and way == 1:
        holder[rng.choice(ODD_TEXTS)] = holder.pop(key, 1)
    elif key is not None:
        holder[key] = rng.choice((*ODD_VALUES, *ODD_TEXTS))
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    text = text.replace("1e+308", "1e999") if rng.random() < 0.5 else text
    raw = text.encode("utf-8", "surrogatepass")
    return b"\n".join([*lines[:chosen], raw, *lines[chosen + 1 :]]) if chosen is not None else raw


def deep_json(rng: random.Random, content: bytes) -> bytes:
    """Replace the content by deeply nested JSON."""
    depth = rng.choice((40, 900, 100_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    return (opened * depth + "1" + closed * depth).encode()


def odd_arrays(rng: random.Random, path: Path) -> bytes:
    """An intact file of arrays in which one array is removed or changed."""
    suffix, arrays = path.suffix, tensors.read(path)
    name = rng.choice(list(arrays))
    array = arrays.pop(name)
    way = rng.randrange(6)
    if way == 0:
        odd = (
            "model.x.weight",
            "model.99999999999.weight",
            "",
            "model.-1.bias",
            "9" * 5000,
            "\x1b\n",
            f"module.{name}",
            "synthesis.b4.conv1.weight",
        )
        arrays[rng.choice(odd)] = array
    elif way == 1:
        shape = rng.choice(
            ((), (0,), (1,) * 8, (array.size,), array.shape[::-1], (*array.shape, 1))
        )
        arrays[name] = np.zeros(shape, np.float32)
    elif way in (2, 3) and array.size:
        array = array.astype(np.float32)
        array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf))
        arrays[name] = array
    elif way == 4 and suffix != ".pth":
        arrays[name] = array.astype(rng.choice((np.int64, np.bool_, np.float16, np.float64)))
    return tensor_file(suffix)(arrays)


def hostile(rng: random.Random, content: bytes) -> bytes:
    """Replace the content by a program: a pickle, or PostScript."""
    program = pickle.dumps({"w": Payload()}, rng.randrange(6))
    stream = io.BytesIO()
    way = rng.randrange(4)
    if way == 0:
        return program
    if way == 1:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("net/data.pkl", program)
        return stream.getvalue()
    if way == 2:
        objects = np.array([Payload()], object)
        np.savez(stream, images=objects, w=objects, mu=objects, sigma=objects)
        return stream.getvalue()
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch "
        + CANARY.encode()
        + b") (w) file\n"
    )


def bomb(rng: random.Random, content: bytes) -> bytes:
    """Replace the content by a small file that claims, or expands, to be huge."""
    way = rng.randrange(5)
    if way == 0:
        length = (2 ** rng.randrange(20, 64)).to_bytes(8, "little")
        return length + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    if way == 1:
        depth = rng.choice((1000, 200_000))
        tuples, memos = b"K\x01" + b"\x85" * depth, b"}q\x00" + b"h\x00" * depth
        return b"\x80\x02" + rng.choice((b"(" * depth, b"]" * depth, tuples, memos)) + b"."
    if way == 2:
        return b"\x80\x02" + b"\x8b" + (2**20).to_bytes(4, "little") + b"\xff" * 2**20 + b"."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        if way == 3:
            for index in range(3):
                name = rng.choice(("images.npy", "a.png", "net/data.pkl", f"{index}.npy"))
                archive.writestr(name, bytes(2**26))
        else:
            header = io.BytesIO()
            shape = rng.choice(((2**40,), (2**31, 2**31, 3), (10**4000,), (0, 2**62), (-1, 3)))
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            archive.writestr("images.npy", header.getvalue() + bytes(100))
    return stream.getvalue()


def special(rng: random.Random, path: Path) -> str:
    """Replace a file by a pipe, folder, socket, link or empty file; return which."""
    name = rng.choice(("pipe", "folder", "zeros", "socket", "loop", "nowhere", "empty", "null"))
    links = {"zeros": "/dev/zero", "loop": path.name, "nowhere": "nowhere", "null": "/dev/null"}
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket has to be short
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as file:
            file.bind(path.name)
        os.chdir(here)
    elif name == "empty":
        path.write_bytes(b"")
    else:
        path.symlink_to(links[name])
    return name
