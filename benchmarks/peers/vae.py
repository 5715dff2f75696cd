"""The VAE of genjax.models.vae in PyTorch: the networks, the Bernoulli ELBO and the Adam that benchmarks/step_time.py races against.

Written the way a careful PyTorch user would: eager, NCHW, `zero_grad(set_to_none=True)`, Adam with `fused=True`. Of the Config it
knows what the race needs: `mlp` and `conv` networks of even stage sizes, unconditional, the plain ELBO of grey pixels.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
}


def _dense(sizes: tuple[int, ...], activation: str) -> list[nn.Module]:
    return [
        layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), ACTIVATIONS[activation]())
    ]


class VAE(nn.Module):
    """`config` is a genjax.models.vae.Config. Images are [batch, channels, height, width] in [0, 1]."""

    def __init__(self, config: Any):
        super().__init__()
        height, width, channels = config.shape
        if config.network == "mlp":
            self.flat_shape = (
                config.shape
            )  # what is flattened, height first, to or from the features of a dense layer
            pixels, latents = height * width * channels, config.latent_size
            hidden = _dense((pixels, *config.hidden), config.activation)
            self.encoder = nn.Sequential(
                nn.Flatten(), *hidden, nn.Linear(config.hidden[-1], 2 * latents)
            )
            hidden = _dense((latents, *config.hidden[::-1]), config.activation)
            self.decoder = nn.Sequential(
                *hidden,
                nn.Linear(config.hidden[0], pixels),
                nn.Unflatten(1, (channels, height, width)),
            )
        else:
            stages, widths = len(config.channels), (channels, *config.channels)
            if height % 2**stages or width % 2**stages:
                raise ValueError(
                    f"{height}x{width} cannot be halved {stages} times: PyTorch's convolutions round odd sizes down"
                )
            height, width = height >> stages, width >> stages
            self.flat_shape = (height, width, widths[-1])
            flat = height * width * widths[-1]
            down = [
                layer
                for pair in pairwise(widths)
                for layer in (nn.Conv2d(*pair, 4, stride=2, padding=1), nn.SiLU())
            ]
            self.encoder = nn.Sequential(
                *down, nn.Flatten(), nn.Linear(flat, 2 * config.latent_size)
            )
            pairs = pairwise(widths[::-1])
            up = [
                layer
                for pair in pairs
                for layer in (nn.SiLU(), nn.ConvTranspose2d(*pair, 4, stride=2, padding=1))
            ]
            self.decoder = nn.Sequential(
                nn.Linear(config.latent_size, flat),
                nn.Unflatten(1, (widths[-1], height, width)),
                *up,
            )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), [batch, latent_size] each."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Logits [batch, channels, height, width]."""
        return self.decoder(z).float()

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """The negative ELBO of x for noise [batch, latent_size], mean over the batch, in nats."""
        mean, log_variance = self.encode(x)
        logits = self.decode(mean + torch.exp(0.5 * log_variance) * noise)
        kl = 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum()
        return (functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(
            x
        )


def build(config: Any) -> VAE:
    return VAE(config)


def load(module: VAE, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights {"params": {"enc": ..., "dec": ...}}; gradients of that form too.

    Dense kernels are transposed; convolutions go from HWIO to OIHW, up-convolutions to IOHW with no flip; and dense layers beside a
    flattening are reordered from its height-width-channel order to PyTorch's channel-height-width.
    """
    order = (
        np.arange(np.prod(module.flat_shape)).reshape(module.flat_shape).transpose(2, 0, 1).ravel()
    )
    encoder, decoder = weights["params"]["enc"], weights["params"]["dec"]

    def in_order(parts, prefix):
        return [
            parts[f"{prefix}{i}"] for i in range(sum(name.startswith(prefix) for name in parts))
        ]

    if "hidden" in encoder:
        first, last = in_order(encoder["hidden"], "Dense_"), in_order(decoder["hidden"], "Dense_")
        theirs = [*first, encoder["posterior"], *last, decoder["pixels"]]
        flattened, unflattened = 0, len(theirs) - 1  # the layers beside the flattening
    else:
        down, up = in_order(encoder, "down_"), in_order(decoder, "up_")
        theirs = [*down, encoder["posterior"], decoder["smallest"], *reversed(up)]
        flattened, unflattened = len(down), len(down) + 1
    layers = [layer for layer in (*module.encoder, *module.decoder) if hasattr(layer, "weight")]
    with torch.no_grad():
        for i, (layer, parts) in enumerate(zip(layers, theirs, strict=True)):
            kernel, bias = np.asarray(parts["kernel"]), np.asarray(parts["bias"])
            if i == flattened:
                kernel = kernel[order]
            if i == unflattened:
                kernel, bias = kernel[:, order], bias[order]
            axes = {nn.Linear: (1, 0), nn.Conv2d: (3, 2, 0, 1), nn.ConvTranspose2d: (2, 3, 0, 1)}[
                type(layer)
            ]
            layer.weight.copy_(torch.tensor(kernel.transpose(axes)))
            layer.bias.copy_(torch.tensor(bias))


def step_fn(
    module: VAE,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> Callable[[], Tensor]:
    """One training step a call, on a random batch of the resident `arrays` {"images": uint8 [N, H, W, C]}; it gives the loss.

    Adam is fused: 0.4 ms a step less than its default at the mlp's size on a CPU. bfloat16 is autocast, the parameters stay float32.
    """
    module.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
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
        x = images[torch.randint(len(images), (config.batch_size,), device=device)].float() / 255
        noise = torch.randn(config.batch_size, config.latent_size, device=device)
        with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = loss_fn(x, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step
