"""Labels spread over a graph and kept solved while they change. Knows rows, class codes and places; no dataset.

The compiled side of label spreading: see label_spreading.py for the equations and for what its tolerance means.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

from annotator.errors import ModelError
from annotator.models.equations import Equations
from annotator.types import UNLABELED, FloatArray, IntArray

FAINT = 0.03
"""Evidence below this share of the pool's mean counts as faint: such rows are held to the tolerance of this share."""


@cache
def kernels() -> ModuleType | None:
    """The compiled code, ready to run; None where numba is absent or cannot work."""
    try:
        from annotator.models import push  # slow to import, and not every platform has it

        push.compile_now()
    except (ImportError, OSError, RuntimeError):
        return None
    return push


class Diffusion:
    """G with (I - alpha P) G = D^-1/2 Y for the labels given so far, and its exact residual.

    Arrays are by place. Start without labels, then `change` them; every change costs what it moves.
    """

    def __init__(self, equations: Equations, n_classes: int, tolerance: float) -> None:
        n = len(equations.order)
        self._equations = equations
        self._tolerance = tolerance
        self._floor = np.inf
        self._codes = np.full(n, UNLABELED, dtype=np.int64)
        self._solution = np.zeros((n, n_classes))
        self._residual = np.zeros((n, n_classes))
        self._masses = np.zeros(n)
        self._sums = np.zeros(n)
        self._starts = equations.affinity.indptr.astype(np.int64)
        self._neighbors = equations.affinity.indices.astype(np.int32)

    def change(self, codes: IntArray) -> tuple[IntArray, int]:
        """Labels (n,) by place as codes, -1 = unlabeled, at least one -> places that moved and the sweeps it took.

        Raises ModelError (MODEL_NOT_CONVERGED) after 10,000 sweeps.
        """
        push = kernels()
        assert push is not None
        active = np.zeros(-(-len(codes) // push.BLOCK), dtype=np.uint8)
        touched = np.zeros(len(codes), dtype=np.uint8)
        changed = np.flatnonzero(codes != self._codes)
        self._exchange(changed, codes)
        active[changed // push.BLOCK] = 1
        touched[self._without_label(changed)] = 1
        floor = self._faint()
        if floor < self._floor:  # stricter than before: every row has to answer
            active[:] = 1
        self._floor = floor
        sweeps = push.settle(
            self._starts, self._neighbors, self._equations.passed_on, self._solution, self._residual, self._masses,
            self._sums, active, touched, self._tolerance, floor, push.HIGHEST,
        )  # fmt: skip
        if sweeps < 0:
            raise ModelError(
                "The labels did not come to rest on the graph. Use a smaller alpha.", "MODEL_NOT_CONVERGED"
            )
        return np.flatnonzero(touched), int(sweeps)

    def rearrange(self, columns: IntArray) -> None:
        """Give the classes other codes: column k becomes what column `columns[k]` was, nothing where that is -1.

        A class that is left out takes its mass along: it must have no label.
        """
        if np.array_equal(columns, np.arange(self._solution.shape[1])):
            return
        self._solution = _columns(self._solution, columns)
        self._residual = _columns(self._residual, columns)
        self._sums = self._solution.sum(axis=1)
        code_of = np.full(max(columns.max(initial=-1), self._codes.max(initial=-1)) + 2, UNLABELED)
        code_of[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
        self._codes = code_of[self._codes]  # the last entry stands for -1

    def n_changed(self, codes: IntArray) -> int:
        """How many labels differ from those given so far."""
        return int((codes != self._codes).sum())

    def publish(self, places: IntArray, probabilities: FloatArray, evidence: FloatArray) -> None:
        """Write these places' rows of `probabilities` (n, n_classes) and `evidence` (n,), both by the graph's row."""
        push = kernels()
        assert push is not None
        equations = self._equations
        touched = np.zeros(len(self._codes), dtype=np.uint8)
        touched[places] = 1
        push.publish(self._solution, equations.roots, equations.order, touched, probabilities, evidence)

    def _exchange(self, changed: IntArray, codes: IntArray) -> None:
        """Put what the labels change of the right-hand side into the residual."""
        for source, sign in ((self._codes, -1.0), (codes, 1.0)):
            places = changed[source[changed] != UNLABELED]
            amount = 1 / self._equations.roots[places]
            self._residual[places, source[places]] += sign * amount
            self._masses[places] += amount
        self._codes[changed] = codes[changed]

    def _without_label(self, changed: IntArray) -> IntArray:
        """Clear what is left in components that lost their last label: nothing reaches them, exactly."""
        components = self._equations.components
        lost = np.unique(components[changed[self._codes[changed] == UNLABELED]])
        lost = lost[~np.isin(lost, components[self._codes != UNLABELED])]
        places = np.flatnonzero(np.isin(components, lost)) if lost.size else lost
        for array in (self._solution, self._residual, self._masses, self._sums):
            array[places] = 0
        return places

    def _faint(self) -> float:
        """FAINT of the mean of G, weighted by degree: (1 - alpha) sum_i d_i G_i = sum over labels of sqrt(d)."""
        equations = self._equations
        given = equations.roots[self._codes != UNLABELED].sum()
        whole = (1 - equations.alpha) * max(equations.degrees.sum(), 1.0)
        return float(FAINT * given / whole)


def _columns(rows: FloatArray, columns: IntArray) -> FloatArray:
    """(n, n_columns) the chosen columns, zeros where one is new."""
    chosen = np.zeros((len(rows), len(columns)))
    chosen[:, np.flatnonzero(columns >= 0)] = rows[:, columns[columns >= 0]]
    return chosen
