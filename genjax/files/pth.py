"""Read PyTorch's files of weights without PyTorch and without executing them.

A `.pth` is a pickle, which is a program. Its instructions are interpreted here one by
one: those that build plain data are carried out, the few calls that describe a tensor
are recognised by name, and everything else is refused. Both layouts are read: the zip
of PyTorch 1.6 and later (members `*/data.pkl` and `*/data/KEY`), and the earlier stream
of pickles.
"""

import contextlib
import io
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from genjax.errors import InputError, reason
from genjax.files.bounded import DAMAGE, Malformed, fill, open_member, open_regular, open_zip

DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_PICKLE_BYTES = 2**23  # of instructions: names and shapes
# A tensor takes about 30 instructions, an instruction about 100 bytes and 2
# microseconds.
MAX_INSTRUCTIONS = 2**20
MAX_NUMBER_BITS = 128  # multiplying longer numbers would take long
MAX_MEMBERS = 2**16  # of an archive of weights: one per tensor
MAX_DIMENSIONS = 32
# Weights shrink little: values may take RATIO times the bytes of their file, and
# SMALL_BYTES more, because zeros do shrink.
RATIO = 16
SMALL_BYTES = 2**26
# Keys under which checkpoints often hold the weights.
CONTAINERS = ("state_dict", "params_ema", "params", "model", "net", "generator", "g_ema")


class Global(NamedTuple):
    """A name that the file asks to import. It is only compared, never imported."""

    module: str
    name: str


class Storage(NamedTuple):
    """A flat array of the file."""

    key: str
    dtype: np.dtype
    size: int  # number of values


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count values, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the tensors of a `.pth`, by name.

    The prefix `module.` of parallel models is stripped. A checkpoint may hold the
    tensors under one of CONTAINERS. As in PyTorch, tensors of one storage may share its
    memory.

    Raises InputError: the file is missing, damaged, holds no weights, or asks for more
    than data.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            zipped = zipfile.is_zipfile(file)
            with open_zip(path, MAX_MEMBERS) if zipped else contextlib.nullcontext() as archive:
                top, load = _read_zip(archive) if archive else _read_legacy(file)
                tensors = _tensors(top)
                storages = dict.fromkeys(tensor.storage for tensor in tensors.values())
                check_size(file, sum(storage.size * storage.dtype.itemsize for storage in storages))
                sizes = (t.size * t.storage.dtype.itemsize for t in tensors.values())
                check_size(file, sum(sizes))
                loaded = {storage: load(storage) for storage in storages}
                return {
                    name.removeprefix("module."): _view(loaded[tensor.storage], tensor)
                    for name, tensor in tensors.items()
                }
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; give a .pth file") from None
    except Malformed as error:
        raise InputError(
            f"{path}: {error}; give a .pth that holds a state dict and nothing else"
        ) from None
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); give an intact .pth") from None


def _tensors(top: Any) -> dict[str, Tensor]:
    """The tensors of an object, or under one of CONTAINERS. Raises Malformed."""
    for candidate in (top, *(top.get(key) for key in CONTAINERS if isinstance(top, Mapping))):
        if isinstance(candidate, Mapping):
            tensors = {
                name: value
                for name, value in candidate.items()
                if isinstance(name, str) and isinstance(value, Tensor)
            }
            if tensors:
                if len({name.removeprefix("module.") for name in tensors}) != len(tensors):
                    raise Malformed("holds a tensor by its name and by module. and its name")
                return tensors
    raise Malformed("holds no tensors by name")


def _view(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The tensor's values, contiguous: a view of its storage, or a copy."""
    if not tensor.size:
        return np.zeros(tensor.shape, values.dtype)
    strides = [stride * values.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
    return np.asarray(view, order="C")


# --- reading in bounds ----------------------------------------------------------------


def check_size(file: IO[bytes], claimed: int) -> None:
    """Check the bytes of values that a file claims against its size.

    Raises Malformed: they are more than RATIO times its size plus SMALL_BYTES.
    """
    if claimed > RATIO * os.fstat(file.fileno()).st_size + SMALL_BYTES:
        raise Malformed(f"claims {claimed} bytes of values, more than a file of its size holds")


def read_bytes(stream: IO[bytes], size: int) -> np.ndarray:
    """The next bytes of a stream, uint8 [size]. Raises Malformed: it ends too early."""
    values = np.empty(size, np.uint8)
    fill(values, stream)
    return values


# --- the two layouts ------------------------------------------------------------------

Load = Callable[[Storage], np.ndarray]


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, Load]:
    """The object of a zip, and a function that reads its storages. Raises Malformed."""
    if len(set(archive.namelist())) != len(archive.namelist()):
        raise Malformed("has two members of one name")
    pickles = [
        member for member in archive.infolist() if member.filename.rsplit("/", 1)[-1] == "data.pkl"
    ]
    if len(pickles) != 1:
        raise Malformed("is a zip, but none of PyTorch's")
    prefix = pickles[0].filename.removesuffix("data.pkl")
    order = prefix + "byteorder"
    if order in archive.namelist() and _member(archive, order, 16).tobytes() != b"little":
        raise Malformed("is of a big-endian machine")

    def load(storage: Storage) -> np.ndarray:
        size = storage.size * storage.dtype.itemsize
        values = _member(archive, f"{prefix}data/{storage.key}", size)
        if len(values) != size:
            raise Malformed(f"the data of storage {storage.key!r} are cut short")
        return values.view(storage.dtype)

    description = _member(archive, pickles[0].filename, MAX_PICKLE_BYTES)
    return _run(io.BytesIO(description.tobytes())), load


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> np.ndarray:
    """The bytes of a member, uint8. Raises Malformed: missing, too large, damaged."""
    if name not in archive.NameToInfo:
        raise Malformed(f"has no member {name!r}")
    member = archive.getinfo(name)
    if member.file_size > limit:
        raise Malformed(f"{name!r} is larger than it may be")
    with open_member(archive, member) as stream:
        return read_bytes(stream, member.file_size)


def _read_legacy(file: IO[bytes]) -> tuple[Any, Load]:
    """The object of a stream of pickles, and the function that reads its storages.

    The stream holds a magic number, a version, the machine, the object, the keys of its
    storages, and for each storage its length and values. Raises Malformed.
    """
    file.seek(0)
    if _run(file) != LEGACY_MAGIC:
        raise Malformed("is no file of PyTorch's")
    _run(file)
    machine = _run(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Malformed("is of a big-endian machine")
    top = _run(file)
    keys = _run(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Malformed("lists no storages")
    starts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    item_sizes = {
        tensor.storage.key: tensor.storage.dtype.itemsize for tensor in _tensors(top).values()
    }
    end = os.fstat(file.fileno()).st_size
    for key in keys:
        size = int.from_bytes(file.read(8), "little", signed=True)
        if key not in item_sizes:
            raise Malformed("holds values of no known type beside its weights")
        starts[key], sizes[key] = file.tell(), size
        if size < 0 or file.tell() + size * item_sizes[key] > end:
            raise Malformed("its values are cut short")
        file.seek(size * item_sizes[key], os.SEEK_CUR)

    def load(storage: Storage) -> np.ndarray:
        if sizes.get(storage.key) != storage.size:
            raise Malformed(f"storage {storage.key!r} has another size than its tensors claim")
        file.seek(starts[storage.key])
        return read_bytes(file, storage.size * storage.dtype.itemsize).view(storage.dtype)

    return top, load


# --- the pickle's instructions --------------------------------------------------------

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
LITERALS = (
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "BINFLOAT",
    "FLOAT",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
)
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Limited:
    """A stream of at most MAX_PICKLE_BYTES: lengths in a pickle may lie."""

    def __init__(self, file: IO[bytes]):
        self._file, self._left = file, MAX_PICKLE_BYTES

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises Malformed: the limit is passed."""
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        """The next line. Raises Malformed: the limit is passed."""
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise Malformed("its description is too long")
        return data


def _run(file: IO[bytes]) -> Any:
    """Interpret one pickle.

    Its value consists of dicts, lists, tuples, numbers, texts, None, Global, Storage
    and Tensor.
    Raises Malformed: it is damaged, too long, or asks for anything else.
    """
    stack: list[Any] = []  # above the last mark
    below: list[list[Any]] = []  # the stacks between the marks before it
    memo: dict[Any, Any] = {}

    def to_mark() -> list[Any]:
        nonlocal stack
        values, stack = stack, below.pop()
        return values

    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(_Limited(file))):  # type: ignore[arg-type]
        if count > MAX_INSTRUCTIONS:
            raise Malformed("its description is too long")
        name = opcode.name
        if name in LITERALS:
            if type(argument) is int and argument.bit_length() > MAX_NUMBER_BITS:
                raise Malformed("holds a number of too many digits")
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "TUPLE":
            values = to_mark()
            stack.append(tuple(values))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else to_mark()
            _expect(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = to_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            _expect(stack[-1], dict).update(zip(map(_key, values[0::2]), values[1::2], strict=True))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else _key(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [Global(*(_expect(part, str) for part in stack[-2:]))]
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":  # attributes of an ordered dict, such as `_metadata`: dropped
            stack.pop()
            _expect(stack[-1], dict)
        elif name == "POP":
            stack.pop()
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Malformed(f"holds the instruction {name}, which no state dict needs")
    raise Malformed("ends too early")


def _expect(value: Any, kind: type) -> Any:
    """The value, if it is exactly of this type. Raises Malformed."""
    if type(value) is not kind:
        raise Malformed("is not well formed")
    return value


def _key(value: Any) -> Any:
    """The value, if it may be a key: a text, a Global or a number of at most 64 bits.

    Hashing a tuple can recurse too deeply, and hashes of large numbers collide.
    Raises Malformed.
    """
    if isinstance(value, str | Global) or (type(value) is int and abs(value) < 2**63):
        return value
    raise Malformed("is not well formed")


def _storage(identity: Any) -> Storage:
    """The storage of a persistent id: ("storage", type, key, device, size).

    The old layout adds a view, which is None in state dicts. Raises Malformed.
    """
    valid = isinstance(identity, tuple) and len(identity) in (5, 6)
    kind, dtype, key, _, size, *view = identity if valid else [None] * 5
    known = None
    if isinstance(dtype, Global) and dtype.module == "torch":
        known = DTYPES.get(dtype.name)
    if kind != "storage" or known is None or any(view):
        raise Malformed("holds a value of no known type")
    if type(key) is not str or type(size) is not int or size < 0:
        raise Malformed("is not well formed")
    return Storage(key, np.dtype(known), size)


def _tensor(
    storage: Storage, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]
) -> Tensor:
    """The view of a storage. Raises Malformed: it reaches outside of it."""
    if not len(shape) == len(strides) <= MAX_DIMENSIONS:
        raise Malformed("a tensor's shape is not one")
    if not all(type(size) is int and size >= 0 for size in (offset, *shape, *strides)):
        raise Malformed("a tensor's shape is not one")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last >= storage.size or math.prod(shape) > storage.size):
        raise Malformed("a tensor reaches outside its storage")
    return Tensor(storage, offset, shape, strides)


def _call(function: Any, arguments: Any) -> Any:
    """The value of a call of a state dict: an ordered dict, a tensor or a parameter.

    Raises Malformed: it is any other call.
    """
    match function, arguments:
        case Global("collections", "OrderedDict"), ():
            return {}
        case Global("collections", "OrderedDict"), (list(pairs),):  # as Python 2 wrote it
            named = {name: value for name, value in pairs if isinstance(name, str)}
            pairs.clear()  # else one long list, used by many calls, would be traversed by each
            return named
        case Global("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"), (
            Storage() as storage,
            offset,
            tuple(shape),
            tuple(strides),
            *_,
        ):
            return _tensor(storage, offset, shape, strides)
        case Global("torch._utils", "_rebuild_parameter"), (Tensor() as tensor, *_):
            return tensor
    name = f"{function.module}.{function.name}" if isinstance(function, Global) else "something"
    raise Malformed(f"asks to call {name[:80]!r}, which is never done")
