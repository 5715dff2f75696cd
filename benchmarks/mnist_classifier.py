"""A small classifier of MNIST's digits, that other benchmarks judge generated digits by. Trained once, in a minute or two on two cores."""

import sys
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import data
from genjax.errors import InputError
from genjax.nn import augment, layers
from genjax.training import checkpoint

WANTED = 0.99  # test accuracy below which a count of modes would be the classifier's more than the generator's


class Classifier(nn.Module):
    """Digits [batch, h, w, 1] in [-1, 1] -> logits [batch, 10]."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(layers.Conv(32, kernel=5, stride=2, name="conv_0")(x))
        x = nn.relu(layers.Conv(64, kernel=5, stride=2, name="conv_1")(x))
        x = nn.relu(nn.Dense(128, name="hidden")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="logits")(x)


network = cast(Any, Classifier())  # linen's `apply` has no useful type


@jax.jit
def classify(params, digits):
    """Digits float32 [n, h, w, 1] in [-1, 1] -> the likeliest label of each, int32 [n]."""
    return jnp.argmax(network.apply({"params": params}, digits), axis=-1)


def train(source: data.Source, *, epochs: int = 6, batch_size: int = 128, seed: int = 0):
    """The parameters after Adam with a cosine decay, on digits shifted by up to 2 pixels."""
    arrays = jax.tree.map(jnp.asarray, source.arrays)
    steps = max(1, epochs * source.size // batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    @jax.jit
    def run(key):
        params = network.init(key, jnp.zeros((1, *source.shape)))["params"]

        def step(i, carry):
            params, opt = carry
            batch = data.prepare(data.take(arrays, jnp.uint32(seed), i, batch_size), key, False)
            down, right = jax.random.randint(jax.random.fold_in(key, i), (2, batch_size), -2, 3)
            images = (
                augment.translate(batch["images"] + 1, down, right) - 1
            )  # black comes in from outside

            def loss_fn(params):
                logits = network.apply({"params": params}, images)
                return jnp.mean(
                    optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
                )

            updates, opt = tx.update(jax.grad(loss_fn)(params), opt, params)
            return optax.apply_updates(params, updates), opt

        return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]

    return run(jax.random.key(seed))


def accuracy(params, source: data.Source, chunk: int = 1000) -> float:
    """Share of a set's digits that are given their own label."""
    images, labels = source.arrays["images"], source.arrays["labels"]
    right = [
        np.asarray(classify(params, jnp.float32(images[i : i + chunk]) / 127.5 - 1))
        == labels[i : i + chunk]
        for i in range(0, len(images), chunk)
    ]
    return float(np.mean(np.concatenate(right)))


def trained(spec: str, resolution: int, folder: Path | None):
    """(parameters, test accuracy); kept in `folder`, and read from there the next time. Raises InputError below WANTED."""
    test = load(spec, "test", resolution)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *test.shape)))
    kept = folder / f"classifier-{resolution}" if folder else None
    if kept and (kept / checkpoint.WEIGHTS).exists():
        params = checkpoint.read_weights(kept, like)["params"]
    else:
        print("training the classifier", file=sys.stderr, flush=True)
        params = train(load(spec, "train", resolution))
        if kept:
            kept.mkdir(parents=True, exist_ok=True)
            checkpoint.export(kept, {"params": params})
    if (reached := accuracy(params, test)) < WANTED:
        raise InputError(
            f"--mnist {spec}: the classifier is right on {reached:.2%} of the test digits; {WANTED:.0%} are wanted"
        )
    return params, reached


def load(spec: str, split: str, resolution: int) -> data.Source:
    """MNIST, resident, with its ten labels. Raises InputError."""
    form = {"resolution": resolution, "channels": 1}
    source = data.load(spec, split=split, field="mnist", adjustable=(), **form)
    if source.arrays is None or source.num_labels != 10:
        raise InputError(f"--mnist {spec}: {source.name}; a resident set with ten labels is wanted")
    return source
