"""Our query strategies for programs that have arrays: a pool made of them, and a query function for modAL.

    from annotator.strategies.exported import QueryFunction

    learner = ActiveLearner(estimator, query_strategy=QueryFunction("herding", seed=0), X_training=..., y_training=...)
    rows, images = learner.query(X_pool, n_instances=10)

modAL itself is not needed for that; `exported_skactiveml.py` has the same for scikit-activeml. What a strategy gets is
what a project would give it: features in single precision, labels, and the probabilities of the classifier on every
image. The neighbour graph is made when a strategy first looks at it, which few do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from annotator import registry
from annotator.errors import ConfigError
from annotator.graph import build_graph, checked
from annotator.types import (
    UNLABELED,
    Choice,
    Dataset,
    FeatureArray,
    FloatArray,
    Graph,
    IntArray,
    Pool,
    Prediction,
    QueryStrategy,
    SparseMatrix,
)


class GraphWhenAsked:
    """The neighbour graph of (n_images, n_features), built when it is first used."""

    def __init__(self, features: FeatureArray) -> None:
        self._features = features

    @cached_property
    def _built(self) -> Graph:
        return build_graph(self._features)

    @property
    def affinity(self) -> SparseMatrix:
        return self._built.affinity

    @property
    def description(self) -> str:
        return self._built.description

    def connect(self, features: FeatureArray) -> SparseMatrix:
        return self._built.connect(features)


def dataset_of(features: ArrayLike) -> Dataset:
    """(n_images, n_features) numbers as a dataset without pictures; equal rows are one group.

    Raises FeatureError for features that are no numbers or too large.
    """
    rows = np.ascontiguousarray(features, dtype=np.float32)
    checked(rows)
    return Dataset(
        ids=[f"row/{row:05d}" for row in range(len(rows))],
        images=np.zeros((len(rows), 1, 1, 1), dtype=np.uint8),
        features=rows,
        graph=GraphWhenAsked(rows),
        group=_groups(rows),
        version=hashlib.sha256(rows.tobytes()).hexdigest(),
        open_image=_no_picture,
    )


def pool_of(
    dataset: Dataset,
    labels: IntArray,
    candidates: IntArray,
    probabilities: FloatArray | None = None,
    members: Sequence[FloatArray] = (),
) -> Pool:
    """What a strategy is given: labels (n_images,), -1 = unlabeled; probabilities (n_images, n_classes).

    Without probabilities every image may be of each class that has labels, and all look alike; `members` are the parts
    of a committee, where there is one.
    """
    n_classes = max(1, int(labels.max(initial=UNLABELED)) + 1)
    uniform = np.full((len(dataset), n_classes), 1 / n_classes)
    said = uniform if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    parts = tuple(np.asarray(part, dtype=np.float64) for part in members)
    return Pool(dataset, labels, Prediction(said, members=parts), np.sort(candidates))


class QueryFunction:
    """Any of our strategies as a query function of modAL 0.4: (learner, X_pool, n_instances) -> (rows, scores).

    `strategy` and `parameters` are as in the registry. Equal seeds and equal calls give equal batches. The learner's
    own training data counts as labeled. Of a modAL Committee the members' probabilities are known as well.
    """

    def __init__(self, strategy: str = "recommended", parameters: dict[str, Any] | None = None, seed: int = 0) -> None:
        self.strategy: QueryStrategy = registry.create("strategy", strategy, parameters)
        self._rng = np.random.default_rng(seed)

    def __call__(self, classifier: Any, X: ArrayLike, n_instances: int = 1) -> tuple[IntArray, FloatArray]:  # noqa: N803  # modAL's
        """Rows of `X` (n_pool, n_features), best first, and their scores: higher = ask sooner.

        Raises ConfigError where `n_instances` is not positive.
        """
        choice = self._chosen(classifier, _table(X), n_instances)
        return choice.rows, choice.scores

    def _chosen(self, learner: Any, pool: FeatureArray, size: int) -> Choice:
        if size < 1:
            raise ConfigError(f"n_instances must be at least 1, not {size}.")
        known, answers = _training(learner, pool)
        dataset = dataset_of(np.concatenate([known, pool]))
        classes, probabilities, members = _said(learner, dataset.features)
        labels = np.full(len(dataset), UNLABELED)
        labels[: len(known)] = codes(answers, np.unique(answers) if classes is None else classes)
        candidates = np.arange(len(known), len(dataset))
        choice = self.strategy.query(pool_of(dataset, labels, candidates, probabilities, members), size, self._rng)
        return Choice(choice.rows - len(known), choice.scores)


def codes(answers: ArrayLike, classes: ArrayLike) -> IntArray:
    """(n,) class labels of any kind -> (n,) their places among the classes. Raises ConfigError for one of no class."""
    given, known = np.asarray(answers), np.asarray(classes)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known, given, sorter=order), len(known) - 1) if len(known) else np.zeros(0)
    found = order[np.asarray(places, dtype=np.int64)] if len(given) else np.zeros(0, dtype=np.int64)
    if not np.array_equal(known[found], given):
        raise ConfigError("There are labels that are none of the classifier's classes. Fit it on them first.")
    return found


def _training(learner: Any, pool: FeatureArray) -> tuple[FeatureArray, Any]:  # Any: labels of any kind
    """What a learner of modAL was fitted on, or the learners of a committee: (n, n_features), (n,)."""
    learners = getattr(learner, "learner_list", [learner])
    known = [one for one in learners if getattr(one, "X_training", None) is not None]
    if not known:
        return np.zeros((0, pool.shape[1]), dtype=np.float32), np.zeros(0, dtype=np.int64)
    features = np.concatenate([_table(one.X_training) for one in known])
    answers = np.concatenate([np.asarray(one.y_training) for one in known])
    _, first = np.unique(features, axis=0, return_index=True)  # members often share their images
    first = np.sort(first)
    return features[first], answers[first]


def _said(learner: Any, features: FeatureArray) -> tuple[Any, FloatArray | None, list[FloatArray]]:
    """Classes, probabilities of every image, those of each member; none of all that before a first fit."""
    from sklearn.exceptions import NotFittedError

    try:
        probabilities = np.asarray(learner.predict_proba(features))
    except NotFittedError:
        return None, None, []
    if hasattr(learner, "vote_proba"):
        votes = np.asarray(learner.vote_proba(features))  # (n_images, n_members, n_classes)
        return learner.classes_, probabilities, list(votes.transpose(1, 0, 2))
    return getattr(learner, "estimator", learner).classes_, probabilities, []


def _table(features: ArrayLike) -> FeatureArray:
    """(n, anything) -> (n, n_features) float32."""
    rows = np.asarray(features, dtype=np.float32)
    return rows.reshape(len(rows), -1)


def _groups(rows: FeatureArray) -> IntArray:
    """(n,) the first row equal to each."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), place) for place, row in enumerate(rows)], dtype=np.int64)


def _no_picture(row: int, side: int) -> Any:
    raise ConfigError("A dataset made of arrays has no pictures.")
