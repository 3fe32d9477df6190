"""Labels that contradict what surrounds them are asked again: which, and what becomes of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from annotator import reports
from annotator.config import Config
from annotator.errors import ConfigError, StoreError
from annotator.exporters.gather import gather
from annotator.exporters.rows import ExportRow
from annotator.project import Project
from annotator.purposes import REVIEW
from annotator.reasons import in_words
from annotator.second_looks import LEAD, contradiction, second_looks
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of, simulate
from annotator.store import Answer, Deciding, Event, ImageRecord, Question, Store, answers, log, questions
from annotator.types import Prediction
from tests import storing
from tests.test_store import question as train_question

NOISY = Config(
    name="noisy", source="digits", source_parameters={"held_out": 100}, limit=150, encoder="pixels", batch_size=6,
    model="label-spreading", strategy="margin", seed=3, ask_again_share=0.34, rounds=10,
)  # fmt: skip
ERROR_RATE = 0.4


# ---- which


def test_the_labels_that_their_own_model_doubts_most_come_first() -> None:
    """The score is by how much the likeliest other class leads the label; where the label leads by far it is left."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.3, 0.1, 0.6], [0.45, 0.4, 0.15], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    labels = np.array([0, 0, 0, 0, -1])
    scores, others = contradiction(probabilities[:4], labels[:4])
    assert scores == pytest.approx([-0.8, 0.3, -0.05, 0.5])
    assert others.tolist() == [1, 2, 1, 1]
    prediction = Prediction(probabilities)
    found = second_looks(prediction, labels, np.arange(4), 9)
    assert found.rows.tolist() == [3, 1, 2]
    assert [reason.classes for reason in found.reasons] == [(0, 1), (0, 2), (0, 1)]
    assert second_looks(prediction, labels, np.arange(4), 1).rows.tolist() == [3]
    assert second_looks(prediction, labels, np.empty(0, dtype=np.int64), 5).rows.tolist() == []


def test_doubt_is_that_of_calibrated_probabilities() -> None:
    """At a temperature of a half probabilities are squared: what looked close is not."""
    probabilities, labels, rows = np.array([[0.6, 0.4], [0.55, 0.45]]), np.array([0, 0]), np.arange(2)
    assert second_looks(Prediction(probabilities), labels, rows, 9).rows.tolist() == [1, 0]
    found = second_looks(Prediction(probabilities, temperature=0.5), labels, rows, 9)
    assert found.scores == pytest.approx([(0.45**2 - 0.55**2) / (0.45**2 + 0.55**2), (0.4**2 - 0.6**2) / 0.52])
    assert second_looks(Prediction(probabilities, temperature=0.1), labels, rows, 9).rows.tolist() == []


def test_with_one_class_nothing_is_contradicted() -> None:
    assert second_looks(Prediction(np.ones((3, 1))), np.zeros(3, dtype=np.int64), np.arange(3), 5).rows.tolist() == []


def test_a_share_of_more_than_half_is_refused() -> None:
    """Most of a batch is to teach something new."""
    with pytest.raises(ConfigError):
        Config(ask_again_share=0.6)


# ---- a second question about one image in the store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "p" / "project.sqlite", "twice", 0)
    storing.add_classes(made, ["a", "b"])
    storing.add_images(made, (ImageRecord(f"{row}.png", row) for row in range(3)))
    return made


@pytest.fixture
def me(store: Store) -> str:
    return storing.annotator(store, "ada").annotator_id


@pytest.fixture
def first(store: Store, me: str) -> Event:
    """The answer that is doubted."""
    return store.append(answers.answer, storing.offer(store, [train_question("0.png")], me)[0], me, "label", 0)


@pytest.fixture
def again(store: Store, me: str, first: Event) -> Question:
    """The question that asks a second time."""
    question = replace(train_question("0.png"), round=3, purpose=REVIEW.name, chosen_at_seq=first.seq)
    [asked] = storing.offer(store, [question], me)
    return asked


def standing(store: Store) -> dict[str, int | None]:
    return {str(event.image_id): event.class_id for event in storing.current(store)}


def open_rounds(store: Store, annotator_id: str) -> list[int]:
    return [asked.round for asked in storing.open_questions(store, annotator_id)]


def given(asked: Question, class_id: int) -> Answer:
    return Answer("answer", asked.event_id, asked.question_id, class_id=class_id)


@pytest.mark.parametrize("class_id", [0, 1])
def test_the_answer_to_a_second_look_stands_in_the_place_of_the_first(
    store: Store, me: str, first: Event, again: Question, class_id: int
) -> None:
    """An event like any other, also where it says the same again; the log is whole, and a reopened store agrees."""
    assert standing(store) == {"0.png": 0}
    event = store.append(answers.give, me, given(again, class_id))
    assert (event.supersedes, event.question_id) == (first.event_id, again.question_id)
    assert (standing(store), open_rounds(store, me), storing.n_labels(store)) == ({"0.png": class_id}, [], 1)
    store.close()
    reopened = Store(store.path)
    assert (standing(reopened), open_rounds(reopened, me), reopened.verify()) == ({"0.png": class_id}, [], [])


def test_an_undo_goes_back_answer_by_answer_and_asks_each_question_again(
    store: Store, me: str, first: Event, again: Question
) -> None:
    """First the second look is open again and the first label holds; then both questions are open."""
    store.append(answers.give, me, given(again, 1))
    seen = []
    for _ in range(3):
        store.append(answers.undo, me)
        seen.append((standing(store), open_rounds(store, me)))
    assert seen == [({"0.png": 0}, [3]), ({}, [1, 3]), ({}, [1, 3])]
    for asked, class_id in zip(storing.open_questions(store, me), [1, 0], strict=True):
        store.append(answers.give, me, given(asked, class_id))
    assert (standing(store), open_rounds(store, me), store.verify()) == ({"0.png": 0}, [], [])


def test_a_changed_second_answer_is_undone_to_the_second_answer(
    store: Store, me: str, first: Event, again: Question
) -> None:
    """The question stays answered until its own first answer is taken back."""
    event = store.append(answers.give, me, given(again, 1))
    store.append(answers.give, me, Answer("change", seen_id=event.event_id, class_id=0))
    store.append(answers.undo, me)
    assert (standing(store), open_rounds(store, me)) == ({"0.png": 1}, [])
    store.append(answers.undo, me)
    assert (standing(store), open_rounds(store, me)) == ({"0.png": 0}, [3])


def test_a_change_of_the_first_answer_leaves_the_second_look_open(
    store: Store, me: str, first: Event, again: Question
) -> None:
    """Who corrects the old card is still asked, and the id of the waiting answer is not touched."""
    store.append(answers.give, me, Answer("change", seen_id=first.event_id, class_id=1))
    assert (standing(store), open_rounds(store, me)) == ({"0.png": 1}, [3])
    store.append(answers.give, me, given(again, 0))
    assert (standing(store), open_rounds(store, me)) == ({"0.png": 0}, [])


def test_two_tabs_that_answer_one_second_look(store: Store, me: str, first: Event, again: Question) -> None:
    """The same answer is the same event; another one is refused, and the first that came stands."""
    event = store.append(answers.give, me, given(again, 1))
    assert store.append(answers.give, me, given(again, 1)) == event
    with pytest.raises(StoreError) as refused:
        store.append(answers.give, me, given(again, 0))
    assert refused.value.code == "STORE_CONFLICT"
    assert standing(store) == {"0.png": 1}


def test_a_late_answer_to_a_withdrawn_second_look_is_taken(
    store: Store, me: str, first: Event, again: Question
) -> None:
    """What the person typed is stored, unless the label was changed elsewhere meanwhile."""
    store.write(questions.withdraw, me)
    assert open_rounds(store, me) == []
    event = store.append(answers.give, me, given(again, 1))
    assert (event.supersedes, standing(store), store.verify()) == (first.event_id, {"0.png": 1}, [])


def test_a_late_answer_does_not_undo_a_change(store: Store, me: str, first: Event, again: Question) -> None:
    """The second look was withdrawn, and the first label changed after it: the change stands."""
    store.write(questions.withdraw, me)
    store.append(answers.give, me, Answer("change", seen_id=first.event_id, class_id=1))
    with pytest.raises(StoreError) as refused:
        store.append(answers.give, me, given(again, 0))
    assert (refused.value.code, standing(store)) == ("STORE_CONFLICT", {"0.png": 1})


def test_an_image_named_by_its_id_is_answered_where_it_waits(store: Store, me: str, again: Question) -> None:
    """Without the id of a card, the open question takes the answer."""
    event = store.append(answers.say, me, "0.png", Answer("answer"), "b")
    assert event is not None
    assert event.question_id == again.question_id
    assert open_rounds(store, me) == []


# ---- in a session


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "noisy", NOISY)
    yield opened
    opened.close()


def play(project: Project, session: Session, n_rounds: int) -> None:
    oracle = oracle_of(project, ERROR_RATE)
    for _ in range(n_rounds):
        session.advance()
        answer_batch(session, oracle)
    session.advance()


def until_asked_again(project: Project, session: Session) -> Question:
    """Play until a second look is open; returns it."""
    oracle = oracle_of(project, ERROR_RATE)
    for _ in range(15):
        session.advance()
        waiting = storing.open_questions(project.store, session.annotator.annotator_id)
        if found := [asked for asked in waiting if asked.purpose == REVIEW.name]:
            return found[0]
        answer_batch(session, oracle)
    raise AssertionError("no label was doubted")


def test_only_doubted_labels_are_asked_again_once_and_with_their_reason(project: Project) -> None:
    """At most the share of a batch; the guess is hidden; the reason is that of the model that chose."""
    session = project.session("ada")
    asked = until_asked_again(project, session)
    learner = project.learner
    row = learner.row(asked.image_id)
    label, probabilities = int(learner.labels[row]), learner.prediction.probabilities[row]
    probabilities = probabilities ** (1 / learner.prediction.temperature)
    probabilities /= probabilities.sum()
    best = int(np.delete(np.arange(10), label)[np.delete(probabilities, label).argmax()])
    assert asked.score == pytest.approx(probabilities[best] - probabilities[label])
    assert asked.score > -LEAD
    assert in_words(asked, dict(enumerate("0123456789"))) == f"asked again: {label}, or rather {best}?"
    assert (asked.guess_visible, session.labels[asked.image_id]) == (False, str(label))
    play(project, session, 8)
    looks = [each for each in storing.questions(project.store) if each.purpose == REVIEW.name]
    assert max(Counter(each.image_id for each in looks).values()) == 1
    assert max(Counter(each.round for each in looks).values()) <= round(NOISY.ask_again_share * NOISY.batch_size)
    first = {each.image_id: each.round for each in storing.questions(project.store) if each.purpose != REVIEW.name}
    assert min(each.round - first[each.image_id] for each in looks) > 2


def test_a_card_that_asks_again_waits_for_an_answer(project: Project) -> None:
    """In the grid it is open though an answer to the image stands; once answered it shows the newest."""
    session = project.session("ada")
    asked = until_asked_again(project, session)

    def card() -> Event | None:
        [found] = [
            card
            for batch in reports.batches(session.moment())
            for card in batch.cards
            if card.question_id == asked.question_id
        ]
        return found.head

    assert card() is None
    assert asked.image_id not in {
        found.image_id for _, answered in reports.answered_rounds(session.moment(), 1) for found in answered
    }
    session.label(asked.image_id, "7", event_id=asked.event_id)
    head = card()
    assert head is not None
    assert head.class_id == 7
    session.undo(head.event_id)
    assert card() is None


def test_a_reopened_project_asks_again_what_it_asked(project: Project) -> None:
    """The same open cards in the same order; the answer then is learned from, and exported in one row."""
    session = project.session("ada")
    asked = until_asked_again(project, session)
    waiting = [card.event_id for card in session.remaining]
    project.close()
    again = Project(project.folder)
    session = again.session("ada")
    session.advance()
    assert [card.event_id for card in session.remaining] == waiting
    right = again.class_names[int(again.learner.truth[again.learner.row(asked.image_id)])]  # type: ignore[index]  # digits know it
    answer_batch(session, oracle_of(again))
    session.advance()
    assert again.class_names[again.learner.labels[again.learner.row(asked.image_id)]] == right
    [row] = [row for row in gather(again).rows if row.image_id == asked.image_id]
    assert (row.class_name, row.purpose) == (right, REVIEW.name)
    assert again.store.verify() == []
    again.close()


def test_an_export_says_what_stands_and_why_the_image_was_picked(project: Project) -> None:
    """A second look brings answer and purpose; strategy, reason and round stay the draw's; undone it brings nothing."""
    session = project.session("ada")
    asked = until_asked_again(project, session)
    names = dict(enumerate(project.class_names))

    def exported() -> ExportRow:
        [row] = [row for row in gather(project).rows if row.image_id == asked.image_id]
        return row

    before, agreement = exported(), reports.agreement(session.moment())
    first = next(each for each in storing.questions(project.store) if each.image_id == asked.image_id)
    assert (before.purpose, before.strategy, before.round) == (first.purpose, first.strategy, first.round)
    assert before.strategy != "second-look"
    session.label(asked.image_id, "7", asked.event_id, Deciding(700, None))
    again = exported()
    assert (again.purpose, again.class_name, again.milliseconds, again.guess_shown) == (REVIEW.name, "7", 700, False)
    assert (again.round, again.strategy, again.score) == (before.round, before.strategy, before.score)
    assert (again.propensity, again.reason) == (before.propensity, in_words(first, names))
    looked_again = reports.agreement(session.moment())
    assert looked_again.n_shown + looked_again.n_hidden == agreement.n_shown + agreement.n_hidden - (
        first.guess is not None
    )
    for answer in ("8", None):
        session.undo()
        assert exported() == before
        assert reports.agreement(session.moment()) == agreement
        [shown] = [found for found in reports.recent(session.moment()) if found.image_id == asked.image_id]
        assert shown.question is not None
        assert shown.question.question_id == first.question_id
        if answer is not None:
            waiting = {card.image_id: card.event_id for card in session.remaining}
            session.label(asked.image_id, answer, waiting[asked.image_id])


def test_simulate_and_a_hand_driven_session_ask_the_same_again(project: Project, projects: Path) -> None:
    """Event for event and question for question, ids and times aside, with second looks among them."""
    list(simulate(NOISY, projects / "simulated", ERROR_RATE, annotator="ada"))
    play(project, project.session("ada"), NOISY.rounds)
    simulated = Project(projects / "simulated")
    assert _log(project) == _log(simulated)
    assert any(question.purpose == REVIEW.name for question in storing.questions(project.store))
    simulated.close()


def _log(project: Project) -> list[dict[str, object]]:
    rows = [asdict(event) for event in project.store.read(log.events)]
    rows += [asdict(question) for question in storing.questions(project.store)]
    dropped = {"event_id", "created_at", "question_id", "supersedes", "undoes", "shown_at", "annotator_id"}
    return [{key: value for key, value in row.items() if key not in dropped} for row in rows]


def test_nobody_is_asked_about_the_labels_of_others(project: Project) -> None:
    """Each person looks again at what that person said."""
    ada, bob = project.session("ada"), project.session("bob")
    oracle = oracle_of(project, ERROR_RATE)
    for _ in range(6):
        for session in (ada, bob):
            session.advance()
            answer_batch(session, oracle)
    asked = storing.questions(project.store)
    whose = {each.image_id: each.annotator_id for each in asked if each.purpose != REVIEW.name}
    looks = [each for each in asked if each.purpose == REVIEW.name]
    assert looks
    assert all(whose[each.image_id] == each.annotator_id for each in looks)


def test_the_end_of_the_pool_is_the_end(projects: Path) -> None:
    """Where nothing new is left to ask, doubted labels are not asked about either."""
    made = Project.create(projects / "all", replace(NOISY, limit=130, name="all"))
    session = made.session("ada")
    oracle = oracle_of(made, ERROR_RATE)
    session.advance()
    while session.remaining:
        answer_batch(session, oracle)
        session.advance()
    last = max(asked.round for asked in storing.questions(made.store))
    assert any(asked.purpose != REVIEW.name for asked in storing.questions(made.store) if asked.round == last)
    assert reports.n_left(session.moment()) == 0
    made.close()


def test_the_audit_slice_is_never_asked_again(projects: Path) -> None:
    """It is measured with: what the model says must not decide which of its labels are looked at twice."""
    made = Project.create(projects / "audited", replace(NOISY, name="audited", audit_share=0.2))
    session = made.session("ada")
    play(made, session, 12)
    looks = {asked.image_id for asked in storing.questions(made.store) if asked.purpose == REVIEW.name}
    assert looks
    assert not looks & {made.learner.dataset.ids[row] for row in made.learner.audit_rows.tolist()}
    made.close()
