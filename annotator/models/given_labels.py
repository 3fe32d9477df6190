"""Labels as a caller gives them (numbers, text, mixed lists) -> classes and codes. Knows no samples."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from annotator.types import UNLABELED, IntArray

Labels = NDArray[Any]  # Any: numbers, or objects


def read_labels(y: Labels, unlabeled: object) -> tuple[Labels, IntArray]:
    """Returns the classes, sorted, and (n,) codes into them, -1 where a label is `unlabeled`.

    Raises ValueError where no label is left, or where labels cannot be sorted.
    """
    is_labeled = ~_equals(y, unlabeled)
    labels = _of_one_kind(y[is_labeled])
    if not labels.size:
        raise ValueError(f"No sample is labeled: every label is {unlabeled!r}, one class or more needed.")
    # Twice each: it warns of many classes among few samples, which is how labeling begins.
    check_classification_targets(np.repeat(labels, 2))
    classes, found = np.unique(labels, return_inverse=True)
    codes = np.full(len(y), UNLABELED, dtype=np.int64)
    codes[is_labeled] = found
    return classes, codes


def as_given(y: Any) -> Any:  # Any: what scikit-learn takes
    """Labels as an array that keeps numbers and names apart: from a list with both, numpy would make text of all."""
    if not isinstance(y, list | tuple):
        return y
    n_texts = sum(isinstance(label, str) for label in y)
    return np.array(y, dtype=object) if 0 < n_texts < len(y) else y


def _equals(y: Labels, unlabeled: object) -> NDArray[np.bool_]:
    """(n,) where labels are the one for "no label"; among text also where that is its text, as numpy makes it."""
    if y.dtype.kind in "biuf":
        return np.broadcast_to(np.asarray(y == unlabeled), y.shape)
    labels = y.astype(object)
    found = np.asarray(labels == unlabeled, dtype=bool)
    if isinstance(unlabeled, Integral) and not isinstance(unlabeled, bool):
        for text in (str(unlabeled), str(float(unlabeled))):
            found = found | np.asarray(labels == text, dtype=bool)
    return found


def _of_one_kind(labels: Labels) -> Labels:
    """Labels that can be sorted, objects that are numbers as numbers. Raises ValueError where they cannot be sorted."""
    if labels.dtype != object:
        return labels
    texts = [isinstance(label, str) for label in labels]
    if all(texts):
        return labels
    if any(texts):
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise ValueError(
            f"The labels are of several kinds ({kinds}). Give them all as text, or all as numbers, and say by "
            "unlabeled_label what stands for no label."
        )
    return np.array(labels.tolist())
