"""A small classifier of MNIST's digits, used by other benchmarks on generated digits.

Trained once, in a minute or two on two cores.
"""

import sys
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import core, data
from genjax.errors import InputError
from genjax.nn import augment, layers
from genjax.training import run_folder

# Test accuracy below which a count of modes would say more about the classifier than
# about the generator.
WANTED = 0.99


class Classifier(nn.Module):
    """Digits [batch, h, w, 1] in [-1, 1] -> logits [batch, 10]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Compute the logits."""
        x = nn.relu(layers.Conv(32, kernel=5, stride=2, name="conv_0")(x))
        x = nn.relu(layers.Conv(64, kernel=5, stride=2, name="conv_1")(x))
        x = nn.relu(nn.Dense(128, name="hidden")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="logits")(x)


network = cast(Any, Classifier())  # linen's `apply` has no useful type


@jax.jit
def classify(params: core.PyTree, digits: jax.Array) -> jax.Array:
    """Digits float32 [n, h, w, 1] in [-1, 1] -> most likely labels, int32 [n]."""
    return jnp.argmax(network.apply({"params": params}, digits), axis=-1)


def resident(source: data.Source) -> dict[str, np.ndarray]:
    """The arrays "images" and "labels" of a set that `load` found resident."""
    assert source.arrays is not None, source.name
    return source.arrays


def train(
    source: data.Source, *, epochs: int = 6, batch_size: int = 128, seed: int = 0
) -> core.PyTree:
    """Train with Adam and a cosine decay on digits shifted by up to 2 pixels.

    Returns the network's parameters.
    """
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
            # `translate` pads with 0; black is -1.
            images = augment.translate(batch["images"] + 1, down, right) - 1

            def loss_fn(params):
                logits = network.apply({"params": params}, images)
                return jnp.mean(
                    optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
                )

            updates, opt = tx.update(jax.grad(loss_fn)(params), opt, params)
            return optax.apply_updates(params, updates), opt

        return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]

    return run(jax.random.key(seed))


def accuracy(params: core.PyTree, source: data.Source, chunk: int = 1000) -> float:
    """Share of a set's digits that are classified correctly."""
    images, labels = (resident(source)[name] for name in ("images", "labels"))
    correct = [
        np.asarray(classify(params, jnp.float32(images[i : i + chunk]) / 127.5 - 1))
        == labels[i : i + chunk]
        for i in range(0, len(images), chunk)
    ]
    return float(np.mean(np.concatenate(correct)))


def trained(spec: str, resolution: int, folder: Path | None) -> tuple[core.PyTree, float]:
    """Train the classifier; return its parameters and its test accuracy.

    The parameters are saved in `folder`, and read from there the next time.

    Raises:
        InputError: the accuracy is below WANTED
    """
    test = load(spec, "test", resolution)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *test.shape)))
    saved = folder / f"classifier-{resolution}" if folder else None
    if saved and (saved / run_folder.WEIGHTS).exists():
        params = run_folder.read_weights(saved, like)["params"]
    else:
        print("training the classifier", file=sys.stderr, flush=True)
        params = train(load(spec, "train", resolution))
        if saved:
            saved.mkdir(parents=True, exist_ok=True)
            run_folder.export(saved, {"params": params})
    if (reached := accuracy(params, test)) < WANTED:
        raise InputError(
            f"--mnist {spec}: the classifier is right on {reached:.2%} of the test digits; "
            f"at least {WANTED:.0%} are needed"
        )
    return params, reached


def load(spec: str, split: str, resolution: int) -> data.Source:
    """Load MNIST as a resident set with ten labels.

    Raises:
        InputError: the set is not resident or has another number of labels
    """
    source = data.load(
        spec, split=split, resolution=resolution, channels=1, field="mnist", adjustable=()
    )
    if source.arrays is None or source.num_labels != 10:
        raise InputError(f"--mnist {spec}: {source.name}; must be a resident set with ten labels")
    return source
