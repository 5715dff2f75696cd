"""Scores of one set of images, computed in float64 on the host.

From a classifier's outputs: the inception score and class histograms. From features:
the Vendi score.
"""

import itertools
from typing import NamedTuple

import numpy as np

from genjax.metrics.checks import feature_rows
from genjax.shapes import AnyArray, Float

ROWS = 8192  # rows converted to float64 at a time


class InceptionScore(NamedTuple):
    """Mean and spread of the inception score over splits."""

    mean: float  # over splits, from 1 to the number of classes
    # Population standard deviation over splits (divided by their number, as published);
    # 0 for one split
    std: float


class HistogramDistance(NamedTuple):
    """Distances between the class histograms of samples and of data."""

    total_variation: float  # half the sum of absolute differences, 0 to 1
    # KL(samples | data) in nats, 0 to infinity; finite if the samples lack a class of
    # the data
    kl: float


def inception_score(
    logits: AnyArray, seed: int | None = None, *, splits: int = 10
) -> InceptionScore:
    """Compute exp(mean KL(p(y|x) | p(y))) in each of `splits` splits.

    Salimans et al. 2016 (arXiv 1606.03498), section 4. p(y) is the marginal of the
    split, so the score depends on the size of the splits.

    Args:
        logits: class logits [n, classes]
        seed: shuffles the images first. Needed for images sorted by class: consecutive
            splits would hold few classes each. None: splits are consecutive images
        splits: number of splits

    Raises:
        ValueError: fewer than 2 images per split, where the score can only be 1
    """
    x = feature_rows(logits, "logits", 2 * splits)
    if seed is not None:
        x = x[np.random.default_rng(seed).permutation(len(x))]
    bounds = [len(x) * split // splits for split in range(splits + 1)]
    scores = [_exp_mean_kl(x[start:end]) for start, end in itertools.pairwise(bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def class_histogram(classes: AnyArray, count: int | None = None) -> Float[np.ndarray, " classes"]:
    """Return the frequency of each class; the frequencies sum to 1.

    `classes` are labels [n], integers below `count`, or probabilities [n, classes],
    which are averaged.

    Raises:
        ValueError: labels without `count` or not below it; rows that are not
            probabilities
    """
    classes = np.asarray(classes)
    if classes.ndim == 1 and np.issubdtype(classes.dtype, np.integer):
        if count is None or not len(classes) or classes.min() < 0 or classes.max() >= count:
            raise ValueError(
                f"labels must be integers from 0 to below the number of classes, {count}"
            )
        return np.bincount(classes, minlength=count) / len(classes)
    probabilities = feature_rows(classes, "probabilities").astype(np.float64)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("each row of probabilities must be at least 0 and sum to 1")
    mean = probabilities.mean(0)
    return mean / mean.sum()


def histogram_distance(samples: np.ndarray, data: np.ndarray) -> HistogramDistance:
    """Compare two `class_histogram`s [classes].

    Raises:
        ValueError: their lengths differ
    """
    if samples.shape != data.shape:
        numbers = f"{len(samples)} and {len(data)}"
        raise ValueError(f"two histograms must be of the same classes, not of {numbers}")
    used = samples > 0
    with np.errstate(divide="ignore"):
        kl = np.sum(samples[used] * (np.log(samples[used]) - np.log(data[used])))
    return HistogramDistance(float(np.abs(samples - data).sum() / 2), float(max(kl, 0)))


def vendi_score(features: AnyArray) -> float:
    """Return the effective number of distinct images in features [n, d], from 1 to n.

    Friedman and Dieng 2022 (arXiv 2210.02410), definition 3.1, with the cosine kernel:
    exp of the entropy of the eigenvalues of K / n. With rows of X scaled to length 1
    they are those of X X' / n or X' X / n, whichever matrix is smaller.

    Raises:
        ValueError: a row of zeros, which has no direction
    """
    x = feature_rows(features)
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    if not lengths.all():
        zero = (lengths == 0).sum()
        raise ValueError(f"features of {zero} images are all 0: they have no direction")
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
    """The inception score of one split."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    p = np.exp(log_p)
    mean = p.mean(0)
    # A class whose probabilities underflow has p = 0 and contributes nothing to the sum
    log_mean = np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    return float(np.exp(np.mean(np.sum(p * (log_p - log_mean), 1))))
