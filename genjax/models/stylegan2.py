"""StyleGAN2. Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv 1912.04958).

A mapping network turns latents z into styles w; the synthesis network draws an image from a constant, each of its convolutions scaled
by a style. Two penalties are lazy: of the discriminator's slope (R1), and of uneven path lengths of the synthesis network.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genjax import core, losses
from genjax.core import Batch, Metrics, Plan, State, Weights
from genjax.errors import InputError
from genjax.models.gan import diversity
from genjax.nn import augment, layers, ops

GEN_NETWORKS = ("skip", "resnet", "orig")
DISC_NETWORKS = ("resnet", "skip", "orig")
NOISES = ("const", "random", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    shape: tuple[int, int, int] = (
        256,
        256,
        3,
    )  # height, width, channels: from the data; the sides some a x b times a power of 2
    num_labels: int = 0  # classes the data has: from the data as well
    conditional: bool = False  # model p(x | label)
    latent_size: int = 512  # dimensions of z
    style_size: int = 512  # dimensions of w
    mapping_layers: int = (
        8  # of the mapping network (2 for small data sets, Karras et al. 2020b, arXiv 2006.06676)
    )
    disc_mapping_layers: int = 8  # of what maps the discriminator's labels
    mapping_rate: float = 0.01  # learning rate of the mapping network, as a share
    gen_network: str = (
        "skip"  # skip (sums of RGB images) | resnet | orig (RGB at the end): figure 7
    )
    disc_network: str = "resnet"  # resnet | skip | orig
    channels: int = 32768  # channels at a resolution are this over its side (over 4 * 2^i, where the first is not 4x4) ...
    max_channels: int = 512  # ... and at most these
    taps: tuple[int, ...] = (1, 3, 3, 1)  # of the filter of all resampling
    group_size: int = (
        4  # images that the minibatch standard deviation is taken over, of the global batch
    )
    augment: str = ""  # of all that the discriminator sees: a preset of ADA (bgc, see augment.PRESETS), "" for none
    augment_p: float = 0.0  # probability of each of its transformations, for good; 0: it follows how far D overfits
    augment_target: float = 0.6  # mean sign of the logits of real images that it then aims at
    augment_kimg: float = 500.0  # thousand images in which it could go from 0 to 1
    style_mixing: float = 0.9  # share of images whose later layers have the style of another latent
    r1: float = 10.0  # gamma: gamma / 2 |grad D|^2 on real images
    r1_every: int = 16  # steps from one R1 step to the next, which weighs as many times more
    path_weight: float = 2.0  # of the path length penalty; 0: none
    path_every: int = 4  # steps from one to the next, which weighs as many times more
    path_shrink: int = 2  # its batch is smaller by this
    path_decay: float = 0.01  # share of the new lengths in their running mean
    style_decay: float = 0.995  # of the running mean of w, to which truncation moves styles
    learning_rate: float = 2e-3  # Adam's, of both networks
    adam_b1: float = 0.0  # Adam's first decay
    adam_b2: float = 0.99  # Adam's second decay
    ema_half_life_images: float = (
        10_000.0  # images after which an old weight counts half in the average that is sampled from
    )
    ema_ramp: float = 0.05  # the half-life is at most this share of the images trained on
    batch_size: int = 32  # images a step, over all devices
    accumulate: int = 1  # slices that a batch is cut into, each with groups of its own: nearly the same gradient in less memory
    freeze_disc: int = 0  # layers of the discriminator, from the image on, that stay as they are (FreezeD, Mo et al. 2020)
    dtype: str = "float32"  # float32 | bfloat16, of the highest resolutions; parameters, RGB sums, logits and losses are float32
    narrow: int = 4  # how many resolutions those are
    clamp: float = 256.0  # with bfloat16, what activations are held within


class StyleGAN2(NamedTuple):
    """What `recipe(config)` returns. Weights are `core.weights(state)` or `genjax.load(...)`'s; images float32 [n, h, w, c].

    A conditional model takes `labels`, int32 [n]; without them `sample` takes each class in turn. Styles are [n, layers, size], one for each
    layer. `truncation` moves the first `truncation_cutoff` styles (all, if None) to their mean, which they are at 0. `noise` is "const" (the
    same for all images), "random" (needs `key`) or "none". Of the logged metrics, `health/overfitting` is the mean sign of the logits of real
    images: near 1, the discriminator knows them by heart.
    """

    config: Config
    init: Callable  # (key) -> State
    step: Callable  # (state, batch, key, plan) -> (State, metrics)
    plan: Callable  # (step) -> Plan
    preview: Callable  # (weights, key, batch) -> {"samples", "truncated": images}
    lazy: dict  # {"path", "r1": (state, batch, key, plan) -> (State, metrics)}: the penalties, which `step` makes first where they are due
    sample: Callable  # (weights, key, n, labels=None, truncation=1.0, truncation_cutoff=None, noise="const") -> images in [-1, 1]
    mapping: Callable  # (weights, latents, labels=None, truncation=1.0, truncation_cutoff=None) -> styles
    synthesis: Callable  # (weights, styles, noise="const", key=None) -> images, not clipped
    style_mix: Callable  # (weights, rows, columns, layers) -> [r, c, h, w, ch]: rows' styles, in `layers` (slice, indices) columns'
    interpolate: Callable  # (weights, first, second, count, labels=None, space="z", truncation=1.0) -> [n, count, h, w, c], of latents
    discriminate: Callable  # (weights, images, labels=None) -> logits [n], high for real


# --- networks ------------------------------------------------------------------------------------------------------------


def sizes(config: Config) -> list[tuple[int, int]]:
    """Heights and widths of the levels, from the constant to the image: halved as long as both sides are even and at least 8."""
    found = [config.shape[:2]]
    while all(side % 2 == 0 and side >= 8 for side in found[0]):
        found.insert(0, (found[0][0] // 2, found[0][1] // 2))
    return found


def features(config: Config, level: int) -> int:
    return max(1, min(config.channels // 2 ** (level + 2), config.max_channels))


def path_batch(config: Config) -> int:
    return max(config.accumulate, config.batch_size // config.path_shrink)


def num_styles(config: Config) -> int:
    return 2 * len(sizes(config))


def _dtype(config: Config, level: int) -> jnp.dtype:
    return jnp.dtype(
        config.dtype if level >= max(1, len(sizes(config)) - config.narrow) else "float32"
    )


def _clamp(config: Config) -> float | None:
    return config.clamp if config.dtype != "float32" else None


class Mapping(nn.Module):
    """Latents [n, latent_size] (of the discriminator: None) and labels one-hot [n, classes] -> styles [n, size]."""

    config: Config
    size: int
    depth: int

    @nn.compact
    def __call__(self, z, labels):
        parts = [] if z is None else [ops.second_moment_normalized(z)]
        if labels.shape[-1]:
            parts.append(
                ops.second_moment_normalized(layers.EqualizedDense(self.size, name="embed")(labels))
            )
        x = jnp.concatenate(parts, axis=-1)
        for i in range(self.depth):
            x = layers.leaky(
                layers.EqualizedDense(self.size, rate=self.config.mapping_rate, name=f"dense_{i}")(
                    x
                )
            )
        return x


class StyledConv(nn.Module):
    """x [n, h, w, c] and a style [n, size] -> [n, h', w', features]: modulated convolution, noise, bias, leaky ReLU of this gain.

    `noise` is [n, h', w', 1], or True: the layer's own, the same for all images, or False: none.
    """

    config: Config
    features: int
    up: bool
    gain: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, style, noise):
        scales = layers.EqualizedDense(x.shape[-1], bias_start=1.0, name="style")(style)
        conv = layers.ModulatedConv(
            self.features, up=self.up, taps=self.config.taps, dtype=self.dtype, name="conv"
        )
        x = conv(x, scales)
        strength = self.param("noise_strength", nn.initializers.zeros, (), jnp.float32)
        shape = (1, *x.shape[1:3], 1)
        const = self.variable(
            "noise", "const", lambda: jax.random.normal(self.make_rng("params"), shape)
        )
        if noise is not False:
            x += (strength * (const.value if noise is True else noise)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return layers.leaky(
            x + bias.astype(x.dtype).reshape(1, 1, 1, -1), self.gain, _clamp(self.config)
        )


class ToRGB(nn.Module):
    """x [n, h, w, c] and a style [n, size] -> an image [n, h, w, channels], float32."""

    config: Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, style):
        channels, clamp = self.config.shape[2], _clamp(self.config)
        scales = layers.EqualizedDense(x.shape[-1], bias_start=1.0, name="style")(style)
        x = layers.ModulatedConv(
            channels, kernel=1, demodulate=False, dtype=self.dtype, name="conv"
        )(x, scales)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x = x + bias.astype(x.dtype).reshape(1, 1, 1, -1)
        return (x if clamp is None else jnp.clip(x, -clamp, clamp)).astype(jnp.float32)


class Synthesis(nn.Module):
    """Styles [n, layers, size] -> images [n, h, w, channels], float32. `noise`: const | random (rng "noise") | none. Figures 2c and 7.

    A level's RGB image is made with the style of the next level's first convolution.
    """

    config: Config

    @nn.compact
    def __call__(self, styles, noise="const"):
        config, levels = self.config, sizes(self.config)
        residual = config.gen_network == "resnet"
        start = self.param(
            "const", nn.initializers.normal(1.0), (1, *levels[0], features(config, 0)), jnp.float32
        )
        x = jnp.broadcast_to(start, (len(styles), *start.shape[1:])).astype(_dtype(config, 0))
        shapes = [
            levels[0],
            *(size for size in levels[1:] for _ in range(2)),
        ]  # of the convolutions, each of which has noise
        noises = [noise == "const"] * len(shapes)
        if noise == "random":  # one draw for all of them: each would be compiled for seconds
            ends = list(itertools.accumulate(map(math.prod, shapes)))
            drawn = jax.random.normal(self.make_rng("noise"), (len(styles), ends[-1]))
            parts = jnp.split(drawn, ends[:-1], axis=1)
            noises = [
                part.reshape(-1, *shape, 1) for part, shape in zip(parts, shapes, strict=True)
            ]
        image, index = None, 0
        for level in range(len(levels)):
            size, dtype, before = features(config, level), _dtype(config, level), x
            gain = (
                1.0 if residual and level else 2**0.5
            )  # two branches add up to the variance of one
            if level:
                x = StyledConv(config, size, True, 2**0.5, dtype, name=f"up_{level}")(
                    x, styles[:, index], noises[index]
                )
                index += 1
            x = StyledConv(config, size, False, gain, dtype, name=f"conv_{level}")(
                x, styles[:, index], noises[index]
            )
            index += 1
            if residual and level:
                skip = layers.EqualizedConv(
                    size, kernel=1, use_bias=False, dtype=dtype, name=f"skip_{level}"
                )(before)
                x += ops.upsample(skip, config.taps) * jnp.asarray(0.5**0.5, dtype)
            if config.gen_network == "skip" or level == len(levels) - 1:
                rgb = ToRGB(config, dtype, name=f"rgb_{level}")(x, styles[:, index])
                image = rgb if image is None else ops.upsample(image, config.taps) + rgb
        return image


class Discriminator(nn.Module):
    """Images [n, h, w, channels] and labels one-hot [n, classes] -> logits [n], float32. Figure 7; its end is Karras et al. 2018's, table 2.

    `group`: images that are compared with each other, by default as the Config has it.
    """

    config: Config

    @nn.compact
    def __call__(self, images, labels, group: int | None = None):
        config, levels = self.config, sizes(self.config)
        clamp, x, image = _clamp(config), None, images

        def conv(x, size, name, gain=2**0.5, dtype=jnp.float32, **parts):
            y = layers.EqualizedConv(size, taps=config.taps, dtype=dtype, name=name, **parts)(x)
            return layers.leaky(y, gain, clamp)

        def enter(x, level, dtype=jnp.float32):
            """What a level works on: the first sees the image, of a network with skips every one."""
            if x is not None and config.disc_network != "skip":
                return x.astype(dtype)
            seen = conv(image, features(config, level), f"rgb_{level}", dtype=dtype, kernel=1)
            return seen if x is None else x.astype(dtype) + seen

        for level in reversed(range(1, len(levels))):
            size, below, dtype = (
                features(config, level),
                features(config, level - 1),
                _dtype(config, level),
            )
            x = enter(x, level, dtype)
            if config.disc_network == "skip":
                image = ops.downsample(image, config.taps)
            before, gain = x, 1.0 if config.disc_network == "resnet" else 2**0.5
            x = conv(x, size, f"conv_{level}", dtype=dtype)
            x = conv(x, below, f"down_{level}", gain, dtype, down=True)
            if config.disc_network == "resnet":
                skip = layers.EqualizedConv(
                    below,
                    kernel=1,
                    down=True,
                    taps=config.taps,
                    use_bias=False,
                    dtype=dtype,
                    name=f"skip_{level}",
                )
                x += skip(before) * jnp.asarray(0.5**0.5, dtype)
        size = features(config, 0)
        x = enter(x, 0)
        x = jnp.concatenate([x, ops.minibatch_stddev(x, group or config.group_size)], axis=-1)
        x = conv(x, size, "last_conv").reshape(len(x), -1)
        x = layers.leaky(layers.EqualizedDense(size, name="last_dense")(x))
        if not labels.shape[-1]:
            return layers.EqualizedDense(1, name="logits")(x)[:, 0]
        embedded = Mapping(config, size, config.disc_mapping_layers, name="mapping")(None, labels)
        return jnp.sum(layers.EqualizedDense(size, name="logits")(x) * embedded, axis=1) / size**0.5


def disc_layers(config: Config) -> list[str]:
    """The discriminator's layers, from the image on to the last convolution."""
    found, top, network = [], len(sizes(config)) - 1, config.disc_network
    for level in range(top, -1, -1):
        kinds = ["rgb"] if level == top or network == "skip" else []
        kinds += ["conv", "down"] if level else []
        kinds += ["skip"] if level and network == "resnet" else []
        found += [f"{kind}_{level}" for kind in kinds]
    return [*found, "last_conv"]


# --- the recipe ----------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raise InputError, naming the option, on a Config that means nothing."""
    core.check_numbers(config)
    demand = functools.partial(core.demand, config)
    demand(config.gen_network in GEN_NETWORKS, "gen_network", f"one of {', '.join(GEN_NETWORKS)}")
    demand(
        config.disc_network in DISC_NETWORKS, "disc_network", f"one of {', '.join(DISC_NETWORKS)}"
    )
    demand(config.dtype in ("float32", "bfloat16"), "dtype", "one of float32, bfloat16")
    demand(
        config.augment in ("", *augment.PRESETS), "augment", f"one of {', '.join(augment.PRESETS)}"
    )
    positive = (
        "latent_size",
        "style_size",
        "channels",
        "max_channels",
        "group_size",
        "r1_every",
        "path_every",
        "path_shrink",
    )
    for field in (*positive, "mapping_layers", "batch_size", "accumulate"):
        demand(getattr(config, field) >= 1, field, "at least 1")
    for field in (
        "disc_mapping_layers",
        "r1",
        "path_weight",
        "ema_half_life_images",
        "narrow",
        "freeze_disc",
    ):
        demand(getattr(config, field) >= 0, field, "0 or more")
    demand(config.augment_target <= 1, "augment_target", "a mean of signs, at most 1")
    demand(
        config.taps == config.taps[::-1] and sum(config.taps) > 0,
        "taps",
        "symmetric, such as 1 3 3 1",
    )
    for field in ("learning_rate", "mapping_rate", "ema_ramp", "clamp", "augment_kimg"):
        demand(getattr(config, field) > 0, field, "more than 0")
    for field in ("adam_b1", "adam_b2", "style_decay"):
        demand(0 <= getattr(config, field) < 1, field, "from 0 to below 1")
    for field in ("style_mixing", "path_decay", "augment_p"):
        demand(0 <= getattr(config, field) <= 1, field, "from 0 to 1")
    demand(
        not config.conditional or config.num_labels > 0,
        "conditional",
        "needs data with labels (class folders, or a labels array)",
    )
    whole = (
        config.batch_size % config.accumulate == 0 and path_batch(config) % config.accumulate == 0
    )
    demand(
        whole,
        "accumulate",
        f"must divide the batch of {config.batch_size} and that of the path lengths, {path_batch(config)}",
    )
    some = config.batch_size // config.accumulate
    advice = f"{'over --model.accumulate ' if config.accumulate > 1 else ''}a multiple of --model.group-size {config.group_size}, or less"
    demand(some % min(config.group_size, some) == 0, "batch_size", advice)
    if min(config.shape[:2]) < 4:
        raise InputError(
            f"--resolution {config.shape[0]} {config.shape[1]}: each side must be at least 4"
        )


def recipe(config: Config) -> StyleGAN2:
    """The StyleGAN2 of a Config, as pure functions over weights. Raises InputError on a Config that means nothing."""
    check(config)
    mapper: Any = Mapping(config, config.style_size, config.mapping_layers)
    synthesizer: Any = Synthesis(config)
    discriminator: Any = Discriminator(config)
    loss, count = losses.ADVERSARIAL["non_saturating"], num_styles(config)
    label_size = config.num_labels if config.conditional else 0
    one_hot = functools.partial(layers.one_hot_labels, size=label_size)
    averages = config.ema_half_life_images > 0

    def adam(lazy: float, every: int):
        """A lazy penalty takes every / (every + 1) of the steps from the loss: rate and decays to that power. Appendix B."""
        share = every / (every + 1) if lazy else 1.0
        return optax.adam(
            config.learning_rate * share,
            b1=config.adam_b1**share,
            b2=config.adam_b2**share,
            eps=1e-8,
        )

    gen_tx, disc_tx = adam(config.path_weight, config.path_every), adam(config.r1, config.r1_every)

    @jax.jit
    def init(key) -> State:
        map_key, synthesis_key, disc_key = jax.random.split(key, 3)
        labels = jnp.zeros((1, label_size))
        mapping = mapper.init(map_key, jnp.zeros((1, config.latent_size)), labels)
        synthesis = synthesizer.init(synthesis_key, jnp.zeros((1, count, config.style_size)))
        params = {
            "gen": {"mapping": mapping["params"], "synthesis": synthesis["params"]},
            "disc": discriminator.init(disc_key, jnp.zeros((1, *config.shape)), labels)["params"],
        }
        opt = {"gen": gen_tx.init(params["gen"]), "disc": disc_tx.init(params["disc"])}
        stats = {"gen": {"noise": synthesis["noise"], "mean_style": jnp.zeros(config.style_size)}}
        aux = {"path_length": jnp.float32(0)}
        if config.augment:
            aux["augment"] = augment.controller_start(config.augment_p)
        return core.new_state(params, opt, stats, {"gen": params["gen"]} if averages else {}, aux)

    def map_styles(params, latents, labels):
        return mapper.apply({"params": params["mapping"]}, latents, labels)

    def draw(params, stats, styles, noise, key=None):
        rngs = {"noise": key} if key is not None else {}
        return synthesizer.apply(
            {"params": params["synthesis"], "noise": stats["noise"]}, styles, noise, rngs=rngs
        )

    def judge(params, images, labels):
        return discriminator.apply({"params": params}, images, labels)

    def trained(params):
        """The discriminator's parameters, of which the frozen ones get no gradient."""
        frozen = disc_layers(config)[: config.freeze_disc]
        return {
            name: jax.lax.stop_gradient(part) if name in frozen else part
            for name, part in params.items()
        }

    def judge_both(params, real, fake, labels):
        """Logits of real and of generated images, in one pass: woven together so that each group is of one kind."""
        n = len(real)
        group = min(config.group_size, n)

        def weave(first, second):
            parts = [x.reshape(group, n // group, *x.shape[1:]) for x in (first, second)]
            return jnp.concatenate(parts, axis=1).reshape(2 * n, *first.shape[1:])

        logits = discriminator.apply(
            {"params": params}, weave(real, fake), weave(labels, labels), group
        )
        return [part.reshape(n) for part in jnp.split(logits.reshape(group, -1), 2, axis=1)]

    def mixed_styles(params, key, n: int, labels):
        """The styles w of n latents [n, size], and those of all layers [n, layers, size], of some from a random layer on another latent's."""
        latent_key, mixing_key = jax.random.split(key)
        if not config.style_mixing:
            z = core.over_devices(jax.random.normal(latent_key, (n, config.latent_size)))
            first = map_styles(params, z, labels)
            return first, jnp.broadcast_to(first[:, None], (n, count, config.style_size))
        z = core.over_devices(jax.random.normal(latent_key, (n, 2, config.latent_size))).reshape(
            2 * n, -1
        )
        first, second = jnp.unstack(
            map_styles(params, z, jnp.repeat(labels, 2, axis=0)).reshape(n, 2, -1), axis=1
        )
        mixing, place = jax.random.uniform(mixing_key, (2, n))
        cut = jnp.where(mixing < config.style_mixing, 1 + jnp.floor(place * (count - 1)), count)
        kept = jnp.arange(count)[None] < cut[:, None]
        return first, jnp.where(kept[..., None], first[:, None], second[:, None])

    def streams(key) -> dict[str, Any]:
        """What the programs of a step draw from."""
        return dict(zip(("step", "r1", "path"), jax.random.split(key, 3), strict=True))

    def seen(state: State, key, images):
        """Images as the discriminator sees them."""
        return (
            augment.augment(key, images, config.augment, state.aux["augment"]["p"])
            if config.augment
            else images
        )

    def descend(tx, loss_fn, params, opt, key, *batch):
        """core.descend, by slices if the Config says so: `loss_fn(params, key, *slice)` gets a key of its own in each."""

        def by_slice(params, keys, *batch):
            return loss_fn(params, keys[0], *batch)

        keys = jax.random.split(key, config.accumulate)
        return core.descend(tx, by_slice, params, opt, (keys, *batch), accumulate=config.accumulate)

    # The lazy penalties, each with a descent of its own: they may be compiled alone.

    def r1(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        def loss_fn(params, key, real, labels):
            slopes = losses.r1(
                lambda images: judge(trained(params), seen(state, key, images), labels), real
            )
            penalty = config.r1 / 2 * jnp.mean(slopes)
            return config.r1_every * penalty, {"penalty/r1": penalty}

        real, labels = batch["images"], one_hot(batch.get("labels"), config.batch_size)
        disc, disc_opt = state.params["disc"], state.opt["disc"]
        disc, disc_opt, metrics = descend(
            disc_tx, loss_fn, disc, disc_opt, streams(key)["r1"], real, labels
        )
        return state.replace(
            params={**state.params, "disc": disc}, opt={**state.opt, "disc": disc_opt}
        ), metrics

    def path(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        mean = state.aux["path_length"]

        def loss_fn(params, key, labels):
            keys = jax.random.split(key, 3)
            _, styles = mixed_styles(params, keys[0], len(labels), labels)
            lengths = losses.path_lengths(
                lambda w: draw(params, state.stats["gen"], w, "random", keys[1]), keys[2], styles
            )
            new_mean = mean + config.path_decay * (jnp.mean(lengths) - mean)
            penalty = config.path_weight * jnp.mean(jnp.square(lengths - new_mean))
            metrics = {"penalty/path": penalty, "health/path_length": jnp.mean(lengths)}
            return config.path_every * penalty, (metrics, new_mean)

        labels = one_hot(batch.get("labels"), config.batch_size)[: path_batch(config)]
        gen, gen_opt = state.params["gen"], state.opt["gen"]
        gen, gen_opt, (metrics, mean) = descend(
            gen_tx, loss_fn, gen, gen_opt, streams(key)["path"], labels
        )
        return state.replace(
            params={**state.params, "gen": gen},
            opt={**state.opt, "gen": gen_opt},
            aux={**state.aux, "path_length": mean},
        ), metrics

    lazy = {"path": path, "r1": r1}

    def step(state: State, batch: Batch, key, plan: Plan) -> tuple[State, Metrics]:
        metrics: Metrics = {}
        for name in plan.due:
            state, terms = lazy[name](state, batch, key, plan)
            metrics |= terms

        real, n, stats = batch["images"], config.batch_size, state.stats["gen"]
        labels, step_key = one_hot(batch.get("labels"), n), streams(key)["step"]

        # Both players on the same latents, noise and augmentation, so that XLA runs the generator forward once for both.
        def generated(params, key, labels):
            keys = jax.random.split(key, 4)
            first, styles = mixed_styles(params, keys[0], len(labels), labels)
            return draw(params, stats, styles, "random", keys[1]), first, keys[2], keys[3]

        def disc_loss(params, key, real, labels):
            fake, _, real_key, fake_key = generated(state.params["gen"], key, labels)
            both = seen(state, real_key, real), seen(state, fake_key, fake)
            real_logits, fake_logits = judge_both(trained(params), *both, labels)
            objective = jnp.mean(losses.discriminator_loss(loss, real_logits, fake_logits))
            gap, signs = jnp.mean(real_logits) - jnp.mean(fake_logits), jnp.sign(real_logits)
            return objective, (
                {
                    "loss/disc": objective,
                    "health/logit_gap": gap,
                    "health/overfitting": jnp.mean(signs),
                },
                signs,
            )

        disc, disc_opt = state.params["disc"], state.opt["disc"]
        disc, disc_opt, (terms, signs) = descend(
            disc_tx, disc_loss, disc, disc_opt, step_key, real, labels
        )
        metrics |= terms

        def gen_loss(params, key, real, labels):
            images, first, _, fake_key = generated(params, key, labels)
            logits = judge(disc, seen(state, fake_key, images), labels)
            objective = jnp.mean(losses.generator_loss(loss, logits))
            terms = {
                "loss/gen": objective,
                "health/saturated": jnp.mean(jnp.float32(jnp.abs(logits) > 5)),
                "health/diversity": diversity(images) / (diversity(real) + 1e-8),
            }
            return objective, (terms, jnp.mean(first, axis=0))

        gen, gen_opt = state.params["gen"], state.opt["gen"]
        gen, gen_opt, (terms, style) = descend(
            gen_tx, gen_loss, gen, gen_opt, step_key, real, labels
        )
        metrics |= terms

        aux = {"path_length": state.aux["path_length"]}
        if config.augment:
            aux["augment"] = state.aux["augment"]
            metrics["health/augment_p"] = aux["augment"]["p"]
            if not config.augment_p:
                parts = {
                    "batch_size": n,
                    "target": config.augment_target,
                    "speed_kimg": config.augment_kimg,
                }
                aux["augment"] = augment.controller_update(
                    aux["augment"], signs, state.step, **parts
                )

        ema = state.ema
        if averages:
            decay = core.ramped_ema_decay(
                state.step, n, config.ema_half_life_images, config.ema_ramp
            )
            ema = {"gen": core.ema(state.ema["gen"], gen, decay)}
        mean_style = core.ema(stats["mean_style"], style, config.style_decay)
        return state.replace(
            step=state.step + 1,
            params={"gen": gen, "disc": disc},
            opt={"gen": gen_opt, "disc": disc_opt},
            stats={"gen": {**stats, "mean_style": mean_style}},
            ema=ema,
            aux=aux,
        ), metrics

    def plan(step: int) -> Plan:
        penalties = (
            ("path", config.path_weight, config.path_every),
            ("r1", config.r1, config.r1_every),
        )
        due = tuple(name for name, weight, every in penalties if weight and step % every == 0)
        return Plan(config.batch_size, config.shape[:2], due)

    # --- verbs ---

    def truncated(weights: Weights, styles, truncation, cutoff: int | None):
        """Styles [n, size], for each layer: [n, layers, size]."""
        mean = weights["stats"]["gen"]["mean_style"][None]
        moved = styles + (1 - truncation) * (mean - styles)
        first = jnp.arange(count)[None, :, None] < (count if cutoff is None else cutoff)
        return jnp.where(first, moved[:, None], styles[:, None])

    @jax.jit(static_argnames="truncation_cutoff")
    def mapping(
        weights: Weights, latents, labels=None, truncation=1.0, truncation_cutoff: int | None = None
    ):
        styles = map_styles(weights["params"]["gen"], latents, one_hot(labels, latents.shape[0]))
        return truncated(weights, styles, truncation, truncation_cutoff)

    @jax.jit(static_argnames="noise")
    def synthesis(weights: Weights, styles, noise: str = "const", key=None):
        if noise not in NOISES or (noise == "random") != (key is not None):
            raise ValueError(
                f"noise is one of {', '.join(NOISES)}, and random takes a key; not {noise!r}"
            )
        return draw(weights["params"]["gen"], weights["stats"]["gen"], styles, noise, key)

    @jax.jit(static_argnames=("n", "truncation_cutoff", "noise"))
    def sample(
        weights: Weights,
        key,
        n: int,
        labels=None,
        truncation=1.0,
        truncation_cutoff: int | None = None,
        noise: str = "const",
    ):
        if labels is None and label_size:
            labels = jnp.arange(n) % label_size
        latents = jax.random.normal(key, (n, config.latent_size))
        styles = mapping(weights, latents, labels, truncation, truncation_cutoff)
        noise_key = jax.random.fold_in(key, 1) if noise == "random" else None
        return jnp.clip(synthesis(weights, styles, noise, noise_key), -1, 1)

    def style_mix(weights: Weights, rows, columns, layers: slice):
        chosen = jnp.zeros(count, bool).at[layers].set(True)[None, None, :, None]
        styles = jnp.where(chosen, columns[None], rows[:, None])
        images = synthesis(weights, styles.reshape(-1, *styles.shape[2:]))
        return jnp.clip(images, -1, 1).reshape(*styles.shape[:2], *images.shape[1:])

    @jax.jit(static_argnames=("count", "space"))
    def interpolate(
        weights: Weights, first, second, count: int, labels=None, space: str = "z", truncation=1.0
    ):
        if space not in ("z", "w"):
            raise ValueError(f"space is z or w, not {space!r}")

        def between(t):
            if space == "z":
                styles = mapping(weights, ops.slerp(first, second, t), labels, truncation)
            else:
                ends = [
                    mapping(weights, latents, labels, truncation) for latents in (first, second)
                ]
                styles = ends[0] + t * (ends[1] - ends[0])
            return jnp.clip(synthesis(weights, styles), -1, 1)

        return jax.vmap(between, out_axes=1)(jnp.linspace(0.0, 1.0, count))

    @jax.jit
    def discriminate(weights: Weights, images, labels=None):
        return judge(weights["params"]["disc"], images, one_hot(labels, images.shape[0]))

    def preview(weights: Weights, key, batch: Batch):
        at_once = math.gcd(64, config.batch_size // config.accumulate)  # no more than a step does
        latents = jax.random.normal(key, (64, config.latent_size))
        labels = jnp.arange(64) % label_size if label_size else None
        parts = jax.tree.map(lambda x: x.reshape(-1, at_once, *x.shape[1:]), (latents, labels))

        def sheet(truncation):
            def some(part):
                latents, labels = jax.tree.map(core.over_devices, part)
                return jnp.clip(
                    synthesis(weights, mapping(weights, latents, labels, truncation)), -1, 1
                )

            return jax.lax.map(some, parts).reshape(64, *config.shape)

        return {"samples": sheet(1.0), "truncated": sheet(0.7)}

    return StyleGAN2(
        config,
        init,
        step,
        plan,
        preview,
        lazy,
        sample,
        mapping,
        synthesis,
        style_mix,
        interpolate,
        discriminate,
    )
