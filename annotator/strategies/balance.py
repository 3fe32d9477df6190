"""Ask for what may be of a class with few labels: coverage of doubtful images, the rare classes' counting most.

Each image weighs its doubt, 1 minus the margin of its probabilities p, times the rarity of the classes that it may be,

    w(x) = doubt(x) sum_c p_c(x) / sqrt(n_c + 1),

n_c the labels of class c so far; the batch covers these weights (coverage.py), as in uncertainty herding (Bae et al.,
arXiv 2412.20644). Inverse frequency as a weight for what is asked is that of Aggarwal et al., "Active Learning for
Imbalanced Datasets" (WACV 2020). A class without a label has no probability: its images are found because nothing near
them is labeled, so they are covered least.
"""

from __future__ import annotations

import numpy as np

from annotator.strategies import words
from annotator.strategies.coverage import cover
from annotator.strategies.uncertainty import margin
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool, Reason

POWER = 0.5
"""Of the inverse number of labels: a square root, half-way between not at all and in full; not tuned."""


class Balance:
    """Doubtful images that may be of a class with few labels, none like another in the batch."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """A score is the weight that an image adds to what is covered."""
        doubt = pool.prediction.figures.measured(margin)
        asked = cover(pool, doubt * rarity(pool), batch_size, rng)
        return Choice(asked.rows, asked.scores, reasons=reasons(pool, asked.rows))


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
