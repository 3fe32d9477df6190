"""Why images were picked, in the few words that a card has room for: functions of what the model believes of them.

Each takes the probabilities of the picked images, (n, n_classes), to n reasons. A class of probability 0 is not named
as a possible one, and classes that tie are all counted.
"""

from __future__ import annotations

import numpy as np

from annotator.types import FloatArray, IntArray, Reason

POSSIBLE = 0.5
"""An image could be of a class that is at least this many times as probable as the likeliest: a round number."""


def between(probabilities: FloatArray) -> tuple[Reason, ...]:
    """The two likeliest classes, and those that tie with the second."""
    return tuple(_one_of(_down_to(row, _second(row))) for row in probabilities)


def could_be(probabilities: FloatArray) -> tuple[Reason, ...]:
    """The classes at least half as probable as the likeliest."""
    return tuple(_possible(row) for row in probabilities)


def least_sure(probabilities: FloatArray) -> tuple[Reason, ...]:
    """The likeliest class."""
    return tuple(_perhaps(row, ", least sure") for row in probabilities)


def _possible(row: FloatArray) -> Reason:
    codes = _down_to(row, POSSIBLE * float(row.max()))
    return _one_of(codes) if len(codes) > 1 else _perhaps(row)


def _perhaps(row: FloatArray, more: str = "") -> Reason:
    likeliest = _down_to(row, float(row.max()))[:1]
    return Reason(f"perhaps {{0}}{more}", _codes(likeliest)) if np.count_nonzero(row) > 1 else _one_of(likeliest)


def _second(row: FloatArray) -> float:
    """The second highest probability; the highest where there is one class."""
    return float(np.sort(row)[-2:][0])


def _down_to(row: FloatArray, least: float) -> IntArray:
    """The codes of possible classes that are at least so probable, the likeliest first."""
    order = np.argsort(-row, kind="stable")
    return np.asarray(order[(row[order] >= least) & (row[order] > 0)])


def _one_of(codes: IntArray) -> Reason:
    if len(codes) > 3:
        return Reason(f"could be any of {len(codes)} classes")
    words = {1: "surely {0}", 2: "between {0} and {1}", 3: "could be {0}, {1} or {2}"}
    return Reason(words[len(codes)], _codes(codes))


def _codes(codes: IntArray) -> tuple[int, ...]:
    return tuple(codes.tolist())
