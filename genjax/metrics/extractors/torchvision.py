"""VGG16 and AlexNet as torchvision publishes them.

Their last hidden layers are features; LPIPS compares the outputs of their convolutions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from genjax.metrics.extractors import layers
from genjax.shapes import Array, Float

SIZE = (224, 224)  # height and width that the dense layers are made for


class Conv(NamedTuple):
    """A convolution with a bias and a ReLU."""

    name: str
    features: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1
    pooled: bool = False  # whether a max pool precedes it
    compared: bool = True  # whether LPIPS compares its output


class Backbone(NamedTuple):
    """A network: convolutions, then three dense layers."""

    convs: tuple[Conv, ...]
    pool: int  # side of the max pools, at stride 2
    grid: int  # height and width before the dense layers
    dense: tuple[str, str, str]  # names of the layers to 4096, 4096 and 1000 features


def _vgg16() -> Backbone:
    """Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1, column D.

    LPIPS compares the last convolution of each group.
    """
    convs, index = [], 0
    for features, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for i in range(depth):
            pooled, compared = i == 0 and index > 0, i == depth - 1
            convs.append(Conv(f"features.{index}", features, pooled=pooled, compared=compared))
            index += 2
        index += 1  # of the pool
    return Backbone(tuple(convs), 2, 7, ("classifier.0", "classifier.3", "classifier.6"))


BACKBONES = {
    "vgg16": _vgg16(),
    # Krizhevsky 2014 (arXiv 1404.5997)
    "alexnet": Backbone(
        (
            Conv("features.0", 64, 11, 4, 2),
            Conv("features.3", 192, 5, 1, 2, pooled=True),
            Conv("features.6", 384, pooled=True),
            Conv("features.8", 256),
            Conv("features.10", 256),
        ),
        3,
        6,
        ("classifier.1", "classifier.4", "classifier.6"),
    ),
}


def params(state: Mapping[str, np.ndarray], name: str, dense: bool = True) -> dict[str, Any]:
    """Read parameters by layer from torchvision's state dict.

    `name` is a name in BACKBONES; `dense`: with the dense layers.

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
    convs, _, grid, names = BACKBONES[name]
    arrays: dict[str, Any] = {}
    channels = 3
    for conv in convs:
        arrays[conv.name] = layers.conv_layer(
            state, conv.name, (conv.features, channels, conv.kernel, conv.kernel)
        )
        channels = conv.features
    if dense:
        sizes = (channels * grid**2, 4096, 4096, 1000)
        for layer, inputs, outputs in zip(names, sizes, sizes[1:], strict=False):
            arrays[layer] = layers.dense_layer(state, layer, (outputs, inputs))
        # PyTorch flattens channels first
        flat = arrays[names[0]]["kernel"].reshape(channels, grid, grid, -1)
        arrays[names[0]] = arrays[names[0]] | {"kernel": np.moveaxis(flat, 0, 2).reshape(sizes[:2])}
    return arrays


def activations(
    params: Mapping[str, Any], images: Float[Array, "n h w 3"], name: str
) -> list[Array]:
    """Return the output [n, h', w', c] of each convolution that LPIPS compares."""
    convs, pool, _, _ = BACKBONES[name]
    x, compared = images, []
    for conv in convs:
        x = layers.max_pool(x, pool, 2) if conv.pooled else x
        x = jax.nn.relu(layers.conv(x, params[conv.name], conv.stride, (conv.pad, conv.pad)))
        compared += [x] if conv.compared else []
    return compared


def apply(
    params: Mapping[str, Any], images: Float[Array, "n 224 224 3"], name: str, taps: Sequence[str]
) -> dict[str, Array]:
    """Compute "features" [n, 4096] and "logits" [n, 1000] of normalised images.

    Images are normalised by ImageNet's mean and standard deviation. Features are taken
    after the ReLU of the second dense layer.
    """
    _, pool, _, dense = BACKBONES[name]
    x = layers.max_pool(activations(params, images, name)[-1], pool, 2)
    x = jax.nn.relu(layers.dense(x.reshape(len(x), -1), params[dense[0]]))
    features = jax.nn.relu(layers.dense(x, params[dense[1]]))
    return {
        tap: features if tap == "features" else layers.dense(features, params[dense[2]])
        for tap in taps
    }
