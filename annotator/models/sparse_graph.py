"""Label spreading and label propagation on the dataset's sparse graph, solved to a stated tolerance.

With W the graph's affinities, D its row sums and S = D^-1/2 W D^-1/2:

- spreading solves (I - alpha S) F = Y, Y one-hot on labeled rows (Zhou et al., "Learning with Local and Global
  Consistency", NIPS 2003): what scikit-learn's `LabelSpreading` converges to on the same W, up to a factor
  that the normalised rows do not see;
- propagation solves F = D^-1 W F on unlabeled rows with F = Y on labeled ones (Zhu, Ghahramani & Lafferty,
  "Semi-Supervised Learning Using Gaussian Fields and Harmonic Functions", ICML 2003).

Probabilities are the rows of F divided by their sums. A row that no label reaches (its connected component holds
none) has evidence 0, and its probabilities are the class prior.

How a tolerance on *probabilities* becomes a stopping rule: far from every label the rows of F are tiny, so a small
residual says little about them. But the matrix has a non-negative inverse. So if h > 0 satisfies
(I - alpha D^-1 W) h >= 1, then in row i the absolute errors of F, summed over the classes, are at most

    sqrt(d_i) * h_i * max_j sum_c |residual_jc| / sqrt(d_j)

and the error of every probability in the row at most that over the row's sum. A row is settled once this is below
the tolerance. For spreading h = 1 / (1 - alpha) everywhere. Rows too faint to settle at double precision are solved
again on their own, with the settled rows as their given boundary, and so on outwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from annotator.errors import ConfigError, ModelError
from annotator.models.conjugate_gradients import solve
from annotator.models.priors import class_prior, normalised
from annotator.types import Dataset, FeatureArray, FloatArray, IntArray, Prediction, SparseMatrix

MIN_TOLERANCE = 1e-9
FAINTEST = 1e-200  # evidence below this would underflow soon: such a row counts as not reached

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _System:
    """One dataset's graph in the solver's order: neighbours close in memory (reverse Cuthill-McKee, 4 x as fast)."""

    dataset: Dataset
    order: IntArray
    """(n_images,) the dataset's row at each place; every other array here is by place."""
    matrix: SparseMatrix
    """I - alpha S."""
    root_degrees: FloatArray
    """(n_images,) sqrt(d), 1 for an image without neighbours."""
    components: IntArray

    def reached_from(self, labeled: BoolArray) -> BoolArray:
        """(n_images,) whether a label lies in the place's connected component."""
        holds_label = np.zeros(self.components.max(initial=-1) + 1, dtype=bool)
        holds_label[self.components[labeled]] = True
        return holds_label[self.components]


def _read_graph(dataset: Dataset, alpha: float) -> _System:
    affinity = scipy.sparse.csr_array(dataset.graph.affinity, dtype=np.float64)
    order = scipy.sparse.csgraph.reverse_cuthill_mckee(affinity, symmetric_mode=True)
    affinity = affinity[order][:, order]
    affinity.eliminate_zeros()
    degrees = np.asarray(affinity.sum(axis=1)).ravel()
    roots = np.sqrt(np.where(degrees > 0, degrees, 1.0))
    scaling = scipy.sparse.diags_array(1 / roots)
    _, components = scipy.sparse.csgraph.connected_components(affinity, directed=False)
    matrix = scipy.sparse.eye_array(len(roots), format="csr") - alpha * (scaling @ affinity @ scaling)
    return _System(dataset, order.astype(np.int64), scipy.sparse.csr_array(matrix), roots, components.astype(np.int64))


class _GraphModel:
    """What both models share: the order of work, the prior of unreached rows, images outside the pool."""

    def __init__(self, alpha: float, tolerance: float) -> None:
        if not MIN_TOLERANCE <= tolerance < 1:
            raise ConfigError(f"The tolerance must be at least {MIN_TOLERANCE} and below 1, not {tolerance}.")
        self.alpha = alpha
        self.tolerance = tolerance
        self._system: _System | None = None
        self._fitted: Prediction | None = None
        self._prior = np.zeros(0)
        self._joined: tuple[FeatureArray, SparseMatrix] | None = None

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        """labels (n_images,), -1 = unlabeled -> probabilities and evidence. Raises ModelError (MODEL_NOT_CONVERGED).

        The graph in the solver's order is kept for as long as the dataset is the same object; nothing of the last
        solution is. Starting from it saved under a fifth of the steps, and then a project that was closed and opened
        again could ask other images in a near tie.
        """
        system = self._system_of(dataset)
        targets = _one_hot(labels[system.order], n_classes)
        solution = self._solve(system, targets)
        self._prior = class_prior(labels, n_classes)
        back = np.argsort(system.order)
        self._fitted = Prediction(normalised(solution, self._prior)[back], solution.sum(axis=1)[back])
        return self._fitted

    def predict(self, features: FeatureArray) -> FloatArray:
        """Each new image's neighbours vote with their probabilities, weighted by affinity, as in scikit-learn.

        Neighbours that no label reaches do not vote; without any other neighbour the answer is the class prior.
        """
        if self._fitted is None or self._fitted.evidence is None:
            raise ModelError("This model was not fitted yet: call fit_predict first.", code="MODEL_NOT_FITTED")
        reached = self._fitted.evidence > 0
        votes = self._weights_to_pool(features) @ np.where(reached[:, None], self._fitted.probabilities, 0.0)
        return normalised(votes, self._prior)

    def _solve(self, system: _System, targets: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _system_of(self, dataset: Dataset) -> _System:
        if self._system is None or self._system.dataset is not dataset:
            self._system, self._joined = _read_graph(dataset, self.alpha), None
        return self._system

    def _weights_to_pool(self, features: FeatureArray) -> SparseMatrix:
        """A held-out set asks after every fit: its edges are looked up once."""
        assert self._system is not None
        if self._joined is None or self._joined[0] is not features:
            self._joined = (features, self._system.dataset.graph.connect(features))
        return self._joined[1]


class SparseLabelSpreading(_GraphModel):
    """Labels spread along the graph and fade with distance, labeled images included: forgives wrong labels."""

    def __init__(self, alpha: float = 0.9, tolerance: float = 1e-6) -> None:
        if not 0 < alpha < 1:
            raise ConfigError(f"label-spreading.alpha must lie between 0 and 1, not {alpha}.")
        super().__init__(alpha, tolerance)

    def _solve(self, system: _System, targets: FloatArray) -> FloatArray:
        """Solve from the labels outwards: each turn settles the rows that its precision can tell from nothing."""
        solution = np.zeros_like(targets)
        rows = np.flatnonzero(system.reached_from(targets.sum(axis=1) > 0))
        matrix = _block(system.matrix, rows)
        right = targets[rows]
        while rows.size and (unit := right.max()) > FAINTEST:
            roots = system.root_degrees[rows]
            part, residual = solve(matrix, right / unit, np.zeros_like(right), partial(self._all_settled, roots))
            done = self._settled(roots, part, residual)
            done |= not done.any()
            part = np.maximum(part, 0) * unit
            solution[rows[done]] = part[done]
            outer = np.flatnonzero(~done)
            right = right[outer] - matrix[outer][:, np.flatnonzero(done)] @ part[done]
            matrix, rows = _block(matrix, outer), rows[outer]
        return solution

    def _settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> BoolArray:
        """Rows whose probabilities are right to the tolerance, by the module's bound with h = 1 / (1 - alpha)."""
        error = roots * _largest_residual(roots, residual) / (1 - self.alpha)
        return np.asarray(error <= self.tolerance * solution.sum(axis=1))

    def _all_settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> bool:
        return bool(self._settled(roots, solution, residual).all())


class SparseLabelPropagation(_GraphModel):
    """Labels stay as given, every other image is the mean of its neighbours: trusts each label fully.

    Its evidence is 1 on every row that a label reaches: a harmonic row is a mean of labels, whatever the distance.
    """

    def __init__(self, tolerance: float = 1e-6) -> None:
        super().__init__(1.0, tolerance)

    def _solve(self, system: _System, targets: FloatArray) -> FloatArray:
        """Solve the unlabeled block for sqrt(d) F, with one column more for the bound's sqrt(d) h."""
        labeled = targets.sum(axis=1) > 0
        free = np.flatnonzero(system.reached_from(labeled) & ~labeled)
        given = np.flatnonzero(labeled)
        solution = targets.copy()
        if not free.size:
            return solution
        roots = system.root_degrees[free]
        boundary = -system.matrix[free][:, given] @ (system.root_degrees[given, None] * targets[given])
        right = np.column_stack([boundary, roots])
        guess = np.column_stack([np.zeros_like(boundary), roots])
        scaled, _ = solve(_block(system.matrix, free), right, guess, partial(self._is_settled, roots))
        harmonic = np.maximum(scaled[:, :-1], 0) / roots[:, None]
        solution[free] = harmonic / harmonic.sum(axis=1, keepdims=True)
        return solution

    def _is_settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> bool:
        """The module's bound with twice the last column as h: (I - D^-1 W) h >= 1 once its residual is below 1/2."""
        if np.abs(residual[:, -1] / roots).max() > 0.5:
            return False
        reach = 2 * (solution[:, -1] / roots).max()
        return bool(reach * _largest_residual(roots, residual[:, :-1]) <= self.tolerance)


def _largest_residual(roots: FloatArray, residual: FloatArray) -> float:
    """max_j sum_c |residual_jc| / sqrt(d_j)."""
    return float((np.abs(residual).sum(axis=1) / roots).max())


def _block(matrix: SparseMatrix, rows: IntArray) -> SparseMatrix:
    """The square block of these rows; the matrix itself where that is all of it."""
    return matrix if len(rows) == matrix.shape[0] else matrix[rows][:, rows]


def _one_hot(labels: IntArray, n_classes: int) -> FloatArray:
    """(n, n_classes), a row of zeros where unlabeled."""
    return np.asarray(labels[:, None] == np.arange(n_classes), dtype=np.float64)
