"""A dense autoencoder trained on the unlabeled pool: the code, its narrowest layer, is the features.

Its layers of 300, 200 and 100 numbers encode an image, and it is trained to reproduce the image from them (Hinton &
Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006). Sized to the image: above
3,072 values (32 x 32 in colour) images are made smaller, by the same factor in height and width; the two hidden
widths, 300 and 200 at 784 values, grow with the square root of the number of values, that is with an image's side.

Training runs in a child process, since importing TensorFlow takes seconds and half a gigabyte. That holds in a job's
process too: the memory is freed when the child ends, and cancelling or killing the job ends the child. Encoding is
three matrix products in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotator.encoders import stored, training
from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.dense import DenseLayers, from_arrays
from annotator.encoders.training import Losses, Shape
from annotator.jobs import Job
from annotator.types import FeatureArray, ImageArray, Report, View, silent

TRAIN = "annotator.encoders.keras_autoencoder:train"
WEIGHTS = "autoencoder.npz"
MAX_VALUES = 3072
REFERENCE_VALUES, REFERENCE_HIDDEN = 784, (300, 200)


@dataclass(frozen=True, eq=False)
class FittedAutoencoder:
    """The encoding half of a trained autoencoder."""

    shape: Shape
    """(height, width, n_channels) that images are resized to."""
    layers: DenseLayers
    history: tuple[Losses, ...]
    """One entry an epoch: "epoch" from 1 on, "loss" and "val_loss" (binary cross-entropy), "val_mse"."""

    @property
    def version(self) -> str:
        """Name, sizes and what was learned."""
        size = "x".join(str(length) for length in self.shape)
        widths = "-".join(str(width) for width in self.layers.widths)
        return f"autoencoder-{size}-{widths}-{stored.digest(*self.layers.weights)}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, code) float32, at least 0. Raises ImageError (IMG_CHANNELS)."""
        training.check_channels(images, self.shape)
        return encode_in_chunks(images, self._encode_chunk, report)

    def save(self, folder: Path) -> None:
        """Write weights, their sha256 and the loss history under `folder`. Raises ModelError (MODEL_SAVE)."""
        stored.write(folder / WEIGHTS, {"shape": np.array(self.shape), **self.layers.arrays})
        training.write_history(folder, self.history)

    def _encode_chunk(self, images: ImageArray) -> FeatureArray:
        return np.maximum(self.layers.apply(flatten(images, self.shape)), 0)


class Autoencoder:
    """A dense network trained to give images back; its narrow middle is the features. Takes minutes on a large pool."""

    slow = True
    """Takes minutes on a large pool: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal weights

    def __init__(
        self, code: int = 100, max_epochs: int = 100, patience: int = 10, seed: int = 0, colour: bool = True
    ) -> None:
        """Without `colour` it sees everything in grey: photos at 55 px a side, in place of 32. Raises ConfigError."""
        training.check_settings("autoencoder", seed, code=code, max_epochs=max_epochs, patience=patience)
        self.code = code
        self.max_epochs = max_epochs
        self.patience = patience
        self.seed = seed
        self.view = View(n_channels=3 if colour else 1)

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedAutoencoder:
        """Train on the pool in a child process; its losses become the figures of the surrounding job.

        `rng` chooses the fifth that training stops by (and which images, where the pool is too large for memory);
        `seed` the first weights. The same on every run of one machine, bit for bit.
        Raises ModelError (MODEL_TOO_SMALL) under 200 images, Cancelled, JobError.
        """
        return training.trained(lambda folder: self.start_training(images, rng, folder), _read, report)

    def start_training(self, images: ImageArray, rng: np.random.Generator, folder: Path) -> Job:
        """The job behind `fit`, with `folder` to itself."""
        self.check_pool(len(images))
        shape = input_shape(images.shape[1:])
        settings = {
            "shape": shape,
            "widths": widths(shape, self.code),
            "max_epochs": self.max_epochs,
            "patience": self.patience,
            "seed": self.seed,
        }
        return training.start(TRAIN, images, rng, folder, WEIGHTS, settings)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where `fit` would."""
        training.check_n_images(n_images, "an autoencoder")

    def load(self, folder: Path) -> FittedAutoencoder:
        """What `FittedAutoencoder.save` wrote. Raises ModelError (MODEL_HASH)."""
        return _read(folder, training.read_history(folder))


def input_shape(shape: tuple[int, ...]) -> Shape:
    """(height, width, n_channels) of images -> the same, or smaller in proportion where that is above 3,072 values."""
    height, width, n_channels = shape
    factor = min(1.0, (MAX_VALUES / (height * width * n_channels)) ** 0.5)
    wide = max(1, int(width * factor))
    tall = max(1, min(int(height * factor), MAX_VALUES // (wide * n_channels)))
    return tall, min(wide, MAX_VALUES // (tall * n_channels)), n_channels


def widths(shape: Shape, code: int) -> list[int]:
    """The encoding half, from the values of an image to the code: 784, 300, 200, 100 for 28 x 28 in grey.

    The code has the requested length, but is not longer than the image; no layer before it is narrower.
    """
    n_values = int(np.prod(shape))
    length = min(code, n_values)
    factor = (n_values / REFERENCE_VALUES) ** 0.5
    return [n_values, *(max(length, round(width * factor)) for width in REFERENCE_HIDDEN), length]


def flatten(images: ImageArray, shape: Shape) -> FeatureArray:
    """(n, height, width, n_channels) uint8 -> (n, n_values) float32 in 0..1, at the size `shape`."""
    scaled = images.astype(np.float32) / np.float32(255)
    return resize(scaled, *shape[:2]).reshape(len(images), -1)


def _read(folder: Path, history: list[Losses]) -> FittedAutoencoder:
    arrays = stored.read(folder / WEIGHTS)
    height, width, n_channels = (int(length) for length in arrays["shape"])
    return FittedAutoencoder((height, width, n_channels), from_arrays(arrays), tuple(history))
