"""The StyleGAN2 code that the papers' authors published, raced unchanged.

None of it is in this repository: the environment variable GENJAX_STYLEGAN2_REFERENCE
names a folder with a checkout (NVlabs/stylegan2-ada-pytorch; its licence is
non-commercial). On a CPU it runs without its custom CUDA kernels. This module does what
its training loop does around its losses.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genjax import core

from .gan import averaged, requires_grad
from .stylegan2 import adam
from .tensors import to_layout


class Both(nn.Module):
    """Generator and discriminator of a genjax.models.stylegan2.Config."""

    def __init__(self, config: Any):
        super().__init__()
        sys.path.insert(0, os.environ["GENJAX_STYLEGAN2_REFERENCE"])
        from training import networks  # pyright: ignore[reportMissingImports]

        shared = {"c_dim": 0, "img_resolution": config.shape[0], "img_channels": config.shape[2]}
        sizes = {"channel_base": config.channel_base, "channel_max": config.channel_max}
        sizes |= {"num_fp16_res": config.num_low_precision_res if config.dtype != "float32" else 0}
        self.gen = networks.Generator(
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            mapping_kwargs={"num_layers": config.mapping_layers},
            synthesis_kwargs=sizes,
            **shared,
        )
        self.disc = networks.Discriminator(
            epilogue_kwargs={"mbstd_group_size": config.mbstd_group_size}, **shared, **sizes
        )
        self.config = config

    def generate(self, latents: Tensor) -> Tensor:
        """Latents [n, z_dim] -> images [n, c, h, w] in [-1, 1], fixed noise."""
        labels = torch.zeros(len(latents), 0, device=latents.device)
        return self.gen(latents, labels, noise_mode="const").clamp(-1, 1)


build = Both


def load(module: Both, weights: core.Weights) -> None:
    """Copy genjax's weights."""
    from genjax.convert import stylegan2 as convert

    gen, disc = convert.arrays(module.config, weights)
    for network, arrays in ((module.gen, gen), (module.disc, disc)):
        network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})


def step_fn(
    module: Both,
    config: Any,
    arrays: Mapping[str, np.ndarray],
    device: str,
    compiled: bool,
    layout: torch.memory_format,
) -> dict[str, Callable[[], Tensor]]:
    """Functions "step", "path" and "r1": each call does one, on a random batch.

    Args:
        module: the networks
        config: the genjax.models.stylegan2.Config
        arrays: resident data set, "images": uint8 [N, H, W, C]
        device: cpu or cuda
        compiled: ignored
        layout: memory layout of networks and images
    """
    from training.loss import StyleGAN2Loss  # pyright: ignore[reportMissingImports]

    to_layout(module, layout, device).train()
    images = (
        torch.tensor(arrays["images"], device=device)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=layout)
    )
    gen, disc, n = module.gen, module.disc, config.batch_size
    losses = StyleGAN2Loss(
        device,
        gen.mapping,
        gen.synthesis,
        disc,
        style_mixing_prob=config.style_mixing_prob,
        r1_gamma=config.r1_gamma,
        pl_batch_shrink=config.pl_batch_shrink,
        pl_decay=config.pl_decay,
        pl_weight=config.pl_weight,
    )
    gen_params, disc_params = list(gen.parameters()), list(disc.parameters())
    gen_optimizer = adam(gen_params, config, config.pl_interval, fused=None)
    disc_optimizer = adam(disc_params, config, config.r1_interval, fused=None)
    update_average = averaged(gen_params, config)

    def phase(
        name: str, params: list[nn.Parameter], optimizer: torch.optim.Optimizer, gain: float
    ) -> None:
        """One phase of the training loop: gradients, then the update."""
        real = images[torch.randint(len(images), (n,), device=device)].float() / 127.5 - 1
        latents = torch.randn(n, config.z_dim, device=device)
        labels = torch.zeros(n, 0, device=device)
        optimizer.zero_grad(set_to_none=True)
        requires_grad(params, True)
        losses.accumulate_gradients(
            phase=name,
            real_img=real,
            real_c=labels,
            gen_z=latents,
            gen_c=labels,
            sync=True,
            gain=gain,
        )
        requires_grad(params, False)
        for parameter in params:
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()

    def one(*phases: tuple) -> Callable[[], Tensor]:
        """A function that runs phases, and updates the average if there are two."""

        def run() -> Tensor:
            for arguments in phases:
                phase(*arguments)
            if len(phases) > 1:
                update_average()
            return losses.pl_mean

        requires_grad([*gen_params, *disc_params], False)
        return run

    return {
        "step": one(
            ("Gmain", gen_params, gen_optimizer, 1.0), ("Dmain", disc_params, disc_optimizer, 1.0)
        ),
        "path": one(("Greg", gen_params, gen_optimizer, float(config.pl_interval))),
        "r1": one(("Dreg", disc_params, disc_optimizer, float(config.r1_interval))),
    }
