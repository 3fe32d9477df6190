"""What a model says of labeled images when their own labels are kept from it: k-fold, for calibration and comparison.

A model is fitted once for each fold on the labels of the others. Knows no store and no particular model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from annotator.types import UNLABELED, Dataset, FloatArray, IntArray, Model


@dataclass(frozen=True)
class OutOfFold:
    """Labeled images with what a model said of them that had not seen their labels."""

    rows: IntArray
    """(n_labeled,) ascending."""
    truth: IntArray
    """(n_labeled,) their class codes."""
    probabilities: FloatArray
    """(n_labeled, n_classes)"""

    @property
    def is_right(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(n_labeled,) whether the likeliest class is the label."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)


def out_of_fold(
    new_model: Callable[[], Model],
    dataset: Dataset,
    labels: IntArray,
    n_classes: int,
    n_folds: int,
    rng: np.random.Generator,
) -> OutOfFold:
    """Fit `new_model()` on all folds but one, for each fold; every class is spread over the folds.

    `labels` (n_images,), -1 = unlabeled; identical images of one group share a fold. Fewer folds where there are fewer
    labels; an image is judged by the class prior where no other label is left.
    """
    rows = np.flatnonzero(labels != UNLABELED)
    folds = spread(labels[rows], dataset.group[rows], n_folds, rng)
    probabilities = np.full((len(rows), n_classes), 1 / max(1, n_classes))
    for fold in range(n_folds):
        held = folds == fold
        if not held.any() or held.all():
            continue
        seen = labels.copy()
        seen[rows[held]] = UNLABELED
        probabilities[held] = new_model().fit_predict(dataset, seen, n_classes).probabilities[rows[held]]
    return OutOfFold(rows, labels[rows], probabilities)


def spread(codes: IntArray, group: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """(n,) the fold of each label, 0 to n_folds - 1: groups stay together, each class goes round the folds in turn."""
    groups, first = np.unique(group, return_index=True)
    order = rng.permutation(len(groups))
    order = order[np.argsort(codes[first[order]], kind="stable")]
    fold_of = np.empty(len(groups), dtype=np.int64)
    fold_of[order] = np.arange(len(groups)) % n_folds
    return fold_of[np.searchsorted(groups, group)]
