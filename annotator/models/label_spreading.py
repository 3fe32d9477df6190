"""Label spreading and label propagation on a sparse neighbour graph, as scikit-learn estimators that can be updated.

A program that imports `LabelSpreading` or `LabelPropagation` from here instead of from scikit-learn runs as it is: they
take the same parameters. With kernel "rbf", "knn" or a function (or `gamma`, which only "rbf" has) the answers are
scikit-learn's own (sklearn_kernels.py). At kernel "auto" they are those of the self-tuned graph, described here.

With W the graph's affinities, D its row sums, S = D^-1/2 W D^-1/2 and P = D^-1 W:

- spreading solves (I - alpha S) F = Y, Y one-hot in labeled rows (Zhou et al., "Learning with Local and Global
  Consistency", NIPS 2003);
- propagation solves F = P F in unlabeled rows with F = Y in labeled rows (Zhu, Ghahramani & Lafferty,
  "Semi-Supervised Learning Using Gaussian Fields and Harmonic Functions", ICML 2003).

Probabilities are the rows of F divided by their sums; the sum is the row's evidence. A row whose connected component
holds no label has evidence 0, and its probabilities are the class prior.

Propagation, small pools and machines without numba: conjugate gradients from zero at every fit
(conjugate_gradients.py). Every probability is exact to `tol`:

    sqrt(d_i) * h_i * max_j sum_c |residual_jc| / sqrt(d_j)  <=  tol * sum_c F_ic,  (I - alpha P) h >= 1

Spreading on larger pools: a residual push that keeps the solution and its residual from fit to fit (diffusion.py,
push.py). The error of a probability in row i is at most e (1 + f / g_i): e follows from `push_tol`, g is the evidence,
f the floor below which evidence counts as faint. Both bounds are proven, and their measured sizes given, in
docs/label_spreading.md.

Longer than other files: two estimators take the place of scikit-learn's, with all of its parameters, what each means,
and every check of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from annotator.graph import Frame, NeighborGraph, build_graph, checked, frame_of, in_frame
from annotator.models.conjugate_gradients import MIN_TOL, solve
from annotator.models.diffusion import Bytes, Diffusion, kernels
from annotator.models.equations import BoolArray, read_equations
from annotator.models.given_labels import Labels, as_given, read_labels
from annotator.models.priors import class_prior, normalised
from annotator.models.sklearn_kernels import (
    Kernel,
    Kind,
    Samples,
    Weights,
    propagation_steps,
    repeated,
    spreading_steps,
)
from annotator.per_image import Renewed
from annotator.types import UNLABELED, FeatureArray, FloatArray, IntArray, SparseMatrix

FAINTEST = 1e-200  # evidence below this would underflow soon: such a row counts as not reached
AFRESH = 0.5
"""Where more than this share of the labels is new or gone, an update starts from nothing."""
LARGEST_TOL = 0.1
ROUNDING = 1e-9
"""Share of the largest weight by which precomputed ones may miss what they should be."""
SELF_TUNED = {"n_neighbors": 10, "alpha": 0.9, "tol": 1e-6}
"""What None stands for on our graph ..."""
SCIKIT_LEARN = {"n_neighbors": 7, "alpha": 0.2, "tol": 1e-3, "gamma": 20.0}
"""... and with a kernel of scikit-learn's."""


class _GraphClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both share: reading labels and graph, the prior of unreached rows, samples outside the pool."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 # Any: constraints; scikit-learn's own way
        "kernel": [StrOptions({"auto", "self-tuned", "rbf", "knn"}), callable],
        "gamma": [None, Interval(Real, 0, None, closed="left")],
        "n_neighbors": [None, Interval(Integral, 1, None, closed="left")],
        "max_iter": [None, Interval(Integral, 1, None, closed="left")],
        "tol": [None, Interval(Real, 0, None, closed="left")],
        "n_jobs": [None, Integral],
        "affinity": [StrOptions({"neighbors", "precomputed"})],
        "unlabeled_label": "no_validation",  # type: ignore[dict-item]  # scikit-learn's own word for "anything"
    }
    _max_iter = 0
    """scikit-learn's, where None is given."""

    def __init__(
        self,
        kernel: Kind,
        gamma: float | None,
        n_neighbors: int | None,
        max_iter: int | None,
        tol: float | None,
        n_jobs: int | None,
        affinity: str,
        unlabeled_label: object,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.affinity = affinity
        self.unlabeled_label = unlabeled_label

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def fit(self, X: ArrayLike | SparseMatrix, y: ArrayLike) -> Self:  # noqa: N803 # scikit-learn's name
        """X: (n, n_features), or with affinity="precomputed" (n, n) symmetric weights; y: (n,) with unlabeled ones.

        Raises ValueError where nothing is labeled, or where features have no distances.
        """
        samples, labels = validate_data(self, X, as_given(y), accept_sparse=["csr", "csc"])
        classes, codes = read_labels(labels, self.unlabeled_label)
        self._join(samples)
        self.X_, self.classes_, self._codes = samples, classes, codes
        self._begin()
        return self

    def update(self, y: ArrayLike) -> Self:
        """Labels (n,) of the same samples as now known: those added, changed or taken back since; as a fit would.

        Afterwards `changed_` are the rows whose probabilities may have changed. Raises ValueError for another number
        of labels, or where none is left.
        """
        check_is_fitted(self)
        labels = column_or_1d(as_given(y), warn=True)
        assert_all_finite(labels, input_name="y")
        classes, codes = read_labels(labels, self.unlabeled_label)
        if len(codes) != len(self._codes):
            raise ValueError(f"There are {len(self._codes)} samples, and {len(codes)} labels were given.")
        before, self.classes_, self._codes = self.classes_, classes, codes
        if self._kernel is None:
            self._go_on(before)
        else:
            self._begin()
        return self

    def predict_proba(self, X: ArrayLike | SparseMatrix) -> FloatArray:  # noqa: N803 # scikit-learn's name
        """(n_new, n_features), or weights (n_new, n) to the pool -> (n_new, n_classes).

        Each sample's neighbours vote with their probabilities, weighted by affinity; those that no label reaches do
        not vote. Without any other neighbour the answer is the class prior.
        """
        check_is_fitted(self)
        weights = self._to_pool(validate_data(self, X, accept_sparse=["csr"], reset=False))
        reached = self.evidence_ > 0
        voters = self.label_distributions_
        if not reached.all():
            voters = np.where(reached[:, None], voters, 0.0)
        return normalised(weights @ voters, self._prior)

    def predict(self, X: ArrayLike | SparseMatrix) -> Labels:  # noqa: N803 # scikit-learn's name
        """The likeliest class of each sample, as in `predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    @property
    def transduction_(self) -> Labels:
        """(n,) the likeliest class of each sample that was fitted."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.label_distributions_.argmax(axis=1)])

    def warm_up(self) -> None:
        """Compile what `update` may need, or read it from the cache; takes seconds the first time."""

    def __sklearn_tags__(self) -> Any:  # Any: scikit-learn ships no types
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self._is_precomputed
        return tags

    def _join(self, samples: Samples) -> None:
        """Find the weights among the samples."""
        self._graph: NeighborGraph | None = None
        self._kernel: Kernel | None = None
        self._frame: Frame | None = None
        if self._is_precomputed:
            if self._kind != "self-tuned":
                raise ValueError('Weights are precomputed or made by a kernel, not both: leave kernel at "auto".')
            self._equations = read_equations(_symmetric(samples), self._alpha)
        elif self._kind != "self-tuned":
            gamma, n_neighbors = self._setting("gamma"), self._setting("n_neighbors")
            self._kernel = Kernel(samples, self._kind, gamma, n_neighbors, self.n_jobs)
        else:
            self._frame = frame_of(_dense(samples))
            self._graph = build_graph(self._points(samples), self._setting("n_neighbors"))
            self._equations = read_equations(self._graph.affinity, self._alpha)

    def _points(self, samples: Samples) -> FeatureArray:
        """(n, n_features) as the graph takes them. Raises FeatureError, a ValueError, where it cannot."""
        features = _dense(samples)
        checked(features, self._frame)
        return in_frame(features, self._frame)

    def _to_pool(self, samples: Samples) -> Weights:
        """(n_new, n) weights from new samples to those that were fitted."""
        if self._kernel is not None:
            return self._kernel.from_new(samples)
        return samples if self._graph is None else self._graph.connect(self._points(samples))

    def _begin(self) -> None:
        """Solve from nothing, by scikit-learn's iteration where it is scikit-learn's kernel."""
        if self._kernel is None:
            self._start()
            return
        start = np.asarray(self._codes[:, None] == np.arange(len(self.classes_)), dtype=np.float64)
        step = self._step(self._build_graph(), start)
        max_iter = self._max_iter if self.max_iter is None else self.max_iter
        masses, self.n_iter_ = repeated(step, start, max_iter, self._setting("tol"))
        self._keep(masses)

    def _build_graph(self) -> Weights:
        """(n, n) the steps that labels take, by scikit-learn's name: S for spreading, P for propagation."""
        if self._kernel is not None:
            return self._steps(self._kernel.among())
        return self._steps(self.X_ if self._graph is None else self._graph.affinity)

    def _steps(self, weights: Weights) -> Weights:
        raise NotImplementedError

    def _step(self, graph: Weights, start: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """One turn of scikit-learn's iteration, from masses (n, n_classes) to the next."""
        raise NotImplementedError

    def _start(self) -> None:
        raise NotImplementedError

    def _go_on(self, before: Labels) -> None:
        """Solve for the codes as they are now; `before` are the classes of the last time."""
        raise NotImplementedError

    @property
    def _alpha(self) -> float:
        raise NotImplementedError

    @property
    def _tol(self) -> float:
        """Of a solve on our graph; what is asked beyond double precision, or beyond any use, is not."""
        return float(min(max(self._setting("tol"), MIN_TOL), LARGEST_TOL))

    @property
    def _is_precomputed(self) -> bool:
        return self.affinity == "precomputed"

    @property
    def _kind(self) -> Kind:
        """The kernel by its name, "auto" spelled out."""
        if callable(self.kernel) or self.kernel != "auto":
            return self.kernel
        return "self-tuned" if self.gamma is None else "rbf"

    def _setting(self, name: str) -> Any:  # Any: the parameter's
        """A parameter, or what None stands for."""
        given = getattr(self, name)
        return given if given is not None else (SELF_TUNED if self._kind == "self-tuned" else SCIKIT_LEARN)[name]

    @property
    def _prior(self) -> FloatArray:
        return class_prior(self._codes, len(self.classes_))

    def _store(self, solution: FloatArray, n_iter: int) -> None:
        """Keep an answer from scratch, (n, n_classes) by place."""
        self._keep(solution[self._equations.places])
        self.n_iter_ = n_iter

    def _keep(self, masses: FloatArray) -> None:
        """Masses (n, n_classes) as the answer, the prior where there are none."""
        self.label_distributions_ = normalised(masses, self._prior)
        self.evidence_ = masses.sum(axis=1)
        self.changed_ = np.arange(len(masses))

    def _targets(self) -> FloatArray:
        """(n, n_classes) one-hot by place, a row of zeros where unlabeled."""
        codes = self._codes[self._equations.order]
        return np.asarray(codes[:, None] == np.arange(len(self.classes_)), dtype=np.float64)


class LabelSpreading(_GraphClassifier):
    """Labels spread along the graph and fade with distance, labeled samples included: forgives wrong labels.

    Parameters
    ----------
    kernel : "self-tuned" = the sparse neighbour graph (graph.py), for pools of any size; "rbf", "knn" or a function of
        two sets of samples that gives (n, m) weights = as in scikit-learn, n x n numbers for all but "knn";
        "auto" = "self-tuned", or "rbf" where `gamma` is given, which nothing else has.
    gamma : of "rbf"; None = 20.
    n_neighbors : neighbours of each sample; None = 10 in the self-tuned graph, 7 for "knn".
    alpha : share of a row's answer that comes from its neighbours, above 0 and below 1; None = 0.9 on the self-tuned
        graph, 0.2 with a kernel of scikit-learn's.
    max_iter : most steps with a kernel of scikit-learn's, None = 30; the self-tuned graph is solved to the end.
    tol : on the self-tuned graph the largest error of a probability where it is solved from scratch, None = 1e-6, at
        least 1e-9; with a kernel of scikit-learn's the change of all masses that ends its iteration, None = 1e-3.
    n_jobs : of the search for neighbours with "knn".
    affinity : "neighbors" = X are features; "precomputed" = X are weights, (n, n) symmetric with a zero diagonal.
    push_tol : residual relative to the evidence in pools of `push_from` samples and more; see docs/label_spreading.md.
    push_from : smaller pools are solved from scratch at every update.
    unlabeled_label : what stands in y for "no label".

    Attributes
    ----------
    X_, classes_, label_distributions_ (n, n_classes), transduction_ (n,), n_iter_, n_features_in_,
    feature_names_in_ : as in scikit-learn.
    evidence_ : (n,) how much label mass reached the row, 0 = none did.
    changed_ : rows that the last fit or update wrote.
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 # Any: constraints; scikit-learn's own way
        **_GraphClassifier._parameter_constraints,
        "alpha": [None, Interval(Real, 0, 1, closed="neither")],
        "push_tol": [Interval(Real, MIN_TOL, 1, closed="left")],
        "push_from": [Interval(Integral, 0, None, closed="left")],
    }

    _max_iter = 30

    def __init__(
        self,
        kernel: Kind = "auto",
        *,
        gamma: float | None = None,
        n_neighbors: int | None = None,
        alpha: float | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
        n_jobs: int | None = None,
        affinity: str = "neighbors",
        push_tol: float = 0.01,
        push_from: int = 5000,
        unlabeled_label: object = UNLABELED,
    ) -> None:
        super().__init__(kernel, gamma, n_neighbors, max_iter, tol, n_jobs, affinity, unlabeled_label)
        self.alpha = alpha
        self.push_tol = push_tol
        self.push_from = push_from

    def warm_up(self) -> None:
        """Compile what `update` may need, or read it from the cache; takes seconds the first time."""
        kernels()

    @property
    def _alpha(self) -> float:
        return float(self._setting("alpha"))

    def _steps(self, weights: Weights) -> Weights:
        return spreading_steps(weights)

    def _step(self, graph: Weights, start: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """One turn of scikit-learn's iteration, from masses (n, n_classes) to the next."""
        return lambda masses: self._alpha * (graph @ masses) + (1 - self._alpha) * start

    def _start(self) -> None:
        self._diffusion: Diffusion | None = None
        if len(self._codes) < self.push_from or kernels() is None:
            self._store(*self._from_scratch())
            return
        self._diffusion = Diffusion(self._equations, len(self.classes_), self.push_tol)
        self._push(self._codes)
        self._publish_all()

    def _go_on(self, before: Labels) -> None:
        """Push on, over the classes of before and now together; classes without a label are dropped afterwards."""
        if self._diffusion is None:
            self._start()
            return
        if np.array_equal(before, self.classes_):
            union, now = before, self._codes
        else:
            union = np.union1d(before, self.classes_)
            self._diffusion.rearrange(_positions(before, union))
            now = np.append(np.searchsorted(union, self.classes_), UNLABELED)[self._codes]
        if self._diffusion.n_changed(now) > AFRESH * (now != UNLABELED).sum():
            self._start()
            return
        touched = self._push(now)
        if union is before:
            self._publish(touched)
        else:
            self._diffusion.rearrange(_positions(union, self.classes_))
            self._publish_all()

    def _push(self, codes: IntArray) -> Bytes:
        """Settle what the labels changed; 1 at the places (n,) that moved."""
        assert self._diffusion is not None
        touched, self.n_iter_ = self._diffusion.change(codes)
        return touched

    def _publish_all(self) -> None:
        n = len(self._codes)
        self._newest = np.zeros((n, len(self.classes_))), np.zeros(n)
        self._values = Renewed(), Renewed()
        self._publish(np.ones(n, dtype=np.uint8))

    def _publish(self, touched: Bytes) -> None:
        """Write the rows at the places that moved, and the prior where nothing reaches."""
        assert self._diffusion is not None
        probabilities, evidence = self._newest
        self._diffusion.publish(touched, probabilities, evidence)
        written = evidence == 0
        probabilities[written] = self._prior
        written[self._equations.order[touched != 0]] = True
        self.changed_ = np.flatnonzero(written)
        self.label_distributions_, self.evidence_ = (
            value.renewed(newest, self.changed_) for value, newest in zip(self._values, self._newest, strict=True)
        )

    def _from_scratch(self) -> tuple[FloatArray, int]:
        """Solve from the labels outwards: each turn settles the rows that its precision can tell from nothing."""
        equations, targets = self._equations, self._targets()
        solution, n_iter = np.zeros_like(targets), 0
        rows = np.flatnonzero(equations.reached_from(targets.sum(axis=1) > 0))
        matrix = _block(equations.matrix, rows)
        right = targets[rows]
        while rows.size and (unit := right.max()) > FAINTEST:
            roots = equations.roots[rows]
            part, residual, steps = solve(matrix, right / unit, np.zeros_like(right), partial(self._all_settled, roots))
            n_iter += steps
            done = self._settled(roots, part, residual)
            done |= not done.any()
            part = np.maximum(part, 0) * unit
            solution[rows[done]] = part[done]
            outer = np.flatnonzero(~done)
            right = right[outer] - matrix[outer][:, np.flatnonzero(done)] @ part[done]
            matrix, rows = _block(matrix, outer), rows[outer]
        return solution, max(n_iter, 1)

    def _settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> BoolArray:
        """Rows whose probabilities are right to `tol`, by the bound above with h = 1 / (1 - alpha)."""
        error = roots * _largest_residual(roots, residual) / (1 - self._alpha)
        return np.asarray(error <= self._tol * solution.sum(axis=1))

    def _all_settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> bool:
        return bool(self._settled(roots, solution, residual).all())


class LabelPropagation(_GraphClassifier):
    """Labels stay as given, every other sample is the mean of its neighbours: trusts each label fully.

    Parameters and attributes are those of `LabelSpreading` without `alpha`, and `max_iter` None = 1000; it is always
    solved from scratch. `evidence_` is 1 on every row that a label reaches: a harmonic row is a mean of labels,
    whatever the distance.
    """

    _max_iter = 1000

    def __init__(
        self,
        kernel: Kind = "auto",
        *,
        gamma: float | None = None,
        n_neighbors: int | None = None,
        max_iter: int | None = None,
        tol: float | None = None,
        n_jobs: int | None = None,
        affinity: str = "neighbors",
        unlabeled_label: object = UNLABELED,
    ) -> None:
        super().__init__(kernel, gamma, n_neighbors, max_iter, tol, n_jobs, affinity, unlabeled_label)

    @property
    def _alpha(self) -> float:
        return 1.0

    def _steps(self, weights: Weights) -> Weights:
        return propagation_steps(weights)

    def _step(self, graph: Weights, start: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """One turn of scikit-learn's iteration, from masses (n, n_classes) to the next."""
        free = (self._codes == UNLABELED)[:, None]
        nothing = np.zeros(len(self.classes_))
        return lambda masses: np.where(free, normalised(graph @ masses, nothing), start)

    def _start(self) -> None:
        self._store(*self._from_scratch())

    def _go_on(self, before: Labels) -> None:
        self._start()

    def _from_scratch(self) -> tuple[FloatArray, int]:
        """Solve the unlabeled block for sqrt(d) F, with one column more for the bound's sqrt(d) h."""
        equations, targets = self._equations, self._targets()
        labeled = targets.sum(axis=1) > 0
        free = np.flatnonzero(equations.reached_from(labeled) & ~labeled)
        given = np.flatnonzero(labeled)
        if not free.size:
            return targets, 1
        solution, roots = targets.copy(), equations.roots[free]
        boundary = -equations.matrix[free][:, given] @ (equations.roots[given, None] * targets[given])
        right = np.column_stack([boundary, roots])
        guess = np.column_stack([np.zeros_like(boundary), roots])
        scaled, _, n_iter = solve(_block(equations.matrix, free), right, guess, partial(self._is_settled, roots))
        harmonic = np.maximum(scaled[:, :-1], 0) / roots[:, None]
        solution[free] = harmonic / harmonic.sum(axis=1, keepdims=True)
        return solution, max(n_iter, 1)

    def _is_settled(self, roots: FloatArray, solution: FloatArray, residual: FloatArray) -> bool:
        """The module's bound with twice the last column as h: (I - P) h >= 1 once its residual is below 1/2."""
        if np.abs(residual[:, -1] / roots).max() > 0.5:
            return False
        reach = 2 * (solution[:, -1] / roots).max()
        return bool(reach * _largest_residual(roots, residual[:, :-1]) <= self._tol)


def _largest_residual(roots: FloatArray, residual: FloatArray) -> float:
    """max_j sum_c |residual_jc| / sqrt(d_j)."""
    return float((np.abs(residual).sum(axis=1) / roots).max())


def _block(matrix: SparseMatrix, rows: IntArray) -> SparseMatrix:
    """The square block of these rows; the matrix itself where that is all of it."""
    return matrix if len(rows) == matrix.shape[0] else matrix[rows][:, rows]


def _symmetric(affinity: ArrayLike | SparseMatrix) -> SparseMatrix:
    """Weights as csr_array, made exactly symmetric and not negative where only rounding keeps them from it.

    Raises ValueError where they are no affinities of samples to each other.
    """
    weights = scipy.sparse.csr_array(affinity, dtype=np.float64)
    if weights.shape[0] != weights.shape[1]:
        raise ValueError(f"A precomputed affinity is square, not {weights.shape[0]} x {weights.shape[1]}.")
    if not weights.nnz:
        return weights
    rounding = ROUNDING * np.abs(weights.data).max()
    asymmetry = abs(weights - weights.T).max()
    diagonal = np.abs(weights.diagonal()).max()
    if weights.data.min() < -rounding or diagonal > rounding or asymmetry > rounding:
        raise ValueError("A precomputed affinity is symmetric, not negative, and has a zero diagonal.")
    if asymmetry or diagonal or weights.data.min() < 0:
        weights = scipy.sparse.csr_array((weights + weights.T) / 2 - scipy.sparse.diags_array(weights.diagonal()))
        weights.data = np.maximum(weights.data, 0)
    return weights


def _dense(samples: Samples) -> NDArray[Any]:  # Any: float32 or float64
    """(n, n_features) as an array: what finds neighbours takes no other."""
    return scipy.sparse.csr_array(samples).toarray() if scipy.sparse.issparse(samples) else np.asarray(samples)


def _positions(those: Labels, among: Labels) -> IntArray:
    """For each class of `among` its position in `those`, -1 where it is not there; both sorted."""
    if not len(those):
        return np.full(len(among), -1)
    nearest = np.minimum(np.searchsorted(those, among), len(those) - 1)
    return np.where(those[nearest] == among, nearest, -1)
