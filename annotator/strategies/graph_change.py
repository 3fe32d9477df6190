"""Ask for doubtful images whose labels would change the solution of label spreading most.

S = D^-1/2 W D^-1/2 is the graph's matrix (label_spreading.py). A label of image k adds column k of (I - alpha S)^-1 to
the masses of its class: c_k(x) to image x, whose masses sum to m(x) so far. u = 1 minus the margin of the model's
probabilities is the doubt.

`GraphChange` scores an image by its doubt times the variance that its label would take away,

    u(k) |C_k|^2 / C_kk,    C = (I - alpha S_UU)^-1 of the unlabeled images U,

MC-VOPT of Miller & Bertozzi, "Model Change Active Learning in Graph-Based Semi-Supervised Learning" (arXiv 2110.07739):
VOPT (Ji & Han, "A Variance Minimization Criterion to Active Learning on Graphs", AISTATS 2012) weighted by the doubt.
In a batch, what an earlier pick y leaves of a score is the factor 1 - cos^2(C_k, C_y).

`GraphCoverage` scores it by the doubt that its label would reach beside those there are,

    u(k) sum over x other than k of u(x) c_k(x) / (m(x) + c_k(x)),

the share of x's masses that would be new; an earlier pick of the batch counts in m. It is the expected change of the
model's output (Freytag, Rodner & Denzler, "Selecting Influential Examples: Active Learning with Expected Model Output
Changes", ECCV 2014) in closed form for label spreading, with the doubt in the place of the expectation over classes.

Candidates are drawn in proportion to their doubt. Their columns are power series of alpha S whose small terms are
dropped: 95 % of a column's length is kept, at a cost that does not grow with the pool.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from annotator.per_image import BoolArray
from annotator.strategies import words
from annotator.strategies.likeness import drawn
from annotator.strategies.uncertainty import margin
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool, Reason, SparseMatrix

ALPHA = 0.9
"""That of label spreading by default (`SELF_TUNED` in label_spreading.py)."""
N_CANDIDATES, N_REACHING = 300, 150
"""Round numbers that bound the time."""
LEAST, LEAST_REACH = 3e-3, 1e-3
"""Terms below are dropped: round numbers that bound the time; what is kept of a column is above."""
LEAST_DOUBT = 1e-9
"""Where the model is certain of all, reach alone decides."""
N_TERMS = 60
"""Of the power series at most: beyond, all are below `LEAST`."""
N_STEPS = 14
"""Of the iteration in `Steps.mass`: 2 * 0.627^14 = 0.003, for ALPHA = 0.9, is below the hundredth that it promises."""


class GraphChange:
    """Doubtful images whose labels would change the answers along the neighbour graph most."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """A score is the doubt times the variance taken away, less what earlier picks of the batch leave of it."""
        doubt = np.maximum(pool.prediction.figures.measured(margin), LEAST_DOUBT)
        rows = drawn(pool.candidates, max(N_CANDIDATES, batch_size), rng, doubt)
        graph = Steps(pool.dataset.graph.affinity)
        columns = graph.columns(rows, pool.labels == UNLABELED, LEAST)
        own = columns[np.arange(len(rows)), rows]
        picked, scores = _apart(columns, np.asarray(own).ravel(), doubt[rows], batch_size)
        return Choice(rows[picked], scores, reasons=_reasons(pool, graph, rows[picked]))


class GraphCoverage:
    """Doubtful images whose labels would reach many other doubtful ones along the neighbour graph."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """A score is the doubt it would reach, beside what labels and earlier picks of the batch do."""
        doubt = np.maximum(pool.prediction.figures.measured(margin), LEAST_DOUBT)
        rows = drawn(pool.candidates, max(N_REACHING, batch_size), rng, doubt)
        graph = Steps(pool.dataset.graph.affinity)
        columns = graph.columns(rows, np.ones(len(doubt), dtype=bool), LEAST_REACH)
        known = graph.mass(np.flatnonzero(pool.labels != UNLABELED))
        picked, scores = _reaching(columns, rows, known, doubt, batch_size)
        return Choice(rows[picked], scores, reasons=_reasons(pool, graph, rows[picked]))


class Steps:
    """alpha S of a graph, applied to vectors without a copy of its weights."""

    def __init__(self, affinity: SparseMatrix) -> None:
        degrees = np.asarray(affinity.sum(axis=1)).ravel()
        self._affinity = affinity
        self._scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1.0))

    def columns(self, rows: IntArray, free: BoolArray, least: float) -> SparseMatrix:
        """(len(rows), n_images) csr_array: column k of C for each of the rows, which are free, by its power series.

        `free` (n_images,) are the images in U; terms below `least` are dropped.
        """
        places = np.arange(len(rows)), rows
        term = scipy.sparse.csr_array((np.ones(len(rows)), places), shape=(len(rows), len(free)))
        total = term.copy()
        for _ in range(N_TERMS):
            term.data *= ALPHA * self._scale[term.indices]
            term = scipy.sparse.csr_array(term @ self._affinity)
            term.data *= self._scale[term.indices] * free[term.indices]
            term.data[term.data < least] = 0
            term.eliminate_zeros()
            if not term.nnz:
                break
            total = total + term
        return total

    def mass(self, rows: IntArray) -> FloatArray:
        """(n_images,) the sum of the rows' columns where all images are free: how much their labels weigh there.

        By Chebyshev iteration (Golub & Varga, 1961); the error is below a hundredth of what a row's own label weighs.
        """
        given = np.zeros(len(self._scale))
        given[rows] = 1.0
        before, now, relaxation = np.zeros_like(given), given, 2.0
        for _ in range(N_STEPS):
            relaxation = 1 / (1 - ALPHA**2 * relaxation / 4)
            passed = self._scale * (self._affinity @ (ALPHA * self._scale * now))
            before, now = now, relaxation * (passed + given - before) + before
        return np.maximum(now, 0)


def _apart(columns: SparseMatrix, own: FloatArray, doubt: FloatArray, size: int) -> tuple[IntArray, FloatArray]:
    """The greedy batch of n candidates: at most `size` places and what was left of each one's score."""
    products = (columns @ columns.T).toarray()
    squares = products.diagonal()
    alike = products**2 / np.outer(squares, squares)
    left, is_free = doubt * squares / own, np.ones(len(doubt), dtype=bool)
    picked: list[int] = []
    scores: list[float] = []
    for _ in range(min(size, len(doubt))):
        best = int(np.where(is_free, left, -1.0).argmax())
        picked.append(best)
        scores.append(float(left[best]))
        is_free[best] = False
        left = left * np.maximum(1 - alike[best], 0)
    return np.array(picked, dtype=np.int64), np.array(scores)


def _reaching(
    columns: SparseMatrix, rows: IntArray, known: FloatArray, doubt: FloatArray, size: int
) -> tuple[IntArray, FloatArray]:
    """The greedy batch of candidates (n,): at most `size` places, and the doubt that each would reach."""
    owner = np.repeat(np.arange(len(rows)), np.diff(columns.indptr))
    worth = doubt[columns.indices] * doubt[rows][owner] * (columns.indices != rows[owner])
    is_free, known = np.ones(len(rows), dtype=bool), known.copy()
    picked: list[int] = []
    scores: list[float] = []
    for _ in range(min(size, len(rows))):
        share = columns.data / (known[columns.indices] + columns.data)
        gains = np.bincount(owner, share * worth, minlength=len(rows))
        best = int(np.where(is_free, gains, -1.0).argmax())
        picked.append(best)
        scores.append(float(gains[best]))
        is_free[best] = False
        its = slice(columns.indptr[best], columns.indptr[best + 1])
        known[columns.indices[its]] += columns.data[its]
    return np.array(picked, dtype=np.int64), np.array(scores)


def weighs_most_for(pool: Pool, graph: Steps, rows: IntArray) -> IntArray:
    """(len(rows),) for how many other unlabeled images a label of each would outweigh all labels so far, one by one."""
    free = pool.labels == UNLABELED
    known = graph.mass(np.flatnonzero(~free))
    columns = graph.columns(rows, np.ones(len(free), dtype=bool), LEAST)
    owner = np.repeat(np.arange(len(rows)), np.diff(columns.indptr))
    wins = (columns.data > known[columns.indices]) & free[columns.indices] & (columns.indices != rows[owner])
    return np.bincount(owner[wins], minlength=len(rows))


def _reasons(pool: Pool, graph: Steps, rows: IntArray) -> tuple[Reason, ...]:
    """For how many others its label would be the one that weighs most; where for none, between which classes it is."""
    counts = weighs_most_for(pool, graph, rows).tolist()
    otherwise = words.between(pool.prediction.probabilities[rows])
    return tuple(
        Reason(f"would weigh most for {n:,} other{'s' * (n != 1)}") if n else instead
        for n, instead in zip(counts, otherwise, strict=True)
    )
