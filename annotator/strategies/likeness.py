"""How alike images are, by the direction of their features from the pool's centre; samples of rows. Knows no model.

k(x, y) = exp(-|x - y|^2 / sigma^2) of features minus their mean, scaled to length 1, as herding.py explains: 1 for
images that cannot be told apart. sigma is 0.7 up to ten labels and falls with their fourth root.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray, Pool

WIDTH, WIDTH_UNTIL = 0.7, 10
N_CENTRE = 8_000
"""Rows, spread over the pool, whose mean is its centre."""

SinglePrecision = NDArray[np.float32]


def directions(pool: Pool, rows: IntArray) -> SinglePrecision:
    """(len(rows), n_features) features minus the pool's centre, of length 1; 0 for an image at the centre."""
    features = pool.dataset.features
    centre = features[:: -(-len(features) // N_CENTRE)].mean(axis=0, dtype=np.float64)
    away = np.asarray(features[rows] - centre, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", away, away))[:, None]
    return np.asarray(away / np.where(lengths > 0, lengths, 1))


def likeness(some: SinglePrecision, others: SinglePrecision, width: float) -> SinglePrecision:
    """k of (n, n_features) and (m, n_features) directions: (n, m), from 0 to 1."""
    squared = np.einsum("ij,ij->i", some, some)[:, None] + np.einsum("ij,ij->i", others, others)
    squared -= 2 * (some @ others.T)
    return np.asarray(np.exp(-np.maximum(squared, 0) / np.float32(width**2)))


def width(n_labels: int) -> float:
    """sigma once there are so many labels, those of the batch included."""
    return float(WIDTH * min(1.0, WIDTH_UNTIL / max(1, n_labels)) ** 0.25)


def drawn(rows: IntArray, size: int, rng: np.random.Generator, weights: FloatArray | None = None) -> IntArray:
    """`size` of the rows without replacement, ascending; in proportion to their weights (len(rows),), all above 0.

    The largest of log(weight) + Gumbel noise (Efraimidis & Spirakis, 2006).
    """
    if len(rows) <= size:
        return rows
    keys = rng.gumbel(size=len(rows)) + (0.0 if weights is None else np.log(weights))
    return np.sort(rows[np.argpartition(-keys, size)[:size]])
