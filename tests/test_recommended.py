"""What `recommended` asks for: by labels per class, with classes that have no label and rare ones looked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator.config import Config
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.strategies import herding, recommended
from annotator.strategies.herding import Herding, herded, stands_for
from annotator.strategies.recommended import BALANCE, FAR, MAY_BE_NEW, Recommended
from annotator.strategies.uncertainty import margin
from annotator.types import UNLABELED, Choice, FloatArray, IntArray, Pool, Prediction, RowFigures
from tests.builders import tiny_dataset

N_CROWDS = 6


def crowd_of(rows: IntArray, n: int = 300) -> IntArray:
    """Images lie in crowds of equal size, one after the other."""
    return np.asarray(rows * N_CROWDS // n)


def crowded(labels: Mapping[int, int], probabilities: FloatArray, evidence: FloatArray | None = None) -> Pool:
    """A pool of 300 images in six crowds; labels by row."""
    n = len(probabilities)
    rng = np.random.default_rng(0)
    at = 4 * np.eye(N_CROWDS)[crowd_of(np.arange(n))] + rng.normal(0, 0.2, (n, N_CROWDS))
    given = np.full(n, UNLABELED)
    given[list(labels)] = list(labels.values())
    dataset = dataclasses.replace(tiny_dataset(n), features=at.astype(np.float32))
    return Pool(dataset, given, Prediction(probabilities, evidence), np.flatnonzero(given == UNLABELED))


def beliefs(n_classes: int, n: int = 300, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.5), size=n)


def ask(pool: Pool, size: int = 10, **parameters: int) -> Choice:
    return Recommended(**parameters).query(pool, size, np.random.default_rng(0))


def test_it_changes_over_by_labels_per_class_not_by_labels() -> None:
    """A hundred labels of two classes are many, of a hundred classes few; only classes with labels count."""
    two, hundred = ({row: row % k for row in range(100)} for k in (2, 100))
    assert ask(crowded(two, beliefs(2))).strategy == "margin"
    assert ask(crowded(hundred, beliefs(100))).strategy == "herding"
    assert ask(crowded(two, beliefs(20))).strategy == "margin"
    assert ask(crowded(two, beliefs(2)), margin_from_per_class=51).strategy == "herding"


def test_with_equally_many_labels_of_every_class_it_is_herding_then_margin() -> None:
    """The same images and scores as those strategies ask for."""
    pool = crowded({row: row % 3 for row in range(30)}, beliefs(3))
    for strategy, parameters in (
        (Herding(margin_from=1000), {}),
        (Herding(margin_from=0), {"margin_from_per_class": 0}),
    ):
        expected, choice = strategy.query(pool, 8, np.random.default_rng(0)), ask(pool, 8, **parameters)
        assert np.array_equal(choice.rows, expected.rows)
        np.testing.assert_allclose(choice.scores, expected.scores)


def searching(margin_from: int, step: int = 25, size: int = 10) -> Choice:
    """Four of six classes have labels; labels reach all but the last two crowds, and the model doubts all alike."""
    rows = np.arange(300)
    labels = {int(row): int(crowd) for row, crowd in zip(rows, crowd_of(rows), strict=True) if crowd < 4}
    labels = {row: crowd for row, crowd in labels.items() if row % step == 0}
    evidence = np.where(crowd_of(rows) < 4, 1.0, 0.01)
    pool = crowded(labels, np.tile([0.3, 0.3, 0.2, 0.2, 0, 0], (300, 1)), evidence)
    return ask(pool, size, margin_from_per_class=margin_from)


@pytest.mark.parametrize("margin_from", [1000, 0])
def test_classes_without_labels_are_looked_for_where_no_label_reaches(margin_from: int) -> None:
    """Before and after the changeover; once every class has a label nothing is said of new ones."""
    choice = searching(margin_from)
    new = crowd_of(choice.rows[[reason == MAY_BE_NEW for reason in choice.reasons]])
    assert {4, 5} == set(new.tolist())
    complete = crowded({row: row % 3 for row in range(30)}, beliefs(3), np.linspace(0, 1, 300))
    assert MAY_BE_NEW not in ask(complete, margin_from_per_class=margin_from).reasons


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[IntArray]:
    """The herded parts of batches, those that look for new classes first."""
    found: list[IntArray] = []

    def kept(*given: Any) -> IntArray:  # Any: as herded takes them
        found.append(herded(*given))
        return found[-1]

    monkeypatch.setattr(recommended, "herded", kept)
    return found


def test_the_search_fades_with_labels_per_class(parts: list[IntArray]) -> None:
    """A class that is not in the pool does not cost a part of every batch for ever."""
    for step, n_expected in ((50, 40 * 0.3 / 1.1), (5, 40 * 0.3 / 2), (1, 40 * 0.3 / 6)):  # 1, 10 and 50 labels a class
        parts.clear()
        searching(0, step, 40)
        assert len(parts) == 1
        assert len(parts[0]) in (int(n_expected), int(n_expected) + 1)


@pytest.mark.parametrize(("low", "is_far"), [(0.01, True), (0.6, False)])
def test_only_what_is_looked_for_may_be_new(parts: list[IntArray], low: float, is_far: bool) -> None:
    """And only where label mass is far below the median, not where it is just below."""
    evidence = np.where(np.arange(300) < 200, 1.0, low)
    choice = ask(crowded({0: 0, 100: 1}, np.full((300, 3), 1 / 3), evidence), 40)
    said = choice.rows[[reason == MAY_BE_NEW for reason in choice.reasons]]
    expected = parts[0][parts[0] >= 200] if is_far else []
    assert sorted(said) == sorted(expected)
    assert np.count_nonzero(choice.rows >= 200) > len(said)
    assert bool(len(said)) == is_far


def test_an_image_like_no_other_is_not_what_is_looked_for() -> None:
    """Density counts: of images that no label reaches a crowd comes first, and one that lies alone is left."""
    pool = crowded({0: 0, 1: 0, 60: 1}, np.full((300, 3), 1 / 3), np.where(np.arange(300) < 250, 1.0, 0.0))
    alone = 299
    pool.dataset.features[alone] = -50
    assert alone not in ask(pool, 3).rows


def test_doubt_about_a_rare_class_counts_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal margins: images that may be of the class with few labels weigh more in the herding, and say so."""
    probabilities = np.tile([0.5, 0.5, 0.0], (300, 1))
    probabilities[200:210] = [0.0, 0.5, 0.5]
    probabilities[200:205] = [0.0, 0.45, 0.55]
    labels = {row: 2 if row == 0 else row % 2 for row in range(40)}
    pool = crowded(labels, probabilities)
    given: list[FloatArray] = []
    herded = recommended.herded
    monkeypatch.setattr(
        recommended, "herded", lambda pool, doubt, *rest: (given.append(doubt), herded(pool, doubt, *rest))[1]
    )
    choice = ask(pool, 200)
    n_of = np.bincount(list(labels.values()))
    np.testing.assert_allclose(given[0], margin(probabilities) * (probabilities @ (n_of.mean() / n_of) ** BALANCE))
    said = dict(zip(choice.rows.tolist(), choice.reasons, strict=True))
    rare = [row for row in range(200, 205) if row in said]
    assert rare
    assert {(said[row].words, said[row].classes) for row in rare} == {("may be {0}, a class you have few of", (2,))}


def test_from_the_changeover_on_the_smallest_margins_are_asked_whatever_their_class() -> None:
    """Doubt is the margin alone there, and the reason names the two classes."""
    probabilities = np.tile([0.5, 0.5, 0.0], (300, 1))
    probabilities[200:210] = [0.0, 0.45, 0.55]
    pool = crowded({row: 2 if row == 0 else row % 2 for row in range(40)}, probabilities)
    choice = ask(pool, 10, margin_from_per_class=0)
    assert not set(choice.rows.tolist()) & set(range(200, 210))
    np.testing.assert_array_equal(choice.scores, margin(probabilities[choice.rows]))
    assert {(said.words, said.classes) for said in choice.reasons} == {("between {0} and {1}", (0, 1))}


@pytest.mark.parametrize("margin_from", [1000, 0])
def test_every_reason_is_true(margin_from: int) -> None:
    """Computed anew from the pool: whom it stands for, between which classes, of which there are few."""
    n_of = np.array([20, 20, 20, 2, 0])
    labels = dict(enumerate(np.repeat(np.arange(5), n_of).tolist()))
    evidence = np.random.default_rng(1).random(300)
    pool = crowded(labels, beliefs(5, seed=3), evidence)
    choice = ask(pool, 40, margin_from_per_class=margin_from)
    seen = set()
    for row, score, reason in zip(choice.rows.tolist(), choice.scores.tolist(), choice.reasons, strict=True):
        first, second = np.argsort(-pool.prediction.probabilities[row])[:2].tolist()
        seen.add(reason.words.split()[0])
        if reason == MAY_BE_NEW:
            assert evidence[row] < FAR * np.median(evidence)
        elif "few of" in reason.words:
            assert reason.classes == (first,) == (3,)
        elif margin_from:
            assert f"{round(score)} other" in reason.words or reason.words == "stands for itself alone"
        else:
            assert (reason.words, reason.classes) == ("between {0} and {1}", (first, second))
    assert {"may", "stands" if margin_from else "between"} <= seen


def test_a_negative_number_of_labels_is_refused() -> None:
    """ConfigError with the parameter's name."""
    with pytest.raises(ConfigError, match=r"^recommended\.margin_from_per_class must"):
        Recommended(margin_from_per_class=-1)


@pytest.mark.parametrize(("n_known", "strategy", "crowds"), [(1, "typical", [1, 2, 3]), (2, "herding", [2, 3])])
def test_labels_known_at_the_start_count_as_chosen(
    n_known: int, strategy: str, crowds: list[int], tmp_path: Path, projects: Path
) -> None:
    """The first batch leaves crowds with a known label to the others, whether the model knows two classes or one."""
    rng, truth = np.random.default_rng(0), np.arange(60) % 4
    images = rng.integers(0, 40, (60, 8, 8), dtype=np.uint8)
    for crowd, corner in enumerate([np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4], np.s_[4:, 4:]]):
        images[truth == crowd, *corner] += 200
    np.savez(tmp_path / "crowds.npz", images=images, labels=truth)
    config = Config(source="arrays", source_parameters={"path": str(tmp_path / "crowds.npz")}, encoder="pixels")
    config = dataclasses.replace(config, model="vote", strategy="recommended", initial=f"first:{n_known}")
    project = Project.create(projects / "made", dataclasses.replace(config, batch_size=len(crowds), audit_share=0.0))
    session = project.session("ada")
    session.advance()
    assert {card.strategy for card in session.remaining} == {strategy}
    assert sorted(truth[[card.row for card in session.remaining]].tolist()) == crowds
    project.close()


@pytest.mark.parametrize("size", [1, 7])
def test_identical_images_are_never_in_one_batch(size: int) -> None:
    """Not in its two parts either, and a batch of one is one image, whichever part it falls to."""
    labels = {row: row % 2 for row in range(20)}
    pool = crowded(labels, np.full((300, 3), 1 / 3), np.linspace(0, 1, 300))
    pool = dataclasses.replace(pool, dataset=dataclasses.replace(pool.dataset, group=np.arange(300) // 60 * 60))
    for seed in range(4):
        rows = Recommended().query(pool, size, np.random.default_rng(seed)).rows
        assert len(rows) == min(size, 5)
        assert len(set((rows // 60).tolist())) == len(rows)


def test_a_batch_is_chosen_in_one_thread_and_its_images_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, the measure of doubt too: the same bits on any number of cores."""
    within, counted = [], []

    @contextmanager
    def watched(_n_threads: int) -> Iterator[None]:
        within.append(True)
        yield
        within.pop()

    def counting(*given: Any) -> IntArray:  # Any: as stands_for takes them
        counted.append(len(given[1]))
        return stands_for(*given)

    def measured(self: RowFigures, measure: Any) -> FloatArray:  # Any: as RowFigures takes it
        assert within
        return of_rows(self, measure)

    of_rows = RowFigures.measured
    monkeypatch.setattr(RowFigures, "measured", measured)
    monkeypatch.setattr(recommended, "at_most", watched)
    monkeypatch.setattr(herding, "stands_for", counting)
    pool = crowded({row: row % 2 for row in range(20)}, beliefs(3), np.linspace(0, 1, 300))
    assert len(ask(pool, 10).rows) == 10
    assert counted == [10]
