"""The solution of label spreading on one graph, updated as labels change. Knows rows, codes and places; no dataset.

Holds solution and residual for the compiled code in push.py. label_spreading.py has the equations,
docs/label_spreading.md what the tolerance means. A place is a row's position in memory (equations.py).
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.errors import ModelError
from annotator.models.equations import Equations
from annotator.types import UNLABELED, FloatArray, IntArray

Bytes = NDArray[np.uint8]
Rows = NDArray[np.floating[Any]]
FAINT = 0.03
"""Evidence below this share of the pool's mean counts as faint: such rows have the tolerance of a row at this share."""
SINGLE_FROM = 1e-3
"""From this tolerance on solution and residual are kept in single precision: a push moves half as much memory."""
FITS_SINGLE = 1e15
"""Square roots of degrees between 1 / FITS_SINGLE and FITS_SINGLE fit single precision, and so do their quotients."""
REFRESHED_AFTER = 200
"""Changes after which the residual is computed anew: until then rounding adds less than a hundredth of SINGLE_FROM.

40 changes of ten labels among 50,000 images added 1e-6 of the evidence."""


@cache
def kernels() -> ModuleType | None:
    """The module push.py with its compiled code; None where numba is missing or does not work on this machine."""
    try:
        from annotator.models import push  # slow to import, and not every platform has it

        push.compile_now(np.float32)
    except (ImportError, OSError, RuntimeError):
        return None
    return push


class Diffusion:
    """G with (I - alpha P) G = D^-1/2 Y for the labels given so far, and its residual.

    Labels are indexed by the graph's row, everything else by place. Classes are stored in sets of 16, (n_sets, n, 16).
    It starts without labels; `change` sets them, at a cost in proportion to the rows that move.
    """

    def __init__(self, equations: Equations, n_classes: int, tolerance: float) -> None:
        n = len(equations.order)
        roots = equations.roots
        fits_single = roots.min(initial=1) >= 1 / FITS_SINGLE and roots.max(initial=1) <= FITS_SINGLE
        kind = np.float32 if tolerance >= SINGLE_FROM and fits_single else np.float64
        self._equations = equations
        self._tolerance = tolerance
        self._floor = np.inf
        self._n_classes = n_classes
        self._n_changes = 0
        self._codes = np.full(n, UNLABELED, dtype=np.int64)
        self._solution: Rows = self._push.lanes(n_classes, n, kind)
        self._residual: Rows = self._push.lanes(n_classes, n, kind)
        self._sums = np.zeros(n)
        self._starts = equations.affinity.indptr.astype(np.int64)
        self._neighbors = equations.affinity.indices.astype(np.int32)
        self._passed_on = equations.passed_on.astype(kind)

    def change(self, codes: IntArray) -> tuple[Bytes, int]:
        """Set labels (n,), -1 = unlabeled, at least one; returns (n,) 1 at places that moved, and the sweeps taken.

        Raises ModelError (MODEL_NOT_CONVERGED) after 10,000 sweeps.
        """
        rows = np.flatnonzero(codes != self._codes)
        before, after, places = self._codes[rows], codes[rows], self._equations.places[rows]
        self._codes[rows] = after
        touched = np.zeros(len(codes), dtype=np.uint8)
        self._give(before, places, -1.0)
        self._give(after, places, 1.0)
        touched[self._without_label(places[after == UNLABELED])] = 1
        floor = self._faint()
        everywhere = floor < self._floor  # the tolerance is stricter than before: check every row
        self._floor = floor
        self._n_changes += 1
        if self._n_changes % REFRESHED_AFTER == 0:
            self._refresh()
            everywhere = True
        n_sweeps, active = 0, self._push.flags(len(codes))
        for which in range(len(self._solution)):
            moved = places[self._is_of(which, before) | self._is_of(which, after)]
            active[moved // self._push.BLOCK] = 1
            n_sweeps += self._settle(which, active, touched)
        return touched, n_sweeps + self._hold(active, touched, everywhere)

    def rearrange(self, classes: IntArray) -> None:
        """Give the classes other codes: class k becomes what class `classes[k]` was, empty where that is -1.

        The mass of a class that is left out is dropped: it must have no label.
        """
        if np.array_equal(classes, np.arange(self._n_classes)):
            return
        self._n_classes = len(classes)
        self._solution = self._chosen(self._solution, classes)
        self._residual = self._chosen(self._residual, classes)
        self._sums = self._solution.sum(axis=(0, 2), dtype=np.float64)
        code_of = np.full(max(classes.max(initial=-1), self._codes.max(initial=-1)) + 2, UNLABELED)
        code_of[classes[classes >= 0]] = np.flatnonzero(classes >= 0)
        self._codes = code_of[self._codes]  # the last entry stands for -1

    def n_changed(self, codes: IntArray) -> int:
        """How many labels (n,) differ from those that `change` set last."""
        return int((codes != self._codes).sum())

    def publish(self, touched: Bytes, probabilities: FloatArray, evidence: FloatArray) -> None:
        """Write the touched places' rows of `probabilities` (n, n_classes) and `evidence` (n,), by the graph's row."""
        equations = self._equations
        self._push.publish(self._solution, equations.roots, equations.order, touched, probabilities, evidence)

    def _settle(self, which: int, active: Bytes, touched: Bytes) -> int:
        sweeps = self._push.settle(
            self._starts, self._neighbors, self._passed_on, self._solution[which], self._residual[which], self._sums,
            active, touched, self._share, self._floor,
        )  # fmt: skip
        if sweeps < 0:
            raise ModelError(
                "The labels did not come to rest on the graph. Use a smaller alpha.", "MODEL_NOT_CONVERGED"
            )
        return int(sweeps)

    def _hold(self, active: Bytes, touched: Bytes, everywhere: bool) -> int:
        """Push again where the residual is too large for the evidence, which other classes' pushes have lowered."""
        looked_at = np.ones_like(touched) if everywhere else touched
        n_sweeps, is_held = 0, False
        while not is_held:
            is_held = True
            for which, residual in enumerate(self._residual):
                if self._push.recheck(residual, self._sums, looked_at, active, self._share, self._floor):
                    n_sweeps += self._settle(which, active, touched)
                    is_held = False
        return n_sweeps

    @property
    def _push(self) -> ModuleType:
        """The compiled code; a Diffusion is never made without it."""
        push = kernels()
        assert push is not None
        return push

    @property
    def _share(self) -> float:
        """The share of the tolerance that each set of classes may use."""
        return self._tolerance / len(self._solution)

    def _is_of(self, which: int, codes: IntArray) -> NDArray[np.bool_]:
        """Whether the class belongs to this set."""
        return np.asarray((codes != UNLABELED) & (codes // self._push.LANES == which))

    def _give(self, codes: IntArray, places: IntArray, sign: float) -> None:
        """Add the right-hand side of these labels to the residual, or subtract it."""
        given = codes != UNLABELED
        sets, within = np.divmod(codes[given], self._push.LANES)
        self._residual[sets, places[given], within] += sign / self._equations.roots[places[given]]

    def _refresh(self) -> None:
        """Compute the residual from the solution, without the rounding of the updates so far."""
        equations = self._equations
        scale = (equations.alpha / equations.roots**2)[:, None]
        for solution, residual in zip(self._solution, self._residual, strict=True):
            residual[:] = scale * (equations.affinity @ solution.astype(np.float64)) - solution
        labeled = np.flatnonzero(self._codes != UNLABELED)
        self._give(self._codes[labeled], equations.places[labeled], 1.0)

    def _without_label(self, places: IntArray) -> IntArray:
        """Set components that lost their last label at one of these places to exactly zero: no label reaches them."""
        if not len(places):
            return places
        components = self._equations.components
        lost = np.unique(components[places])
        lost = lost[~np.isin(lost, components[self._equations.places[self._codes != UNLABELED]])]
        cleared = np.flatnonzero(np.isin(components, lost)) if lost.size else lost
        self._solution[:, cleared] = 0
        self._residual[:, cleared] = 0
        self._sums[cleared] = 0
        return cleared

    def _faint(self) -> float:
        """FAINT of the mean of G, weighted by degree: (1 - alpha) sum_i d_i G_i = sum over labels of sqrt(d)."""
        equations = self._equations
        given = equations.roots[equations.places[self._codes != UNLABELED]].sum()
        return float(FAINT * given / ((1 - equations.alpha) * equations.total_degree))

    def _chosen(self, rows: Rows, which: IntArray) -> Rows:
        """The arrays of the chosen classes in this order; zeros for a new class."""
        chosen: Rows = self._push.lanes(len(which), rows.shape[1], rows.dtype.type)
        for code, source in enumerate(which.tolist()):
            if source >= 0:
                (to_set, to), (from_set, taken) = divmod(code, self._push.LANES), divmod(source, self._push.LANES)
                chosen[to_set, :, to] = rows[from_set, :, taken]
        return chosen
