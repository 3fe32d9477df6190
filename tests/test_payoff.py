"""Whether a strategy pays: what is compared with what, the figures against a plain count, and what is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.datasets import load_digits

from annotator import payoff, registry, reports
from annotator.config import Config
from annotator.errors import ModelError
from annotator.payoff import AUDIT, TRUTH, Measurement, Payoff, Waiting
from annotator.project import Project
from annotator.reports import Answered
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.types import UNLABELED
from annotator.workspace import Payoffs, Workspace
from annotator.workspace import payoffs as running

KNOWN = Config(name="known", source="digits", limit=400, batch_size=20, model="label-spreading", strategy="margin")
SECONDS = 60.0
Opened = Callable[..., Project]


@pytest.fixture
def opened(projects: Path) -> Iterator[Opened]:
    """A function (config, rounds) -> a project whose oracle has answered so many rounds."""
    made: list[Project] = []

    def make(config: Config = KNOWN, n_rounds: int = 0) -> Project:
        made.append(Project.create(projects / config.name, config))
        play(made[-1], n_rounds)
        return made[-1]

    yield make
    for project in made:
        project.close()


@pytest.fixture
def unknown(tmp_path: Path) -> Config:
    """Digits whose truth the project is not told; half of what is asked is drawn for the audit."""
    np.savez(tmp_path / "digits.npz", images=load_digits().images.astype(np.uint8)[:400])
    return replace(
        KNOWN,
        name="unknown",
        source="arrays",
        source_parameters={"path": str(tmp_path / "digits.npz")},
        limit=None,
        classes=tuple("0123456789"),
        audit_share=0.5,
    )


def play(project: Project, n_rounds: int) -> None:
    session = project.session("you")
    for _ in range(n_rounds):
        session.advance()
        for card in session.remaining:
            session.label(card.image_id, str(digit(card.image_id)))


def wait(payoffs: Payoffs, project: Project) -> None:
    deadline = time.monotonic() + SECONDS
    while payoffs.is_looking(project) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not payoffs.is_looking(project)


def digit(image_id: str) -> int:
    return int(load_digits().target[int(image_id.rpartition("/")[2])])


def answered(project: Project) -> list[Answered]:
    """In the order in which they were asked."""
    return [image for images in reports.rounds(project.session("you").moment()) for image in images]


def measurement(project: Project) -> Measurement:
    found = reports.measurement(project.session("you").moment())
    assert isinstance(found, Measurement)
    return found


def waiting(project: Project) -> str:
    found = reports.strategy_payoff(project.session("you").moment())
    assert isinstance(found, Waiting)
    return found.reason


# ---- what is compared


def test_it_is_measured_at_round_numbers_of_labels() -> None:
    """So that the figure does not depend on when it is worked out; half as many again, or a third more, each time."""
    assert list(payoff.sizes(39)) == []
    assert list(payoff.sizes(200)) == [40, 60, 80, 120, 160]


def test_the_first_labels_of_the_strategy_count_with_the_batch_before_a_model(opened: Opened) -> None:
    """By their answers; a tenth more of them changes nothing."""
    project = opened(n_rounds=3)
    asked = [image.row for image in answered(project)]
    before = measurement(project)
    assert (before.chosen.rows.tolist(), len(before.given)) == (asked, 0)
    assert before.chosen.codes.tolist() == [digit(before.dataset.ids[row]) for row in asked]
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project), session.remaining[:6])
    assert measurement(project).key == before.key
    assert payoff.measured(measurement(project)) == payoff.measured(before)


def test_what_was_there_before_the_strategy_is_on_both_sides(opened: Opened) -> None:
    """Labels known from the start, and those that another strategy chose: to build on them is no fault."""
    project = opened(replace(KNOWN, initial="10"), 1)
    project.change(strategy="entropy")
    assert waiting(project) == "It needs 40 labels of images that entropy chose, and has 0."
    play(project, 2)
    found = measurement(project)
    assert (found.spell.strategy, len(found.given), len(found.chosen)) == ("entropy", 30, 40)
    both = payoff.measurements_of(project.session("you").moment().snapshot, project.learner)
    assert [one.spell.strategy for one in both] == ["entropy"]  # margin chose 20, which are too few
    measured = payoff.measured(found)
    assert "At 40 labels each beside the 30 that were there before" in measured.in_words


def test_settings_that_leave_the_strategy_alone_do_not_begin_it_anew(opened: Opened) -> None:
    """Another batch size or model: the labels stay those of the strategy, and another model is another measurement."""
    project = opened(n_rounds=2)
    before = measurement(project)
    project.change(batch_size=10)
    assert measurement(project).key == before.key
    project.change(model="knn")
    assert (measurement(project).spell.first, measurement(project).key == before.key) == (1, False)


def test_audit_answers_are_the_random_labels_where_no_truth_is_known(opened: Opened, unknown: Config) -> None:
    """A quarter more of them than there are labels on a side: five folds of them are held back in turn."""
    project = opened(unknown, 5)
    found = measurement(project)
    assert (found.measured_on, len(found.chosen), len(found.others)) == (AUDIT, 40, 50)
    assert found.others.rows.tolist() == project.learner.audit_rows[:50].tolist()
    assert not np.isin(found.chosen.rows, project.learner.audit_rows).any()


def test_images_beside_the_batch_are_not_the_strategys(opened: Opened) -> None:
    """Those to confirm are on neither side: they were not chosen to teach."""
    project = opened(replace(KNOWN, confirm_share=0.5), 5)
    strategy_of = {card.row: card.question.strategy for card in answered(project) if card.question}
    found = measurement(project)
    assert {strategy_of[row] for row in found.chosen.rows.tolist()} == {"typical", "margin"}
    assert (list(strategy_of.values()).count("confirm") > 20, len(found.given)) == (True, 0)


def test_labels_that_were_changed_keep_their_place(opened: Opened) -> None:
    """In the order of their first answers: an image that is answered anew is not chosen later. The truth is the same,
    so nothing is measured again.
    """
    project = opened(n_rounds=2)
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project), session.remaining[:6])
    before, first = measurement(project), answered(project)[0].image_id
    session.label(first, str((digit(first) + 1) % 10))
    assert measurement(project).chosen.rows.tolist() == before.chosen.rows.tolist()
    assert measurement(project).key == before.key


def test_other_labels_are_another_measurement(opened: Opened, unknown: Config) -> None:
    """Where they are what it is measured by, on each side; and with another class."""
    project = opened(unknown, 5)
    session, keys = project.session("you"), [measurement(project).key]
    for row in (measurement(project).chosen.rows[0], measurement(project).others.rows[0]):
        image_id = project.learner.dataset.ids[row]
        session.label(image_id, str((digit(image_id) + 1) % 10))
        keys.append(measurement(project).key)
    session.add_class("eleven")
    keys.append(measurement(project).key)
    assert len(set(keys)) == 4


# ---- the figures


def guesses(found: Measurement, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    labels = np.full(len(found.dataset), UNLABELED)
    labels[rows] = codes
    model = registry.create("model", *found.model)
    return np.asarray(model.fit_predict(found.dataset, labels, 10).probabilities.argmax(axis=1))


def test_audit_figures_are_a_plain_count(opened: Opened, unknown: Config) -> None:
    """Each audit image by a fit without its fold, and by one fit on the strategy's labels; a paired interval."""
    project = opened(unknown, 5)
    found = measurement(project)
    measured, audit = payoff.measured(found), found.others
    by_chosen = guesses(found, found.chosen.rows, found.chosen.codes)[audit.rows] == audit.codes
    by_drawn = np.zeros(50, dtype=bool)
    for place in range(50):
        others = [other for other in range(50) if other % 5 != place % 5]
        said = guesses(found, audit.rows[others], audit.codes[others])
        by_drawn[place] = said[audit.rows[place]] == audit.codes[place]
    assert (measured.right_chosen, measured.right_random) == (by_chosen.mean(), by_drawn.mean())
    error = 1.5 * (by_chosen.astype(float) - by_drawn).std(ddof=1) / 50**0.5
    middle = by_chosen.mean() - by_drawn.mean()
    expected = middle - 1.96 * error, middle + 1.96 * error, middle + 2.576 * error
    assert (measured.low, measured.high, measured.high_99) == pytest.approx(expected, abs=1e-4)
    assert f"{by_chosen.sum()} of 50 right against {by_drawn.sum()} by labels drawn at random" in measured.in_words


def test_labels_that_leave_classes_out_teach_less(opened: Opened) -> None:
    """With a verdict, and the figure of each side on images that neither has labels of."""
    project = opened(n_rounds=2)
    found = measurement(project)
    assert found.measured_on == TRUTH
    zeros_and_ones = np.flatnonzero(found.others.codes < 2)[:40]
    measured = payoff.measured(replace(found, chosen=found.others.at(zeros_and_ones)))
    assert (measured.trails, measured.pays, measured.n_enough) == (True, False, None)
    assert measured.right_chosen < 0.3 < 0.6 < measured.right_random
    assert 300 < measured.n_images < 360
    assert "teach less: " in measured.in_words
    assert f"{100 * measured.right_chosen:.1f} % right against {100 * measured.right_random:.1f} %" in measured.in_words


def test_labels_that_stand_for_all_teach_more_and_save_some(opened: Opened) -> None:
    """It is said how few of them would have done, where those surely teach no less than all that were drawn."""
    found = measurement(opened(n_rounds=2))
    features, nearest = found.dataset.features[found.others.rows], []
    for code in range(10):
        places = np.flatnonzero(found.others.codes == code)
        away = np.linalg.norm(features[places] - features[places].mean(axis=0), axis=1)
        nearest.append(places[away.argsort()[:2]])
    found = replace(found, chosen=found.others.at(np.array(nearest).T.ravel()))
    measured = payoff.measured(found)
    assert (measured.pays, measured.trails, measured.n_each) == (True, False, 20)
    lows = {n: low_of_first(found, n) for n in (5, 10, 15)}
    assert measured.n_enough == next(n for n, low in lows.items() if low >= 0)
    assert measured.in_words.endswith(
        f"About {measured.n_enough} of its labels are as good as 20 drawn at random: it saves about "
        f"{20 - measured.n_enough}."
    )


def low_of_first(found: Measurement, n: int) -> float:
    """Lower end of the 95 % interval for the first n chosen against all of those drawn, on the same images."""
    rng, differences = np.random.default_rng([20, 4]), []
    by_first = guesses(found, found.chosen.rows[:n], found.chosen.codes[:n])
    for _ in range(8):
        places = rng.permutation(len(found.others))
        drawn, rest = found.others.at(places[:20]), found.others.at(places[20:])
        rest = rest.at(~np.isin(rest.rows, found.chosen.rows))
        by_drawn = guesses(found, drawn.rows, drawn.codes)
        differences.append(np.mean(by_first[rest.rows] == rest.codes) - np.mean(by_drawn[rest.rows] == rest.codes))
    return float(np.mean(differences) - 2.365 * np.std(differences, ddof=1) * (1 + 1 / 8) ** 0.5)


def test_a_warning_needs_more_than_a_verdict() -> None:
    """It is looked at size after size: at 99 % each, a strategy as good as random is seldom ever warned of."""
    found = Payoff("margin", 1, AUDIT, 80, 0, 100, 0.61, 0.74, -0.24, -0.02, 0.01)
    assert (found.trails, found.warns) == (True, False)
    assert replace(found, high_99=-0.001).warns


def test_an_interval_with_zero_in_it_is_no_verdict() -> None:
    """Neither side is said to be better; minus signs are those of text."""
    found = Payoff("margin", 1, AUDIT, 80, 0, 100, 0.71, 0.74, -0.21, 0.15, 0.21)
    assert (found.trails, found.pays) == (False, False)
    assert found.in_words == (
        "At 80 labels each, it cannot be told yet whether those that margin chose teach more or less: 71 of 100 right "
        "against 74 by labels drawn at random (audit images, 95 % interval of the difference −21 to 15 points)."
    )


def test_a_verdict_names_the_difference_in_its_own_direction() -> None:
    """Trailing by 5 to 21 points, not by -21 to -5."""
    found = Payoff("entropy", 1, AUDIT, 80, 0, 100, 0.61, 0.74, -0.21, -0.05, -0.02)
    assert found.in_words == (
        "At 80 labels each, those that entropy chose teach less: 61 of 100 right against 74 by labels drawn at random "
        "(audit images, 95 % interval of the difference 5 to 21 points)."
    )


# ---- what cannot be measured


def test_it_says_what_is_missing(opened: Opened, unknown: Config) -> None:
    """Audit answers, labels, images, a way to measure at all."""
    assert waiting(opened(unknown, 1)) == "It needs 50 answers to audit images, and has 10."
    assert waiting(opened(n_rounds=1)) == "It needs 40 labels of images that margin chose, and has 20."
    small = replace(KNOWN, name="small", limit=60)
    assert waiting(opened(small, 1)) == (
        "60 images that had no label before margin are too few to measure it: they are soon labeled."
    )
    blind = replace(unknown, name="blind", audit_share=0.0)
    assert waiting(opened(blind, 1)).startswith("Nothing to measure it by")


def test_labels_from_before_leave_no_images_to_measure_on(opened: Opened) -> None:
    """What counts is the pool without them: of 250 images 45 are left, fewer than both sides would take."""
    crowded = replace(KNOWN, limit=250, initial="205")
    assert waiting(opened(crowded)) == (
        "45 images that had no label before margin are too few to measure it: they are soon labeled."
    )


def test_enough_images_are_left_to_measure_on(opened: Opened) -> None:
    """At the smallest pool that is measured, 100 at the least."""
    assert waiting(opened(replace(KNOWN, limit=210, initial="11"), 2)).startswith("199 images that had no label")
    found = payoff.measured(measurement(opened(replace(KNOWN, name="least", limit=210, initial="10"), 2)))
    assert (found.n_each, found.n_images >= 100) == (40, True)


def test_random_and_models_that_train_a_network_are_not_measured(opened: Opened) -> None:
    """The one is the measure itself; the others would take minutes."""
    project = opened(replace(KNOWN, strategy="random"))
    assert waiting(project) == "random is what the other strategies are measured against."
    project.change(strategy="margin", model="encoder-classifier")
    assert waiting(project).startswith("Not with the model encoder-classifier")


# ---- beside the labeling


def test_it_leaves_the_model_and_the_next_batch_alone(opened: Opened) -> None:
    """The prediction is the same object, and the batch after it that of a project where nothing was measured."""

    def next_batch(session: Session) -> list[str]:
        session.advance()
        return [card.image_id for card in session.remaining]

    measured, left_alone = opened(n_rounds=3), opened(replace(KNOWN, name="twin"), 3)
    before = measured.learner.prediction
    payoff.measured(measurement(measured))
    assert measured.learner.prediction is before
    assert next_batch(measured.session("you")) == next_batch(left_alone.session("you"))


def test_the_workspace_measures_after_a_batch_and_keeps_the_newest(projects: Path) -> None:
    """In a thread, the same figures as here; those of a strategy that was left stay beside the next one's."""
    workspace = Workspace(projects)
    project = workspace.open(workspace.create(KNOWN))
    session = project.session("you")

    def batches(n: int) -> None:
        for _ in range(n):
            workspace.look_ahead(project).advance(session)
            answer_batch(session, oracle_of(project))
        workspace.look_ahead(project).advance(session)
        wait(workspace.payoffs, project)

    batches(2)
    assert workspace.payoffs.found(project) == (reports.strategy_payoff(session.moment()),)
    batches(1)
    at_sixty = workspace.payoffs.found(project)
    assert [found.n_each for found in at_sixty if isinstance(found, Payoff)] == [60]
    project.change(strategy="entropy")
    batches(3)  # the open one is margin's
    names = [found.strategy for found in workspace.payoffs.found(project) if isinstance(found, Payoff)]
    assert names == ["entropy", "margin"]
    workspace.close()


@pytest.mark.parametrize("error", [MemoryError("none left"), ModelError("No graph.")])
def test_a_fault_is_said_until_there_are_more_labels(error: Exception, opened: Opened) -> None:
    """Of whatever kind, it ends the looking, and nobody looks again before the next batch does."""
    broken, payoffs = Mock(folder=Path("broken")), Payoffs()
    broken.store.snapshot.side_effect = error
    payoffs.look(broken)
    wait(payoffs, broken)
    known = payoffs.of_spell(broken, 1)
    assert isinstance(known, Waiting)
    assert str(error) in known.reason
    broken.store.snapshot = opened().store.snapshot
    broken.learner = opened(replace(KNOWN, name="well")).learner
    payoffs.look(broken)
    wait(payoffs, broken)
    assert payoffs.of_spell(broken, 1) is None


def test_the_newest_comes_first_while_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy's older figure stays until the next one is there, each in its place."""
    project, payoffs = Mock(folder=Path("any")), Payoffs()
    seen: list[list[str]] = []

    def measure(wanted: Mock) -> Waiting:
        seen.append([found.reason for found in payoffs.found(project) if isinstance(found, Waiting)])
        return Waiting(f"{wanted.spell.first} at {wanted.key[1]}")

    monkeypatch.setattr(running, "measured", measure)
    for size in (40, 60):
        wanted = [Mock(key=(since, size), spell=Mock(first=since)) for since in (2, 1)]
        monkeypatch.setattr(running, "measurements_of", Mock(return_value=wanted))
        payoffs.look(project)
        wait(payoffs, project)
    assert seen == [[], ["2 at 40"], ["2 at 40", "1 at 40"], ["2 at 60", "1 at 40"]]
