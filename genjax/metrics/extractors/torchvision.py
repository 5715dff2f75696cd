"""VGG16 and AlexNet as torchvision publishes them: their last hidden layers are features, their convolutions' outputs what LPIPS compares."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from genjax.metrics.extractors import layers
from genjax.shapes import Array, Float

SIZE = (224, 224)  # of the images that the dense layers are made for


class Conv(NamedTuple):
    """A convolution with a bias and a ReLU, and a max pool before it where it is `pooled`; LPIPS compares its output where it is `compared`."""

    name: str
    features: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1
    pooled: bool = False
    compared: bool = True


class Backbone(NamedTuple):
    convs: tuple[Conv, ...]
    pool: int  # places along an axis, at stride 2
    grid: int  # height and width before the dense layers
    dense: tuple[str, str, str]  # to 4096, to 4096, to 1000


def _vgg16() -> Backbone:
    """Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1, column D: the last of each group is compared."""
    convs, index = [], 0
    for features, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for i in range(depth):
            convs.append(
                Conv(
                    f"features.{index}",
                    features,
                    pooled=i == 0 and index > 0,
                    compared=i == depth - 1,
                )
            )
            index += 2
        index += 1  # the pool
    return Backbone(tuple(convs), 2, 7, ("classifier.0", "classifier.3", "classifier.6"))


BACKBONES = {
    "vgg16": _vgg16(),
    "alexnet": Backbone(  # Krizhevsky 2014 (arXiv 1404.5997)
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
    """Parameters by layer from torchvision's state dict, with the `dense` layers or without. Raises InputError."""
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
        flat = arrays[names[0]]["kernel"].reshape(
            channels, grid, grid, -1
        )  # PyTorch flattens channels first
        arrays[names[0]] = arrays[names[0]] | {"kernel": np.moveaxis(flat, 0, 2).reshape(sizes[:2])}
    return arrays


def activations(
    params: Mapping[str, Any], images: Float[Array, "n h w 3"], name: str
) -> list[Array]:
    """The output of each convolution that LPIPS compares, [n, h', w', c]."""
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
    """Images minus ImageNet's mean over its deviation -> "features" [n, 4096], after the second dense layer's ReLU; "logits" [n, 1000]."""
    _, pool, _, dense = BACKBONES[name]
    x = layers.max_pool(activations(params, images, name)[-1], pool, 2)
    x = jax.nn.relu(layers.dense(x.reshape(len(x), -1), params[dense[0]]))
    features = jax.nn.relu(layers.dense(x, params[dense[1]]))
    return {
        tap: features if tap == "features" else layers.dense(features, params[dense[2]])
        for tap in taps
    }
