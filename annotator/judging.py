"""Whether one prediction is better than another on images whose labels neither of them has seen. Knows no model.

Two predictions are compared image by image: the second one is better where it makes the labels more likely by more than
the standard error of that difference, and is right no less often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.types import FloatArray, IntArray

LEAST = 30
"""Labels below which nothing is called better."""
SMALLEST = 1e-3
"""Probabilities below this count as this: one image may not outweigh all others."""


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

    @property
    def is_better(self) -> bool:
        """Whether the second prediction is to be used in place of the first."""
        return self.n_labels >= LEAST and self.gain > self.error and self.accuracy_after >= self.accuracy_before

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
    return Verdict(
        n_labels,
        float((before.argmax(axis=1) == truth).mean()),
        float((after.argmax(axis=1) == truth).mean()),
        float(gains.mean()),
        float(gains.std(ddof=1) / n_labels**0.5) if n_labels > 1 else 0.0,
    )


def _log_likelihoods(probabilities: FloatArray, truth: IntArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], SMALLEST)))
