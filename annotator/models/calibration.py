"""The temperature under which a model's probabilities mean what they say, found with its labels. Knows no store.

Shown probabilities are p^(1/T), each row divided by its sum (Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017, on log p in place of logits): every image keeps its guess. ln T comes from three sources.

1. **Labels, out of fold.** T makes the labels most likely, each by the probabilities that a fit without it gives. What
   a strategy picks is harder than the pool: each label counts as often as it is the nearest one, in the features, of a
   sample of unlabeled images. A label whose class has no other one says nothing.
2. **Agreement.** Among images that were picked for doubt hardly any is like those without doubt, however they are
   weighted, and (1) is too pessimistic. So a second kind of model, kernel ridge, classifies the sample, and T makes
   *its* guesses most likely: too optimistic, since both make some mistakes together. ln T lies between the two, at

       share = D min(1, 1.4 (1 - c)) min(1, n / 250)

   n is the number of labels. D is the largest distance between the distributions of confidence of labels out of fold
   and of unlabeled images (Kolmogorov-Smirnov): near 0 for labels drawn at random, about 0.5 for those of a margin; c
   is the share of the model's mistakes out of fold that kernel ridge, out of fold as well, makes too. 1.4 and 250 were
   found on Fashion-MNIST: without the first a graph model's probabilities stay some points too low, without the second
   a vote's are too high at a hundred labels.
3. **The audit slice**, where there is one: drawn at random and never trained on, it needs no correction. What (1) and
   (2) say is a normal prior for it.

With few labels (1) is held near 1 by a wide prior; under `LEAST` labels T is 1.

**What it costs.** Five fits without a fifth of the labels (see `LeavesOut` in types.py: a graph model takes labels
back, a classifier looks at the labeled rows only), and as many of kernel ridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.models.kernel_ridge import KernelRidge
from annotator.models.out_of_fold import spread, without_own_fold
from annotator.types import UNLABELED, Dataset, FloatArray, IntArray, Model

LEAST = 30
"""Labels below which the temperature is 1."""
MOST = 3_000
"""Labels that are left out; of more than that so many drawn at random."""
N_FOLDS = 5
SAMPLE = 4_000
"""Unlabeled images that stand for the pool."""
TEMPERATURES = (0.05, 20.0)
SMALLEST = 1e-4
"""Added to the probability of each label, so that a few that are wrong do not outweigh all others."""
SPREAD_BEFORE, SPREAD_OF_LABELS = 1.0, 0.2
"""Standard deviations of ln T: before any label, and of what labels say against what the audit slice says."""
FACTOR, TRUSTED_FROM = 1.4, 250


@dataclass(frozen=True)
class Known:
    """Images with a known class and the probabilities that a model gives them without having seen it."""

    probabilities: FloatArray
    """(n, n_classes)"""
    codes: IntArray
    """(n,)"""

    @property
    def guesses(self) -> IntArray:
        """(n,) the code of each image's likeliest class."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def of_codes(self) -> FloatArray:
        """(n,) the probability of each image's class."""
        return np.asarray(self.probabilities[np.arange(len(self.codes)), self.codes])


def temperature(
    model: Model, dataset: Dataset, labels: IntArray, probabilities: FloatArray, audit: Known | None = None
) -> float:
    """T for a model that was fitted on `labels` (n_images,), -1 = unlabeled, and said `probabilities` of the pool.

    The same arguments give the same T, bit for bit. Raises what the model raises.
    """
    log_t, deviation = 0.0, SPREAD_BEFORE
    if LEAST <= (labels != UNLABELED).sum() < len(labels):
        log_t, deviation = _by_labels(model, dataset, labels, probabilities), SPREAD_OF_LABELS
    if audit is not None and len(audit.codes):
        log_t = most_likely(audit, np.ones(len(audit.codes)), log_t, deviation)
    return float(np.exp(log_t))


def most_likely(known: Known, weights: FloatArray, mean: float = 0.0, deviation: float = SPREAD_BEFORE) -> float:
    """ln T that makes the codes most likely under a normal prior for ln T; weights (n,) count images."""
    import scipy.optimize

    logs = np.log(np.maximum(known.probabilities, np.finfo(float).tiny))
    logs -= logs.max(axis=1, keepdims=True)
    own = logs[np.arange(len(logs)), known.codes]

    def surprise(log_t: float) -> float:
        factor = np.exp(-log_t)
        shown = np.exp(factor * own) / np.exp(factor * logs).sum(axis=1)
        return float(-weights @ np.log(shown + SMALLEST) + ((log_t - mean) / deviation) ** 2 / 2)

    return float(scipy.optimize.minimize_scalar(surprise, bounds=np.log(TEMPERATURES), method="bounded").x)


def _by_labels(model: Model, dataset: Dataset, labels: IntArray, probabilities: FloatArray) -> float:
    """ln T by the labels out of fold and by agreement."""
    labeled, n_classes = np.flatnonzero(labels != UNLABELED), probabilities.shape[1]
    rng = np.random.default_rng(len(labeled))
    rows = np.sort(rng.permutation(labeled)[:MOST])
    sample = np.sort(rng.permutation(np.flatnonzero(labels == UNLABELED))[:SAMPLE])
    folds = spread(labels[rows], dataset.group[rows], N_FOLDS, rng)
    all_folds = np.full(len(labeled), UNLABELED)
    all_folds[np.searchsorted(labeled, rows)] = folds
    said = without_own_fold(model, dataset, labels, n_classes, all_folds)[all_folds != UNLABELED]
    known, pool = Known(said, labels[rows]), probabilities[sample]
    weights = np.where(known.of_codes > 0, stands_for(dataset, rows, sample), 0.0)
    pessimistic = most_likely(known, weights * (weights.sum() / max((weights**2).sum(), 1.0)))
    seen = np.full(len(labels), UNLABELED)
    seen[rows] = labels[rows]
    kernel = KernelRidge()
    share = distance(known.probabilities.max(axis=1), pool.max(axis=1)) * min(1.0, len(rows) / TRUSTED_FROM)
    share *= min(1.0, FACTOR * (1 - _in_common(known, kernel.out_of_fold(dataset, seen, n_classes, folds))))
    agreed = Known(pool, kernel.of_rows(dataset, seen, n_classes, sample).argmax(axis=1))
    return (1 - share) * pessimistic + share * most_likely(agreed, np.ones(len(sample)))


def _in_common(known: Known, others: FloatArray) -> float:
    """The share of wrong guesses that another model's (n, n_classes) guesses repeat; 0 where none is wrong."""
    wrong = known.guesses != known.codes
    return float((known.guesses == others.argmax(axis=1))[wrong].mean()) if wrong.any() else 0.0


def stands_for(dataset: Dataset, rows: IntArray, sample: IntArray) -> FloatArray:
    """(n_rows,) of how many images of the sample each of these rows is the nearest; a tenth more, so that none is 0."""
    places, others = (np.asarray(dataset.features[which], dtype=np.float32) for which in (rows, sample))
    nearest = ((places**2).sum(axis=1) - 2 * others @ places.T).argmin(axis=1)
    return np.asarray(np.bincount(nearest, minlength=len(rows)) + 0.1, dtype=np.float64)


def distance(ones: FloatArray, others: FloatArray) -> float:
    """Kolmogorov and Smirnov's: the largest difference between the shares below a value, (n,) against (m,)."""
    values = np.concatenate([ones, others])
    below = [np.searchsorted(np.sort(each), values, side="right") / len(each) for each in (ones, others)]
    return float(np.abs(below[0] - below[1]).max())
