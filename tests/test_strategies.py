"""What each strategy asks for, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from annotator.strategies.random import Random
from annotator.strategies.uncertainty import Entropy, LeastConfidence, Margin, entropy, least_confidence, margin, top_k
from annotator.types import FloatArray, Pool, Prediction, QueryStrategy
from tests.builders import tiny_dataset

Measure = Callable[[FloatArray], FloatArray]

MEASURES = (entropy, margin, least_confidence)
UNCERTAIN = (Entropy, Margin, LeastConfidence)


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


@pytest.mark.parametrize("strategy", [*UNCERTAIN, Random])
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
