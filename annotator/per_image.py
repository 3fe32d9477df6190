"""Per-image arrays updated in place: only rows that changed since the last fit are written. Knows numpy only.

What is handed out is a value: it is never written again while anybody holds it. So that a million rows are not copied
for the few that change, an array that nobody holds any more is brought up to date and handed out again.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Values = NDArray[Any]  # Any: numbers
Measure = Callable[[NDArray[np.float64]], Values]
"""(m, n_classes) probabilities -> (m,) a figure of each row, or (m, k) several."""

AFRESH = 0.5
"""Where more than this share of the rows is out of date, all are measured."""
COPIED = 0.15
"""Where more than this share is out of date, all are copied: a row among many costs what eight in order do."""
CHUNK = 4096
"""Rows that are measured at a time, so that what is computed in between stays in the processor's cache."""
N_FIGURES = 8
"""Figures carried on from fit to fit: of an older one, such as by a temperature of before, nobody may ask again."""
N_KEPT = 2
"""Arrays kept for the next turn: the newest is held while the one after it is made."""
_HELD_BY_US = 2
"""References to an array that only the list of kept ones holds, the one of the question included."""


class Renewed:
    """An array of n rows, again and again: each time another value, written where rows have changed since."""

    def __init__(self) -> None:
        self._kept: list[Values] = []
        self._stale: list[BoolArray] = []
        """Of each kept array which rows, (n,), are out of date."""

    def change(self, rows: IntArray) -> None:
        """These rows are out of date from now on."""
        for stale in self._stale:
            stale[rows] = True

    def renewed(self, newest: Values, changed: IntArray) -> Values:
        """A read-only copy of `newest`, (n, ...), which differs in the `changed` rows from that of the call before."""
        self.change(changed)
        place = self._free(len(newest))
        if place is None:
            place = self._keep(newest.copy())
        else:
            _update(self._kept[place], self._stale[place], lambda rows: newest[rows], COPIED)
        value = self._kept[place].view()
        value.flags.writeable = False
        return value

    def _free(self, n_rows: int) -> int | None:
        """The kept array that nobody else holds, not even a part of it."""
        for place in range(len(self._kept)):
            if sys.getrefcount(self._kept[place]) == _HELD_BY_US and len(self._kept[place]) == n_rows:
                return place
        return None

    def _keep(self, array: Values) -> int:
        if len(self._kept) == N_KEPT:
            del self._kept[0], self._stale[0]
        self._kept.append(array)
        self._stale.append(np.zeros(len(array), dtype=bool))
        return len(self._kept) - 1


class _Figure:
    """One measure of the newest fit's rows: computed once where a row changed, handed out as values."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.stale = np.zeros(len(values), dtype=bool)
        self.copies = Renewed()

    def renewed(self, measured: Callable[[IntArray | slice], Values]) -> Values:
        """The figure of every row, read-only."""
        return self.copies.renewed(self.values, _update(self.values, self.stale, measured, AFRESH))


class RowFigures:
    """Figures of each row of one prediction's probabilities, (n, n_classes), each computed when first asked for.

    Made `after` those of the fit before, only the rows that changed are computed again. Safe between threads.
    """

    def __init__(self, probabilities: NDArray[np.float64]) -> None:
        self._probabilities = probabilities
        self._found: dict[Measure, Values] = {}
        self._figures: dict[Measure, _Figure] = {}
        self._newest = [0]
        self._turn = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> RowFigures:
        """Figures of its own: a model that is copied with its last answer shares no lock and no figure with it."""
        return RowFigures(copy.deepcopy(self._probabilities, memo))

    def after(self, probabilities: NDArray[np.float64], changed: IntArray) -> RowFigures:
        """Those of the next fit, which differs from this one in the `changed` rows."""
        figures = RowFigures(probabilities)
        with self._lock:
            figures._figures, figures._newest, figures._lock = self._figures, self._newest, self._lock
            figures._turn = self._newest[0] = self._newest[0] + 1
            for figure in self._figures.values():
                figure.stale[changed] = True
        return figures

    def measured(self, measure: Measure) -> Values:
        """measure(probabilities), (n,) and read-only; `measure` looks at each row by itself."""
        with self._lock:
            if measure not in self._found:
                self._found[measure] = self._measured(measure)
            return self._found[measure]

    def _measured(self, measure: Measure) -> Values:
        if self._turn != self._newest[0]:  # there is a newer fit, whose rows are kept
            return _of_all(self._probabilities, measure)
        if measure not in self._figures:
            self._figures[measure] = _Figure(_of_all(self._probabilities, measure))
            if len(self._figures) > N_FIGURES:
                del self._figures[next(iter(self._figures))]
        return self._figures[measure].renewed(lambda rows: measure(self._probabilities[rows]))


def _of_all(probabilities: NDArray[np.float64], measure: Measure) -> Values:
    """measure(probabilities), computed a chunk at a time."""
    chunks = [measure(probabilities[some]) for some in _chunks(len(probabilities))]
    return np.concatenate(chunks) if chunks else np.array(measure(probabilities))


def _chunks(n_rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n_rows, CHUNK))


def _update(values: Values, stale: BoolArray, newest: Callable[[IntArray | slice], Values], afresh: float) -> IntArray:
    """Write the stale rows, every row where they are more than the share `afresh`; which they were."""
    rows = np.flatnonzero(stale)
    if len(rows) > afresh * len(values):
        for some in _chunks(len(values)):
            values[some] = newest(some)
    else:
        for some in _chunks(len(rows)):
            values[rows[some]] = newest(rows[some])
    stale[rows] = False
    return rows
