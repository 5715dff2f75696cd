"""The Inception v3 of the FID papers (Szegedy et al. 2016, arXiv 1512.00567).

It is TensorFlow's network of December 2015, not torchvision's: it has 1008 classes,
average pools that exclude the padding, a max pool in its last block, and a batch-norm
epsilon of 1e-3. The network is the table STAGES; `params` and `apply` each walk through
it.
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


# The table. A stage is a step or a block. The branches of a block run in parallel and
# are concatenated; the steps of a branch run one after another


class Conv(NamedTuple):
    """Convolution without bias, batch norm and ReLU.

    Zero padding keeps the size at stride 1, unless `valid`; there is none at stride 2.
    """

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False

    @property
    def pad(self) -> tuple[int, int]:
        """Zeros (above and below, left and right)."""
        if self.valid or self.stride > 1:
            return 0, 0
        return self.kernel[0] // 2, self.kernel[1] // 2


class Pool(NamedTuple):
    """Pooling over 3x3 windows.

    "max" at stride 2 without padding; "average" or "max" at stride 1 with padding.
    """

    kind: str
    stride: int = 1


class Fork(NamedTuple):
    """Branches with the same input, their outputs concatenated."""

    branches: tuple[tuple[Any, ...], ...]


def block(*branches: tuple[Any, ...]) -> Fork:
    """Return a Fork of these branches."""
    return Fork(branches)


AVERAGE, MAX, HALVE = Pool("average"), Pool("max"), Pool("max", 2)


def _a(pooled: int) -> Fork:
    """35x35: 1x1, 5x5, two 3x3, and a pool to `pooled` features."""
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
    """17x17: factorised 7x7 convolutions of `width` features."""
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
    """8x8: branches that fork again into 1x3 and 3x1."""
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
# (prefix of names, step); "tap": the mean over positions is a feature here
STAGES: tuple[tuple[str, Any], ...] = (
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


def _walk(
    step: Any,
    x: Any,
    prefix: str,
    conv: Callable[[Any, str, Conv], Any],
    pool: Callable[[Any, Pool], Any],
    join: Callable[[list[Any]], Any],
) -> Any:
    """The output of a step for x, computed by `conv`, `pool` and `join`.

    x is a batch of images in `apply`, a number of channels in `params`.
    """
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
    """Read parameters by layer from a state dict of 472 arrays, batch norms folded in.

    Its names are `NAME.conv.weight`, `NAME.bn.*` and `fc.*`.

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
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
    """Compute {tap: float32 [n, d]} of images in about [-1, 1] (protocols.preprocess).

    "64", "192", "768" and "2048" are means over positions after the two max pools,
    `Mixed_6e` and `Mixed_7c`; "logits" are of 1008 classes; "logits_unbiased" lack the
    bias of the last layer, as the inception score is defined. No layer is computed
    beyond the last tap. Other image sizes from 75x75 up work too.
    """

    def conv(x, name, step):
        return jax.nn.relu(layers.conv(x, params[name], step.stride, step.pad))

    def pool(x, step):
        if step.kind == "average":
            return layers.average_pool(x)
        return layers.max_pool(x, 3, step.stride, pad=step.stride % 2)

    def join(branches):
        return jnp.concatenate(branches, axis=-1)

    wanted, outputs, x = set(taps), {}, images
    for prefix, step in STAGES:
        if prefix == "tap":
            outputs[step] = jnp.mean(x, axis=(1, 2))
            if wanted <= outputs.keys():
                return {tap: outputs[tap] for tap in taps}
        else:
            x = _walk(step, x, prefix, conv, pool, join)
    outputs["logits"] = layers.dense(outputs["2048"], params["fc"])
    outputs["logits_unbiased"] = outputs["logits"] - params["fc"]["bias"][None]
    return {tap: outputs[tap] for tap in taps}
