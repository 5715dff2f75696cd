"""The StyleGAN2 of genjax.models.stylegan2 in PyTorch, written from the papers: networks and training step. Its state dicts have the key
names of the published weights, so that tests convert them. In float32, without clamps and without augmentation.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .gan import averaged, requires_grad


def fir(
    x: Tensor, taps: tuple[int, ...], pads: tuple[int, int], up: int = 1, down: int = 1
) -> Tensor:
    """Zeros between (gain up^2), zeros around, each channel filtered by the taps' outer product, every `down`th kept."""
    n, c, h, w = x.shape
    if up > 1:
        x = functional.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(
            n, c, h * up, w * up
        )
    x = functional.pad(x, (*pads, *pads))
    kernel = torch.outer(torch.tensor(taps, dtype=x.dtype), torch.tensor(taps, dtype=x.dtype))
    kernel = (kernel / kernel.sum() * up**2).expand(c, 1, -1, -1)
    return functional.conv2d(x, kernel, groups=c)[:, :, ::down, ::down]


def leaky(x: Tensor, gain: float = 2**0.5) -> Tensor:
    return functional.leaky_relu(x, 0.2) * gain


def normalized(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full([outputs], bias))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(
            x, self.weight * (self.rate / x.shape[1] ** 0.5), self.bias * self.rate
        )


class Mapping(nn.Module):
    def __init__(self, inputs: int, labels: int, size: int, depth: int, averaged: bool):
        super().__init__()
        if labels:
            self.embed = Dense(labels, size)
        sizes = [inputs + (size if labels else 0), *[size] * depth]
        for i in range(depth):
            setattr(self, f"fc{i}", Dense(sizes[i], sizes[i + 1], rate=0.01))
        self.depth = depth
        if averaged:
            self.register_buffer("w_avg", torch.zeros(size))

    def forward(self, z: Tensor | None, labels: Tensor | None) -> Tensor:
        parts = [] if z is None else [normalized(z)]
        parts += [normalized(self.embed(labels))] if hasattr(self, "embed") else []
        x = torch.cat(parts, dim=1)
        for i in range(self.depth):
            x = leaky(getattr(self, f"fc{i}")(x))
        return x


class Styled(nn.Module):
    """A convolution whose kernel is modulated for each image: one grouped convolution, as the paper's figure 2c defines it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        style: int,
        taps: tuple[int, ...],
        size: int,
        up: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Dense(style, inputs, bias=1.0)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.taps, self.up = taps, up

    def forward(self, x: Tensor, style: Tensor, noise: str, gain: float = 2**0.5) -> Tensor:
        n, c, h, w = x.shape
        weight = self.weight[None] * self.affine(style)[:, None, :, None, None]
        weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        if self.up:
            flat = weight.transpose(1, 2).reshape(n * c, -1, 3, 3)
            x = functional.conv_transpose2d(x.reshape(1, n * c, h, w), flat, stride=2, groups=n)
            x = fir(x.reshape(n, -1, *x.shape[2:]), self.taps, (1, 1)) * 4
        else:
            x = functional.conv2d(
                x.reshape(1, n * c, h, w), weight.reshape(-1, c, 3, 3), padding=1, groups=n
            )
            x = x.reshape(n, -1, h, w)
        if noise != "none":
            field = (
                self.noise_const
                if noise == "const"
                else torch.randn(n, 1, *x.shape[2:], device=x.device)
            )
            x = x + field * self.noise_strength
        return leaky(x + self.bias[:, None, None], gain)


class ToRGB(nn.Module):
    def __init__(self, inputs: int, outputs: int, style: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Dense(style, inputs, bias=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scales = self.affine(style) / x.shape[1] ** 0.5
        return (
            functional.conv2d(x * scales[:, :, None, None], self.weight) + self.bias[:, None, None]
        )


class Conv(nn.Module):
    """Equalised; where `down`, filtered and strided. Without a bias it is a skip."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        taps: tuple[int, ...],
        down: bool = False,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.taps, self.down = taps, down

    def forward(self, x: Tensor, gain: float = 2**0.5) -> Tensor:
        k = self.weight.shape[2]
        weight = self.weight / (self.weight.shape[1] * k * k) ** 0.5
        if self.down:
            x = fir(x, self.taps, (k // 2 + 1, k // 2 + 1))
            x = functional.conv2d(x, weight, stride=2)
        else:
            x = functional.conv2d(x, weight, padding=k // 2)
        return x * gain if self.bias is None else leaky(x + self.bias[:, None, None], gain)


class Block(nn.Module):
    """Nothing but a place for layers."""


class Synthesis(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.network, self.taps, self.sizes = config.gen_network, config.taps, resolutions(config)
        style = config.style_size
        for size in self.sizes:
            block, out, before = Block(), channels(config, size), channels(config, size // 2)
            if size == 4:
                block.const = nn.Parameter(torch.randn(out, 4, 4))
            else:
                block.conv0 = Styled(before, out, style, config.taps, size, up=True)
                if self.network == "resnet":
                    block.skip = Conv(before, out, 1, config.taps, bias=False)
            block.conv1 = Styled(out, out, style, config.taps, size)
            if self.network == "skip" or size == self.sizes[-1]:
                block.torgb = ToRGB(out, config.shape[2], style)
            setattr(self, f"b{size}", block)

    def forward(self, styles: Tensor, noise: str = "const") -> Tensor:
        image, layer = None, iter(range(styles.shape[1]))
        x = self.b4.const.expand(len(styles), -1, -1, -1)
        for size in self.sizes:
            block, before, residual = (
                getattr(self, f"b{size}"),
                x,
                self.network == "resnet" and size > 4,
            )
            if size > 4:
                x = block.conv0(x, styles[:, next(layer)], noise)
            index = next(layer)
            x = block.conv1(x, styles[:, index], noise, 1.0 if residual else 2**0.5)
            if residual:
                x = x + fir(block.skip(before, 0.5**0.5), self.taps, (2, 1), up=2)
            if hasattr(block, "torgb"):
                rgb = block.torgb(x, styles[:, index + 1])
                image = rgb if image is None else fir(image, self.taps, (2, 1), up=2) + rgb
        return image


class Generator(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        labels = config.num_labels if config.conditional else 0
        self.mapping = Mapping(
            config.latent_size, labels, config.style_size, config.mapping_layers, averaged=True
        )
        self.synthesis = Synthesis(config)

    def forward(self, latents: Tensor) -> Tensor:
        styles = self.mapping(latents, None)
        return self.synthesis(styles[:, None].expand(-1, 2 * len(self.synthesis.sizes), -1)).clamp(
            -1, 1
        )


class Discriminator(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.network, self.taps, self.sizes, self.group = (
            config.disc_network,
            config.taps,
            resolutions(config),
            config.group_size,
        )
        for size in self.sizes:
            block, out, below = Block(), channels(config, size), channels(config, size // 2)
            if size == self.sizes[-1] or self.network == "skip":
                block.fromrgb = Conv(config.shape[2], out, 1, config.taps)
            if size > 4:
                block.conv0 = Conv(out, out, 3, config.taps)
                block.conv1 = Conv(out, below, 3, config.taps, down=True)
                if self.network == "resnet":
                    block.skip = Conv(out, below, 1, config.taps, down=True, bias=False)
            else:
                block.conv = Conv(out + 1, out, 3, config.taps)
                block.fc = Dense(out * 16, out)
                block.out = Dense(out, out if config.conditional else 1)
            setattr(self, f"b{size}", block)
        if config.conditional:
            self.mapping = Mapping(
                0,
                config.num_labels,
                channels(config, 4),
                config.disc_mapping_layers,
                averaged=False,
            )

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        x = None
        for size in reversed(self.sizes):
            block = getattr(self, f"b{size}")
            if hasattr(block, "fromrgb"):
                seen = block.fromrgb(image)
                x = seen if x is None else x + seen
            if size > 4:
                image = fir(image, self.taps, (1, 1), down=2) if self.network == "skip" else image
                before = x
                x = block.conv1(block.conv0(x), 1.0 if self.network == "resnet" else 2**0.5)
                if self.network == "resnet":
                    x = x + block.skip(before, 0.5**0.5)
        n, c, h, w = x.shape
        group = min(self.group, n)
        spread = x.reshape(group, n // group, c, h, w)
        spread = (
            ((spread - spread.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        )
        x = torch.cat([x, spread.repeat(group)[:, None, None, None].expand(n, 1, h, w)], dim=1)
        x = leaky(self.b4.fc(self.b4.conv(x).flatten(1)))
        x = self.b4.out(x)
        return (
            x[:, 0]
            if not hasattr(self, "mapping")
            else (x * self.mapping(None, labels)).sum(dim=1) / x.shape[1] ** 0.5
        )


def resolutions(config: Any) -> list[int]:
    return [2**i for i in range(2, config.shape[0].bit_length())]


def channels(config: Any, size: int) -> int:
    return min(config.channels // size, config.max_channels)


# --- the race: benchmarks/step_time.py ------------------------------------------------------------------------------------


class Both(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.config, self.gen, self.disc = config, Generator(config), Discriminator(config)


build = Both


def load(module: Both, weights: dict[str, Any]) -> None:
    """Copy genjax's weights."""
    from genjax.convert import stylegan2 as convert

    for network, arrays in zip(
        (module.gen, module.disc), convert.arrays(module.config, weights), strict=True
    ):
        network.load_state_dict(
            {k: torch.tensor(v) for k, v in arrays.items() if not k.endswith(convert.BUFFER)}
        )


def adam(
    params: list[nn.Parameter], config: Any, every: int, fused: bool | None
) -> torch.optim.Adam:
    """Of a network with a lazy penalty: appendix B of the paper."""
    share = every / (every + 1)
    betas = (config.adam_b1**share, config.adam_b2**share)
    return torch.optim.Adam(
        params, lr=config.learning_rate * share, betas=betas, eps=1e-8, fused=fused
    )


def step_fn(
    module: Both,
    config: Any,
    arrays: dict[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> dict[str, Callable[[], Tensor]]:
    """{"step", "path", "r1"}: one a call, on a random batch of the resident `arrays` {"images": uint8 [N, H, W, C]}.

    The generator runs once a step, as in ours; real and generated images go through the discriminator one after the other. Under
    torch.compile the networks are, where no second derivatives are asked of them.
    """
    module.to(device).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    images = (
        torch.tensor(arrays["images"], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
    )
    mapping, count, n = module.gen.mapping, 2 * len(module.gen.synthesis.sizes), config.batch_size
    synthesis = torch.compile(module.gen.synthesis) if compiled else module.gen.synthesis
    disc = torch.compile(module.disc) if compiled else module.disc
    gen_params, disc_params = list(module.gen.parameters()), list(module.disc.parameters())
    gen_optimizer = adam(gen_params, config, config.path_every, fused=True)
    disc_optimizer = adam(disc_params, config, config.r1_every, fused=True)
    follow, length_mean = averaged(gen_params, config), torch.zeros([], device=device)

    def real_batch() -> Tensor:
        return images[torch.randint(len(images), (n,), device=device)].float() / 127.5 - 1

    def styles_of(n: int) -> Tensor:
        both = mapping(torch.randn(2 * n, config.latent_size, device=device), None).reshape(
            2, n, 1, -1
        )
        cut = torch.where(
            torch.rand(n, device=device) < config.style_mixing,
            torch.randint(1, count, (n,), device=device),
            count,
        )
        return torch.where(
            (torch.arange(count, device=device) < cut[:, None])[..., None], both[0], both[1]
        )

    def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def step() -> Tensor:
        real, styles = real_batch(), styles_of(n)
        fake = synthesis(styles, "random")
        loss = descend(
            disc_optimizer,
            (functional.softplus(-disc(real)) + functional.softplus(disc(fake.detach()))).mean(),
        )
        requires_grad(disc_params, False)
        objective = descend(gen_optimizer, functional.softplus(-disc(fake)).mean())
        requires_grad(disc_params, True)
        module.gen.mapping.w_avg.lerp_(styles[:, 0].detach().mean(dim=0), 1 - config.style_decay)
        follow()
        return loss + objective

    def path() -> Tensor:
        styles = styles_of(max(1, n // config.path_shrink))
        fake = module.gen.synthesis(styles, "random")
        directions = torch.randn_like(fake) / (fake.shape[2] * fake.shape[3]) ** 0.5
        (slopes,) = torch.autograd.grad((fake * directions).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(dim=2).mean(dim=1).sqrt()
        mean = length_mean.lerp(lengths.mean(), config.path_decay)
        length_mean.copy_(mean.detach())
        return descend(
            gen_optimizer, config.path_every * config.path_weight * (lengths - mean).square().mean()
        )

    def r1() -> Tensor:
        real = real_batch().requires_grad_(True)
        (slopes,) = torch.autograd.grad(module.disc(real).sum(), real, create_graph=True)
        return descend(
            disc_optimizer,
            config.r1_every * config.r1 / 2 * slopes.square().sum(dim=(1, 2, 3)).mean(),
        )

    return {"step": step, "path": path, "r1": r1}
