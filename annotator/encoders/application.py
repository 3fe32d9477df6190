"""Features of a network of `keras.applications`, for those who have its weights or a network connection.

The numbers before the classifier, averaged over the picture, are projected on the pool's principal components; rows
have length 1. The network runs in a worker process (keras_application.py), the projection in NumPy. Only the
projection is fitted. Like `imagenet`, most weights come from other people's labeled photos.
"""

from __future__ import annotations

import atexit
import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from annotator import durable
from annotator.encoders import stored
from annotator.encoders.chunks import encode_in_chunks
from annotator.encoders.network_worker import NetworkWorker
from annotator.encoders.pca import Projection, fit_projection, sample_rows, unit_rows
from annotator.errors import ConfigError, ModelError
from annotator.paths import expanded
from annotator.types import FeatureArray, ImageArray, Report, View, silent

RUN = "annotator.encoders.keras_application:run"
SIDES = {
    "MobileNetV2": 224,
    "MobileNetV3Small": 224,
    "MobileNetV3Large": 224,
    "EfficientNetB0": 224,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetV2B0": 224,
    "ResNet50": 224,
    "ResNet50V2": 224,
    "ResNet101": 224,
    "DenseNet121": 224,
    "InceptionV3": 299,
    "Xception": 299,
    "ConvNeXtTiny": 224,
}
"""Networks of keras.applications, with the side in px of the images that they were trained on."""
LEAST_SIDE, MOST_SIDE = 75, 512
"""Pixels a side: at less, some of these networks have nothing left to average."""
MAX_DIMENSIONS = 512
BATCH, CHUNK = 8, 64
"""Images a batch, always this many, so that an image's features do not depend on their number; images a call."""
FILE_NAME = "application.npz"


@dataclass(frozen=True)
class Network:
    """A network with its weights, as the worker is asked for it."""

    name: str
    side: int
    weights: str
    """Path of a file; "" = those that Keras downloads, or has downloaded before."""
    digest: str
    """Of the file's content; "" where there is none."""

    def outputs_of(self, images: ImageArray) -> FeatureArray:
        """(n, height, width, 1 or 3) uint8 -> (n, n_values) float32. Raises JobError, ModelError (MODEL_WEIGHTS)."""
        path = str(expanded(self.weights).absolute()) if self.weights else ""
        known = {"network": self.name, "side": self.side, "weights": path, "digest": self.digest}
        return _shared.run(images, {**known, "batch": BATCH})


@dataclass(frozen=True, eq=False)
class FittedApplication:
    """A network's numbers, projected on the pool's principal components; each row of length 1."""

    network: Network
    projection: Projection
    pool: tuple[ImageArray, FeatureArray] | None = field(default=None, repr=False)
    """The images it was fitted on with their features, where `fit` had to compute them all anyway."""

    @property
    def version(self) -> str:
        """Name, side, weights and what was learned."""
        weights = self.network.digest[:8] or "keras"
        return f"keras-application-{self.network.name}-{self.network.side}-{weights}-{self.projection.digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, 1 or 3) uint8 -> (n, n_features) float32. Raises JobError, Cancelled, ModelError."""
        if self.pool is not None and images is self.pool[0]:
            report("Encoding", len(images), len(images))
            return self.pool[1]
        _check_unchanged(self.network)
        report("Encoding", 0, len(images))
        return encode_in_chunks(images, lambda chunk: self.project(self.network.outputs_of(chunk)), report, CHUNK)

    def project(self, outputs: FeatureArray) -> FeatureArray:
        """(n, n_values) of the network -> (n, n_features)."""
        return unit_rows(self.projection.apply(outputs))

    def save(self, folder: Path) -> None:
        """Write the projection, the weights' path and its sha256 under `folder`. Raises ModelError (MODEL_SAVE)."""
        known = {"name": self.network.name, "weights": self.network.weights, "digest": self.network.digest}
        arrays = {"mean": self.projection.mean, "components": self.projection.components}
        texts = {key: np.array(value) for key, value in known.items()}
        stored.write(folder / FILE_NAME, {**texts, "side": np.array(self.network.side), **arrays})


class KerasApplication:
    """A network of keras.applications, by a weights file of yours or by download: for those who want another one."""

    slow = True
    """Takes minutes: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal features

    def __init__(
        self, network: str = "MobileNetV3Small", weights: str = "", side: int = 0, dimensions: int = 128
    ) -> None:
        """`side` px of the images, 0 = those that the network was trained on. Raises ConfigError."""
        if network not in SIDES:
            raise ConfigError(f"keras-application has no network {network!r}. Choose from: {', '.join(SIDES)}.")
        if side and not LEAST_SIDE <= side <= MOST_SIDE:
            raise ConfigError(f"keras-application.side must be 0 or between {LEAST_SIDE} and {MOST_SIDE}, not {side}.")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ConfigError(f"keras-application.dimensions must be between 1 and {MAX_DIMENSIONS}, not {dimensions}.")
        self.network = network
        self.weights = weights
        self.dimensions = dimensions
        self.view = View(side or SIDES[network])

    def file_key(self) -> str:
        """SHA-256 of the weights file; "" where Keras downloads them. Raises ModelError (MODEL_WEIGHTS)."""
        return _digest(self.weights, self.network)

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedApplication:
        """Find the directions of most variance in the pool, as `Imagenet.fit` does.

        Raises ModelError (MODEL_WEIGHTS) where there are no weights for this network, JobError, Cancelled.
        """
        network = Network(self.network, self.view.side, self.weights, _digest(self.weights, self.network))
        rows = sample_rows(len(images), rng)
        told = partial(_told, report, "Fitting keras-application" if len(rows) < len(images) else "Encoding")
        told("", 0, len(rows))
        sample = encode_in_chunks(rows, lambda part: network.outputs_of(images[part]), told, CHUNK)
        fitted = FittedApplication(network, fit_projection(sample, self.dimensions))
        if len(rows) < len(images):
            return fitted
        return FittedApplication(
            network, fitted.projection, (images, encode_in_chunks(sample, fitted.project, silent, CHUNK))
        )

    def load(self, folder: Path) -> FittedApplication:
        """What `FittedApplication.save` wrote. Raises ModelError (MODEL_HASH)."""
        arrays = stored.read(folder / FILE_NAME)
        name, weights, digest = (str(arrays[key]) for key in ("name", "weights", "digest"))
        network = Network(name, int(arrays["side"]), weights, digest)
        return FittedApplication(network, Projection(arrays["mean"], arrays["components"]))


def _told(report: Report, stage: str, _: str, done: int, total: int) -> None:
    report(stage, done, total)


def _digest(weights: str, network: str) -> str:
    """SHA-256 of the file; "" where none is named. Raises ModelError (MODEL_WEIGHTS)."""
    if not weights:
        return ""
    try:
        with expanded(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"The weights file {weights} cannot be read: {durable.reason_of(error)}. Give the path of a weights file "
            f"of {network}, or choose the encoder imagenet, which comes with its own.",
            "MODEL_WEIGHTS",
        ) from error


def _check_unchanged(network: Network) -> None:
    """Raises ModelError (MODEL_WEIGHTS) where the weights are not those of the fit: features would not be alike."""
    if _digest(network.weights, network.name) != network.digest:
        raise ModelError(
            f"The weights file {network.weights} is another one than when these features were computed. Put the first "
            "one back, or give the new one another name and choose it in Settings.",
            "MODEL_WEIGHTS",
        )


_shared = NetworkWorker(RUN)
atexit.register(_shared.close)
