"""A trained head in plain NumPy: features in, calibrated probabilities out. Knows no Keras and no labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotator.encoders import stored
from annotator.encoders.dense import DenseLayers, from_arrays
from annotator.types import FeatureArray, FloatArray, IntArray

HEAD, PROBABILITIES = "head.npz", "probabilities.npy"
"""File names of a trained head, and of its probabilities for the pool."""
ROWS_PER_CHUNK = 8192
BATCH, STEPS = 256, 300
"""Labels that a step of a head's training sees at most, and how many steps it takes."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """(features - mean) / spread: centred on the pool, one spread for all features.

    The spread is the root of the features' mean variance. A spread for each feature would scale the last features of a
    projection, which are mostly noise, up to the size of the first: that costs half the accuracy at a hundred labels.
    """

    mean: FeatureArray
    """(n_features,)"""
    spread: float

    def apply(self, features: FeatureArray) -> FeatureArray:
        """(n, n_features) -> the same shape, float32."""
        return np.asarray((features - self.mean) / np.float32(self.spread), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Head:
    """Dense layers whose last sums, divided by the temperature, go through a softmax."""

    scaling: Scaling
    layers: DenseLayers
    temperature: float

    def probabilities(self, features: FeatureArray) -> FloatArray:
        """(n, n_features) -> (n, classes seen), rows sum to 1."""
        chunks = [self._chunk(part) for part in _parts(features)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.layers.widths[-1]))

    def write(self, path: Path) -> None:
        """Raises ModelError (MODEL_SAVE)."""
        numbers = {"mean": self.scaling.mean, "rest": np.array([self.scaling.spread, self.temperature])}
        stored.write(path, numbers | self.layers.arrays)

    def _chunk(self, features: FeatureArray) -> FloatArray:
        return softmax(self.layers.apply(self.scaling.apply(features)).astype(np.float64) / self.temperature)


def read_head(path: Path) -> Head:
    """What `Head.write` wrote. Raises ModelError (MODEL_HASH)."""
    arrays = stored.read(path)
    spread, temperature = arrays["rest"].tolist()
    return Head(Scaling(arrays["mean"], spread), from_arrays(arrays), temperature)


def scaling_of(features: FeatureArray) -> Scaling:
    """Mean and spread of (n, n_features), a part at a time, in float64; spread 1 where all rows are equal."""
    n_rows, n_features = features.shape
    mean = sum((part.sum(axis=0, dtype=np.float64) for part in _parts(features)), np.zeros(n_features)) / max(1, n_rows)
    squares = sum(float(((part - mean) ** 2).sum()) for part in _parts(features))
    spread = (squares / max(1, n_rows * n_features)) ** 0.5
    return Scaling(mean.astype(np.float32), spread or 1.0)


def softmax(sums: FloatArray) -> FloatArray:
    """(n, n_classes) -> rows that sum to 1, in double precision.

    Computed class by class, a part of the rows at a time: for ten classes five times as fast as row by row.
    """
    shares = np.empty(sums.shape)
    for start in range(0, len(sums), ROWS_PER_CHUNK):
        columns = np.array(sums[start : start + ROWS_PER_CHUNK].T, dtype=np.float64, order="C")
        columns -= columns.max(axis=0)
        np.exp(columns, out=columns)
        columns /= columns.sum(axis=0)
        shares[start : start + ROWS_PER_CHUNK] = columns.T
    return shares


def batches_of(n_labels: int, max_epochs: int, rng: np.random.Generator) -> IntArray:
    """(n_steps, size) which labels each step sees: all of them, or `BATCH` in the order of shuffled epochs."""
    size = min(BATCH, n_labels)
    n_steps = max(1, min(STEPS, max_epochs * n_labels // size))
    n_epochs = -(-n_steps * size // n_labels)
    order = np.concatenate([rng.permutation(n_labels) for _ in range(n_epochs)])
    return order[: n_steps * size].reshape(n_steps, size)


def _parts(features: FeatureArray) -> Iterator[FeatureArray]:
    for start in range(0, len(features), ROWS_PER_CHUNK):
        yield features[start : start + ROWS_PER_CHUNK]
