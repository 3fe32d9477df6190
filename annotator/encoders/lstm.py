"""A recurrent network that reads an image row by row, trained on the unlabeled pool: its last state is the features.

Rows are read from the top, each with all of its columns and channels, by one layer of LSTM units (Hochreiter &
Schmidhuber, "Long Short-Term Memory", Neural Computation 1997); a dense layer has to reproduce the whole image from
the state after the last row (as in Srivastava et al., "Unsupervised Learning of Video Representations using LSTMs",
ICML 2015, whose decoder is an LSTM as well). Images of more than 3,072 values are made smaller, as for the autoencoder.

Training runs in a child process, encoding in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotator.encoders import stored, training
from annotator.encoders.autoencoder import flatten, input_shape
from annotator.encoders.chunks import encode_in_chunks
from annotator.encoders.training import Losses, Shape
from annotator.jobs import Job
from annotator.types import FeatureArray, ImageArray, Report, silent

TRAIN = "annotator.encoders.keras_lstm:train"
WEIGHTS = "lstm.npz"
PARTS = ("kernel", "recurrent", "bias")


@dataclass(frozen=True, eq=False)
class FittedLstm:
    """The reading half of a trained network."""

    shape: Shape
    """(height, width, n_channels) that images are resized to."""
    weights: tuple[FeatureArray, ...]
    """As Keras lists them, gates in the order input, forget, candidate, output: of a row's values (n_values, 4 units),
    of the state (units, 4 units), bias (4 units,).
    """
    history: tuple[Losses, ...]
    """One entry an epoch, as the autoencoder's."""

    @property
    def version(self) -> str:
        """Name, sizes and what was learned."""
        size = "x".join(str(length) for length in self.shape)
        return f"lstm-{size}-{len(self.weights[1])}-{stored.digest(*self.weights)}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, units) float32 in -1..1. Raises ImageError (IMG_CHANNELS)."""
        training.check_channels(images, self.shape)
        return encode_in_chunks(images, self._last_state, report)

    def save(self, folder: Path) -> None:
        """Write weights, their sha256 and the loss history under `folder`. Raises ModelError (MODEL_SAVE)."""
        arrays = dict(zip(PARTS, self.weights, strict=True))
        stored.write(folder / WEIGHTS, {"shape": np.array(self.shape), **arrays})
        training.write_history(folder, self.history)

    def _last_state(self, images: ImageArray) -> FeatureArray:
        kernel, recurrent, bias = self.weights
        rows = flatten(images, self.shape).reshape(len(images), self.shape[0], -1)
        state = memory = np.zeros((len(images), len(recurrent)), dtype=np.float32)
        for row in range(self.shape[0]):  # each needs the state after the one before
            sums = np.split(rows[:, row] @ kernel + state @ recurrent + bias, 4, axis=1)
            taken, kept, shown = (_sigmoid(sums[gate]) for gate in (0, 1, 3))
            memory = kept * memory + taken * np.tanh(sums[2])
            state = shown * np.tanh(memory)
        return state


class LstmEncoder:
    """A recurrent network (LSTM) that reads images row by row and gives them back: to compare with, hog is better."""

    slow = True
    """Takes minutes on a large pool: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal weights

    def __init__(self, units: int = 100, max_epochs: int = 10, patience: int = 3, seed: int = 0) -> None:
        training.check_settings("lstm", seed, units=units, max_epochs=max_epochs, patience=patience)
        self.units = units
        self.max_epochs = max_epochs
        self.patience = patience
        self.seed = seed

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedLstm:
        """Train on the pool in a child process; its losses become the figures of the surrounding job.

        `rng` chooses the fifth that training stops by, `seed` the first weights. The same on every run of one machine,
        bit for bit. Raises ModelError (MODEL_TOO_SMALL) under 200 images, Cancelled, JobError.
        """
        return training.trained(lambda folder: self.start_training(images, rng, folder), _read, report)

    def start_training(self, images: ImageArray, rng: np.random.Generator, folder: Path) -> Job:
        """The job behind `fit`, with `folder` to itself."""
        self.check_pool(len(images))
        settings = {
            "shape": input_shape(images.shape[1:]),
            "units": self.units,
            "max_epochs": self.max_epochs,
            "patience": self.patience,
            "seed": self.seed,
        }
        return training.start(TRAIN, images, rng, folder, WEIGHTS, settings)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where `fit` would."""
        training.check_n_images(n_images, "a recurrent network")

    def load(self, folder: Path) -> FittedLstm:
        """What `FittedLstm.save` wrote. Raises ModelError (MODEL_HASH)."""
        return _read(folder, training.read_history(folder))


def _sigmoid(sums: FeatureArray) -> FeatureArray:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * sums), dtype=np.float32)  # no exponential that overflows


def _read(folder: Path, history: list[Losses]) -> FittedLstm:
    arrays = stored.read(folder / WEIGHTS)
    height, width, n_channels = (int(length) for length in arrays["shape"])
    return FittedLstm((height, width, n_channels), tuple(arrays[part] for part in PARTS), tuple(history))
