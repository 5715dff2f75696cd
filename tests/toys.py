"""Weights for tests that do not train: made by NumPy, since to compile a model's `init` takes longer than such a test."""

import jax
import numpy as np

from genjax import core


def weights(model, seed=0, scale=0.02):
    """core.weights of a first state: each kernel normal with this standard deviation, each bias 0. Only for models of kernels and biases."""
    generator = np.random.default_rng(seed)
    state = jax.eval_shape(model.init, jax.random.key(0))

    def fill(path, leaf):
        size = scale if path[-1].key == "kernel" else 0.0
        return np.float32(size * generator.standard_normal(leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, core.weights(state))
