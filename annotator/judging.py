"""Whether one prediction is better than another on images whose labels neither of them has seen. Knows no model.

Two predictions are compared image by image: the second one is better where it makes the labels more likely by more than
the standard error of that difference, and is not right less often by more than the standard error of that: of 60 labels
a single one that was right by luck would otherwise decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.types import FloatArray, IntArray

LEAST = 30
"""Labels below which nothing is called better."""
SMALLEST = 1e-3
"""Probabilities below this count as this: one image may not outweigh all others."""
ROUNDING = 1e-9
"""A loss of one image is as large as its standard error, and still allowed."""


@dataclass(frozen=True)
class Verdict:
    """Two predictions on the same labeled images."""

    n_labels: int
    accuracy_before: float
    accuracy_after: float
    gain: float
    """Mean gain in the logarithm of the labels' probability, in nats."""
    error: float
    """Standard error of that."""
    accuracy_error: float = 0.0
    """Standard error of the difference of the two accuracies, which are of the same labels."""

    @property
    def is_better(self) -> bool:
        """Whether the second prediction is to be used in place of the first."""
        loss = self.accuracy_before - self.accuracy_after
        return self.n_labels >= LEAST and self.gain > self.error and loss <= self.accuracy_error + ROUNDING

    @property
    def in_words(self) -> str:
        """In words: "82 → 86 % of 200 labels right"."""
        return f"{100 * self.accuracy_before:.0f} → {100 * self.accuracy_after:.0f} % of {self.n_labels:,} labels right"


def verdict(before: FloatArray, after: FloatArray, truth: IntArray) -> Verdict:
    """Compare (n_labels, n_classes) with the same, on (n_labels,) class codes that neither prediction was fitted to."""
    n_labels = len(truth)
    if not n_labels:
        return Verdict(0, 0.0, 0.0, 0.0, 0.0)
    gains = _log_likelihoods(after, truth) - _log_likelihoods(before, truth)
    right = [(probabilities.argmax(axis=1) == truth).astype(np.float64) for probabilities in (before, after)]
    return Verdict(
        n_labels,
        float(right[0].mean()),
        float(right[1].mean()),
        float(gains.mean()),
        _standard_error(gains),
        _standard_error(right[1] - right[0]),
    )


def _standard_error(differences: FloatArray) -> float:
    """Of the mean of (n_labels,) paired differences."""
    return float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else 0.0


def _log_likelihoods(probabilities: FloatArray, truth: IntArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], SMALLEST)))
