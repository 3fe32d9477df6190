"""How good a prediction is: accuracy with its interval, confusion, F1, calibration, entropy of the pool.

Pure functions of class codes and probabilities. Knows neither the source of the truth nor which images it belongs to:
the caller says on which images a figure was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray, Prediction

N_BINS = 15
"""Of equal width, for the calibration error: as in most papers."""


@dataclass(frozen=True)
class ClassScores:
    """One class as scikit-learn's classification report has it; 0 where a ratio has no denominator."""

    code: int
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """A prediction against the truth of `n` images; with n = 0 there is no accuracy and every F1 is 0."""

    n: int
    accuracy: float | None
    interval: tuple[float, float]
    """Wilson's 95 % interval of the accuracy."""
    n_classes: int
    pairs: tuple[tuple[int, int, int], ...]
    """The confusion matrix: (truth, predicted, how many images) of every pair that occurs, ascending."""
    macro_f1: float
    """Mean over the classes that occur in truth or prediction."""
    weighted_f1: float
    """Mean weighted by support."""

    @cached_property
    def confusion(self) -> IntArray:
        """Counts (n_classes, n_classes), rows = truth, columns = predicted."""
        counts = np.zeros((self.n_classes, self.n_classes), dtype=np.int64)
        if self.pairs:
            truth, predicted, n_images = np.array(self.pairs, dtype=np.int64).T
            counts[truth, predicted] = n_images
        return counts

    @cached_property
    def per_class(self) -> tuple[ClassScores, ...]:
        """Every class by its code."""
        return _per_class(self.confusion)

    def to_record(self) -> dict[str, Any]:  # Any: JSON
        """As JSON for a model's record: only pairs of classes that occur."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "n_classes": self.n_classes,
            "pairs": [list(pair) for pair in self.pairs],
            "macro_f1": self.macro_f1,
            "weighted_f1": self.weighted_f1,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Scores:  # Any: JSON
        """Scores from `to_record`'s JSON, also from earlier versions, which kept the whole matrix as `confusion`."""
        cells = record.get("confusion")
        pairs = record["pairs"] if cells is None else _pairs(np.array(cells, dtype=np.int64))
        return cls(
            n=record["n"],
            accuracy=record["accuracy"],
            interval=(record["interval"][0], record["interval"][1]),
            n_classes=record["n_classes"] if cells is None else len(cells),
            pairs=tuple((truth, predicted, n_images) for truth, predicted, n_images in pairs),
            macro_f1=record["macro_f1"],
            weighted_f1=record["weighted_f1"],
        )


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose highest probability lies in (lower, upper]; an empty bin has neither confidence nor accuracy."""

    lower: float
    upper: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart, over all images and bin by bin."""

    error: float | None
    """Expected calibration error, 0 to 1; None without images."""
    bins: tuple[CalibrationBin, ...]

    def to_record(self) -> dict[str, Any]:  # Any: JSON
        """As JSON for a model's record; a bin is (number of images, confidence, accuracy)."""
        return {"error": self.error, "bins": [[each.n, each.confidence, each.accuracy] for each in self.bins]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:  # Any: JSON
        """Calibration from `to_record`'s JSON."""
        edges = np.linspace(0.0, 1.0, len(record["bins"]) + 1).tolist()
        found = zip(edges[:-1], edges[1:], record["bins"], strict=True)
        return cls(record["error"], tuple(CalibrationBin(lower, upper, *each) for lower, upper, each in found))


def wilson(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion; (0, 1) where nothing was measured.

    With p = n_correct / n and z the normal quantile of the confidence:
    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Source: Wilson, JASA 22 (1927).
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = n_correct / n
    center = p + z * z / (2 * n)
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding may leave 0 or 1 by an ulp where everything was wrong or right.
    lower = 0.0 if n_correct == 0 else (center - spread) / scale
    upper = 1.0 if n_correct == n else (center + spread) / scale
    return lower, upper


def confusion(truth: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Counts (n_classes, n_classes), rows = truth, from two (n_images,) arrays of class codes.

    Raises ValueError for a code outside 0 .. n_classes - 1: an unlabeled image (-1) would be counted as a class.
    """
    for codes in (truth, predicted):
        if len(codes) and not 0 <= codes.min() <= codes.max() < n_classes:
            raise ValueError(f"Class codes must be 0 .. {n_classes - 1}, not {codes.min()} .. {codes.max()}.")
    pairs = truth.astype(np.int64, copy=False) * n_classes + predicted
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def score(truth: IntArray, predicted: IntArray, n_classes: int) -> Scores:
    """Every figure of a classification report, from two (n_images,) arrays of class codes."""
    counts = confusion(truth, predicted, n_classes)
    n, n_correct = int(counts.sum()), int(np.trace(counts))
    predicted_as, support = counts.sum(axis=0), counts.sum(axis=1)
    occurs = np.flatnonzero(predicted_as + support)
    f1 = _ratio(2 * np.diag(counts), predicted_as + support)
    return Scores(
        n=n,
        accuracy=n_correct / n if n else None,
        interval=wilson(n_correct, n),
        n_classes=n_classes,
        pairs=_pairs(counts),
        macro_f1=float(f1[occurs].mean()) if n else 0.0,
        weighted_f1=float(f1 @ support) / n if n else 0.0,
    )


def most_mistaken(counts: IntArray, most: int) -> IntArray:
    """(n_classes, n_classes) confusion -> codes, ascending, of at most so many classes: those in the most mistakes."""
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-mistakes, kind="stable")[:most])


def calibration(probabilities: FloatArray, truth: IntArray, n_bins: int = N_BINS) -> Calibration:
    """As `reliability`, of (n_images, n_classes) probabilities and (n_images,) class codes."""
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, n_bins)


def reliability(confidence: FloatArray, correct: NDArray[np.bool_], n_bins: int = N_BINS) -> Calibration:
    """Confidence against accuracy in bins of equal width, and their mean distance weighted by bin size.

    `confidence` (n_images,) the probability of each guess, `correct` (n_images,) whether it is right.
    ECE = sum of n_b/n |accuracy_b - confidence_b|. Source: Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017.
    """
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    # Bins are open below and closed above; a sum of probabilities may exceed 1 by an ulp.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    counts, sums, hits = (np.bincount(place, each, n_bins) for each in (None, confidence, correct))
    bins = tuple(
        CalibrationBin(
            float(edges[b]),
            float(edges[b + 1]),
            int(counts[b]),
            float(sums[b] / counts[b]) if counts[b] else None,
            float(hits[b] / counts[b]) if counts[b] else None,
        )
        for b in range(n_bins)
    )
    gaps = [b.n * abs(b.accuracy - b.confidence) for b in bins if b.accuracy is not None and b.confidence is not None]
    return Calibration(sum(gaps) / len(correct) if len(correct) else None, bins)


@dataclass(frozen=True)
class Certainty:
    """What is shown of each image's guess, as a measure of its raw probabilities (see per_image.py)."""

    temperature: float

    def __call__(self, probabilities: FloatArray) -> FloatArray:
        """(n, n_classes) -> (n, 2): the probability of the guess, and the entropy in nats, at this temperature."""
        columns = np.ascontiguousarray(probabilities.T)  # class by class: twice as fast as row by row
        highest = columns.max(axis=0)
        if self.temperature == 1:
            return np.column_stack([highest, row_entropy(probabilities)])
        with np.errstate(divide="ignore"):
            logs = np.log(columns / highest)
        logs *= 1 / self.temperature
        powers = np.exp(logs)
        totals = _added_up(powers)
        powers *= np.where(powers > 0, logs, 0.0)
        return np.column_stack([1 / totals, np.maximum(0.0, np.log(totals) - _added_up(powers) / totals)])


def certainty(prediction: Prediction) -> FloatArray:
    """(n_images, 2) the guess's calibrated probability and the entropy in nats; computed once for a prediction."""
    found: FloatArray = prediction.figures.measured(Certainty(prediction.temperature))
    return found


def row_entropy(probabilities: FloatArray) -> FloatArray:
    """(n, n_classes) -> (n,) the entropy of each row in nats."""
    columns = np.ascontiguousarray(probabilities.T)
    logs = np.log(np.where(columns > 0, columns, 1.0))
    logs *= columns
    # 0.0 - x: a row without doubt has the entropy 0, not -0.
    return 0.0 - _added_up(logs)


def _added_up(columns: FloatArray) -> FloatArray:
    """(n_classes, n) -> (n,) in the order of the classes: `sum` would add those of a single row in another order."""
    total: FloatArray = columns[0].copy()
    for column in columns[1:]:
        total += column
    return total


def _pairs(counts: IntArray) -> tuple[tuple[int, int, int], ...]:
    truth, predicted = np.nonzero(counts)
    return tuple(zip(truth.tolist(), predicted.tolist(), counts[truth, predicted].tolist(), strict=True))


def _per_class(counts: IntArray) -> tuple[ClassScores, ...]:
    hits, predicted, support = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    columns = (_ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, predicted + support), support)
    return tuple(
        ClassScores(code, float(precision), float(recall), float(f1), int(n))
        for code, (precision, recall, f1, n) in enumerate(zip(*columns, strict=True))
    )


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    """Part by whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
