"""Weights for tests that do not train: made by NumPy, since to compile a model's `init` takes longer than such a test."""

import jax
import numpy as np

from genjax import core


def weights(model, seed=0, scale=0.02):
    """core.weights of a first state: kernels normal with this standard deviation, constants with 1, all else 0 (not for batch norm)."""
    generator = np.random.default_rng(seed)
    state = jax.eval_shape(model.init, jax.random.key(0))
    scales = {"kernel": scale, "const": 1.0}

    def fill(path, leaf):
        return np.float32(scales.get(path[-1].key, 0.0) * generator.standard_normal(leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, core.weights(state))
