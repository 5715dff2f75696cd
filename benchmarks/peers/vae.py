"""The VAE of genjax.models.vae in PyTorch, for benchmarks/step_time.py.

Networks, Bernoulli ELBO and training step as a careful PyTorch user would write them:
eager, NCHW, `zero_grad(set_to_none=True)`, Adam with `fused=True`. Of the Config it
implements what the race needs: `mlp` and `conv` networks of even stage sizes,
unconditional, the plain ELBO of grey pixels.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .gan import copy
from .tensors import to_layout

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
}


def _dense(sizes: tuple[int, ...], activation: str) -> list[nn.Module]:
    """Dense layers, each followed by the activation."""
    return [
        layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), ACTIVATIONS[activation]())
    ]


class VAE(nn.Module):
    """The networks of a genjax.models.vae.Config.

    Images are [batch, channels, height, width] in [0, 1]. `flat_shape` (height, width,
    features) is the shape that dense layers flatten.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    flat_shape: tuple[int, int, int]

    def __init__(self, config: Any):
        super().__init__()
        height, width, channels = config.shape
        if config.network == "mlp":
            self.flat_shape = config.shape
            pixels, latents = height * width * channels, config.z_dim
            hidden = _dense((pixels, *config.hidden), config.activation)
            posterior = nn.Linear(config.hidden[-1], 2 * latents)
            self.encoder = nn.Sequential(nn.Flatten(), *hidden, posterior)
            hidden = _dense((latents, *config.hidden[::-1]), config.activation)
            logits = nn.Linear(config.hidden[0], pixels)
            image = nn.Unflatten(1, (channels, height, width))
            self.decoder = nn.Sequential(*hidden, logits, image)
        else:
            stages, widths = len(config.channels), (channels, *config.channels)
            if height % 2**stages or width % 2**stages:
                raise ValueError(
                    f"{height}x{width} cannot be halved {stages} times: "
                    "PyTorch's convolutions round odd sizes down"
                )
            height, width = height >> stages, width >> stages
            self.flat_shape = (height, width, widths[-1])
            flat = height * width * widths[-1]
            down = [
                layer
                for pair in pairwise(widths)
                for layer in (nn.Conv2d(*pair, 4, stride=2, padding=1), nn.SiLU())
            ]
            posterior = nn.Linear(flat, 2 * config.z_dim)
            self.encoder = nn.Sequential(*down, nn.Flatten(), posterior)
            pairs = pairwise(widths[::-1])
            up = [
                layer
                for pair in pairs
                for layer in (nn.SiLU(), nn.ConvTranspose2d(*pair, 4, stride=2, padding=1))
            ]
            smallest = nn.Linear(config.z_dim, flat)
            features = nn.Unflatten(1, (widths[-1], height, width))
            self.decoder = nn.Sequential(smallest, features, *up)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), [batch, z_dim] each."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Logits [batch, channels, height, width]."""
        return self.decoder(z).float()

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Negative ELBO of x for noise [batch, z_dim], batch mean, in nats."""
        mean, log_variance = self.encode(x)
        logits = self.decode(mean + torch.exp(0.5 * log_variance) * noise)
        kl = 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum()
        reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (reconstruction + kl) / len(x)


def build(config: Any) -> VAE:
    """Build the networks of a genjax.models.vae.Config."""
    return VAE(config)


def load(module: VAE, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights, {"params": {"enc": ..., "dec": ...}}, or such gradients.

    The inputs or outputs of dense layers that flatten an image are reordered from
    height, width, channel to PyTorch's channel, height, width.
    """
    encoder, decoder = weights["params"]["enc"], weights["params"]["dec"]

    def in_order(params: Mapping[str, Any], prefix: str) -> list[Mapping[str, Any]]:
        count = sum(name.startswith(prefix) for name in params)
        return [params[f"{prefix}{i}"] for i in range(count)]

    if "hidden" in encoder:
        first, last = in_order(encoder["hidden"], "Dense_"), in_order(decoder["hidden"], "Dense_")
        ours = [*first, encoder["posterior"], *last, decoder["pixels"]]
        flattened, unflattened = 0, len(ours) - 1  # the layers next to the flattening
    else:
        down, up = in_order(encoder, "down_"), in_order(decoder, "up_")
        ours = [*down, encoder["posterior"], decoder["smallest"], *reversed(up)]
        flattened, unflattened = len(down), len(down) + 1
    layers = [layer for layer in (*module.encoder, *module.decoder) if hasattr(layer, "weight")]
    for i, (layer, params) in enumerate(zip(layers, ours, strict=True)):
        copy(
            layer,
            params,
            rows=module.flat_shape if i == flattened else None,
            columns=module.flat_shape if i == unflattened else None,
        )


def step_fn(
    module: VAE,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> Callable[[], Tensor]:
    """A function that does one training step per call and returns the loss.

    Adam is fused, which saves 0.4 ms per step at the size of the mlp on a CPU. bfloat16
    is autocast; the parameters stay float32.

    Args:
        module: the networks
        config: the genjax.models.vae.Config
        arrays: resident data set, "images": uint8 [N, H, W, C]
        device: cpu or cuda
        compiled: whether to use torch.compile
        layout: memory layout of networks and images
    """
    to_layout(module, layout, device)
    images = (
        torch.tensor(arrays["images"], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
    )
    optimizer = torch.optim.Adam(
        module.parameters(), lr=config.learning_rate, eps=config.adam_eps, fused=True
    )
    loss_fn = torch.compile(module.loss) if compiled else module.loss

    def step() -> Tensor:
        """One training step; returns the loss."""
        indices = torch.randint(len(images), (config.batch_size,), device=device)
        x = images[indices].float() / 255
        noise = torch.randn(config.batch_size, config.z_dim, device=device)
        with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = loss_fn(x, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step
