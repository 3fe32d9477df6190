"""What each strategy asks for, and in which order."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from annotator.errors import ConfigError
from annotator.graph import build_graph
from annotator.strategies import graph_change, herding, likeness
from annotator.strategies.balance import Balance
from annotator.strategies.coverage import cover
from annotator.strategies.diverse import DiverseMargin
from annotator.strategies.graph_change import ALPHA, GraphChange, GraphCoverage, Steps, weighs_most_for
from annotator.strategies.herding import Herding, Typical, pick, stands_for
from annotator.strategies.random import Random
from annotator.strategies.uncertainty import Entropy, LeastConfidence, Margin, entropy, least_confidence, margin, top_k
from annotator.types import UNLABELED, FeatureArray, FloatArray, IntArray, Pool, Prediction, QueryStrategy, Reason
from tests.builders import tiny_dataset

Measure = Callable[[FloatArray], FloatArray]

MEASURES = (entropy, margin, least_confidence)
UNCERTAIN = (Entropy, Margin, LeastConfidence)
OTHERS = (DiverseMargin, GraphChange, GraphCoverage, Balance)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def probabilities(n: int, n_classes: int = 3, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.5), size=n)


def pool(given_probabilities: FloatArray, candidates: list[int] | None = None) -> Pool:
    n = len(given_probabilities)
    rows = np.arange(n) if candidates is None else np.array(candidates, dtype=np.int64)
    return Pool(tiny_dataset(n), np.full(n, -1), Prediction(given_probabilities), rows)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_is_lowest_for_certainty_and_highest_for_a_tie_of_all(measure: Measure) -> None:
    """Higher = ask sooner: one-hot rows score 0, uniform rows most."""
    rows = np.vstack([np.eye(3)[0], np.full(3, 1 / 3), probabilities(20)])
    scores = measure(rows)
    assert scores[0] == 0
    assert scores[1] == pytest.approx(scores.max())
    assert scores.shape == (22,)


def test_the_measures_tell_apart_what_they_are_named_for() -> None:
    """Two classes tied under a clear third and three classes spread: margin, confidence and entropy disagree."""
    tied, spread = [0.5, 0.5, 0.0, 0.0], [0.46, 0.18, 0.18, 0.18]
    rows = np.array([tied, spread])
    assert margin(rows).argmax() == 0
    assert entropy(rows).argmax() == 1
    assert least_confidence(rows).argmax() == 1


def test_entropy_is_scipys_bit_for_bit() -> None:
    """Orders that hang on the last bit are those of published examples."""
    rows = probabilities(500, 10)
    assert np.array_equal(entropy(rows), scipy.stats.entropy(rows, axis=1))


def test_one_class_leaves_nothing_to_doubt() -> None:
    """With a single class every measure is 0 and a batch is still asked."""
    certain = np.ones((4, 1))
    for measure in MEASURES:
        assert np.array_equal(measure(certain), np.zeros(4))
    assert list(Margin().query(pool(certain), 2, np.random.default_rng(0)).rows) == [0, 1]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=40), st.integers(0, 45))
def test_top_k_is_a_full_stable_sort_cut_off(scores: list[float], k: int) -> None:
    """Best first, ties in the order of the candidates, however few are kept."""
    candidates = np.arange(len(scores)) * 3
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k]
    choice = top_k(candidates, np.array(scores), k)
    assert list(choice.rows) == [place * 3 for place in expected]
    assert list(choice.scores) == [scores[place] for place in expected]


@pytest.mark.parametrize("strategy", [*UNCERTAIN, Random, Typical, Herding, *OTHERS])
def test_only_candidates_are_asked_each_once(strategy: type[QueryStrategy]) -> None:
    """At most the batch size; fewer only where there are fewer; none from an empty list."""
    rng = np.random.default_rng(1)
    open_pool = pool(probabilities(12), [1, 4, 5, 9])
    assert set(strategy().query(open_pool, 10, rng).rows) == {1, 4, 5, 9}
    assert len(set(strategy().query(open_pool, 3, rng).rows)) == 3
    assert not len(strategy().query(pool(probabilities(12), []), 3, rng).rows)


@pytest.mark.parametrize("strategy", UNCERTAIN)
def test_the_uncertain_come_in_the_order_of_their_scores(strategy: type[QueryStrategy]) -> None:
    """The scores are those of the rows, descending, and nothing is drawn."""
    rng = np.random.default_rng(2)
    before = rng.bit_generator.state
    choice = strategy().query(pool(probabilities(25)), 8, rng)
    assert np.all(np.diff(choice.scores) <= 0)
    assert rng.bit_generator.state == before


def test_random_is_even_and_repeatable() -> None:
    """The same generator state asks the same rows; over many draws each row comes equally often."""
    open_pool = pool(probabilities(10))
    first, again = (Random().query(open_pool, 4, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.rows, again.rows)
    rng = np.random.default_rng(4)
    counts = np.bincount(np.concatenate([Random().query(open_pool, 4, rng).rows for _ in range(2000)]))
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


# ---- herding


def crowds(n: int = 300, n_crowds: int = 5, seed: int = 0) -> FeatureArray:
    """Images in crowds of unequal size: the first crowd is the largest."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(n_crowds, 0, -1)
    crowd = np.repeat(np.arange(n_crowds), np.round(sizes / sizes.sum() * n).astype(int))[:n]
    crowd = np.concatenate([crowd, np.zeros(n - len(crowd), dtype=int)])
    return np.asarray(4 * np.eye(n_crowds)[crowd] + rng.normal(0, 0.2, (n, n_crowds)), dtype=np.float32)


def crowded(
    labeled: Sequence[int] = (),
    asked: Sequence[int] = (),
    known: FloatArray | None = None,
    group: IntArray | None = None,
    features: FeatureArray | None = None,
) -> Pool:
    """A pool of crowds; what is labeled or asked is no candidate."""
    features = crowds() if features is None else features
    n = len(features)
    dataset = dataclasses.replace(tiny_dataset(n), features=features, group=np.arange(n) if group is None else group)
    labels = np.full(n, UNLABELED)
    labels[list(labeled)] = 0
    belief = np.full((n, 3), 1 / 3) if known is None else known
    candidates = np.setdiff1d(np.arange(n), [*labeled, *asked])
    return Pool(dataset, labels, Prediction(belief), candidates, np.array(asked, dtype=np.int64))


def crowd_of(asked: Pool, rows: IntArray) -> list[int]:
    return [int(crowd) for crowd in asked.dataset.features[rows].argmax(axis=1)]


@pytest.mark.parametrize("strategy", [Typical, Herding])
def test_a_first_batch_has_one_of_each_crowd_the_largest_first(strategy: type[QueryStrategy]) -> None:
    """Each image stands for its crowd: as many others as there are in it."""
    asked = crowded()
    choice = strategy().query(asked, 5, np.random.default_rng(0))
    assert crowd_of(asked, choice.rows) == [0, 1, 2, 3, 4]
    sizes = np.bincount(asked.dataset.features.argmax(axis=1))
    assert list(choice.scores) == list(sizes - 1)


@pytest.mark.parametrize("strategy", [Typical, Herding])
def test_what_is_labeled_or_only_asked_counts_as_chosen(strategy: type[QueryStrategy]) -> None:
    """Crowds with a label, or with a question that nobody has answered yet, are left for the others."""
    asked = crowded(labeled=[0], asked=[int(np.flatnonzero(crowds().argmax(axis=1) == 1)[0])])
    choice = strategy().query(asked, 3, np.random.default_rng(0))
    assert crowd_of(asked, choice.rows) == [2, 3, 4]


@pytest.mark.parametrize("strategy", [Typical, Herding])
def test_identical_images_are_never_in_one_batch(strategy: type[QueryStrategy]) -> None:
    """Not even where nothing else is left: the batch is as long as there are different images."""
    features = np.repeat(crowds(20), 3, axis=0)
    asked = crowded(features=features, group=np.repeat(np.arange(20) * 3, 3))
    choice = strategy().query(asked, 30, np.random.default_rng(0))
    assert sorted(choice.rows // 3) == list(range(20))


def test_herding_asks_where_the_model_doubts() -> None:
    """A crowd whose class is certain waits until the doubtful ones are asked, by each measure of doubt."""
    known = np.full((300, 3), 1 / 3)
    known[crowds().argmax(axis=1) == 0] = [1, 0, 0]
    asked = crowded(known=known)
    for weight in ("margin", "entropy", "least-confidence"):
        choice = Herding(weight).query(asked, 4, np.random.default_rng(0))
        assert sorted(crowd_of(asked, choice.rows)) == [1, 2, 3, 4]


def test_with_many_labels_herding_is_plain_margin_and_says_so() -> None:
    """From `margin_from` labels on: the same images, scores and name as `margin`."""
    asked = crowded(labeled=range(40), known=probabilities(300))
    expected = Margin().query(asked, 6, np.random.default_rng(0))
    choice = Herding(margin_from=40).query(asked, 6, np.random.default_rng(0))
    assert choice.strategy == "margin"
    assert np.array_equal(choice.rows, expected.rows)
    assert np.array_equal(choice.scores, expected.scores)
    assert choice.reasons == expected.reasons != ()
    assert Herding(margin_from=41).query(asked, 6, np.random.default_rng(0)).strategy is None


@pytest.mark.parametrize("parameters", [{"weight": "magrin"}, {"margin_from": -1}])
def test_a_herding_that_cannot_be_is_refused(parameters: dict[str, Any]) -> None:
    """ConfigError with the parameter's name."""
    with pytest.raises(ConfigError, match=rf"^herding\.{next(iter(parameters))} must"):
        Herding(**parameters)


@pytest.mark.parametrize("strategy", [Typical, Herding])
def test_a_batch_does_not_depend_on_the_features_unit(strategy: type[QueryStrategy]) -> None:
    """The kernel's width is measured in the pool's own spread, wherever its features lie."""
    near = strategy().query(crowded(), 8, np.random.default_rng(0))
    far = crowded(features=(crowds() * 16 + 64).astype(np.float32))
    assert np.array_equal(strategy().query(far, 8, np.random.default_rng(0)).rows, near.rows)


@pytest.mark.parametrize("strategy", [Typical, Herding])
def test_samples_of_a_large_pool_are_the_seeds(strategy: type[QueryStrategy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates and points are drawn: equal seeds ask the same images with the same scores, others other ones."""
    for name, size in (("N_CANDIDATES", 40), ("TYPICAL_CANDIDATES", 40), ("N_POINTS", 50), ("TYPICAL_POINTS", 50)):
        monkeypatch.setattr(herding, name, size)
    first, again, other = (strategy().query(crowded(), 6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.scores, again.scores)
    assert not np.array_equal(first.rows, other.rows)
    assert sorted(set(crowd_of(crowded(), first.rows))) == [0, 1, 2, 3, 4]


def test_picks_are_those_of_the_plain_greedy_rule() -> None:
    """Computing only the leading gains again changes nothing."""
    rng = np.random.default_rng(3)
    similarity, weights = rng.random((60, 80), dtype=np.float32), rng.random(80, dtype=np.float32)
    start = covered = rng.random(80, dtype=np.float32) / 2
    expected: list[int] = []
    for _ in range(20):
        gains = np.maximum(similarity - covered, 0).astype(np.float64) @ weights
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        covered = np.maximum(covered, similarity[expected[-1]])
    assert list(pick(similarity, weights, start, 20)) == expected


def test_an_image_stands_for_those_it_is_the_nearest_to() -> None:
    """Of all in the batch and all asked before; those themselves are not counted. In large pools it is scaled up."""
    features = np.array([[0], [1], [2], [10], [11], [12], [13], [20], [21]], dtype=np.float32)
    none = np.empty(0, dtype=np.int64)
    assert list(stands_for(features, np.array([1, 4]), np.array([7]))) == [2, 3]
    assert list(stands_for(features, np.array([1, 4]), none)) == [2, 5]
    line, picked = np.arange(1000, dtype=np.float32)[:, None], np.array([250, 750])
    counted = stands_for(line, picked, none)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(herding, "N_COUNTED", 100)
        np.testing.assert_allclose(stands_for(line, picked, none), counted, rtol=0.05)


@pytest.mark.parametrize("weights", [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5e6, 6e6]])
def test_samples_are_drawn_in_proportion_to_their_weights(weights: list[float]) -> None:
    """One after the other without replacement, also where two rows have nearly all the weight."""
    shares = np.array(weights) / sum(weights)
    expected = shares + [sum(shares[j] * shares[i] / (1 - shares[j]) for j in range(6) if j != i) for i in range(6)]
    rng, rows, of_pool = np.random.default_rng(0), np.array([1, 3, 5, 7, 9, 11]), np.full(12, 1e9)
    of_pool[rows] = weights
    drawn = [likeness.drawn(rows, 2, rng, of_pool) for _ in range(4000)]
    assert all(len(set(each)) == 2 for each in drawn)
    found = np.bincount(np.concatenate(drawn), minlength=12)[rows] / len(drawn)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_a_count_that_was_scaled_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason on the card is "about" the score; where every image was counted, the score speaks for itself."""
    assert Typical().query(crowded(), 3, np.random.default_rng(0)).reasons == ()
    monkeypatch.setattr(herding, "N_COUNTED", 150)
    choice = Herding().query(crowded(labeled=[0]), 3, np.random.default_rng(0))
    assert [one.words for one in choice.reasons] == [f"stands for about {int(score)} others" for score in choice.scores]
    assert herding.reason(0.0, "about ") == "stands for few others"


def test_a_reason_is_a_few_plain_words() -> None:
    """What the card says of a score."""
    assert [Herding.reason(score) for score in (0.0, 1.0, 1340.0)] == [
        "stands for itself alone",
        "stands for 1 other",
        "stands for 1,340 others",
    ]


def test_covering_many_labels_takes_little_memory() -> None:
    """By parts: the distances of 3,000 images to 6,000 labels are never all there at once (72 MB)."""
    features = np.random.default_rng(0).normal(size=(10_000, 4)).astype(np.float32)
    small = tiny_dataset(30)
    dataset = dataclasses.replace(small, ids=range(10_000), features=features, group=np.arange(10_000))
    labels = np.where(np.arange(10_000) < 6_000, 0, UNLABELED)
    asked = Pool(dataset, labels, Prediction(np.full((10_000, 2), 0.5)), np.arange(9_990, 10_000))
    tracemalloc.start()
    try:
        assert len(cover(asked, np.ones(10_000), 4, generator()).rows) == 4
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


# ---- diverse, by the graph, by classes


def plain_masses(asked: Pool) -> FloatArray:
    """(n, n) what a label of each column's image adds to each row's, by inverting the matrix of label spreading."""
    weights = asked.dataset.graph.affinity.toarray()
    roots = np.sqrt(weights.sum(axis=1))
    return np.asarray(np.linalg.inv(np.eye(len(roots)) - ALPHA * weights / roots / roots[:, None]))


def labeled_pool(n: int = 60, n_labeled: int = 6, seed: int = 5) -> Pool:
    """Three classes of which the first has most labels; three members that often disagree."""
    labels = np.full(n, UNLABELED)
    labels[:n_labeled] = np.maximum(np.arange(n_labeled) - n_labeled + 3, 0)
    members = tuple(probabilities(n, seed=seed + which) for which in range(3))
    prediction = Prediction(sum(members[1:], members[0]) / 3, members=members)
    return Pool(tiny_dataset(n), labels, prediction, np.arange(n_labeled, n), np.arange(n_labeled))


def plain_reason(name: str, asked: Pool, row: int) -> Reason:
    """What a card says, worked out image by image from the pool alone."""
    shares = asked.prediction.probabilities[row].tolist()
    order = sorted(range(len(shares)), key=lambda code: -shares[code])
    counts = [int((asked.labels == code).sum()) for code in range(len(shares))]
    worth = [share / (count + 1) ** 0.5 for share, count in zip(shares, counts, strict=True)]
    rare = worth.index(max(worth))
    if name == "least-confidence":
        return Reason("perhaps {0}, least sure", (order[0],))
    if name == "entropy":
        possible = tuple(code for code in order if shares[code] >= shares[order[0]] / 2)
        return Reason(["perhaps {0}", "between {0} and {1}", "could be {0}, {1} or {2}"][len(possible) - 1], possible)
    if name == "balance" and counts[rare] < sum(counts) / len(counts):
        return Reason(f"perhaps {{0}}, which has only {counts[rare]} label{'s' * (counts[rare] != 1)}", (rare,))
    return Reason("between {0} and {1}", tuple(order[:2]))


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("entropy", Entropy),
        ("margin", Margin),
        ("least-confidence", LeastConfidence),
        ("diverse-margin", DiverseMargin),
        ("balance", Balance),
    ],
)
def test_a_reason_is_true_of_the_pool_at_that_moment(name: str, strategy: type[QueryStrategy]) -> None:
    """Worked out anew by other means, it is the same for each image of the batch."""
    asked = labeled_pool()
    choice = strategy().query(asked, 54, np.random.default_rng(0))
    assert list(choice.reasons) == [plain_reason(name, asked, row) for row in choice.rows.tolist()]


@pytest.mark.parametrize("strategy", [GraphChange, GraphCoverage])
def test_an_image_is_said_to_weigh_most_for_no_more_others_than_it_does(
    strategy: type[QueryStrategy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others: unlabeled images to which its label would add more than all labels so far do. Small parts are dropped."""
    asked = labeled_pool()
    masses = plain_masses(asked)
    known = masses[:, asked.labels != UNLABELED].sum(axis=1)
    choice = strategy().query(asked, 20, np.random.default_rng(0))
    free = asked.labels == UNLABELED
    true = [int((masses[:, row] > known)[free].sum() - (masses[row, row] > known[row])) for row in choice.rows]
    counted = weighs_most_for(asked, Steps(asked.dataset.graph.affinity), choice.rows)
    assert (counted <= true).all()
    assert [reason.words for reason in choice.reasons] == [
        f"would weigh most for {n} other{'s' * (n != 1)}" if n else "between {0} and {1}" for n in counted.tolist()
    ]
    monkeypatch.setattr(graph_change, "LEAST", 1e-9)
    monkeypatch.setattr(graph_change, "N_TERMS", 500)
    assert np.abs(weighs_most_for(asked, Steps(asked.dataset.graph.affinity), choice.rows) - true).max() <= 1


def test_columns_and_masses_are_those_of_the_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing dropped; without rows that are labeled the inverse is that of the others' block."""
    monkeypatch.setattr(graph_change, "N_TERMS", 500)
    asked = labeled_pool()
    graph, masses = Steps(asked.dataset.graph.affinity), plain_masses(asked)
    free = asked.labels == UNLABELED
    rows = np.array([10, 40])
    np.testing.assert_allclose(graph.columns(rows, np.ones(60, bool), 1e-12).toarray(), masses[rows], atol=1e-8)
    block = np.linalg.inv(np.linalg.inv(masses)[np.ix_(free, free)])
    np.testing.assert_allclose(graph.columns(rows, free, 1e-12).toarray()[:, free], block[rows - 6], atol=1e-8)
    np.testing.assert_allclose(graph.mass(rows), masses[rows].sum(axis=0), atol=0.02)


@pytest.mark.parametrize("strategy", [DiverseMargin, Balance])
def test_a_diverse_batch_has_some_of_each_crowd(strategy: type[QueryStrategy]) -> None:
    """Where all are in equal doubt, the smallest crowds too; the smallest margins alone are those of one crowd."""
    asked = crowded()
    everything = dataclasses.replace(asked, candidates=asked.candidates[::6])
    assert set(crowd_of(asked, strategy().query(everything, 10, generator()).rows)) == {0, 1, 2, 3, 4}
    assert set(crowd_of(asked, Margin().query(everything, 10, generator()).rows)) == {0}


def test_balance_asks_first_for_what_may_be_of_a_class_with_few_labels() -> None:
    """Of crowds in equal doubt, those between classes with few labels come before larger ones of classes with many."""
    crowd = crowds().argmax(axis=1)
    known = np.where((crowd == 4)[:, None], [0.0, 0.5, 0.5], [0.6, 0.4, 0.0])
    asked = crowded(known=known)
    labels = asked.labels.copy()
    labels[np.flatnonzero(crowd == 3)[:15]] = 0
    first = Balance().query(dataclasses.replace(asked, labels=labels, candidates=np.arange(240, 300)), 1, generator())
    assert crowd_of(asked, first.rows) == [4]


@pytest.mark.parametrize("strategy", [GraphChange, GraphCoverage])
def test_by_the_graph_what_is_near_a_label_or_certain_waits(strategy: type[QueryStrategy]) -> None:
    """The first batch is of the doubtful crowds, though they are the smallest."""
    crowd = crowds().argmax(axis=1)
    known = np.where((crowd < 3)[:, None], [0.98, 0.02, 0.0], [0.4, 0.35, 0.25])
    asked = crowded(known=known, labeled=[0, 1, 2])
    dataset = dataclasses.replace(asked.dataset, graph=build_graph(crowds(), n_neighbors=5))
    choice = strategy().query(dataclasses.replace(asked, dataset=dataset), 2, generator())
    assert set(crowd_of(asked, choice.rows)) <= {3, 4}


def test_one_class_known_is_said_as_it_is() -> None:
    """Reasons name no class that the model does not hold possible, and count ties."""
    certain = pool(np.ones((4, 1)))
    assert [strategy().query(certain, 1, generator()).reasons for strategy in UNCERTAIN] == [
        (Reason("surely {0}", (0,)),)
    ] * 3
    unseen = pool(np.tile([1.0, 0.0, 0.0], (4, 1)))
    assert [strategy().query(unseen, 1, generator()).reasons for strategy in UNCERTAIN] == [
        (Reason("surely {0}", (0,)),)
    ] * 3
    even = pool(np.full((4, 8), 1 / 8))
    assert Margin().query(even, 1, generator()).reasons == (Reason("could be any of 8 classes"),)
