"""The StyleGAN2 of genjax.models.stylegan2 in PyTorch, written from the papers.

Networks and training step, without clamps and without augmentation. State dicts have
the key names of the published weights, so that tests can convert them. bfloat16 is
autocast, at all resolutions (ours: the `num_low_precision_res` largest).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .gan import averaged, requires_grad
from .tensors import to_layout


def fir(
    x: Tensor, taps: tuple[int, ...], pads: tuple[int, int], up: int = 1, down: int = 1
) -> Tensor:
    """Upsample, pad, filter and downsample [n, c, h, w] (upfirdn2d).

    Args:
        x: images [n, c, h, w]
        taps: the separable filter; its sum is normalised to 1, with gain up^2
        pads: zeros before and after, on both axes
        up: factor of upsampling by zeros
        down: factor of downsampling
    """
    n, c, h, w = x.shape
    if up > 1:
        x = functional.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(
            n, c, h * up, w * up
        )
    x = functional.pad(x, (*pads, *pads))
    filter = torch.tensor(taps, dtype=x.dtype, device=x.device)
    kernel = torch.outer(filter, filter)
    kernel = (kernel / kernel.sum() * up**2).expand(c, 1, -1, -1)
    return functional.conv2d(x, kernel, groups=c)[:, :, ::down, ::down]


def leaky(x: Tensor, gain: float = 2**0.5) -> Tensor:
    """Leaky ReLU with a gain."""
    return functional.leaky_relu(x, 0.2) * gain


def normalized(x: Tensor) -> Tensor:
    """Divide [n, c] by the root mean square over c."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Dense(nn.Module):
    """A dense layer with equalised learning rate; `rate` is the multiplier."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full([outputs], bias))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] -> [n, outputs]."""
        weight = self.weight * (self.rate / x.shape[1] ** 0.5)
        return functional.linear(x, weight, self.bias * self.rate)


class Mapping(nn.Module):
    """The mapping network of latents, one-hot labels, or both."""

    w_avg: Tensor

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
        """Latents [n, inputs] and one-hot labels [n, labels] -> w [n, size]."""
        inputs = [] if z is None else [normalized(z)]
        inputs += [normalized(self.embed(labels))] if hasattr(self, "embed") else []
        x = torch.cat(inputs, dim=1)
        for i in range(self.depth):
            x = leaky(getattr(self, f"fc{i}")(x))
        return x


class Styled(nn.Module):
    """A convolution with a modulated kernel per image, as one grouped convolution.

    Defined by figure 2c of the paper.
    """

    noise_const: Tensor

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
        """Features [n, inputs, h, w] -> [n, outputs, h, w], twice as large if `up`."""
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
            field = self.noise_const
            if noise != "const":
                field = torch.randn(n, 1, *x.shape[2:], device=x.device)
            x = x + field * self.noise_strength
        return leaky(x + self.bias[:, None, None], gain)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution without demodulation."""

    def __init__(self, inputs: int, outputs: int, style: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Dense(style, inputs, bias=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Features [n, inputs, h, w] -> images [n, outputs, h, w]."""
        scales = self.affine(style) / x.shape[1] ** 0.5
        x = functional.conv2d(x * scales[:, :, None, None], self.weight)
        return x + self.bias[:, None, None]


class Conv(nn.Module):
    """A convolution with equalised learning rate, filtered and strided if `down`.

    Without a bias it is a skip connection, without an activation.
    """

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
        """Features [n, inputs, h, w] -> [n, outputs, h, w], half as large if `down`."""
        k = self.weight.shape[2]
        weight = self.weight / (self.weight.shape[1] * k * k) ** 0.5
        if self.down:
            x = fir(x, self.taps, (k // 2 + 1, k // 2 + 1))
            x = functional.conv2d(x, weight, stride=2)
        else:
            x = functional.conv2d(x, weight, padding=k // 2)
        return x * gain if self.bias is None else leaky(x + self.bias[:, None, None], gain)


class Block(nn.Module):
    """A namespace for the layers of one resolution."""

    # Which of them exist depends on the resolution and the architecture.
    const: nn.Parameter
    conv: Conv
    conv0: Any  # Styled or Conv
    conv1: Any
    skip: Conv
    torgb: ToRGB
    fromrgb: Conv
    fc: Dense
    out: Dense


class Synthesis(nn.Module):
    """The synthesis network."""

    b4: Block

    def __init__(self, config: Any):
        super().__init__()
        self.network, self.taps, self.sizes = (
            config.gen_network,
            config.resample_filter,
            resolutions(config),
        )
        style = config.w_dim
        for size in self.sizes:
            block, out, before = Block(), channels(config, size), channels(config, size // 2)
            if size == 4:
                block.const = nn.Parameter(torch.randn(out, 4, 4))
            else:
                block.conv0 = Styled(before, out, style, config.resample_filter, size, up=True)
                if self.network == "resnet":
                    block.skip = Conv(before, out, 1, config.resample_filter, bias=False)
            block.conv1 = Styled(out, out, style, config.resample_filter, size)
            if self.network == "skip" or size == self.sizes[-1]:
                block.torgb = ToRGB(out, config.shape[2], style)
            setattr(self, f"b{size}", block)

    def forward(self, styles: Tensor, noise: str = "const") -> Tensor:
        """Styles [n, layers, w_dim] -> images [n, c, h, w].

        `noise` is const, random or none.
        """
        image, layer = None, iter(range(styles.shape[1]))
        x = self.b4.const.expand(len(styles), -1, -1, -1)
        for size in self.sizes:
            block, before = getattr(self, f"b{size}"), x
            residual = self.network == "resnet" and size > 4
            if size > 4:
                x = block.conv0(x, styles[:, next(layer)], noise)
            index = next(layer)
            x = block.conv1(x, styles[:, index], noise, 1.0 if residual else 2**0.5)
            if residual:
                x = x + fir(block.skip(before, 0.5**0.5), self.taps, (2, 1), up=2)
            if hasattr(block, "torgb"):
                rgb = block.torgb(x, styles[:, index + 1])
                image = rgb if image is None else fir(image, self.taps, (2, 1), up=2) + rgb
        assert image is not None  # the last block has a torgb
        return image


class Generator(nn.Module):
    """The mapping and the synthesis network."""

    def __init__(self, config: Any):
        super().__init__()
        labels = config.num_labels if config.conditional != "none" else 0
        self.mapping = Mapping(
            config.z_dim, labels, config.w_dim, config.mapping_layers, averaged=True
        )
        self.synthesis = Synthesis(config)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [n, z_dim] -> images [n, c, h, w] in [-1, 1]."""
        styles = self.mapping(latents, None)
        layers = 2 * len(self.synthesis.sizes)
        return self.synthesis(styles[:, None].expand(-1, layers, -1)).clamp(-1, 1)


class Discriminator(nn.Module):
    """The discriminator, with a projection if conditional."""

    b4: Block

    def __init__(self, config: Any):
        super().__init__()
        self.network, self.taps = config.disc_network, config.resample_filter
        self.sizes, self.group = resolutions(config), config.mbstd_group_size
        for size in self.sizes:
            block, out, below = Block(), channels(config, size), channels(config, size // 2)
            if size == self.sizes[-1] or self.network == "skip":
                block.fromrgb = Conv(config.shape[2], out, 1, config.resample_filter)
            if size > 4:
                block.conv0 = Conv(out, out, 3, config.resample_filter)
                block.conv1 = Conv(out, below, 3, config.resample_filter, down=True)
                if self.network == "resnet":
                    block.skip = Conv(out, below, 1, config.resample_filter, down=True, bias=False)
            else:
                block.conv = Conv(out + 1, out, 3, config.resample_filter)
                block.fc = Dense(out * 16, out)
                block.out = Dense(out, out if config.conditional != "none" else 1)
            setattr(self, f"b{size}", block)
        if config.conditional != "none":
            width, depth = channels(config, 4), config.disc_mapping_layers
            self.mapping = Mapping(0, config.num_labels, width, depth, averaged=False)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [n, c, h, w] and one-hot labels [n, num_labels] -> logits [n]."""
        x: Any = None
        for size in reversed(self.sizes):
            block = getattr(self, f"b{size}")
            if hasattr(block, "fromrgb"):
                features = block.fromrgb(image)
                x = features if x is None else x + features
            if size > 4:
                image = fir(image, self.taps, (1, 1), down=2) if self.network == "skip" else image
                before = x
                x = block.conv1(block.conv0(x), 1.0 if self.network == "resnet" else 2**0.5)
                if self.network == "resnet":
                    x = x + block.skip(before, 0.5**0.5)
        # The standard deviation over groups of the minibatch, as one more channel.
        n, c, h, w = x.shape
        group = min(self.group, n)
        groups = x.reshape(group, n // group, c, h, w)
        variance = (groups - groups.mean(dim=0)).square().mean(dim=0)
        deviation = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))
        x = torch.cat([x, deviation.repeat(group)[:, None, None, None].expand(n, 1, h, w)], dim=1)
        x = leaky(self.b4.fc(self.b4.conv(x).flatten(1)))
        x = self.b4.out(x)
        if not hasattr(self, "mapping"):
            return x[:, 0]
        return (x * self.mapping(None, labels)).sum(dim=1) / x.shape[1] ** 0.5


def resolutions(config: Any) -> list[int]:
    """The resolutions from 4 to the images'."""
    return [2**i for i in range(2, config.shape[0].bit_length())]


def channels(config: Any, size: int) -> int:
    """Number of channels at a resolution."""
    return min(config.channel_base // size, config.channel_max)


# --- the race: benchmarks/step_time.py ------------------------------------------------


class Both(nn.Module):
    """Generator and discriminator of a genjax.models.stylegan2.Config."""

    def __init__(self, config: Any):
        super().__init__()
        self.config, self.gen, self.disc = config, Generator(config), Discriminator(config)


build = Both


def load(module: Both, weights: dict[str, Any]) -> None:
    """Copy genjax's weights."""
    from genjax.convert import stylegan2 as convert

    gen, disc = convert.arrays(module.config, weights)
    for network, arrays in ((module.gen, gen), (module.disc, disc)):
        network.load_state_dict(
            {k: torch.tensor(v) for k, v in arrays.items() if not k.endswith(convert.BUFFER)}
        )


def adam(
    params: list[nn.Parameter], config: Any, every: int, fused: bool | None
) -> torch.optim.Adam:
    """Adam for a network with a lazy penalty (appendix B of the paper)."""
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
    """Functions "step", "path" and "r1": each call does one, on a random batch.

    The generator runs once per step, as in ours; real and generated images go through
    the discriminator separately. torch.compile compiles the networks where no second
    derivatives are needed.

    Args:
        module: the networks
        config: the genjax.models.stylegan2.Config
        arrays: resident data set, "images": uint8 [N, H, W, C]
        device: cpu or cuda
        compiled: whether to use torch.compile
        layout: memory layout of networks and images
    """
    to_layout(module, layout, device).train()
    images = (
        torch.tensor(arrays["images"], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
    )
    mapping, count, n = module.gen.mapping, 2 * len(module.gen.synthesis.sizes), config.batch_size
    synthesis = torch.compile(module.gen.synthesis) if compiled else module.gen.synthesis
    disc = torch.compile(module.disc) if compiled else module.disc
    gen_params, disc_params = list(module.gen.parameters()), list(module.disc.parameters())
    gen_optimizer = adam(gen_params, config, config.pl_interval, fused=True)
    disc_optimizer = adam(disc_params, config, config.r1_interval, fused=True)
    update_average, length_mean = averaged(gen_params, config), torch.zeros([], device=device)
    low = config.dtype == "bfloat16"
    autocast = lambda: torch.autocast(device, torch.bfloat16, enabled=low)

    def real_batch() -> Tensor:
        """A random batch, float32 in [-1, 1]."""
        return images[torch.randint(len(images), (n,), device=device)].float() / 127.5 - 1

    def styles_of(n: int) -> Tensor:
        """Styles of random latents, mixed from a random crossover layer on."""
        latents = torch.randn(2 * n, config.z_dim, device=device)
        first, second = mapping(latents, None).reshape(2, n, 1, -1)
        mixed = torch.rand(n, device=device) < config.style_mixing_prob
        crossover = torch.where(mixed, torch.randint(1, count, (n,), device=device), count)
        layers = torch.arange(count, device=device)
        return torch.where((layers < crossover[:, None])[..., None], first, second)

    def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        """One optimizer step; returns the loss without its gradient."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def step() -> Tensor:
        """One training step without penalties; returns the sum of the losses."""
        real, styles = real_batch(), styles_of(n)
        with autocast():
            fake = synthesis(styles, "random")
            loss = functional.softplus(-disc(real)) + functional.softplus(disc(fake.detach()))
        loss = descend(disc_optimizer, loss.mean())
        requires_grad(disc_params, False)
        with autocast():
            objective = functional.softplus(-disc(fake)).mean()
        objective = descend(gen_optimizer, objective)
        requires_grad(disc_params, True)
        module.gen.mapping.w_avg.lerp_(styles[:, 0].detach().mean(dim=0), 1 - config.w_avg_beta)
        update_average()
        return loss + objective

    def path() -> Tensor:
        """The path length penalty, which is applied every `pl_interval` steps."""
        styles = styles_of(max(1, n // config.pl_batch_shrink))
        with autocast():
            fake = module.gen.synthesis(styles, "random").float()
        directions = torch.randn_like(fake) / (fake.shape[2] * fake.shape[3]) ** 0.5
        (slopes,) = torch.autograd.grad((fake * directions).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(dim=2).mean(dim=1).sqrt()
        mean = length_mean.lerp(lengths.mean(), config.pl_decay)
        length_mean.copy_(mean.detach())
        penalty = (lengths - mean).square().mean()
        return descend(gen_optimizer, config.pl_interval * config.pl_weight * penalty)

    def r1() -> Tensor:
        """The R1 penalty, which is applied every `r1_interval` steps."""
        real = real_batch().requires_grad_(True)
        with autocast():
            logits = module.disc(real)
        (slopes,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = slopes.square().sum(dim=(1, 2, 3)).mean()
        return descend(disc_optimizer, config.r1_interval * config.r1_gamma / 2 * penalty)

    return {"step": step, "path": path, "r1": r1}
