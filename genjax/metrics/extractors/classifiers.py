"""Small classifiers whose last hidden layer gives features: CIFAR ResNets, and LeNet.

They serve where no larger network is available. Their distances are named after them;
they are not the FID.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genjax.metrics.extractors import layers
from genjax.shapes import Array, Float

# Of values in [0, 1], red, green, blue; the CIFAR ResNets were trained with them too
IMAGENET_MEAN = np.asarray([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.asarray([0.229, 0.224, 0.225], np.float32)
WIDTHS = (16, 32, 64)  # channels of the stages of a CIFAR ResNet, at 32x32, 16x16, 8x8


def resnet_params(state: Mapping[str, np.ndarray], depth: int) -> dict:
    """Read the parameters of a ResNet of `depth` = 6 n + 2 layers.

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
    params: dict = {"first": layers.conv_layer(state, "conv1", (WIDTHS[0], 3, 3, 3), "bn1")}
    channels = WIDTHS[0]
    for stage, width in enumerate(WIDTHS, 1):
        for i in range((depth - 2) // 6):
            for half, inputs in ((1, channels), (2, width)):
                name = f"layer{stage}.{i}"
                params[f"{name}.{half}"] = layers.conv_layer(
                    state, f"{name}.conv{half}", (width, inputs, 3, 3), f"{name}.bn{half}"
                )
            channels = width
    return params | {"logits": layers.dense_layer(state, "linear", (10, WIDTHS[-1]))}


def resnet(
    params: dict, images: Float[Array, "n 32 32 3"], taps: Sequence[str] = ("features", "logits")
) -> dict[str, Array]:
    """Compute {"features": [n, 64], "logits": [n, 10]} of normalised images.

    He et al. 2016 (arXiv 1512.03385), section 4.2. Images in [0, 1] are normalised by
    IMAGENET_MEAN and IMAGENET_STD. Shortcuts are the paper's option A: every second
    pixel, and zeros for the additional channels.
    """
    x = jax.nn.relu(layers.conv(images, params["first"], pad=(1, 1)))
    for stage in (1, 2, 3):
        for i in range(sum(name.startswith(f"layer{stage}.") for name in params) // 2):
            stride = 2 if stage > 1 and i == 0 else 1
            y = jax.nn.relu(layers.conv(x, params[f"layer{stage}.{i}.1"], stride, (1, 1)))
            y = layers.conv(y, params[f"layer{stage}.{i}.2"], pad=(1, 1))
            more = (y.shape[3] - x.shape[3]) // 2
            shortcut = x[:, ::stride, ::stride]
            x = jax.nn.relu(y + jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (more, more))))
    features = jnp.mean(x, axis=(1, 2))
    return _outputs(features, params, taps)


def lenet_params(state: Mapping[str, np.ndarray]) -> dict:
    """Read the parameters of LeNet-5 from its state dict.

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
    convs = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5)}
    params = {
        name: layers.conv_layer(state, f"convnet.{name}", shape) for name, shape in convs.items()
    }
    return params | {
        "f6": layers.dense_layer(state, "fc.f6", (84, 120)),
        "logits": layers.dense_layer(state, "fc.f7", (10, 84)),
    }


def lenet(
    params: dict, images: Float[Array, "n 32 32 1"], taps: Sequence[str] = ("features", "logits")
) -> dict[str, Array]:
    """Compute {"features": [n, 84], "logits": [n, 10]} of digits in [0, 1].

    LeCun et al. 1998 (Proc. IEEE 86-11), figure 2, with ReLU and max pooling.
    """
    x = layers.max_pool(jax.nn.relu(layers.conv(images, params["c1"])), 2, 2)
    x = layers.max_pool(jax.nn.relu(layers.conv(x, params["c3"])), 2, 2)
    x = jax.nn.relu(layers.conv(x, params["c5"]))
    features = jax.nn.relu(layers.dense(x.reshape(len(x), -1), params["f6"]))
    return _outputs(features, params, taps)


def _outputs(features: Array, params: dict, taps: Sequence[str]) -> dict[str, Array]:
    """The requested taps, "features" or "logits"."""
    return {
        tap: features if tap == "features" else layers.dense(features, params["logits"])
        for tap in taps
    }
