"""A batch that covers weights: greedily the images that add most similarity to weighted ones, beside what was asked.

As in herding.py, whose picking it uses: image y gains sum over x of w(x) max(0, k(x, y) - c(x)), with
k = exp(-d^2 / sigma^2) of directions (likeness.py), and c(x) how far x is covered by what was labeled, asked or picked
before. What differs from strategy to strategy is the weight.
"""

from __future__ import annotations

import numpy as np

from annotator.strategies.herding import coverage_by, pick
from annotator.strategies.likeness import SinglePrecision, centre, directions, drawn, squared_distances
from annotator.threads import at_most
from annotator.types import UNLABELED, Choice, FloatArray, Pool

WIDTH, WIDTH_UNTIL = 0.7, 10
"""Of the kernel, in units of the spread; it narrows with the fourth root of the labels beyond so many.

As in trials of herding on clothes (0.6 to 0.7 gave 68 to 70 % at ten labels, 0.5 and 0.85 63 and 68).
"""
N_CANDIDATES, N_POINTS = 1_000, 3_000
"""Round numbers that bound the time."""
LEAST_WEIGHT = 1e-9
"""Where all weights are 0, coverage alone decides."""
LEAST_SPREAD = 1e-30


def cover(pool: Pool, weights: FloatArray, batch_size: int, rng: np.random.Generator) -> Choice:
    """The batch that covers most of the weights (n_images,), not negative.

    Candidates are drawn in proportion to them. A score is the weight that an image adds to what is covered.
    """
    if not len(pool.candidates):
        return Choice(pool.candidates, np.zeros(0))
    weights = np.maximum(weights, LEAST_WEIGHT)
    candidates = drawn(pool.candidates, max(N_CANDIDATES, batch_size), rng, weights)
    points = drawn(np.flatnonzero(pool.labels == UNLABELED), N_POINTS, rng)
    chosen = np.union1d(pool.asked, np.flatnonzero(pool.labels != UNLABELED))
    with at_most(1):  # the result is the same bit for bit on any number of cores
        features, middle = pool.dataset.features, centre(pool)
        at = directions(features[points], middle)
        width = WIDTH * min(1.0, WIDTH_UNTIL / max(1, len(chosen) + batch_size)) ** 0.25
        factor = np.float32(-1 / max(width**2 * float(at.var(axis=0, dtype=np.float64).sum()), LEAST_SPREAD))
        similarity = squared_distances(directions(features[candidates], middle), at)
        np.exp(np.multiply(similarity, factor, out=similarity), out=similarity)
        covered = coverage_by(at, directions(features[chosen], middle), float(factor))
        at_points = weights[points].astype(np.float32)
        picked = pick(similarity, at_points, covered, batch_size)
        return Choice(candidates[picked], _gains(similarity[picked], at_points, covered))


def _gains(similarity: SinglePrecision, weights: SinglePrecision, covered: SinglePrecision) -> FloatArray:
    """(n_picked,) the weight that each one adds to what those before it cover; rounding makes none larger."""
    gains = []
    for row in similarity:
        gains.append(float(np.maximum(row - covered, 0) @ weights))
        covered = np.maximum(covered, row)
    return np.minimum.accumulate(np.array(gains))
