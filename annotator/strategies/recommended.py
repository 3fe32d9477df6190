"""What we recommend: which images teach most at every number of labels, classes without labels and rare ones included.

What counts is labels per class, of the classes seen, not labels: with two hundred classes, five hundred are few.

- **Below `margin_from_per_class` labels a class** a batch is herded (see herding.py) by the model's doubt.
- **From then on** the smallest margins are asked: classes overlap along their borders by then, and variety costs more
  than it gains. Rare classes do not count for more there: at 1,000 labels of clothes that cost 0.5 to 0.8 points
  (91.7 % without, 91.0 with; development images, 3 seeds, batches of 50).

Doubt is 1 - margin, and while images are herded more where a class of few labels is likely:

    doubt(x) = (1 - margin(x)) sum over classes c of p_c(x) (n / n_c)^BALANCE

with n_c the labels of c, and n their mean over the classes seen; 1 stands for n / n_c of a class without labels.

**While a class has no label**, part of each batch looks for it, `SEARCHED` / (1 + labels per class / `HALVED_AT`): a
class that is defined and not in the pool must not cost a part of every batch for ever. That part is herded by
doubt / (1 + e(x) / median of e)^2: e is the label mass that reaches an image through the graph (`Prediction.evidence`),
least where no label is like it. An image that is like no other gains nothing by that, since it stands for none.

With three classes of 1 % in Fashion-MNIST balance gains 5 points of macro F1 at 200 labels (82.3 for 77.6, 3 seeds);
search moves the first 50 labels by less than the spread between seeds (3 to 7 points, 6 seeds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from annotator.errors import ConfigError
from annotator.strategies import words
from annotator.strategies.herding import LEAST_WEIGHT, by_others, herded, reason
from annotator.strategies.uncertainty import margin, top_k
from annotator.threads import at_most
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool, Reason

BALANCE = 0.5
"""Inverse square roots, as balance.py has them; its gain is above."""
SEARCHED, HALVED_AT = 0.3, 10
"""Share of a batch before there are labels, and labels per class at which half of that is left: round numbers."""
FEW = 0.5
"""A class has few labels where it has less than this share of the mean: a round number, of words alone."""
FAR = 0.5
"""An image may be of a new class where its label mass is below this share of the median: a round number, of words
alone.
"""
MAY_BE_NEW = Reason("may be a class without labels yet")


@dataclass(frozen=True)
class _Known:
    """What labels and the model say."""

    n_of: IntArray
    """(n_classes,) labels of each class."""
    probabilities: FloatArray
    """(n_images, n_classes)"""
    reached: FloatArray | None
    """(n_images,) label mass in units of its median, while a class has no label; None where the model knows none."""

    @property
    def mean(self) -> float:
        """Labels per class, of the classes seen."""
        return float(self.n_of.sum() / max(1, np.count_nonzero(self.n_of)))

    @property
    def is_complete(self) -> bool:
        """Whether every class has a label."""
        return bool(self.n_of.all())

    def balance(self) -> FloatArray:
        """(n_images,) by how much doubt counts for more."""
        seen = self.n_of > 0
        of_class = np.where(seen, self.mean / np.maximum(self.n_of, 1), 1.0) ** BALANCE
        return np.asarray(self.probabilities @ of_class)

    def is_far(self, row: int) -> bool:
        """Whether little of what is labeled is like this image."""
        return self.reached is not None and bool(self.reached[row] < FAR)

    def novelty(self) -> FloatArray:
        """(n_images,) 0 to 1: how little of what is labeled is like it; 1 for all where the model does not say."""
        return np.ones(len(self.probabilities)) if self.reached is None else (1 + self.reached) ** -2


class Recommended:
    """Asks what teaches most at every number of labels measured, and looks for classes without labels."""

    def __init__(self, margin_from_per_class: int = 50) -> None:
        if margin_from_per_class < 0:
            raise ConfigError(f"recommended.margin_from_per_class must not be negative: {margin_from_per_class}.")
        self.margin_from_per_class = margin_from_per_class
        """50: on clothes, of ten classes, herding is ahead up to 500 labels, where it has 90.8 % and margin alone 90.7.
        """

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Herded, an image's score is how many others it stands for; later it is its doubt."""
        with at_most(1):  # the result is the same bit for bit on any number of cores
            known = _known(pool)
            margins = pool.prediction.figures.measured(margin)
            doubt = np.maximum(margins * known.balance(), LEAST_WEIGHT)
            searched = _searched(pool, known, doubt, batch_size, rng)
            if known.mean < self.margin_from_per_class:
                return _herded(pool, known, doubt, batch_size, searched, rng)
            return _most_doubtful(pool, known, margins, batch_size, searched)


def _known(pool: Pool) -> _Known:
    probabilities, evidence = pool.prediction.probabilities, pool.prediction.evidence
    n_of = np.bincount(pool.labels[pool.labels != UNLABELED], minlength=probabilities.shape[1])
    middle = 0.0 if evidence is None or n_of.all() else float(np.median(evidence))
    return _Known(n_of, probabilities, None if evidence is None or middle <= 0 else evidence / middle)


def _herded(
    pool: Pool, known: _Known, doubt: FloatArray, size: int, searched: IntArray, rng: np.random.Generator
) -> Choice:
    n_others = size - len(searched)
    others = herded(_without(pool, searched), doubt, n_others, rng) if n_others else searched[:0]
    best = by_others(pool, np.concatenate([searched, others]))
    said = best.reasons or tuple(Reason(reason(score)) for score in best.scores)
    return Choice(best.rows, best.scores, "herding", _reasons(known, best.rows, searched, said))


def _most_doubtful(pool: Pool, known: _Known, doubt: FloatArray, size: int, searched: IntArray) -> Choice:
    others = _without(pool, searched).candidates
    rows = np.concatenate([searched, top_k(others, doubt[others], size - len(searched)).rows])
    best = top_k(rows, doubt[rows], len(rows))
    said = words.between(known.probabilities[best.rows])
    is_new = [known.is_far(row) and row in searched for row in best.rows.tolist()]
    said = tuple(MAY_BE_NEW if new else other for new, other in zip(is_new, said, strict=True))
    return Choice(best.rows, best.scores, "margin", said)


def _searched(pool: Pool, known: _Known, doubt: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """The part of a batch that looks for classes without labels; none where every class has one.

    The share holds on average over batches, however small.
    """
    share = SEARCHED / (1 + known.mean / HALVED_AT)
    n_searched = 0 if known.is_complete else int(share * size + rng.random())
    if not n_searched:
        return np.empty(0, dtype=np.int64)
    return herded(pool, np.maximum(doubt * known.novelty(), LEAST_WEIGHT), n_searched, rng)


def _without(pool: Pool, rows: IntArray) -> Pool:
    """The pool after these rows were asked: they, and what is identical to one of them, are no candidates."""
    if not len(rows):
        return pool
    group = pool.dataset.group
    left = pool.candidates[~np.isin(group[pool.candidates], group[rows])]
    return replace(pool, candidates=left, asked=np.union1d(pool.asked, rows))


def _reasons(known: _Known, rows: IntArray, searched: IntArray, otherwise: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """One for each row: what made it count for more, where that did."""
    guesses = known.probabilities[rows].argmax(axis=1).tolist()
    is_searched = np.isin(rows, searched).tolist()
    return tuple(
        _more_than_doubt(known, row, guess, looked_for) or other
        for row, guess, looked_for, other in zip(rows.tolist(), guesses, is_searched, otherwise, strict=True)
    )


def _more_than_doubt(known: _Known, row: int, guess: int, is_searched: bool) -> Reason | None:
    if is_searched and known.is_far(row):
        return MAY_BE_NEW
    if 0 < known.n_of[guess] < FEW * known.mean:
        return Reason("may be {0}, a class you have few of", (guess,))
    return None
