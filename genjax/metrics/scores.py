"""Scores of one set of images: from a classifier's outputs (inception score, classes), and from features (Vendi). In float64 on the host."""

import itertools
from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import feature_rows
from genjax.shapes import AnyArray, Float

ROWS = 8192  # in float64 at a time


class InceptionScore(NamedTuple):
    mean: float  # over splits, from 1 to the number of classes
    std: float  # over splits, divided by their number, as published; 0 for one split


class HistogramDistance(NamedTuple):
    total_variation: float  # half the sum of absolute differences, 0 to 1
    kl: float  # KL(samples | data) in nats, 0 to infinity: finite for a class that the samples lack


def inception_score(
    logits: AnyArray, seed: int | None = None, *, splits: int = 10
) -> InceptionScore:
    """exp(mean KL(p(y|x) | p(y))) in each of `splits` parts. Salimans et al. 2016 (arXiv 1606.03498), section 4.

    The parts are runs of the images in the order that they are given, or shuffled by `seed`: images sorted by class need it, for a part
    would hold few of them. p(y) is the part's own, so that the score depends on the parts' size.
    Raises ValueError for fewer than 2 images a part, of whose score 1 is the only value.
    """
    x = feature_rows(logits, "logits", 2 * splits)
    if seed is not None:
        x = x[np.random.default_rng(seed).permutation(len(x))]
    bounds = [len(x) * split // splits for split in range(splits + 1)]
    scores = [_exp_mean_kl(x[start:end]) for start, end in itertools.pairwise(bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def class_histogram(classes: AnyArray, count: int | None = None) -> Float[np.ndarray, " classes"]:
    """The share of each class: of labels [n], integers below `count`, or the mean of probabilities [n, classes]. It sums to 1.

    Raises ValueError for labels without `count` or outside of it, and for rows that are no probabilities.
    """
    classes = np.asarray(classes)
    if classes.ndim == 1 and np.issubdtype(classes.dtype, np.integer):
        if count is None or not len(classes) or classes.min() < 0 or classes.max() >= count:
            raise ValueError(
                f"labels are integers from 0 to below the number of classes, which is given as {count}"
            )
        return np.bincount(classes, minlength=count) / len(classes)
    probabilities = feature_rows(classes, "probabilities").astype(np.float64)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("each row of probabilities is at least 0 and sums to 1")
    mean = probabilities.mean(0)
    return mean / mean.sum()


def histogram_distance(samples: np.ndarray, data: np.ndarray) -> HistogramDistance:
    """How far the samples' classes are from the data's, of two `class_histogram`s. Raises ValueError where their lengths differ."""
    if samples.shape != data.shape:
        raise ValueError(
            f"two histograms are of the same classes, not of {len(samples)} and {len(data)}"
        )
    used = samples > 0
    with np.errstate(divide="ignore"):
        kl = np.sum(samples[used] * (np.log(samples[used]) - np.log(data[used])))
    return HistogramDistance(float(np.abs(samples - data).sum() / 2), float(max(kl, 0)))


def vendi_score(features: AnyArray) -> float:
    """The effective number of different images, 1 to n. Friedman and Dieng 2022 (arXiv 2210.02410), definition 3.1, with the cosine kernel.

    exp of the entropy of the eigenvalues of K / n: those of the smaller of X X' / n and X' X / n, of rows of length 1.
    Raises ValueError for a row of zeros, which has no direction.
    """
    x = feature_rows(features)
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    if not lengths.all():
        raise ValueError(
            f"features of {(lengths == 0).sum()} images are all 0: they have no direction"
        )
    if x.shape[1] < len(x):
        blocks = (
            x[start : start + ROWS] / lengths[start : start + ROWS, None]
            for start in range(0, len(x), ROWS)
        )
        gram = sum((block.T @ block for block in blocks), np.zeros((x.shape[1], x.shape[1])))
    else:
        unit = x / lengths[:, None]
        gram = unit @ unit.T
    values = np.linalg.eigvalsh(gram / len(x))
    values = values[values > 0]
    return float(np.exp(-np.sum(values * np.log(values))))


def _exp_mean_kl(logits: np.ndarray) -> float:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    p = np.exp(log_p)
    mean = p.mean(0)
    log_mean = np.log(
        mean, out=np.zeros_like(mean), where=mean > 0
    )  # a class that underflows has p = 0, and no part in the sum
    return float(np.exp(np.mean(np.sum(p * (log_p - log_mean), 1))))
