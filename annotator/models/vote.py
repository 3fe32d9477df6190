"""Mixes the probabilities of three models. Knows nothing of how each of them works.

    p = weight g^3 + (1 - weight) / 2 (k + c^2)

for a graph model g, a kernel model k and a classifier c, each power divided by the sum of its row. The powers bring
the members to one confidence: label spreading alone says 30 % where it is right in 70 of 100, a kernel model's softmax
is confident enough without. Found on Fashion-MNIST (50,000 images, labels from 10 to
3,000). Computed in double precision: in single, a small probability's cube is 0, and a row of those is NaN.
"""

from __future__ import annotations

import numpy as np

from annotator import registry
from annotator.errors import ConfigError
from annotator.models.opinions import with_opinion
from annotator.types import (
    Dataset,
    FeatureArray,
    FloatArray,
    Follows,
    HeldOut,
    IntArray,
    JoinsHeldOut,
    Model,
    Prediction,
    WarmsUp,
    goes_on,
    is_asynchronous,
)


class Vote:
    """A graph model, a kernel model and a classifier together: one knows the pool's shape, the others its borders.

    `weight` is the graph model's share, 0 to 1; the other two have equal shares of the rest. All have their default
    parameters. It has the optional abilities of its members: it is `asynchronous` where one of them is, and so on.
    """

    def __init__(
        self,
        graph: str = "label-spreading",
        classifier: str = "logistic-regression",
        weight: float = 0.5,
        kernel: str = "kernel-ridge",
    ) -> None:
        if not 0 <= weight <= 1:
            raise ConfigError(f"vote.weight must lie between 0 and 1, not {weight}.")
        self.weight = weight
        self._members: tuple[Model, ...] = tuple(registry.create("model", name) for name in (graph, classifier, kernel))
        self.asynchronous = any(is_asynchronous(member) for member in self._members)
        """Labeling goes on while `fit_predict` runs; see `is_asynchronous` in types.py."""
        self.goes_on = any(goes_on(member) for member in self._members)
        """A prediction depends, within the members' tolerances, on the fits before it; see `goes_on` in types.py."""

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> mixed probabilities, each member's, and the graph model's evidence."""
        found = [member.fit_predict(dataset, labels, n_classes) for member in self._members]
        members = tuple(prediction.probabilities for prediction in found)
        mixed = with_opinion(self._together(*members), dataset.opinion)
        return Prediction(mixed, found[0].evidence, members=members)

    def predict(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n_classes), by all members. Raises ModelError (MODEL_NOT_FITTED)."""
        return self._together(*(member.predict(features) for member in self._members))

    def predict_held_out(self, held_out: HeldOut) -> FloatArray:
        """As `predict`, with what a network says of the held-out images: (n, n_classes)."""
        return with_opinion(self.predict(held_out.features), held_out.opinion)

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
        rest = (1 - self.weight) / 2
        return self.weight * _shares(graph * graph * graph) + rest * (_shares(classifier * classifier) + kernel)


def _shares(powers: FloatArray) -> FloatArray:
    """Rows divided by their sums."""
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
