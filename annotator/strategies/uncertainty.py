"""Ask where the model is least sure: a measure of each row's probabilities, then the k highest.

Settles, "Active Learning Literature Survey", 2009, section 3.1. Measures take (n, n_classes) probabilities whose rows
sum to 1 to (n,) scores, higher = ask sooner. They know nothing of the images: the k highest may well be alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from annotator.strategies import words
from annotator.types import Choice, FloatArray, IntArray, Pool, Reason


def entropy(probabilities: FloatArray) -> FloatArray:
    """-sum_c p_c ln p_c in nats: 0 where one class is certain, ln(n_classes) where all are alike."""
    from scipy.special import entr  # slow to import, and the first page needs no entropy

    shares = probabilities / probabilities.sum(axis=1, keepdims=True)  # as scipy.stats.entropy does, bit for bit
    return np.asarray(entr(shares).sum(axis=1))


def margin(probabilities: FloatArray) -> FloatArray:
    """1 - (the highest probability - the second): 1 where two classes tie, 0 where one is certain."""
    if probabilities.shape[1] < 2:
        return 1 - probabilities[:, 0]
    first, *others = np.ascontiguousarray(probabilities.T)  # class by class: twice as fast as partitioning each row
    highest, second = first.copy(), np.full_like(first, -np.inf)
    for shares in others:
        np.maximum(second, np.minimum(shares, highest), out=second)
        np.maximum(highest, shares, out=highest)
    return np.asarray(1 - (highest - second))


def least_confidence(probabilities: FloatArray) -> FloatArray:
    """1 - the highest probability."""
    return np.asarray(1 - probabilities.max(axis=1))


WORDS: dict[Callable[[FloatArray], FloatArray], Callable[[FloatArray], tuple[Reason, ...]]] = {
    entropy: words.could_be,
    margin: words.between,
    least_confidence: words.least_sure,
}


def top_k(candidates: IntArray, scores: FloatArray, k: int) -> Choice:
    """The k candidates of highest score, best first; equal scores in the order of `candidates`."""
    contenders = np.arange(len(scores))
    if 0 < k < len(scores):
        contenders = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    best = contenders[np.argsort(-scores[contenders], kind="stable")][:k]
    return Choice(candidates[best], scores[best])


def ask_highest(pool: Pool, measure: Callable[[FloatArray], FloatArray], batch_size: int) -> Choice:
    """The candidates whose probabilities a measure puts first, and why where the measure has words."""
    best = top_k(pool.candidates, pool.prediction.figures.measured(measure)[pool.candidates], batch_size)
    said = WORDS[measure](pool.prediction.probabilities[best.rows]) if measure in WORDS else ()
    return Choice(best.rows, best.scores, reasons=said)


class Entropy:
    """The images whose probabilities are spread most evenly over the classes."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Nothing is drawn: equal entropies are settled by row."""
        return ask_highest(pool, entropy, batch_size)


class Margin:
    """The images whose two likeliest classes are closest."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Nothing is drawn: equal margins are settled by row."""
        return ask_highest(pool, margin, batch_size)


class LeastConfidence:
    """The images whose likeliest class is least likely."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Nothing is drawn: equal confidences are settled by row."""
        return ask_highest(pool, least_confidence, batch_size)
