"""Networks that see the images themselves, trained from nothing on each round's labels. Knows no TensorFlow itself.

Images are made smaller where they are larger than 32 px, in proportion, and divided by 255. A network is trained in
the worker that stays (trainer.py; keras_pictures.py says how it is built and trained), which classifies the
pool as well. The worker gets images as the path of a file. Images outside of the pool are classified there too, by the
weights of the last fit: features alone are not enough (`predict`).
"""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np

from annotator.encoders import stored
from annotator.errors import ConfigError, ModelError
from annotator.models import trainer
from annotator.models.head import PROBABILITIES
from annotator.models.priors import ClassesSeen, classes_seen
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, HeldOut, ImageArray, IntArray, Prediction

WEIGHTS = "network.npz"
MAX_SIDE = 32
Shape = tuple[int, int, int]


class _Pictures:
    """A kind of network with its settings; what it learned last."""

    kind: ClassVar[str]
    """Its name in the registry, a key of BUILDERS in keras_pictures.py."""
    asynchronous = True
    """Labeling goes on while `fit_predict` runs; see `is_asynchronous` in types.py."""

    def __init__(self, width: tuple[str, int], max_epochs: int, seed: int) -> None:
        for name, value in (width, ("max_epochs", max_epochs)):
            if value < 1:
                raise ConfigError(f"{self.kind}.{name} must be at least 1, not {value}.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"{self.kind}.seed must be between 0 and {2**32 - 1}, not {seed}.")
        self._settings = {"width": width[1], "max_epochs": max_epochs, "seed": seed}
        self._fitted: ClassesSeen | None = None
        self._shape: Shape = (1, 1, 1)
        self._folder: Path | None = None

    def warm_up(self) -> None:
        """Start the worker in the background, so that TensorFlow is loaded before the first fit; returns at once."""
        trainer.shared()

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; classes without a label get 0.

        The same labels give the same answer, bit for bit on one machine, whatever was fitted before. Raises JobError
        where the worker fails; the next fit starts another.
        """
        known = classes_seen(labels, n_classes)
        if len(known.seen) > 1:
            rows = np.flatnonzero(labels != UNLABELED)
            self._shape = input_shape(dataset.images.shape[1:])
            fit = {"rows": rows.tolist(), "codes": np.searchsorted(known.seen, labels[rows]).tolist(), **self._settings}
            trainer.call("fit-pictures", {**self._request(dataset.images, len(known.seen)), **fit})
        self._fitted = known
        return Prediction(self._answer(known, len(labels)))

    def predict_held_out(self, held_out: HeldOut) -> FloatArray:
        """The last network on the pixels of images outside the pool: (n, n_classes).

        Raises ModelError (MODEL_NOT_FITTED) before the first fit, JobError.
        """
        known = self._known()
        if len(known.seen) > 1:
            trainer.call("classify-pictures", self._request(held_out.images, len(known.seen)))
        return self._answer(known, len(held_out.images))

    def predict(self, features: FeatureArray) -> FloatArray:
        """Raises ModelError: MODEL_NEEDS_IMAGES, or MODEL_NOT_FITTED before the first fit.

        Only where fewer than two classes were seen do features tell what pixels would.
        """
        known = self._known()
        if len(known.seen) > 1:
            message = f"The model {self.kind} sees images, not features: ask `predict_held_out` with the images."
            raise ModelError(message, code="MODEL_NEEDS_IMAGES")
        return known.untrained(len(features))

    def _known(self) -> ClassesSeen:
        if self._fitted is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        return self._fitted

    def _request(self, images: ImageArray, n_classes: int) -> dict[str, object]:
        """What every task of the worker is told."""
        folder = self._own_folder()
        path = str(stored.path_of(images, folder).absolute())
        network = {"kind": self.kind, "shape": self._shape, "n_classes": n_classes, **self._settings}
        return {"images": path, "folder": str(folder), **network}

    def _answer(self, known: ClassesSeen, n_rows: int) -> FloatArray:
        """What the worker wrote last, or what needs no network."""
        if len(known.seen) < 2:
            return known.untrained(n_rows)
        return known.complete(np.load(self._own_folder() / PROBABILITIES, allow_pickle=False))

    def _own_folder(self) -> Path:
        """Folder for the worker's results; removed with this model."""
        if self._folder is None:
            self._folder = stored.new_folder()
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


class Mlp(_Pictures):
    """Two dense layers on the pixels (Keras), trained from nothing each round: behind a kernel on good features."""

    kind = "mlp"

    def __init__(self, hidden: int = 300, max_epochs: int = 60, seed: int = 0) -> None:
        super().__init__(("hidden", hidden), max_epochs, seed)


class Cnn(_Pictures):
    """A small convolutional network on the images (Keras), trained from nothing each round: wants many labels."""

    kind = "cnn"

    def __init__(self, filters: int = 16, max_epochs: int = 40, seed: int = 0) -> None:
        super().__init__(("filters", filters), max_epochs, seed)


class Lstm(_Pictures):
    """A recurrent network that reads an image row by row (Keras), trained from nothing each round: to compare with."""

    kind = "lstm"

    def __init__(self, units: int = 64, max_epochs: int = 60, seed: int = 0) -> None:
        super().__init__(("units", units), max_epochs, seed)


def input_shape(shape: tuple[int, ...]) -> Shape:
    """(height, width, n_channels) of images -> the same, or smaller in proportion where a side is above 32."""
    height, width, n_channels = shape
    factor = min(1.0, MAX_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor)), n_channels
