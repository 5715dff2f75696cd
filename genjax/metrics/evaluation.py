"""`evaluate(real, fake, metrics)`: every number with what it takes to compare it with another one."""

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax import __version__
from genjax.errors import InputError
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

FEW = 2048  # images below which a Frechet distance is mostly its bias
WIDE = 6000  # features of more images than that, whose matrix root takes minutes
MOST_DRAWS = 1000
SPLITS = 10  # of the inception score, as published


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Values by name, and how they came about. Two of them compare only where all that follows is equal but `real`, `fake` and `spread`."""

    values: dict[str, float]  # means over draws
    spread: dict[str, float]  # standard deviations over draws; empty for one draw
    extractor: str
    digest: str  # SHA-256 of the extractor's weights
    protocol: str
    real: str
    fake: str
    real_count: int  # 0: of statistics that do not say
    fake_count: int
    split: str
    fake_split: str
    seed: int
    draws: int  # a run draws its images anew, of seeds from `seed` on; a folder is one draw
    genjax: str  # version
    real_fingerprint: str  # SHA-256 of the content, or of what it is drawn from
    fake_fingerprint: str  # of the first draw
    real_weights: str  # of a run: SHA-256 of its model.safetensors, or with `step` of the checkpoint's arrays; else empty
    fake_weights: str
    step: int | None  # of a run: the checkpoint; None: the weights that training ended with
    truncation: float
    subset_sizes: dict[
        str, list[int]
    ]  # by name of a mean over subsets: images of each set in one (of the score: of the fake set)

    def as_json(self) -> str:
        """One line of JSON; a value that is infinite or undefined is null, for JSON has no such numbers."""

        def plain(x: Any) -> Any:
            if isinstance(x, dict):
                return {name: plain(each) for name, each in x.items()}
            return None if isinstance(x, float) and not math.isfinite(x) else x

        return json.dumps(
            {"software": outputs.MARK} | plain(dataclasses.asdict(self)), allow_nan=False
        )


class Context(NamedTuple):
    extractor: Extractor
    ddof: int
    seed: int
    subset_sizes: dict[str, list[int]]  # the metrics put theirs in


class Metric(NamedTuple):
    taps: tuple[
        str, ...
    ]  # "logits" stands for those that the extractor's inception score is defined over
    against: Callable[
        [Any, Context], Callable[[Features], dict[str, float]]
    ]  # of the real set, once; then of each fake one
    moments: bool = False  # `against` is of the real set's Moments, else of its Features


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
    """Measure `fake` against `real`, each an array [n, h, w, c] (uint8, or float in [-1, 1]), a SPEC as of `--data`, or a run's folder.

    `metrics`: names of METRICS. `extractor`: a name of extractors.TABLE, whose weights are `weights` or in GENJAX_WEIGHTS, or an Extractor,
    whose protocol it then is (of a function of one's own, `protocol` says the covariances' alone).
    `count` images of the fake set (of a run: the protocol's number if not given), `real_count` of the real one (all). A run is drawn from
    `draws` times, 3 if not given, with its last weights or the checkpoint of `step`; a real SPEC is then brought to its images' shape, and its
    classes are drawn as often as they are there. `real` may also be a .npz of statistics (`statistics`), for Frechet distances; `save_stats` gets
    the bytes of one of the real set. Images of a folder, zip or tfds set may be of several sizes if the extractor resizes them.
    Features of the real set are kept on disk, those of the other one until the evaluation is done, so that a killed one goes on.
    Of copies, density and coverage count as their package prdc does (`manifold_scores`). Raises InputError.
    """
    metrics = _names(metrics, extractor)
    draws = (3 if sets.is_run(fake) else 1) if draws is None else draws
    if not 1 <= draws <= MOST_DRAWS or (draws > 1 and not sets.is_run(fake)):
        raise InputError(f"--draws {draws}: from 1 to {MOST_DRAWS}, and more than 1 only of a run")
    if not 0 <= seed <= 2**32 - draws:
        raise InputError(f"--seed {seed}: from 0 to {2**32 - draws}")
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: at least 1")
    if isinstance(extractor, str):
        extractor = extractors.extractor(extractor, weights, protocol=protocol)
    rules = protocols.protocol(extractor.protocol or protocol)
    taps = tuple(
        dict.fromkeys(_tap(extractor, tap) for name in metrics for tap in METRICS[name].taps)
    )

    # The sets, which are only listed and looked at yet
    given = (
        _statistics(real, real_count, metrics, extractor, rules)
        if statistics.is_file(real)
        else None
    )
    if given:
        real = sets.Images(given.name, given.count, given.fingerprint, lambda start=0: iter(()))
    truth, drawn = sets.open_pair(
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
    fewest = min(images.count for images in (truth, drawn[0]) if images.count)
    _warn(fewest, metrics, features.width(extractor, drawn[0].shape) if drawn[0].shape else None)

    # The real set once, then each draw
    context, rows = Context(extractor, rules.ddof, seed, {}), []
    found = (
        features.kept(truth, extractor, taps, batch_size=batch_size, track=track)
        if given is None
        else {}
    )
    moments = functools.cache(
        lambda: given.moments if given else frechet.moments(found["features"])
    )
    measures, temporary = {}, [truth] if truth.weights else []
    for name in metrics:
        reference = _named(name, moments) if METRICS[name].moments else found
        measures[name] = _named(name, METRICS[name].against, reference, context)
    for images in drawn:
        once = bool(images.weights) or not features.complete(images, extractor, taps)
        made = features.kept(images, extractor, taps, batch_size=batch_size, track=track)
        rows.append({})
        for name, measure in measures.items():
            rows[-1] |= _named(name, measure, made)
        temporary += [images] if once else []
    for images in (
        temporary
    ):  # not before all draws are measured: the same command goes on where a killed one was
        features.forget(images, extractor, taps)
    if save_stats is not None:
        save_stats(statistics.as_npz(moments(), extractor, rules.name))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Evaluation(
        values={name: float(column.mean()) for name, column in columns.items()},
        spread={name: float(column.std(ddof=1)) for name, column in columns.items()}
        if draws > 1
        else {},
        extractor=extractor.name,
        digest=extractor.digest,
        protocol=rules.name,
        real=truth.name,
        fake=drawn[0].name,
        real_count=truth.count,
        fake_count=drawn[0].count,
        split=split,
        fake_split=fake_split,
        seed=seed,
        draws=draws,
        genjax=__version__,
        real_fingerprint=truth.fingerprint,
        fake_fingerprint=drawn[0].fingerprint,
        real_weights=truth.weights,
        fake_weights=drawn[0].weights,
        step=step,
        truncation=truncation,
        subset_sizes=context.subset_sizes,
    )


def _names(metrics: Sequence[str], extractor: str | Extractor) -> list[str]:
    """The metrics by their names in METRICS: `fid` is `fd` with the Inception. Raises InputError."""
    names = []
    for name in metrics:
        if name == "fid" and (
            extractor if isinstance(extractor, str) else extractor.frechet_name
        ) in ("inception", "fid"):
            name = "fd"
        if name not in METRICS:
            fid = (
                "; fd is the Frechet distance of any extractor, fid that of the inception"
                if name == "fid"
                else ""
            )
            raise InputError(f"--metrics {name}: of {', '.join(METRICS)}{fid}")
        names.append(name)
    if not names:
        raise InputError(f"--metrics: some of {', '.join(METRICS)}")
    return list(dict.fromkeys(names))


def _statistics(
    real: Any, count: int | None, metrics: Sequence[str], extractor: Extractor, rules: Protocol
) -> Statistics:
    """The file's, if these metrics need no more than them. Raises InputError."""
    if others := [name for name in metrics if not METRICS[name].moments]:
        enough = ", ".join(name for name in METRICS if METRICS[name].moments)
        raise InputError(
            f"--metrics {','.join(others)}: of the features themselves, and {real} holds only their mean and covariance; of {enough}"
        )
    if count is not None:
        raise InputError(
            f"--real-n {count}: {real} holds statistics and no images to choose from; leave it out"
        )
    width = features.width(extractor, (64, 64, 3)) if extractor.resized else None
    return statistics.read(real, extractor, rules.name, rules.ddof, width)


def _warn(fewest: int, metrics: Sequence[str], width: int | None) -> None:
    """Say, before hours of work, what a Frechet distance of so few images, or of such wide features, will be like."""
    if fewest < FEW and "fd" in metrics:
        warnings.warn(
            f"a Frechet distance of {fewest} images is biased upwards; use {FEW} or more, fd_infinity or kid",
            stacklevel=3,
        )
    if (
        width is not None
        and WIDE < width <= fewest
        and any(METRICS[name].moments for name in metrics)
    ):
        warnings.warn(
            f"a Frechet distance over {width} numbers an image takes many minutes; of fewer images than that it takes seconds",
            stacklevel=3,
        )


def distance_to(
    real: Any, extractor: Extractor, track: Track = lambda batches, *_: batches
) -> Callable[[Iterable[np.ndarray], int], float]:
    """A function of batches of images, uint8, and their number that gives their Frechet distance to `real`: what training measures itself by.

    The features of `real` are made when it is first called, shown by `track`.
    """
    ddof = protocols.protocol(extractor.protocol).ddof if extractor.protocol else 1

    @functools.cache
    def truth():
        return frechet.moments(
            features.kept(sets.open_set(real), extractor, ("features",), track=track)["features"]
        )

    def measure(batches, count):
        found = features.extract(
            sets.Images("samples", count, "", lambda start=0: iter(batches)), extractor
        )
        return frechet.frechet_distance(truth(), frechet.moments(found["features"]), ddof)

    return measure


def _named(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """What a metric's function gives; what it refuses is an InputError of that name."""
    try:
        return work(*arguments)
    except ValueError as error:
        raise InputError(f"--metrics {name}: {error}") from None


def _tap(extractor: Extractor, tap: str) -> str:
    """Where an extractor has a tap. The Inception's score is taken without the last layer's bias. Raises InputError."""
    if tap == "logits" and "logits_unbiased" in extractor.taps:
        return "logits_unbiased"
    if tap not in extractor.taps:
        raise InputError(
            f"--extractor {extractor.name}: has no {tap}, which one of the metrics needs"
        )
    return tap


# --- the table: of the real set and the context a function of a fake set -------------------------------------------------

Measure = Callable[[Features], dict[str, float]]


def _frechet(truth: Moments, context: Context) -> Measure:
    name = context.extractor.frechet_name
    return lambda fake: {
        name: frechet.frechet_distance(truth, frechet.moments(fake["features"]), ddof=context.ddof)
    }


def _frechet_infinity(truth: Moments, context: Context) -> Measure:
    name = f"{context.extractor.frechet_name}_infinity"

    def measure(fake):
        found = frechet.frechet_infinity(truth, fake["features"], context.seed, ddof=context.ddof)
        return {name: found.value, f"{name}_residual": found.residual}

    return measure


def _kernel(real: Features, context: Context) -> Measure:
    name = context.extractor.frechet_name.replace("fid", "kid").replace("fd", "kd")

    def measure(fake):
        found = kid.kernel_distance(real["features"], fake["features"], context.seed)
        context.subset_sizes[name] = list(found.subset_sizes)
        return {name: found.mean, f"{name}_std": found.std}

    return measure


def _manifold(real: Features, context: Context) -> Measure:
    return lambda fake: prdc.manifold_scores(real["features"], fake["features"])._asdict()


def _inception_score(real: Features, context: Context) -> Measure:
    name = (
        "inception_score"
        if context.extractor.frechet_name == "fid"
        else f"class_score_{context.extractor.name}"
    )

    def measure(fake):
        logits = fake[_tap(context.extractor, "logits")]
        found = scores.inception_score(logits, context.seed, splits=SPLITS)
        context.subset_sizes[name] = [len(logits) // SPLITS]
        return {name: found.mean, f"{name}_std": found.std}

    return measure


def _classes(real: Features, context: Context) -> Measure:
    def histogram(found):
        logits = found[_tap(context.extractor, "logits")]
        return scores.class_histogram(np.argmax(logits, 1), logits.shape[1])

    truth = histogram(real)

    def measure(fake):
        found = scores.histogram_distance(histogram(fake), truth)
        return {"classes_total_variation": found.total_variation, "classes_kl": found.kl}

    return measure


def _vendi(real: Features, context: Context) -> Measure:
    truth = scores.vendi_score(real["features"])
    return lambda fake: {"vendi": scores.vendi_score(fake["features"]), "vendi_real": truth}


def _copies(real: Features, context: Context) -> Measure:
    """Half of the real images as the training set, the other half as the baseline of how near an unseen image is."""
    order = np.random.default_rng(context.seed).permutation(len(real["features"]))
    known, unseen = (real["features"][np.sort(part)] for part in np.array_split(order, 2))

    def measure(fake):
        ratio = neighbours.nearest_neighbours(fake["features"], known, held_out=unseen).ratio
        assert ratio is not None
        return {
            "nearest_ratio": float(np.median(ratio)),
            "nearest_ratio_lowest": float(ratio.min()),
        }

    return measure


METRICS = {
    "fd": Metric(
        ("features",), _frechet, moments=True
    ),  # "fid" in the result only of the Inception with the published weights
    "fd_infinity": Metric(("features",), _frechet_infinity, moments=True),
    "kid": Metric(("features",), _kernel),
    "prdc": Metric(("features",), _manifold),  # precision, recall, density, coverage
    "is": Metric(("logits",), _inception_score),
    "classes": Metric(("logits",), _classes),
    "vendi": Metric(("features",), _vendi),
    "nearest": Metric(("features",), _copies),
}
