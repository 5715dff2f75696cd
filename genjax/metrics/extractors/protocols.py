"""The protocols that published distances follow, by name.

Distances under two protocols do not compare, so every result names its protocol. In all
of them images are evaluated as 8-bit values, as in an image file, rounded by
`ops.to_uint8` (to the nearest, clipped). Features of unrounded floats give smaller
distances, which compare with no published ones.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from genjax.errors import ConfigError
from genjax.metrics.checks import image_bytes
from genjax.metrics.extractors.resize import resize, resize_on_host
from genjax.nn import ops
from genjax.shapes import AnyArray, Array, Float, UInt8

to_uint8 = ops.to_uint8


class Protocol(NamedTuple):
    """How images become the input of an extractor, and features a distance."""

    name: str
    resize: str  # name of a rule in resize.RULES
    # Of the Inception's input: "tf" (x - 128) / 128, "unit" 2 x / 255 - 1; they differ
    # by 1/128 at white
    scaling: str
    ddof: int  # covariances divide by n - ddof
    samples: int | None  # generated images in published results; None: as many as there are


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # Heusel et al. 2017 (arXiv 1706.08500), and torch-fidelity
        Protocol("tf_legacy", "tf1_bilinear", "tf", 1, 50_000),
        # The package pytorch-fid
        Protocol("pytorch_fid", "bilinear", "unit", 1, None),
        # Parmar et al. 2022 (arXiv 2104.11222): resized as by Pillow, not quantised
        Protocol("clean", "pil_bicubic", "tf", 1, None),
        # Karras et al. 2020 (arXiv 2006.06676): against all real images
        Protocol("nvidia", "tf1_bilinear", "tf", 0, 50_000),
    )
}


def protocol(name: str) -> Protocol:
    """Return the protocol of this name.

    Raises:
        ConfigError: an unknown name
    """
    if name not in PROTOCOLS:
        raise ConfigError("protocol", name, f"must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def resized(
    images: AnyArray, protocol: Protocol, size: tuple[int, int], channels: int = 3
) -> Float[Array, "n h2 w2 c2"]:
    """Resize 8-bit images [n, h, w, c] to `size` by the protocol's rule.

    `size` is (height, width), `channels` 3 or 1, and values are in [0, 255]. Grey is
    repeated to RGB; RGBA is composited over white, rounded; RGB becomes grey by its
    luma (ITU-R BT.601, not rounded).

    Raises:
        ValueError: images that are not 8-bit, and so have not been rounded
    """
    x = _opaque(jnp.asarray(image_bytes(images)).astype(jnp.float32), channels, jnp)
    # Bicubic overshoots; the linear rules do not
    x = jnp.clip(resize(x, size, protocol.resize), 0, 255)
    return jnp.repeat(x, channels // x.shape[3], axis=3)


def resized_on_host(
    images: np.ndarray, protocol: Protocol, size: tuple[int, int], channels: int = 3
) -> np.ndarray:
    """Resize as `resized`, by NumPy, image by image, for sets of many image sizes.

    Raises:
        ValueError: images that are not 8-bit
    """
    x = image_bytes(images)
    if x.shape[3] == 4 or x.shape[3] > channels:
        x = _opaque(np.float32(x), channels, np)
    x = np.clip(np.stack([resize_on_host(image, size, protocol.resize) for image in x]), 0, 255)
    return np.repeat(x, channels // x.shape[3], axis=3)


def _opaque(x: Any, channels: int, xp: Any) -> Any:
    """Composite RGBA over white; RGB to grey for 1 channel. `xp`: jnp or np."""
    if x.shape[3] == 4:
        x = xp.round((x[..., :3] * x[..., 3:] + 255 * (255 - x[..., 3:])) / 255)
    if channels == 1 and x.shape[3] == 3:
        x = 0.299 * x[..., :1] + 0.587 * x[..., 1:2] + 0.114 * x[..., 2:]
    return x


def preprocess(
    images: UInt8[AnyArray, "n h w c"], protocol: Protocol, size: tuple[int, int]
) -> Float[Array, "n h2 w2 3"]:
    """Return the input of the Inception, in [-1, 1]: resized and scaled."""
    return scaled(resized(images, protocol, size), protocol)


def scaled(x: Float[AnyArray, "n h w 3"], protocol: Protocol) -> Float[Array, "n h w 3"]:
    """Scale values from [0, 255] to [-1, 1] by the protocol's rule."""
    x = jnp.asarray(x)
    return (x - 128) / 128 if protocol.scaling == "tf" else 2 * x / 255 - 1
