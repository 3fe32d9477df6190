"""Conjugate gradients: one symmetric positive definite matrix, many right-hand sides. Knows no labels and no graph.

Hestenes & Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952. Each column is solved
for itself; all columns share the products with the matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from annotator.errors import ModelError
from annotator.types import FloatArray, SparseMatrix

MIN_TOL = 1e-9
"""The smallest tolerance that a caller may ask for; double precision cannot hold a smaller one in every row."""
CHECK_EVERY = 4
MAX_ITERATIONS = 5_000
ROUNDING = 1e-13  # a residual this much smaller than its right-hand side is made of rounding errors


def solve(
    matrix: SparseMatrix,
    right: FloatArray,
    start: FloatArray,
    is_enough: Callable[[FloatArray, FloatArray], bool],
) -> tuple[FloatArray, FloatArray, int]:
    """Solve matrix @ solution = right: returns solution and residual, both (n, n_columns), and the iterations taken.

    Ends when `is_enough(solution, residual)` is true, or when rounding allows no further progress. The returned
    residual is computed from the solution, not carried along. Raises ModelError (MODEL_NOT_CONVERGED) after 5,000
    iterations.
    """
    solution = start.copy()
    residual = right - matrix @ solution
    direction, scratch = residual.copy(), np.empty_like(residual)
    energy = _column_products(residual, residual)
    negligible = ROUNDING**2 * _column_products(right, right)
    for iteration in range(MAX_ITERATIONS):
        if (energy <= negligible).all() or (iteration % CHECK_EVERY == 0 and is_enough(solution, residual)):
            return solution, right - matrix @ solution, iteration
        image = matrix @ direction
        step = _quotient(energy, _column_products(direction, image))
        solution += np.multiply(direction, step, out=scratch)
        residual -= np.multiply(image, step, out=scratch)
        before, energy = energy, _column_products(residual, residual)
        direction *= _quotient(energy, before)
        direction += residual
    raise ModelError(
        f"The graph model did not converge in {MAX_ITERATIONS:,} steps: some images hang on the rest of the pool by "
        "almost nothing. Use label-spreading with a smaller alpha, or a graph with more neighbours.",
        code="MODEL_NOT_CONVERGED",
    )


def _column_products(left: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nc,nc->c", left, right))


def _quotient(above: FloatArray, below: FloatArray) -> FloatArray:
    """Quotient by column; 0 where a column is solved already (0 / 0)."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
