"""How alike images are, by the direction of their features from the pool's centre; samples of rows. Knows no model.

Features minus their mean, scaled to length 1: one rule for every encoder, as herding.py explains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray, Pool

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


def squared_distances(some: SinglePrecision, others: SinglePrecision) -> SinglePrecision:
    """(n, n_features), (m, n_features) of about length 1 -> (n, m), not below 0."""
    squared = some @ (-2 * others.T)
    squared += np.einsum("ij,ij->i", some, some)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    return np.asarray(np.maximum(squared, 0, out=squared))


def drawn(rows: IntArray, size: int, rng: np.random.Generator, weights: FloatArray | None = None) -> IntArray:
    """`size` of the rows without replacement, ascending; in proportion to their weights (len(rows),), all above 0.

    The largest of log(weight) + Gumbel noise (Efraimidis & Spirakis, 2006).
    """
    if len(rows) <= size:
        return rows
    keys = rng.gumbel(size=len(rows)) + (0.0 if weights is None else np.log(weights))
    return np.sort(rows[np.argpartition(-keys, size)[:size]])
