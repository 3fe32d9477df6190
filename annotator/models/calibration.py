"""The temperature under which a model's probabilities mean what they say, found with its labels. Knows no store.

Shown probabilities are p^(1/T), each row divided by its sum (Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017, on log p in place of logits): every image keeps its guess. ln T comes from three sources.

1. **Labels, out of fold.** T makes the labels most likely, each by the probabilities that a fit without it gives. What
   a strategy picks is harder than the pool: each label stands for the unlabeled images of a sample that it is the
   nearest one of, in the features. It counts as their number to the power of min(1, n / 250), for n labels: with few,
   full weights would leave the word to a handful of them. A label whose class has no other one says nothing.
2. **Agreement.** Among images that were picked for doubt hardly any is like those without doubt, however they are
   weighted, and (1) is too pessimistic. So a second kind of model, kernel ridge, classifies the sample, and T makes
   *its* guesses most likely: too optimistic, since both make some mistakes together. ln T lies between the two, at

       share = D min(1, 1.8 (1 - c)) min(1, n / 700)

   D is the largest distance between the distributions of confidence of labels out of fold and of unlabeled images
   (Kolmogorov-Smirnov): near 0 for labels drawn at random, about 0.5 for those of a margin; c is the share of the
   model's mistakes out of fold that kernel ridge, out of fold as well, makes too.
3. **The audit slice**, where there is one: drawn at random and never trained on, it needs no correction. What (1) and
   (2) say is a normal prior for it.

**Few labels.** Some models are nearly right as they are (the vote up to 200 labels), others far too unsure (label
spreading). So the prior of (1) has a peak at T = 1 and wide sides,

    p(ln T) ~ exp(-(ln T)^2 / 2) / sqrt(1 + (ln T / 0.2)^2)

as the horseshoe has (Carvalho, Polson & Scott, Biometrika 2010): what labels say faintly is taken for chance, and what
they say clearly is hardly shrunk. The first labels are often typical images, and with few of them a fit without a fifth
is less sure than the whole one: under 75 labels no T below 1 brings the sample's mean confidence above the share of
labels that are right out of fold. Under `LEAST` labels T is 1.

The constants were found on Fashion-MNIST and digits, by the error in 15 bins on unlabeled images, from 30 to 1,000
labels, for the vote and for label spreading.

**A network's opinion.** A network that was trained on these labels knows them, whatever is left out of the model's fit.
A vote leaves its opinion out of (1). That changes little: on 3,000 to 5,000 other images of Fashion-MNIST, at 200 and
at 1,000 labels, the best ln T of a vote with the opinion is 0.02 to 0.07 above that without, and by the latter the
error in 15 bins is 0.5 to 1.8 %.

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
PEAK = 0.2
"""How near to T = 1 a model is that is taken to be right as it is."""
STEP = 0.1
"""Of ln T: the prior with a peak can have two maxima, which are looked for at this distance."""
FEW = 75
"""Labels below which no image is shown surer than the model is right out of fold."""
WEIGHED_FROM = 250
"""Labels from which on each counts as often as it is the nearest one."""
FACTOR, TRUSTED_FROM = 1.8, 700
"""Of the agreement's share."""


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

    def share_right(self, weights: FloatArray) -> float:
        """The weighted share of right guesses, 0 to 1; weights (n,)."""
        return float(weights @ (self.guesses == self.codes) / max(weights.sum(), np.finfo(float).tiny))


@dataclass(frozen=True)
class Prior:
    """Of ln T before labels are looked at: normal, and with a peak of this width at its mean where there is one."""

    mean: float = 0.0
    deviation: float = SPREAD_BEFORE
    peak: float | None = None

    def surprise(self, log_t: float) -> float:
        """-ln p(ln T), but for a constant."""
        away = log_t - self.mean
        beyond = 0.0 if self.peak is None else float(np.log1p((away / self.peak) ** 2)) / 2
        return (away / self.deviation) ** 2 / 2 + beyond


def temperature(
    model: Model, dataset: Dataset, labels: IntArray, probabilities: FloatArray, audit: Known | None = None
) -> float:
    """T for a model that was fitted on `labels` (n_images,), -1 = unlabeled, and said `probabilities` of the pool.

    The same arguments give the same T, bit for bit. Raises what the model raises.
    """
    log_t, prior = 0.0, Prior(peak=PEAK)
    if LEAST <= (labels != UNLABELED).sum() < len(labels):
        log_t = _by_labels(model, dataset, labels, probabilities)
        prior = Prior(log_t, SPREAD_OF_LABELS)
    if audit is not None and len(audit.codes):
        log_t = most_likely(audit, np.ones(len(audit.codes)), prior)
    return float(np.exp(log_t))


def most_likely(known: Known, weights: FloatArray, prior: Prior | None = None) -> float:
    """ln T that makes the codes most likely; weights (n,) count images."""
    import scipy.optimize

    before = prior or Prior()
    logs = np.log(np.maximum(known.probabilities, np.finfo(float).tiny))
    logs -= logs.max(axis=1, keepdims=True)
    own = logs[np.arange(len(logs)), known.codes]

    def surprise(log_t: float) -> float:
        factor = np.exp(-log_t)
        shown = np.exp(factor * own) / np.exp(factor * logs).sum(axis=1)
        return float(-weights @ np.log(shown + SMALLEST)) + before.surprise(log_t)

    least, most = np.log(TEMPERATURES)
    start = min(np.arange(-30, 31) * STEP, key=surprise)
    bounds = max(start - STEP, least), min(start + STEP, most)
    return float(scipy.optimize.minimize_scalar(surprise, bounds=bounds, method="bounded").x)


@dataclass(frozen=True)
class _OutOfFold:
    """What the labels say by themselves: of some labeled rows, and of unlabeled ones that stand for the pool."""

    rows: IntArray
    """(n_labeled,) ascending; not more than `MOST`."""
    folds: IntArray
    known: Known
    """These rows, each without the labels of its fold."""
    sample: IntArray
    """(n_sample,) unlabeled rows."""


def _by_labels(model: Model, dataset: Dataset, labels: IntArray, probabilities: FloatArray) -> float:
    """ln T by the labels out of fold and by agreement."""
    found = _left_out(model, dataset, labels, probabilities.shape[1])
    pool, weights = probabilities[found.sample], _weights(dataset, found)
    pessimistic = most_likely(found.known, weights, Prior(peak=PEAK))
    if len(found.rows) < FEW:
        pessimistic = no_surer(pool, found.known.share_right(weights), pessimistic)
    kernel, seen = KernelRidge(), np.full(len(labels), UNLABELED)
    seen[found.rows] = labels[found.rows]
    others = kernel.out_of_fold(dataset, seen, pool.shape[1], found.folds)
    share = distance(found.known.probabilities.max(axis=1), pool.max(axis=1))
    share *= min(1.0, FACTOR * (1 - _in_common(found.known, others))) * min(1.0, len(found.rows) / TRUSTED_FROM)
    agreed = Known(pool, kernel.of_rows(dataset, seen, pool.shape[1], found.sample).argmax(axis=1))
    return (1 - share) * pessimistic + share * most_likely(agreed, np.ones(len(pool)))


def _left_out(model: Model, dataset: Dataset, labels: IntArray, n_classes: int) -> _OutOfFold:
    labeled = np.flatnonzero(labels != UNLABELED)
    rng = np.random.default_rng(len(labeled))
    rows = np.sort(rng.permutation(labeled)[:MOST])
    sample = np.sort(rng.permutation(np.flatnonzero(labels == UNLABELED))[:SAMPLE])
    folds = spread(labels[rows], dataset.group[rows], N_FOLDS, rng)
    all_folds = np.full(len(labeled), UNLABELED)
    all_folds[np.searchsorted(labeled, rows)] = folds
    said = without_own_fold(model, dataset, labels, n_classes, all_folds)[all_folds != UNLABELED]
    return _OutOfFold(rows, folds, Known(said, labels[rows]), sample)


def _weights(dataset: Dataset, found: _OutOfFold) -> FloatArray:
    """(n_labeled,) how much each label counts: together as many as so uneven weights are worth."""
    weights = stands_for(dataset, found.rows, found.sample) ** min(1.0, len(found.rows) / WEIGHED_FROM)
    weights = np.where(found.known.of_codes > 0, weights, 0.0)
    return np.asarray(weights * (weights.sum() / max((weights**2).sum(), np.finfo(float).tiny)))


def no_surer(probabilities: FloatArray, accuracy: float, log_t: float) -> float:
    """The ln T from `log_t` to 0, nearest to it, at which the mean confidence is not above this accuracy; else 0.

    probabilities (n_images, n_classes). A `log_t` above 0 stays: it makes nothing surer.
    """
    if log_t >= 0:
        return log_t
    logs = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    logs -= logs.max(axis=1, keepdims=True)
    for tried in np.linspace(log_t, 0.0, 20)[:-1].tolist():
        if (1 / np.exp(np.exp(-tried) * logs).sum(axis=1)).mean() <= accuracy:
            return float(tried)
    return 0.0


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
