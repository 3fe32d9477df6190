"""A snapshot against a plain reading of the whole file, whatever two people do through two open stores."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.errors import StoreError
from annotator.store import Event, ModelRecord, Question, Snapshot, Store, answers, questions
from annotator.store import snapshot as snapshots
from annotator.store.reader import Reader
from tests import storing
from tests.test_store import question

Row = dict[str, Any]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            "offer offer label label label skip relabel undo withdraw late shown class flag seed model person".split()
        ),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 30),
    ),
    max_size=50,
)
"""What is done, by whom, through which of two open stores, and with which of what there is."""


@dataclass
class Two:
    """One file, opened twice."""

    path: Path
    stores: list[Store]
    people: list[str]
    seen: list[Question]


def opened(folder: Path) -> Two:
    path = folder / "p" / "project.sqlite"
    stores = [Store.create(path, "two", 0), Store(path)]
    storing.add_classes(stores[0], ["a", "b"])
    storing.record_config(stores[0], {"batch_size": 3})
    return Two(path, stores, [storing.annotator(stores[0], name).annotator_id for name in ("ada", "bob")], [])


def move(two: Two, store: Store, what: str, me: str, pick: int, number: int) -> None:
    snapshot = store.snapshot()
    waiting = snapshots.open_of(snapshot, me)
    mine = list(snapshots.newest_standing(snapshot, me))
    two.seen += snapshot.open
    if what == "offer":
        held = {asked.image_id for asked in snapshot.questions.values() if asked.annotator_id == me}
        fresh = [image for image in (f"{(pick + step) % 9}.png" for step in range(3)) if image not in held]
        round_number = snapshots.last_round(snapshot) + 1
        storing.offer(store, [question(image, round_number, rank) for rank, image in enumerate(fresh, start=1)], me)
    elif what in ("label", "skip") and waiting:
        store.append(answers.answer, waiting[pick % len(waiting)], me, what, pick % 2 if what == "label" else None)
    elif what == "relabel" and mine:
        store.append(answers.relabel, mine[pick % len(mine)], "label", pick % 2)
    elif what == "undo":
        store.append(answers.undo, me)
    elif what == "withdraw":
        store.write(questions.withdraw, me)
    elif what == "late" and two.seen:
        store.append(answers.answer, two.seen[pick % len(two.seen)], me, "label", pick % 2)
    elif what == "shown":
        store.write(questions.mark_shown, [asked.question_id for asked in two.seen[pick % 5 :: 2]])
    elif what == "class":
        storing.add_classes(store, [f"class {number}"])
    elif what == "flag" and two.seen:
        asked = two.seen[pick % len(two.seen)]
        store.append(answers.flag, asked, me, f"{asked.question_id}!{number}", "odd" if pick % 2 else "")
    elif what == "seed":
        images = [f"seed {number} {place}.png" for place in range(pick % 4)]
        known = [(replace(question(image, 0, 100 * number + place), purpose="seed"), place % 2)
                 for place, image in enumerate(images)]  # fmt: skip
        storing.seed(store, known, me)
    elif what == "model":
        storing.record_model(store, ModelRecord(snapshot.n_models + 1, snapshot.head_seq, "data", 1, {}))
    elif what == "person":
        storing.annotator(store, f"person {number}")


@settings(max_examples=60, deadline=None)
@given(moves=MOVES)
def test_a_snapshot_is_what_the_file_says(tmp_path_factory: pytest.TempPathFactory, moves: list[Any]) -> None:
    """After each move through either store; and no snapshot taken earlier has changed in the end."""
    two = opened(tmp_path_factory.mktemp("two"))
    kept: list[tuple[Snapshot, Any]] = []
    for number, (what, person, place, pick) in enumerate(moves):
        with suppress(StoreError):
            move(two, two.stores[place], what, two.people[person], pick, number)
        if pick % 3:
            snapshot = two.stores[place].snapshot()
            compare(snapshot, two.path)
            kept.append((snapshot, said(snapshot)))
    for store in (*two.stores, Store(two.path)):
        compare(store.snapshot(), two.path)
        assert store.snapshot() is store.snapshot()
        store.close()
    assert [said(snapshot) for snapshot, _ in kept] == [before for _, before in kept]


def said(snapshot: Snapshot) -> Any:
    """Everything in it and everything that its functions say of it, copied."""
    people = [person.annotator_id for person in snapshot.people]
    rounds = {who: snapshots.rounds_of(snapshot, who) for who in people}
    return (
        [dict(found) for found in (snapshot.heads, snapshot.questions, snapshot.flags, snapshot.labels)],
        {name: value for name, value in vars(snapshot).items() if isinstance(value, (int, str, tuple))},
        {who: dict(theirs) for who, theirs in snapshot.asked.rounds.items()},
        [snapshots.standing(snapshot, through) for through in (None, *range(0, snapshot.head_seq + 2, 3))],
        [list(snapshots.newest_standing(snapshot, who)) for who in people],
        [snapshots.first_answers(snapshot, who, number) for who in people for number in rounds[who]],
        [snapshots.n_classes(snapshot, through) for through in range(snapshot.head_seq + 2)],
    )


# ---- the same by brute force


def compare(snapshot: Snapshot, path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        tables: dict[str, list[Row]] = {
            name: [dict(row) for row in file.execute(f"SELECT * FROM {name}")]
            for name in ("projects", "annotators", "classes", "configs", "models", "questions", "events")
        }
    events = sorted((Event(**{name: row[name] for name in Event.__dataclass_fields__}) for row in tables["events"]),
                    key=lambda event: event.seq)  # fmt: skip
    on_images = [event for event in events if event.image_id is not None]
    compare_tables(snapshot, tables)
    compare_answers(snapshot, on_images)
    compare_questions(snapshot, tables["questions"], on_images)
    flags: dict[tuple[str, str], str] = {}
    for event in events:
        if event.kind == "flag":
            flags[json.loads(event.payload)["image_id"], str(event.annotator_id)] = json.loads(event.payload)["comment"]
    assert snapshot.flags == {key: comment for key, comment in flags.items() if comment}
    for through in range(len(events) + 1):
        added = [event for event in events[:through] if event.kind == "class"]
        assert snapshots.n_classes(snapshot, through) == len(added)


def compare_tables(snapshot: Snapshot, tables: dict[str, list[Row]]) -> None:
    [project] = tables["projects"]
    assert (snapshot.head_seq, snapshot.head_hash) == (project["head_seq"], project["head_hash"])
    assert snapshot.newest_seq == snapshot.head_seq
    assert [person.name for person in snapshot.people] == [row["name"] for row in by(tables["annotators"], "number")]
    assert [known.name for known in snapshot.classes] == [row["name"] for row in by(tables["classes"], "class_id")]
    assert snapshot.configs == {row["version"]: json.loads(row["config"]) for row in tables["configs"]}
    assert snapshot.n_models == len(tables["models"])


def compare_answers(snapshot: Snapshot, on_images: list[Event]) -> None:
    for through in {0, *(event.seq for event in on_images[-12:]), snapshot.head_seq + 1}:
        stood = stood_at(on_images, through)
        assert snapshots.standing(snapshot, through) == stood
        assert snapshots.n_labels_since(snapshot, through) == sum(
            event.outcome == "label" and event.seq > through for event in stood_at(on_images, snapshot.head_seq)
        )
    stand = stood_at(on_images, snapshot.head_seq)
    assert snapshots.standing(snapshot) == stand
    superseded = {event.supersedes for event in on_images}
    assert list(snapshot.heads.values()) == [event for event in on_images if event.event_id not in superseded]
    assert snapshots.n_labels(snapshot) == sum(event.outcome == "label" for event in stand)
    for code in range(4):
        assert snapshot.labels.get(code, 0) == sum(event.class_id == code for event in stand)
    for person in snapshot.people:
        mine = [event for event in stand if event.annotator_id == person.annotator_id]
        assert snapshot.answers.get(person.annotator_id, 0) == len(mine)
        assert list(snapshots.newest_standing(snapshot, person.annotator_id)) == mine[::-1]


def stood_at(on_images: list[Event], through: int) -> list[Event]:
    until = [event for event in on_images if event.seq <= through]
    superseded = {event.supersedes for event in until}
    return [event for event in until if event.outcome and event.event_id not in superseded]


def compare_questions(snapshot: Snapshot, rows: list[Row], on_images: list[Event]) -> None:
    known = {}
    for row in by([row for row in rows if row["closed_by"] != "withdrawn"], "round", "rank"):
        answers = [event.seq for event in on_images if event.question_id == row["question_id"]]
        values = {name: row[name] for name in Question.__dataclass_fields__ if name != "n_events"}
        values["guess_visible"] = bool(row["guess_visible"])
        known[row["question_id"]] = (Question(**values, n_events=len(answers)), min(answers, default=None))
    kept = [asked for asked, _ in known.values()]
    assert snapshots.by_place(snapshot) == kept
    waiting = {row["question_id"] for row in rows if row["closed_at"] is None}
    assert list(snapshot.open) == [asked for asked in kept if asked.question_id in waiting]
    assert snapshots.last_round(snapshot) == max((asked.round for asked in kept), default=0)
    for person in snapshot.people:
        mine = [asked for asked in kept if asked.annotator_id == person.annotator_id]
        assert snapshots.rounds_of(snapshot, person.annotator_id) == sorted({asked.round for asked in mine} - {0})
        for number in {asked.round for asked in mine}:
            in_round = [asked for asked in mine if asked.round == number]
            assert snapshots.questions_in(snapshot, person.annotator_id, number) == in_round
            first = sorted(seq for asked, seq in known.values() if asked in in_round and seq is not None)
            assert snapshots.first_answers(snapshot, person.annotator_id, number) == first


def by(rows: list[Row], *columns: str) -> list[Row]:
    return sorted(rows, key=lambda row: [row[column] for column in columns])


# ---- what it costs, and what becomes of faults


def test_where_nothing_changed_it_is_the_same(tmp_path: Path) -> None:
    """Whatever was worked out from it holds as well; and what only concerns answers leaves `asked` as it is."""
    two = opened(tmp_path)
    ada, store, other = two.people[0], *two.stores
    batch = storing.offer(store, [question(f"{rank}.png", 1, rank) for rank in (1, 2)], ada)
    first = store.snapshot()
    assert store.snapshot() is first
    other.append(answers.answer, batch[0], ada, "label", 1)
    second = store.snapshot()
    assert second is not first
    assert second.asked is first.asked
    other.write(questions.mark_shown, [asked.question_id for asked in batch])
    third = store.snapshot()
    assert [asked.shown_at is not None for asked in third.open] == [True]
    assert (third.heads, third.asked) == (second.heads, second.asked)
    assert other.snapshot().questions[batch[0].question_id].shown_at is None, "it was answered before it was shown"
    other.write(questions.withdraw, ada)
    assert store.snapshot() is third, "a begun batch is not withdrawn"


def test_a_fact_is_worked_out_once_for_each_snapshot(tmp_path: Path) -> None:
    """Once for each of its arguments, and again only when something has changed."""
    two = opened(tmp_path)
    store, calls = two.stores[0], []

    @snapshots.once
    def n_people(snapshot: Snapshot, more: int) -> int:
        calls.append(more)
        return len(snapshot.people) + more

    assert [n_people(store.snapshot(), more) for more in (0, 0, 5)] == [2, 2, 7]
    storing.annotator(store, "eve")
    assert n_people(store.snapshot(), 0) == 3
    assert calls == [0, 5, 0]


def test_a_read_that_fails_half_way_leaves_nothing_half_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one begins anew, with every event."""
    two = opened(tmp_path)
    store, ada = two.stores[0], two.people[0]
    batch = storing.offer(store, [question("1.png")], ada)
    before = store.snapshot()
    two.stores[1].append(answers.answer, batch[0], ada, "label", 1)

    def fail(*_: object) -> None:
        raise StoreError("The disk is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "_by_id", fail)
        with pytest.raises(StoreError, match="disk"):
            store.snapshot()
    compare(store.snapshot(), two.path)
    assert (snapshots.n_labels(before), snapshots.n_labels(store.snapshot())) == (0, 1)
