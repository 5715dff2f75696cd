"""States and weights made by NumPy, since to compile a model's `init` takes longer;
files as PyTorch's; what commands are run with.
"""

import contextlib
import os
import tracemalloc
import zlib
from pathlib import Path

import jax
import numpy as np

from benchmarks import torch_files
from genjax import core

# For a command of its own: the suite's flags, which compile fast, without the fake
# devices.
ONE_DEVICE = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")


def state(model, scale=0.02):
    """A first State: kernels normal with this standard deviation, the same in an
    average, constants with 1, all else 0 (not for batch norm).
    """
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


@contextlib.contextmanager
def memory_below(limit: float):
    """Fails where more bytes than `limit` are held at once meanwhile, as Python counts
    them.
    """
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def save_pth(path, arrays):
    """Write a state dict of float32 arrays as torch.save does."""
    Path(path).write_bytes(torch_files.pth_zip(arrays))
