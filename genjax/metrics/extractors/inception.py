"""The Inception v3 of the FID papers, which is TensorFlow's of December 2015 (Szegedy et al. 2016, arXiv 1512.00567) and not torchvision's.

It has 1008 classes, average pools that leave out the padding, a max pool in its very last block, and a batch-norm epsilon of 1e-3.
The network is the table STAGES; `params` and `apply` each walk through it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics.extractors import layers
from genjax.shapes import Array, Float

SIZE = (299, 299)
CLASSES = 1008
EPSILON = 1e-3


# The table. A stage is a step or a block; a block's branches run beside one another and are concatenated, a branch's steps one after another.


class Conv(NamedTuple):
    """Convolution without a bias, batch norm and ReLU; zeros around the image at stride 1 unless `valid`, none at stride 2."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False

    @property
    def pad(self) -> tuple[int, int]:
        return (
            (0, 0) if self.valid or self.stride > 1 else (self.kernel[0] // 2, self.kernel[1] // 2)
        )


class Pool(NamedTuple):
    """Over 3 x 3 places: "max" at stride 2 without padding; at stride 1 with it "average" or "max"."""

    kind: str
    stride: int = 1


class Fork(NamedTuple):
    """Steps that all see the same input, their outputs concatenated."""

    branches: tuple[tuple[Any, ...], ...]


def block(*branches: tuple[Any, ...]) -> Fork:
    return Fork(branches)


AVERAGE, MAX, HALVE = Pool("average"), Pool("max"), Pool("max", 2)


def _a(pooled: int) -> Fork:
    return block(
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        (
            Conv("branch3x3dbl_1", 64),
            Conv("branch3x3dbl_2", 96, (3, 3)),
            Conv("branch3x3dbl_3", 96, (3, 3)),
        ),
        (AVERAGE, Conv("branch_pool", pooled)),
    )


def _c(width: int) -> Fork:
    wide, tall = (1, 7), (7, 1)
    return block(
        (Conv("branch1x1", 192),),
        (
            Conv("branch7x7_1", width),
            Conv("branch7x7_2", width, wide),
            Conv("branch7x7_3", 192, tall),
        ),
        (
            Conv("branch7x7dbl_1", width),
            Conv("branch7x7dbl_2", width, tall),
            Conv("branch7x7dbl_3", width, wide),
            Conv("branch7x7dbl_4", width, tall),
            Conv("branch7x7dbl_5", 192, wide),
        ),
        (AVERAGE, Conv("branch_pool", 192)),
    )


def _e(pool: Pool) -> Fork:
    wide, tall = (1, 3), (3, 1)
    return block(
        (Conv("branch1x1", 320),),
        (
            Conv("branch3x3_1", 384),
            block((Conv("branch3x3_2a", 384, wide),), (Conv("branch3x3_2b", 384, tall),)),
        ),
        (
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, (3, 3)),
            block((Conv("branch3x3dbl_3a", 384, wide),), (Conv("branch3x3dbl_3b", 384, tall),)),
        ),
        (pool, Conv("branch_pool", 192)),
    )


_B = block(
    (Conv("branch3x3", 384, (3, 3), 2),),
    (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3), 2),
    ),
    (HALVE,),
)
_D = block(
    (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2)),
    (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), 2),
    ),
    (HALVE,),
)
STAGES: tuple[
    tuple[str, Any], ...
] = (  # (prefix of names, step); "tap" marks where the mean over places is a feature
    ("", Conv("Conv2d_1a_3x3", 32, (3, 3), 2)),
    ("", Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True)),
    ("", Conv("Conv2d_2b_3x3", 64, (3, 3))),
    ("", HALVE),
    ("tap", "64"),
    ("", Conv("Conv2d_3b_1x1", 80)),
    ("", Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True)),
    ("", HALVE),
    ("tap", "192"),
    ("Mixed_5b.", _a(32)),
    ("Mixed_5c.", _a(64)),
    ("Mixed_5d.", _a(64)),
    ("Mixed_6a.", _B),
    ("Mixed_6b.", _c(128)),
    ("Mixed_6c.", _c(160)),
    ("Mixed_6d.", _c(160)),
    ("Mixed_6e.", _c(192)),
    ("tap", "768"),
    ("Mixed_7a.", _D),
    ("Mixed_7b.", _e(AVERAGE)),
    ("Mixed_7c.", _e(MAX)),
    ("tap", "2048"),
)
TAPS = ("64", "192", "768", "2048", "logits", "logits_unbiased")


def _walk(step: Any, x: Any, prefix: str, conv: Callable, pool: Callable, join: Callable) -> Any:
    """What comes out of a step: of images, or of whatever `conv(x, name, step)`, `pool(x, step)` and `join(list)` make of x."""
    if isinstance(step, Conv):
        return conv(x, prefix + step.name, step)
    if isinstance(step, Pool):
        return pool(x, step)
    outputs = []
    for branch in step.branches:
        y = x
        for each in branch:
            y = _walk(each, y, prefix, conv, pool, join)
        outputs.append(y)
    return join(outputs)


def params(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters by layer from a state dict of 472 arrays (`NAME.conv.weight`, `NAME.bn.*`, `fc.*`), batch norms folded in. Raises InputError."""
    arrays: dict[str, Any] = {}

    def conv(channels, name, step):
        arrays[name] = layers.conv_layer(
            state, f"{name}.conv", (step.features, channels, *step.kernel), f"{name}.bn", EPSILON
        )
        return step.features

    channels = 3
    for prefix, step in STAGES:
        if prefix != "tap":
            channels = _walk(step, channels, prefix, conv, lambda channels, _: channels, sum)
    return arrays | {"fc": layers.dense_layer(state, "fc", (CLASSES, channels))}


def apply(
    params: Mapping[str, Any], images: Float[Array, "n 299 299 3"], taps: Sequence[str] = TAPS
) -> dict[str, Array]:
    """Images in about [-1, 1] (protocols.preprocess) -> {tap: float32 [n, d]}; no layer is computed beyond the last tap.

    "64", "192", "768", "2048" are means over places after the two max pools, `Mixed_6e` and `Mixed_7c`; "logits" are of 1008 classes;
    "logits_unbiased" are without the last layer's bias, which the inception score is of. Other image sizes from 75 x 75 work too.
    """

    def conv(x, name, step):
        return jax.nn.relu(layers.conv(x, params[name], step.stride, step.pad))

    def pool(x, step):
        return (
            layers.average_pool(x)
            if step.kind == "average"
            else layers.max_pool(x, 3, step.stride, pad=step.stride % 2)
        )

    wanted, outputs, x = set(taps), {}, images
    for prefix, step in STAGES:
        if prefix == "tap":
            outputs[step] = jnp.mean(x, axis=(1, 2))
            if wanted <= outputs.keys():
                return {tap: outputs[tap] for tap in taps}
        else:
            x = _walk(
                step, x, prefix, conv, pool, lambda branches: jnp.concatenate(branches, axis=-1)
            )
    outputs["logits"] = layers.dense(outputs["2048"], params["fc"])
    outputs["logits_unbiased"] = outputs["logits"] - params["fc"]["bias"][None]
    return {tap: outputs[tap] for tap in taps}
