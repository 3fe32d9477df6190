"""Two models asked at once: what they believe on average, and where they disagree. Knows not how they work."""

from __future__ import annotations

from annotator import registry
from annotator.errors import ConfigError
from annotator.types import Dataset, FeatureArray, FloatArray, IntArray, Model, Prediction


class Vote:
    """The mean of a graph model and a classifier: one knows the pool's shape, the other its borders.

    `weight` is the graph model's share, 0 to 1; both members have their default parameters.
    """

    def __init__(
        self, graph: str = "label-spreading", classifier: str = "logistic-regression", weight: float = 0.5
    ) -> None:
        if not 0 <= weight <= 1:
            raise ConfigError(f"vote.weight must lie between 0 and 1, not {weight}.")
        self.weight = weight
        self._graph: Model = registry.create("model", graph)
        self._classifier: Model = registry.create("model", classifier)

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> the mean, its two members, and the graph model's evidence."""
        graph = self._graph.fit_predict(dataset, labels, n_classes)
        classifier = self._classifier.fit_predict(dataset, labels, n_classes)
        members = (graph.probabilities, classifier.probabilities)
        return Prediction(self._mean(*members), graph.evidence, members=members)

    def predict(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, n_classes), the mean of both members. Raises ModelError (MODEL_NOT_FITTED)."""
        return self._mean(self._graph.predict(features), self._classifier.predict(features))

    def _mean(self, graph: FloatArray, classifier: FloatArray) -> FloatArray:
        return self.weight * graph + (1 - self.weight) * classifier
