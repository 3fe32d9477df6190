"""Two predictions compared on labels that neither has seen."""

from __future__ import annotations

import numpy as np

from annotator.judging import verdict
from annotator.types import FloatArray, IntArray


def said(truth: IntArray, share_right: float, rng: np.random.Generator) -> FloatArray:
    """Probabilities of 0.8 for the truth in this share of the images, for another class elsewhere."""
    codes = np.where(rng.random(len(truth)) < share_right, truth, (truth + 1) % 3)
    return np.where(np.arange(3) == codes[:, None], 0.8, 0.1)


def test_what_is_right_more_often_is_better() -> None:
    """90 % against 70 % on 200 labels is no accident."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    found = verdict(said(truth, 0.7, rng), said(truth, 0.9, rng), truth)
    assert found.is_better
    assert found.accuracy_after > found.accuracy_before
    assert "of 200 labels right" in found.in_words


def test_the_same_worse_and_too_few_are_not_better() -> None:
    """A tie changes nothing, nor does a difference on a handful of labels."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 200)
    one, other = said(truth, 0.7, rng), said(truth, 0.9, rng)
    assert not verdict(one, one, truth).is_better
    assert not verdict(other, one, truth).is_better
    assert not verdict(one[:20], other[:20], truth[:20]).is_better
    assert not verdict(one[:0], other[:0], truth[:0]).is_better


def test_a_single_image_does_not_decide() -> None:
    """Labels that are likelier throughout are better, though one image of 60 that was right is wrong by a hair."""
    truth = np.zeros(60, dtype=np.int64)
    before, after = np.tile([0.6, 0.4], (60, 1)), np.tile([0.9, 0.1], (60, 1))
    before[0], after[0] = [0.51, 0.49], [0.49, 0.51]
    assert verdict(before, after, truth).is_better
    after[:6] = [0.49, 0.51]
    assert not verdict(before, after, truth).is_better


def test_a_prediction_that_is_sure_and_wrong_is_not_better() -> None:
    """As many are right, but the labels have become less likely."""
    truth = np.zeros(100, dtype=np.int64)
    sure = np.tile([0.999, 0.001], (100, 1))
    sure[:20] = [0.0, 1.0]
    unsure = np.tile([0.8, 0.2], (100, 1))
    unsure[:20] = [0.4, 0.6]
    assert not verdict(unsure, sure, truth).is_better
