"""The label store: what is acknowledged stays, nothing is overwritten, and two people never collide.

Longer than other files: what any crash, race or full disk may do to one store.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.class_names import MOST_CLASSES
from annotator.errors import AnnotatorError, ConfigError, StoreError
from annotator.store import Deciding, Event, ImageRecord, ModelRecord, Question, Store, answers, log, questions, schema
from annotator.store.engine import Database, wal_is_safe
from annotator.store.snapshot import rounds_of
from tests import storing


def question(image_id: str, round_number: int = 1, rank: int = 1, purpose: str = "train") -> Question:
    return Question(
        image_id=image_id,
        round=round_number,
        rank=rank,
        purpose=purpose,
        strategy="entropy",
        strategy_version="1",
        guess=0,
        guess_probability=0.5,
        guess_entropy=0.69,
        guess_visible=True,
        score=0.69,
        propensity=None,
        model_version=1,
        config_version=1,
        chosen_at_seq=0,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.create(tmp_path / "project" / "project.sqlite", "birds", seed=3)
    storing.add_classes(made, ["wren", "owl"])
    storing.add_images(made, (ImageRecord(f"{row}.png", row, f"hash{row}") for row in range(10)))
    storing.record_config(made, {"batch_size": 3})
    return made


def offered(store: Store, annotator_id: str, images: str = "012", round_number: int = 1) -> list[Question]:
    batch = [question(f"{image}.png", round_number, rank) for rank, image in enumerate(images, start=1)]
    return storing.offer(store, batch, annotator_id)


def standing(store: Store) -> dict[str | None, tuple[str | None, int | None]]:
    return {event.image_id: (event.outcome, event.class_id) for event in storing.current(store)}


def test_the_migrations_make_the_schema_that_the_code_names(tmp_path: Path) -> None:
    """The tables in schema.py are those of the newest migration, column by column and index by index."""
    database = Database(tmp_path / "project.sqlite")
    database.upgrade()
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert differences == []


def test_wal_is_used_only_where_it_keeps_every_commit() -> None:
    """3.51.3 and the backports 3.44.6 and 3.50.7 are fixed; every other version is not."""
    fixed = [(3, 51, 3), (3, 52, 0), (3, 44, 6), (3, 50, 7), (3, 50, 9)]
    broken = [(3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 2)]
    assert [wal_is_safe(version) for version in fixed + broken] == [True] * 5 + [False] * 5


def test_the_note_says_engine_version_and_mode(store: Store) -> None:
    """What is printed is what the file is really in."""
    with closing(sqlite3.connect(store.path)) as raw:
        mode = raw.execute("PRAGMA journal_mode").fetchone()[0]
    assert sqlite3.sqlite_version in store.note
    assert mode.upper() in store.note.upper()


def test_an_answer_is_there_after_reopening(store: Store) -> None:
    """What returned is on the disk."""
    person = storing.annotator(store, "ada")
    asked = offered(store, person.annotator_id)
    store.append(answers.answer, asked[0], person.annotator_id, "label", 1)
    store.close()
    again = Store(store.path)
    assert standing(again) == {"0.png": ("label", 1)}
    assert [left.image_id for left in storing.open_questions(again, person.annotator_id)] == ["1.png", "2.png"]


def test_an_answer_sent_twice_is_one_event(store: Store) -> None:
    """A double click, a retry and a resend after a lost reply all carry the same event id."""
    person = storing.annotator(store, "ada")
    asked = offered(store, person.annotator_id)
    first = store.append(answers.answer, asked[0], person.annotator_id, "label", 1)
    assert store.append(answers.answer, asked[0], person.annotator_id, "label", 0) == first
    assert standing(store) == {"0.png": ("label", 1)}


def test_undo_and_relabel_are_events_that_supersede(store: Store) -> None:
    """Undoing a changed answer brings back the one before it; undoing that asks the image again."""
    person = storing.annotator(store, "ada")
    asked = offered(store, person.annotator_id)
    first = store.append(answers.answer, asked[0], person.annotator_id, "label", 1)
    store.append(answers.relabel, first, "label", 0)
    assert standing(store) == {"0.png": ("label", 0)}
    store.append(answers.undo, person.annotator_id)
    assert standing(store) == {"0.png": ("label", 1)}
    store.append(answers.undo, person.annotator_id)
    assert standing(store) == {}
    assert [left.image_id for left in storing.open_questions(store, person.annotator_id)] == ["0.png", "1.png", "2.png"]
    assert store.append(answers.undo, person.annotator_id) is None
    store.append(answers.answer, storing.open_questions(store, person.annotator_id)[0], person.annotator_id, "skip")
    assert standing(store) == {"0.png": ("skip", None)}
    assert [event.kind for event in store.read(log.events) if event.image_id] == [
        "answer",
        "answer",
        "undo",
        "undo",
        "answer",
    ]


def test_two_tabs_cannot_both_change_one_answer(store: Store) -> None:
    """The second change of what is no longer standing is refused, and the first one stands."""
    person = storing.annotator(store, "ada")
    seen = store.append(answers.answer, offered(store, person.annotator_id)[0], person.annotator_id, "label", 1)
    store.append(answers.relabel, seen, "label", 0)
    with pytest.raises(StoreError) as refused:
        store.append(answers.relabel, seen, "unsure")
    assert refused.value.code == "STORE_CONFLICT"
    assert standing(store) == {"0.png": ("label", 0)}


def test_two_annotators_answer_the_same_image_and_both_answers_stand(store: Store) -> None:
    """The current label is per (image, annotator); neither undo touches the other's."""
    ada, bob = storing.annotator(store, "ada"), storing.annotator(store, "bob")
    assert (ada.number, bob.number) == (1, 2)
    store.append(answers.answer, offered(store, ada.annotator_id, "0")[0], ada.annotator_id, "label", 1)
    store.append(answers.answer, offered(store, bob.annotator_id, "0", 2)[0], bob.annotator_id, "label", 0)
    given = {event.annotator_id: event.class_id for event in storing.current(store)}
    assert given == {ada.annotator_id: 1, bob.annotator_id: 0}
    store.append(answers.undo, bob.annotator_id)
    assert {event.annotator_id for event in storing.current(store)} == {ada.annotator_id}


def test_an_image_is_offered_to_one_annotator_at_a_time(store: Store) -> None:
    """What somebody holds is left out of another's batch, even when both are asked for at once."""
    people = [storing.annotator(store, f"person {number}").annotator_id for number in range(8)]
    threads = [
        threading.Thread(target=offered, args=(store, person, "01234", 1 + n)) for n, person in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [asked.image_id for person in people for asked in storing.open_questions(store, person)]
    assert sorted(held) == [f"{image}.png" for image in range(5)]


def test_a_question_of_somebody_else_is_refused(store: Store) -> None:
    """An answer to a question that was asked of another annotator changes nothing."""
    ada, bob = storing.annotator(store, "ada"), storing.annotator(store, "bob")
    asked = offered(store, ada.annotator_id)
    with pytest.raises(StoreError) as refused:
        store.append(answers.answer, asked[0], bob.annotator_id, "label", 1)
    assert refused.value.code == "STORE_AUTHZ"
    assert standing(store) == {}


def test_reopening_after_undo_leaves_the_image_to_whoever_holds_it(store: Store) -> None:
    """An undone image that another annotator is looking at by now is not asked twice."""
    ada, bob = storing.annotator(store, "ada"), storing.annotator(store, "bob")
    store.append(answers.answer, offered(store, ada.annotator_id, "0")[0], ada.annotator_id, "label", 1)
    offered(store, bob.annotator_id, "0", 2)
    store.append(answers.undo, ada.annotator_id)
    assert storing.open_questions(store, ada.annotator_id) == []
    assert standing(store) == {}


def test_a_late_answer_finds_a_place_where_its_own_was_taken(store: Store) -> None:
    """The batch was withdrawn and another one stands in its round; what the person typed is stored all the same."""
    me = storing.annotator(store, "ada").annotator_id
    [early] = storing.offer(store, [question("1.png")], me)
    store.write(questions.withdraw, me)
    [other] = storing.offer(store, [question("2.png")], me)
    store.append(answers.answer, early, me, "label", 1)
    store.append(answers.answer, other, me, "label", 0)
    assert {event.image_id: event.class_id for event in storing.current(store)} == {"1.png": 1, "2.png": 0}
    assert [(asked.image_id, asked.rank) for asked in storing.questions(store)] == [("2.png", 1), ("1.png", 2)]


def test_a_begun_batch_is_not_withdrawn(store: Store) -> None:
    """The first answer freezes a batch; one that nobody began goes back, and its round number with it."""
    ada = storing.annotator(store, "ada").annotator_id
    offered(store, ada)
    store.write(questions.withdraw, ada)
    assert (storing.open_questions(store, ada), storing.last_round(store)) == ([], 0)
    store.append(answers.answer, offered(store, ada)[0], ada, "label", 1)
    store.write(questions.withdraw, ada)
    assert len(storing.open_questions(store, ada)) == 2


def test_the_log_is_gap_free_and_a_changed_byte_is_found(store: Store) -> None:
    """Each event carries the hash of its own bytes chained to the one before it."""
    ada = storing.annotator(store, "ada").annotator_id
    for asked in offered(store, ada):
        store.append(answers.answer, asked, ada, "label", 1)
    assert [event.seq for event in store.read(log.events)] == list(range(1, storing.head_seq(store) + 1))
    assert store.verify() == []
    seq = storing.current(store)[0].seq
    with closing(sqlite3.connect(store.path)) as raw, raw:
        raw.execute("UPDATE events SET class_id = 0 WHERE seq = ?", (seq,))
    assert [said.split(":")[0] for said in store.verify()] == [f"Event {seq} is not what was stored"]


def test_looking_back_shows_what_stood_then(store: Store) -> None:
    """`current(through)` is exact: later changes and undos are not seen."""
    ada = storing.annotator(store, "ada").annotator_id
    first = store.append(answers.answer, offered(store, ada)[0], ada, "label", 1)
    store.append(answers.relabel, first, "label", 0)
    store.append(answers.undo, ada)
    store.append(answers.undo, ada)
    assert [(event.outcome, event.class_id) for event in storing.current(store, first.seq)] == [("label", 1)]
    assert [(event.outcome, event.class_id) for event in storing.current(store, first.seq + 1)] == [("label", 0)]


@settings(max_examples=20, deadline=None)
@given(moves=st.lists(st.sampled_from(["label", "other", "skip", "undo", "relabel"]), max_size=25))
def test_any_sequence_of_moves_equals_a_plain_history(
    tmp_path_factory: pytest.TempPathFactory, moves: list[str]
) -> None:
    """Answers, changes and undos in any order leave what a list with push, replace and pop would hold."""
    store = Store.create(tmp_path_factory.mktemp("any") / "p" / "project.sqlite", "any", 0)
    storing.add_classes(store, ["a", "b"])
    storing.add_images(store, (ImageRecord(f"{row}.png", row) for row in range(10)))
    ada = storing.annotator(store, "ada").annotator_id
    offered(store, ada, "0123456789")
    history: list[tuple[str | None, str, int | None]] = []
    for move in moves:
        _apply(store, ada, move, history)
        latest = {image: (outcome, code) for image, outcome, code in history}
        assert standing(store) == latest
        assert storing.n_labels(store) == sum(outcome == "label" for outcome, _ in latest.values())
    assert store.verify() == []


def _apply(store: Store, ada: str, move: str, history: list[tuple[str | None, str, int | None]]) -> None:
    waiting = storing.open_questions(store, ada)
    if move == "undo":
        store.append(answers.undo, ada)
        if history:
            history.pop()
    elif move == "relabel" and history:
        event = next(event for event in storing.current(store) if event.image_id == history[-1][0])
        store.append(answers.relabel, event, "label", 0 if event.class_id else 1)
        history.append((event.image_id, "label", 0 if event.class_id else 1))
    elif move in ("label", "other", "skip") and waiting:
        code = {"label": 0, "other": 1, "skip": None}[move]
        outcome = "skip" if code is None else "label"
        store.append(answers.answer, waiting[0], ada, outcome, code)
        history.append((waiting[0].image_id, outcome, code))


@pytest.mark.parametrize("names", [["a", "a"], ["a", "A"], ["a", " a "], [""], ["  "], ["wren"]])
def test_classes_are_named_once_and_not_empty(store: Store, names: list[str]) -> None:
    """A double or an empty class name is refused, and none of the others in that call is added."""
    with pytest.raises(ConfigError):
        storing.add_classes(store, names)
    assert [label_class.name for label_class in storing.classes(store)] == ["wren", "owl"]


def test_too_many_classes_are_refused(store: Store) -> None:
    """S6: up to the stated number in any number of steps, not one more; those of before stay."""
    storing.add_classes(store, [f"bird {number}" for number in range(MOST_CLASSES - 2)])
    with pytest.raises(ConfigError, match="put") as refused:
        storing.add_classes(store, ["one more"])
    assert refused.value.code == "CLASS_TOO_MANY"
    assert len(storing.classes(store)) == MOST_CLASSES
    assert store.verify() == []


def test_labels_that_are_known_are_written_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """R9: the number of statements grows with what is written at a time, not with the labels; the chain holds."""
    monkeypatch.setattr("annotator.store.log.CHUNK", 4)
    me = storing.annotator(store, "import", "importer").annotator_id
    known = [(replace(question(f"{row}.png", 0, row + 1), purpose="seed"), row % 2) for row in range(10)]
    statements: list[str] = []
    with _watched(statements):
        storing.seed(store, known, me)
    written = Counter(said.split()[2] for said in statements if said.startswith("INSERT"))
    assert written == {"questions": 3, "events": 3}
    assert standing(store) == {f"{row}.png": ("label", row % 2) for row in range(10)}
    assert [event.seq for event in store.read(log.events)] == list(range(1, storing.head_seq(store) + 1))
    assert store.verify() == []


@contextmanager
def _watched(statements: list[str]) -> Iterator[None]:
    """What is sent to any database meanwhile."""

    def note(_connection: Any, _cursor: Any, said: str, *_: Any) -> None:
        statements.append(said)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def test_class_names_are_kept_exactly(store: Store) -> None:
    """Commas, quotes, newlines inside, formulas and emoji are stored as they were typed."""
    names = ["a,b", 'say "x"', "two\nlines", "=cmd|' /C calc'!A0", "🦉", "../../x"]
    storing.add_classes(store, names)
    assert [label_class.name for label_class in storing.classes(store)][2:] == names


@pytest.mark.parametrize(
    "write",
    [
        lambda store: storing.annotator(store, "half \ud83d"),
        lambda store: storing.add_classes(store, ["half \ud83d"]),
        lambda store: storing.add_images(store, [ImageRecord("10.png", 2**63)]),
        lambda store: storing.question(store, "\ud83d"),
        lambda store: storing.record_model(store, ModelRecord(2**63, 0, "dataset", 1, {})),
    ],
)
def test_what_sqlite_cannot_hold_is_a_typed_error(store: Store, write: Callable[[Store], object]) -> None:
    """S7: an integer above 64 bits, and half a character; nothing is stored of it."""
    before = storing.head_seq(store)
    with pytest.raises(AnnotatorError):
        write(store)
    assert (storing.head_seq(store), store.verify()) == (before, [])
    storing.add_classes(store, ["kite"])


def test_a_seed_that_sqlite_cannot_hold_is_a_typed_error(tmp_path: Path) -> None:
    """S7: it comes from a command line."""
    with pytest.raises(AnnotatorError):
        Store.create(tmp_path / "p" / "project.sqlite", "p", seed=10**20)


def test_configs_and_models_keep_their_versions(store: Store) -> None:
    """Each config is an event with a version; a fit recorded twice stays, another one gets the next."""
    assert storing.record_config(store, {"batch_size": 5}) == 2
    assert storing.config(store) == (2, {"batch_size": 5})
    record = ModelRecord(1, storing.head_seq(store), "dataset", 2, {"accuracy": 0.5})
    assert storing.record_model(store, record) == storing.record_model(store, record) == record
    other = storing.record_model(store, ModelRecord(1, 0, "other", 2, {}))
    assert storing.models(store) == [record, other]
    assert other.version == 2


def test_a_missing_store_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    """A path without a project, and a file that is no store, get typed errors that name the path."""
    with pytest.raises(StoreError, match="There is no project"):
        Store(tmp_path / "none.sqlite")
    foreign = tmp_path / "foreign.sqlite"
    foreign.write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreError) as refused:
        Store(foreign)
    assert refused.value.code == "STORE_CORRUPT"


def test_a_busy_store_says_so_and_the_retry_works(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer beyond the timeout gives STORE_BUSY; the same answer sent again is stored once."""
    monkeypatch.setattr("annotator.store.engine.BUSY_TIMEOUT_MS", 50)
    impatient = Store(store.path)
    ada = storing.annotator(impatient, "ada").annotator_id
    asked = offered(impatient, ada)[0]
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as refused:
        impatient.append(answers.answer, asked, ada, "label", 1)
    assert refused.value.code == "STORE_BUSY"
    blocker.execute("ROLLBACK")
    blocker.close()
    impatient.append(answers.answer, asked, ada, "label", 1)
    assert standing(impatient) == {"0.png": ("label", 1)}


def _in_a_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True, check=False
    )


def test_a_read_only_folder_gives_a_typed_error() -> None:
    """A person who may not write gets STORE_READONLY, and the labels stay readable."""
    script = """
        import os, sys
        from pathlib import Path
        from annotator.store import Store, people, snapshot
        from annotator.errors import StoreError
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write anywhere: be nobody
        store = Store(Path(sys.argv[1]))
        print(len(snapshot.standing(store.snapshot())))
        try:
            store.write(people.named_or_added, "bob")
        except StoreError as error:
            print(error.code)
    """
    with tempfile.TemporaryDirectory() as reachable:  # pytest's own folders are closed to other users
        Path(reachable).chmod(0o755)
        store = Store.create(Path(reachable) / "project" / "project.sqlite", "birds", 0)
        ada = storing.annotator(store, "ada").annotator_id
        store.append(answers.answer, offered(store, ada)[0], ada, "label", 1)
        store.path.chmod(0o444)
        store.path.parent.chmod(0o555)
        told = _in_a_process(script, str(store.path))
        store.path.parent.chmod(0o755)
    assert told.stdout.split() == ["1", "STORE_READONLY"], told.stderr


def test_a_full_disk_loses_nothing_and_labeling_resumes(store: Store) -> None:
    """At a write limit the answer is refused and not acknowledged; with room again the same answer is stored."""
    script = """
        import resource, signal, sys
        from pathlib import Path
        from annotator.store import Store, answers, people, snapshot
        from annotator.errors import StoreError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1])
        store = Store(path)
        ada = store.write(people.named_or_added, "ada").annotator_id
        acknowledged = 0
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
        code = ""
        asked = snapshot.open_of(store.snapshot(), ada)
        for question in asked:
            try:
                store.append(answers.answer, question, ada, "label", 1)
                acknowledged += 1
            except StoreError as error:
                code = error.code
                break
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        n_stored = len(snapshot.standing(store.snapshot()))
        assert n_stored == acknowledged, (n_stored, acknowledged)
        for question in asked[acknowledged:]:
            store.append(answers.answer, question, ada, "label", 1)
        print(code, len(snapshot.standing(store.snapshot())), store.verify())
    """
    ada = storing.annotator(store, "ada").annotator_id
    storing.add_images(store, (ImageRecord(f"more{row}.png", 100 + row) for row in range(200)))
    storing.offer(store, [question(f"more{row}.png", 1, row) for row in range(200)], ada)
    told = _in_a_process(script, str(store.path))
    code, n_stored, damaged = told.stdout.split(maxsplit=2)
    assert code in ("STORE_FULL", "STORE_IO"), told.stderr
    assert (n_stored, damaged.strip()) == ("200", "[]")


def test_kill_9_at_any_moment_keeps_every_acknowledged_answer(store: Store) -> None:
    """Acknowledged answers are a subset of the stored ones, and at most one more is stored."""
    script = """
        import sys
        from pathlib import Path
        from annotator.store import Store, answers, people, snapshot
        store = Store(Path(sys.argv[1]))
        ada = store.write(people.named_or_added, "ada").annotator_id
        for question in snapshot.open_of(store.snapshot(), ada):
            store.append(answers.answer, question, ada, "label", 1)
            print(question.image_id, flush=True)
    """
    ada = storing.annotator(store, "ada").annotator_id
    storing.add_images(store, (ImageRecord(f"more{row}.png", 100 + row) for row in range(500)))
    storing.offer(store, [question(f"more{row}.png", 1, row) for row in range(500)], ada)
    command = [sys.executable, "-c", textwrap.dedent(script), str(store.path)]
    acknowledged: set[str] = set()
    for n_before_the_kill in (1, 7, 23):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(n_before_the_kill):
                acknowledged.add(process.stdout.readline().strip())
            os.kill(process.pid, signal.SIGKILL)
            acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        stored = {str(event.image_id) for event in storing.current(store)}
        assert acknowledged <= stored
        assert len(stored - acknowledged) <= 1
        acknowledged = stored
    assert store.verify() == []


def test_every_store_error_is_typed(store: Store) -> None:
    """Losing the file under an open store is an AnnotatorError, never a driver's traceback."""
    with closing(sqlite3.connect(store.path)) as raw, raw:
        raw.execute("DROP TABLE questions")
    calls: list[Callable[[], object]] = [
        lambda: storing.open_questions(store, "x"),
        lambda: store.write(questions.withdraw, "x"),
        lambda: storing.asked(store),
    ]
    for call in calls:
        with pytest.raises(AnnotatorError):
            call()


def test_an_event_is_what_was_stored(store: Store) -> None:
    """What `answer` returns is the row of the log, seq and all."""
    ada = storing.annotator(store, "ada").annotator_id
    event = store.append(
        answers.answer, offered(store, ada)[0], ada, "label", 1, deciding=Deciding(420, guess_shown=True)
    )
    assert isinstance(event, Event)
    assert store.read(log.events)[-1] == event
    assert event.client_ms == 420


def test_a_file_put_in_its_place_is_not_written_to(store: Store) -> None:
    """Another database under a running app: an answer is refused with what to do, and neither file is changed by it."""
    ada = storing.annotator(store, "ada").annotator_id
    asked = offered(store, ada)[0]
    aside = store.path.with_suffix(".aside")
    shutil.copy(store.path, aside)
    os.replace(aside, store.path)
    before = store.path.read_bytes()
    with pytest.raises(StoreError) as refused:
        store.append(answers.answer, asked, ada, "label", 0)
    assert refused.value.code == "STORE_REPLACED"
    assert store.path.read_bytes() == before


def test_an_older_state_put_back_is_not_written_to(store: Store) -> None:
    """A backup copied over the open file: what was answered since is gone from it, so nothing is added to it."""
    ada = storing.annotator(store, "ada").annotator_id
    first, second, *_ = offered(store, ada)
    backup = store.path.read_bytes()
    store.append(answers.answer, first, ada, "label", 0)
    assert len(storing.current(store)) == 1
    store.path.write_bytes(backup)
    with pytest.raises(StoreError) as refused:
        store.append(answers.answer, second, ada, "label", 0)
    assert refused.value.code == "STORE_REPLACED"


def test_a_file_that_is_gone_takes_no_answers(store: Store) -> None:
    """Deleted under a running app: nothing is called stored that nobody could find again."""
    ada = storing.annotator(store, "ada").annotator_id
    asked = offered(store, ada)[0]
    store.path.unlink()
    with pytest.raises(StoreError) as refused:
        store.append(answers.answer, asked, ada, "label", 0)
    assert refused.value.code == "STORE_MISSING"


# ---- images


def test_images_are_counted_and_named_in_row_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the pool alone, whatever the order they were added in, and across the ends of what is read at a time."""
    monkeypatch.setattr("annotator.store.log.CHUNK", 4)
    more = [ImageRecord("z.png", 11), ImageRecord("a.png", 10), ImageRecord("bad.png", None, "", "set aside", "torn")]
    storing.add_images(store, iter(more))
    assert storing.n_images(store) == 12
    assert list(storing.image_ids(store)) == [*(f"{row}.png" for row in range(10)), "a.png", "z.png"]
    assert [record.image_id for record in storing.images(store, "ok")] == list(storing.image_ids(store))


def test_images_that_are_known_stay_as_they_are(store: Store) -> None:
    """Added again with others, they are not touched."""
    storing.add_images(store, [ImageRecord("3.png", 90, "other"), ImageRecord("new.png", 10, "new")])
    assert [(record.row, record.content_sha256) for record in storing.images(store)][3] == (3, "hash3")
    assert storing.n_images(store) == 11


# ---- what is kept in memory


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["offer", "label", "label", "skip", "relabel", "undo", "withdraw", "late", "class", "flag"]),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 30),
    ),
    max_size=40,
)
"""What is done, by whom, through which of two open stores, and with which of what there is."""


@settings(max_examples=20, deadline=None)
@given(moves=MOVES)
def test_what_is_remembered_is_what_the_file_says(tmp_path_factory: pytest.TempPathFactory, moves: list[Any]) -> None:
    """However two people answer, undo, relabel and withdraw through two open stores, each says what SQL finds."""
    path = tmp_path_factory.mktemp("two") / "p" / "project.sqlite"
    stores = [Store.create(path, "two", 0), Store(path)]
    storing.add_classes(stores[0], ["a", "b"])
    people = [storing.annotator(stores[0], name).annotator_id for name in ("ada", "bob")]
    storing.seed(stores[0], [(replace(question("seed.png", 0), purpose="seed"), 1)], people[0])
    seen: list[Question] = []
    for number, (move, person, place, pick) in enumerate(moves):
        seen += storing.questions(stores[place])
        with suppress(StoreError):
            _move(stores[place], move, people[person], pick, number, seen)
        if pick % 3:
            _compare_with_file(stores[place], people, path)
    for opened in (*stores, Store(path)):
        _compare_with_file(opened, people, path)
        opened.close()


def _move(store: Store, move: str, me: str, pick: int, number: int, seen: list[Question]) -> None:
    waiting = storing.open_questions(store, me)
    mine = [event for event in storing.current(store) if event.annotator_id == me]
    if move == "offer":
        images = [f"{(pick + step) % 9}.png" for step in range(3)]
        known = {asked.image_id for asked in storing.questions(store) if asked.annotator_id == me}
        fresh = [image for image in images if image not in known]
        round_number = storing.last_round(store) + 1
        storing.offer(store, [question(image, round_number, rank) for rank, image in enumerate(fresh, start=1)], me)
    elif move in ("label", "skip") and waiting:
        store.append(answers.answer, waiting[pick % len(waiting)], me, move, pick % 2 if move == "label" else None)
    elif move == "relabel" and mine:
        store.append(answers.relabel, mine[pick % len(mine)], "label", pick % 2)
    elif move == "undo":
        store.append(answers.undo, me)
    elif move == "withdraw":
        store.write(questions.withdraw, me)
    elif move == "late" and seen:
        with suppress(StoreError):  # it was answered meanwhile
            store.append(answers.answer, seen[pick % len(seen)], me, "label", pick % 2)
    elif move == "class":
        storing.add_classes(store, [f"class {number}"])
    elif move == "flag" and seen:
        store.append(answers.flag, seen[pick % len(seen)], me, f"flag.{number}", "odd" if pick % 2 else "")


def _compare_with_file(store: Store, people: list[str], path: Path) -> None:
    """Everything that is kept in memory against the rows themselves."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        events = [dict(row) for row in file.execute("SELECT * FROM events ORDER BY seq")]
        asked = [dict(row) for row in file.execute("SELECT * FROM questions WHERE closed_by IS NOT 'withdrawn'")]
        every = [dict(row) for row in file.execute("SELECT * FROM questions")]
    on_images = [event for event in events if event["image_id"] is not None]
    for through in {0, *(event["seq"] for event in events[-12:]), len(events) + 1}:
        until = [event for event in on_images if event["seq"] <= through]
        superseded = {event["supersedes"] for event in until}
        stood = [event for event in until if event["outcome"] and event["event_id"] not in superseded]
        expected = [Event(**{key: event[key] for key in Event.__dataclass_fields__}) for event in stood]
        assert storing.current(store, through) == expected
        added = (event for event in events if event["kind"] == "class" and event["seq"] <= through)
        assert storing.n_classes(store, through) == len(list(added))
    assert storing.current(store) == storing.current(store, len(events))
    assert sorted(storing.asked(store)) == sorted((row["image_id"], row["purpose"]) for row in asked)
    assert storing.last_round(store) == max((row["round"] for row in asked), default=0)
    for me in people:
        mine = [row for row in asked if row["annotator_id"] == me and row["purpose"] != "seed"]
        assert rounds_of(store.snapshot(), me) == sorted({row["round"] for row in mine})
        waiting = [row["question_id"] for row in asked if row["annotator_id"] == me and row["closed_at"] is None]
        assert sorted(asked.question_id for asked in storing.open_questions(store, me)) == sorted(waiting)
    n_events = Counter(event["question_id"] for event in on_images)
    for row in every:
        found = storing.question(store, row["question_id"])
        assert found is not None
        assert (found.n_events, found.closed_by) == (n_events[row["question_id"]], row["closed_by"])
    comments: dict[tuple[str, str], str] = {}
    for event in events:
        if event["kind"] == "flag":
            said = json.loads(event["payload"])
            comments[said["image_id"], event["annotator_id"]] = said["comment"]
    assert storing.flags(store) == {key: comment for key, comment in comments.items() if comment}
    assert storing.n_labels(store) == sum(event.outcome == "label" for event in storing.current(store))
