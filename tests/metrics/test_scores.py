"""Scores of one set, where the answer is known."""

import numpy as np
import pytest

from genjax.metrics.scores import class_histogram, histogram_distance, inception_score, vendi_score


def certain(classes, count):
    """Logits of a classifier that is sure."""
    return np.float32(np.where(np.arange(count) == np.asarray(classes)[:, None], 100, 0))


def test_inception_score_of_k_equal_classes_is_k():
    score = inception_score(certain(np.arange(700) % 7, 7))
    assert score.mean == pytest.approx(7, rel=1e-9)
    assert score.std == pytest.approx(0, abs=1e-9)


def test_inception_score_of_one_answer_is_1():
    logits = np.tile(np.random.default_rng(0).standard_normal(10).astype(np.float32), (50, 1))
    assert inception_score(logits) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(certain([3] * 50, 10)) == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_of_one_part_is_its_definition():
    logits = 3 * np.random.default_rng(0).standard_normal((33, 6))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(np.mean([np.sum(row * np.log(row / p.mean(0))) for row in p]))
    assert inception_score(logits, splits=1) == pytest.approx((expected, 0), rel=1e-12)
    assert inception_score(logits + 1000, splits=1).mean == pytest.approx(expected, rel=1e-9)


def test_inception_score_depends_on_the_order_of_sorted_images():
    logits = certain(np.arange(1000) // 100, 10)
    assert inception_score(logits).mean == pytest.approx(1)  # each part is one class
    assert inception_score(logits, seed=0).mean > 9
    assert (
        inception_score(logits, seed=0)
        == inception_score(logits, seed=0)
        != inception_score(logits, seed=1)
    )


def test_parts_are_consecutive_and_cover_all():
    logits = np.random.default_rng(0).standard_normal((25, 4))
    parts = [inception_score(x, splits=1).mean for x in (logits[:8], logits[8:16], logits[16:])]
    assert inception_score(logits, splits=3) == pytest.approx(
        (np.mean(parts), np.std(parts)), rel=1e-12
    )


def test_logits_so_far_apart_that_a_probability_underflows():
    assert inception_score(np.float32([[0, 5000], [0, 4000]]), splits=1).mean == pytest.approx(1)


def test_class_histogram_of_labels_and_of_probabilities():
    labels = np.array([0, 2, 2, 2])
    np.testing.assert_array_equal(class_histogram(labels, 4), [0.25, 0, 0.75, 0])
    np.testing.assert_allclose(
        class_histogram(np.eye(4, dtype=np.float32)[labels]), [0.25, 0, 0.75, 0]
    )
    np.testing.assert_allclose(class_histogram(np.array([[0.5, 0.5], [1.0, 0.0]])), [0.75, 0.25])


def test_distance_of_histograms():
    data = np.full(4, 0.25)
    assert histogram_distance(data, data) == (0, 0)
    assert histogram_distance(np.array([0.5, 0.5, 0, 0]), data) == pytest.approx((0.5, np.log(2)))
    assert histogram_distance(data, np.array([0.5, 0.5, 0, 0])) == (0.5, np.inf)
    expected = 0.1 * np.log(0.1 / 0.4) + 0.9 * np.log(0.9 / 0.6)
    assert histogram_distance(np.array([0.1, 0.9]), np.array([0.4, 0.6])) == pytest.approx(
        (0.3, expected)
    )


@pytest.mark.parametrize("d", [9, 40])
def test_vendi_score_of_different_and_of_equal_images(d):
    """Through either Gram matrix, whatever the rows' lengths."""
    lengths = np.arange(1, 28)[:, None]
    assert vendi_score(np.eye(d)[:9] * lengths[:9]) == pytest.approx(9, rel=1e-12)
    assert vendi_score(np.eye(d)[np.arange(27) % 9] * lengths) == pytest.approx(9, rel=1e-12)
    assert vendi_score(np.ones((27, d)) * lengths) == pytest.approx(1, rel=1e-12)


def test_vendi_score_is_its_definition():
    x = np.random.default_rng(0).standard_normal((12, 5)) + 0.5
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvals(unit @ unit.T / 12).real
    expected = np.exp(-sum(value * np.log(value) for value in values if value > 1e-12))
    for features in (x, x[np.random.default_rng(1).permutation(12)], np.pad(x, [(0, 0), (0, 20)])):
        assert vendi_score(features) == pytest.approx(expected, rel=1e-9)


def test_invalid_input_is_refused():
    with pytest.raises(
        ValueError, match="logits of 19 images: at least 20"
    ):  # a part of one image always scores 1
        inception_score(np.zeros((19, 3)))
    with pytest.raises(ValueError, match="from 0 to below"):
        class_histogram(np.array([0, 4]), 4)
    with pytest.raises(ValueError, match="from 0 to below"):
        class_histogram(np.array([0, 1]))
    with pytest.raises(ValueError, match="sum to 1"):
        class_histogram(np.ones((3, 2)))
    with pytest.raises(ValueError, match="not of 2 and 3"):
        histogram_distance(np.ones(2) / 2, np.ones(3) / 3)
    with pytest.raises(ValueError, match="1 images are all 0"):
        vendi_score(np.array([[1.0, 0.0], [0.0, 0.0]]))
