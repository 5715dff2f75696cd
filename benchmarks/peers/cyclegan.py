"""The CycleGAN of genjax.models.cyclegan in PyTorch, for benchmarks/step_time.py.

Its state dicts have the key names of the reference repository, so that tests can
convert them. Of the Config it implements what the race needs: the ResNet generator with
transposed convolutions, least squares, no SSIM term.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .gan import averaged, requires_grad
from .tensors import assign, to_layout


class Residual(nn.Module):
    """A residual block of two 3x3 convolutions with reflection padding."""

    def __init__(self, size: int):
        super().__init__()
        first = (nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), nn.InstanceNorm2d(size))
        second = (nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3), nn.InstanceNorm2d(size))
        self.conv_block = nn.Sequential(*first, nn.ReLU(True), *second)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, size, h, w] -> the same shape."""
        return x + self.conv_block(x)


class Generator(nn.Module):
    """Images [n, c, h, w] in [-1, 1] -> the same."""

    def __init__(self, config: Any):
        super().__init__()
        image, size = config.shape[2], config.channels
        normed = lambda conv, features: [conv, nn.InstanceNorm2d(features), nn.ReLU(True)]
        layers = [nn.ReflectionPad2d(3), *normed(nn.Conv2d(image, size, 7), size)]
        for scale in (1, 2):
            down = nn.Conv2d(scale * size, 2 * scale * size, 3, stride=2, padding=1)
            layers += normed(down, 2 * scale * size)
        layers += [Residual(4 * size) for _ in range(config.blocks)]
        for scale in (2, 1):
            up = nn.ConvTranspose2d(
                2 * scale * size, scale * size, 3, stride=2, padding=1, output_padding=1
            )
            layers += normed(up, scale * size)
        last = (nn.ReflectionPad2d(3), nn.Conv2d(size, image, 7), nn.Tanh())
        self.model = nn.Sequential(*layers, *last)

    def forward(self, x: Tensor) -> Tensor:
        """Translate the images."""
        return self.model(x)


class Discriminator(nn.Module):
    """Images [n, c, h, w] -> logits of patches [n, 1, h', w']."""

    def __init__(self, config: Any):
        super().__init__()
        widths = [config.disc_channels * min(2**i, 8) for i in range(config.disc_layers + 1)]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([config.shape[2], *widths])):
            stride = 2 if i < config.disc_layers else 1
            layers.append(nn.Conv2d(before, after, 4, stride=stride, padding=1))
            layers += [nn.InstanceNorm2d(after)] if i else []
            layers.append(nn.LeakyReLU(0.2, True))
        self.model = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.model(x)


class CycleGAN(nn.Module):
    """Generators "a2b" and "b2a", discriminators "a" and "b"."""

    def __init__(self, config: Any):
        super().__init__()
        self.gens = nn.ModuleDict({way: Generator(config) for way in ("a2b", "b2a")})
        self.discs = nn.ModuleDict({side: Discriminator(config) for side in "ab"})


def build(config: Any) -> CycleGAN:
    """Build the networks of a genjax.models.cyclegan.Config."""
    return CycleGAN(config)


def load(module: CycleGAN, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights, {"params": {"gen_a2b": ..., ...}}, or such gradients."""

    def in_order(params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The layers of a network, first to last."""
        if "first" not in params:
            return [*(params[f"conv_{i}"] for i in range(len(params) - 1)), params["logits"]]
        # The residual blocks are stacked along their first axis.
        stacked, blocks = params["blocks"], len(params["blocks"]["first"]["bias"])
        inner = [
            {name: x[i] for name, x in stacked[end].items()}
            for i in range(blocks)
            for end in ("first", "second")
        ]
        before, after = ("first", "down_0", "down_1"), ("up_1", "up_0", "last")
        return [*(params[name] for name in before), *inner, *(params[name] for name in after)]

    networks = {f"gen_{way}": module.gens[way] for way in module.gens}
    networks |= {f"disc_{side}": module.discs[side] for side in module.discs}
    for name, network in networks.items():
        convs = [
            layer
            for layer in network.modules()
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        ]
        for layer, params in zip(convs, in_order(weights["params"][name]), strict=True):
            axes = (2, 3, 0, 1) if isinstance(layer, nn.ConvTranspose2d) else (3, 2, 0, 1)
            assign(layer.weight, np.asarray(params["kernel"]).transpose(axes))
            assign(layer.bias, params["bias"])


def step_fn(
    module: CycleGAN,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> Callable[[], Tensor]:
    """A function that does one training step per call and returns the sum of the
    losses.

    Each network runs as often as in ours: the pass for the identity term is batched
    with the translation.

    Args:
        module: the networks
        config: the genjax.models.cyclegan.Config
        arrays: resident data set, "images" and "images_b": uint8 [N, H, W, C]
        device: cpu or cuda
        compiled: whether to use torch.compile
        layout: memory layout of networks and images
    """
    to_layout(module, layout, device)
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
    betas = (config.adam_b1, config.adam_b2)
    gen_optimizer, disc_optimizer = (
        torch.optim.Adam(params, lr=config.learning_rate, betas=betas, eps=1e-8, fused=True)
        for params in (gen_params, disc_params)
    )
    update_average = averaged(gen_params, config)
    pools: dict[str, list[Tensor]] = {"a": [], "b": []}

    def exchange(pool: list[Tensor], images: Tensor) -> Tensor:
        """Replace half of the images by earlier ones from the replay pool."""
        batch = []
        for image in images:
            if len(pool) < config.pool_size:
                pool.append(image.clone())
                batch.append(image)
            elif config.pool_size and torch.rand(()) < 0.5:
                index = int(torch.randint(config.pool_size, ()))
                batch.append(pool[index])
                pool[index] = image.clone()
            else:
                batch.append(image)
        return torch.stack(batch).contiguous(memory_format=layout)

    def square(logits: Tensor, target: float) -> Tensor:
        """The least-squares loss."""
        return (logits.float() - target).square().mean()

    def real_batch(images: Tensor) -> Tensor:
        """A random batch, float32 in [-1, 1]."""
        indices = torch.randint(len(images), (config.batch_size,), device=device)
        return images[indices].float() / 127.5 - 1

    def step() -> Tensor:
        """One training step; returns the sum of the losses."""
        real = {side: real_batch(images) for side, images in sets.items()}
        autocast = torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16")
        ways = (("a2b", "a", "b"), ("b2a", "b", "a"))
        fake, objective = {}, torch.zeros((), device=device)
        requires_grad(disc_params, False)
        with autocast:
            for way, source, target in ways:
                images = [real[source], *([real[target]] if config.identity_weight else [])]
                outputs = gens[way](torch.cat(images)).float()
                fake[target], *same = outputs.split(config.batch_size)
                if same:
                    identity = functional.l1_loss(same[0], real[target])
                    objective = objective + config.cycle_weight * config.identity_weight * identity
            # And back: now `way` leads from the target's side to the source's.
            for way, target, source in ways:
                back = gens[way](fake[target]).float()
                cycle = functional.l1_loss(back, real[source])
                adversarial = square(discs[target](fake[target]), 1)
                objective = objective + adversarial + config.cycle_weight * cycle
        gen_optimizer.zero_grad(set_to_none=True)
        objective.backward()
        gen_optimizer.step()
        requires_grad(disc_params, True)

        loss = torch.zeros((), device=device)
        with autocast:
            for side in "ab":
                replayed = exchange(pools[side], fake[side].detach())
                logits = discs[side](torch.cat([real[side], replayed]))
                real_logits, fake_logits = logits.split(config.batch_size)
                loss = loss + 0.5 * (square(real_logits, 1) + square(fake_logits, 0))
        disc_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        disc_optimizer.step()

        update_average()
        return loss.detach() + objective.detach()

    return step
