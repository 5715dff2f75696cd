"""The GAN of genjax.models.gan in PyTorch, for benchmarks/step_time.py.

Networks, losses and training step as a careful PyTorch user would write them: eager,
NCHW, in-place activations, `zero_grad(set_to_none=True)`, Adam with `fused=True`, no
gradient of the discriminator's weights in the generator's step, the average by
`_foreach_lerp_`. Of the Config it implements what the race needs: unconditional, one
discriminator step per generator step, the losses of LOSSES, R1 and R2, no augmentation.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .tensors import assign, to_layout

# By name: discriminator loss on real logits, discriminator loss on generated logits,
# generator loss, and whether logits are differences of real and generated ones.
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
    """`gen`: latents [batch, z_dim] -> images [batch, channels, height, width];
    `disc`: images -> logits [batch].

    `flat_shape` (height, width, features) is the shape that dense layers flatten.
    """

    def __init__(self, gen: nn.Module, disc: nn.Module, flat_shape: tuple[int, int, int]):
        super().__init__()
        self.gen, self.disc, self.flat_shape = gen, disc, flat_shape


def build(config: Any) -> GAN:
    """Build the networks of a genjax.models.gan.Config."""
    height, width, channels = config.shape
    pixels = height * width * channels

    def dense(sizes, activation):
        return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]

    gen = dense((config.z_dim, *config.hidden), lambda: nn.ReLU(inplace=True))
    gen += [nn.Linear(config.hidden[-1], pixels), *([nn.Tanh()] if config.output == "tanh" else [])]
    disc = dense((pixels, *config.hidden[::-1]), lambda: nn.LeakyReLU(0.2, inplace=True))
    disc += [nn.Linear(config.hidden[0], 1), nn.Flatten(0)]
    gen, disc = (
        nn.Sequential(*gen, nn.Unflatten(1, (channels, height, width))),
        nn.Sequential(nn.Flatten(), *disc),
    )
    return GAN(gen, disc, config.shape)


def load(module: GAN, weights: Mapping[str, Any]) -> None:
    """Copy genjax's weights {"params": {"gen": ..., "disc": ...}} or such gradients."""
    gen, disc = weights["params"]["gen"], weights["params"]["disc"]
    hidden = [
        [params["hidden"][f"Dense_{i}"] for i in range(len(params["hidden"]))]
        for params in (gen, disc)
    ]
    linears = [
        [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        for network in (module.gen, module.disc)
    ]
    for layer, params in zip(linears[0], [*hidden[0], gen["pixels"]], strict=True):
        copy(layer, params, columns=module.flat_shape if layer is linears[0][-1] else None)
    for layer, params in zip(linears[1], [*hidden[1], disc["logit"]["out"]], strict=True):
        copy(layer, params, rows=module.flat_shape if layer is linears[1][0] else None)


# Axes of our kernels in PyTorch's order: dense layers are transposed, convolutions go
# from HWIO to OIHW, up-convolutions to IOHW without a flip.
AXES = {nn.Linear: (1, 0), nn.Conv2d: (3, 2, 0, 1), nn.ConvTranspose2d: (2, 3, 0, 1)}


def copy(
    layer: Any,
    params: Mapping[str, Any],
    *,
    rows: tuple[int, int, int] | None = None,
    columns: tuple[int, int, int] | None = None,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Copy the parameters of one of our layers.

    Args:
        layer: PyTorch's layer
        params: our "kernel" and "bias"; of batch norm "scale" and "bias"
        rows: shape (height, width, features) that a dense layer's inputs are flattened
            from; they are reordered to features, height, width
        columns: the same for a dense layer's outputs
        stats: running statistics of batch norm, "mean" and "variance"
    """
    if isinstance(layer, nn.BatchNorm2d):
        assign(layer.weight, params["scale"])
        if stats is not None:
            assign(layer.running_mean, stats["mean"])
            assign(layer.running_var, stats["variance"])
    else:
        kernel = np.asarray(params["kernel"])
        kernel = kernel if rows is None else kernel[channels_first(rows)]
        kernel = kernel if columns is None else kernel[:, channels_first(columns)]
        assign(layer.weight, kernel.transpose(AXES[type(layer)]))
    if layer.bias is not None:
        bias = np.asarray(params["bias"])
        assign(layer.bias, bias if columns is None else bias[channels_first(columns)])


def channels_first(shape: tuple[int, int, int]) -> np.ndarray:
    """The order of a flattened [h, w, c] that gives a flattened [c, h, w].

    `shape` is (h, w, c).
    """
    return np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()


def disc_loss(disc: Callable[[Tensor], Tensor], config: Any, real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator loss, mean over the batch, with R1 and R2 if the config has them.

    `fake` carries no gradient.
    """
    on_real, on_fake, _, relative = LOSSES[config.loss]
    real, fake = real.requires_grad_(config.r1_gamma > 0), fake.requires_grad_(config.r2_gamma > 0)
    real_logits, fake_logits = disc(real).float(), disc(fake).float()
    loss = (
        on_real(real_logits - fake_logits)
        if relative
        else on_real(real_logits) + on_fake(fake_logits)
    ).mean()
    for gamma, images, logits in (
        (config.r1_gamma, real, real_logits),
        (config.r2_gamma, fake, fake_logits),
    ):
        if gamma > 0:
            (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
            loss = loss + gamma / 2 * slope.square().sum() / len(images)
    return loss


def gen_loss(disc: Callable[[Tensor], Tensor], config: Any, real: Tensor, fake: Tensor) -> Tensor:
    """Generator loss, mean over the batch."""
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
    """A function that does one training step per call and returns the sum of both
    losses.

    The discriminator is trained on real images and on a generated batch, then the
    generator on the same batch through the updated discriminator, so that the generator
    runs once. bfloat16 is autocast; the parameters stay float32. torch.compile, which
    has no second derivatives, compiles both networks, but not the discriminator with R1
    or R2.

    Args:
        module: the networks
        config: the genjax.models.gan.Config, or that of dcgan
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
    gen = torch.compile(module.gen) if compiled else module.gen
    disc = (
        torch.compile(module.disc)
        if compiled and not (config.r1_gamma or config.r2_gamma)
        else module.disc
    )
    gen_params, disc_params = list(module.gen.parameters()), list(module.disc.parameters())
    rates = (config.learning_rate, config.disc_learning_rate or config.learning_rate)
    gen_optimizer, disc_optimizer = (
        torch.optim.Adam(
            params, lr=rate, betas=(config.adam_b1, config.adam_b2), eps=1e-8, fused=True
        )
        for params, rate in zip((gen_params, disc_params), rates, strict=True)
    )
    update_average = averaged(gen_params, config)

    def step() -> Tensor:
        """One training step; returns the sum of the losses."""
        indices = torch.randint(len(images), (config.batch_size,), device=device)
        real = images[indices].float() / 127.5 - 1
        latents = torch.randn(config.batch_size, config.z_dim, device=device)
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

        update_average()
        return loss.detach() + objective.detach()

    return step


def averaged(params: list[nn.Parameter], config: Any) -> Callable[[], None]:
    """Start an average of the parameters; return a function that updates it by one
    step.

    Half-life and ramp are those of the Config.
    """
    average, images = [parameter.detach().clone() for parameter in params], 0

    def update() -> None:
        nonlocal images
        images += config.batch_size
        if config.ema_half_life_images:
            half_life = min(config.ema_half_life_images, config.ema_ramp * images)
            decay = 0.5 ** (config.batch_size / half_life)
            with torch.no_grad():
                # The stubs do not export it and accept no list of Parameters.
                torch._foreach_lerp_(average, params, 1 - decay)  # pyright: ignore

    return update


def requires_grad(parameters: Iterable[nn.Parameter], value: bool) -> None:
    """Switch the gradient of parameters on or off."""
    for parameter in parameters:
        parameter.requires_grad_(value)
