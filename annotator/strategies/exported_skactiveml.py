"""Our query strategies as one of scikit-activeml's; importing this needs the extra active-learning.

from annotator.strategies.exported_skactiveml import AnnotatorStrategy

strategy = AnnotatorStrategy("herding", random_state=0)
rows = strategy.query(X, y, clf=classifier, batch_size=10)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from annotator import registry
from annotator.errors import ConfigError
from annotator.strategies.exported import codes, dataset_of, pool_of
from annotator.strategies.others import EXTRA, LARGEST_SEED
from annotator.types import UNLABELED, Choice, Dataset, FeatureArray, FloatArray, IntArray, Pool

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import MISSING_LABEL, is_labeled
except ModuleNotFoundError as error:
    raise ConfigError(
        f"AnnotatorStrategy needs scikit-activeml, which is not installed. Install it from the checkout: {EXTRA}"
    ) from error


class AnnotatorStrategy(SingleAnnotatorPoolQueryStrategy):  # type: ignore[misc]  # scikit-activeml ships no types
    """Any of our query strategies, by its name in the registry, with `parameters` of its own.

    `missing_label` and `random_state` are scikit-activeml's.
    """

    def __init__(
        self,
        strategy: str = "recommended",
        parameters: dict[str, Any] | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.strategy = strategy
        self.parameters = parameters

    def query(
        self,
        X: ArrayLike,  # noqa: N803  # scikit-activeml's
        y: ArrayLike,
        clf: Any = None,  # a classifier of theirs
        fit_clf: bool = True,
        sample_weight: ArrayLike | None = None,
        candidates: ArrayLike | None = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> IntArray | tuple[IntArray, FloatArray]:
        """Rows of `X` (n_samples, n_features) to label, best first: (batch_size,).

        `y` (n_samples,) has the missing label where there is none. `clf` is a classifier of scikit-activeml, fitted on
        `X` and `y` first if `fit_clf`. Without one every sample looks alike, each class of `y` as likely as the others,
        which strategies that go by features do not mind: `typical`, `coverage`, `herding`.
        `candidates` are rows of `X`, by default those without a label. Fewer rows come back where fewer differ.

        Utilities are (batch_size, n_samples), by place in the batch: the scores of what was chosen there or later,
        -inf for candidates that were not chosen, NaN for all others and for what was chosen before.
        Raises ConfigError for an unknown strategy, and scikit-activeml's errors for arguments that do not fit.
        """
        features, answers, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        _, rows = self._transform_candidates(candidates, features, answers, enforce_mapping=True)
        fitted = self._fitted(clf, fit_clf, features, answers, sample_weight)
        pool = self._pool(features, answers, np.asarray(rows), fitted)
        rng = np.random.default_rng(int(self.random_state_.randint(LARGEST_SEED)))
        choice = registry.create("strategy", self.strategy, self.parameters).query(pool, batch_size, rng)
        return (choice.rows, _utilities(choice, pool)) if return_utilities else choice.rows

    def _fitted(self, clf: Any, fit_clf: bool, features: FeatureArray, answers: Any, weights: ArrayLike | None) -> Any:
        if clf is None or not fit_clf:
            return clf
        from sklearn.base import clone

        given = () if weights is None else (weights,)
        return clone(clf).fit(features, answers, *given)

    def _pool(self, features: FeatureArray, answers: Any, candidates: IntArray, clf: Any) -> Pool:
        dataset = self._dataset_of(features)
        known = is_labeled(answers, self.missing_label_)
        labels = np.full(len(dataset), UNLABELED)
        classes = np.unique(answers[known]) if clf is None else clf.classes_
        labels[known] = codes(answers[known], classes)
        return pool_of(dataset, labels, candidates, None if clf is None else clf.predict_proba(features))

    def _dataset_of(self, features: FeatureArray) -> Dataset:
        """The last one again where the features are the same, so that its graph is made once."""
        kept: tuple[FeatureArray, Dataset] | None = getattr(self, "_kept", None)
        if kept is None or not np.array_equal(kept[0], features):
            kept = self._kept = (features, dataset_of(features))
        return kept[1]


def _utilities(choice: Choice, pool: Pool) -> FloatArray:
    utilities = np.full((len(choice.rows), len(pool.dataset)), np.nan)
    utilities[:, pool.candidates] = -np.inf
    for place, row in enumerate(choice.rows.tolist()):
        utilities[: place + 1, row] = choice.scores[place]
        utilities[place + 1 :, row] = np.nan
    return utilities
