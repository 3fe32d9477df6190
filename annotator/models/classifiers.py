"""scikit-learn's classifiers on the features. Knows no graph: an image's neighbours say nothing about it.

They are fitted on the labeled images; only self-training uses the others. Probabilities are the estimator's own, with a
column of zeros for each class without a label. Where one class has labels, every image is predicted to be of it.

Each is a function of features and labels, bit for bit: random numbers come from a fixed seed, and no sum depends on
which of two threads is done first. scikit-learn and SciPy are imported where they are used: a project that opens makes
its model, and need not wait a second for what the first fit needs.
"""

from __future__ import annotations

import ast
import copy
import inspect
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from textwrap import shorten
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from annotator.errors import ConfigError, ModelError
from annotator.models.head import softmax
from annotator.models.out_of_fold import fold_by_fold
from annotator.models.priors import label_shares, normalised
from annotator.threads import at_most
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Prediction

FAMILY = "sklearn"
MAX_THREADS = 2
ROWS_PER_CHUNK = 4096  # bounds what an estimator allocates per predicted row
MAX_FOLDS = 5
MAX_ITERATIONS = 1_000
SEED = 0
N_MATCHES = 5
MAX_QUOTED = 300

Number = TypeVar("Number", int, float)
Features = NDArray[np.floating[Any]]
"""(n, n_features) in single or double precision."""


class Fitted(Protocol):
    """What an estimator of scikit-learn is after `fit`."""

    def predict_proba(self, features: Features) -> FloatArray:
        """(n, n_features) -> (n, n classes seen)."""


class Classifier(ABC):
    """Base of all: selects labeled rows, handles one class, adds missing columns, predicts in chunks, types errors."""

    name: ClassVar[str]
    """Name in the registry, for messages."""
    max_threads: ClassVar[int] = MAX_THREADS

    def __init__(self) -> None:
        self._fitted: Fitted | None = None
        self._seen = np.zeros(0, dtype=np.int64)
        self._shares = np.zeros(0)

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; such a model knows no evidence.

        Raises ModelError (MODEL_FIT) where the estimator refuses these labels and features or answers with NaN.
        """
        self._fit_to(dataset, labels, n_classes)
        return Prediction(self.predict(dataset.features))

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of labeled images, each without the labels of its own fold; see LeavesOut."""
        other = copy.copy(self)

        def found(seen: IntArray, rows: IntArray) -> FloatArray:
            other._fit_to(dataset, seen, n_classes)
            return other.predict(dataset.features[rows])

        return fold_by_fold(found, labels, n_classes, folds)

    def _fit_to(self, dataset: Dataset, labels: IntArray, n_classes: int) -> None:
        self._shares = label_shares(labels, n_classes)
        self._seen = np.flatnonzero(np.bincount(labels[labels != UNLABELED], minlength=n_classes))
        self._fitted = None
        if len(self._seen) > 1:
            # Some estimators use codes as indices, so these run from 0 without a gap.
            codes = np.where(labels == UNLABELED, UNLABELED, np.searchsorted(self._seen, labels))
            with self._bounded():
                self._fitted = self._learn(dataset.features, codes)

    def predict(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n_classes). Raises ModelError (MODEL_NOT_FITTED, MODEL_FIT)."""
        if not self._shares.size:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        if self._fitted is None:
            return np.tile(self._shares, (len(features), 1))
        probabilities = np.zeros((len(features), len(self._shares)))
        columns = slice(None) if len(self._seen) == len(self._shares) else self._seen
        with self._bounded():
            for start in range(0, len(features), ROWS_PER_CHUNK):
                chunk = slice(start, start + ROWS_PER_CHUNK)
                probabilities[chunk, columns] = self._ask(self._fitted, features[chunk])
        return probabilities

    def _learn(self, features: FeatureArray, codes: IntArray) -> Fitted:
        """On the whole pool, -1 = unlabeled."""
        labeled = np.flatnonzero(codes != UNLABELED)
        return self._fit(features[labeled].astype(np.float64), codes[labeled])

    @abstractmethod
    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        """On labeled images of at least two classes."""

    def _ask(self, fitted: Fitted, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n classes seen), rows sum to 1; ValueError where the answer is none."""
        answer = np.asarray(fitted.predict_proba(features.astype(np.float64)), dtype=np.float64)
        if answer.shape != (len(features), len(self._seen)) or not (np.isfinite(answer) & (answer >= 0)).all():
            raise ValueError("its answers are not a probability for each class, or hold NaN")
        return normalised(answer, self._shares[self._seen])

    def _positive(self, parameter: str, value: Number) -> Number:
        if not 0 < value < float("inf"):
            raise ConfigError(f"{self.name}.{parameter} must be above 0, not {value}.")
        return value

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """At most `max_threads` threads; turns any error of the estimator into a ModelError (MODEL_FIT)."""
        import scipy.linalg  # noqa: F401  # its BLAS is there before threads are limited
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.utils import parallel  # noqa: F401  # as is its OpenMP

        with at_most(self.max_threads), warnings.catch_warnings():
            # A solver that stops at its limit still predicts; its accuracy is measured on held-out images.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                yield
            except Exception as error:  # estimators raise errors of many types on unsuitable data
                raise ModelError(
                    f"The model {self.name!r} cannot work with these features and labels: {one_sentence(error)} "
                    "Choose another model or encoder, or label more images; your labels are safe."
                ) from error


@cache
def _forest_class() -> Any:  # scikit-learn ships no types
    """A random forest fitted in two threads, predicts in one: two would sum the votes in a varying order."""
    from joblib import parallel_config
    from sklearn.ensemble import RandomForestClassifier

    class Forest(RandomForestClassifier):  # type: ignore[misc]  # scikit-learn ships no types
        def fit(self, X: FloatArray, y: IntArray, sample_weight: FloatArray | None = None) -> Any:  # noqa: N803  # sklearn's
            with parallel_config(backend="threading", n_jobs=MAX_THREADS):
                return super().fit(X, y, sample_weight)

    return Forest


class RandomForest(Classifier):
    """A vote of many decision trees on the labeled images: robust, and little to set."""

    name = "random-forest"

    def __init__(self, n_trees: int = 100, seed: int = SEED) -> None:
        super().__init__()
        self.n_trees = self._positive("n_trees", n_trees)
        self.seed = seed

    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        fitted: Fitted = self._forest().fit(features, codes)
        return fitted

    def _forest(self) -> Any:  # scikit-learn ships no types
        return _forest_class()(self.n_trees, random_state=self.seed)


class SelfTraining(RandomForest):
    """A random forest that takes its own surest guesses for labels and learns again: slow on large pools.

    scikit-learn's SelfTrainingClassifier, at most 10 rounds. Yarowsky, "Unsupervised Word Sense Disambiguation
    Rivaling Supervised Methods", ACL 1995.
    """

    name = "self-training"

    def __init__(self, threshold: float = 0.75, n_trees: int = 100, seed: int = SEED) -> None:
        super().__init__(n_trees, seed)
        if not 0 <= threshold < 1:
            raise ConfigError(f"self-training.threshold must be at least 0 and below 1, not {threshold}.")
        self.threshold = threshold

    def _learn(self, features: FeatureArray, codes: IntArray) -> Fitted:
        if (codes != UNLABELED).all():  # no unlabeled image: the forest alone, without scikit-learn's warning
            return self._fit(features.astype(np.float64), codes)
        from sklearn.semi_supervised import SelfTrainingClassifier

        trainer = SelfTrainingClassifier(self._forest(), threshold=self.threshold)
        fitted: Fitted = trainer.fit(features, codes)
        return fitted


class NearestNeighbors(Classifier):
    """The nearest labeled images vote, nearer ones more."""

    name = "knn"

    def __init__(self, n_neighbors: int = 5) -> None:
        super().__init__()
        self.n_neighbors = self._positive("n_neighbors", n_neighbors)

    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        from sklearn.neighbors import KNeighborsClassifier

        neighbors = KNeighborsClassifier(min(self.n_neighbors, len(codes)), weights="distance")
        fitted: Fitted = neighbors.fit(features, codes)
        return fitted


class LogisticRegression(Classifier):
    """A straight border between every two classes: fast, its probabilities are close to honest.

    `c` is scikit-learn's C for features whose variances add up to 1 (it is divided by what they add up to), so that
    one value suits every encoder: the larger, the closer it follows the labels.
    """

    name = "logistic-regression"
    max_threads = 1
    """A fit is a few hundred small products; a second thread costs more than it gains."""

    def __init__(self, c: float = 10.0) -> None:
        super().__init__()
        self.c = self._positive("c", c)

    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        from sklearn import linear_model

        spread = features.var(axis=0).sum()
        regression = linear_model.LogisticRegression(
            C=self.c / spread if spread > 0 else self.c, max_iter=MAX_ITERATIONS
        )
        fitted: Fitted = regression.fit(features, codes)
        return _linear(fitted)

    def _ask(self, fitted: Fitted, features: FeatureArray) -> FloatArray:
        """By single-precision products, without the copy of the features in double precision that others take."""
        answer = fitted.predict_proba(features)
        if not np.isfinite(answer).all():
            raise ValueError("its answers hold NaN")
        return answer


@dataclass(frozen=True)
class _Linear:
    """softmax(x @ coefficients + offsets), products in single precision: as good as the features' own rounding."""

    coefficients: FeatureArray
    """(n_features, n_classes)"""
    offsets: FloatArray
    """(n_classes,)"""

    def predict_proba(self, features: Features) -> FloatArray:
        return softmax(features @ self.coefficients + self.offsets)


def _linear(regression: Any) -> _Linear:  # scikit-learn ships no types
    """A fitted logistic regression of two classes or more; for two it keeps one border."""
    borders, offsets = regression.coef_, regression.intercept_
    if len(borders) == 1:
        borders, offsets = np.vstack([0 * borders, borders]), np.append(0.0, offsets)
    return _Linear(np.asarray(borders.T, dtype=np.float32, order="C"), offsets)


@dataclass(frozen=True)
class _SoftmaxMachine:
    """A support vector machine's decision values d as softmax(sharpness * d); (-d, d) where there are two classes."""

    machine: Any  # scikit-learn ships no types
    sharpness: float

    def predict_proba(self, features: Features) -> FloatArray:
        return softmax(self.sharpness * _by_class(self.machine.decision_function(features)))


class SupportVectors(Classifier):
    """A curved border as far as can be from the labeled images (rbf): accurate, slow above 10,000 labels.

    Probabilities by temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) on
    decision values from cross-validation: scikit-learn's CalibratedClassifierCV(SVC(), method="temperature",
    ensemble=False). Its `SVC(probability=True)` is deprecated. A class with a single label cannot be
    cross-validated: until it has two, the temperature is 1.
    """

    name = "svc"

    def __init__(self, c: float = 5.0) -> None:
        super().__init__()
        self.c = self._positive("c", c)

    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        from sklearn.model_selection import cross_val_predict
        from sklearn.svm import SVC

        sharpness, n_folds = 1.0, min(MAX_FOLDS, int(np.bincount(codes).min()))
        if n_folds > 1:
            decisions = cross_val_predict(SVC(C=self.c), features, codes, cv=n_folds, method="decision_function")
            sharpness = _sharpness(_by_class(decisions), codes)
        return _SoftmaxMachine(SVC(C=self.c).fit(features, codes), sharpness)


class _Named(Classifier):
    """Any classifier of scikit-learn, with its own constructor's parameters; `named` makes a class for each."""

    estimator: ClassVar[Any]  # scikit-learn ships no types
    __signature__: ClassVar[inspect.Signature]

    def __init__(self, **parameters: Any) -> None:  # Any: each estimator has its own
        super().__init__()
        given = self.__signature__.bind(**{key: read_text(value) for key, value in parameters.items()})
        given.apply_defaults()
        self.parameters = given.arguments
        if not hasattr(self._unfitted(), "predict_proba"):
            raise ConfigError(
                f"{self.name} gives no probabilities with these parameters. Choose others (the documentation of its "
                "predict_proba says which), or a model such as svc or logistic-regression."
            )

    def _fit(self, features: FloatArray, codes: IntArray) -> Fitted:
        fitted: Fitted = self._unfitted().fit(features, codes)
        return fitted

    def _unfitted(self) -> Any:  # scikit-learn ships no types
        return self.estimator(**self.parameters)


@cache
def named(name: str) -> type[Classifier]:
    """The model "sklearn:NAME" for the registry: any of `sklearn.utils.all_estimators` that has `predict_proba`.

    Its parameters are the estimator's own; text is read as a number, true, null or a list where it is one, and
    `random_state` is 0 unless given. Raises ConfigError for another name.
    """
    estimator = _with_probabilities().get(name)
    if estimator is None:
        raise ConfigError(_unknown(name))
    adapter: type[Classifier] = type(
        name,
        (_Named,),
        {
            "__doc__": f"scikit-learn's {name}: {(inspect.getdoc(estimator) or name).splitlines()[0]}",
            "__signature__": _seeded(inspect.signature(estimator)),
            "name": f"{FAMILY}:{name}",
            "estimator": estimator,
        },
    )
    return adapter


@cache
def _with_probabilities() -> dict[str, Any]:  # scikit-learn ships no types
    from sklearn.utils import all_estimators

    return {name: found for name, found in all_estimators("classifier") if hasattr(found, "predict_proba")}


def _unknown(name: str) -> str:
    known = _with_probabilities()
    by_lower = {one.lower(): one for one in known}
    close = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, N_MATCHES)]
    offered = f"Did you mean: {', '.join(close)}?" if close else f"Choose from: {', '.join(known)}."
    return f"scikit-learn has no classifier {name!r} that gives probabilities. {offered}"


def _seeded(signature: inspect.Signature) -> inspect.Signature:
    """The same parameters, by keyword and with a fixed random state."""
    return signature.replace(
        parameters=[
            one.replace(kind=one.KEYWORD_ONLY, default=SEED if one.name == "random_state" else one.default)
            for one in signature.parameters.values()
        ]
    )


def read_text(value: Any) -> Any:  # Any: a parameter of any estimator
    """Text as JSON or Python would read it: `3`, `0.5`, `true`, `None`, `(100, 50)`; else as it is."""
    if isinstance(value, str):
        for reader in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, TypeError, RecursionError):
                return reader(value)
    return value


def _sharpness(decisions: FloatArray, codes: IntArray) -> float:
    """The factor that gives (n, n_classes) decision values the smallest log-loss; 1 where it would be infinite."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if (decisions.argmax(axis=1) == codes).all():  # without a mistake, sharper is always better
        return 1.0
    rows = np.arange(len(codes))
    loss = minimize_scalar(
        lambda log_factor: -log_softmax(np.exp(log_factor) * decisions, axis=1)[rows, codes].mean(), bounds=(-10, 10)
    )
    return float(np.exp(loss.x))


def _by_class(decisions: FloatArray) -> FloatArray:
    """(n,) or (n, n_classes) decision values -> (n, n_classes); (n,) is scikit-learn's form for two classes."""
    return np.column_stack([-decisions, decisions]) if decisions.ndim == 1 else decisions


def one_sentence(error: Exception) -> str:
    """The error's message as one line that ends in one full stop."""
    text = shorten(str(error) or type(error).__name__, MAX_QUOTED, placeholder=" …")
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
