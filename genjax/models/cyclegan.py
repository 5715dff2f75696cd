"""CycleGAN: translation between two sets of images that are not paired. Zhu et al. 2017 (arXiv 1703.10593).

Two generators, a -> b and b -> a, each against a discriminator of patches of its side; what goes there and back must come back.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Array, Batch, Metrics, Plan, State, Weights
from genjax.errors import InputError
from genjax.nn import layers, pool

UPSAMPLES = ("transposed", "resize")
DIRECTIONS = ("a2b", "b2a")
COPY = 64  # side of the copy that an affine network looks at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    shape: tuple[int, int, int] = (
        256,
        256,
        3,
    )  # height, width, channels in training: from the data
    network: str = "resnet"  # resnet | unet | affine (light and colour alone, seen in a small copy): the generators
    channels: int = 64  # of the generators at the full resolution (Zhu et al., appendix 7.2)
    blocks: int = 9  # resnet: residual blocks (9 from 256x256 on, 6 below)
    upsample: str = "transposed"  # resnet: transposed | resize (nearest, then a convolution: no checkerboards, Odena et al. 2016)
    depth: int = 7  # how often it halves, unet: the images, affine: a copy of 64x64, so that 4 leaves a grid of 4x4
    disc_channels: int = 64  # of the discriminators after their first layer
    disc_layers: int = 3  # that halve: 3 sees patches of 70x70
    disc_norm: str = "instance"  # instance | none: normalised, a discriminator hardly sees how bright or flat the whole is
    loss: str = "least_squares"  # least_squares | non_saturating (logistic) | wasserstein (gradient_penalty) | hinge | minimax
    gradient_penalty: float = (
        0.0  # weight of (|grad D| - 1)^2 between real and generated (WGAN-GP has 10)
    )
    cycle_weight: float = 10.0  # of |there and back - image|
    cycle_share_a: float = 1.0  # of that weight on images of side a: less where b cannot hold all that is in them (haze, noise)
    cycle_noise: float = 0.0  # standard deviation of noise on a translation before its way back, against hidden messages in it
    identity_weight: float = 0.5  # of |translation of what is there already - image|, times cycle_weight; 0: no such passes
    ssim_weight: float = 0.0  # of 1 - SSIM(there and back, image), times cycle_weight
    pool_size: int = 50  # generated images that are kept for the discriminators, a side
    learning_rate: float = 2e-4  # Adam's
    adam_b1: float = 0.5  # Adam's first decay
    adam_b2: float = 0.999  # Adam's second decay
    constant_steps: int = 0  # steps at the full rate ...
    decay_steps: int = 0  # ... and then steps over which it falls to 0, a line; 0: constant (Zhu et al.: 100 epochs each)
    ema_half_life_images: float = 1000.0  # images after which an old weight counts half in the average that translates; 0: none
    ema_ramp: float = 0.05  # the half-life is at most this share of the images trained on
    batch_size: int = 1  # images a step of each side, over all devices
    dtype: str = "float32"  # float32 | bfloat16, of the networks; parameters, normalisation, logits and losses are float32


class CycleGAN(NamedTuple):
    """What `recipe(config)` returns. Weights are `core.weights(state)` or `genjax.load(...)`'s; images float32 [n, h, w, c] in [-1, 1].

    `direction` is "a2b" or "b2a"; images may be of any height and width.
    """

    config: Config
    init: Callable  # (key) -> State
    step: Callable  # (state, batch, key, plan) -> (State, metrics); batch: "images" of side a, "images_b" of side b
    plan: Callable  # (step) -> Plan
    preview: Callable  # (weights, key, batch) -> {"a2b", "b2a": each image beside its translation and what comes back}
    translate: Callable  # (weights, images, direction="a2b", statistics=None) -> images
    statistics: (
        Callable | None
    )  # (weights, image [1, h, w, c], direction="a2b") -> of its normalisations: for translate, of a larger
    # copy's parts; None for an affine network, which must see the whole
    cycle: Callable  # (weights, images, direction="a2b") -> images, there and back
    discriminate: (
        Callable  # (weights, images, side="b") -> logits of patches [n, h', w'], high for real
    )


# --- networks ------------------------------------------------------------------------------------------------------------

_normal = nn.initializers.normal(0.02)


def _plain(x: Array, features: int, config: Config, name: str, kernel: int = 3, **parts) -> Array:
    return layers.Conv(
        features,
        kernel=kernel,
        weight_init=_normal,
        dtype=jnp.dtype(config.dtype),
        name=name,
        **parts,
    )(x)


def _normed(x: Array, features: int, config: Config, name: str, kernel: int = 3, **parts) -> Array:
    """A convolution and the instance normalisation after it, to which its bias, which published weights have, is nothing."""
    return layers.InstanceNorm(name=f"{name}_norm")(
        _plain(x, features, config, name, kernel, fixed_bias=True, **parts)
    )


def _reflected(x: Array, pad: int) -> Array:
    return jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode="reflect")


class Block(nn.Module):
    """x [n, h, w, c] -> x and two convolutions of it. The second argument and result are `nn.scan`'s."""

    config: Config

    @nn.compact
    def __call__(self, x, _):
        y = nn.relu(_normed(_reflected(x, 1), x.shape[-1], self.config, "first", pad=0))
        return x + _normed(_reflected(y, 1), x.shape[-1], self.config, "second", pad=0), None


class ResNet(nn.Module):
    """Images [n, h, w, c] in [-1, 1], sides multiples of 4 and at least 8 -> the same. Johnson et al. 2016, with instance normalisation."""

    config: Config

    @nn.compact
    def __call__(self, x):
        config, size = self.config, self.config.channels
        out = x.shape[-1]
        x = nn.relu(_normed(_reflected(x, 3), size, config, "first", 7, pad=0))
        for i in range(2):
            x = nn.relu(_normed(x, size * 2 ** (i + 1), config, f"down_{i}", stride=2))
        if (
            config.blocks
        ):  # one loop, whose body is compiled once: their weights are stacked, [blocks, ...]
            stack = nn.scan(
                Block,
                variable_axes={"params": 0, "instance": 0},
                split_rngs={"params": True},
                length=config.blocks,
            )
            x, _ = stack(config, name="blocks")(x, None)
        for i in reversed(range(2)):
            features = size * 2**i
            if config.upsample == "resize":
                x = x.repeat(2, axis=1).repeat(2, axis=2)
                x = nn.relu(_normed(_reflected(x, 1), features, config, f"up_{i}", pad=0))
            else:
                x = nn.relu(_normed(x, features, config, f"up_{i}", stride="up"))
        return jnp.tanh(_plain(_reflected(x, 3), out, config, "last", 7, pad=0).astype(jnp.float32))


class UNet(nn.Module):
    """Images [n, h, w, c] in [-1, 1], sides multiples of 2^depth -> the same. Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.1."""

    config: Config

    @nn.compact
    def __call__(self, x):
        config, out = self.config, x.shape[-1]
        sizes = [min(config.channels * 2**i, 8 * config.channels) for i in range(config.depth)]
        kept = []
        for i, features in enumerate(sizes):
            layer = _normed if 0 < i < config.depth - 1 else _plain
            x = layer(nn.leaky_relu(x, 0.2) if i else x, features, config, f"down_{i}", 4, stride=2)
            kept.append(x)
        for i, features in reversed(list(enumerate([out, *sizes[:-1]]))):
            x = x if i == config.depth - 1 else jnp.concatenate([kept[i], x], axis=-1)
            x = (_normed if i else _plain)(nn.relu(x), features, config, f"up_{i}", 4, stride="up")
        return jnp.tanh(x.astype(jnp.float32))


class Affine(nn.Module):
    """Images [n, h, w, c] in [-1, 1], of any sides -> each channel times a gain plus an offset, both smooth over the image; clipped.

    Light, haze and colour casts are of this form. It can neither draw nor hide anything, and costs the same at any size: gains and offsets
    are read off a copy of 64x64 pixels, halved to a grid. Gharbi et al. 2017 (arXiv 1707.02880), without the grid's third axis.
    """

    config: Config

    @nn.compact
    def __call__(self, x):
        config, (n, height, width, channels) = self.config, x.shape
        conv = functools.partial(layers.Conv, dtype=jnp.dtype(config.dtype))
        y = jax.image.resize(x, (n, COPY, COPY, channels), "linear")
        y = nn.relu(conv(config.channels, name="first")(y))
        for i in range(config.depth):
            y = nn.relu(conv(config.channels * min(2 ** (i + 1), 4), stride=2, name=f"down_{i}")(y))
        for i in range(config.blocks):
            inner = nn.relu(conv(y.shape[-1], name=f"block_{i}_first")(y))
            y = y + conv(y.shape[-1], name=f"block_{i}_second", weight_init=_normal)(inner)
        y = conv(2 * channels, name="last", weight_init=_normal)(nn.relu(y)).astype(jnp.float32)
        log_gain, offset = jnp.split(
            jax.image.resize(y, (n, height, width, 2 * channels), "linear"), 2, axis=-1
        )
        return (
            2 * jnp.clip((x + 1) / 2 * jnp.exp(log_gain) + offset, 0, 1) - 1
        )  # of values in 0..1, on which light multiplies


class Discriminator(nn.Module):
    """Images [n, h, w, c] -> logits of overlapping patches [n, h', w'], float32. "PatchGAN" of Isola et al. 2017."""

    config: Config

    @nn.compact
    def __call__(self, x):
        config = self.config
        for i in range(config.disc_layers + 1):
            parts = {"stride": 2} if i < config.disc_layers else {"pad": 1}
            layer = _normed if i and config.disc_norm == "instance" else _plain
            x = nn.leaky_relu(
                layer(x, config.disc_channels * min(2**i, 8), config, f"conv_{i}", 4, **parts), 0.2
            )
        return layers.Conv(1, kernel=4, pad=1, weight_init=_normal, name="logits")(x)[
            ..., 0
        ]  # float32 whatever x is


NETWORKS = {"resnet": ResNet, "unet": UNet, "affine": Affine}


# --- the recipe ----------------------------------------------------------------------------------------------------------


def multiple(config: Config) -> int:
    """What both sides of an image must be a multiple of, for the generators."""
    return {"resnet": 4, "unet": 2**config.depth, "affine": 1}[config.network]


def check(config: Config) -> None:
    """Raise InputError, naming the option, on a Config that means nothing."""
    core.check_numbers(config)
    demand = functools.partial(core.demand, config)
    known = [loss for loss, functions in losses.ADVERSARIAL.items() if not functions.relative]
    choices = {
        "network": NETWORKS,
        "upsample": UPSAMPLES,
        "disc_norm": ("instance", "none"),
        "loss": known,
        "dtype": ("float32", "bfloat16"),
    }
    for field, names in choices.items():
        demand(getattr(config, field) in names, field, f"one of {', '.join(names)}")
    for field in ("channels", "disc_channels", "disc_layers", "batch_size"):
        demand(getattr(config, field) >= 1, field, "at least 1")
    demand(config.depth >= 2, "depth", "at least 2")
    demand(
        config.network != "affine" or 2**config.depth <= COPY,
        "depth",
        f"an affine network halves {COPY} pixels: at most 6",
    )
    nonnegative = (
        "blocks",
        "gradient_penalty",
        "cycle_weight",
        "cycle_share_a",
        "cycle_noise",
        "identity_weight",
        "ssim_weight",
        "pool_size",
    )
    for field in (*nonnegative, "constant_steps", "decay_steps", "ema_half_life_images"):
        demand(getattr(config, field) >= 0, field, "0 or more")
    demand(config.learning_rate > 0, "learning_rate", "more than 0")
    demand(config.ema_ramp > 0, "ema_ramp", "more than 0")
    for field in ("adam_b1", "adam_b2"):
        demand(0 <= getattr(config, field) < 1, field, "from 0 to below 1")
    (height, width, _), step = config.shape, multiple(config)
    if height % step or width % step or min(height, width) < 8:
        raise InputError(
            f"--resolution {height} {width}: each side must be at least 8 and a multiple of {step}"
        )
    smallest = min(height, width) // 2**config.disc_layers
    demand(
        smallest >= 3,
        "disc_layers",
        f"too many for images of {height}x{width}: they leave nothing of a patch",
    )
    if config.ssim_weight and min(height, width) < losses.SSIM_WINDOW:
        raise InputError(
            f"--resolution {height} {width}: --model.ssim-weight needs sides of at least {losses.SSIM_WINDOW}"
        )


def recipe(config: Config) -> CycleGAN:
    """The CycleGAN of a Config, as pure functions over weights. Raises InputError on a Config that means nothing."""
    check(config)
    generator: Any = NETWORKS[config.network](config)
    discriminator: Any = Discriminator(config)
    loss = losses.ADVERSARIAL[config.loss]
    weight = (
        2.0 if config.loss == "least_squares" else 1.0
    )  # Zhu et al. have no 1/2 before their squares
    share = {
        "a": config.cycle_share_a,
        "b": 1.0,
    }  # of the cycle's weight, by the side where it begins
    averages = config.ema_half_life_images > 0

    rate = optax.constant_schedule(config.learning_rate)
    if config.decay_steps:
        rate = optax.linear_schedule(
            config.learning_rate, 0.0, config.decay_steps, config.constant_steps
        )
    tx = optax.adam(rate, b1=config.adam_b1, b2=config.adam_b2, eps=1e-8)

    def generate(params, images):
        return generator.apply({"params": params}, images)

    def judge(params, images):
        return discriminator.apply({"params": params}, images)

    @jax.jit
    def init(key) -> State:
        keys, images = jax.random.split(key, 4), jnp.zeros((1, *config.shape))
        gens = {
            f"gen_{way}": generator.init(key, images)["params"]
            for way, key in zip(DIRECTIONS, keys[:2], strict=True)
        }
        discs = {
            f"disc_{side}": discriminator.init(key, images)["params"]
            for side, key in zip("ab", keys[2:], strict=True)
        }
        opt = {"gens": tx.init(gens), "discs": tx.init(discs)}
        aux = {f"pool_{side}": pool.empty(config.pool_size, config.shape) for side in "ab"}
        return core.new_state({**gens, **discs}, opt, ema=gens if averages else {}, aux=aux)

    def reconstruction(images, back) -> Array:
        terms = jnp.mean(losses.cycle(images, back))
        return (
            terms + config.ssim_weight * jnp.mean(1 - losses.ssim(images, back))
            if config.ssim_weight
            else terms
        )

    def step(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        real = {"a": batch["images"], "b": batch["images_b"]}
        gens = {name: params for name, params in state.params.items() if name.startswith("gen")}
        keys = dict(zip("ab", jax.random.split(key), strict=True))
        discs = {name: params for name, params in state.params.items() if name.startswith("disc")}

        def noisy(images, side):
            noise = jax.random.normal(jax.random.fold_in(keys[side], 2), images.shape)
            return images + config.cycle_noise * noise if config.cycle_noise else images

        def gens_loss(gens):
            fake, same, metrics, objective = {}, {}, {}, jnp.float32(0)
            for way, (source, target) in (("a2b", "ab"), ("b2a", "ba")):
                if config.identity_weight:  # one pass for both: each image is normalised by itself
                    both = generate(
                        gens[f"gen_{way}"], jnp.concatenate([real[source], real[target]])
                    )
                    fake[target], same[target] = jnp.split(both, 2)
                else:
                    fake[target] = generate(gens[f"gen_{way}"], real[source])
            for way, (source, target) in (("b2a", "ab"), ("a2b", "ba")):
                metrics[f"loss/gen_{target}"] = weight * jnp.mean(
                    loss.gen(judge(discs[f"disc_{target}"], fake[target]))
                )
                objective += metrics[f"loss/gen_{target}"]
                if share[source]:
                    metrics[f"loss/cycle_{source}"] = reconstruction(
                        real[source], generate(gens[f"gen_{way}"], noisy(fake[target], target))
                    )
                    objective += (
                        config.cycle_weight * share[source] * metrics[f"loss/cycle_{source}"]
                    )
                if config.identity_weight:
                    metrics[f"loss/identity_{target}"] = jnp.mean(
                        losses.identity(real[target], same[target])
                    )
                    objective += (
                        config.cycle_weight
                        * config.identity_weight
                        * metrics[f"loss/identity_{target}"]
                    )
            return objective, (metrics, fake)

        gens, gens_opt, (metrics, fake) = core.descend(tx, gens_loss, gens, state.opt["gens"])

        pools, shown = {}, {}
        for side in "ab":
            pools[f"pool_{side}"], shown[side] = pool.exchange(
                state.aux[f"pool_{side}"], keys[side], fake[side]
            )

        def discs_loss(discs):
            metrics, objective = {}, jnp.float32(0)
            for side in "ab":
                disc = functools.partial(judge, discs[f"disc_{side}"])
                on_real, on_fake = jnp.split(disc(jnp.concatenate([real[side], shown[side]])), 2)
                paid = 0.5 * weight * jnp.mean(losses.discriminator_loss(loss, on_real, on_fake))
                metrics[f"loss/disc_{side}"] = paid
                metrics[f"health/logit_gap_{side}"] = jnp.mean(on_real) - jnp.mean(on_fake)
                objective += paid
                if config.gradient_penalty:
                    mixing = jax.random.fold_in(keys[side], 1)
                    penalty = jnp.mean(
                        losses.gradient_penalty(disc, mixing, real[side], shown[side])
                    )
                    metrics[f"penalty/gradient_{side}"] = config.gradient_penalty * penalty
                    objective += metrics[f"penalty/gradient_{side}"]
            return objective, metrics

        discs, discs_opt, judged = core.descend(tx, discs_loss, discs, state.opt["discs"])

        ema = state.ema
        if averages:
            decay = core.ramped_ema_decay(
                state.step, config.batch_size, config.ema_half_life_images, config.ema_ramp
            )
            ema = core.ema(state.ema, gens, decay)
        return state.replace(
            step=state.step + 1,
            params={**gens, **discs},
            opt={"gens": gens_opt, "discs": discs_opt},
            ema=ema,
            aux=pools,
        ), {**metrics, **judged}

    def plan(step: int) -> Plan:
        return Plan(config.batch_size, config.shape[:2])

    # --- verbs ---

    def whole(images):
        """The images, reflected to sides that the generators take."""
        height, width = images.shape[1:3]
        short = [-size % multiple(config) for size in (height, width)]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in short), (0, 0)]
        return (
            jnp.pad(images, pads, mode="reflect" if min(height, width) > max(short) else "edge")
            if any(short)
            else images
        )

    def network(weights: Weights, direction: str) -> dict[str, Any]:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is a2b or b2a, not {direction!r}")
        return {"params": weights["params"][f"gen_{direction}"]}

    @jax.jit(static_argnames="direction")
    def translate(weights: Weights, images, direction: str = "a2b", statistics: Any = None):
        given = {} if statistics is None else {"instance": statistics}
        padded = whole(images)
        translated = generator.apply({**network(weights, direction), **given}, padded)
        (height, width), corner = (
            images.shape[1:3],
            [(padded.shape[i] - images.shape[i]) // 2 for i in (1, 2)],
        )
        return translated[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]

    @jax.jit(static_argnames="direction")
    def statistics(weights: Weights, image, direction: str = "a2b"):
        return generator.apply(network(weights, direction), whole(image), mutable=["instance"])[1][
            "instance"
        ]

    @jax.jit(static_argnames="direction")
    def cycle(weights: Weights, images, direction: str = "a2b"):
        other = DIRECTIONS[1 - DIRECTIONS.index(direction)]
        return translate(weights, translate(weights, images, direction), other)

    @jax.jit(static_argnames="side")
    def discriminate(weights: Weights, images, side: str = "b"):
        return judge(weights["params"][f"disc_{side}"], images)

    def preview(weights: Weights, key, batch: Batch):
        sheets = {}
        for way, other, name in (("a2b", "b2a", "images"), ("b2a", "a2b", "images_b")):
            images = batch[name][:16]
            there = translate(weights, images, way)
            back = translate(weights, there, other)
            sheets[way] = jnp.concatenate([images, there, back], axis=2)
        return sheets

    parts = None if config.network == "affine" else statistics
    return CycleGAN(config, init, step, plan, preview, translate, parts, cycle, discriminate)
