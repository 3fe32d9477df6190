"""Two people at the same moment, two projects in one database, and offers that nobody takes up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import registry
from annotator.asking import Settings
from annotator.config import Config
from annotator.eligible import asked_rows, eligible
from annotator.errors import StoreError
from annotator.fitted import Fitted, Newest
from annotator.project import Project
from annotator.purposes import AUDIT, PURPOSES, SECOND_OPINION, TRAIN
from annotator.session import N_FREE_TRIES, Session
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Answer, ImageRecord, Store, answers, log, questions
from annotator.store.engine import Database
from annotator.types import Dataset, IntArray, Pool, Prediction
from tests import storing
from tests.builders import tiny_dataset
from tests.test_store import question

SMALL = Config(name="small", source="digits", limit=80, encoder="pixels", batch_size=6, initial="first:10")
N_IMAGES = 500


class StillLearner:
    """What a session asks of a learner, of one that never learns."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.audit_rows: IntArray = np.empty(0, dtype=np.int64)
        labels = (
            np.arange(len(dataset)) % 2
        )  # two classes are known, so the strategy chooses: at random, which is quick
        self.newest = Newest((), Fitted(labels, Prediction(np.ones((len(dataset), 1)))))
        self.is_ready, self.version, self.trained_through = True, None, 0

    def learn(self, wait: bool = True, through: int | None = None) -> None:
        """Nothing."""

    def row(self, image_id: str) -> int:
        return self.dataset.ids.index(image_id)


def still_session(store: Store, name: str, n_images: int = N_IMAGES, batch_size: int = 1) -> Session:
    """A session over `n_images` images without a model."""
    learner: Any = StillLearner(tiny_dataset(n_images))  # Any: stands in for a Learner
    settings = Settings(1, 0, "random", {}, batch_size, audit_share=0.0)
    learner.dataset = replace(learner.dataset, version="0" * 12)
    return Session(store, learner, storing.annotator(store, name), settings)


def still_store(path: Path, n_images: int = N_IMAGES) -> Store:
    store = Store.create(path, "still", 0)
    storing.add_classes(store, ["a", "b", "c"])
    storing.add_images(store, (ImageRecord(image_id, row) for row, image_id in enumerate(tiny_dataset(n_images).ids)))
    storing.record_config(store, {})
    return store


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "small", SMALL)
    yield opened
    opened.close()


class Meeting:
    """A strategy whose first `n` choices wait for each other: all have read before any has claimed."""

    def __init__(self, strategy: Any, barrier: threading.Barrier, n: int) -> None:
        self._strategy, self._barrier, self._left = strategy, barrier, n
        self.n_asked = 0

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Any:
        self.n_asked += 1
        if self.n_asked <= self._left:
            self._barrier.wait(30)
        return self._strategy.query(pool, batch_size, rng)


def meet(monkeypatch: pytest.MonkeyPatch, n: int) -> Meeting:
    create, barrier = registry.create, threading.Barrier(n)
    meeting = Meeting(registry.create("strategy", "entropy"), barrier, n)

    def created(kind: str, name: str, parameters: Any = None) -> Any:
        return meeting if kind == "strategy" else create(kind, name, parameters)

    monkeypatch.setattr(registry, "create", created)
    return meeting


def at_once(*actions: Any) -> list[BaseException]:
    """Run these in threads; what they raised."""
    raised: list[BaseException] = []

    def run(action: Any) -> None:
        try:
            action()
        except BaseException as error:  # whatever it is, the test looks at it
            raised.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_two_who_choose_at_the_same_moment_both_get_a_batch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1, S5: both have read the same situation before one claims; the other chooses again, and no image is shared."""
    ada, bob = project.session("ada"), project.session("bob")
    meeting = meet(monkeypatch, 2)
    assert at_once(ada.advance, bob.advance) == []
    asked = [[card.image_id for card in session.remaining] for session in (ada, bob)]
    assert [len(images) for images in asked] == [6, 6]
    assert not set(asked[0]) & set(asked[1])
    assert sorted({card.round for session in (ada, bob) for card in session.remaining}) == [1, 2]
    assert meeting.n_asked == 3
    assert project.store.verify() == []


def test_two_tabs_of_one_person_get_one_batch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: the tab that claims second finds the batch of the first."""
    tabs = [project.session("ada"), project.session("ada")]
    meet(monkeypatch, 2)
    assert at_once(*(tab.advance for tab in tabs)) == []
    assert len(tabs[0].remaining) == len(tabs[1].remaining) == 6


def test_who_always_comes_second_is_served_inside_the_lock(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: after the free tries the choice is made where nobody can be faster."""
    bob = project.session("bob")
    refused = []

    def lost(*_: Any) -> bool:
        refused.append(1)
        return claim(*_) if len(refused) > N_FREE_TRIES else False

    claim = questions.claim
    monkeypatch.setattr(questions, "claim", lost)
    bob.advance()
    assert (len(bob.remaining), len(refused)) == (6, N_FREE_TRIES + 1)


def test_answers_do_not_wait_for_a_strategy(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: while one person's batch is being chosen, another's answer is stored."""
    ada, bob = project.session("ada"), project.session("bob")
    ada.advance()
    [card, *_] = ada.remaining
    meet(monkeypatch, 2)
    barrier: threading.Barrier = registry.create("strategy", "entropy")._barrier

    def answer_meanwhile() -> None:
        ada.label(card.image_id, "1", event_id=card.event_id)
        barrier.wait(30)

    assert at_once(bob.advance, answer_meanwhile) == []
    assert ada.labels == {card.image_id: "1"}
    assert len(bob.remaining) == 6


PLAY = """
import sys
from pathlib import Path
from annotator.store import Answer, Store
from tests.test_two_at_once import N_IMAGES, still_session

store = Store(Path(sys.argv[1]))
session = still_session(store, sys.argv[2])
while len(store.snapshot().asked.images) < N_IMAGES or session.remaining:
    session.advance()
    for card in session.remaining:
        question_id = card.event_id.rpartition(".")[0]
        session.give(Answer("answer", card.event_id, question_id, class_id=card.row % 3))
"""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: there a commit does not wait for the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_four_processes_choose_and_answer_at_once(memory: Path) -> None:
    """R1, S5: two people in two processes each, 500 rounds: no error, no double, no gap; it verifies."""
    store = still_store(memory / "p" / "project.sqlite")
    humans = [storing.annotator(store, name).annotator_id for name in ("ada", "bob")]
    command = [sys.executable, "-c", PLAY, str(store.path)]
    playing = [
        subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        for name in ("ada", "bob", "ada", "bob")
    ]
    said = [process.communicate()[1] for process in playing]
    assert [process.returncode for process in playing] == [0] * 4, said
    asked, events = storing.questions(store), store.read(log.events)
    assert len(asked) == len({one.image_id for one in asked}) == N_IMAGES
    assert len({one.round for one in asked}) == N_IMAGES
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    answered = [event.image_id for event in events if event.kind == "answer"]
    assert len(answered) == len(set(answered)) == N_IMAGES
    assert set(Counter(one.annotator_id for one in asked)) == set(humans)
    assert store.verify() == []


# ---- two projects in one database


def test_two_projects_in_one_database(tmp_path: Path) -> None:
    """R2: each opens by its id, takes events, and has its own head, people, classes, questions and models."""
    first = Store.create(tmp_path / "p" / "project.sqlite", "first", 1)
    database = Database(first.path)
    with database.write() as connection:
        log.begin(connection, "second", "second", 2)
    database.close()
    with pytest.raises(StoreError, match="2 projects") as refused:
        Store(first.path)
    assert refused.value.code == "STORE_INCOMPLETE"
    second = Store(first.path, "second")
    for store, names in ((first, ["a", "b"]), (second, ["c", "d", "e"])):
        storing.add_classes(store, names)
        storing.add_images(store, (ImageRecord(f"{row}.png", row) for row in range(3)))
        storing.record_config(store, {"seed": store.project_seed})
        me = storing.annotator(store, "ada").annotator_id
        for asked in storing.offer(store, [question(f"{row}.png", rank=row + 1) for row in range(3)], me)[:-1]:
            store.append(answers.answer, asked, me, "label", 1)
    assert (first.name, second.name) == ("first", "second")
    assert (storing.head_seq(first), storing.head_seq(second)) == (5, 6)
    me = storing.annotator(first, "ada").annotator_id
    [left] = storing.open_questions(first, me)
    first.append(questions_answered, me, left.question_id)
    first.append(answers.undo, me)
    assert (storing.head_seq(first), storing.head_seq(second)) == (7, 6)
    assert [len(storing.classes(store)) for store in (first, second)] == [2, 3]
    assert [len(storing.current(store)) for store in (first, second)] == [2, 2]
    second.write(questions.withdraw, storing.annotator(second, "ada").annotator_id)
    for store in (first, second, Store(first.path, first.project_id), Store(first.path, "second")):
        assert (store.damage, store.verify(), len(storing.asked(store))) == ((), [], 3)
        assert len(store.snapshot().people) == 1


def questions_answered(connection: Any, project_id: str, me: str, question_id: str) -> None:
    """The answer to a question by its id alone."""
    from annotator.store import answers

    answers.give(connection, project_id, me, Answer("answer", f"{question_id}.0", question_id, class_id=0))


# ---- offers that nobody takes up


def expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers made from now on are over at once."""
    monkeypatch.setattr(questions, "LEASE", timedelta(seconds=-1))


def test_an_offer_not_begun_expires_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images are asked of somebody else then; what the first person answers late is stored all the same."""
    store = still_store(tmp_path / "p" / "project.sqlite", 6)
    ada, bob = (still_session(store, name, 6, batch_size=6) for name in ("ada", "bob"))
    expire(monkeypatch)
    ada.advance()
    late = ada.remaining
    assert len(late) == 6
    bob.advance()
    assert {card.image_id for card in bob.remaining} == {card.image_id for card in late}
    assert ada.remaining == []
    ada.label(late[0].image_id, "a", event_id=late[0].event_id)
    assert ada.labels == {late[0].image_id: "a"}
    assert store.verify() == []


def test_a_begun_batch_does_not_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer freezes it: nobody else is asked about its images."""
    store = still_store(tmp_path / "p" / "project.sqlite", 6)
    ada, bob = (still_session(store, name, 6, batch_size=6) for name in ("ada", "bob"))
    expire(monkeypatch)
    ada.advance()
    ada.label(ada.remaining[0].image_id, "a")
    bob.advance()
    assert (len(ada.remaining), bob.remaining) == (5, [])


def test_ones_own_offer_is_renewed_and_never_expires_for_oneself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes back is asked the same; and then holds it for a whole lease again."""
    store = still_store(tmp_path / "p" / "project.sqlite", 6)
    ada, bob = (still_session(store, name, 6, batch_size=6) for name in ("ada", "bob"))
    with monkeypatch.context() as patched:
        expire(patched)
        ada.advance()
    asked = [card.image_id for card in ada.remaining]
    assert store.read(questions.others_expired, bob.annotator.annotator_id)
    ada.advance()
    assert [card.image_id for card in ada.remaining] == asked
    bob.advance()
    assert (bob.remaining, [card.image_id for card in ada.remaining]) == ([], asked)


# ---- one key press


def test_one_key_press_is_one_transaction(project: Project) -> None:
    """An answer, a change, an undo and a flag are one write each, and nothing is read beside it."""
    import sqlalchemy

    session = project.session("ada")
    session.advance()
    question_id = session.remaining[0].event_id.rpartition(".")[0]
    first = f"{question_id}.0"
    project.store.verify()
    begun: list[str] = []

    def note(_connection: Any, _cursor: Any, said: str, *_: Any) -> None:
        begun.extend([said] if said.startswith("BEGIN") else [])

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    presses = [
        Answer("answer", first, question_id, class_id=3, milliseconds=700, guess_shown=True),
        Answer("change", seen_id=first, class_id=5),
        Answer("undo", seen_id=f"{first}>label5"),
        Answer("flag", f"{question_id}!1", question_id, comment="odd"),
    ]
    for press in presses:
        session.give(press)
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    assert begun == ["BEGIN IMMEDIATE"] * 4
    assert list(session.labels.values()) == ["3"]


# ---- who may be asked


def test_an_image_is_asked_while_fewer_questions_are_about_it_than_answers_are_wanted() -> None:
    """Once for training, twice for a second opinion; the audit slice for the audit alone, in its order."""
    dataset, audit = tiny_dataset(8), np.array([5, 2])
    asked = asked_rows([0, 0, 1, 5], n_drawn=4)
    assert eligible(dataset, audit, asked, TRAIN).tolist() == [3, 4, 6, 7]
    assert eligible(dataset, audit, asked, SECOND_OPINION).tolist() == [1, 3, 4, 6, 7]
    assert eligible(dataset, audit, asked, AUDIT).tolist() == [2]
    assert {name for name, purpose in PURPOSES.items() if not purpose.trains} == {"audit"}


def test_single_batches_are_what_they_were(project: Project, projects: Path) -> None:
    """Leases, versions and free tries change nothing for one person: the same rounds as those of another project."""
    again = Project.create(projects / "again", SMALL)
    rounds = []
    for made in (project, again):
        session, oracle = made.session("ada"), oracle_of(made)
        for _ in range(3):
            session.advance()
            answer_batch(session, oracle)
        rounds.append([(one.image_id, one.round, one.rank, one.score) for one in storing.questions(made.store)])
    assert rounds[0] == rounds[1]
    again.close()
