"""How alike images are, by the direction of their features from the pool's centre; samples of rows. Knows no model.

Features minus their mean, scaled to length 1: one rule for every encoder, as herding.py explains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.types import FeatureArray, FloatArray, IntArray, Pool

N_CENTRE = 8_000
"""Rows, spread over the pool, whose mean is its centre: a round number."""
DRAWS = 8
"""Draws for each row that is wanted, before rows are drawn in another way: a round number, of speed alone."""

SinglePrecision = NDArray[np.float32]


def centre(pool: Pool) -> FloatArray:
    """(n_features,) the mean of rows spread over the pool."""
    features = pool.dataset.features
    return np.asarray(features[:: -(-len(features) // N_CENTRE)].mean(axis=0, dtype=np.float64))


def directions(features: FeatureArray, middle: FloatArray | SinglePrecision) -> SinglePrecision:
    """(n, n_features) minus the middle (n_features,), each row scaled to length 1; a row at the middle stays 0."""
    away = np.asarray(np.asarray(features, dtype=np.float32) - middle, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", away, away))[:, None]
    return np.asarray(away / np.where(lengths > 0, lengths, 1))


def squared_distances(some: SinglePrecision, others: SinglePrecision) -> SinglePrecision:
    """(n, n_features), (m, n_features) of about length 1 -> (n, m), not below 0."""
    squared = some @ (-2 * others.T)
    squared += np.einsum("ij,ij->i", some, some)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    return np.asarray(np.maximum(squared, 0, out=squared))


def drawn(rows: IntArray, size: int, rng: np.random.Generator, weights: FloatArray | None = None) -> IntArray:
    """`size` of the rows without replacement, ascending; one after the other in proportion to weights where given.

    `weights` (n_images,) are above 0. Draws with replacement, of which the first of each row counts, have the same
    distribution and look at few rows. Where so few rows have the weight that this would take long, the largest of
    log(weight) + Gumbel noise, which are distributed alike (Efraimidis & Spirakis, 2006).
    """
    if len(rows) <= size:
        return rows
    if weights is None:
        return np.sort(rows[rng.choice(len(rows), size, replace=False, shuffle=False)])
    sums = np.cumsum(weights[rows])
    places = np.searchsorted(sums[:-1], sums[-1] * rng.random(DRAWS * size), side="right")
    found, first = np.unique(places, return_index=True)
    if len(found) < size:
        keys = rng.gumbel(size=len(rows)) + np.log(weights[rows])
        return np.sort(rows[np.argpartition(-keys, size)[:size]])
    return np.sort(rows[found[np.argsort(first)[:size]]])
