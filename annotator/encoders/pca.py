"""Principal components, the same on every run: the last step of most encoders. Knows vectors, not images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.types import FeatureArray, FloatArray, IntArray

MAX_SAMPLE = 10_000  # rows a projection is fitted on
NO_VARIANCE = 1e-7  # of the first direction's: what is left is rounding


@dataclass(frozen=True)
class Projection:
    """(vectors - mean) @ components, or the vectors as they are where `components` has no columns."""

    mean: NDArray[np.floating[Any]]  # Any: either precision
    """float32, or float64 where the vectors were: single precision would lose what lies far from zero."""
    components: NDArray[np.float32]

    def apply(self, vectors: FeatureArray) -> FeatureArray:
        """(n, n_inputs) -> (n, n_components), or (n, n_inputs) where nothing is projected."""
        if not self.components.size:
            return vectors
        return np.asarray((vectors - self.mean) @ self.components, dtype=np.float32)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that differ where the projection does."""
        return hashlib.sha256(self.mean.tobytes() + self.components.tobytes()).hexdigest()[:8]


UNCHANGED = Projection(np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.float32))


def sample_rows(n_rows: int, rng: np.random.Generator) -> IntArray:
    """At most `MAX_SAMPLE` rows in ascending order, drawn without replacement where there are more."""
    if n_rows <= MAX_SAMPLE:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, MAX_SAMPLE, replace=False))


def unit_rows(vectors: FeatureArray) -> FeatureArray:
    """Rows scaled to length 1; a row of zeros (a flat image) stays 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def fit_projection(vectors: FeatureArray, max_dimensions: int) -> Projection:
    """The directions of most variance of (n, n_inputs), at most `max_dimensions` and at most n of them.

    `UNCHANGED` where there are no more inputs than that. Eigenvectors of the covariance in float64;
    each one's largest entry is made positive, as its sign is arbitrary.
    """
    if vectors.shape[1] <= max_dimensions:
        return UNCHANGED
    mean = vectors.mean(axis=0, dtype=np.float64)
    components = _leading_directions(vectors - mean, max_dimensions)
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    components *= np.where(largest < 0, -1.0, 1.0)
    return Projection(
        mean.astype(np.result_type(vectors, np.float32)), np.ascontiguousarray(components, dtype=np.float32)
    )


def _leading_directions(centred: FloatArray, max_directions: int) -> FloatArray:
    """(n_inputs, n_directions), most variance first, by whichever of the two product matrices is the smaller."""
    n_rows, n_inputs = centred.shape
    if n_inputs <= n_rows:
        return _leading_eigenvectors(centred.T @ centred, max_directions)
    by_row = _leading_eigenvectors(centred @ centred.T, min(max_directions, n_rows))
    directions = centred.T @ by_row
    lengths = np.linalg.norm(directions, axis=0)
    directions = directions[:, lengths > NO_VARIANCE * lengths.max()]
    return directions / np.linalg.norm(directions, axis=0) if directions.size else np.zeros((n_inputs, 1))


def _leading_eigenvectors(symmetric: FloatArray, count: int) -> FloatArray:
    import scipy.linalg  # slow to import, and features from the cache need no directions

    size = len(symmetric)
    _, vectors = scipy.linalg.eigh(symmetric, subset_by_index=[size - count, size - 1])
    return np.asarray(vectors[:, ::-1]).copy()
