"""`evaluate(real, fake, metrics)`: every number with what it takes to compare it with another one."""

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genjax.errors import InputError
from genjax.metrics import extractors, features, frechet, kernel, manifold, neighbours, protocols, scores, sets
from genjax.metrics.extractors import Extractor
from genjax.metrics.features import Features, Track

FEW = 2048  # images below which a Frechet distance is mostly its bias


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
    real_count: int
    fake_count: int
    split: str
    seed: int
    draws: int  # a run draws its images anew, of seeds from `seed` on; a folder is one draw

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


class Context(NamedTuple):
    extractor: Extractor
    ddof: int
    seed: int


class Metric(NamedTuple):
    taps: tuple[str, ...]  # "logits" stands for those that the extractor's inception score is defined over
    against: Callable[[Features, Context], Callable[[Features], dict[str, float]]]  # of the real set, once; then of each fake one


def evaluate(
    real: Any, fake: Any, metrics: Sequence[str] = ("fd", "kid", "prdc"), *, extractor: str | Extractor = "inception",
    protocol: str = "tf_legacy", weights: str | Path | None = None, count: int | None = None, real_count: int | None = None,
    split: str = "train", fake_split: str = "train", truncation: float = 1.0, step: int | None = None, seed: int = 0,
    draws: int | None = None, batch_size: int = 64, track: Track = lambda batches, *_: batches,
) -> Evaluation:  # fmt: skip
    """Measure `fake` against `real`, each an array [n, h, w, c] (uint8, or float in [-1, 1]), a SPEC as of `--data`, or a run's folder.

    `metrics`: names of METRICS. `extractor`: a name of extractors.TABLE, whose weights are `weights` or in GENJAX_WEIGHTS, or an Extractor,
    whose protocol it then is (of a function of one's own, `protocol` says the covariances' alone).
    `count` images of the fake set (of a run: the protocol's number if not given), `real_count` of the real one (all). A run is drawn from
    `draws` times, 3 if not given, with its last weights or the checkpoint of `step`; a real SPEC is then brought to its images' shape, and its
    classes are drawn as often as they are there. Features of the real set are kept on disk. Raises InputError, for a set of several sizes too:
    protocols resize whole images.
    """
    for name in metrics:
        if name not in METRICS:
            raise InputError(f"--metrics {name}: of {', '.join(METRICS)}")
    if not metrics:
        raise InputError(f"--metrics: some of {', '.join(METRICS)}")
    if isinstance(extractor, str):
        extractor = extractors.extractor(extractor, weights, protocol=protocol)
    rules = protocols.protocol(extractor.protocol or protocol)
    taps = tuple(dict.fromkeys(_tap(extractor, tap) for name in metrics for tap in METRICS[name].taps))
    is_run = sets.is_run(fake)
    draws = (3 if is_run else 1) if draws is None else draws
    if draws < 1 or (draws > 1 and not is_run):
        raise InputError(f"--draws {draws}: at least 1, and more than 1 only of a run")
    truth, drawn = sets.open_pair(
        real, fake, count, of_run=rules.samples or 50_000, seeds=range(seed, seed + draws), real_count=real_count, split=split,
        fake_split=fake_split, truncation=truncation, step=step,
    )  # fmt: skip
    real_features = features.kept(truth, extractor, taps, batch_size=batch_size, track=track)
    context, rows = Context(extractor, rules.ddof, seed), []
    measures = {name: _said(name, METRICS[name].against, real_features, context) for name in metrics}
    for images in drawn:
        found = features.extract(images, extractor, taps, batch_size=batch_size, track=track)
        rows.append({})
        for name, measure in measures.items():
            rows[-1] |= _said(name, measure, found)
    fewest = min(truth.count, drawn[0].count)
    if fewest < FEW and "fd" in metrics:
        warnings.warn(
            f"a Frechet distance of {fewest} images is biased upwards; use {FEW} or more, fd_infinity or kid", stacklevel=2
        )
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Evaluation(
        values={name: float(column.mean()) for name, column in columns.items()},
        spread={name: float(column.std(ddof=1)) for name, column in columns.items()} if draws > 1 else {},
        extractor=extractor.name, digest=extractor.digest, protocol=rules.name, real=truth.name, fake=drawn[0].name,
        real_count=truth.count, fake_count=drawn[0].count, split=split, seed=seed, draws=draws,
    )  # fmt: skip


def distance_to(
    real: Any, extractor: Extractor, track: Track = lambda batches, *_: batches
) -> Callable[[Iterable[np.ndarray], int], float]:
    """A function of batches of images, uint8, and their number that gives their Frechet distance to `real`: what training measures itself by.

    The features of `real` are made when it is first called, shown by `track`.
    """
    ddof = protocols.protocol(extractor.protocol).ddof if extractor.protocol else 1

    @functools.cache
    def truth():
        return frechet.moments(features.kept(sets.open_set(real), extractor, ("features",), track=track)["features"])

    def measure(batches, count):
        found = features.extract(sets.Images("samples", count, "", lambda: iter(batches)), extractor)
        return frechet.frechet_distance(truth(), frechet.moments(found["features"]), ddof)

    return measure


def _said(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
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
        raise InputError(f"--extractor {extractor.name}: has no {tap}, which one of the metrics needs")
    return tap


# --- the table: of the real set and the context a function of a fake set -------------------------------------------------

Measure = Callable[[Features], dict[str, float]]


def _frechet(real: Features, context: Context) -> Measure:
    truth, name = frechet.moments(real["features"]), context.extractor.frechet_name
    return lambda fake: {name: frechet.frechet_distance(truth, frechet.moments(fake["features"]), ddof=context.ddof)}


def _frechet_infinity(real: Features, context: Context) -> Measure:
    truth, name = frechet.moments(real["features"]), f"{context.extractor.frechet_name}_infinity"

    def measure(fake):
        found = frechet.frechet_infinity(truth, fake["features"], context.seed, ddof=context.ddof)
        return {name: found.value, f"{name}_residual": found.residual}

    return measure


def _kernel(real: Features, context: Context) -> Measure:
    name = context.extractor.frechet_name.replace("fid", "kid").replace("fd", "kd")

    def measure(fake):
        found = kernel.kernel_distance(real["features"], fake["features"], context.seed)
        return {name: found.mean, f"{name}_std": found.std}

    return measure


def _manifold(real: Features, context: Context) -> Measure:
    return lambda fake: manifold.manifold_scores(real["features"], fake["features"])._asdict()


def _inception_score(real: Features, context: Context) -> Measure:
    name = "inception_score" if context.extractor.frechet_name == "fid" else f"class_score_{context.extractor.name}"

    def measure(fake):
        found = scores.inception_score(fake[_tap(context.extractor, "logits")], context.seed)
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
        return {"nearest_ratio": float(np.median(ratio)), "nearest_ratio_lowest": float(ratio.min())}

    return measure


METRICS = {
    "fd": Metric(("features",), _frechet),  # "fid" in the result only of the Inception with the published weights
    "fd_infinity": Metric(("features",), _frechet_infinity),
    "kid": Metric(("features",), _kernel),
    "prdc": Metric(("features",), _manifold),  # precision, recall, density, coverage
    "is": Metric(("logits",), _inception_score),
    "classes": Metric(("logits",), _classes),
    "vendi": Metric(("features",), _vendi),
    "nearest": Metric(("features",), _copies),
}
