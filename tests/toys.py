"""States and weights made by NumPy, since to compile a model's `init` takes longer; files as PyTorch's; what commands are run with."""

import contextlib
import io
import os
import pickle
import tracemalloc
import zipfile
import zlib

import jax
import numpy as np

from genjax import core

# For a command of its own: the suite's flags, which compile fast, without the fake devices.
ONE_DEVICE = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")


def state(model, scale=0.02):
    """A first State: kernels normal with this standard deviation, the same in an average, constants with 1, all else 0 (not for batch norm)."""
    scales = {"kernel": scale, "const": 1.0}

    def fill(path, leaf):
        name = jax.tree_util.keystr(path[1:])  # without "params" or "ema"
        if path[0].name not in ("params", "ema") or path[-1].key not in scales:
            return np.zeros(leaf.shape, leaf.dtype)
        return np.float32(
            scales[path[-1].key]
            * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.shape)
        )

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(model.init, jax.random.key(0)))


def weights(model, scale=0.02):
    """core.weights of such a State."""
    return core.weights(state(model, scale))


class _Pickler(pickle._Pickler):
    """Writes tensors as PyTorch does, without it: calls of names that are not imported."""

    def save_name(self, module, name):
        self.write(f"c{module}\n{name}\n".encode())

    def save_tensor(self, key, array):
        self.save_name("torch._utils", "_rebuild_tensor_v2")
        self.write(b"((")
        self.save("storage")
        self.save_name("torch", "FloatStorage")
        for value in (key, "cpu", array.size):
            self.save(value)
        self.write(b"tQ")
        for value in (0, array.shape, tuple(stride // 4 for stride in array.strides), False):
            self.save(value)
        self.save_name("collections", "OrderedDict")
        self.write(b")RtR")


@contextlib.contextmanager
def memory_below(limit: float):
    """Fails where more bytes than `limit` are held at once meanwhile, as Python counts them."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def save_pth(path, arrays):
    """A zip as torch.save writes one."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, 2)
    stream.write(b"\x80\x02")
    pickler.save_name("collections", "OrderedDict")
    stream.write(b")R(")
    for key, (name, array) in enumerate(arrays.items()):
        pickler.save(name)
        pickler.save_tensor(str(key), array)
    stream.write(b"u.")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", stream.getvalue())
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"x/data/{key}", array.tobytes())
