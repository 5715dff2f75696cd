"""The files of the fuzz campaign: small whole ones of every kind that is read, ways to damage them, and how each is read.

Everything is a function of a `random.Random`, so that case N of a seed is the same file everywhere.
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
from genjax import core, data
from genjax.convert import cyclegan, stylegan2
from genjax.edit import pictures
from genjax.files import tensors
from genjax.metrics import evaluate, extractors
from genjax.models import gan
from genjax.models import stylegan2 as stylegan2_model
from genjax.training import checkpoint, hooks

CANARY = "executed"  # the file that hostile payloads would make
GAN = gan.Config(shape=(8, 8, 1), hidden=(8,), latent_size=4, batch_size=8)
STYLEGAN2 = stylegan2_model.Config(
    shape=(8, 8, 3),
    latent_size=4,
    style_size=4,
    mapping_layers=1,
    channels=32,
    max_channels=4,
    batch_size=4,
)
STEPS = (10, 20)  # of the run's checkpoints


class Kind(NamedTuple):
    """A kind of file. `read(folder, target)` returns what its reader makes of it and the lines that the reader said."""

    place: (
        str  # of the damaged file in the folder that `make` filled; * where one of several is drawn
    )
    read: Callable[[Path, Path], tuple[Any, list[str]]]
    summed: bool = (
        False  # every byte of its content is covered by a checksum of its format, or by one of ours
    )
    mended: bool = False  # its reader repairs or replaces it


# --- whole files ---------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """One folder for each kind of KINDS, with intact files."""
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
    for name in (
        "zip",
        "npz",
        "npz_deflated",
        "idx",
        "idx_gz",
        "labels",
        "pth",
        "legacy",
        "safetensors",
        "arrays",
        "stylegan2",
        "stats",
        "features",
    ):
        (folder / name).mkdir()
    with zipfile.ZipFile(folder / "zip/set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(6):
            archive.writestr(f"{'ab'[index % 2]}/{index}.png", encoded(small[index, :, :, 0]))
    np.savez(folder / "npz/set.npz", images=small, labels=labels)
    np.savez_compressed(folder / "npz_deflated/set.npz", images=small, labels=labels)
    for name, pack, suffix in (("idx", bytes, ""), ("idx_gz", gzip.compress, ".gz")):
        head = b"\0\0\x08\x03" + struct.pack(">III", 12, 8, 8)
        (folder / name / f"train-images-idx3-ubyte{suffix}").write_bytes(
            pack(head + small.tobytes())
        )
        head = b"\0\0\x08\x01" + struct.pack(">I", 12)
        (folder / name / f"train-labels-idx1-ubyte{suffix}").write_bytes(
            pack(head + labels.astype(np.uint8).tobytes())
        )
    for index in range(4):
        (folder / f"labels/{index}.png").write_bytes(encoded(small[index, :, :, 0]))
    listed = [[f"{index}.png", index % 2] for index in range(4)]
    (folder / "labels/dataset.json").write_text(json.dumps({"labels": listed}))
    arrays = generator(draw)
    (folder / "pth/net.pth").write_bytes(pth_zip(arrays))
    (folder / "legacy/net.pth").write_bytes(pth_legacy(arrays))
    tensors_of = tensor_file(".safetensors")
    (folder / "safetensors/net.safetensors").write_bytes(tensors_of(arrays))
    (folder / "arrays/net.npz").write_bytes(tensor_file(".npz")(arrays))
    gen, disc = stylegan2.arrays(STYLEGAN2, made_up(stylegan2_model.recipe(STYLEGAN2)))
    named = {f"G_ema.{name}": x for name, x in gen.items()} | {
        f"D.{name}": x for name, x in disc.items()
    }
    (folder / "stylegan2/net.safetensors").write_bytes(tensors_of(named))
    rows = draw.normal(size=(32, 64))
    np.savez(folder / "stats/stats.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    np.savez(folder / "stats/set.npz", images=small)
    np.savez(folder / "features/set.npz", images=small)
    for name in ("config", "weights", "log", "checkpoint"):
        make_run(folder / name / "run")
    read_features(folder / "features", folder)  # fills its cache


def pictures_of(photo: Image.Image) -> dict[str, tuple[str, Image.Image, dict[str, Any]]]:
    wide = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    found: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "png": (".png", photo, {}),
        "png_palette": (".png", photo.quantize(64), {}),
        "png_16bit": (".png", wide, {}),
        "jpeg": (".jpg", photo, {"quality": 90}),
        "jpeg_progressive": (".jpg", photo, {"progressive": True}),
        "gif": (
            ".gif",
            photo.quantize(64),
            {"save_all": True, "append_images": [photo.rotate(90).quantize(64)]},
        ),
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
    return {name: row for name, row in found.items() if row[0] in Image.registered_extensions()}


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def generator(draw: np.random.Generator) -> dict[str, np.ndarray]:
    """A CycleGAN's generator of 4 channels and one block, under the reference repository's names."""
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
    found = {}
    for name, shape in shapes.items():
        found[f"model.{name}.weight"] = draw.normal(0, 0.1, shape).astype(np.float32)
        found[f"model.{name}.bias"] = np.zeros(shape[1 if name in ("11", "14") else 0], np.float32)
    return found


def made_up(model: Any) -> core.Weights:
    """Weights of a model without running it."""
    like = core.weights(jax.eval_shape(model.init, jax.random.key(0)))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: draw.normal(0, 0.1, x.shape).astype(x.dtype), like)


def make_run(run: Path) -> None:
    """What a finished training leaves."""
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
    checkpoint.export(run, core.weights(state))
    fields = {name: list(x) if isinstance(x, tuple) else x for name, x in vars(GAN).items()}
    checkpoint.write_config(
        run,
        {
            "genjax": genjax.__version__,
            "model": "gan",
            "config": fields,
            "data": {"spec": "digits"},
            "seed": 0,
        },
    )
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "loss/gen": 0.5}) + "\n" for step in range(2, 22, 2))
    )


# --- PyTorch's files -----------------------------------------------------------------------------------------------------


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes tensors as PyTorch does, without it: calls of names that are not imported."""

    def name(self, module: str, name: str) -> None:
        self.write(f"c{module}\n{name}\n".encode())

    def tensor(self, key: str, array: np.ndarray) -> None:
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.write(b"((")
        self.save("storage")
        self.name("torch", "FloatStorage")
        for value in (key, "cpu", array.size):
            self.save(value)
        self.write(b"tQ")
        for value in (0, array.shape, tuple(stride // 4 for stride in array.strides), False):
            self.save(value)
        self.name("collections", "OrderedDict")
        self.write(b")RtR")


def described(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    pickler = _Pickler(stream, 2)
    stream.write(b"\x80\x02")
    pickler.name("collections", "OrderedDict")
    stream.write(b")R(")
    for key, (name, array) in enumerate(arrays.items()):
        pickler.save(name)
        pickler.tensor(str(key), array)
    stream.write(b"u.")
    return stream.getvalue()


def pth_zip(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/data.pkl", described(arrays))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"net/data/{key}", array.tobytes())
    return stream.getvalue()


def pth_legacy(arrays: dict[str, np.ndarray]) -> bytes:
    head = (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}},
    )
    values = b"".join(
        array.size.to_bytes(8, "little") + array.tobytes() for array in arrays.values()
    )
    keys = pickle.dumps([str(key) for key in range(len(arrays))], 2)
    return b"".join(pickle.dumps(part, 2) for part in head) + described(arrays) + keys + values


def tensor_file(suffix: str) -> Callable[[dict[str, np.ndarray]], bytes]:
    def npz(arrays):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    def safetensors(arrays):
        from safetensors.numpy import save

        return save({name: np.ascontiguousarray(x) for name, x in arrays.items()})

    return {".npz": npz, ".safetensors": safetensors, ".pth": pth_zip}[suffix]


class Payload:
    """What a pickle of it would run."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


# --- how each is read ----------------------------------------------------------------------------------------------------


def read_set(folder: Path, target: Path) -> tuple[Any, list[str]]:
    """As --data reads a set, resident and streamed."""
    said: list[str] = []
    found: dict[str, Any] = {}
    for mb in (64, 0):
        spec = target if target.suffix in (".npz", ".zip") else folder
        source = data.load(str(spec), max_bad=0.5, resident_mb=mb, say=said.append)
        arrays = data.gather(source, np.arange(source.size))
        found |= {f"{name} {mb}": np.asarray(x) for name, x in arrays.items()} | {
            "classes": np.int64(source.num_labels)
        }
    return found, said


def read_picture(folder: Path, target: Path) -> tuple[Any, list[str]]:
    """As a set, and as translate reads it."""
    found, said = read_set(folder, target)
    with contextlib.suppress(pictures.Unreadable):
        found["picture"] = pictures.read(target, 3)
    return found, said


def read_tensors(folder: Path, target: Path) -> tuple[Any, list[str]]:
    return tensors.read(target), []


def read_cyclegan(folder: Path, target: Path) -> tuple[Any, list[str]]:
    return checkpoint.flatten(cyclegan.weights({"G": target})[1]), []


def read_stylegan2(folder: Path, target: Path) -> tuple[Any, list[str]]:
    return checkpoint.flatten(stylegan2.read(target)[1]), []


def read_run(folder: Path, target: Path) -> tuple[Any, list[str]]:
    model, weights = genjax.load(folder / "run")
    return checkpoint.flatten(weights) | {"config": repr(model.config)}, []


def read_log(folder: Path, target: Path) -> tuple[Any, list[str]]:
    """Rows of the log that are as they were must remain, once each; that is all that a log owes."""
    whole = {
        json.dumps({"step": step, "loss/gen": 0.5}).encode() for step in range(2, STEPS[-1] + 1, 2)
    }
    with contextlib.suppress(OSError):
        there = (
            target.read_bytes().split(b"\n")
            if target.is_file() and target.stat().st_size < 2**20
            else []
        )
    hooks.jsonl(target, 10, STEPS[-1])
    after = target.read_bytes().split(b"\n") if target.exists() else []
    return {"lost": sorted(line.decode() for line in whole & set(there) if line not in after)}, []


def read_checkpoint(folder: Path, target: Path) -> tuple[Any, list[str]]:
    """The newest checkpoint, or after a warning the one before."""
    import warnings

    like = jax.eval_shape(gan.recipe(GAN).init, jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        manager = checkpoint.manager(folder / "run")
        try:
            state = checkpoint.restore(manager, like)
        finally:
            manager.close()
    leaves = (
        {}
        if state is None
        else {name: np.asarray(x) for name, x in checkpoint.flatten(state).items()}
    )
    if leaves and int(leaves.pop("step")) not in (STEPS if said else STEPS[-1:]):
        leaves = {}
    return leaves, [str(one.message) for one in said]


def flat(images: Any) -> Any:
    return images.reshape(len(images), -1) / 255


def read_features(folder: Path, target: Path) -> tuple[Any, list[str]]:
    before = os.environ.get("GENJAX_CACHE")
    os.environ["GENJAX_CACHE"] = str(folder / "cache")
    try:
        pixels = extractors.wrap(flat, "pixels", digest="1")
        return dict(
            evaluate(
                str(folder / "set.npz"), str(folder / "set.npz"), ["prdc"], extractor=pixels
            ).values
        ), []
    finally:
        os.environ.pop("GENJAX_CACHE") if before is None else os.environ.update(GENJAX_CACHE=before)


def read_stats(folder: Path, target: Path) -> tuple[Any, list[str]]:
    return dict(
        evaluate(
            str(target),
            str(folder / "set.npz"),
            ["fd"],
            extractor=extractors.wrap(flat, "pixels", digest="1"),
        ).values
    ), []


def kinds() -> dict[str, Kind]:
    """Every kind by name. A PNG, a zip, gzip and our checkpoints, features and .pth zips carry checksums."""
    photo = Image.new("RGB", (1, 1))
    suffixes = {name: row[0] for name, row in pictures_of(photo).items()}
    found = {
        name: Kind(f"b{suffix}", read_picture, suffix == ".png")
        for name, suffix in suffixes.items()
    }
    return found | {
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


# --- damage --------------------------------------------------------------------------------------------------------------

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**40,
    2**63 - 1,
    2**64 - 1,
)
ODD_TEXTS = (
    "",
    "\x1b[31m",
    "\n",
    "\ud800",
    "\u202e",
    "../../x",
    "/dev/zero",
    "x" * 70_000,
    "9" * 5000,
    "nan",
    "\x00",
    "\u0664",
)
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1.5,
    1e308,
    -0.0,
    [],
    {},
    [[]],
    "x",
    [1] * 1000,
    {"a": {"b": []}},
)


def damaged(rng: random.Random, path: Path) -> tuple[str, bytes]:
    """(what was done to a file, its new content)."""
    content, name = path.read_bytes(), path.name
    ways: list[Callable[[random.Random, bytes], bytes]] = [
        flipped,
        flipped,
        overwritten,
        cut,
        cut,
        grown,
        moved,
        zeroed,
        extreme,
        extreme,
    ]
    if name.endswith((".json", ".jsonl")):
        ways += [odd_json] * 8 + [deep_json]
    if name.endswith((".pth", ".npz", ".safetensors")):
        ways += [lambda rng, _: odd_arrays(rng, path)] * 4
    if name.endswith((".pth", ".npz", ".zip", ".safetensors")):
        ways += [hostile, bomb]
    way = rng.choice(ways)
    return way.__name__.replace("<lambda>", "odd_arrays"), way(rng, content)


def flipped(rng, content):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(rng, content):
    at, size = rng.randrange(len(content) + 1), rng.randrange(1, 64)
    return content[:at] + rng.randbytes(size) + content[at + size :]


def cut(rng, content):
    return content[: rng.randrange(len(content))] if content else b""


def grown(rng, content):
    at = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
    return content[:at] + rng.randbytes(rng.choice((1, 100, 70_000))) + content[at:]


def moved(rng, content):
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice(
        (
            content[:first] + content[second:],
            content[:second] + content[first:],
            content[second:] + content[:second],
        )
    )


def zeroed(rng, content):
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + bytes(second - first) + content[second:]


def extreme(rng, content):
    """A field of 1 to 8 bytes, mostly of the header or of a zip's directory, becomes an extreme number."""
    size = rng.choice((1, 2, 4, 4, 8))
    last = max(1, len(content) - size)
    at = rng.choice(
        (rng.randrange(last), rng.randrange(min(last, 64)), max(0, last - rng.randrange(1, 80)))
    )
    number = (rng.choice(EXTREMES) & (256**size - 1)).to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + number + content[at + size :]


def odd_json(rng, content):
    """One value or name, anywhere in the tree, is replaced, removed or doubled."""
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


def deep_json(rng, content):
    depth = rng.choice((40, 900, 100_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    return (opened * depth + "1" + closed * depth).encode()


def odd_arrays(rng, path):
    """A file of arrays that is whole, but in which one array is not what it was."""
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


def hostile(rng, content):
    """Programs in the place of data."""
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


def bomb(rng, content):
    """Little that claims to be much."""
    way = rng.randrange(5)
    if way == 0:
        return (2 ** rng.randrange(20, 64)).to_bytes(
            8, "little"
        ) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    if way == 1:
        depth = rng.choice((1000, 200_000))
        return (
            b"\x80\x02"
            + rng.choice(
                (
                    b"(" * depth,
                    b"]" * depth,
                    b"K\x01" + b"\x85" * depth,
                    b"}q\x00" + b"h\x00" * depth,
                )
            )
            + b"."
        )
    if way == 2:
        return b"\x80\x02" + b"\x8b" + (2**20).to_bytes(4, "little") + b"\xff" * 2**20 + b"."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        if way == 3:
            for index in range(3):
                archive.writestr(
                    rng.choice(("images.npy", "a.png", "net/data.pkl", f"{index}.npy")),
                    bytes(2**26),
                )
        else:
            header = io.BytesIO()
            shape = rng.choice(((2**40,), (2**31, 2**31, 3), (10**4000,), (0, 2**62), (-1, 3)))
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            archive.writestr("images.npy", header.getvalue() + bytes(100))
    return stream.getvalue()


def special(rng: random.Random, path: Path) -> str:
    """Something that is not a regular file, in the place of one."""
    name = rng.choice(("pipe", "folder", "zeros", "socket", "loop", "nowhere", "empty", "null"))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)
    elif name == "empty":
        path.write_bytes(b"")
    else:
        path.symlink_to(
            {"zeros": "/dev/zero", "loop": path.name, "nowhere": "nowhere", "null": "/dev/null"}[
                name
            ]
        )
    return name
