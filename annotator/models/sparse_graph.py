"""Adapters: the estimators `LabelSpreading` and `LabelPropagation` on the dataset's graph, as models of the app."""

from __future__ import annotations

import copy
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from annotator.errors import ConfigError, ModelError
from annotator.models.conjugate_gradients import MIN_TOL
from annotator.models.out_of_fold import fold_by_fold
from annotator.models.priors import class_prior, normalised
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Prediction, SparseMatrix

if TYPE_CHECKING:
    from annotator.models.label_spreading import LabelPropagation, LabelSpreading


class _GraphModel:
    """Updates one estimator while the dataset stays the same object; adds columns for classes without a label."""

    goes_on = True
    """In large pools an answer depends, within the tolerance, on the fits before it; see `goes_on` in types.py."""

    estimator_name = ""
    """Name of the class in label_spreading.py; imported on first use, since importing scikit-learn takes a second."""

    def __init__(self, tolerance: float, **parameters: Any) -> None:  # Any: the estimator's
        if not MIN_TOL <= tolerance < 1:
            raise ConfigError(f"The tolerance must be at least {MIN_TOL} and below 1, not {tolerance}.")
        self._parameters = {"affinity": "precomputed", "tol": tolerance, **parameters}
        self._dataset: Dataset | None = None
        self._fitted: Prediction | None = None
        self._prior = np.zeros(0)
        self._joined: tuple[Dataset, FeatureArray, SparseMatrix] | None = None

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities and evidence. Raises ModelError (MODEL_NOT_CONVERGED)."""
        self._prior = class_prior(labels, n_classes)
        if (labels == UNLABELED).all():
            n_images = len(labels)
            self._fitted = Prediction(np.tile(self._prior, (n_images, 1)), np.zeros(n_images))
            self._dataset = None
        else:
            self._learn(dataset, labels)
            self._fitted = self._prediction(n_classes)
        return self._fitted

    def predict(self, features: FeatureArray) -> FloatArray:
        """Each new image's neighbours vote with their probabilities, weighted by affinity, as in scikit-learn.

        Neighbours that no label reaches do not vote; without any other neighbour the answer is the class prior.
        Raises ModelError (MODEL_NOT_FITTED) before the first fit.
        """
        if self._fitted is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        if self._dataset is None:
            return np.tile(self._prior, (len(features), 1))
        return normalised(self._weights_to_pool(self._dataset, features) @ self._voters, self._prior)

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of labeled images, each without the labels of its own fold; see LeavesOut.

        A copy of the estimator takes the labels of one fold back after the other.
        """

        def found(seen: IntArray, rows: IntArray) -> FloatArray:
            estimator = self._copy_of_estimator()
            if self._dataset is dataset:
                estimator.update(seen)
            else:
                estimator.fit(dataset.graph.affinity, seen)
            probabilities = np.zeros((len(rows), n_classes))
            probabilities[:, estimator.classes_] = estimator.label_distributions_[rows]
            probabilities[estimator.evidence_[rows] == 0] = class_prior(seen, n_classes)
            return probabilities

        return fold_by_fold(found, labels, n_classes, folds)

    def _copy_of_estimator(self) -> LabelSpreading | LabelPropagation:
        """Its graph is shared: a fit does not change it."""
        parts = vars(self._estimator)
        shared = (parts[name] for name in ("X_", "_equations") if name in parts)
        return copy.deepcopy(self._estimator, {id(part): part for part in shared})

    @cached_property
    def _estimator(self) -> LabelSpreading | LabelPropagation:
        from annotator.models import label_spreading  # slow to import

        made: LabelSpreading | LabelPropagation = getattr(label_spreading, self.estimator_name)(**self._parameters)
        return made

    def warm_up(self) -> None:
        """Import and compile in the background what the first fit would wait for."""
        threading.Thread(target=lambda: self._estimator.warm_up(), name="compile", daemon=True).start()

    def join(self, dataset: Dataset, features: FeatureArray) -> None:
        """Find the neighbours of a held-out set in advance, so that the first fit does not wait for them."""
        self._weights_to_pool(dataset, features)

    def _learn(self, dataset: Dataset, labels: IntArray) -> None:
        if self._dataset is dataset:
            self._estimator.update(labels)
        else:
            self._estimator.fit(dataset.graph.affinity, labels)
            self._dataset = dataset

    def _prediction(self, n_classes: int) -> Prediction:
        """The estimator's answer for all classes, copied; the prior includes classes without a label."""
        estimator, before = self._estimator, self._fitted
        if len(estimator.classes_) != n_classes:
            probabilities = np.zeros((len(estimator.evidence_), n_classes))
            probabilities[:, estimator.classes_] = estimator.label_distributions_
            probabilities[estimator.evidence_ == 0] = self._prior
            return Prediction(probabilities, estimator.evidence_)
        probabilities = estimator.label_distributions_
        if before is None or before.probabilities.shape != probabilities.shape:
            return Prediction(probabilities, estimator.evidence_)
        figures = before.figures.after(probabilities, estimator.changed_)
        return Prediction(probabilities, estimator.evidence_, changed=estimator.changed_, figures=figures)

    @property
    def _voters(self) -> FloatArray:
        """(n_images, n_classes) the last probabilities, zeros in rows that no label reaches."""
        assert self._fitted is not None
        assert self._fitted.evidence is not None
        reached = self._fitted.evidence > 0
        probabilities = self._fitted.probabilities
        return probabilities if reached.all() else np.where(reached[:, None], probabilities, 0.0)

    def _weights_to_pool(self, dataset: Dataset, features: FeatureArray) -> SparseMatrix:
        """(n_new, n_images) affinities; kept, since the same held-out set is predicted after every fit."""
        joined = self._joined
        if joined is None or joined[0] is not dataset or joined[1] is not features:
            joined = self._joined = (dataset, features, dataset.graph.connect(features))
        return joined[2]


class SparseLabelSpreading(_GraphModel):
    """Labels spread along the graph and fade with distance, labeled images included: forgives wrong labels."""

    estimator_name = "LabelSpreading"

    def __init__(self, alpha: float = 0.9, tolerance: float = 1e-6) -> None:
        if not 0 < alpha < 1:
            raise ConfigError(f"label-spreading.alpha must lie between 0 and 1, not {alpha}.")
        super().__init__(tolerance, alpha=alpha)


class SparseLabelPropagation(_GraphModel):
    """Labels stay as given, every other image is the mean of its neighbours: trusts each label fully."""

    estimator_name = "LabelPropagation"

    def __init__(self, tolerance: float = 1e-6) -> None:
        super().__init__(tolerance)
