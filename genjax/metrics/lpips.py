"""LPIPS, a learned perceptual distance between two images.

Zhang et al. 2018 (arXiv 1801.03924), version 0.1 of its weights.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from genjax.errors import ConfigError
from genjax.metrics import checks, extractors
from genjax.metrics.extractors import layers, torchvision
from genjax.shapes import AnyArray, Array, Float

# ImageNet's mean and standard deviation for images in [-1, 1], as the heads were
# trained
SHIFT = np.asarray([-0.030, -0.088, -0.188], np.float32)
SCALE = np.asarray([0.458, 0.448, 0.450], np.float32)
NETS = {"alex": "alexnet", "vgg": "vgg16"}
_HEADS = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1"
HEADS = {
    "alex": extractors.File(
        ("alex.pth", "lpips_alex.pth"),
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        f"{_HEADS}/alex.pth",
    ),
    "vgg": extractors.File(
        ("vgg.pth", "lpips_vgg.pth"),
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        f"{_HEADS}/vgg.pth",
    ),
}


def lpips(params: Mapping[str, Any], a: AnyArray, b: AnyArray) -> Float[Array, " n"]:
    """Return the distance of each pair of images [n, h, w, 3] in [-1, 1], at least 0.

    Equation 1: activations are divided by their length over channels (1e-10 is added to
    it, outside the root), squared differences are weighted by the heads, averaged over
    positions and summed over five layers. Images are compared at their own size, at
    least 32x32. Differentiable in both.

    Args:
        params: from `load`: "alex" for evaluation, "vgg" as a loss
        a: first image of each pair
        b: second image of each pair

    Raises:
        ValueError: other shapes or, unless traced, other values (`checks.image_values`)
    """
    if a.shape != b.shape or a.ndim != 4 or a.shape[3] != 3:
        raise ValueError(
            f"LPIPS needs two arrays [n, h, w, 3] of one shape, not {a.shape} and {b.shape}"
        )
    if np.uint8 in (a.dtype, b.dtype):
        raise ValueError(f"LPIPS needs float images in [-1, 1], not {a.dtype} and {b.dtype}")
    a, b = checks.image_values(a, "the first images"), checks.image_values(b, "the second images")
    (net,) = params.keys() & NETS.keys()
    x = (jnp.concatenate([a, b]) - SHIFT[None, None, None]) / SCALE[None, None, None]
    total = jnp.zeros(len(a))
    activations = torchvision.activations(params[net], x, NETS[net])
    for activation, head in zip(activations, params["heads"], strict=True):
        first, second = jnp.split(_unit(activation), 2)
        weighted = jnp.square(first - second) * head[None, None, None]
        total += jnp.mean(jnp.sum(weighted, axis=3), axis=(1, 2))
    return total


def _unit(x: Array) -> Array:
    """Divide each position's channels by their length.

    Where all channels are zero, the gradient of the length is set to zero; it is
    infinite.
    """
    square = jnp.sum(jnp.square(x), axis=3, keepdims=True)
    positive = square > 0
    return x / (jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0) + 1e-10)


def params(
    backbone: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray], net: str
) -> dict[str, Any]:
    """Return parameters from the state dicts of the backbone and of the linear heads.

    `backbone` has torchvision's names; `net` is "alex" or "vgg".

    Raises:
        InputError: an array is missing, has another shape, or is not finite
    """
    return {net: _backbone(backbone, net), "heads": _heads(heads, net)}


def _backbone(state: Mapping[str, np.ndarray], net: str) -> dict[str, Any]:
    """Parameters of the convolutions."""
    return torchvision.params(state, NETS[net], dense=False)


def _heads(state: Mapping[str, np.ndarray], net: str) -> list[np.ndarray]:
    """The weight of each channel, one array per compared layer."""
    compared = [conv.features for conv in torchvision.BACKBONES[NETS[net]].convs if conv.compared]
    weights = [
        layers.array(state, f"lin{i}.model.1.weight", (1, c, 1, 1)) for i, c in enumerate(compared)
    ]
    return [weight.reshape(-1).astype(np.float32) for weight in weights]


def load(
    net: str = "alex",
    path: str | os.PathLike | None = None,
    heads: str | os.PathLike | None = None,
    *,
    checksum: bool = True,
) -> dict[str, Any]:
    """Load the parameters of LPIPS.

    Args:
        net: backbone, "alex" or "vgg"
        path: file of the backbone; None: in the folder that GENJAX_WEIGHTS names
        heads: file of the heads; None: as `path`
        checksum: whether the files must be the published ones

    Raises:
        ConfigError: an unknown `net`
        InputError: a file is missing, damaged, or not the published one
    """
    if net not in NETS:
        raise ConfigError("net", net, f"must be one of {', '.join(NETS)}")
    loaded = {}
    backbone = extractors.TABLE[NETS[net]].file
    for key, name, file, given, read in (
        (net, NETS[net], backbone, path, _backbone),
        ("heads", f"LPIPS's heads over {NETS[net]}", HEADS[net], heads, _heads),
    ):
        loaded[key], _ = extractors.load(
            name,
            file,
            extractors.find(name, file, given),
            lambda state, read=read: read(state, net),
            checksum,
        )
    return loaded
