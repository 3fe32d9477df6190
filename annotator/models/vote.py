"""Mixes the probabilities of three models. Knows nothing of how each of them works.

    p = weight g^3 + (1 - weight) / 2 (k + c^2)

for a graph model g, a kernel model k and a classifier c, each power divided by the sum of its row. The powers bring
the members to one confidence: label spreading alone says 30 % where it is right in 70 of 100, a kernel model's softmax
is confident enough without. Found on Fashion-MNIST (50,000 images, labels from 10 to
3,000). Computed in double precision: in single, a small probability's cube is 0, and a row of those is NaN.

With few labels p is brought half-way to as much probability for each class seen, unless one has half of it all:
`evening` in priors.py, which says what that gains.

Where the encoder is a network that was trained on labels (see `Opinion` in types.py), what it says of an image is one
more member q with a share of its own:

    (1 - opinion) p + opinion q

opinion = 0.35 was within a fifth of a point of the best share on Fashion-MNIST at 200 and at 1,000 labels.

**Shares by labels.** With `shares="labels"` those of g, k and c are found at each fit: they make the labels most
likely, each by the members' fits without it (expectation maximisation for the weights of a mixture), under a Dirichlet
prior at the fixed shares that is worth `STRENGTH` labels; labels count for unlabeled images like them, as in
calibration.py. They depend on the labels of the fit alone. It is not the default: on Fashion-MNIST (imagenet and hog,
labels of a strategy or at random, 30 to 1,000, 3 seeds) it moves the accuracy by -0.04 to 0.04 points, with less
shrinkage by -1.0 to 0.1, and the best shares chosen after the fact gain 0.02 to 0.5. Where neighbours are often of
another class it helps: on hog with as much noise as spread 0.1 points at 100 labels, 0.4 at 200, 0.8 at 500. It costs
five more fits of the members.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from annotator import registry
from annotator.errors import ConfigError
from annotator.models import calibration
from annotator.models.out_of_fold import spread, without_own_fold
from annotator.models.priors import evened, evening, normalised
from annotator.types import (
    UNLABELED,
    Dataset,
    FeatureArray,
    FloatArray,
    Follows,
    HeldOut,
    IntArray,
    JoinsHeldOut,
    Model,
    Opinion,
    Prediction,
    WarmsUp,
    goes_on,
    is_asynchronous,
    predict_held_out,
)

FIXED, BY_LABELS = "fixed", "labels"
ROWS_PER_CHUNK = 4_096
STRENGTH = 200
"""Labels that the fixed shares are worth: a round number; trials with less are above."""
N_STEPS = 100
"""Of expectation maximisation; more change no share by 0.01."""


class Vote:
    """A graph model, a kernel model and a classifier together: one knows the pool's shape, the others its borders.

    `weight` is the graph model's share, 0 to 1; the other two have equal shares of the rest. `opinion` is the share of
    a network that was trained on labels, where the dataset has one. With `shares` "labels" the members' shares are
    found by labels out of fold. All have their default parameters. It has the optional abilities of its members: it is
    `asynchronous` where one of them is, and so on.
    """

    def __init__(
        self,
        graph: str = "label-spreading",
        classifier: str = "logistic-regression",
        weight: float = 0.5,
        kernel: str = "kernel-ridge",
        opinion: float = 0.35,
        shares: str = FIXED,
    ) -> None:
        if shares not in (FIXED, BY_LABELS):
            raise ConfigError(f'vote.shares must be "{FIXED}" or "{BY_LABELS}", not {shares!r}.')
        self._anew = partial(Vote, graph, classifier, weight, kernel, opinion, shares)
        self.shares = shares
        self._factors: FloatArray | None = None
        """(n_classes,) what the last fit multiplies probabilities by; see `evening` in priors.py."""
        self._fitted_on: tuple[IntArray, int] | None = None
        """Labels and number of classes of the last fit."""
        self._found: FloatArray | None = None
        """(3,) the shares by labels that the last fit used; None where they are the fixed ones."""
        self.weight = _share("weight", weight)
        self.opinion = _share("opinion", opinion)
        self._members: tuple[Model, ...] = tuple(registry.create("model", name) for name in (graph, classifier, kernel))
        self.asynchronous = any(is_asynchronous(member) for member in self._members)
        """Labeling goes on while `fit_predict` runs; see `is_asynchronous` in types.py."""
        self.goes_on = any(goes_on(member) for member in self._members)
        """A prediction depends, within the members' tolerances, on the fits before it; see `goes_on` in types.py."""

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> mixed probabilities, each member's, and the graph model's evidence."""
        found = [member.fit_predict(dataset, labels, n_classes) for member in self._members]
        members = tuple(prediction.probabilities for prediction in found)
        self._found = self._by_labels(dataset, labels, n_classes)
        mixed = self._mixed(self._found, *members)
        self._factors, self._fitted_on = evening(mixed, labels), (labels.copy(), n_classes)
        mixed, members = self._with_opinion(evened(mixed, self._factors), members, dataset.opinion)
        return Prediction(mixed, found[0].evidence, members=members)

    def predict(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n_classes), by all members. Raises ModelError (MODEL_NOT_FITTED)."""
        return self._together(*(member.predict(features) for member in self._members))

    def predict_held_out(self, held_out: HeldOut) -> FloatArray:
        """(n, n_classes), by all members and the network's opinion. Raises ModelError (MODEL_NOT_FITTED)."""
        members = tuple(predict_held_out(member, held_out) for member in self._members)
        return self._with_opinion(self._together(*members), members, held_out.opinion)[0]

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of labeled images, each without the labels of its own fold; see LeavesOut.

        Without the network's opinion, which was trained on these very labels. The masses of the classes are those of a
        fit on all these labels: a fold hardly moves what the whole pool adds up to.
        """
        said = self._members_out_of_fold(dataset, labels, n_classes, folds)
        found = self._by_labels(dataset, labels, n_classes)
        mixed = self._mixed(found, *said)
        factors = self._factors_by(dataset, labels, n_classes)
        return np.where((folds == UNLABELED)[:, None], mixed, evened(mixed, factors))

    def follow(self, dataset: Dataset, labels: IntArray, n_classes: int) -> None:
        """Repeat a recorded fit without a prediction; only members whose answers depend on earlier fits repeat it."""
        for member in self._members:
            if goes_on(member):
                repeat = member.follow if isinstance(member, Follows) else member.fit_predict
                repeat(dataset, labels, n_classes)

    def warm_up(self) -> None:
        """Start in the background what the members' first fits would wait for."""
        for member in self._members:
            if isinstance(member, WarmsUp):
                member.warm_up()

    def join(self, dataset: Dataset, features: FeatureArray) -> None:
        """Compute in advance what the members need of a held-out set, so that the first fit does not wait for it."""
        for member in self._members:
            if isinstance(member, JoinsHeldOut):
                member.join(dataset, features)

    def _together(self, graph: FloatArray, classifier: FloatArray, kernel: FloatArray) -> FloatArray:
        return evened(self._mixed(self._found, graph, classifier, kernel), self._factors)

    def _mixed(
        self, found: FloatArray | None, graph: FloatArray, classifier: FloatArray, kernel: FloatArray
    ) -> FloatArray:
        """The members' probabilities, each (n, n_classes), by these shares (3,), or by the fixed ones."""
        rest = (1 - self.weight) / 2
        by_graph, by_classifier, by_kernel = (self.weight, rest, rest) if found is None else found.tolist()
        mixed = np.empty_like(kernel)
        for start in range(0, len(kernel), ROWS_PER_CHUNK):
            some = slice(start, start + ROWS_PER_CHUNK)
            of_others = by_graph * _sharpened(graph[some], 3)
            of_others += by_classifier * _sharpened(classifier[some], 2)
            mixed[some] = by_kernel * kernel[some] + of_others.T
        return mixed

    def _factors_by(self, dataset: Dataset, labels: IntArray, n_classes: int) -> FloatArray | None:
        """(n_classes,) the factors of a fit on these labels: the last one, or that of a new vote."""
        last = self._fitted_on
        if last is not None and last[1] == n_classes and np.array_equal(last[0], labels):
            return self._factors
        other = self._anew()
        other.fit_predict(dataset, labels, n_classes)
        return other._factors

    def _members_out_of_fold(
        self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        graph, classifier, kernel = (
            without_own_fold(member, dataset, labels, n_classes, folds) for member in self._members
        )
        return graph, classifier, kernel

    def _by_labels(self, dataset: Dataset, labels: IntArray, n_classes: int) -> FloatArray | None:
        """(3,) the shares that the labels find; None where they are to stay as they are. After the members' fits."""
        labeled, others = np.flatnonzero(labels != UNLABELED), np.flatnonzero(labels == UNLABELED)
        if self.shares == FIXED or len(labeled) < calibration.LEAST or not len(others):
            return None
        rng = np.random.default_rng(len(labeled))
        sample = np.sort(rng.permutation(others)[: calibration.SAMPLE])
        folds = spread(labels[labeled], dataset.group[labeled], calibration.N_FOLDS, rng)
        graph, classifier, kernel = self._members_out_of_fold(dataset, labels, n_classes, folds)
        sharp = np.stack([_sharpened(graph, 3), _sharpened(classifier, 2), kernel.T])
        weights = calibration.stands_for(dataset, labeled, sample)
        rest = (1 - self.weight) / 2
        before = np.array([self.weight, rest, rest])
        return likeliest_shares(sharp[:, labels[labeled], np.arange(len(labeled))], weights, before)

    def _with_opinion(
        self, mixed: FloatArray, members: tuple[FloatArray, ...], opinion: Opinion | None
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """The mix and the members, (n, n_classes) each, with the network's opinion as the last of them."""
        if opinion is None:
            return mixed, members
        said = _for_all_classes(opinion, mixed)
        return (1 - self.opinion) * mixed + self.opinion * said, (*members, said)


def likeliest_shares(of_codes: FloatArray, weights: FloatArray, before: FloatArray) -> FloatArray:
    """(n_members,) shares of a mixture that make labels most likely; the prior at `before` is worth `STRENGTH` labels.

    of_codes (n_members, n_labels) is the probability of each label by each member; weights (n_labels,).
    """
    counted = weights * (weights.sum() / (weights**2).sum())
    shares = before
    for _ in range(N_STEPS):
        parts = shares[:, None] * (of_codes + calibration.SMALLEST)
        shares = (parts / parts.sum(axis=0)) @ counted + STRENGTH * before
        shares = shares / shares.sum()
    return np.asarray(shares)


def _sharpened(probabilities: FloatArray, power: int) -> FloatArray:
    """(n, n_classes) raised to a power, (n_classes, n): sums over classes are faster that way."""
    columns = np.ascontiguousarray(probabilities.T)
    powers = columns * columns
    for _ in range(power - 2):
        powers *= columns
    powers /= powers.sum(axis=0)
    return powers


def _for_all_classes(opinion: Opinion, mixed: FloatArray) -> FloatArray:
    """A network's opinion for all classes, (n, n_classes): as `mixed` for those that it has not learned."""
    learned = opinion.codes < mixed.shape[1]
    codes = opinion.codes[learned]
    uniform = np.full(len(codes), 1 / max(1, len(codes)))
    shares = normalised(opinion.probabilities[:, learned].astype(np.float64), uniform)
    said = mixed.copy()
    said[:, codes] = shares * mixed[:, codes].sum(axis=1, keepdims=True)
    return said


def _share(parameter: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"vote.{parameter} must lie between 0 and 1, not {value}.")
    return value
