"""A small Keras network on the encoder's features, trained anew on each round's labels. Knows no TensorFlow itself.

Dense(hidden, relu) and Dense(classes seen, softmax), adam: with the encoder `autoencoder` the classifier of a frozen
encoder with a head. It is trained in a worker process that stays (trainer.py; keras_head.py says how, and how
it is calibrated). The worker gets the features as the path of a file, and returns the pool's probabilities and the
head's weights; images outside of the pool are classified in this process, in NumPy.
"""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotator.encoders import stored
from annotator.errors import ConfigError, ModelError
from annotator.models import trainer
from annotator.models.head import HEAD, PROBABILITIES, Head, read_head
from annotator.models.priors import class_prior
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Prediction


@dataclass(frozen=True)
class _Fitted:
    """The last fit: classes seen, number of classes, and the head; with one class or none there is no head."""

    seen: IntArray
    prior: FloatArray
    head: Head | None

    def complete(self, probabilities: FloatArray) -> FloatArray:
        """(n, classes seen) -> (n, n_classes); classes without a label get 0."""
        complete = np.zeros((len(probabilities), len(self.prior)))
        complete[:, self.seen] = probabilities
        return complete

    def without_head(self, n_rows: int) -> FloatArray:
        """Probabilities without a head: 1 for the one class seen, or the prior where none was."""
        return self.complete(np.ones((n_rows, 1))) if self.seen.size else np.tile(self.prior, (n_rows, 1))


class EncoderClassifier:
    """A small neural network on the encoder's features (Keras), trained anew each round; labeling does not wait.

    It takes as many steps for any number of labels, at most `max_epochs` times through all of them. `patience` is read
    from projects of earlier versions, which stopped early by it, and has no effect.
    """

    asynchronous = True
    """Labeling goes on while `fit_predict` runs; see `is_asynchronous` in types.py."""

    def __init__(self, hidden: int = 50, max_epochs: int = 300, patience: int = 20, seed: int = 0) -> None:
        for name, value in (("hidden", hidden), ("max_epochs", max_epochs), ("patience", patience)):
            if value < 1:
                raise ConfigError(f"encoder-classifier.{name} must be at least 1, not {value}.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"encoder-classifier.seed must be between 0 and {2**32 - 1}, not {seed}.")
        self._settings = {"hidden": hidden, "max_epochs": max_epochs, "patience": patience, "seed": seed}
        self._fitted: _Fitted | None = None
        self._folder: Path | None = None
        self._features: tuple[FeatureArray, Path] | None = None

    def warm_up(self) -> None:
        """Start the worker in the background, so that TensorFlow is loaded before the first fit; returns at once."""
        trainer.shared()

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; classes without a label get 0.

        The same labels give the same answer, bit for bit on one machine, whatever was fitted before. Raises JobError
        where the worker fails; the next fit starts another.
        """
        seen = np.unique(labels[labels != UNLABELED])
        prior = class_prior(labels, n_classes)
        if len(seen) < 2:
            self._fitted = _Fitted(seen, prior, None)
            return Prediction(self._fitted.without_head(len(labels)))
        folder = self._own_folder()
        rows = np.flatnonzero(labels != UNLABELED)
        codes = np.searchsorted(seen, labels[rows])
        request = {"features": str(self._path_of(dataset.features)), "folder": str(folder), **self._settings}
        trainer.call("fit-head", {**request, "rows": rows.tolist(), "codes": codes.tolist()})
        self._fitted = _Fitted(seen, prior, read_head(folder / HEAD))
        return Prediction(self._fitted.complete(np.load(folder / PROBABILITIES, allow_pickle=False)))

    def predict(self, features: FeatureArray) -> FloatArray:
        """The last head on images outside the pool. Raises ModelError (MODEL_NOT_FITTED) before the first fit."""
        if self._fitted is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        if self._fitted.head is None:
            return self._fitted.without_head(len(features))
        return self._fitted.complete(self._fitted.head.probabilities(features))

    def _path_of(self, features: FeatureArray) -> Path:
        if self._features is None or self._features[0] is not features:
            self._features = (features, stored.path_of(features, self._own_folder()).absolute())
        return self._features[1]

    def _own_folder(self) -> Path:
        """Folder for the worker's results; removed with this model."""
        if self._folder is None:
            self._folder = stored.new_folder()
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
