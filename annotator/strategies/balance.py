"""Ask for what may be of a class with few labels: coverage of doubtful images, the rare classes' counting most.

Each image weighs its doubt, 1 minus the margin of its probabilities p, times the rarity of the classes that it may be,

    w(x) = doubt(x) sum_c p_c(x) / sqrt(n_c + 1),

n_c the labels of class c so far. A batch is chosen greedily for the weight that it covers, as uncertainty herding does
(herding.py; Bae et al., arXiv 2412.20644); the inverse frequency as a weight for acquisition is that of Aggarwal et
al., "Active Learning for Imbalanced Datasets" (WACV 2020). A class without a label has no probability: its images are
found because nothing near them is labeled, so they are covered least.

The score of an image is how many others it stands for, as in herding.py.
"""

from __future__ import annotations

import numpy as np

from annotator.strategies import words
from annotator.strategies.herding import pick, stands_for
from annotator.strategies.likeness import directions, drawn, squared_distances
from annotator.strategies.uncertainty import margin
from annotator.threads import at_most
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool, Reason

WIDTH, WIDTH_UNTIL = 0.7, 10
"""Of the kernel, in units of the spread; it narrows with the fourth root of the labels beyond so many."""
N_CANDIDATES, N_POINTS = 1_000, 5_000
POWER = 0.5
LEAST_WEIGHT = 1e-9
LEAST_SPREAD = 1e-30


class Balance:
    """Doubtful images that may be of a class with few labels, none like another in the batch."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Candidates are drawn in proportion to their weight."""
        if not len(pool.candidates):
            return Choice(pool.candidates, np.zeros(0))
        weights = np.maximum(rarity(pool) * pool.prediction.figures.measured(margin), LEAST_WEIGHT)
        candidates = drawn(pool.candidates, max(N_CANDIDATES, batch_size), rng, weights[pool.candidates])
        points = drawn(np.flatnonzero(pool.labels == UNLABELED), N_POINTS, rng)
        with at_most(1):  # the result is the same bit for bit on any number of cores
            picked = candidates[_covering(pool, candidates, points, weights[points], batch_size)]
            counts = stands_for(pool.dataset.features, picked, _chosen(pool))
        order = np.argsort(-counts, kind="stable")
        return Choice(picked[order], counts[order].astype(np.float64), reasons=reasons(pool, picked[order]))


def rarity(pool: Pool) -> FloatArray:
    """(n_images,) sum over classes of their probability / sqrt(labels + 1)."""
    return np.asarray(pool.prediction.probabilities @ _class_weights(pool))


def reasons(pool: Pool, rows: IntArray) -> tuple[Reason, ...]:
    """The class that weighs most, where it has fewer labels than the mean; else between which classes an image is."""
    probabilities, counts = pool.prediction.probabilities[rows], _counts(pool)
    weigh_most = (probabilities * _class_weights(pool)).argmax(axis=1).tolist()
    otherwise = words.between(probabilities)
    return tuple(
        _few(code, int(counts[code])) if counts[code] < counts.mean() else instead
        for code, instead in zip(weigh_most, otherwise, strict=True)
    )


def _few(code: int, n_labels: int) -> Reason:
    has = {0: "no label", 1: "only 1 label"}.get(n_labels, f"only {n_labels:,} labels")
    return Reason(f"perhaps {{0}}, which has {has}", (code,))


def _counts(pool: Pool) -> IntArray:
    """(n_classes,) labels so far."""
    return np.bincount(pool.labels[pool.labels != UNLABELED], minlength=pool.prediction.probabilities.shape[1])


def _class_weights(pool: Pool) -> FloatArray:
    return np.asarray((_counts(pool) + 1.0) ** -POWER)


def _covering(pool: Pool, candidates: IntArray, points: IntArray, weights: FloatArray, size: int) -> IntArray:
    """Places among the candidates of the batch that covers most of the points' weight beside what was asked before."""
    chosen = _chosen(pool)
    at = directions(pool, points)
    width = WIDTH * min(1.0, WIDTH_UNTIL / max(1, len(chosen) + size)) ** 0.25
    factor = np.float32(-1 / max(width**2 * float(at.var(axis=0, dtype=np.float64).sum()), LEAST_SPREAD))
    similarity = np.exp(factor * squared_distances(directions(pool, candidates), at))
    covered = np.exp(factor * squared_distances(directions(pool, chosen), at)).max(axis=0, initial=0)
    return pick(similarity, weights.astype(np.float32), covered, size)


def _chosen(pool: Pool) -> IntArray:
    """Rows that are labeled, or asked and not answered yet."""
    return np.union1d(pool.asked, np.flatnonzero(pool.labels != UNLABELED))
