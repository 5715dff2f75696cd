"""`evaluate(real, fake, metrics)`: metrics together with what makes them comparable."""

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from genjax import __version__
from genjax.errors import ConfigError
from genjax.files import outputs
from genjax.metrics import (
    extractors,
    features,
    frechet,
    kid,
    neighbours,
    prdc,
    scores,
    sets,
    statistics,
)
from genjax.metrics.extractors import protocols
from genjax.metrics.extractors.protocols import Protocol
from genjax.metrics.extractors.table import Extractor
from genjax.metrics.features import Features, Track
from genjax.metrics.frechet import Moments
from genjax.metrics.statistics import Statistics

FEW = 2048  # images below which bias dominates a Frechet distance
WIDE = 6000  # features; with more images than that, the matrix root takes minutes
MOST_DRAWS = 1000
SPLITS = 10  # of the inception score, as published

P = ParamSpec("P")
R = TypeVar("R")
Measure = Callable[[Features], dict[str, float]]  # features of a fake set -> values by name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Values of metrics, and how they were computed.

    Two evaluations compare only if all fields from `extractor` on are equal, except
    `real` and `fake`.
    """

    values: dict[str, float]  # means over draws
    spread: dict[str, float]  # standard deviations over draws; empty for one draw
    extractor: str
    digest: str  # SHA-256 of the extractor's weights
    protocol: str
    real: str
    fake: str
    real_count: int  # 0: statistics from a file that does not say
    fake_count: int
    split: str
    fake_split: str
    seed: int
    draws: int  # a run draws new images for each seed from `seed` on; a folder is one draw
    genjax: str  # version
    real_fingerprint: str  # SHA-256 of the content, or of what determines the drawn images
    fake_fingerprint: str  # of the first draw
    # Of a run: SHA-256 of its model.safetensors, or with `step` of the checkpoint's
    # arrays; else empty
    real_weights: str
    fake_weights: str
    step: int | None  # of a run: checkpoint step; None: final weights
    truncation: float
    # Images of each set in a subset (for the inception score: of the fake set), by name
    # of the metric that is a mean over subsets
    subset_sizes: dict[str, list[int]]

    def as_json(self) -> str:
        """Return one line of JSON; values that are infinite or undefined are null."""

        def plain(x: Any) -> Any:
            if isinstance(x, dict):
                return {name: plain(each) for name, each in x.items()}
            return None if isinstance(x, float) and not math.isfinite(x) else x

        fields = {"software": outputs.MARK} | plain(dataclasses.asdict(self))
        return json.dumps(fields, allow_nan=False)


class Context(NamedTuple):
    """What metrics need besides the two sets."""

    extractor: Extractor
    ddof: int
    seed: int
    subset_sizes: dict[str, list[int]]  # written by the metrics


class Metric(NamedTuple):
    """A row of METRICS."""

    taps: tuple[str, ...]  # "logits": those that the extractor's inception score is defined on
    # (real set, context) -> Measure; called once, then its result with each fake set
    against: Callable[[Any, Context], Measure]
    moments: bool = False  # whether `against` takes the real set's Moments, not its Features


def evaluate(
    real: Any,
    fake: Any,
    metrics: Sequence[str] = ("fd", "kid", "prdc"),
    *,
    extractor: str | Extractor = "inception",
    protocol: str = "tf_legacy",
    weights: str | Path | None = None,
    count: int | None = None,
    real_count: int | None = None,
    split: str = "train",
    fake_split: str = "train",
    truncation: float = 1.0,
    step: int | None = None,
    seed: int = 0,
    draws: int | None = None,
    batch_size: int = 64,
    max_bad: float = 0.01,
    save_stats: Callable[[bytes], Any] | None = None,
    track: Track = lambda batches, *_: batches,
) -> Evaluation:
    """Measure `fake` against `real`.

    Each is an array [n, h, w, c] (uint8, or float in [-1, 1]), the SPEC of a data set,
    or the folder of a run, which draws images. Features are cached on disk, those of
    the fake set only until the evaluation is done, so that a killed evaluation resumes.
    For exact copies, density and coverage count as the package prdc does
    (`prdc.manifold_scores`).

    Args:
        real: the real set, or for Frechet distances a .npz of its statistics
            (`statistics`). If `fake` is a run, a SPEC is resized to the shape that it
            draws, and a conditional run draws classes as often as the real set has them
        fake: the generated set
        metrics: names in METRICS
        extractor: name in extractors.TABLE, "pixels", or an Extractor
        protocol: how images are resized and scaled; of an Extractor without a protocol,
            only the definition of the covariances. An Extractor's protocol takes
            precedence
        weights: file of the extractor's weights; None: in the folder that
            GENJAX_WEIGHTS names
        count: images of the fake set; None: all, of a run the number of the protocol
        real_count: images of the real set; None: all
        split: split of a real SPEC
        fake_split: split of a fake SPEC
        truncation: of the images that a run draws
        step: checkpoint step of a run; None: its final weights
        seed: of the images that a run draws, and of every random choice
        draws: number of times that a run is drawn from; None: 3
        batch_size: images per batch of the extractor
        max_bad: share of images of a SPEC that may be unreadable, 0 to 1
        save_stats: called with the content of a .npz of the real set's statistics
        track: shows progress

    Images of a folder, zip or tfds set may be of several sizes if the extractor resizes
    them.

    Raises:
        InputError: a set or the weights cannot be used
        ConfigError: another argument is out of range
    """
    metrics = _names(metrics, extractor)
    draws = (3 if sets.is_run(fake) else 1) if draws is None else draws
    if not 1 <= draws <= MOST_DRAWS or (draws > 1 and not sets.is_run(fake)):
        raise ConfigError(
            "draws", draws, f"must be from 1 to {MOST_DRAWS}, and above 1 only for a run"
        )
    if not 0 <= seed <= 2**32 - draws:
        raise ConfigError("seed", seed, f"must be from 0 to {2**32 - draws}")
    if batch_size < 1:
        raise ConfigError("batch_size", batch_size, "must be at least 1")
    if isinstance(extractor, str):
        extractor = extractors.extractor(extractor, weights, protocol=protocol)
    rules = protocols.protocol(extractor.protocol or protocol)
    needed = (_tap(extractor, tap) for name in metrics for tap in METRICS[name].taps)
    taps = tuple(dict.fromkeys(needed))

    # The sets: listed and checked, but not read yet
    reference = None
    if statistics.is_file(real):
        reference = _statistics(real, real_count, metrics, extractor, rules)
        real = sets.Images(
            reference.name, reference.count, reference.fingerprint, lambda start=0: iter(())
        )
    real_set, fake_sets = sets.open_pair(
        real,
        fake,
        count,
        of_run=rules.samples or 50_000,
        seeds=range(seed, seed + draws),
        real_count=real_count,
        split=split,
        fake_split=fake_split,
        truncation=truncation,
        step=step,
        max_bad=max_bad,
        own_sizes=extractor.resized is not None,
    )
    fewest = min(images.count for images in (real_set, fake_sets[0]) if images.count)
    shape = fake_sets[0].shape
    _warn(fewest, metrics, features.width(extractor, shape) if shape else None)

    # The real set, once
    context = Context(extractor, rules.ddof, seed, {})
    real_features: Features = {}
    if reference is None:
        real_features = features.kept(real_set, extractor, taps, batch_size=batch_size, track=track)

    @functools.cache
    def moments() -> Moments:
        return reference.moments if reference else frechet.moments(real_features["features"])

    measures: dict[str, Measure] = {}
    for name in metrics:
        against = _named(name, moments) if METRICS[name].moments else real_features
        measures[name] = _named(name, METRICS[name].against, against, context)

    # Each draw of the fake set
    rows: list[dict[str, float]] = []
    temporary = [real_set] if real_set.weights else []
    for images in fake_sets:
        if images.weights or not features.complete(images, extractor, taps):
            temporary.append(images)
        fake_features = features.kept(images, extractor, taps, batch_size=batch_size, track=track)
        rows.append({})
        for name, measure in measures.items():
            rows[-1] |= _named(name, measure, fake_features)
    # Only after all draws are measured, so that a killed evaluation resumes
    for images in temporary:
        features.forget(images, extractor, taps)
    if save_stats is not None:
        save_stats(statistics.as_npz(moments(), extractor, rules.name))

    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    spread = {name: float(column.std(ddof=1)) for name, column in columns.items() if draws > 1}
    return Evaluation(
        values={name: float(column.mean()) for name, column in columns.items()},
        spread=spread,
        extractor=extractor.name,
        digest=extractor.digest,
        protocol=rules.name,
        real=real_set.name,
        fake=fake_sets[0].name,
        real_count=real_set.count,
        fake_count=fake_sets[0].count,
        split=split,
        fake_split=fake_split,
        seed=seed,
        draws=draws,
        genjax=__version__,
        real_fingerprint=real_set.fingerprint,
        fake_fingerprint=fake_sets[0].fingerprint,
        real_weights=real_set.weights,
        fake_weights=fake_sets[0].weights,
        step=step,
        truncation=truncation,
        subset_sizes=context.subset_sizes,
    )


def _names(metrics: Sequence[str], extractor: str | Extractor) -> list[str]:
    """The names of the metrics in METRICS; `fid` is `fd` with the Inception."""
    network = extractor if isinstance(extractor, str) else extractor.frechet_name
    accepted = ", ".join(METRICS)
    names = []
    for name in metrics:
        if name == "fid" and network in ("inception", "fid"):
            name = "fd"
        if name not in METRICS:
            hint = ""
            if name == "fid":
                hint = "; fd is the Frechet distance of any extractor, fid that of the inception"
            raise ConfigError("metrics", name, f"must be one of {accepted}{hint}")
        names.append(name)
    if not names:
        raise ConfigError("metrics", None, f"at least one of {accepted} is needed")
    return list(dict.fromkeys(names))


def _statistics(
    real: str | Path,
    count: int | None,
    metrics: Sequence[str],
    extractor: Extractor,
    rules: Protocol,
) -> Statistics:
    """The statistics of a file; ConfigError if the metrics need more than those."""
    if refused := [name for name in metrics if not METRICS[name].moments]:
        accepted = ", ".join(name for name in METRICS if METRICS[name].moments)
        raise ConfigError(
            "metrics",
            ",".join(refused),
            f"needs the features themselves, but {real} holds only their mean and covariance; "
            f"choose from {accepted}",
        )
    if count is not None:
        raise ConfigError(
            "real_count",
            count,
            f"{real} holds statistics and no images to choose from; leave it out",
        )
    width = features.width(extractor, (64, 64, 3)) if extractor.resized else None
    return statistics.read(real, extractor, rules.name, rules.ddof, width)


def _warn(fewest: int, metrics: Sequence[str], width: int | None) -> None:
    """Warn, before hours of work, of a biased or slow Frechet distance."""
    if fewest < FEW and "fd" in metrics:
        warnings.warn(
            f"a Frechet distance of {fewest} images is biased upwards; "
            f"use {FEW} or more, fd_infinity or kid",
            stacklevel=3,
        )
    needs_root = any(METRICS[name].moments for name in metrics)
    if width is not None and WIDE < width <= fewest and needs_root:
        warnings.warn(
            f"a Frechet distance over {width} features per image takes many minutes; "
            "with fewer images than features it takes seconds",
            stacklevel=3,
        )


def distance_to(
    real: Any, extractor: Extractor, track: Track = lambda batches, *_: batches
) -> Callable[[Iterable[np.ndarray], int], float]:
    """Return a function that measures the Frechet distance to `real` during training.

    It takes batches of images, uint8, and their number. The features of `real` are
    computed at its first call; `track` shows their progress.
    """
    ddof = protocols.protocol(extractor.protocol).ddof if extractor.protocol else 1

    @functools.cache
    def real_moments() -> Moments:
        images = sets.open_set(real)
        return frechet.moments(
            features.kept(images, extractor, ("features",), track=track)["features"]
        )

    def measure(batches: Iterable[np.ndarray], count: int) -> float:
        def once(start: int = 0) -> Iterator[np.ndarray]:
            return iter(batches)

        samples = features.extract(sets.Images("samples", count, "", once), extractor)
        moments = frechet.moments(samples["features"])
        return frechet.frechet_distance(real_moments(), moments, ddof)

    return measure


def _named(name: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`work(*args)`; its ValueError becomes a ConfigError that names the metric."""
    try:
        return work(*args, **kwargs)
    except ValueError as error:
        raise ConfigError("metrics", name, str(error)) from None


def _tap(extractor: Extractor, tap: str) -> str:
    """The extractor's name for a tap; ConfigError if it has none.

    The score of the Inception is computed without the bias of the last layer.
    """
    if tap == "logits" and "logits_unbiased" in extractor.taps:
        return "logits_unbiased"
    if tap not in extractor.taps:
        raise ConfigError(
            "extractor", extractor.name, f"has no {tap}, which one of the `metrics` needs"
        )
    return tap


# The functions of the table: (real set, context) -> a function of a fake set


def _frechet(real: Moments, context: Context) -> Measure:
    name = context.extractor.frechet_name

    def measure(fake: Features) -> dict[str, float]:
        moments = frechet.moments(fake["features"])
        return {name: frechet.frechet_distance(real, moments, ddof=context.ddof)}

    return measure


def _frechet_infinity(real: Moments, context: Context) -> Measure:
    name = f"{context.extractor.frechet_name}_infinity"

    def measure(fake: Features) -> dict[str, float]:
        line = frechet.frechet_infinity(real, fake["features"], context.seed, ddof=context.ddof)
        return {name: line.value, f"{name}_residual": line.residual}

    return measure


def _kernel(real: Features, context: Context) -> Measure:
    name = context.extractor.frechet_name.replace("fid", "kid").replace("fd", "kd")

    def measure(fake: Features) -> dict[str, float]:
        distance = kid.kernel_distance(real["features"], fake["features"], context.seed)
        context.subset_sizes[name] = list(distance.subset_sizes)
        return {name: distance.mean, f"{name}_std": distance.std}

    return measure


def _manifold(real: Features, context: Context) -> Measure:
    return lambda fake: prdc.manifold_scores(real["features"], fake["features"])._asdict()


def _inception_score(real: Features, context: Context) -> Measure:
    name = "inception_score"
    if context.extractor.frechet_name != "fid":
        name = f"class_score_{context.extractor.name}"

    def measure(fake: Features) -> dict[str, float]:
        logits = fake[_tap(context.extractor, "logits")]
        score = scores.inception_score(logits, context.seed, splits=SPLITS)
        context.subset_sizes[name] = [len(logits) // SPLITS]
        return {name: score.mean, f"{name}_std": score.std}

    return measure


def _classes(real: Features, context: Context) -> Measure:
    def histogram(outputs: Features) -> np.ndarray:
        logits = outputs[_tap(context.extractor, "logits")]
        return scores.class_histogram(np.argmax(logits, 1), logits.shape[1])

    real_histogram = histogram(real)

    def measure(fake: Features) -> dict[str, float]:
        distance = scores.histogram_distance(histogram(fake), real_histogram)
        return {"classes_total_variation": distance.total_variation, "classes_kl": distance.kl}

    return measure


def _vendi(real: Features, context: Context) -> Measure:
    score = scores.vendi_score(real["features"])
    return lambda fake: {"vendi": scores.vendi_score(fake["features"]), "vendi_real": score}


def _copies(real: Features, context: Context) -> Measure:
    """Half of the real images as training set, the other half as unseen baseline."""
    order = np.random.default_rng(context.seed).permutation(len(real["features"]))
    known, held_out = (real["features"][np.sort(half)] for half in np.array_split(order, 2))

    def measure(fake: Features) -> dict[str, float]:
        ratio = neighbours.nearest_neighbours(fake["features"], known, held_out=held_out).ratio
        assert ratio is not None
        return {
            "nearest_ratio": float(np.median(ratio)),
            "nearest_ratio_lowest": float(ratio.min()),
        }

    return measure


METRICS = {
    # Called "fid" in the result for the Inception with the published weights only
    "fd": Metric(("features",), _frechet, moments=True),
    "fd_infinity": Metric(("features",), _frechet_infinity, moments=True),
    "kid": Metric(("features",), _kernel),
    "prdc": Metric(("features",), _manifold),  # precision, recall, density, coverage
    "is": Metric(("logits",), _inception_score),
    "classes": Metric(("logits",), _classes),
    "vendi": Metric(("features",), _vendi),
    "nearest": Metric(("features",), _copies),
}
