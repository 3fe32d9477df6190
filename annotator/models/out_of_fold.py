"""What a model says of labeled images when their own labels are kept from it: k-fold, for calibration and comparison.

A model is fitted once for each fold on the labels of the others. Knows no store and no particular model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from annotator.types import UNLABELED, Dataset, FloatArray, IntArray, LeavesOut, Model


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


def without_own_fold(model: Model, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
    """(n_labeled, n_classes) of labeled rows by `model`, each without the labels of its fold; `model` stays as it is.

    `folds` (n_labeled,) counts from 0; rows of -1 keep their labels and are not looked at. A model that cannot leave
    labels out is copied and fitted for each fold.
    """
    if isinstance(model, LeavesOut):
        return model.out_of_fold(dataset, labels, n_classes, folds)
    other = copied(model, dataset)

    def found(seen: IntArray, rows: IntArray) -> FloatArray:
        return other.fit_predict(dataset, seen, n_classes).probabilities[rows]

    return fold_by_fold(found, labels, n_classes, folds)


def fold_by_fold(
    found: Callable[[IntArray, IntArray], FloatArray], labels: IntArray, n_classes: int, folds: IntArray
) -> FloatArray:
    """(n_labeled, n_classes) of `found(labels that are seen, rows of the fold)`; uniform where no label is seen.

    `folds` (n_labeled,) counts from 0; rows of a negative fold are never left out, and stay uniform.
    """
    rows = np.flatnonzero(labels != UNLABELED)
    probabilities = np.full((len(rows), n_classes), 1 / max(1, n_classes))
    for fold in np.unique(folds[folds >= 0]).tolist():
        held = folds == fold
        if not held.all():
            seen = labels.copy()
            seen[rows[held]] = UNLABELED
            probabilities[held] = found(seen, rows[held])
    return probabilities


def copied(model: Model, dataset: Dataset) -> Model:
    """The model alone: the dataset that it may hold on to stays shared, and on the disk where it is mapped."""
    held_out = dataset.held_out
    shared = [dataset, dataset.features, dataset.graph]
    shared += [] if held_out is None else [held_out, held_out.features]
    return copy.deepcopy(model, {id(value): value for value in shared})


def spread(codes: IntArray, group: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """(n,) the fold of each label, 0 to n_folds - 1: groups stay together, each class goes round the folds in turn."""
    groups, first = np.unique(group, return_index=True)
    order = rng.permutation(len(groups))
    order = order[np.argsort(codes[first[order]], kind="stable")]
    fold_of = np.empty(len(groups), dtype=np.int64)
    fold_of[order] = np.arange(len(groups)) % n_folds
    return fold_of[np.searchsorted(groups, group)]
