"""Many right-hand sides, one symmetric positive definite matrix. Knows no labels and no graph.

Hestenes & Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952. Each column is its own solve;
they share the products with the matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from annotator.errors import ModelError
from annotator.types import FloatArray, SparseMatrix

MIN_TOL = 1e-9
"""The smallest error that may be asked for: double precision can do no better everywhere."""
CHECK_EVERY = 4
MAX_ITERATIONS = 5_000
ROUNDING = 1e-13  # a residual this much smaller than its right-hand side is made of rounding errors


def solve(
    matrix: SparseMatrix,
    right: FloatArray,
    start: FloatArray,
    is_enough: Callable[[FloatArray, FloatArray], bool],
) -> tuple[FloatArray, FloatArray, int]:
    """The solution of matrix @ solution = right, what is left of `right`, both (n, n_columns), and the steps it took.

    Ends when `is_enough(solution, residual)`, or when double precision can do no more; the residual that comes back
    is computed anew. Raises ModelError (MODEL_NOT_CONVERGED) after 5,000 iterations.
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
    """0 where a column is solved already (0 / 0)."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
