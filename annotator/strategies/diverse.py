"""Ask where the model is least sure, but not for images that are alike: greedy batches of the most uncertain.

An image's score is its uncertainty times what the images picked before it in the batch leave of it,

    u(x) product over picked y of (1 - k(x, y)),

with k of likeness.py: none that cannot be told from one picked before is picked. It is the greedy form of diverse
batches among the top by uncertainty (Zhdanov, "Diverse mini-batch Active Learning", arXiv 1901.05954, who clusters
them).
"""

from __future__ import annotations

import numpy as np

from annotator.strategies import words
from annotator.strategies.likeness import directions, likeness, width
from annotator.strategies.uncertainty import margin, top_k
from annotator.threads import at_most
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool

N_CANDIDATES = 1_000
"""Of highest uncertainty."""


class DiverseMargin:
    """The images whose two likeliest classes are closest, none like another in the batch."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Nothing is drawn. A score is 1 minus the margin, less where images like this one were picked before it."""
        doubt = pool.prediction.figures.measured(margin)[pool.candidates]
        best = top_k(pool.candidates, doubt, max(N_CANDIDATES, batch_size))
        picked, scores = apart(pool, best.rows, best.scores, batch_size)
        return Choice(picked, scores, reasons=words.between(pool.prediction.probabilities[picked]))


def apart(pool: Pool, rows: IntArray, scores: FloatArray, size: int) -> tuple[IntArray, FloatArray]:
    """The greedy batch of (n,) rows by their scores, not negative: at most `size` rows and what was left of each score.

    Runs in one thread, so that the result is the same on any number of cores.
    """
    if not len(rows):
        return rows, scores
    with at_most(1):
        at = directions(pool, rows)
        sigma = width(np.count_nonzero(pool.labels != UNLABELED) + size)
        left, is_free = scores.astype(np.float64), np.ones(len(rows), dtype=bool)
        picked: list[int] = []
        found: list[float] = []
        for _ in range(min(size, len(rows))):
            best = int(np.where(is_free, left, -1.0).argmax())
            picked.append(best)
            found.append(float(left[best]))
            is_free[best] = False
            left *= 1 - likeness(at, at[best : best + 1], sigma)[:, 0]
    return rows[picked], np.array(found)
