"""The GAN of genjax.models.gan in PyTorch: the networks, the losses and the training step that benchmarks/step_time.py races against.

Written the way a careful PyTorch user would: eager, NCHW, in-place activations, `zero_grad(set_to_none=True)`, Adam with `fused=True`,
no gradient to the discriminator's weights in the generator's turn, the average by `_foreach_lerp_`. Of the Config it knows what the
race needs: unconditional, one discriminator step a generator step, the losses of LOSSES, R1 and R2, no augmentation.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# By name: what the discriminator pays for a real logit and for a generated one, what the generator pays, and whether logits are
# differences within a pair.
LOSSES = {
    "non_saturating": (
        lambda x: functional.softplus(-x),
        functional.softplus,
        lambda x: functional.softplus(-x),
        False,
    ),
    "hinge": (lambda x: functional.relu(1 - x), lambda x: functional.relu(1 + x), torch.neg, False),
    "relativistic": (
        lambda x: functional.softplus(-x),
        torch.zeros_like,
        lambda x: functional.softplus(-x),
        True,
    ),
}


class GAN(nn.Module):
    """`gen`: latents [batch, latent_size] -> images [batch, channels, height, width]; `disc`: images -> logits [batch].

    `flat_shape` is what is flattened, (height, width, features), to or from the features of a dense layer.
    """

    def __init__(self, gen: nn.Module, disc: nn.Module, flat_shape: tuple[int, int, int]):
        super().__init__()
        self.gen, self.disc, self.flat_shape = gen, disc, flat_shape


def build(config: Any) -> GAN:
    """`config` is a genjax.models.gan.Config."""
    height, width, channels = config.shape
    pixels = height * width * channels

    def dense(sizes, activation):
        return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]

    gen = dense((config.latent_size, *config.hidden), lambda: nn.ReLU(inplace=True))
    gen += [nn.Linear(config.hidden[-1], pixels), *([nn.Tanh()] if config.output == "tanh" else [])]
    disc = dense((pixels, *config.hidden[::-1]), lambda: nn.LeakyReLU(0.2, inplace=True))
    disc += [nn.Linear(config.hidden[0], 1), nn.Flatten(0)]
    gen, disc = (
        nn.Sequential(*gen, nn.Unflatten(1, (channels, height, width))),
        nn.Sequential(nn.Flatten(), *disc),
    )
    return GAN(gen, disc, config.shape)


def load(module: GAN, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights {"params": {"gen": ..., "disc": ...}}; gradients of that form too."""
    gen, disc = weights["params"]["gen"], weights["params"]["disc"]
    hidden = [
        [part["hidden"][f"Dense_{i}"] for i in range(len(part["hidden"]))] for part in (gen, disc)
    ]
    linears = [
        [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        for part in (module.gen, module.disc)
    ]
    for layer, parts in zip(linears[0], [*hidden[0], gen["pixels"]], strict=True):
        copy(layer, parts, columns=module.flat_shape if layer is linears[0][-1] else None)
    for layer, parts in zip(linears[1], [*hidden[1], disc["logit"]["out"]], strict=True):
        copy(layer, parts, rows=module.flat_shape if layer is linears[1][0] else None)


@torch.no_grad()
def copy(
    layer: Any,
    parts: Mapping[str, Any],
    *,
    rows=None,
    columns=None,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Copy a layer of ours, its {"kernel", "bias"}, or of batch norm its {"scale", "bias"} and `stats` {"mean", "variance"}.

    Dense kernels are transposed; convolutions go from HWIO to OIHW, up-convolutions to IOHW with no flip. `rows`, `columns`: a
    (height, width, features) shape that a dense layer's inputs or outputs are flattened from, reordered to features-height-width.
    """
    if isinstance(layer, nn.BatchNorm2d):
        layer.weight.copy_(tensor(parts["scale"]))
        if stats is not None:
            layer.running_mean.copy_(tensor(stats["mean"]))
            layer.running_var.copy_(tensor(stats["variance"]))
    else:
        axes = {nn.Linear: (1, 0), nn.Conv2d: (3, 2, 0, 1), nn.ConvTranspose2d: (2, 3, 0, 1)}[
            type(layer)
        ]
        kernel = np.asarray(parts["kernel"])
        kernel = kernel if rows is None else kernel[channels_first(rows)]
        kernel = kernel if columns is None else kernel[:, channels_first(columns)]
        layer.weight.copy_(tensor(kernel.transpose(axes)))
    if layer.bias is not None:
        bias = np.asarray(parts["bias"])
        layer.bias.copy_(tensor(bias if columns is None else bias[channels_first(columns)]))


def tensor(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array))


def channels_first(shape: tuple[int, int, int]) -> np.ndarray:
    """Where each feature of a flattened [c, h, w] is in a flattened [h, w, c] of that `shape` (h, w, c)."""
    return np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()


def disc_loss(disc: Callable[[Tensor], Tensor], config: Any, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator pays, mean over the batch, with R1 and R2 if the config has them. `fake` carries no gradient."""
    on_real, on_fake, _, relative = LOSSES[config.loss]
    real, fake = real.requires_grad_(config.r1 > 0), fake.requires_grad_(config.r2 > 0)
    real_logits, fake_logits = disc(real).float(), disc(fake).float()
    loss = (
        on_real(real_logits - fake_logits)
        if relative
        else on_real(real_logits) + on_fake(fake_logits)
    ).mean()
    for gamma, images, logits in ((config.r1, real, real_logits), (config.r2, fake, fake_logits)):
        if gamma > 0:
            (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
            loss = loss + gamma / 2 * slope.square().sum() / len(images)
    return loss


def gen_loss(disc: Callable[[Tensor], Tensor], config: Any, real: Tensor, fake: Tensor) -> Tensor:
    """What the generator pays for its images, mean over the batch."""
    *_, on_gen, relative = LOSSES[config.loss]
    logits = disc(fake).float()
    if relative:
        with torch.no_grad():
            real_logits = disc(real).float()
        logits = logits - real_logits
    return on_gen(logits).mean()


def step_fn(
    module: GAN,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> Callable[[], Tensor]:
    """One training step a call, on a random batch of the resident `arrays` {"images": uint8 [N, H, W, C]}; it gives both players' losses' sum.

    The discriminator is trained on real images and on a generated batch, then the generator on the same one through the discriminator
    as it is now, so that the generator runs once. bfloat16 is autocast, the parameters stay float32. Under torch.compile both
    networks are; the discriminator not with R1 or R2, as torch.compile has no second derivatives.
    """
    module.to(device).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    images = (
        torch.tensor(arrays["images"], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
    )
    gen = torch.compile(module.gen) if compiled else module.gen
    disc = torch.compile(module.disc) if compiled and not (config.r1 or config.r2) else module.disc
    gen_params, disc_params = list(module.gen.parameters()), list(module.disc.parameters())
    rates = (config.learning_rate, config.disc_learning_rate or config.learning_rate)
    gen_optimizer, disc_optimizer = (
        torch.optim.Adam(
            params, lr=rate, betas=(config.adam_b1, config.adam_b2), eps=1e-8, fused=True
        )
        for params, rate in zip((gen_params, disc_params), rates, strict=True)
    )
    follow = averaged(gen_params, config)

    def step() -> Tensor:
        real = (
            images[torch.randint(len(images), (config.batch_size,), device=device)].float() / 127.5
            - 1
        )
        latents = torch.randn(config.batch_size, config.latent_size, device=device)
        autocast = torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16")
        with autocast:
            fake = gen(latents).float()
            loss = disc_loss(disc, config, real, fake.detach())
        disc_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        disc_optimizer.step()

        requires_grad(disc_params, False)
        with autocast:
            objective = gen_loss(disc, config, real.detach(), fake)
        gen_optimizer.zero_grad(set_to_none=True)
        objective.backward()
        gen_optimizer.step()
        requires_grad(disc_params, True)

        follow()
        return loss.detach() + objective.detach()

    return step


def averaged(params: list[nn.Parameter], config: Any) -> Callable[[], None]:
    """Starts an average of the parameters; what it gives moves it on by a step, with the Config's half-life and ramp."""
    average, seen = [parameter.detach().clone() for parameter in params], 0

    def follow() -> None:
        nonlocal seen
        seen += config.batch_size
        if config.ema_half_life_images:
            decay = 0.5 ** (
                config.batch_size / min(config.ema_half_life_images, config.ema_ramp * seen)
            )
            with torch.no_grad():
                torch._foreach_lerp_(average, params, 1 - decay)

    return follow


def requires_grad(parameters: Iterable[nn.Parameter], value: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(value)
