"""Residual push in compiled code: (I - alpha P) G = B for a few changed rows of B. Knows no labels and no dataset.

P = D^-1 W. A row holds a residual R = B - (I - alpha P) G; pushing row i adds omega R_i to G_i and passes
alpha omega R_i W_ij / d_j on to the residual of every neighbour j, so R is exact at every moment, to rounding
(Andersen, Chung & Lang, "Local graph partitioning using PageRank vectors", FOCS 2006; omega > 1 is successive
over-relaxation). Rows are taken in memory order, the largest first by a falling level; blocks of rows that nothing
has changed are passed over, so a call costs what it moves and a look at one byte for every 16 rows.

The kernels hold no lock on the interpreter, start no threads and share nothing: any number may run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray

BLOCK = 16
OVER_RELAXATION = 1.4
FALL = 0.7  # of the level from sweep to sweep
HIGHEST = 1.0  # the first level, relative to the evidence
MAX_SWEEPS = 10_000

Bytes = NDArray[np.uint8]


def _settle(
    starts: NDArray[np.int64],
    neighbors: NDArray[np.int32],
    passed_on: FloatArray,
    solution: FloatArray,
    residual: FloatArray,
    masses: FloatArray,
    evidence: FloatArray,
    active: Bytes,
    touched: Bytes,
    tolerance: float,
    floor: float,
    highest: float,
) -> int:
    """Push until every row's residual, summed over columns, is at most tolerance * (its evidence + floor).

    `solution` and `residual` (n, n_columns), changed in place as all of these are; `masses` (n,) bound the absolute
    sums of the residual's rows from above, `evidence` (n,) are the sums of the solution's. `active` (n / 16,) are the
    blocks to look at, `touched` (n,) becomes 1 where the solution changes. Returns the number of sweeps, -1 after too
    many.
    """
    n_rows, n_columns = solution.shape
    n_blocks = len(active)
    moving = np.empty(n_columns)
    level = max(highest, tolerance)
    for sweep in range(MAX_SWEEPS):
        n_moved = 0
        for turn in range(n_blocks):
            block = turn if sweep % 2 == 0 else n_blocks - 1 - turn
            if active[block] == 0:
                continue
            active[block] = 0
            first, end = block * BLOCK, min(n_rows, (block + 1) * BLOCK)
            for step in range(end - first):
                row = np.uint32(first + step if sweep % 2 == 0 else end - 1 - step)
                scale = max(evidence[row], 0.0) + floor
                if masses[row] > level * scale:
                    total = 0.0
                    for column in range(n_columns):
                        total += abs(residual[row, column])
                    masses[row] = total
                    if total > level * scale:
                        n_moved += 1
                        touched[row] = 1
                        gained = 0.0
                        for column in range(n_columns):
                            amount = OVER_RELAXATION * residual[row, column]
                            moving[column] = amount
                            gained += amount
                            solution[row, column] += amount
                            residual[row, column] -= amount
                        evidence[row] += gained
                        moved = OVER_RELAXATION * total
                        masses[row] = abs(1 - OVER_RELAXATION) * total
                        for edge in range(starts[row], starts[row + np.uint32(1)]):
                            other = np.uint32(neighbors[np.uint64(edge)])
                            weight = passed_on[np.uint64(edge)]
                            for column in range(n_columns):
                                residual[other, column] += weight * moving[column]
                            masses[other] += weight * moved
                            active[other // np.uint32(BLOCK)] = 1
                if masses[row] > tolerance * (max(evidence[row], 0.0) + floor):
                    active[block] = 1
        if level <= tolerance and n_moved == 0:
            return sweep + 1
        level = max(tolerance, level * FALL)
    return -1


def _publish(
    solution: FloatArray,
    roots: FloatArray,
    order: IntArray,
    touched: Bytes,
    probabilities: FloatArray,
    evidence: FloatArray,
) -> None:
    """Write rows that were touched as probabilities and evidence, in the dataset's order; 0 where there is no mass."""
    n_columns = solution.shape[1]
    for row in range(len(touched)):
        if touched[row] != 0:
            total = 0.0
            for column in range(n_columns):
                total += max(solution[row, column], 0.0)
            to = order[row]
            evidence[to] = total * roots[row]
            for column in range(n_columns):
                probabilities[to, column] = max(solution[row, column], 0.0) / total if total > 0 else 0.0


def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:  # Any: whatever the kernel takes
    """Machine code, kept beside the module or, where that is read-only, in the user's cache directory."""
    flags = {"reassoc", "contract", "nsz"}
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=flags)(kernel)
    except RuntimeError:  # no place to keep it: compiled anew in every process
        return numba.njit(nogil=True, error_model="numpy", fastmath=flags)(kernel)


settle = _compiled(_settle)
publish = _compiled(_publish)


def compile_now() -> None:
    """Compile both kernels, or read them from the cache, by solving a system of one row."""
    one, byte = np.zeros((1, 1)), np.zeros(1, dtype=np.uint8)
    starts, neighbors = np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32)
    settle(starts, neighbors, np.zeros(0), one, one, one[0], one[0], byte, byte, 1e-2, 1.0, HIGHEST)
    publish(one, one[0], np.zeros(1, dtype=np.int64), byte, one, one[0])
