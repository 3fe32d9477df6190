"""scikit-learn's own LabelSpreading and LabelPropagation on a dense rbf graph: the reference, for small pools.

Returns their answer bit for bit. With the default settings it is *not* converged: the iteration stops at `tol` or
`max_iter`, and published examples show the answer at that point.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import ModelError
from annotator.models.priors import class_prior
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Prediction

MAX_IMAGES = 10_000

Estimator = Any  # scikit-learn ships no types: its LabelSpreading or LabelPropagation


class _DenseModel:
    """Adapter of a scikit-learn estimator: adds columns for classes without a label."""

    estimator_name = ""
    """Of the class in sklearn.semi_supervised, which is imported for the first fit: that takes a second."""

    def __init__(self, **parameters: float) -> None:
        self._parameters = parameters
        self._fitted: Estimator | None = None
        self._prior = np.zeros(0)

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; evidence is 1 where a label reaches, else 0.

        Raises ModelError (MODEL_TOO_LARGE) above 10,000 images.
        """
        _check_size(len(labels))
        self._prior = class_prior(labels, n_classes)
        self._fitted = None if (labels == UNLABELED).all() else self._fit(dataset.features, labels)
        masses = np.zeros((len(labels), 0)) if self._fitted is None else self._fitted.label_distributions_
        probabilities, reached = self._all_classes(masses)
        return Prediction(probabilities, reached.astype(np.float64))

    def predict(self, features: FeatureArray) -> FloatArray:
        """scikit-learn's `predict_proba`: the pool's answers weighted by the kernel; the class prior if none reaches.

        Raises ModelError (MODEL_NOT_FITTED) before the first fit.
        """
        if not self._prior.size:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        if self._fitted is None:
            return np.tile(self._prior, (len(features), 1))
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 far from the whole pool: replaced by the prior
            masses = self._fitted.predict_proba(features.astype(np.float64))
        return self._all_classes(masses)[0]

    def _fit(self, features: FeatureArray, labels: IntArray) -> Estimator:
        from sklearn import semi_supervised  # slow to import
        from sklearn.exceptions import ConvergenceWarning

        estimator = getattr(semi_supervised, self.estimator_name)(kernel="rbf", **self._parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the reference stops before it converges, on purpose
            return estimator.fit(features.astype(np.float64), labels)

    def _all_classes(self, masses: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """(n, classes seen) -> (n, n_classes), bit for bit, and (n,) whether any label reaches the row."""
        complete = np.zeros((len(masses), len(self._prior)))
        if self._fitted is not None:
            complete[:, self._fitted.classes_] = masses
        reached = complete.sum(axis=1) > 0
        return np.where(reached[:, None], complete, self._prior), reached


class DenseLabelSpreading(_DenseModel):
    """scikit-learn's LabelSpreading, every image joined to every other: up to 10,000 images."""

    estimator_name = "LabelSpreading"

    def __init__(self, gamma: float = 20.0, alpha: float = 0.2, max_iter: int = 30, tol: float = 1e-3) -> None:
        super().__init__(gamma=gamma, alpha=alpha, max_iter=max_iter, tol=tol)


class DenseLabelPropagation(_DenseModel):
    """scikit-learn's LabelPropagation, every image joined to every other: up to 10,000 images."""

    estimator_name = "LabelPropagation"

    def __init__(self, gamma: float = 20.0, max_iter: int = 1000, tol: float = 1e-3) -> None:
        super().__init__(gamma=gamma, max_iter=max_iter, tol=tol)


def _check_size(n_images: int) -> None:
    if n_images > MAX_IMAGES:
        gigabytes = n_images**2 * 8 / 1e9
        raise ModelError(
            f"scikit-learn's dense graph over {n_images:,} images takes {gigabytes:.1f} GB for each of its matrices; "
            f"it is offered up to {MAX_IMAGES:,} images. Choose label-spreading or label-propagation instead.",
            code="MODEL_TOO_LARGE",
        )
