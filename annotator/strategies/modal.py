"""modAL's query functions by name: "modal:margin_sampling", "modal:uncertainty_batch_sampling", ...

Danka & Horvath, "modAL: A modular active learning framework for Python", arXiv 1805.00979. They are given the
candidates' features and an object that answers `predict_proba` with the model's probabilities; those of a committee one
that answers with the vote's members.

Not among them are `expected_error_reduction`, which modAL 0.4.2.1 itself cannot import any more with NumPy 2, those
that need PyTorch (`modAL.dropout`), and those for regression, for multi-label problems and for optimisation. Importing
modAL imports scikit-learn and pandas; PyTorch only where somebody has installed it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import ClassVar

import numpy as np

from annotator.strategies.others import Foreign, Other, adapter, at_least_two, by_keyword, installed, members, unknown
from annotator.types import UNLABELED, FeatureArray, FloatArray, IntArray, Pool

FAMILY = "modal"
PACKAGE = "modAL"
COMMITTEE = "modAL.disagreement"
WHERE = {
    "uncertainty_sampling": "modAL.uncertainty",
    "margin_sampling": "modAL.uncertainty",
    "entropy_sampling": "modAL.uncertainty",
    "uncertainty_batch_sampling": "modAL.batch",
    "vote_entropy_sampling": COMMITTEE,
    "consensus_entropy_sampling": COMMITTEE,
    "max_disagreement_sampling": COMMITTEE,
}
"""Name -> module of modAL."""
_OLD = "modAL 0.4.2.1 cannot import it with NumPy 2"
_TORCH = "it needs PyTorch"
_MANY_LABELS = "it is for images with several labels at once"
CANNOT = {
    "expected_error_reduction": _OLD,
    "max_std_sampling": "it is for regression",
    "max_PI": "it is for optimisation",
    "max_EI": "it is for optimisation",
    "max_UCB": "it is for optimisation",
    "mc_dropout_bald": _TORCH,
    "mc_dropout_mean_st": _TORCH,
    "mc_dropout_max_entropy": _TORCH,
    "mc_dropout_max_variationRatios": _TORCH,
    "SVM_binary_minimum": _MANY_LABELS,
    "max_loss": _MANY_LABELS,
    "mean_max_loss": _MANY_LABELS,
    "min_confidence": _MANY_LABELS,
    "avg_confidence": _MANY_LABELS,
    "max_score": _MANY_LABELS,
    "avg_score": _MANY_LABELS,
}
"""Query functions of modAL 0.4 that a pool and a prediction are not enough for, or that do not work any more."""
LOWEST_FIRST = {"margin_sampling"}
"""Functions whose values are lower for what is asked sooner."""
RANKED = {"uncertainty_batch_sampling"}
"""Functions whose answer is in an order of its own."""
_HIDDEN = {"classifier", "committee", "X", "n_instances"}


class _Named(Other):
    """One of them; `named` makes a class for each."""

    function: ClassVar[Foreign]
    short: ClassVar[str]

    def _choose(self, pool: Pool, candidates: IntArray, size: int, seed: int) -> tuple[IntArray, FloatArray]:
        is_committee = WHERE[self.short] == COMMITTEE
        asked = _Committee(pool, candidates, self.name) if is_committee else _Learner(pool, candidates)
        features = np.asarray(pool.dataset.features[candidates])
        with _seeded(seed):
            places, values = type(self).function(asked, features, n_instances=size, **self.parameters)
        values = -values if self.short in LOWEST_FIRST else values
        order = np.arange(len(places)) if self.short in RANKED else np.lexsort((places, -values))
        return candidates[places[order]], values[order]


class _Learner:
    """What modAL asks of an ActiveLearner, of the candidates alone."""

    on_transformed = False

    def __init__(self, pool: Pool, candidates: IntArray) -> None:
        self._probabilities = at_least_two(pool.prediction.probabilities[candidates])
        labeled = np.flatnonzero(pool.labels != UNLABELED)
        self.X_training = np.asarray(pool.dataset.features[labeled]) if len(labeled) else None

    def predict_proba(self, X: FeatureArray) -> FloatArray:  # noqa: N803  # modAL's
        return self._probabilities


class _Committee:
    """What modAL asks of a Committee, of the candidates alone."""

    def __init__(self, pool: Pool, candidates: IntArray, name: str) -> None:
        self._said = np.stack([part[candidates] for part in members(pool, name)], axis=1)
        self.classes_ = np.arange(self._said.shape[2])

    def __len__(self) -> int:
        return int(self._said.shape[1])

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def vote(self, X: FeatureArray) -> IntArray:  # noqa: N803  # modAL's
        return np.asarray(self._said.argmax(axis=2))

    def vote_proba(self, X: FeatureArray) -> FloatArray:  # noqa: N803  # modAL's
        return self._said

    def predict_proba(self, X: FeatureArray) -> FloatArray:  # noqa: N803  # modAL's
        return np.asarray(self._said.mean(axis=1))


@cache
def named(name: str) -> type[Other]:
    """The query strategy "modal:NAME" for the registry: a query function of modAL.

    Its parameters are the function's own; text is read as a number, true, null or a list where it is one. Raises
    ConfigError for a name that cannot be used, with those that can, and where modAL is not installed.
    """
    installed("modAL", PACKAGE, f"{FAMILY}:{name}")
    if name not in WHERE:
        raise unknown(PACKAGE, name, WHERE, CANNOT)
    function = getattr(installed(WHERE[name], PACKAGE, f"{FAMILY}:{name}"), name)
    first = " ".join((inspect.getdoc(function) or name).split()).partition(". ")[0].rstrip(".")
    return adapter(
        _Named,
        f"{FAMILY}:{name}",
        f"modAL's {name}: {first}.",
        by_keyword(inspect.signature(function).parameters.values(), _HIDDEN),
        function=staticmethod(function),
        short=name,
    )


_SEEDING = Lock()
"""Held while NumPy's global generator is modAL's."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """modAL breaks ties by NumPy's global generator, which is left as it was; one thread at a time."""
    with _SEEDING:
        before = np.random.get_state()  # noqa: NPY002  # modAL's
        np.random.seed(seed)  # noqa: NPY002  # modAL's
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002  # modAL's
