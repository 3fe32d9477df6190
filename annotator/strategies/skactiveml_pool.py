"""scikit-activeml's query strategies by name: "skactiveml:TypiClust", "skactiveml:UncertaintySampling", ...

Kottke et al., "scikit-activeml: A Library and Toolbox for Active Learning Algorithms", 2021. They are given the pool's
features, labels and candidates. One that asks a classifier is given the model's probabilities as those of a fitted one,
one that asks a committee those of the vote's members; one that asks for class frequencies (ProbabilisticAL) the
probabilities times the evidence, where the model has any.

Which cannot be used, and why, stands in `CANNOT`. All answer with utilities of every image for every place of a batch;
some compare every two images, or weigh every class against every other. `_cells` says what that takes: more than
`MOST_CELLS` numbers are refused before the memory is gone. How long one takes is not known beforehand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from math import comb
from typing import Any, ClassVar

import numpy as np

from annotator.errors import ConfigError
from annotator.strategies.others import Foreign, Other, adapter, at_least_two, by_keyword, installed, members, unknown
from annotator.types import UNLABELED, FeatureArray, FloatArray, IntArray, Pool

FAMILY = "skactiveml"
PACKAGE = "scikit-activeml"
MOST_CELLS = 2**28
"""Numbers in the largest array that a strategy may make: 2 GiB in double precision."""

_FITTED_ANEW = "it fits the classifier anew for each candidate"
_REGRESSION = "it is for regression"
_WRAPPER = "it wraps another strategy"
CANNOT = {
    "ExpectedErrorReduction": _FITTED_ANEW,
    "MonteCarloEER": _FITTED_ANEW,
    "ValueOfInformationEER": _FITTED_ANEW,
    "DropQuery": "it asks the classifier about images that are not in the pool",
    "FourDs": "it needs a mixture model for its classifier",
    "EpistemicUncertaintySampling": "it needs a Parzen window or a logistic regression for its classifier",
    "ExpectedModelChangeMaximization": _REGRESSION,
    "ExpectedModelOutputChange": _REGRESSION,
    "ExpectedModelVarianceReduction": _REGRESSION,
    "KLDivergenceMaximization": _REGRESSION,
    "GreedySamplingTarget": _REGRESSION,
    "RegressionTreeBasedAL": _REGRESSION,
    "SubSamplingWrapper": _WRAPPER,
    "ParallelUtilityEstimationWrapper": _WRAPPER,
}
"""Strategies of scikit-activeml 1.0 that a pool and a prediction are not enough for."""

_HIDDEN = {
    "classes",
    "missing_label",
    "random_state",
    "clf_embedding_flag_name",
    "predict_dict",
    "n_cluster_param_name",
    "sample_predictions_method_name",
    "sample_predictions_dict",
}
"""Parameters that the pool decides, or that go with a classifier or a clustering of one's own."""


class _Named(Other):
    """One of them; `named` makes a class for each."""

    strategy: ClassVar[Foreign]

    def _choose(self, pool: Pool, candidates: IntArray, size: int, seed: int) -> tuple[IntArray, FloatArray]:
        self._check(pool, candidates, size)
        n_classes = max(2, pool.prediction.probabilities.shape[1])
        own = _names(self.strategy)
        given = {"missing_label": UNLABELED, "random_state": seed, **self.parameters}
        if "classes" in own:
            given["classes"] = list(range(n_classes))
        if "n_classes" in own and given.get("n_classes") is None:
            given["n_classes"] = min(n_classes, len(pool.dataset))  # it makes as many clusters
        if "cluster_algo_dict" in own:  # not every one hands its random state on to the clustering
            given["cluster_algo_dict"] = {"random_state": seed, **(given.get("cluster_algo_dict") or {})}
        try:
            rows, utilities = self.strategy(**given).query(
                X=np.asarray(pool.dataset.features),
                y=np.asarray(pool.labels),
                candidates=candidates,
                batch_size=size,
                return_utilities=True,
                **self._asked_besides(pool, candidates),
            )
        except UnboundLocalError:  # TypiClust of 1.0.1 where every cluster has a label: it means to draw any
            drawn = np.random.default_rng(seed).permutation(candidates)[:size]
            return drawn, np.zeros(len(drawn))
        rows = np.asarray(rows, dtype=np.int64)
        return rows, np.asarray(utilities)[np.arange(len(rows)), rows]

    def _asked_besides(self, pool: Pool, candidates: IntArray) -> dict[str, Foreign]:
        """What its `query` wants besides images and labels."""
        wanted = _names(self.strategy.query)
        if "clf" in wanted:
            return {"clf": _fitted(pool, candidates), "fit_clf": False}
        if "estimator" in wanted:
            return {"estimator": _fitted(pool, candidates), "fit_estimator": False}
        if "ensemble" in wanted:
            committee = [_answering(pool, candidates, part) for part in members(pool, self.name)]
            return {"ensemble": committee, "fit_ensemble": False}
        return {"discriminator": _discriminator()} if "discriminator" in wanted else {}

    def _check(self, pool: Pool, candidates: IntArray, size: int) -> None:
        """Raises ConfigError for a prediction that lacks something and for arrays that would not fit into memory."""
        needs_frequencies = self.strategy.__name__ == "ProbabilisticAL" and self.parameters.get("metric") is None
        if needs_frequencies and pool.prediction.evidence is None:
            raise ConfigError(
                f"The query strategy {self.name!r} asks how much speaks for each class, and this project's model does "
                "not say. Give it the parameter metric=rbf, or choose the model label-spreading."
            )
        cells = _cells(self.strategy.__name__, self.parameters, pool, len(candidates), size)
        if cells > MOST_CELLS:
            raise ConfigError(
                f"The query strategy {self.name!r} would make an array of {8 * cells / 2**30:,.0f} GiB for this pool "
                f"of {len(pool.dataset):,} images and a batch of {size:,}, and the most that it may make is "
                f"{8 * MOST_CELLS / 2**30:.0f} GiB. Choose another strategy, smaller batches, or a smaller pool."
            )


def _cells(name: str, parameters: Mapping[str, Any], pool: Pool, n_candidates: int, size: int) -> int:
    """Numbers in the largest array that the strategy makes, where that grows faster than the features."""
    n_images, n_features = map(int, pool.dataset.features.shape)
    n_classes = max(2, int(pool.prediction.probabilities.shape[1]))
    own: int = 0
    if name in ("ProbCover", "Quire"):
        own = n_images**2
    elif name == "MaxHerding":
        own = n_candidates**2
    elif name == "GreedySamplingX":
        own = n_candidates * n_images
    elif name == "Badge":
        own = n_candidates * n_features * n_classes
    elif name == "BatchBALD":  # a joint probability for each sample of the members' classes
        own = n_candidates * (parameters.get("n_MC_samples") or len(pool.prediction.members)) * n_classes
    elif name == "ProbabilisticAL":  # every way to give the classes up to m_max labels
        most = parameters.get("m_max") or 1
        own = 3 * n_candidates * comb(n_classes + most, most) * n_classes**2
    return max(own, size * n_images)


@cache
def named(name: str) -> type[Other]:
    """The query strategy "skactiveml:NAME" for the registry: a pool-based one of scikit-activeml.

    Its parameters are the strategy's own; text is read as a number, true, null or a list where it is one. The classes
    and the random state come from the pool and the batch. Raises ConfigError for a name that cannot be used, with those
    that can, and where scikit-activeml is not installed.
    """
    package = installed("skactiveml.pool", PACKAGE, f"{FAMILY}:{name}")
    usable = [one for one in _listed(package) if one not in CANNOT]
    if name not in usable:
        raise unknown(PACKAGE, name, usable, CANNOT)
    strategy = getattr(package, name)
    own = inspect.signature(strategy).parameters.values()
    return adapter(
        _Named,
        f"{FAMILY}:{name}",
        f"{PACKAGE}'s {name}: {(inspect.getdoc(strategy) or name).splitlines()[0].rstrip('.')}.",
        by_keyword(own, _HIDDEN),
        strategy=strategy,
    )


def _listed(package: Foreign) -> list[str]:
    """The names of all its pool-based strategies."""
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy as Base

    found = {name: getattr(package, name) for name in package.__all__}
    return [name for name, one in found.items() if inspect.isclass(one) and issubclass(one, Base)]


def _names(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def _fitted(pool: Pool, candidates: IntArray) -> Foreign:
    """The project's model as a classifier of theirs that is fitted already."""
    return _answering(pool, candidates, at_least_two(pool.prediction.probabilities), pool.prediction.evidence)


def _answering(
    pool: Pool, candidates: IntArray, probabilities: FloatArray, evidence: FloatArray | None = None
) -> Foreign:
    """A classifier that says of images of the pool what was said of them before.

    It is asked with features, so it compares them with those sets of rows that strategies ask about.
    """
    features = pool.dataset.features
    labeled = np.flatnonzero(pool.labels != UNLABELED)

    def rows_of(asked: FeatureArray) -> IntArray:
        for rows in (candidates, labeled, np.arange(len(features))):
            if len(rows) == len(asked) and np.array_equal(features[rows], asked):
                return rows
        raise ValueError("it asks the classifier about other images than those of the pool")

    def probabilities_of(asked: FeatureArray) -> FloatArray:
        return np.asarray(probabilities[rows_of(asked)])

    def frequencies_of(asked: FeatureArray) -> FloatArray:
        rows = rows_of(asked)
        return np.asarray(probabilities[rows] * evidence[rows, None])  # type: ignore[index]  # with evidence alone

    plain, with_frequencies = _classifiers()
    if evidence is None:
        return plain(probabilities_of, probabilities.shape[1])
    return with_frequencies(probabilities_of, probabilities.shape[1], frequencies_of)


@cache
def _classifiers() -> tuple[Foreign, Foreign]:
    """Two classes of theirs: of known probabilities, and of known class frequencies as well."""
    from skactiveml.base import SkactivemlClassifier

    class Known(SkactivemlClassifier):  # type: ignore[misc]  # scikit-activeml ships no types
        def __init__(self, probabilities_of: Callable[[FeatureArray], FloatArray], n_classes: int) -> None:
            super().__init__(classes=list(range(n_classes)), missing_label=UNLABELED)
            self.probabilities_of = probabilities_of
            self.classes_ = np.arange(n_classes)

        def fit(self, X: FeatureArray, y: IntArray, sample_weight: FloatArray | None = None) -> Any:  # noqa: N803  # theirs
            return self

        def predict_proba(self, X: FeatureArray) -> FloatArray:  # noqa: N803  # theirs
            return self.probabilities_of(X)

        def predict(self, X: FeatureArray) -> IntArray:  # noqa: N803  # theirs
            return np.asarray(self.probabilities_of(X).argmax(axis=1))

    class KnownFrequencies(Known):
        def __init__(
            self,
            probabilities_of: Callable[[FeatureArray], FloatArray],
            n_classes: int,
            frequencies_of: Callable[[FeatureArray], FloatArray],
        ) -> None:
            super().__init__(probabilities_of, n_classes)
            self.frequencies_of = frequencies_of

        def predict_freq(self, X: FeatureArray) -> FloatArray:  # noqa: N803  # theirs
            return self.frequencies_of(X)

    return Known, KnownFrequencies


def _discriminator() -> Foreign:
    """What DiscriminativeAL tells labeled images from others by, the one thing that is fitted: logistic regression."""
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    return SklearnClassifier(LogisticRegression(max_iter=1000))
