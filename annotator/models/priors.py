"""Class priors from label counts: the probabilities of rows that no label reaches. Knows no graph."""

from __future__ import annotations

import numpy as np

from annotator.types import UNLABELED, FloatArray, IntArray


def label_shares(labels: IntArray, n_classes: int) -> FloatArray:
    """(n_classes,) shares of the labels given; uniform without labels."""
    counts = np.bincount(labels[labels != UNLABELED], minlength=n_classes)
    return np.asarray(counts / counts.sum() if counts.any() else np.full(n_classes, 1 / n_classes))


def class_prior(labels: IntArray, n_classes: int) -> FloatArray:
    """(n_classes,) shares of the labels given, one added to each count (Laplace): uniform without labels."""
    counts = np.bincount(labels[labels != UNLABELED], minlength=n_classes) + 1.0
    return np.asarray(counts / counts.sum())


def normalised(masses: FloatArray, prior: FloatArray) -> FloatArray:
    """(n, n_classes) rows divided by their sums; the prior in rows whose sum is 0."""
    totals = masses.sum(axis=1, keepdims=True)
    safe = np.where(totals > 0, totals, 1.0)
    return np.where(totals > 0, masses / safe, prior)
