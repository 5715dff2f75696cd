"""The DCGAN of genjax.models.dcgan in PyTorch, for benchmarks/step_time.py.

The training step is that of peers/gan.py. Of the Config it implements what the race
needs: `network="dcgan"`, batch norm or none, no spectral normalisation, unconditional.
Batch norm keeps running statistics with PyTorch's defaults.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn

from . import gan
from .gan import GAN, copy


def build(config: Any) -> GAN:
    """Build the networks of a genjax.models.dcgan.Config."""
    from genjax.models import dcgan

    _, (height, width) = dcgan.stages(config.shape)
    sizes = dcgan.widths(config)
    flat, channels = height * width * sizes[-1], config.shape[2]
    norm, disc_norm = config.norm == "batch", config.disc_norm == "batch"

    def activated(layer, features, norm, activation):
        return [layer, *([nn.BatchNorm2d(features)] if norm else []), activation]

    smallest = nn.Sequential(
        nn.Linear(config.z_dim, flat, bias=not norm), nn.Unflatten(1, (sizes[-1], height, width))
    )
    gen = activated(smallest, sizes[-1], norm, nn.ReLU(inplace=True))
    for pair in pairwise(sizes[::-1]):
        up = nn.ConvTranspose2d(*pair, 4, stride=2, padding=1, bias=not norm)
        gen += activated(up, pair[1], norm, nn.ReLU(inplace=True))
    gen += [nn.ConvTranspose2d(sizes[0], channels, 4, stride=2, padding=1), nn.Tanh()]
    disc = []
    for i, pair in enumerate(pairwise((channels, *sizes))):
        normed = disc_norm and i > 0
        down = nn.Conv2d(*pair, 4, stride=2, padding=1, bias=not normed)
        disc += activated(down, pair[1], normed, nn.LeakyReLU(0.2, inplace=True))
    disc += [nn.Flatten(), nn.Linear(flat, 1), nn.Flatten(0)]
    return GAN(nn.Sequential(*gen), nn.Sequential(*disc), (height, width, sizes[-1]))


def load(module: GAN, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights, {"params": {"gen": ..., "disc": ...}, "stats": ...}.

    Gradients of that form, without "stats", can be copied too.
    """
    stages = range(sum(name.startswith("down_") for name in weights["params"]["disc"]))
    ups = [(f"up_{i}", f"norm_{i}") for i in reversed(stages[:-1])]
    downs = [(f"down_{i}", f"norm_{i}") for i in stages]
    for name, network, names in (
        ("gen", module.gen, [("smallest", "norm_smallest"), *ups, ("image", "")]),
        ("disc", module.disc, [*downs, ("logit", "")]),
    ):
        params = weights["params"][name]
        stats = weights.get("stats", {}).get(name, {}).get("batch_stats", {})
        present = [key for pair in names for key in pair if key in params]
        layers = [layer for layer in network.modules() if hasattr(layer, "weight")]
        for layer, key in zip(layers, present, strict=True):
            copy(
                layer,
                params[key]["out"] if key == "logit" else params[key],
                rows=module.flat_shape if key == "logit" else None,
                columns=module.flat_shape if key == "smallest" else None,
                stats=stats.get(key),
            )


step_fn = gan.step_fn
