"""Ask where the parts of a vote disagree: query by committee (Seung, Opper & Sompolinsky, COLT 1992).

Disagreement is the mean divergence of the members' probabilities q_m from their mean q,

    1/M sum_m KL(q_m | q) = H(q) - 1/M sum_m H(q_m)

(McCallum & Nigam, "Employing EM and Pool-Based Active Learning for Text Classification", ICML 1998). It is what a batch
covers (coverage.py): the highest alone are much alike, and trail random choice. Members are first brought to one
confidence, by the powers at which models/vote.py mixes them: else it is mostly unlike confidence that is found, and
batches trail random choice too. Where a prediction has fewer than two members, the margin chooses, under its name on
each question.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from annotator.strategies.coverage import cover
from annotator.strategies.uncertainty import ask_highest, entropy, margin
from annotator.types import Choice, FloatArray, Pool, Reason

POWERS = (3, 2)
"""Of the first members of a vote, the graph model and the classifier; others are as sure as they say."""


class Committee:
    """Images on which the parts of a vote disagree, none like another in the batch."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """A score is the disagreement that an image adds to what is covered; without a committee, the margin."""
        members = pool.prediction.members
        if len(members) < 2:
            asked = ask_highest(pool, margin, batch_size)
            return Choice(asked.rows, asked.scores, "margin", asked.reasons)
        asked = cover(pool, disagreement(sharpened(members)), batch_size, rng)
        votes = np.stack([member[asked.rows].argmax(axis=1) for member in members], axis=1)
        return Choice(asked.rows, asked.scores, reasons=tuple(map(_said, votes.tolist())))


def sharpened(members: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    """Each (n, n_classes), to its power, rows divided by their sums."""
    powers = POWERS + (1,) * len(members)
    raised = (member**power for member, power in zip(members, powers, strict=False))
    return tuple(each / each.sum(axis=1, keepdims=True) for each in raised)


def disagreement(members: tuple[FloatArray, ...]) -> FloatArray:
    """Probabilities (n, n_classes) of each member -> (n,) mean divergence from their mean, in nats."""
    mean = sum(members[1:], members[0]) / len(members)
    return np.asarray(np.maximum(entropy(mean) - sum(map(entropy, members)) / len(members), 0))


def _said(votes: list[int]) -> Reason:
    """Which classes the members say, the one with most votes first."""
    counted = Counter(votes).most_common()
    codes = tuple(code for code, _ in counted)
    if len(counted) == 1:
        return Reason("all say {0}, not all as surely", codes)
    if len(counted) == 2:
        return Reason(f"{_n_say(counted[0][1])} {{0}}, {_n_say(counted[1][1])} {{1}}", codes)
    return Reason("the parts say " + _listed(len(codes)), codes)


def _n_say(n_votes: int) -> str:
    return "1 says" if n_votes == 1 else f"{n_votes} say"


def _listed(n_classes: int) -> str:
    """{0}, {1} or {2}"""
    places = [f"{{{place}}}" for place in range(n_classes)]
    return ", ".join(places[:-1]) + " or " + places[-1]
