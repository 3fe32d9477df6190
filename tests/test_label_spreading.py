"""The estimators against scikit-learn and dense solves, from scratch and through any sequence of updates.

Longer than other files: each way to solve is held against the dense one, and each parameter against scikit-learn.
"""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.semi_supervised
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import check_estimator

from annotator.graph import build_graph
from annotator.models import diffusion, label_spreading, push
from annotator.models.diffusion import FAINT
from annotator.models.label_spreading import LabelPropagation, LabelSpreading
from annotator.strategies.uncertainty import entropy, margin, top_k
from annotator.types import FloatArray, IntArray, SparseMatrix

ESTIMATORS = [LabelSpreading(), LabelSpreading(push_from=0), LabelPropagation()]
WITH_KERNELS = [
    estimator(kernel=kernel) for estimator in (LabelSpreading, LabelPropagation) for kernel in ("rbf", "knn")
]
NEEDS_A_SETTING = "check_array_api_input"  # runs only where SCIPY_ARRAY_API is set; the estimators claim no support
WEIGHTS = [1e-6, 1e-3, 0.1, 0.4, 0.77, 1.0]


def spreading(**parameters: Any) -> LabelSpreading:  # Any: parameters
    """One that is given its weights."""
    return LabelSpreading(affinity="precomputed", **parameters)


def pushing(push_tol: float = 1e-9, **parameters: Any) -> LabelSpreading:  # Any: parameters
    return spreading(push_from=0, push_tol=push_tol, **parameters)


BOTH_WAYS = pytest.mark.parametrize("make", [spreading, pushing])


def labels_of(n: int, known: dict[int, int]) -> IntArray:
    labels = np.full(n, -1)
    labels[list(known)] = list(known.values())
    return labels


def chain(n: int) -> FloatArray:
    return np.eye(n, k=1) + np.eye(n, k=-1)


def dense(weights: FloatArray, labels: IntArray, alpha: float) -> tuple[FloatArray, FloatArray]:
    """The direct solve in double precision: F with a column for each class that is labeled, and sqrt(d)."""
    degrees = weights.sum(axis=1)
    roots = np.sqrt(np.where(degrees > 0, degrees, 1))
    targets = (labels[:, None] == np.unique(labels[labels != -1])).astype(float)
    return np.linalg.solve(np.eye(len(weights)) - alpha * weights / np.outer(roots, roots), targets), roots


@cache
def blobs(n: int) -> tuple[SparseMatrix, IntArray]:
    """A neighbour graph of overlapping classes, and labels for a few of each."""
    points, truth = make_blobs(n, 8, centers=6, cluster_std=4.0, random_state=n)
    graph = build_graph(points.astype(np.float32), 10)
    chosen = np.random.default_rng(n).permutation(n)[: n // 50]
    return graph.affinity, np.where(np.isin(np.arange(n), chosen), truth, -1)


def converged(estimator: Any) -> Any:  # Any: scikit-learn ships no types
    return estimator.set_params(max_iter=1_000_000, tol=1e-12)


# ---- scikit-learn


@pytest.mark.parametrize("estimator", [*ESTIMATORS, *WITH_KERNELS], ids=str)
def test_scikit_learns_checks_pass(estimator: LabelSpreading) -> None:
    """Every one of them: cloning, pickling, names of columns, shapes, strange input, determinism."""
    results = check_estimator(estimator, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} == {NEEDS_A_SETTING}


@BOTH_WAYS
@pytest.mark.parametrize(("n", "alpha"), [(500, 0.2), (1000, 0.5), (2000, 0.9), (3000, 0.95)])
def test_spreading_agrees_with_scikit_learn(make: Callable[..., LabelSpreading], n: int, alpha: float) -> None:
    """On the same weights, run to the end: probabilities to 1e-4, the same class to the last row."""
    weights, labels = blobs(n)
    oracle = converged(sklearn.semi_supervised.LabelSpreading(kernel=lambda *_: weights, alpha=alpha))
    expected = oracle.fit(np.zeros((n, 1)), labels)
    found = make(alpha=alpha).fit(weights, labels)
    np.testing.assert_allclose(found.label_distributions_, expected.label_distributions_, atol=1e-4)
    np.testing.assert_array_equal(found.transduction_, expected.transduction_)


@pytest.mark.parametrize("n", [500, 1000])
def test_propagation_agrees_with_scikit_learn(n: int) -> None:
    """On the same weights, run to the end: probabilities to 1e-4, the same class to the last row."""
    weights, labels = blobs(n)
    oracle = converged(sklearn.semi_supervised.LabelPropagation(kernel=lambda *_: weights.toarray()))
    expected = oracle.fit(np.zeros((n, 1)), labels)
    found = LabelPropagation(affinity="precomputed").fit(weights, labels)
    np.testing.assert_allclose(found.label_distributions_, expected.label_distributions_, atol=1e-4)
    np.testing.assert_array_equal(found.transduction_, expected.transduction_)


SAME_PARAMETERS = [
    {"kernel": "rbf"},
    {"gamma": 5.0},
    {"kernel": "rbf", "gamma": 1.0, "max_iter": 3},
    {"kernel": "knn"},
    {"kernel": "knn", "n_neighbors": 12, "tol": 1e-9, "max_iter": 500},
    {"kernel": lambda left, right: rbf_kernel(left, right, gamma=2)},
    {"kernel": lambda left, right: scipy.sparse.csr_matrix(rbf_kernel(left, right, gamma=2))},
]


@pytest.mark.parametrize("name", ["LabelSpreading", "LabelPropagation"])
@pytest.mark.parametrize("parameters", SAME_PARAMETERS, ids=range(len(SAME_PARAMETERS)))  # the same in every process
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_with_scikit_learns_kernels_the_answers_are_scikit_learns(
    name: str, parameters: dict[str, Any], kind: Callable[[FloatArray], Any]
) -> None:
    """Converged or ended early, of dense and sparse samples, of the pool and outside it; and after an update."""
    points, truth = make_blobs(120, 5, centers=3, cluster_std=0.4, center_box=(-1, 1), random_state=6)
    labels, new = np.where(np.arange(120) < 30, truth, -1), kind(points[100:] + 0.1)
    theirs, ours = (getattr(module, name)(**parameters) for module in (sklearn.semi_supervised, label_spreading))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        expected = theirs.fit(kind(points), labels)
        n_told = len(told)
        ours.fit(kind(points), np.where(np.arange(120) < 10, truth, -1)).update(labels)
    assert bool(n_told) == any(issubclass(warning.category, ConvergenceWarning) for warning in told[n_told:])
    np.testing.assert_allclose(ours.label_distributions_, expected.label_distributions_, atol=1e-12)
    np.testing.assert_array_equal(ours.transduction_, expected.transduction_)
    np.testing.assert_array_equal(ours.predict(new), expected.predict(new))
    np.testing.assert_allclose(ours.predict_proba(new), expected.predict_proba(new), atol=1e-12)
    assert ours.n_iter_ == expected.n_iter_
    assert ours.X_.shape == expected.X_.shape
    assert ours.n_features_in_ == 5


def test_what_scikit_learn_takes_ours_take() -> None:
    """Its parameters by its names and in its order; the kernel is the only one without a name."""
    for name in ("LabelSpreading", "LabelPropagation"):
        theirs, ours = (
            inspect.signature(getattr(module, name).__init__).parameters
            for module in (sklearn.semi_supervised, label_spreading)
        )
        assert [key for key in ours if key in theirs] == list(theirs)
        assert all(ours[key].kind == theirs[key].kind for key in theirs)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
def test_sparse_samples_have_the_graph_of_dense_ones(kind: Callable[[FloatArray], Any]) -> None:
    """Also outside the pool."""
    points, truth = make_blobs(80, 5, centers=3, cluster_std=4, random_state=7)
    labels = np.where(np.arange(80) < 12, truth, -1)
    for estimator in ESTIMATORS:
        expected = estimator.fit(points, labels).predict_proba(points + 0.1)
        np.testing.assert_allclose(estimator.fit(kind(points), labels).predict_proba(kind(points + 0.1)), expected)


@pytest.mark.parametrize("max_iter", [1, 30])
@pytest.mark.parametrize("tol", [0.0, 1e-3, 5.0])
def test_the_graph_is_solved_to_the_end_whatever_ends_scikit_learn(max_iter: int, tol: float) -> None:
    """A program's `max_iter` and `tol` are taken; no probability is further off than a thousandth."""
    points, truth = make_blobs(80, 5, centers=3, cluster_std=4, random_state=7)
    labels = np.where(np.arange(80) < 12, truth, -1)
    for make in (LabelSpreading, LabelPropagation):
        expected = make().fit(points, labels).label_distributions_
        found = make(max_iter=max_iter, tol=tol).fit(points, labels).label_distributions_
        np.testing.assert_allclose(found, expected, atol=1e-3 if tol <= 1e-3 else 0.1)


def test_weights_are_precomputed_or_made() -> None:
    """A kernel beside precomputed weights would be left out silently; cross-validation takes rows and columns."""
    for wrong in ({"kernel": "knn"}, {"gamma": 2.0}):
        with pytest.raises(ValueError, match="not both"):
            spreading(**wrong).fit(chain(4), labels_of(4, {0: 1}))
    assert spreading().__sklearn_tags__().input_tags.pairwise


# ---- features far from zero, without distances; weights that rounding spoiled


@pytest.mark.parametrize("estimator", [*ESTIMATORS, *WITH_KERNELS], ids=str)
@pytest.mark.parametrize("value", [2e19, 1e20, -3.4e38, 1e300])
def test_features_that_single_precision_cannot_hold_end_no_program(estimator: LabelSpreading, value: float) -> None:
    """P4: a ValueError or an answer, in fit and predict; never an abort of the interpreter or a broken heap."""
    points, truth = make_blobs(60, 4, centers=2, random_state=3)
    labels = np.where(np.arange(60) < 10, truth, -1)
    spoiled = points.copy()
    spoiled[17, 2] = value
    for ask in (
        lambda: estimator.fit(spoiled, labels).label_distributions_,
        lambda: estimator.fit(points, labels).predict_proba(spoiled),
    ):
        try:
            found = ask()
        except ValueError as error:
            assert "Scale the features" in str(error)
        else:
            assert np.isfinite(found).all()


@pytest.mark.parametrize("estimator", [*ESTIMATORS, *WITH_KERNELS], ids=str)
@pytest.mark.parametrize("offset", [1.7e9, -3e12])
def test_an_offset_of_the_features_changes_nothing(estimator: LabelSpreading, offset: float) -> None:
    """P11: timestamps, say; the fit and samples outside it are as without the offset, to what the digits hold."""
    points, truth = make_blobs(150, 4, centers=3, random_state=4)
    points = np.round(points * 256) / 256
    labels, new = np.where(np.arange(150) < 15, truth, -1), points[50:] + 0.25
    expected = estimator.fit(points, labels).predict_proba(new)
    found = estimator.fit(points + offset, labels)
    assert found.score(points[15:] + offset, truth[15:]) > 0.9
    np.testing.assert_allclose(found.predict_proba(new + offset), expected, atol=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_a_scale_of_the_features_changes_nothing(estimator: LabelSpreading, scale: float) -> None:
    """P4: the self-tuned graph knows no unit; single precision knows none of these."""
    points, truth = make_blobs(150, 4, centers=3, random_state=4)
    labels, new = np.where(np.arange(150) < 15, truth, -1), points[50:] + 0.25
    expected = estimator.fit(points, labels).predict_proba(new)
    np.testing.assert_allclose(estimator.fit(points * scale, labels).predict_proba(new * scale), expected, atol=1e-4)


def test_weights_are_symmetric_but_for_rounding() -> None:
    """P16: `rbf_kernel` differs by 4e-16 across its diagonal; what comes out is that of its exact mean."""
    points, labels = np.random.default_rng(0).normal(size=(300, 12)), labels_of(300, {0: 0, 1: 1, 2: 1})
    weights = rbf_kernel(points)
    np.fill_diagonal(weights, 0)
    weights[3, 5] *= 1 + 1e-10
    assert (weights != weights.T).any()
    expected, _ = dense((weights + weights.T) / 2, labels, 0.9)
    for affinity in (weights, scipy.sparse.csr_array(weights), weights * 1e12):
        found = spreading().fit(affinity, labels).label_distributions_
        np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_diagonal_and_sign_are_right_but_for_rounding() -> None:
    """P16: zeros that came out a little off, as 1 - cosine does, are zeros; more than that is refused."""
    exact = chain(6)
    expected = spreading().fit(exact, labels_of(6, {0: 0, 5: 1})).label_distributions_
    spoiled = exact + np.eye(6) * 2e-16 - np.eye(6, k=3) * 1e-17
    found = spreading().fit(spoiled, labels_of(6, {0: 0, 5: 1})).label_distributions_
    np.testing.assert_allclose(found, expected, atol=1e-9)
    for wrong in (np.eye(6), -np.eye(6, k=3) - np.eye(6, k=-3), np.eye(6, k=3)):
        with pytest.raises(ValueError, match="precomputed affinity"):
            spreading().fit(exact + 1e-8 * wrong, labels_of(6, {0: 0}))


@BOTH_WAYS
@pytest.mark.parametrize("scale", [1e-120, 1e-40, 1e40, 1e120])
def test_weights_of_any_size_have_the_same_answer(make: Callable[..., LabelSpreading], scale: float) -> None:
    """P4: far-apart samples have kernels of 1e-100; one over their root is no number in single precision."""
    labels = labels_of(30, {0: 0, 29: 1, 12: 1})
    expected = make(push_tol=1e-3).fit(chain(30), labels).label_distributions_
    found = make(push_tol=1e-3).fit(chain(30) * scale, labels).label_distributions_
    np.testing.assert_allclose(found, expected, atol=2e-2)


# ---- any sequence of labels


@st.composite
def histories(draw: st.DrawFn) -> tuple[FloatArray, list[IntArray]]:
    """A small weighted graph, often in parts, and what was labeled at each of several times."""
    n = draw(st.integers(2, 20))
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.sampled_from(WEIGHTS))
    weights = np.zeros((n, n))
    for one, other, weight in draw(st.lists(pair, max_size=3 * n)):
        if one != other:
            weights[one, other] = weights[other, one] = weight
    given_labels = st.dictionaries(st.integers(0, n - 1), st.integers(0, 3), min_size=1, max_size=n)
    labelings = [labels_of(n, draw(given_labels))]
    change = st.dictionaries(st.integers(0, n - 1), st.integers(-1, 3), min_size=1, max_size=2)
    for changes in draw(st.lists(change, max_size=6)):
        labels = labelings[-1].copy()
        labels[list(changes)] = list(changes.values())
        labelings.append(labels if (labels != -1).any() else labelings[-1])
    return weights, labelings


@settings(max_examples=150, deadline=None)
@given(history=histories(), alpha=st.sampled_from([0.2, 0.9, 0.95]))
def test_updates_by_push_keep_the_proven_bound(history: tuple[FloatArray, list[IntArray]], alpha: float) -> None:
    """After labels were added, changed and taken back: the module's bound holds in every row that is reached."""
    weights, labelings = history
    tolerance = 1e-4
    model = pushing(tolerance, alpha=alpha).fit(scipy.sparse.csr_array(weights), labelings[0])
    for labels in labelings[1:]:
        model.update(labels)
    solution, roots = dense(weights, labels := labelings[-1], alpha)
    sums = solution.sum(axis=1)
    reached = sums > 1e-13
    assert not model.evidence_[~reached].any() or model.evidence_[~reached].max() < 1e-9
    floor = FAINT * roots[labels != -1].sum() / ((1 - alpha) * max(weights.sum(), 1.0))
    masses = sums / roots
    spread = (1 - np.log(alpha) + np.log((masses.max() + floor) / floor)) / -np.log(alpha)
    bound = tolerance * spread / (1 - tolerance * spread) * (1 + floor / masses[reached])
    expected = solution[reached] / sums[reached, None]
    error = np.abs(model.label_distributions_[reached] - expected).max(axis=1)
    assert (error <= bound + 1e-9).all()
    assert np.isfinite(model.label_distributions_).all()


@settings(max_examples=60, deadline=None)
@given(history=histories())
def test_updates_from_scratch_are_a_fresh_fit(history: tuple[FloatArray, list[IntArray]]) -> None:
    """Bit for bit, in small pools and for propagation: the answer is a function of the labels."""
    weights, labelings = history
    affinity = scipy.sparse.csr_array(weights)
    for make in (spreading, lambda: LabelPropagation(affinity="precomputed")):
        used, fresh = make().fit(affinity, labelings[0]), make().fit(affinity, labelings[-1])
        for labels in labelings[1:]:
            used.update(labels)
        np.testing.assert_array_equal(used.label_distributions_, fresh.label_distributions_)
        np.testing.assert_array_equal(used.classes_, fresh.classes_)


def test_a_thousand_updates_do_not_drift() -> None:
    """The residual is kept: labels come and go, and the error after the last is that of the first."""
    weights, labels = blobs(500)
    truth = np.random.default_rng(1).integers(0, 6, 500)
    model, rng = pushing(1e-6).fit(weights, labels), np.random.default_rng(2)
    for _ in range(1000):
        rows = rng.integers(0, 500, 5)
        labels = labels.copy()
        labels[rows] = np.where(rng.random(5) < 0.5, truth[rows], -1)
        model.update(labels)
    solution, _ = dense(weights.toarray(), labels, 0.9)
    expected = solution / solution.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.label_distributions_, expected, atol=1e-4)


def test_a_label_of_each_class_is_no_reason_to_warn() -> None:
    """Labeling begins with few labels of many classes; warnings are errors here."""
    spreading().fit(blobs(500)[0], labels_of(500, {row: row for row in range(12)}))


@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("refreshed_after", [10_000, 7])
def test_the_tolerance_that_ships_is_held_in_single_precision(
    n_classes: int, refreshed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through additions, changes and undos: the residual, computed in double precision, is within its bound.

    Up to 16 classes, and in several sets; with the residual kept, and with it computed anew now and then.
    """
    monkeypatch.setattr(diffusion, "REFRESHED_AFTER", refreshed_after)
    weights, _ = blobs(500)
    rng = np.random.default_rng(n_classes)
    labels = labels_of(500, {row: row % n_classes for row in range(n_classes)})
    model = spreading(push_from=0).fit(weights, labels)
    for turn in range(60):
        rows = rng.integers(n_classes, 500, 4)
        labels = labels.copy()
        labels[rows] = rng.integers(0, n_classes, 4) if turn % 3 else -1
        model.update(labels)
        excess = _residual(model, labels) / (model.push_tol * _scale(model))
        assert excess.max() <= 1 + 1e-4


def _residual(model: LabelSpreading, labels: IntArray) -> FloatArray:
    """(n,) sum over classes of |B - (I - alpha P) G|, by place."""
    solved, equations = model._diffusion, model._equations
    assert solved is not None
    solution = np.concatenate(list(solved._solution), axis=1)[:, : len(model.classes_)]
    codes = labels[equations.order]
    targets = (codes[:, None] == model.classes_) / equations.roots[:, None]
    spread = model._alpha * (equations.affinity @ solution) / equations.roots[:, None] ** 2
    return np.asarray(np.abs(targets - solution + spread).sum(axis=1))


def _scale(model: LabelSpreading) -> FloatArray:
    """(n,) what residuals are relative to, by place: the evidence and the floor."""
    solved = model._diffusion
    assert solved is not None
    return np.maximum(sum(part.sum(axis=1) for part in solved._solution), 0) + solved._floor


@pytest.mark.parametrize("measure", [margin, entropy])
def test_twenty_rounds_of_digits_ask_what_a_double_precision_solve_asks(
    measure: Callable[[FloatArray], FloatArray],
) -> None:
    """Ten labels a round on 1,797 images, as the estimator comes and by push: the same batches throughout."""
    digits = load_digits()
    graph = build_graph((digits.data / 16).astype(np.float32), 10)
    labels = np.where(np.arange(len(digits.data)) < 20, digits.target, -1)
    models = [spreading(), pushing(1e-8)]
    inverse = np.linalg.inv(np.eye(len(labels)) - 0.9 * _normalised(graph.affinity.toarray()))
    for round_number in range(20):
        solution = inverse @ (labels[:, None] == np.arange(10))
        free = np.flatnonzero(labels == -1)
        asked = top_k(free, measure((solution / solution.sum(axis=1, keepdims=True))[free]), 10).rows
        for model in models:
            model.update(labels) if round_number else model.fit(graph.affinity, labels)
            found = top_k(free, measure(model.label_distributions_[free]), 10).rows
            np.testing.assert_array_equal(found, asked)
        labels = labels.copy()
        labels[asked] = digits.target[asked]


def _normalised(weights: FloatArray) -> FloatArray:
    roots = np.sqrt(weights.sum(axis=1))
    return weights / np.outer(roots, roots)


def test_rows_that_changed_are_named() -> None:
    """Every other row is left as it was, bit for bit; one label in a large pool does not reach all of it."""
    weights, labels = blobs(3000)
    model = pushing(0.01).fit(weights, labels)
    assert list(model.changed_) == list(range(3000))
    before, evidence = model.label_distributions_.copy(), model.evidence_.copy()
    free = np.flatnonzero(labels == -1)[:1]
    model.update(np.where(np.isin(np.arange(3000), free), 3, labels))
    same = np.setdiff1d(np.arange(3000), model.changed_)
    assert 0 < len(model.changed_) < 3000
    assert free[0] in model.changed_
    np.testing.assert_array_equal(model.label_distributions_[same], before[same])
    np.testing.assert_array_equal(model.evidence_[same], evidence[same])


# ---- labels and pools of every kind


@BOTH_WAYS
def test_classes_come_and_go(make: Callable[..., LabelSpreading]) -> None:
    """A class between two others gets its column, a class without labels loses it; the rest is a fresh fit's."""
    weights = scipy.sparse.csr_array(chain(12))
    model = make().fit(weights, labels_of(12, {0: 2, 11: 7, 4: 2, 6: 7}))
    for known, classes in (
        ({0: 2, 11: 7, 4: 2, 6: 7, 5: 4}, [2, 4, 7]),
        ({0: 2, 11: 2, 4: 2, 6: 7, 5: 4}, [2, 4, 7]),
        ({0: 2, 11: 2, 4: 2, 6: 2, 5: 4}, [2, 4]),
        ({0: 2, 11: 2, 4: 2, 6: 2}, [2]),
    ):
        labels = labels_of(12, known)
        model.update(labels)
        assert list(model.classes_) == classes
        expected = make().fit(weights, labels)
        np.testing.assert_allclose(model.label_distributions_, expected.label_distributions_, atol=1e-5)


@BOTH_WAYS
def test_a_part_that_loses_its_last_label_is_not_reached_any_more(make: Callable[..., LabelSpreading]) -> None:
    """No trace stays behind: evidence is exactly 0, and the answer is the smoothed prior of what is left."""
    weights = scipy.sparse.block_diag([chain(4), chain(3), np.zeros((1, 1))], format="csr")
    model = make().fit(weights, labels_of(8, {0: 0, 2: 1, 5: 1, 3: 0, 7: 1}))
    assert (model.evidence_ > 0).all()
    model.update(labels_of(8, {0: 0, 2: 1, 3: 0, 7: 1}))
    assert list(model.evidence_[4:7]) == [0, 0, 0]
    np.testing.assert_allclose(model.label_distributions_[4:7], 0.5)
    assert list(model.label_distributions_[7]) == [0, 1]


@BOTH_WAYS
@pytest.mark.parametrize("known", [{0: 5}, {0: 5, 1: 5}, {row: row % 3 for row in range(40)}], ids=["1", "2", "all"])
def test_every_number_of_labels_has_an_answer(make: Callable[..., LabelSpreading], known: dict[int, int]) -> None:
    """One label, one class, all labeled, on a pool with copies (distance 0) in it: rows sum to 1, nothing is NaN."""
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    points[10:30] = points[10]
    model = make().fit(build_graph(points, 5).affinity, labels_of(40, known))
    np.testing.assert_allclose(model.label_distributions_.sum(axis=1), 1)
    assert (model.label_distributions_ >= 0).all()
    assert set(model.transduction_) <= set(known.values())


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["scratch", "push", "propagation"])
def test_labels_may_be_text(estimator: LabelSpreading) -> None:
    """As objects with -1 among them, or with a word for unlabeled; the answers are text, the figures those of codes."""
    points, truth = make_blobs(60, 3, centers=2, random_state=3)
    codes = np.where(np.arange(60) < 6, truth, -1)
    names = np.array(["cat", "dog"], dtype=object)[truth]
    expected = estimator.fit(points, codes).predict_proba(points)
    for unlabeled in (-1, "?"):
        text = np.where(codes == -1, unlabeled, names).astype(object)
        estimator.set_params(unlabeled_label=unlabeled).fit(points, text)
        assert list(estimator.classes_) == ["cat", "dog"]
        np.testing.assert_array_equal(estimator.predict_proba(points), expected)
        assert set(estimator.predict(points)) == {"cat", "dog"}
    estimator.set_params(unlabeled_label=-1)


UNLABELED_TEXT = [
    ["ant", -1, "bee", -1, "ant", "-1"],
    np.array(["ant", -1, "bee", -1, "ant", -1]),
    np.array(["ant", -1.0, "bee", -1.0, "ant", -1.0]),
    np.array(["ant", -1, "bee", "-1", "ant", np.int64(-1)], dtype=object),
    ("ant", -1, "bee", -1, "ant", -1),
]


@pytest.mark.parametrize("y", UNLABELED_TEXT, ids=str)
def test_minus_one_among_names_is_unlabeled(y: Any) -> None:
    """P10: numpy makes the text "-1" of it, which is no class; in an update as in a fit."""
    points = np.arange(6.0)[:, None]
    fitted = LabelSpreading(kernel="rbf", gamma=0.1).fit(points, y)
    assert list(fitted.classes_) == ["ant", "bee"]
    assert fitted._codes.tolist() == [0, -1, 1, -1, 0, -1]
    for model in (LabelSpreading(), LabelPropagation()):
        updated = model.fit(points, ["bee", -1, "ant", -1, -1, -1]).update(y)
        assert updated._codes.tolist() == [0, -1, 1, -1, 0, -1]
        np.testing.assert_array_equal(updated.classes_, fitted.classes_)


def test_labels_of_several_kinds_are_refused() -> None:
    """P10: by fit and update alike, with what to do; an update leaves the model as it was."""
    points, wrong = np.arange(4.0)[:, None], ["ant", 1, -1, -1]
    with pytest.raises(ValueError, match="several kinds"):
        LabelSpreading().fit(points, wrong)
    model = LabelSpreading().fit(points, ["ant", "bee", -1, -1])
    with pytest.raises(ValueError, match="several kinds"):
        model.update(wrong)
    with pytest.raises(ValueError, match="NaN"):
        model.update([0.0, 1.0, np.nan, -1])
    with pytest.raises(ValueError, match="1d array"):
        model.update([[0, 1], [1, -1], [0, 1], [0, 1]])
    assert list(model.classes_) == ["ant", "bee"]
    as_objects = np.array([3, 4, -1, -1], dtype=object)
    assert list(LabelSpreading().fit(points, as_objects).update(as_objects).classes_) == [3, 4]


def test_a_class_may_be_called_minus_one_where_that_is_not_the_word_for_unlabeled() -> None:
    """P10: with another word for it, "-1" is a name like any other."""
    model = LabelSpreading(unlabeled_label="?").fit(np.arange(4.0)[:, None], ["-1", "bee", "?", "?"])
    assert list(model.classes_) == ["-1", "bee"]
    assert model.classes_.dtype.kind == "U"


def test_features_and_their_graph_give_the_same_answer() -> None:
    """The estimator builds the graph that the app would; new samples are joined by the same weights."""
    points, truth = make_blobs(200, 5, centers=3, cluster_std=5, random_state=5)
    labels = np.where(np.arange(200) < 15, truth, -1)
    graph = build_graph(points.astype(np.float32), 10)
    own, given_weights = LabelSpreading().fit(points, labels), spreading().fit(graph.affinity, labels)
    np.testing.assert_array_equal(own.label_distributions_, given_weights.label_distributions_)
    new = points[:7] + 0.25
    joined = graph.connect(new.astype(np.float32))
    np.testing.assert_allclose(own.predict_proba(new), given_weights.predict_proba(joined))


def test_nothing_labeled_is_refused() -> None:
    """At the fit and at an update, which leaves the model as it was."""
    weights = scipy.sparse.csr_array(chain(5))
    with pytest.raises(ValueError, match="No sample is labeled"):
        spreading().fit(weights, np.full(5, -1))
    model = spreading().fit(weights, labels_of(5, {0: 1}))
    with pytest.raises(ValueError, match="No sample is labeled"):
        model.update(np.full(5, -1))
    assert list(model.classes_) == [1]


@pytest.mark.parametrize("weights", [np.eye(4), np.triu(chain(4)), -chain(4), np.ones((4, 3))])
def test_weights_that_are_no_affinities_are_refused(weights: FloatArray) -> None:
    """A diagonal, one direction only, negative, not square."""
    with pytest.raises(ValueError, match="precomputed affinity"):
        spreading().fit(weights, labels_of(4, {0: 1}))


def test_an_update_has_a_label_for_each_sample() -> None:
    """Another number of labels belongs to another pool."""
    model = spreading().fit(scipy.sparse.csr_array(chain(5)), labels_of(5, {0: 1}))
    with pytest.raises(ValueError, match="5 samples, and 4 labels"):
        model.update(labels_of(4, {0: 1}))


# ---- compiled code


def test_several_threads_may_push_at_once() -> None:
    """Each on its own model, as sessions of several projects do: the answers are those of one after the other."""
    weights, labels = blobs(2000)
    halves = [np.where(np.arange(2000) % 2 == side, labels, -1) for side in (0, 1)] * 2

    def learn(into: dict[int, FloatArray], number: int) -> None:
        model = pushing(1e-4).fit(weights, labels)
        for _ in range(4):
            model.update(halves[number])
            model.update(labels)
        into[number] = model.update(halves[number]).label_distributions_

    alone: dict[int, FloatArray] = {}
    together: dict[int, FloatArray] = {}
    for number in range(4):
        learn(alone, number)
    threads = [threading.Thread(target=learn, args=(together, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(together[number], alone[number])


def test_without_compiled_code_conjugate_gradients_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba is absent a large pool is solved as a small one is."""
    weights, labels = blobs(500)
    expected = spreading().fit(weights, labels).label_distributions_
    monkeypatch.setitem(sys.modules, "annotator.models.push", None)
    monkeypatch.delattr("annotator.models.push")
    diffusion.kernels.cache_clear()
    try:
        model = pushing().fit(weights, labels)
        model.update(labels)
        model.warm_up()
    finally:
        diffusion.kernels.cache_clear()
    np.testing.assert_array_equal(model.label_distributions_, expected)


def test_code_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    """A function without a file has no place in any cache; it runs, compiled for this process."""
    scope: dict[str, Any] = {}
    exec("def double(number): return 2 * number", scope)
    assert push._compiled(scope["double"])(21) == 42


def test_an_update_costs_what_it_moves() -> None:
    """A label at one end of a long chain: the other end is not even looked at."""
    n = 50_000
    ends = np.arange(n - 1)
    weights = scipy.sparse.coo_array((np.ones(n - 1), (ends, ends + 1)), shape=(n, n))
    weights = scipy.sparse.csr_array(weights + weights.T)
    known = {row: row // 50 % 2 for row in [*range(0, n, 50), n - 1]}
    model = pushing(1e-3).fit(weights, labels_of(n, known))
    model.update(labels_of(n, {**known, 7: 1}))
    assert model.changed_.max() < 1000
