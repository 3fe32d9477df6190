"""The linear system of one graph, reordered (reverse Cuthill-McKee) for cache locality. Knows weights only: no labels.

The order puts neighbours close in memory: products with the matrix are about 4 times as fast. A row's position in
that order is its place; everything here is indexed by place, and `order` and `places` translate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray, SparseMatrix

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Equations:
    """The matrix I - alpha S of a graph, and the arrays that it is made of."""

    affinity: SparseMatrix
    """(n, n) csr_array: symmetric, non-negative, zero diagonal."""
    order: IntArray
    """(n,) the graph's row at each place, the inverse of `places`."""
    degrees: FloatArray
    """(n,) row sums."""
    components: IntArray
    """(n,) number of the connected component."""
    alpha: float

    @cached_property
    def roots(self) -> FloatArray:
        """(n,) sqrt(d), 1 for a row without neighbours."""
        return np.sqrt(np.where(self.degrees > 0, self.degrees, 1.0))

    @cached_property
    def total_degree(self) -> float:
        """The sum of all degrees, 1 at least."""
        return max(float(self.degrees.sum()), 1.0)

    @cached_property
    def places(self) -> IntArray:
        """(n,) the place of each of the graph's rows."""
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(self.order))
        return places

    @cached_property
    def matrix(self) -> SparseMatrix:
        """I - alpha S as csr_array."""
        scaling = scipy.sparse.diags_array(1 / self.roots)
        step = scaling @ self.affinity @ scaling
        return scipy.sparse.csr_array(scipy.sparse.eye_array(len(self.roots), format="csr") - self.alpha * step)

    @cached_property
    def passed_on(self) -> FloatArray:
        """(nnz,) alpha W_ij / d_j: the share of row i's push that neighbour j receives."""
        return np.asarray(self.alpha * self.affinity.data / self.degrees[self.affinity.indices])

    def reached_from(self, labeled: BoolArray) -> BoolArray:
        """(n,) whether a label lies in the place's connected component."""
        holds_label = np.zeros(self.components.max(initial=-1) + 1, dtype=bool)
        holds_label[self.components[labeled]] = True
        return holds_label[self.components]


def read_equations(affinity: SparseMatrix, alpha: float) -> Equations:
    """The linear system of (n, n) symmetric affinities; stored zeros do not count as edges."""
    affinity = scipy.sparse.csr_array(affinity, dtype=np.float64)
    order = scipy.sparse.csgraph.reverse_cuthill_mckee(affinity, symmetric_mode=True)
    affinity = affinity[order][:, order]
    affinity.eliminate_zeros()
    affinity.sort_indices()
    degrees = np.asarray(affinity.sum(axis=1)).ravel()
    _, components = scipy.sparse.csgraph.connected_components(affinity, directed=False)
    return Equations(affinity, order.astype(np.int64), degrees, components.astype(np.int64), alpha)
