"""Metrics agree with scikit-learn and with figures worked out by hand."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report, confusion_matrix

from annotator.metrics import (
    CalibrationBin,
    Certainty,
    Scores,
    calibration,
    confusion,
    most_mistaken,
    row_entropy,
    score,
    wilson,
)

N_CLASSES = 5
PAIRS = st.lists(st.tuples(st.integers(0, N_CLASSES - 1), st.integers(0, N_CLASSES - 1)), min_size=1, max_size=60)


def codes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_wilson_matches_published_values() -> None:
    """Newcombe (Statistics in Medicine 17, 1998), table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (n_correct, n), interval in published.items():
        assert wilson(n_correct, n) == pytest.approx(interval, abs=5e-5)


def test_wilson_of_nothing_says_nothing() -> None:
    """Without a measurement the interval is everything."""
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_holds_the_proportion(n_correct: int, n_wrong: int, confidence: float) -> None:
    """The interval lies within [0, 1] and contains the measured proportion."""
    n = n_correct + n_wrong
    lower, upper = wilson(n_correct, n, confidence)
    assert 0 <= lower < upper <= 1
    assert n == 0 or lower <= n_correct / n <= upper


def test_wilson_widens_with_confidence() -> None:
    """More confidence needs a wider interval."""
    assert wilson(7, 10, 0.99)[0] < wilson(7, 10, 0.8)[0] < 0.7 < wilson(7, 10, 0.8)[1] < wilson(7, 10, 0.99)[1]


@given(PAIRS)
def test_confusion_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    """Rows are the truth, columns the prediction; classes that do not occur have their zeros."""
    truth, predicted = np.array(pairs, dtype=np.int64).T
    expected = confusion_matrix(truth, predicted, labels=range(N_CLASSES))
    np.testing.assert_array_equal(confusion(truth, predicted, N_CLASSES), expected)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_confusion_refuses_codes_of_no_class(wrong: int) -> None:
    """An unlabeled image or an unknown class is never counted as another class."""
    with pytest.raises(ValueError, match=r"0 \.\. 2"):
        confusion(codes(0, wrong), codes(0, 1), 3)
    with pytest.raises(ValueError, match=r"0 \.\. 2"):
        confusion(codes(0, 1), codes(0, wrong), 3)


@settings(max_examples=60)
@given(PAIRS)
def test_score_is_the_classification_report(pairs: list[tuple[int, int]]) -> None:
    """Precision, recall, F1, support, both means and accuracy equal scikit-learn's, absent classes included."""
    truth, predicted = np.array(pairs, dtype=np.int64).T
    report = classification_report(truth, predicted, output_dict=True, zero_division=0)
    scores = score(truth, predicted, N_CLASSES)
    assert scores.n == len(pairs)
    assert scores.accuracy == pytest.approx(np.mean(truth == predicted))
    assert scores.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    assert scores.weighted_f1 == pytest.approx(report["weighted avg"]["f1-score"])
    nothing = {"precision": 0, "recall": 0, "f1-score": 0, "support": 0}
    for one in scores.per_class:
        expected = report.get(str(one.code), nothing)
        measured = {"precision": one.precision, "recall": one.recall, "f1-score": one.f1, "support": one.support}
        assert measured == pytest.approx(expected)


def test_scores_of_no_images() -> None:
    """Without images there is no accuracy, and the interval says that nothing is known."""
    scores = score(codes(), codes(), 3)
    assert (scores.n, scores.accuracy, scores.interval) == (0, None, (0.0, 1.0))
    assert (scores.macro_f1, scores.weighted_f1) == (0.0, 0.0)
    assert [one.support for one in scores.per_class] == [0, 0, 0]


@given(PAIRS)
def test_a_record_gives_the_same_scores(pairs: list[tuple[int, int]]) -> None:
    """S6: through JSON and back nothing is lost; so it is for records of earlier versions, with a cell a class pair."""
    truth, predicted = np.array(pairs, dtype=np.int64).T
    scores = score(truth, predicted, N_CLASSES)
    record = json.loads(json.dumps(scores.to_record()))
    assert Scores.from_record(record) == scores
    assert Scores.from_record(record).to_record() == record
    np.testing.assert_array_equal(scores.confusion, confusion(truth, predicted, N_CLASSES))
    earlier = {key: record[key] for key in ("n", "accuracy", "interval", "macro_f1", "weighted_f1")}
    assert Scores.from_record(earlier | {"confusion": scores.confusion.tolist(), "per_class": []}) == scores


def test_a_record_grows_with_the_images_not_with_the_class_pairs() -> None:
    """S6: a thousand classes measured on 300 images are 300 entries at most, not a million."""
    rng = np.random.default_rng(0)
    scores = score(rng.integers(0, 1000, 300), rng.integers(0, 1000, 300), 1000)
    assert len(scores.to_record()["pairs"]) <= 300
    assert len(json.dumps(scores.to_record())) < 10_000


def test_the_most_mistaken_classes() -> None:
    """By mistakes in either direction, in the order of their codes."""
    counts = confusion(codes(0, 0, 1, 2, 3, 3, 3), codes(0, 0, 2, 2, 1, 1, 3), 4)
    assert most_mistaken(counts, 2).tolist() == [1, 3]
    assert most_mistaken(counts, 9).tolist() == [0, 1, 2, 3]


def test_scores_are_values() -> None:
    """Equal predictions give equal, hashable scores."""
    first, second = (score(codes(0, 1, 1), codes(0, 1, 0), 2) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def test_calibration_by_hand() -> None:
    """Four images, two bins that hold any: |1/2 - 0.625| and |1 - 0.9| weighted by size."""
    probabilities = np.array([[0.6, 0.4], [0.35, 0.65], [0.9, 0.1], [0.1, 0.9]])
    result = calibration(probabilities, codes(0, 0, 0, 1), n_bins=4)
    assert result.error == pytest.approx(0.5 * 0.125 + 0.5 * 0.1)
    assert result.bins[0] == CalibrationBin(0.0, 0.25, 0, None, None)
    assert [one.n for one in result.bins] == [0, 0, 2, 2]
    assert (result.bins[2].confidence, result.bins[2].accuracy) == pytest.approx((0.625, 0.5))


def test_calibration_bins_are_closed_above() -> None:
    """A confidence on an edge belongs to the bin below, and 1 to the last."""
    result = calibration(np.array([[0.5, 0.5], [1.0, 0.0]]), codes(0, 0), n_bins=4)
    assert [one.n for one in result.bins] == [0, 1, 0, 1]


def test_calibration_of_perfect_certainty_and_of_nothing() -> None:
    """Always sure and right costs nothing; without images there is no figure."""
    assert calibration(np.eye(3), codes(0, 1, 2)).error == 0.0
    empty = calibration(np.zeros((0, 3)), codes())
    assert empty.error is None
    assert sum(one.n for one in empty.bins) == 0


def test_row_entropy_in_nats() -> None:
    """0 for a sure row, ln 2 for an even pair, each row by itself."""
    found = row_entropy(np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]]))
    assert found[:2] == pytest.approx([0, log(2)])
    assert found[2] == pytest.approx(-0.2 * log(0.2) - 0.8 * log(0.8))
    assert str(found[0]) == "0.0"


def test_a_rows_certainty_does_not_depend_on_the_rows_beside_it() -> None:
    """Bit for bit: only rows that changed are measured again."""
    probabilities = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 50)
    for temperature in (1.0, 1.7):
        together = Certainty(temperature)(probabilities)
        alone = [Certainty(temperature)(probabilities[[row]])[0] for row in range(50)]
        assert np.array_equal(together, alone)
