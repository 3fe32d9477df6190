"""Kernel ridge regression on one-hot targets: classifies by similarity to the labeled images. Knows no graph.

    scores(x) = sum over labeled y of k(x, y) A_y,  (K + penalty I) A = Y,  k(x, y) = exp(-gamma |x - y|^2)

with `gamma` measured in the pool's own spread (divided by the sum of its features' variances), and probabilities
softmax(sharpness * scores) over the classes seen. Saunders, Gammerman & Vovk, "Ridge Regression Learning Algorithm in
Dual Variables", ICML 1998.

**What a refit costs.** The kernel between the pool and each labeled image is a column that is computed once and kept,
in single precision, so that a refit computes the columns of new labels, solves for A and multiplies. Beyond
`MOST_LANDMARKS` labels, or `MOST_CELLS` numbers kept, columns are those of as many labeled images only, the landmarks,
drawn evenly from them (the subset of regressors: all labels are still fitted, by functions of the landmarks):

    (K_ml K_lm + penalty K_mm) A = K_ml Y

Quinonero-Candela & Rasmussen, "A Unifying View of Sparse Approximate Gaussian Process Regression", JMLR 2005. Which
are landmarks depends on the labeled rows alone.

On Fashion-MNIST (50,000 images, random labels, 10,000 other training images to measure on, 3 seeds) 1,000 landmarks of
3,000 labels are right in 91.2 %, all of them in 91.7; within the vote 91.2 and 91.4. 100 landmarks of 1,000 labels are
right in 86.2 %, all in 89.7; within the vote 89.5 and 90.0.

Probabilities are those of a fresh fit to 1e-5. What was fitted before decides which columns were computed together, in
which order they are kept and added up, and which of labels that are gone are still among them, times 0: single
precision rounds accordingly. After the same fits in the same order they are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

import numpy as np

from annotator.errors import ConfigError, ModelError
from annotator.models.head import scaling_of, softmax
from annotator.models.out_of_fold import fold_by_fold
from annotator.models.priors import label_shares
from annotator.threads import at_most
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Prediction

MOST_LANDMARKS = 1_000
"""What it costs in accuracy is above."""
MOST_CELLS = 100_000_000
"""400 MB: 1,000 landmarks for up to 100,000 images, 100 for a million."""
ROWS_PER_CHUNK = 4_096
MAX_THREADS = 1
"""Products are small or wait for memory: two threads gain little, and on a busy machine they wait for each other."""
JITTER = 1e-8
"""Times the number of labels, so that rounding leaves the system positive: a round number."""


class _Columns:
    """Kernel columns k(., y) over the rows of `features`, for the images y needed so far, as rows of one array."""

    def __init__(self, features: FeatureArray, centre: FeatureArray, gamma: float, most: int) -> None:
        self.features = features
        self._centre = centre
        """(n_features,) the pool's mean."""
        self._gamma = gamma
        self._kept = np.empty((most, len(features)), dtype=np.float32)
        self._holds = np.full(most, UNLABELED, dtype=np.int64)
        """(most,) which row of the pool each kept column is of; the first -1 ends them."""

    def ready(self, rows: IntArray, landmarks: FloatArray) -> None:
        """Compute the missing columns of these rows of the pool; `landmarks` (n, n_features) are their features."""
        missing = ~np.isin(rows, self._holds)
        if missing.any():
            places = np.flatnonzero(~np.isin(self._holds, rows))
            places = np.sort(places[np.argsort(self._holds[places] != UNLABELED, kind="stable")][: missing.sum()])
            self._compute(places, landmarks[missing])
            self._holds[places] = rows[missing]

    def times(self, rows: IntArray, coefficients: FloatArray) -> FloatArray:
        """Sum of these rows' columns times coefficients (n_rows, n_classes) -> (len(features), n_classes)."""
        n_used = np.count_nonzero(self._holds != UNLABELED)
        held = self._holds[:n_used]
        order = np.argsort(held)
        factors = np.zeros((n_used, coefficients.shape[1]), dtype=np.float32)
        factors[order[np.searchsorted(held, rows, sorter=order)]] = coefficients
        return np.asarray((factors.T @ self._kept[:n_used]).T)

    def _compute(self, places: IntArray, landmarks: FloatArray) -> None:
        """In single precision, as they are kept: the error is that of the features' own rounding."""
        near = landmarks - self._centre
        to = np.asarray(2 * self._gamma * near.T, dtype=np.float32, order="C")
        own = -self._gamma * np.einsum("ij,ij->i", near, near) - self._centre @ to
        for chunk in _chunks(len(self.features)):
            exponents = np.ascontiguousarray((self.features[chunk] @ to).T)
            exponents += own.astype(np.float32)[:, None]
            exponents += self._lengths[chunk]
            np.minimum(exponents, 0, out=exponents)
            self._kept[places, chunk] = np.exp(exponents, out=exponents)

    @cached_property
    def _lengths(self) -> FeatureArray:
        """(n,) -gamma |x - centre|^2 of each row."""
        parts = (self.features[chunk] - self._centre for chunk in _chunks(len(self.features)))
        squares = [np.einsum("ij,ij->i", part, part) for part in parts]
        return np.asarray(-self._gamma * np.concatenate(squares), dtype=np.float32)


@dataclass(frozen=True)
class _Space:
    """What depends on the dataset alone, not on labels."""

    dataset: Dataset
    centre: FeatureArray
    """(n_features,) the pool's mean."""
    gamma: float
    most: int
    order: IntArray
    """(n_images,) each row's position in a fixed random order; the labeled rows that come first are the landmarks."""
    columns: _Columns


@dataclass(frozen=True)
class _Fit:
    """The last fit: classes seen, label shares, landmarks and their coefficients."""

    seen: IntArray
    shares: FloatArray
    rows: IntArray
    landmarks: FloatArray
    coefficients: FloatArray


class KernelRidge:
    """Labeled images vote by similarity, weighed so that together they fit the labels: good with a thousand labels."""

    goes_on = True
    """Rounding depends on the order in which labels came."""

    # Trials on clothes: a penalty of 0.3 is a little better than 0.1; gamma and sharpness were taken with them.
    def __init__(self, penalty: float = 0.3, gamma: float = 0.7, sharpness: float = 8.0) -> None:
        self.penalty = _positive("penalty", penalty)
        self.gamma = _positive("gamma", gamma)
        self.sharpness = _positive("sharpness", sharpness)
        self._space: _Space | None = None
        self._outside: _Columns | None = None
        self._fit: _Fit | None = None

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; `evidence` is None."""
        import_module("scipy.linalg")  # slow, so not at start; before the limit, which holds for what is loaded by then
        with at_most(MAX_THREADS):
            space = self._space_of(dataset)
            self._fit = fit = self._solved(space, labels, n_classes)
            return Prediction(self._probabilities(fit, space.columns))

    def follow(self, dataset: Dataset, labels: IntArray, n_classes: int) -> None:
        """Repeat a recorded fit without a prediction: computes the columns that it would have computed."""
        with at_most(MAX_THREADS):
            space = self._space_of(dataset)
            labeled = np.flatnonzero(labels != UNLABELED)
            if len(np.unique(labels[labeled])) > 1:  # with fewer classes a fit computes no column
                rows = _landmarks(space, labeled)
                space.columns.ready(rows, _exactly(dataset, rows))

    def of_rows(self, dataset: Dataset, labels: IntArray, n_classes: int, rows: IntArray) -> FloatArray:
        """What a fit on these labels says of some rows of the pool, (n_rows, n_classes); the last fit stays."""
        import_module("scipy.linalg")
        with at_most(MAX_THREADS):
            space = self._space_of(dataset)
            fit = self._solved(space, labels, n_classes)
            return self._probabilities(
                fit, _Columns(dataset.features[rows], space.centre, space.gamma, max(1, len(fit.rows)))
            )

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of labeled images, each without the labels of its own fold; see LeavesOut."""

        def found(seen: IntArray, rows: IntArray) -> FloatArray:
            return self.of_rows(dataset, seen, n_classes, rows)

        return fold_by_fold(found, labels, n_classes, folds)

    def predict(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n_classes). Raises ModelError (MODEL_NOT_FITTED) before the first fit."""
        fit, space = self._fit, self._space
        if fit is None or space is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        most = max(1, MOST_CELLS // space.most)
        with at_most(MAX_THREADS):
            if len(features) > most:
                parts = [features[start : start + most] for start in range(0, len(features), most)]
                columns = (_Columns(part, space.centre, space.gamma, max(1, len(fit.rows))) for part in parts)
                return np.concatenate([self._probabilities(fit, each) for each in columns])
            # A held-out set is predicted after every fit: its columns are kept.
            if self._outside is None or self._outside.features is not features:
                self._outside = _Columns(features, space.centre, space.gamma, space.most)
            return self._probabilities(fit, self._outside)

    def _space_of(self, dataset: Dataset) -> _Space:
        if self._space is None or self._space.dataset is not dataset:
            self._outside = None
            n_images, n_features = dataset.features.shape
            scaling = scaling_of(dataset.features)
            gamma = self.gamma / (scaling.spread**2 * n_features)
            most = min(MOST_LANDMARKS, n_images, max(1, MOST_CELLS // max(1, n_images)))
            order = np.random.default_rng(0).permutation(n_images)
            columns = _Columns(dataset.features, scaling.mean, gamma, most)
            self._space = _Space(dataset, scaling.mean, gamma, most, order, columns)
        return self._space

    def _solved(self, space: _Space, labels: IntArray, n_classes: int) -> _Fit:
        import scipy.linalg

        labeled = np.flatnonzero(labels != UNLABELED)
        shares, seen = label_shares(labels, n_classes), np.unique(labels[labeled])
        if len(seen) < 2:  # nothing to tell apart
            return _Fit(seen, shares, labeled[:0], np.zeros((0, 0)), np.zeros((0, 0)))
        rows = _landmarks(space, labeled)
        landmarks = _exactly(space.dataset, rows)
        targets = np.asarray(labels[labeled][:, None] == seen, dtype=np.float64)
        if len(rows) == len(labeled):
            system, right = gaussian_kernel(landmarks, landmarks, space.gamma), targets
            system[np.diag_indices_from(system)] += self.penalty
        else:
            across = gaussian_kernel(landmarks, _exactly(space.dataset, labeled), space.gamma)
            system = across @ across.T + self.penalty * gaussian_kernel(landmarks, landmarks, space.gamma)
            system[np.diag_indices_from(system)] += JITTER * len(labeled)
            right = across @ targets
        coefficients = scipy.linalg.solve(_finite(system), right, assume_a="pos", overwrite_a=True, check_finite=False)
        return _Fit(seen, shares, rows, landmarks, coefficients)

    def _probabilities(self, fit: _Fit, columns: _Columns) -> FloatArray:
        if not len(fit.rows):
            return np.tile(fit.shares, (len(columns.features), 1))
        columns.ready(fit.rows, fit.landmarks)
        of_seen = softmax(_finite(columns.times(fit.rows, self.sharpness * fit.coefficients)))
        if len(fit.seen) == len(fit.shares):
            return of_seen
        probabilities = np.zeros((len(columns.features), len(fit.shares)))
        probabilities[:, fit.seen] = of_seen
        return probabilities


def gaussian_kernel(features: FloatArray, others: FloatArray, gamma: float) -> FloatArray:
    """(n, n_features), (m, n_features) -> exp(-gamma |x - y|^2), (n, m), in double precision: for the system to solve.

    strategies/herding.py has its own in single precision, of features scaled to length 1.
    """
    squared = features @ (-2 * others.T)
    squared += np.einsum("ij,ij->i", features, features)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    np.maximum(squared, 0, out=squared)
    squared *= -gamma
    return np.asarray(np.exp(squared, out=squared))


def _chunks(n_rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_PER_CHUNK) for start in range(0, n_rows, ROWS_PER_CHUNK))


def _landmarks(space: _Space, labeled: IntArray) -> IntArray:
    """Landmark rows, ascending: all labeled rows, or as many of them as columns may be kept."""
    if len(labeled) <= space.most:
        return labeled
    return np.sort(labeled[np.argsort(space.order[labeled])[: space.most]])


def _finite(values: FloatArray) -> FloatArray:
    """Returns `values`. Raises ModelError where one is infinite or NaN."""
    if not np.isfinite(values).all():
        raise ModelError(
            "The model 'kernel-ridge' cannot work with these features: some are NaN, or too large. Choose another "
            "model or encoder; your labels are safe."
        )
    return values


def _exactly(dataset: Dataset, rows: IntArray) -> FloatArray:
    return np.asarray(dataset.features[rows], dtype=np.float64)


def _positive(parameter: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ConfigError(f"kernel-ridge.{parameter} must be above 0, not {value}.")
    return value
