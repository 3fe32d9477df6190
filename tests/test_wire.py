"""What a browser may send, and what the session makes of it, over a real project."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotator import due, reports
from annotator.batches import ShownCard
from annotator.config import Config
from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.project import Project
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Answer, answers, log, questions
from annotator.store.snapshot import first_answers
from annotator.ui.server import PROJECTS
from annotator.ui.views.grid import payload
from annotator.wire import inbox
from annotator.wire.incoming import read_message
from annotator.wire.outgoing import GridData
from annotator.workspace import LookAhead
from tests import storing

CONFIG = Config(
    name="keys", source="digits", source_parameters={"held_out": 50}, limit=60, encoder="pixels", batch_size=4
)
COUNTER = itertools.count()


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "keys", CONFIG)
    opened.session("ada").look_ahead()
    yield opened
    opened.close()


@pytest.fixture
def session(project: Project) -> Session:
    return project.session("ada")


def cards(session: Session) -> list[ShownCard]:
    return [card for page in reports.batches(session.moment()) for card in page.cards]


def press(card: ShownCard, class_id: int | None, outcome: str = "label", tab: str = "tab") -> dict[str, Any]:
    """The first answer to a card, as the browser mints it."""
    event_id = f"{card.question_id}.{card.n_events}"
    answer = {"kind": "answer", "id": event_id, "q": card.question_id, "outcome": outcome, "class": class_id}
    return {"key": f"{tab}:{event_id}", "ms": 700, "guess": True, **answer}


def undo(head: str) -> dict[str, Any]:
    return {"key": f"tab:{head}<", "kind": "undo", "id": f"{head}<", "of": head}


def change(head: str, class_id: int) -> dict[str, Any]:
    event_id = f"{head}>label{class_id}"
    answer = {"kind": "change", "id": event_id, "of": head, "outcome": "label", "class": class_id}
    return {"key": f"tab:{event_id}", **answer}


def send(session: Session, *events: dict[str, Any]) -> list[str]:
    """The statuses, in order."""
    results = inbox.receive(session, {"n": next(COUNTER), "events": list(events)})
    return [results[event["key"]]["status"] for event in events if event["key"] in results]


def test_what_is_sent_again_is_stored_once(session: Session) -> None:
    """A reply was lost, so all of it comes again: the same events stand, and all are called stored."""
    events = [press(card, 3) for card in cards(session)[:3]]
    assert send(session, *events) == send(session, *events) == ["stored"] * 3
    assert reports.n_answered(session.moment()) == 3


def test_milliseconds_and_the_visible_guess_stand_with_the_answer(project: Project, session: Session) -> None:
    """How long it took and whether the guess could be seen are part of the event."""
    send(session, press(cards(session)[0], 3))
    event = storing.current(project.store)[0]
    assert (event.client_ms, json.loads(event.payload)["guess_shown"]) == (700, True)
    assert reports.pace(session.moment()) == 0.7


def test_an_answer_can_be_changed_undone_and_given_anew_before_anything_arrived(session: Session) -> None:
    """The browser mints every id by itself, so a whole story can come at once, and again."""
    card = cards(session)[0]
    first = f"{card.question_id}.0"
    changed = f"{first}>label5"
    story = [
        press(card, 3),
        change(first, 5),
        undo(changed),
        undo(f"{changed}<"),
        press(card, 7) | {"id": f"{card.question_id}.4", "key": "tab:again"},
    ]
    assert send(session, *story) == ["stored"] * 5
    assert send(session, *story) == ["stored"] * 5
    assert session.labels == {card.image_id: "7"}
    assert cards(session)[0].n_events == 5


def test_an_undo_brings_back_what_was_replaced(session: Session) -> None:
    """After a change the answer before it, after an answer the open question."""
    card = cards(session)[0]
    first = f"{card.question_id}.0"
    send(session, press(card, 3), change(first, 5), undo(f"{first}>label5"))
    assert session.labels == {card.image_id: "3"}
    send(session, undo(f"{first}>label5<"))
    assert session.labels == {}
    assert card.image_id in [open_card.image_id for open_card in session.remaining]


def test_the_other_tab_is_told_and_the_first_answer_stands(session: Session) -> None:
    """Two tabs answer the same card differently: one event, and a reason for the second."""
    card = cards(session)[0]
    assert send(session, press(card, 3)) == ["stored"]
    other = press(card, 4, tab="other")
    refused = inbox.receive(session, {"events": [other]})[other["key"]]
    assert refused["status"] == "refused"
    assert "another tab" in refused["reason"]
    assert session.labels == {card.image_id: "3"}


def test_an_undo_of_what_has_changed_since_is_refused(session: Session) -> None:
    """Compare-and-set: who undoes must have seen the newest answer."""
    card = cards(session)[0]
    first = f"{card.question_id}.0"
    send(session, press(card, 3), change(first, 5))
    assert send(session, undo(first)) == ["refused"]
    assert session.labels == {card.image_id: "5"}


def test_nobody_answers_for_somebody_else(project: Project, session: Session) -> None:
    """Answers, changes, undos and flags of another annotator's question are refused, and nothing is stored."""
    send(session, press(cards(session)[0], 3))
    standing, open_card = cards(session)[0], cards(session)[1]
    forger = project.session("eve")
    head = f"{standing.question_id}.0"
    flag = {"key": "flag", "kind": "flag", "id": "f", "q": open_card.question_id, "text": "mine"}
    before = storing.head_seq(project.store)
    assert send(forger, press(open_card, 3), change(head, 5), undo(head), flag) == ["refused"] * 4
    assert storing.head_seq(project.store) == before


def test_a_class_that_is_not_offered_is_refused(session: Session) -> None:
    """A class id out of nowhere does not reach the store."""
    assert send(session, press(cards(session)[0], 99)) == ["refused"]
    assert reports.n_answered(session.moment()) == 0


@pytest.mark.parametrize("class_id", [-1, 2**31, 2**63, int(1e20)])
def test_a_class_that_no_database_can_hold_is_refused_for_good(session: Session, class_id: int) -> None:
    """S7: JSON holds integers of any size; the message is refused, and what follows it is stored."""
    card, other = cards(session)[:2]
    assert send(session, press(card, class_id), press(other, 3)) == ["refused", "stored"]
    first = f"{other.question_id}.0"
    assert send(session, change(first, class_id), undo(first)) == ["refused", "stored"]


@pytest.mark.parametrize(
    "given",
    [
        {"class_id": 10**20},
        {"class_id": 3, "milliseconds": 10**20},
        {"question_id": "\ud83d"},
        {"kind": "undo", "seen_id": "\ud83d"},
    ],
)
def test_what_the_database_cannot_hold_is_a_typed_refusal(session: Session, given: dict[str, Any]) -> None:
    """S7: whoever calls the session himself gets an error of ours, nothing is stored, and the next answer is."""
    card = cards(session)[0]
    first: dict[str, Any] = {"event_id": f"{card.question_id}.0", "question_id": card.question_id}  # Any: fields
    with pytest.raises(AnnotatorError):
        session.give(Answer(**{"kind": "answer", **first, **given}))
    session.give(Answer("answer", **first, class_id=3))
    assert session.labels == {card.image_id: "3"}


def test_a_store_that_cannot_write_keeps_everything_in_the_browser(project: Project, session: Session) -> None:
    """What could not be stored is neither acknowledged nor refused, and what follows it is not tried."""
    asked = cards(session)
    project.store.path.parent.chmod(0o500)
    project.store.path.chmod(0o400)
    events = [press(card, 3) for card in asked[:2]]
    try:
        blocked = _blocked(project, session, events)
    finally:
        project.store.path.parent.chmod(0o700)
        project.store.path.chmod(0o600)
    assert blocked == ["kept"]
    assert send(session, *events) == ["stored", "stored"]


def _blocked(project: Project, session: Session, events: list[dict[str, Any]]) -> list[str]:
    """Send while another writer holds the store; root may write where the mode forbids it."""
    import sqlite3

    other = sqlite3.connect(project.store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        other.close()
        return send(session, *events)
    try:
        return send(session, *events)
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_flag_stands_beside_the_label(project: Project, session: Session) -> None:
    """A comment changes neither the answer nor the next answer's id; the newest holds, an empty one takes it back."""
    card = cards(session)[0]
    flag = {"key": "a", "kind": "flag", "id": f"{card.question_id}!1", "q": card.question_id, "text": " two digits "}
    assert send(session, flag, flag, press(card, 3)) == ["stored"] * 3
    assert cards(session)[0].flag == "two digits"
    assert session.labels == {card.image_id: "3"}
    send(session, flag | {"key": "b", "id": f"{card.question_id}!2", "text": ""})
    assert storing.flags(project.store) == {}


def test_an_answer_to_a_withdrawn_card_is_accepted(session: Session) -> None:
    """Settings changed while a person looked at the next batch: what they then answer is kept."""
    session.withdraw()
    asked = reports.batches(session.moment())
    assert asked == []
    session.look_ahead()
    card = cards(session)[0]
    session.withdraw()
    assert send(session, press(card, 3)) == ["stored"]
    assert session.labels == {card.image_id: "3"}


def test_a_flag_never_takes_the_id_of_another_event(project: Project, session: Session) -> None:
    """S8: a forged id is refused by the inbox and by the store; what it is the id of is stored."""
    card = cards(session)[0]
    question = storing.question(project.store, card.question_id)
    assert question is not None
    first = f"{card.question_id}.0"
    for forged in (first, "class.10.add", "config.2", f"{first}>label5", f"{first}<", "", f"x{card.question_id}!1"):
        flag = {"key": forged, "kind": "flag", "id": forged, "q": card.question_id, "text": "mine"}
        assert send(session, flag) == ["refused"]
        with pytest.raises(StoreError, match="somebody else"):
            project.store.append(answers.flag, question, session.annotator.annotator_id, forged, "mine")
    assert send(session, press(card, 3)) == ["stored"]
    assert session.labels == {card.image_id: "3"}


def test_a_flag_of_an_earlier_version_blocks_nothing(
    project: Project, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: it stands in the log with an id that another event would have; that one is stored all the same, once."""
    card = cards(session)[0]
    first = f"{card.question_id}.0"
    for taken in (first, f"~{first}>label5", f"~{first}>label5<", "class.10.add", "config.2"):
        payload = {"image_id": card.image_id, "comment": taken}
        project.store.append(log.append, "flag", session.annotator.annotator_id, taken, payload)
    assert send(session, press(card, 3), press(card, 3)) == ["stored"] * 2
    assert send(session, change(f"~{first}", 5), change(f"~{first}", 5)) == ["stored"] * 2
    assert session.labels == {card.image_id: "5"}
    assert send(session, undo(f"~~{first}>label5"), undo(f"~~{first}>label5")) == ["stored"] * 2
    assert session.labels == {card.image_id: "3"}
    snapshot = project.store.snapshot()
    assert first_answers(snapshot, session.annotator.annotator_id, 1) == [storing.current(project.store)[0].seq - 2]
    session.add_class("late")
    assert session.class_names[-1] == "late"
    project.change(batch_size=3)
    assert project.config_version == 2
    assert project.store.verify() == []


def test_an_answer_belongs_to_its_question_and_its_person(project: Project, session: Session) -> None:
    """S8: an answer to somebody else, a flag, nothing or another question is not acknowledged."""
    card, other = cards(session)[:2]
    first = f"{card.question_id}.0"
    flag = {"key": "a", "kind": "flag", "id": f"{card.question_id}!1", "q": card.question_id, "text": "?"}
    assert send(session, press(card, 3), flag) == ["stored"] * 2
    assert send(session, change(flag["id"], 5), press(other, 3) | {"q": card.question_id}) == ["refused"] * 2
    assert send(session, undo(first), change(f"{first}<", 5)) == ["stored", "refused"]
    send(session, press(other, 3))
    assert send(project.session("eve"), press(other, 3)) == ["refused"]
    assert session.labels == {other.image_id: "3"}


def test_half_a_character_stops_nothing(session: Session) -> None:
    """S7: an event that cannot be read is refused under its own key, a comment keeps what can be read of it; the rest
    is stored.
    """
    card, other = cards(session)[:2]
    broken = press(card, 3) | {"id": f"{card.question_id}.0\ud83d", "key": "tab:\ud83d"}
    flag = {"key": "f", "kind": "flag", "id": f"{card.question_id}!1", "q": card.question_id, "text": "cat \ud83d\0"}
    assert send(session, broken, flag, press(other, 3), broken | {"key": "k" * 9000}) == [
        "refused",
        "stored",
        "stored",
        "refused",
    ]
    assert cards(session)[0].flag == "cat ��"
    assert session.labels == {other.image_id: "3"}
    assert send(session, flag | {"id": f"{card.question_id}!2", "text": "\ud83d\ude00"}) == ["stored"]
    assert cards(session)[0].flag == "😀"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("key", "kind", "id", "of", "q", "outcome", "class", "ms", "guess", "text")
event_like = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, junk))


@settings(max_examples=60, deadline=None)
@given(value=junk | st.fixed_dictionaries({"events": st.lists(event_like, max_size=3), "shown": junk}))
def test_anything_may_come_and_nothing_is_stored_of_it(value: object) -> None:
    """Whatever the JSON is: an answer that can be read, or a typed refusal; never another error."""
    for entry in inbox.entries(value):
        try:
            read_message(entry)
        except ConfigError as error:
            assert error.code == "EVENT"
    assert all(type(number) is int for number in inbox.rounds_shown(value))


# ---- messages out


def test_what_the_surface_is_given_is_typed_and_unchanged(
    project: Project, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every field has its type and is named: the JSON is what was put in, with answers and refusals."""
    monkeypatch.setenv(PROJECTS, str(project.folder.parent))
    first, second, third = cards(session)[:3]
    other = press(second, 99)
    results = inbox.receive(session, {"events": [press(first, 3), press(third, None, "skip"), other]})
    project.session("ada").advance()
    given = payload(project, session.moment(), LookAhead(), results)
    sent = GridData.model_validate(given).as_json()
    assert sent == json.loads(json.dumps(given))
    answers = {card["image"]: card["answer"] for page in sent["pages"] for card in page["cards"]}
    assert answers[first.image_id] == {"outcome": "label", "class": 3}
    assert sent["results"][other["key"]]["status"] == "refused"
    with pytest.raises(ValidationError):
        GridData.model_validate(given | {"unheard_of": 1})


def test_a_curve_with_its_marks_is_typed_and_unchanged(
    project: Project, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is something to measure, and another model."""
    monkeypatch.setenv(PROJECTS, str(project.folder.parent))
    for model in ("sklearn-label-spreading", "label-spreading"):
        answer_batch(session, oracle_of(project))
        project.change(model=model)
        session = project.session("ada")
        session.advance()
    given = payload(project, session.moment(), LookAhead(), {})
    sent = GridData.model_validate(given).as_json()
    assert len(sent["curve"]["points"]) == 2
    assert sent["curve"]["marks"]
    assert sent == json.loads(json.dumps(given))


# ---- the last images


def test_the_last_images_of_somebody_else_are_not_finished(
    project: Project, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others hold unanswered images nothing is finished; those not begun in time come to whoever is there."""
    monkeypatch.setenv(PROJECTS, str(project.folder.parent))
    eve, oracle = project.session("eve"), oracle_of(project)
    with monkeypatch.context() as patched:
        patched.setattr(questions, "LEASE", timedelta(hours=1))
        eve.advance()
    held = [card.image_id for card in eve.remaining]
    while session.remaining:
        answer_batch(session, oracle)
        session.advance()
    given = payload(project, session.moment(), LookAhead(), {})
    assert (given["finished"], given["pending"], given["status"]["left"]) == (False, False, 0)
    assert "with eve" in given["held"]
    assert not due.can_take_over(project.store, session.moment().snapshot, session.annotator.annotator_id)
    with monkeypatch.context() as patched:
        patched.setattr(questions, "LEASE", timedelta(seconds=-1))
        project.store.write(questions.renew, eve.annotator.annotator_id)
    assert due.can_take_over(project.store, session.moment().snapshot, session.annotator.annotator_id)
    session.look_ahead()
    assert {card.image_id for card in session.remaining} == set(held)
    assert payload(project, session.moment(), LookAhead(), {})["held"] == ""
    answer_batch(session, oracle)
    session.advance()
    given = payload(project, session.moment(), LookAhead(), {})
    assert (given["finished"], given["held"]) == (True, "")
