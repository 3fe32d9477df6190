"""Ask for images that stand for many others: a greedy batch, each image the one that adds most coverage.

With k(x, y) = exp(-|x - y|^2 / sigma^2), image x is covered by the most similar one that was chosen,
c(x) = max over chosen y of k(x, y), and y gains

    sum over x of w(x) max(0, k(x, y) - c(x)).

What is labeled, or asked and not answered yet, counts as chosen. w = 1 is MaxHerding (Bae et al., "Generalized Coverage
for More Robust Low-Budget Active Learning", arXiv 2407.12212); w = the model's uncertainty is uncertainty herding (Bae
et al., "Uncertainty Herding: One Active Learning Method for All Label Budgets", arXiv 2412.20644). Both x and y are
samples of the pool, drawn anew for each batch.

x and y are features minus the pool's mean, scaled to length 1, so that one rule serves every encoder: on pixels, whose
lengths differ, and on HOG, accuracy was 1 to 2 points higher at 50 and 100 labels than with unscaled distances. sigma
is the distance that one in fifty of all pairs of images are nearer than, so that it fits pools of many similar images
and of few different ones: clothes are best asked about with 0.65 times the spread (the root of the sum of variances),
digits 0.8, coloured drawings 1, and one in fifty pairs is nearer than 0.67, 0.83 and 1. Herding narrows sigma as labels
come in, by the factor (10 / (labels + batch size))^(1/4).

The score of an image is how many others it stands for: the images of the pool that were not asked, and that are nearer
to it, by unscaled features, than to anything else in the batch or asked before. In pools above `N_COUNTED` images only
every second, third, ... image is looked at, so that at most `N_COUNTED` are; the count is scaled up, and the card says
"about".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from annotator.errors import ConfigError
from annotator.strategies.likeness import SinglePrecision, directions, drawn
from annotator.strategies.uncertainty import ask_highest, entropy, least_confidence, margin
from annotator.threads import at_most
from annotator.types import UNLABELED, Choice, FeatureArray, FloatArray, IntArray, Pool, Reason

NEAR, N_PAIRED, LEAST_WIDTH = 0.02, 500, 0.35
"""What makes the kernel as wide as the pool's images are far from each other. `NEAR` is from trials on three pools, see
above; `N_PAIRED` a round number; `LEAST_WIDTH` half of the clothes' width, not tried.
"""
FIRST_BATCH = 10
"""Labels up to which the kernel is not narrowed: the first batch of the trials on clothes."""
TYPICAL_CANDIDATES, TYPICAL_POINTS = 3_000, 8_000
"""Round numbers that bound the time; with them the first ten labels of clothes gave 68 to 70 % (5 seeds)."""
N_CANDIDATES, N_POINTS = 1_000, 5_000
"""Round numbers that bound the time; with them clothes gave 84.3 % at 50 labels and 87.3 at 100, by margin alone 82.7
and 86.0.
"""
N_COUNTED = 8_000
"""A round number that bounds the time."""
ROWS_PER_CHUNK = 512
"""Rows whose distances are looked at together: they fit the processor's cache."""
ROWS_PER_GAIN = 32
"""A round number, of speed alone."""
LEAST_SPREAD = 1e-30
LEAST_WEIGHT = 1e-9
"""Smallest weight of an image: where the model is certain of all, coverage alone decides."""

WEIGHTS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "margin": margin,
    "entropy": entropy,
    "least-confidence": least_confidence,
}

Rows = TypeVar("Rows", SinglePrecision, IntArray)


def reason(score: float, about: str = "") -> str:
    """The reason on a card, from a score of this module; `about` stands before a number that was scaled up."""
    n_others = round(score)
    if not n_others:
        return "stands for few others" if about else "stands for itself alone"
    return f"stands for {about}{n_others:,} other{'s' * (n_others != 1)}"


class Typical:
    """Images that between them are most like all others: the first batch, before a model knows two classes."""

    reason = staticmethod(reason)

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """The prediction is not used; an image's score is how many others it stands for."""
        candidates = drawn(_distinct(pool), max(TYPICAL_CANDIDATES, batch_size), rng)
        points = drawn(np.flatnonzero(pool.labels == UNLABELED), TYPICAL_POINTS, rng)
        picked = _picked(pool, candidates, points, np.ones(len(points)), near(pool, points), batch_size)
        return by_others(pool, picked)


class Herding:
    """Doubtful images that stand for many other doubtful ones, none like another in the batch; later plain margin.

    `weight` is the measure of doubt: margin, entropy or least-confidence. From `margin_from` labels on the smallest
    margins are asked without herding: by then classes overlap along the borders, and variety costs more than it gains.
    """

    reason = staticmethod(reason)

    def __init__(self, weight: str = "margin", margin_from: int = 500) -> None:
        if weight not in WEIGHTS:
            raise ConfigError(f"herding.weight must be one of {', '.join(WEIGHTS)}, not {weight!r}.")
        if margin_from < 0:
            raise ConfigError(f"herding.margin_from must not be negative: {margin_from}.")
        self.weight = weight
        self.margin_from = margin_from

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """An image's score is how many others it stands for, or its margin where the margin chose it."""
        if np.count_nonzero(pool.labels != UNLABELED) >= self.margin_from:
            asked = ask_highest(pool, margin, batch_size)
            return Choice(asked.rows, asked.scores, "margin", asked.reasons)
        doubt = np.maximum(pool.prediction.figures.measured(WEIGHTS[self.weight]), LEAST_WEIGHT)
        return herd(pool, doubt, batch_size, rng)


def herd(pool: Pool, doubt: FloatArray, batch_size: int, rng: np.random.Generator) -> Choice:
    """A batch of uncertainty herding by the doubt of each image, (n_images,), above 0."""
    return by_others(pool, herded(pool, doubt, batch_size, rng))


def herded(pool: Pool, doubt: FloatArray, batch_size: int, rng: np.random.Generator) -> IntArray:
    """The rows of `herd`, in the order in which they were picked."""
    candidates = drawn(_distinct(pool), max(N_CANDIDATES, batch_size), rng, doubt)
    points = drawn(np.flatnonzero(pool.labels == UNLABELED), N_POINTS, rng)
    width = near(pool, points) * min(1.0, FIRST_BATCH / max(1, len(_chosen(pool)) + batch_size)) ** 0.25
    return _picked(pool, candidates, points, doubt[points], width, batch_size)


def by_others(pool: Pool, picked: IntArray) -> Choice:
    """A batch with how many others each image stands for as its score; those that stand for most come first."""
    if not len(picked):
        return Choice(picked, np.zeros(0))
    features = pool.dataset.features
    with at_most(1):
        counts = stands_for(features, picked, _chosen(pool))
    order = np.argsort(-counts, kind="stable")
    scores = counts[order].astype(np.float64)
    if _step(len(features)) == 1:
        return Choice(picked[order], scores)
    return Choice(picked[order], scores, reasons=tuple(Reason(reason(score, "about ")) for score in scores))


def near(pool: Pool, points: IntArray) -> float:
    """Of all distances between these rows' directions, the one that `NEAR` of them are below; in units of the spread.

    `N_PAIRED` of the rows are looked at. Where they are alike, not less than `LEAST_WIDTH`.
    """
    some = points[:: max(1, -(-len(points) // N_PAIRED))]
    if len(some) < 2:
        return LEAST_WIDTH
    features = pool.dataset.features[some].astype(np.float32)
    with at_most(1):
        at = directions(features, features.mean(axis=0)).astype(np.float64)
        lengths, products = np.einsum("ij,ij->i", at, at), at @ at.T
        squared = lengths[:, None] + lengths - 2 * products
        of_pairs = squared[np.triu_indices(len(some), 1)]
        place = int(NEAR * len(of_pairs))
        spread = float(at.var(axis=0).sum())
    nearest = float(np.partition(of_pairs, place)[place])
    return max(LEAST_WIDTH, float(np.sqrt(max(0.0, nearest) / max(spread, LEAST_SPREAD))))


def pick(similarity: SinglePrecision, weights: SinglePrecision, covered: SinglePrecision, size: int) -> IntArray:
    """(n, n_points), (n_points,), (n_points,) -> at most `size` of the n, greedily by their gain, the first of equals.

    Gains only fall as coverage grows, so only the largest old gains are computed again (lazy greedy; Minoux, 1978).
    """
    gains = _gains(similarity, weights, covered)
    picked: list[int] = []
    while len(picked) < min(size, len(similarity)):
        best = int(gains.argmax())
        gain = np.maximum(similarity[best] - covered, 0) @ weights
        if gain < gains[best]:
            gains[best] = gain
            continue
        picked.append(best)
        gains[best] = -np.inf
        covered = np.maximum(covered, similarity[best])
    return np.array(picked, dtype=np.int64)


def stands_for(features: FeatureArray, picked: IntArray, chosen: IntArray) -> IntArray:
    """(len(picked),) how many other rows of (n, n_features) are nearest to each, of all picked and chosen before.

    Above `N_COUNTED` rows they are counted among every step-th row, times the step. Of equally near ones the first
    counts, those chosen before in front of those picked.
    """
    step = _step(len(features))
    is_other = np.ones(len(features), dtype=bool)
    is_other[picked] = is_other[chosen] = False
    rows = step * np.flatnonzero(is_other[::step])
    known = np.asarray(features[np.concatenate([chosen, picked])], dtype=np.float32)
    centre = known.mean(axis=0)  # differences stay exact where all features lie far from 0
    to, offsets = _closeness_to(known - centre)
    counts = np.zeros(len(known), dtype=np.int64)
    for part in _parts(rows):
        closeness = (np.asarray(features[part], dtype=np.float32) - centre) @ to
        closeness += offsets
        counts += np.bincount(closeness.argmax(axis=1), minlength=len(known))
    return counts[len(chosen) :] * step


def _step(n_images: int) -> int:
    """The distance between the rows that are counted: at most `N_COUNTED` of the pool."""
    return max(1, -(-n_images // N_COUNTED))


def _picked(
    pool: Pool, candidates: IntArray, points: IntArray, weights: FloatArray, width: float, size: int
) -> IntArray:
    """The rows of the greedy batch, in the order in which they were picked.

    Runs in one thread: the result is the same bit for bit on any number of cores.
    """
    features, chosen = pool.dataset.features, _chosen(pool)
    if not len(candidates):
        return candidates
    with at_most(1):
        at = features[points if len(points) else candidates].astype(np.float32)
        centre = at.mean(axis=0)
        at = directions(at, centre)
        weights = weights if len(points) else np.ones(len(at))
        spread = float(np.square(at - at.mean(axis=0)).sum(dtype=np.float64)) / len(at)
        factor = -1 / max(width**2 * spread, LEAST_SPREAD)
        similarity = _similarity(directions(features[candidates], centre), at, factor)
        covered = coverage_by(at, directions(features[chosen], centre), factor)
        return np.asarray(candidates[pick(similarity, weights.astype(np.float32), covered, size)])


def _chosen(pool: Pool) -> IntArray:
    """Rows that are labeled, or asked and not answered yet."""
    return np.union1d(pool.asked, np.flatnonzero(pool.labels != UNLABELED))


def _distinct(pool: Pool) -> IntArray:
    """One candidate of each group of identical images."""
    if pool.dataset.is_first[pool.candidates].all():
        return pool.candidates
    _, first = np.unique(pool.dataset.group[pool.candidates], return_index=True)
    return pool.candidates[np.sort(first)]


def _similarity(queries: SinglePrecision, others: SinglePrecision, factor: float) -> SinglePrecision:
    """(n, n_features), (m, n_features) -> exp(factor |x - y|^2), (n, m), by one product of |x|^2, x and y, |y|^2.

    models/kernel_ridge.py has its own in double precision, of features as they are.
    """
    one_side, other_side = (factor * np.einsum("ij,ij->i", each, each)[:, None] for each in (queries, others))
    left = np.hstack([queries, one_side, np.ones_like(one_side)])
    right = np.hstack([-2 * factor * others, np.ones_like(other_side), other_side])
    similarity = left @ np.ascontiguousarray(right.T)
    for start in range(0, len(similarity), ROWS_PER_GAIN):
        part = similarity[start : start + ROWS_PER_GAIN]
        np.exp(np.minimum(part, 0, out=part), out=part)
    return np.asarray(similarity)


def coverage_by(points: SinglePrecision, chosen: SinglePrecision, factor: float) -> SinglePrecision:
    """(n, n_features), (m, n_features) -> (n,) the similarity to the nearest that was chosen; 0 where none was."""
    if not len(chosen):
        return np.zeros(len(points), dtype=np.float32)
    to, offsets = _closeness_to(chosen)
    closeness = np.concatenate([(part @ to + offsets).max(axis=1) for part in _parts(points)])
    squared = np.maximum(np.einsum("ij,ij->i", points, points) - 2 * closeness, 0)
    return np.asarray(np.exp(factor * squared), dtype=np.float32)


def _closeness_to(others: SinglePrecision) -> tuple[SinglePrecision, SinglePrecision]:
    """(n_features, m) and (m,), such that x @ matrix + offsets is (|x|^2 - |x - y|^2) / 2: largest at the nearest y."""
    return np.ascontiguousarray(others.T), -np.einsum("ij,ij->i", others, others) / 2


def _gains(similarity: SinglePrecision, weights: SinglePrecision, covered: SinglePrecision) -> SinglePrecision:
    """(n, n_points), (n_points,), (n_points,) -> (n,) what each of the n would add to the coverage."""
    gains = np.empty(len(similarity), dtype=np.result_type(similarity, weights))
    above = np.empty((ROWS_PER_GAIN, len(covered)), dtype=similarity.dtype)
    for start in range(0, len(similarity), ROWS_PER_GAIN):
        part = similarity[start : start + ROWS_PER_GAIN]
        left = np.subtract(part, covered, out=above[: len(part)])
        np.matmul(np.maximum(left, 0, out=left), weights, out=gains[start : start + ROWS_PER_GAIN])
    return gains


def _parts(rows: Rows) -> list[Rows]:
    """The rows in pieces of ROWS_PER_CHUNK, to bound intermediate arrays."""
    return [rows[start : start + ROWS_PER_CHUNK] for start in range(0, len(rows), ROWS_PER_CHUNK)]
