"""What a page costs in the store, and reports against a plain reading of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from sqlalchemy import Engine, event
from streamlit.testing.v1 import AppTest

from annotator import reports
from annotator.config import Config
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.reports import Moment
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.store.snapshot import by_place, standing
from annotator.ui import panels
from annotator.ui.server import PROJECTS, ROOT
from annotator.wire import inbox

CONFIG = Config(
    name="cost", source="digits", source_parameters={"held_out": 50}, limit=120, encoder="pixels", batch_size=6,
    model="sklearn-label-spreading", strategy="margin", hidden_share=0.3,
)  # fmt: skip
REPORTS: list[Callable[[Moment], Any]] = [
    reports.agreement, reports.answered_rounds, reports.changes, reports.class_counts, reports.class_names,
    reports.classes, reports.current_round, reports.history, reports.is_due, reports.labels, reports.learning,
    reports.n_answered, reports.n_events, reports.n_labels, reports.n_left, reports.n_open, reports.n_rounds,
    reports.news, reports.pace, reports.batches, reports.recent, reports.remaining, reports.rounds,
    reports.seconds_per_label, reports.suggestions, reports.measurement,
    reports.in_use_since,
]  # fmt: skip


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "cost", CONFIG)
    session = opened.session("you")
    for _ in range(3):
        session.advance()
        session.shown()
        answer_batch(session, oracle_of(opened))
    session.advance()
    session.shown()
    if (writing := opened._predictions._thread) is not None:
        writing.join(timeout=60)  # its note in the store is no part of a page
    yield opened
    opened.close()


@pytest.fixture
def session(project: Project) -> Session:
    return project.session("you")


@contextmanager
def begun() -> Iterator[list[bool]]:
    """Whether each transaction that begins meanwhile, of any store, is for writing."""
    found: list[bool] = []

    def note(connection: Any) -> None:
        found.append(connection.get_execution_options().get("immediate", False))

    event.listen(Engine, "begin", note)
    try:
        yield found
    finally:
        event.remove(Engine, "begin", note)


# ---- what it costs


def test_a_session_and_all_reports_of_a_moment_are_one_read(project: Project) -> None:
    """Whoever answers is known, and every figure comes from the one snapshot."""
    with begun() as transactions:
        moment = project.session("you").moment()
        for report in REPORTS:
            report(moment, 5) if report is reports.answered_rounds else report(moment)
        reports.dropped_labels(moment, project.prepared.class_names)
    assert transactions == [False]


def test_a_key_press_is_one_write(session: Session) -> None:
    """As the browser sends it; and the redraw after it is one read."""
    event_id = session.remaining[0].event_id
    press = {"kind": "answer", "id": event_id, "q": event_id.rpartition(".")[0], "outcome": "label", "class": 3}
    with begun() as transactions:
        assert inbox.receive(session, {"events": [press | {"key": "tab"}]}) == {"tab": {"status": "stored"}}
    assert transactions == [True]
    with begun() as transactions:
        session.moment()
    assert transactions == [False]


def test_a_label_by_its_name_is_one_write(session: Session) -> None:
    """With the id of a card and without, and where it replaces an answer; the class is looked up in the same write."""
    first, second = session.remaining[:2]
    with begun() as transactions:
        session.label(first.image_id, "3", first.event_id)
        session.label(second.image_id, "4")
        session.label(second.image_id, "5")
        session.skip(first.image_id)
    assert transactions == [True] * 4
    assert session.labels[second.image_id] == "5"
    with pytest.raises(ConfigError, match=r"No class 'eleven'\. Choose from: 0, 1"):
        session.label(first.image_id, "eleven")


PAGE = """
import streamlit as st
from annotator.ui import main

real = st.Page
st.Page = lambda target, **options: real(target, **{{**options, "default": options["title"] == "{title}"}})
try:
    main.main()
finally:
    st.Page = real
"""


def page(title: str, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AppTest:
    monkeypatch.setenv(PROJECTS, str(project.folder.parent))
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setattr("annotator.workspace.workspace.after_first_page", lambda _work: None)  # nothing beside the page
    app = AppTest.from_string(PAGE.format(title=title), default_timeout=60)
    app.query_params["project"] = project.folder.name
    return app


@pytest.mark.parametrize("title", ["Label", "Progress", "Export"])
def test_drawing_a_page_is_one_snapshot(
    title: str, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole script, once the project is open: one transaction, for reading."""
    app = page(title, project, monkeypatch, tmp_path)
    app.run()
    app.run()
    with begun() as transactions:
        app.run()
    assert not app.exception
    assert transactions == [False]


def test_the_form_changes_a_stored_answer(
    project: Project, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To another class, and to none."""
    app = page("Label", project, monkeypatch, tmp_path)
    app.query_params["answers"] = "form"
    image_id, seen = reports.recent(session.moment())[0].image_id, session.labels
    for chosen, expected in (("class:0", "0"), ("class:1", "1"), ("skip", None)):
        event = reports.recent(session.moment())[0].event
        assert event is not None
        app.run()
        app.selectbox(f"change:{event.event_id}").set_value(chosen).run()
        assert not app.exception
        assert session.labels.get(image_id) == expected
    assert {**session.labels, image_id: seen[image_id]} == seen


# ---- what they say


def test_reports_are_what_a_plain_reading_says(project: Project, session: Session) -> None:
    """Rounds, recent answers, agreement and times, each worked out from everything, in one way and in another."""
    bob = project.session("bob")
    bob.advance()
    for card in bob.remaining[:3]:
        bob.label(card.image_id, "8", card.event_id)
    session.label(session.remaining[0].image_id, "2")
    session.skip(session.remaining[0].image_id)
    session.undo()
    for who in (session, bob):
        compare(who.moment())


def compare(moment: Moment) -> None:
    asked = [question for question in by_place(moment.snapshot) if question.purpose != "seed"]
    stand = standing(moment.snapshot)
    names = [known.name for known in moment.snapshot.classes]
    newest = {str(found.image_id): found for found in stand}
    expected: dict[int, list[tuple[str, str | None, str | None]]] = {}
    for question in asked:
        found = newest.get(question.image_id)
        answer = None if found is None or found.class_id is None else names[found.class_id]
        guess = None if question.guess is None else names[question.guess]
        expected.setdefault(question.round, []).append((question.image_id, guess, answer))
    rounds = [[(image.image_id, image.guess, image.answer) for image in each] for each in reports.rounds(moment)]
    assert rounds == list(expected.values())
    assert reports.n_rounds(moment) == len(expected)
    shown = reports.answered_rounds(moment, 2)
    some = [number for number, each in expected.items() if any(newest.get(image_id) for image_id, _, _ in each)]
    assert [number for number, _ in shown] == some[:-3:-1]
    mine = [found for found in stand if found.annotator_id == moment.me]
    assert [answered.event for answered in reports.recent(moment)] == mine[::-1]
    assert reports.recent(moment, 2) == reports.recent(moment)[:2]
    compare_figures(moment)


def compare_figures(moment: Moment) -> None:
    questions = {question.question_id: question for question in by_place(moment.snapshot)}
    mine = [found for found in standing(moment.snapshot) if found.annotator_id == moment.me]
    pairs = [(questions[str(found.question_id)], found) for found in mine]
    compared = [(asked, found) for asked, found in pairs if found.outcome == "label" and asked.purpose == "train"]
    agreed = [
        (asked.guess_visible, asked.guess == found.class_id) for asked, found in compared if asked.guess is not None
    ]
    shown, hidden = [same for visible, same in agreed if visible], [same for visible, same in agreed if not visible]
    assert reports.agreement(moment) == reports.Agreement(len(shown), sum(shown), len(hidden), sum(hidden))
    spans: dict[int, list[tuple[str, str]]] = {}
    for asked, found in pairs:
        if asked.shown_at:
            spans.setdefault(asked.round, []).append((asked.shown_at, found.created_at))
    each = [reports._seconds_each(span) for span in spans.values()]
    assert reports.seconds_per_label(moment) == (median(each) if each else None)
    labels = [found for found in standing(moment.snapshot) if found.outcome == "label"]
    assert sum(reports.class_counts(moment).values()) == reports.n_labels(moment) == len(labels)
    assert reports.n_answered(moment) == len(mine)
    asked_rows = {moment.learner.row(question.image_id) for question in questions.values()}
    assert reports.n_left(moment) == len(set(range(len(moment.learner.dataset))) - asked_rows)
    for card in reports.remaining(moment):
        at = questions[card.event_id.rpartition(".")[0]].chosen_at_seq
        assert card.labels_ago == sum(found.seq > at for found in labels)


def test_a_hidden_guess_is_said_to_be_hidden(project: Project, projects: Path) -> None:
    """On the form's cards and for the grid alike; that there is none yet is said only where no model has guessed."""
    young = Project.create(projects / "young", replace(CONFIG, name="young"))
    young.session("you").advance()
    project.change(hidden_share=0.5, batch_size=20)
    project.session("you").withdraw()
    project.session("you").advance()
    moment = project.session("you").moment()
    asked = {question.event_id: question for question in moment.snapshot.questions.values()}
    cards = [card for card in reports.remaining(moment) if card.purpose == "train"]
    hidden = [card for card in cards if not asked[card.event_id].guess_visible]
    assert 0 < len(hidden) < len(cards)
    assert {panels.chip(card) for card in hidden} == {":gray-badge[guess hidden]"}
    first = [card for card in reports.remaining(young.session("you").moment()) if card.purpose == "train"]
    assert {panels.chip(card) for card in first} == {":gray-badge[no guess yet]"}
    shown = {card.question_id: card.hides_guess for batch in reports.batches(moment) for card in batch.cards}
    assert all(shown[card.event_id.rpartition(".")[0]] == (card in hidden) for card in cards)
    young.close()
