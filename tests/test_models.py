"""The graph models against dense solves and scikit-learn; scikit-learn's adapters against scikit-learn itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.semi_supervised import LabelPropagation, LabelSpreading

from annotator import registry
from annotator.errors import ConfigError, ModelError
from annotator.graph import NeighborGraph
from annotator.models.equations import BoolArray
from annotator.models.out_of_fold import copied
from annotator.models.sklearn_graph import MAX_IMAGES, DenseLabelPropagation, DenseLabelSpreading
from annotator.models.sparse_graph import SparseLabelPropagation, SparseLabelSpreading
from annotator.strategies.uncertainty import Entropy
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, IntArray, Model, Pool, SparseMatrix
from tests.builders import tiny_dataset

REFERENCE = json.loads(Path(__file__).with_name("digits_reference.json").read_text())
EVERY_MODEL = (SparseLabelSpreading, SparseLabelPropagation, DenseLabelSpreading, DenseLabelPropagation)
SPARSE = (SparseLabelSpreading, SparseLabelPropagation)


def on_graph(weights: FloatArray) -> Dataset:
    """A dataset whose affinities are these."""
    dataset = tiny_dataset(len(weights))
    graph = NeighborGraph(dataset.features, scipy.sparse.csr_array(weights), np.ones(len(weights)), 5)
    return dataclasses.replace(dataset, graph=graph)


def labels_of(n: int, given_labels: dict[int, int]) -> IntArray:
    labels = np.full(n, UNLABELED)
    labels[list(given_labels)] = list(given_labels.values())
    return labels


def one_hot(labels: IntArray, n_classes: int) -> FloatArray:
    return (labels[:, None] == np.arange(n_classes)).astype(np.float64)


def normalised_affinity(weights: FloatArray) -> FloatArray:
    degrees = weights.sum(axis=1)
    roots = np.sqrt(np.where(degrees > 0, degrees, 1))
    return weights / np.outer(roots, roots)


def dense_spreading(weights: FloatArray, targets: FloatArray, alpha: float) -> FloatArray:
    return np.linalg.solve(np.eye(len(weights)) - alpha * normalised_affinity(weights), targets)


def spreading_by_series(weights: FloatArray, targets: FloatArray, alpha: float) -> FloatArray:
    """sum_t (alpha S)**t Y: only additions of non-negative numbers, so that even the tiniest row is right."""
    step = alpha * normalised_affinity(weights)
    term, total, n_terms = targets, targets.copy(), 0
    while n_terms < len(weights) or (term > 1e-13 * total).any():  # a label may need n steps to arrive at all
        term = step @ term
        total += term
        n_terms += 1
    return total


def dense_propagation(weights: FloatArray, targets: FloatArray, reached: BoolArray) -> FloatArray:
    solution = targets.copy()
    labeled = targets.any(axis=1)
    free = reached & ~labeled
    laplacian = np.diag(weights.sum(axis=1)) - weights
    solution[free] = np.linalg.solve(laplacian[np.ix_(free, free)], weights[np.ix_(free, labeled)] @ targets[labeled])
    return solution


def reached_rows(weights: FloatArray, labels: IntArray) -> BoolArray:
    _, components = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(weights), directed=False)
    return np.isin(components, components[labels != UNLABELED])


@st.composite
def problems(draw: st.DrawFn) -> tuple[FloatArray, IntArray]:
    """A small weighted graph, often in several components, with one label or more of three classes."""
    n = draw(st.integers(2, 22))
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.sampled_from([1e-6, 1e-3, 0.1, 0.4, 0.77, 1.0]))
    weights = np.zeros((n, n))
    for one, other, weight in draw(st.lists(pair, max_size=3 * n)):
        if one != other:
            weights[one, other] = weights[other, one] = weight
    given_labels = draw(st.dictionaries(st.integers(0, n - 1), st.integers(0, 2), min_size=1, max_size=6))
    return weights, labels_of(n, given_labels)


def assert_same_prediction(found: FloatArray, expected: FloatArray, tolerance: float) -> None:
    """Probabilities to the tolerance, and the same first class wherever the two first differ by more than that."""
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 2 * tolerance
    assert np.array_equal(found.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])


@settings(max_examples=150, deadline=None)
@given(problem=problems(), alpha=st.sampled_from([0.2, 0.9, 0.98]))
def test_spreading_is_the_dense_solution(problem: tuple[FloatArray, IntArray], alpha: float) -> None:
    """To the tolerance on every row that a label reaches, however faint; evidence is the row sum of F."""
    weights, labels = problem
    prediction = SparseLabelSpreading(alpha).fit_predict(on_graph(weights), labels, 3)
    solution = spreading_by_series(weights, one_hot(labels, 3), alpha)
    reached = reached_rows(weights, labels)
    expected = solution[reached] / solution[reached].sum(axis=1, keepdims=True)
    assert_same_prediction(prediction.probabilities[reached], expected, 1e-5)
    np.testing.assert_allclose(prediction.evidence, solution.sum(axis=1), rtol=1e-5)
    assert np.array_equal(prediction.evidence > 0, reached)


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_propagation_is_the_harmonic_solution(problem: tuple[FloatArray, IntArray]) -> None:
    """Labeled rows stay as given, every other reached row is the mean of its neighbours; evidence is 1 there."""
    weights, labels = problem
    prediction = SparseLabelPropagation().fit_predict(on_graph(weights), labels, 3)
    reached = reached_rows(weights, labels)
    expected = dense_propagation(weights, one_hot(labels, 3), reached)
    assert_same_prediction(prediction.probabilities[reached], expected[reached], 1e-5)
    np.testing.assert_allclose(prediction.evidence, reached.astype(float), rtol=1e-12)


@pytest.mark.parametrize("model", SPARSE)
@settings(max_examples=50, deadline=None)
@given(problem=problems())
def test_what_was_fitted_before_changes_nothing(model: type[Model], problem: tuple[FloatArray, IntArray]) -> None:
    """Labels added, changed and taken back on the same dataset: the answer is a fresh fit's, bit for bit."""
    weights, labels = problem
    dataset, used = on_graph(weights), model()
    used.fit_predict(dataset, np.where(labels >= 0, 2 - labels, UNLABELED), 3)
    used.fit_predict(dataset, labels_of(len(labels), {0: 1}), 3)
    again = used.fit_predict(dataset, labels, 4)
    fresh = model().fit_predict(dataset, labels, 4)
    np.testing.assert_array_equal(again.probabilities, fresh.probabilities)
    np.testing.assert_array_equal(again.evidence, fresh.evidence)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9, 0.99])
def test_spreading_is_what_scikit_learn_converges_to(alpha: float) -> None:
    """With the same W as a callable kernel, run to the end; a direct dense solve agrees with both."""
    dataset = tiny_dataset(60, seed=1)
    weights = dataset.graph.affinity.toarray()
    labels = labels_of(60, {0: 0, 1: 1, 2: 2, 7: 1, 30: 0})
    oracle = LabelSpreading(kernel=lambda left, right: weights.copy(), alpha=alpha, max_iter=100_000, tol=1e-12)
    expected = oracle.fit(dataset.features, labels).label_distributions_
    found = SparseLabelSpreading(alpha).fit_predict(dataset, labels, 3)
    assert_same_prediction(found.probabilities, expected, 1e-6)
    direct = dense_spreading(weights, one_hot(labels, 3), alpha)
    np.testing.assert_allclose(found.evidence, direct.sum(axis=1), rtol=1e-6)


def test_propagation_is_what_scikit_learn_converges_to() -> None:
    """With the same W as a callable kernel, run to the end."""
    dataset = tiny_dataset(60, seed=2)
    weights = dataset.graph.affinity.toarray()
    labels = labels_of(60, {0: 0, 1: 1, 2: 2, 7: 1, 30: 0})
    oracle = LabelPropagation(kernel=lambda left, right: weights.copy(), max_iter=100_000, tol=1e-12)
    expected = oracle.fit(dataset.features, labels).label_distributions_
    assert_same_prediction(SparseLabelPropagation().fit_predict(dataset, labels, 3).probabilities, expected, 1e-6)


def chain(n: int, weight: float = 1.0) -> FloatArray:
    weights = np.zeros((n, n))
    here = np.arange(n - 1)
    weights[here, here + 1] = weights[here + 1, here] = weight
    return weights


def test_rows_far_beyond_double_precision_of_the_first_solve_are_right() -> None:
    """A chain of 200 with a label at each end: evidence falls to 1e-57 and the middle still knows its nearer end."""
    weights, labels = chain(200), labels_of(200, {0: 0, 199: 1})
    prediction = SparseLabelSpreading(0.5).fit_predict(on_graph(weights), labels, 2)
    solution = spreading_by_series(weights, one_hot(labels, 2), 0.5)
    assert prediction.evidence is not None
    assert prediction.evidence.min() < 1e-50
    assert_same_prediction(prediction.probabilities, solution / solution.sum(axis=1, keepdims=True), 1e-4)


def test_rows_beyond_the_range_of_numbers_count_as_not_reached() -> None:
    """A chain of 2,000 with one label: no NaN, the far end has no evidence and the prior."""
    labels = labels_of(2000, {0: 1})
    prediction = SparseLabelSpreading(0.2).fit_predict(on_graph(chain(2000)), labels, 2)
    assert prediction.evidence is not None
    assert prediction.evidence[-1] == 0
    assert list(prediction.probabilities[-1]) == pytest.approx([1 / 3, 2 / 3])
    assert list(prediction.probabilities[50]) == [0, 1]
    assert np.isfinite(prediction.probabilities).all()


@pytest.mark.parametrize("model", EVERY_MODEL)
@pytest.mark.parametrize(
    "given_labels",
    [{}, {3: 1}, {3: 1, 8: 1}, {0: 0, 1: 1, 2: 2}, {row: row % 3 for row in range(30)}],
    ids=["none", "one", "one class", "three", "all"],
)
def test_every_state_of_labeling_has_a_prediction(model: type[Model], given_labels: dict[int, int]) -> None:
    """Rows sum to 1, nothing is NaN, a class without labels is 0 where any label reaches."""
    dataset, labels = tiny_dataset(), labels_of(30, given_labels)
    fitted = model()
    prediction = fitted.fit_predict(dataset, labels, 5)
    assert prediction.evidence is not None
    assert prediction.probabilities.shape == (30, 5)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1)
    assert (prediction.probabilities >= 0).all()
    unseen = sorted(set(range(5)) - set(given_labels.values()))
    assert not prediction.probabilities[np.ix_(prediction.evidence > 0, unseen)].any()
    new = fitted.predict(tiny_dataset(7, seed=5).features)
    np.testing.assert_allclose(new.sum(axis=1), 1)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_a_pool_of_one_or_two_can_be_learned(model: type[Model]) -> None:
    """The smallest pools: one labeled image, and one more beside it."""
    for n in (1, 2):
        prediction = model().fit_predict(tiny_dataset(n), labels_of(n, {0: 1}), 2)
        assert list(prediction.probabilities[0]) == [0, 1]


@pytest.mark.parametrize("model", SPARSE)
def test_unreached_rows_have_the_smoothed_class_prior_and_no_evidence(model: type[Model]) -> None:
    """Two components and a lonely image, labels in one component: exact zeros elsewhere, not small numbers."""
    weights = scipy.sparse.block_diag([chain(4), chain(3), np.zeros((1, 1))]).toarray()
    prediction = model().fit_predict(on_graph(weights), labels_of(8, {0: 0, 2: 0, 3: 1}), 3)
    assert prediction.evidence is not None
    assert list(prediction.evidence[4:]) == [0] * 4
    assert prediction.evidence[:4].min() > 0
    np.testing.assert_allclose(prediction.probabilities[4:], np.tile([3 / 6, 2 / 6, 1 / 6], (4, 1)))


@pytest.mark.parametrize("model", SPARSE)
def test_a_lonely_labeled_image_is_reached_by_itself(model: type[Model]) -> None:
    """Degree 0 divides nothing: its own label is its prediction."""
    prediction = model().fit_predict(on_graph(np.zeros((3, 3))), labels_of(3, {1: 2}), 3)
    assert prediction.evidence is not None
    assert list(prediction.probabilities[1]) == [0, 0, 1]
    assert list(prediction.evidence) == [0, 1, 0]


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_the_same_labels_give_the_same_bits(model: type[Model]) -> None:
    """A prediction is a function of dataset and labels."""
    labels = labels_of(30, {0: 0, 4: 1, 11: 2})
    first, again = (model().fit_predict(tiny_dataset(), labels, 3) for _ in range(2))
    assert np.array_equal(first.probabilities, again.probabilities)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_easy_images_are_learned_from_a_few_labels(model: type[Model]) -> None:
    """Two labels a class: the rest of the pool and a held-out set are mostly right, far above one in three."""
    dataset = tiny_dataset(90, n_held_out=60)
    assert dataset.truth is not None
    assert dataset.held_out is not None
    labels = np.where(np.arange(90) < 6, dataset.truth, UNLABELED)
    fitted = model()
    prediction = fitted.fit_predict(dataset, labels, 3)
    assert (prediction.probabilities.argmax(axis=1) == dataset.truth).mean() > 0.8
    assert (fitted.predict(dataset.held_out.features).argmax(axis=1) == dataset.held_out.truth).mean() > 0.8


@dataclasses.dataclass(frozen=True, eq=False)
class CountedGraph(NeighborGraph):
    """A graph that notes how often it is asked to connect."""

    asked: list[int] = dataclasses.field(default_factory=list)

    def connect(self, features: FeatureArray) -> SparseMatrix:
        self.asked.append(len(features))
        return super().connect(features)


def test_a_held_out_set_is_connected_once_per_dataset() -> None:
    """Round after round the same array costs one product; another array is connected anew."""
    dataset = tiny_dataset(30)
    graph = CountedGraph(dataset.features, dataset.graph.affinity, np.ones(30), 5)
    dataset = dataclasses.replace(dataset, graph=graph)
    model, features = SparseLabelSpreading(), tiny_dataset(9, seed=4).features
    for row in range(3):
        model.fit_predict(dataset, labels_of(30, {row: 0}), 3)
        model.predict(features)
    model.predict(features[:4])
    assert graph.asked == [9, 4]


def test_a_new_image_is_the_weighted_mean_of_its_neighbours() -> None:
    """scikit-learn's rule for images outside the pool, over those neighbours that a label reaches."""
    dataset = tiny_dataset(30)
    model = SparseLabelSpreading()
    probabilities = model.fit_predict(dataset, labels_of(30, {0: 0, 1: 1, 2: 2}), 3).probabilities
    features = tiny_dataset(5, seed=8).features
    votes = dataset.graph.connect(features) @ probabilities
    np.testing.assert_allclose(model.predict(features), votes / votes.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_predicting_before_fitting_is_a_typed_error(model: type[Model]) -> None:
    """MODEL_NOT_FITTED, not an AttributeError."""
    with pytest.raises(ModelError) as caught:
        model().predict(tiny_dataset(3).features)
    assert caught.value.code == "MODEL_NOT_FITTED"


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_lies_between_0_and_1(alpha: float) -> None:
    """Refused where it is set, with what it may be."""
    with pytest.raises(ConfigError, match="between 0 and 1"):
        SparseLabelSpreading(alpha)


@pytest.mark.parametrize("tolerance", [0.0, 1e-12, 1.0, float("nan")])
@pytest.mark.parametrize("model", SPARSE)
def test_a_tolerance_is_one_that_double_precision_can_keep(model: type[SparseLabelSpreading], tolerance: float) -> None:
    """Refused where it is set, with what it may be."""
    with pytest.raises(ConfigError, match="tolerance"):
        model(tolerance=tolerance)


def test_scikit_learns_answer_is_passed_on_bit_for_bit() -> None:
    """Unconverged as it is, without its warning; a class that nobody labeled gets a column of zeros."""
    dataset, labels = tiny_dataset(), labels_of(30, {0: 0, 4: 3, 11: 0})
    found = DenseLabelSpreading(gamma=2.0, max_iter=2).fit_predict(dataset, labels, 5).probabilities
    with pytest.warns(UserWarning, match="without convergence"):
        own = LabelSpreading(gamma=2.0, max_iter=2).fit(dataset.features.astype(np.float64), labels)
    assert np.array_equal(found[:, [0, 3]], own.label_distributions_)
    assert not found[:, [1, 2, 4]].any()


@pytest.mark.parametrize("model", [DenseLabelSpreading, DenseLabelPropagation])
def test_what_the_kernel_does_not_reach_has_the_prior(model: type[DenseLabelSpreading]) -> None:
    """With a huge gamma each image is alone: scikit-learn divides 0 by 0, the app says the class prior."""
    dataset = tiny_dataset(30)
    fitted = model(gamma=1e6)
    prediction = fitted.fit_predict(dataset, labels_of(30, {0: 0, 1: 1}), 2)
    assert prediction.evidence is not None
    assert list(prediction.evidence) == [1, 1] + [0] * 28
    np.testing.assert_allclose(prediction.probabilities[2:], 0.5)
    np.testing.assert_allclose(fitted.predict(dataset.features + np.float32(9)), 0.5)


def test_large_pools_are_refused_before_memory_is() -> None:
    """MODEL_TOO_LARGE, naming the memory it would take and what to choose instead."""
    n = MAX_IMAGES + 1
    tiny = tiny_dataset(2)
    dataset = dataclasses.replace(tiny, ids=range(n), features=np.zeros((n, 2), dtype=np.float32))
    with pytest.raises(ModelError, match="label-spreading") as caught:
        DenseLabelSpreading().fit_predict(dataset, labels_of(n, {0: 0}), 2)
    assert caught.value.code == "MODEL_TOO_LARGE"


def test_the_digits_example_is_reproduced() -> None:
    """All 25 images of scikit-learn's example in their order (for the 25th either row of its tie)."""
    digits = load_digits()
    order = np.arange(len(digits.data))
    np.random.RandomState(0).shuffle(order)
    features, truth = (digits.data[order[:330]] / 16).astype(np.float32), digits.target[order[:330]]
    dataset = dataclasses.replace(tiny_dataset(3), ids=range(330), features=features)
    labels = np.where(np.arange(330) < 40, truth, UNLABELED)
    model, rng = DenseLabelSpreading(gamma=64.0, max_iter=20), np.random.default_rng(0)
    for expected in REFERENCE["rounds"]:
        prediction = model.fit_predict(dataset, labels, 10)
        unlabeled = np.flatnonzero(labels == UNLABELED)
        guesses = prediction.probabilities.argmax(axis=1)
        assert round(float((guesses == truth)[unlabeled].mean()), 6) == expected["accuracy"]
        asked = Entropy().query(Pool(dataset, labels, prediction, unlabeled), 5, rng).rows
        known = 4 if expected["round"] == 5 else 5
        assert list(asked[:known]) == expected["asked_rows"][:known]
        assert list(guesses[asked]) == expected["asked_predicted"]
        labels[asked] = truth[asked]
    assert asked[4] in (69, 155)


@pytest.mark.parametrize("name", ["label-spreading", "vote"])
def test_a_fitted_model_can_be_copied(name: str) -> None:
    """As calibration copies one that cannot leave labels out: both go on by themselves, with equal answers."""
    dataset = tiny_dataset(60)
    labels = np.where(np.arange(60) < 12, np.arange(60) % 3, UNLABELED)
    model: Model = registry.create("model", name)
    model.fit_predict(dataset, labels, 3)
    other = copied(model, dataset)
    labels[12:15] = 0
    first, second = (each.fit_predict(dataset, labels, 3) for each in (model, other))
    assert np.array_equal(first.probabilities, second.probabilities)
    assert np.array_equal(first.guesses, second.guesses)
