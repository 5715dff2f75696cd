"""Write PyTorch's .pth files without PyTorch: small float32 state dicts, for tests."""

import io
import pickle
import zipfile
from collections.abc import Mapping

import numpy as np


# The pickler in pure Python has methods to write opcodes, which the stubs leave out.
class _Pickler(pickle._Pickler):  # pyright: ignore[reportAttributeAccessIssue]
    """Writes tensors as PyTorch does: as calls of names that are never imported."""

    def name(self, module: str, name: str) -> None:
        """Write the global `module.name`."""
        self.write(f"c{module}\n{name}\n".encode())  # pyright: ignore[reportAttributeAccessIssue]

    def tensor(self, key: str, array: np.ndarray) -> None:
        """Write a float32 tensor whose values are in the storage `key`."""
        write, save = self.write, self.save  # pyright: ignore[reportAttributeAccessIssue]
        self.name("torch._utils", "_rebuild_tensor_v2")
        write(b"((")
        save("storage")
        self.name("torch", "FloatStorage")
        for value in (key, "cpu", array.size):
            save(value)
        write(b"tQ")
        for value in (0, array.shape, tuple(stride // 4 for stride in array.strides), False):
            save(value)
        self.name("collections", "OrderedDict")
        write(b")RtR")


def described(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a state dict; its storages are "0", "1", ... in order."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, 2)
    stream.write(b"\x80\x02")
    pickler.name("collections", "OrderedDict")
    stream.write(b")R(")
    for key, (name, array) in enumerate(arrays.items()):
        pickler.save(name)  # pyright: ignore[reportAttributeAccessIssue]
        pickler.tensor(str(key), array)
    stream.write(b"u.")
    return stream.getvalue()


def pth_zip(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A state dict of float32 arrays in the zip format of torch.save."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/data.pkl", described(arrays))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"net/data/{key}", array.tobytes())
    return stream.getvalue()


def pth_legacy(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A state dict of float32 arrays in the format of torch.save before PyTorch 1.6."""
    magic, version = 0x1950A86A20F9469CFC6C, 1001
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = b"".join(pickle.dumps(value, 2) for value in (magic, version, system))
    keys = pickle.dumps([str(key) for key in range(len(arrays))], 2)
    values = b"".join(
        array.size.to_bytes(8, "little") + array.tobytes() for array in arrays.values()
    )
    return head + described(arrays) + keys + values
