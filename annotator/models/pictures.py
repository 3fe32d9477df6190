"""Networks that see the images themselves, trained from nothing on each round's labels. Knows no TensorFlow itself.

Images are made smaller where they are larger than 32 px, in proportion, and divided by 255. A network is trained in
the worker that stays (trainer.py; keras_pictures.py says how it is built and trained), which classifies the
pool as well. The worker gets images as the path of a file. Images outside of the pool are classified there too, by the
weights of the last fit: features alone are not enough (`predict`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from annotator.encoders import stored
from annotator.encoders.stored import Array
from annotator.errors import ConfigError, ModelError
from annotator.models import trainer
from annotator.models.head import PROBABILITIES
from annotator.models.priors import ClassesSeen, classes_seen
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, HeldOut, ImageArray, IntArray, Prediction

WEIGHTS = "network.npz"
MAX_SIDE = 32
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The last fit: with one class or none there is no network."""

    known: ClassesSeen
    shape: Shape
    """(height, width, n_channels) that images are resized to."""
    weights: dict[str, Array] | None


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
        self._fitted: _Fitted | None = None

    def warm_up(self) -> None:
        """Start the worker in the background, so that TensorFlow is loaded before the first fit; returns at once."""
        trainer.shared()

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities; classes without a label get 0.

        The same labels give the same answer, bit for bit on one machine, whatever was fitted before. Raises JobError
        where the worker fails; the next fit starts another.
        """
        self._fitted, probabilities = self._trained(dataset.images, labels, n_classes)
        return Prediction(probabilities)

    def out_of_fold(self, dataset: Dataset, labels: IntArray, n_classes: int, folds: IntArray) -> FloatArray:
        """(n_labeled, n_classes) of the labeled rows, ascending, each without the labels of its own fold.

        `folds` (n_labeled,) counts them from 0; rows of -1 keep their labels, and are not looked at: uniform.
        """
        rows = np.flatnonzero(labels != UNLABELED)
        found = np.full((len(rows), n_classes), 1 / max(1, n_classes))
        for fold in np.unique(folds[folds >= 0]).tolist():
            held = folds == fold
            if not held.all():
                seen = labels.copy()
                seen[rows[held]] = UNLABELED
                found[held] = self._trained(dataset.images, seen, n_classes, rows[held])[1]
        return found

    def predict_held_out(self, held_out: HeldOut) -> FloatArray:
        """The last network on the pixels of images outside the pool: (n, n_classes).

        Raises ModelError (MODEL_NOT_FITTED) before the first fit, JobError.
        """
        fitted = self._last()
        if fitted.weights is None:
            return fitted.known.untrained(len(held_out.images))
        with _scratch() as folder:
            stored.write(folder / WEIGHTS, fitted.weights)
            request = self._request(held_out.images, fitted.shape, len(fitted.known.seen), folder)
            trainer.call("classify-pictures", request)
            return fitted.known.complete(_answer(folder))

    def predict(self, features: FeatureArray) -> FloatArray:
        """Raises ModelError: MODEL_NEEDS_IMAGES, or MODEL_NOT_FITTED before the first fit.

        Only where fewer than two classes were seen do features tell what pixels would.
        """
        fitted = self._last()
        if fitted.weights is not None:
            message = f"The model {self.kind} sees images, not features: ask `predict_held_out` with the images."
            raise ModelError(message, code="MODEL_NEEDS_IMAGES")
        return fitted.known.untrained(len(features))

    def _last(self) -> _Fitted:
        if self._fitted is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        return self._fitted

    def _trained(
        self, images: ImageArray, labels: IntArray, n_classes: int, told: IntArray | None = None
    ) -> tuple[_Fitted, FloatArray]:
        """A network trained on the labels, and its (n, n_classes) of the rows `told`; None = of every image."""
        known, shape = classes_seen(labels, n_classes), input_shape(images.shape[1:])
        if len(known.seen) < 2:
            return _Fitted(known, shape, None), known.untrained(len(labels) if told is None else len(told))
        rows = np.flatnonzero(labels != UNLABELED)
        taught = {"rows": rows.tolist(), "codes": np.searchsorted(known.seen, labels[rows]).tolist()}
        with _scratch() as folder:
            request = self._request(images, shape, len(known.seen), folder)
            trainer.call("fit-pictures", {**request, **taught, "told": None if told is None else told.tolist()})
            return _Fitted(known, shape, stored.read(folder / WEIGHTS)), known.complete(_answer(folder))

    def _request(self, images: ImageArray, shape: Shape, n_classes: int, folder: Path) -> dict[str, object]:
        """What every task of the worker is told."""
        path = str(stored.path_of(images, folder).absolute())
        network = {"kind": self.kind, "shape": shape, "n_classes": n_classes, **self._settings}
        return {"images": path, "folder": str(folder), **network}


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one exchange with the worker."""
    folder = stored.new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answer(folder: Path) -> FloatArray:
    """(n, classes seen) as the worker wrote it."""
    return np.asarray(np.load(folder / PROBABILITIES, allow_pickle=False))


class Mlp(_Pictures):
    """Two dense layers on the pixels (Keras), trained from nothing each round: on clothes behind hog."""

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
