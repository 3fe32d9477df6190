"""Ask for images that only need a nod: the nearest unlabeled neighbours of what was just labeled, of the same guess.

For each of the newest labels, the newest first, its neighbours in the graph are looked at, the nearest by features
first; one is taken where the model guesses that label. Every label gives one image before any gives a second. Such
images teach little: they are there to be answered in half a second, with the key that accepts the guess. No strategy of
its own in the registry, since there may be fewer of them than are wanted.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from annotator.types import Choice, IntArray, Pool, Reason, likeliest

NAME = "confirm"
WORDS = "looks like {0}, which you just labeled"


def nearest_to_newest(pool: Pool, n_wanted: int) -> Choice:
    """At most `n_wanted` of `pool.candidates`; the score is minus the distance to the label's image, by features."""
    labeled = [row for row in pool.newest.tolist() if pool.labels[row] >= 0] if n_wanted > 0 else []
    by_label = [[(near, row) for near in _same_guess(pool, row)] for row in labeled]
    in_turn = (pair for turn in zip_longest(*by_label) for pair in turn if pair is not None)
    first: dict[int, int] = {}
    for near, row in in_turn:
        if len(first) == n_wanted:
            break
        first.setdefault(near, row)
    rows = np.fromiter(first, dtype=np.int64, count=len(first))
    beside = np.fromiter(first.values(), dtype=np.int64, count=len(first))
    features = pool.dataset.features
    distances = np.linalg.norm(np.asarray(features[rows], np.float64) - features[beside], axis=1)
    reasons = tuple(Reason(WORDS, (int(code),)) for code in pool.labels[beside])
    return Choice(rows, -distances, NAME, reasons)


def _same_guess(pool: Pool, row: int) -> list[int]:
    """Candidates among the row's neighbours whose guess is its label, the nearest first, equal ones by row."""
    affinity, features = pool.dataset.graph.affinity, pool.dataset.features
    near: IntArray = np.sort(affinity.indices[affinity.indptr[row] : affinity.indptr[row + 1]]).astype(np.int64)
    places = np.minimum(np.searchsorted(pool.candidates, near), max(0, len(pool.candidates) - 1))
    near = near[pool.candidates[places] == near] if len(pool.candidates) else near[:0]
    near = near[likeliest(pool.prediction.probabilities[near]) == pool.labels[row]]
    distances = np.linalg.norm(np.asarray(features[near], np.float64) - features[row], axis=1)
    return list(near[np.argsort(distances, kind="stable")].tolist())
