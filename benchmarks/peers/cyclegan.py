"""The CycleGAN of genjax.models.cyclegan in PyTorch, that benchmarks/step_time.py races against; its state dicts have the key names of
the reference repository, so that tests convert them.

Of the Config it knows what the race needs: the ResNet generator with transposed convolutions, least squares, no SSIM term.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .gan import averaged, requires_grad


class Residual(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        parts = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(size, size, 3),
            nn.InstanceNorm2d(size),
            nn.ReLU(True),
        ]
        parts += [nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), nn.InstanceNorm2d(size)]
        self.conv_block = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Generator(nn.Module):
    """Images [n, c, h, w] in [-1, 1] -> the same."""

    def __init__(self, config: Any):
        super().__init__()
        image, size = config.shape[2], config.channels
        normed = lambda conv, features: [conv, nn.InstanceNorm2d(features), nn.ReLU(True)]
        parts = [nn.ReflectionPad2d(3), *normed(nn.Conv2d(image, size, 7), size)]
        for scale in (1, 2):
            parts += normed(
                nn.Conv2d(scale * size, 2 * scale * size, 3, stride=2, padding=1), 2 * scale * size
            )
        parts += [Residual(4 * size) for _ in range(config.blocks)]
        for scale in (2, 1):
            up = nn.ConvTranspose2d(
                2 * scale * size, scale * size, 3, stride=2, padding=1, output_padding=1
            )
            parts += normed(up, scale * size)
        self.model = nn.Sequential(
            *parts, nn.ReflectionPad2d(3), nn.Conv2d(size, image, 7), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Discriminator(nn.Module):
    """Images [n, c, h, w] -> logits of patches [n, 1, h', w']."""

    def __init__(self, config: Any):
        super().__init__()
        sizes = [
            config.shape[2],
            *(config.disc_channels * min(2**i, 8) for i in range(config.disc_layers + 1)),
        ]
        parts: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(sizes)):
            parts.append(
                nn.Conv2d(before, after, 4, stride=2 if i < config.disc_layers else 1, padding=1)
            )
            parts += [nn.InstanceNorm2d(after)] if i else []
            parts.append(nn.LeakyReLU(0.2, True))
        self.model = nn.Sequential(*parts, nn.Conv2d(sizes[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class CycleGAN(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.gens = nn.ModuleDict({way: Generator(config) for way in ("a2b", "b2a")})
        self.discs = nn.ModuleDict({side: Discriminator(config) for side in "ab"})


def build(config: Any) -> CycleGAN:
    """`config` is a genjax.models.cyclegan.Config."""
    return CycleGAN(config)


def load(module: CycleGAN, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights {"params": {"gen_a2b": ..., ...}}; gradients of that form too."""

    def in_order(parts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        if "first" not in parts:
            return [*(parts[f"conv_{i}"] for i in range(len(parts) - 1)), parts["logits"]]
        stacked, blocks = parts["blocks"], len(parts["blocks"]["first"]["bias"])
        inner = [
            {name: x[i] for name, x in stacked[end].items()}
            for i in range(blocks)
            for end in ("first", "second")
        ]
        return [
            parts["first"],
            parts["down_0"],
            parts["down_1"],
            *inner,
            parts["up_1"],
            parts["up_0"],
            parts["last"],
        ]

    networks = {
        **{f"gen_{way}": module.gens[way] for way in module.gens},
        **{f"disc_{s}": module.discs[s] for s in module.discs},
    }
    with torch.no_grad():
        for name, network in networks.items():
            convs = [
                layer
                for layer in network.modules()
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            ]
            for layer, part in zip(convs, in_order(weights["params"][name]), strict=True):
                axes = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (3, 2, 0, 1)
                layer.weight.copy_(torch.tensor(np.asarray(part["kernel"]).transpose(axes)))
                layer.bias.copy_(torch.tensor(np.asarray(part["bias"])))


def step_fn(
    module: CycleGAN,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> Callable[[], Tensor]:
    """One training step a call, on random batches of the resident `arrays` {"images", "images_b": uint8 [N, H, W, C]}; it gives the sum of losses.

    Each network runs as often as in ours: the pass for the identity term has the batch of the translation with it.
    """
    module.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    sets = {
        side: torch.tensor(arrays[name], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
        for side, name in (("a", "images"), ("b", "images_b"))
    }
    maybe_compiled = torch.compile if compiled else lambda network: network
    gens = {way: maybe_compiled(network) for way, network in module.gens.items()}
    discs = {side: maybe_compiled(network) for side, network in module.discs.items()}
    gen_params, disc_params = list(module.gens.parameters()), list(module.discs.parameters())
    rates = {
        "lr": config.learning_rate,
        "betas": (config.adam_b1, config.adam_b2),
        "eps": 1e-8,
        "fused": True,
    }
    gen_optimizer, disc_optimizer = (
        torch.optim.Adam(gen_params, **rates),
        torch.optim.Adam(disc_params, **rates),
    )
    follow = averaged(gen_params, config)
    pools: dict[str, list[Tensor]] = {"a": [], "b": []}

    def exchange(pool: list[Tensor], images: Tensor) -> Tensor:
        given = []
        for image in images:
            if len(pool) < config.pool_size:
                pool.append(image.clone())
                given.append(image)
            elif config.pool_size and torch.rand(()) < 0.5:
                index = int(torch.randint(config.pool_size, ()))
                given.append(pool[index])
                pool[index] = image.clone()
            else:
                given.append(image)
        return torch.stack(given).contiguous(memory_format=layout)

    def square(logits: Tensor, target: float) -> Tensor:
        return (logits.float() - target).square().mean()

    def step() -> Tensor:
        real = {
            s: x[torch.randint(len(x), (config.batch_size,), device=device)].float() / 127.5 - 1
            for s, x in sets.items()
        }
        autocast = torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16")
        ways = (("a2b", "a", "b"), ("b2a", "b", "a"))
        fake, objective = {}, torch.zeros((), device=device)
        requires_grad(disc_params, False)
        with autocast:
            for way, source, target in ways:
                both = gens[way](
                    torch.cat([real[source], real[target]])
                    if config.identity_weight
                    else real[source]
                ).float()
                fake[target], *same = both.split(config.batch_size)
                if same:
                    objective = (
                        objective
                        + config.cycle_weight
                        * config.identity_weight
                        * functional.l1_loss(same[0], real[target])
                    )
            for (
                way,
                target,
                source,
            ) in ways:  # and back: `way` leads from the target's side to the source's
                back = gens[way](fake[target]).float()
                objective = (
                    objective
                    + square(discs[target](fake[target]), 1)
                    + config.cycle_weight * functional.l1_loss(back, real[source])
                )
        gen_optimizer.zero_grad(set_to_none=True)
        objective.backward()
        gen_optimizer.step()
        requires_grad(disc_params, True)

        loss = torch.zeros((), device=device)
        with autocast:
            for side in "ab":
                shown = exchange(pools[side], fake[side].detach())
                on_real, on_fake = discs[side](torch.cat([real[side], shown])).split(
                    config.batch_size
                )
                loss = loss + 0.5 * (square(on_real, 1) + square(on_fake, 0))
        disc_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        disc_optimizer.step()

        follow()
        return loss.detach() + objective.detach()

    return step
