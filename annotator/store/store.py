"""One project's store: a file, whose log may take events only while it says what was stored.

`read`, `write` and `append` run a function of another module of this package, such as `answers.give`, in one
transaction: it gets the connection and the project first. `append` is for those that add events: a store that does not
say what was stored (see verify.py) stays readable, with class names taken from the log, and takes no events, since an
answer added to a broken log would be no safer than the log.
"""

from __future__ import annotations

import json
import threading
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, and_, bindparam, select

from annotator.errors import StoreError
from annotator.store import answers, artefacts, classes, configs, images, log, people, questions, schema, verify
from annotator.store.engine import Database, replaced
from annotator.store.log import MOST_AT_ONCE, BrokenLogError
from annotator.store.values import (
    Annotator,
    Deciding,
    Event,
    ImageRecord,
    Json,
    LabelClass,
    ModelRecord,
    Question,
)
from annotator.store.values import made as _made

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Store:
    """One project's file. Every method is one transaction; what returned is on the disk."""

    def __init__(self, path: Path, project_id: str | None = None) -> None:
        """Without a `project_id` the only project of the file. Raises StoreError where it is not there."""
        if not path.exists():
            raise StoreError(f"There is no project at {path}. Create one, or check the folder.", "STORE_MISSING")
        self.path = path
        self._database = Database(path)
        self._database.upgrade()
        self._log = _Log()
        self._asked = _Asked()
        self._damage: tuple[str, ...] | None = None
        self._catching_up = threading.Lock()
        row = self._project(project_id)
        self.project_id: str = row.project_id
        self.name: str = row.name
        self.project_seed: int = row.seed
        self.created_at: str = row.created_at

    def _project(self, project_id: str | None) -> Any:  # Any: SQLAlchemy's row
        table = schema.projects
        query = select(table) if project_id is None else select(table).where(table.c.project_id == project_id)
        with self._database.read() as connection:
            rows = connection.execute(query).fetchall()
        if len(rows) != 1:
            said = "no such project" if project_id else f"{len(rows)} projects, and it was not said which"
            raise StoreError(
                f"{self.path} holds {said}. Name one that it holds, or create it anew.", "STORE_INCOMPLETE"
            )
        return rows[0]

    @classmethod
    def create(cls, path: Path, name: str, seed: int) -> Store:
        """A new, empty store at `path`; its folder is made. Raises StoreError where one stands already."""
        if path.exists():
            raise StoreError(f"There is a project at {path} already. Open it, or choose another name.", "STORE_EXISTS")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"Cannot make {path.parent}: {error.strerror}. Choose another --projects folder.", "STORE_READONLY"
            ) from error
        database, project_id = Database(path), uuid.uuid4().hex
        database.upgrade()
        with database.write() as connection:
            log.begin(connection, project_id, name, seed)
        database.close()
        return cls(path, project_id)

    def close(self) -> None:
        """Give back the file."""
        self._database.close()

    # ---- one transaction each

    def read(
        self, function: Callable[Concatenate[Connection, str, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """What the function reads, all of it at the same moment."""
        with self._database.read() as connection:
            return function(connection, self.project_id, *args, **kwargs)

    def write(
        self, function: Callable[Concatenate[Connection, str, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a function that changes tables other than the log; on the disk when this returns, or not at all."""
        with self._database.write() as connection:
            return function(connection, self.project_id, *args, **kwargs)

    def append(
        self, function: Callable[Concatenate[Connection, str, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a function that adds events; on the disk when this returns, or not at all.

        Raises StoreError (STORE_REPLACED, STORE_DAMAGED) where the log is not the one that was written so far.
        """
        with self._database.write() as connection:
            self._check_log(connection)
            try:
                return function(connection, self.project_id, *args, **kwargs)
            except BrokenLogError as error:
                self._damage = tuple(verify.quick(connection, self.project_id))
                raise StoreError(_refusal(self.path, self._damage or (str(error),)), "STORE_DAMAGED") from error

    def _check_log(self, connection: Connection) -> None:
        if log.newest_seq(connection, self.project_id) < self._log.seq:
            raise StoreError(replaced(self.path), "STORE_REPLACED")
        if self._damage is None:
            self._damage = tuple(verify.quick(connection, self.project_id))
        if self._damage:
            raise StoreError(_refusal(self.path, self._damage), "STORE_DAMAGED")

    @property
    def note(self) -> str:
        """Engine, version and mode, for the status line."""
        return self._database.note

    @property
    def head_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self.read(log.head).seq

    @property
    def head(self) -> dict[str, Json]:
        """Whose log ends where: what an export keeps of it, and `damage_since` holds it against."""
        head = self.read(log.head)
        return {"project_id": self.project_id, "store_head_seq": head.seq, "store_head_hash": head.hash}

    # ---- whether it says what was stored

    @property
    def damage(self) -> tuple[str, ...]:
        """What the quick form of verify.py found when the store was first used; while it is damaged it takes no events.

        Empty when all is well.
        """
        if self._damage is None:
            self._damage = tuple(self.read(verify.quick))
        return self._damage

    def verify(self) -> list[str]:
        """What the whole form of verify.py finds at this moment; empty when all is well."""
        return self.read(verify.whole)

    def damage_since(self, provenance: Mapping[str, Json]) -> list[str]:
        """What of the `head` that an export's manifest has is not so any more; empty when all is well."""
        return self.read(verify.against_export, provenance)

    # ---- by their old names, for callers that do not yet hand over a function

    def annotator(self, name: str, role: str = "annotator") -> Annotator:
        """The annotator of this name, added when new."""
        known = self.read(people.named, name)
        return self.write(people.named_or_added, name, role) if known is None else known

    def annotators(self) -> list[Annotator]:
        """Everyone, by number."""
        return self.read(people.annotators)

    def classes(self) -> list[LabelClass]:
        """Every class by id, which is its code; of a damaged store as the log has them."""
        if self.damage:
            return [LabelClass(*pair) for pair in enumerate(self.read(verify.class_names))]
        return self.read(classes.classes)

    def add_classes(self, names: Sequence[str], annotator_id: str | None = None, own: Collection[str] = ()) -> None:
        """Add classes in this order, each an event; see classes.py."""
        self.append(classes.add, names, annotator_id, own)

    def add_images(self, records: Iterable[ImageRecord]) -> None:
        """Register the pool and what was set aside; images that are known already stay as they are."""
        self.write(images.add, records)

    def images(self, status: str | None = None) -> list[ImageRecord]:
        """Every image in row order, those set aside last; or only those of one status."""
        return self.read(images.records, status)

    def image_ids(self) -> Iterator[str]:
        """The ids of the pool in row order, some thousands read at a time."""
        after = -1
        while found := self.read(images.ids_after, after):
            yield from (image_id for _, image_id in found)
            after = found[-1][0]

    def n_images(self) -> int:
        """How many images the pool has."""
        return self.read(images.count)

    def record_config(self, config: dict[str, Json], annotator_id: str | None = None) -> int:
        """Store a new configuration as an event; returns its version, counted from 1."""
        return self.append(configs.record, config, annotator_id)

    def config(self) -> tuple[int, dict[str, Json]]:
        """The newest configuration and its version."""
        known = self.configs()
        if not known:
            raise StoreError(
                f"{self.path} has no configuration; its creation was cut off. Create it anew.", "STORE_INCOMPLETE"
            )
        version = max(known)
        return version, known[version]

    def configs(self) -> dict[int, dict[str, Json]]:
        """Every configuration there was, by version; of a damaged store as the log has them."""
        return self.read(verify.configs) if self.damage else self.read(configs.configs)

    def offer(self, batch: Sequence[Question], annotator_id: str) -> list[Question]:
        """Store a batch before it is shown. An image that somebody holds is left out."""
        self.write(questions.offer, batch, annotator_id)
        return self.open_questions(annotator_id)

    def seed(self, answered: Sequence[tuple[Question, int]], annotator_id: str) -> None:
        """Store labels that were known from the start, each as a question and its answer, in one transaction."""
        self.append(questions.seed, answered, annotator_id)

    def withdraw(self, annotator_id: str, after_round: int = 0) -> None:
        """Take back what was offered to this annotator and not begun, of rounds after this one; begun batches stay."""
        self.write(questions.withdraw, annotator_id, after_round)

    def answer(
        self,
        question: Question,
        annotator_id: str,
        outcome: str,
        class_id: int | None = None,
        deciding: Deciding | None = None,
    ) -> Event:
        """Store an answer to a question; see answers.py."""
        return self.append(answers.answer, question, annotator_id, outcome, class_id, deciding)

    def relabel(
        self, expected: Event, outcome: str, class_id: int | None = None, deciding: Deciding | None = None
    ) -> Event:
        """Change a stored answer, compare-and-set on the event that the person saw."""
        return self.append(answers.relabel, expected, outcome, class_id, deciding)

    def undo(self, annotator_id: str) -> Event | None:
        """Take back this annotator's newest answer that stands; what it replaced holds again. None: nothing to undo."""
        return self.append(answers.undo, annotator_id)

    def flag(self, question: Question, annotator_id: str, event_id: str, comment: str) -> Event:
        """Attach a comment to an image; the newest of an annotator holds, an empty one takes it back."""
        return self.append(answers.flag, question, annotator_id, event_id, comment)

    def n_labels(self) -> int:
        """How many labels stand, of all annotators and of the import; counted where they are."""
        return self.read(answers.n_labels)

    def event(self, event_id: str) -> Event | None:
        """One event of the log; None where there is none of this id."""
        return self.read(log.event, event_id)

    def events(self) -> list[Event]:
        """The whole log in order."""
        return self.read(log.events)

    def record_model(self, record: ModelRecord) -> None:
        """Store what a fit was trained on and what was measured; a version that is known stays."""
        self.write(artefacts.record_model, record)

    def models(self) -> list[ModelRecord]:
        """Every fit by version."""
        return self.read(artefacts.models)

    def n_classes(self, through: int) -> int:
        """How many classes there were at that event."""
        with self._caught_up() as (log, _):
            return bisect_right(log.class_seqs, through)

    # ---- questions

    def open_questions(self, annotator_id: str) -> list[Question]:
        """What this annotator was asked and has not answered: reopened ones first, then by rank."""
        table = schema.questions
        return self._questions(table.c.annotator_id == annotator_id, table.c.closed_at.is_(None))

    def questions_of(self, annotator_id: str, rounds: Sequence[int]) -> list[Question]:
        """What this annotator was asked in these rounds and was not withdrawn, by round and rank."""
        table = schema.questions
        return self._questions(table.c.annotator_id == annotator_id, table.c.round.in_(rounds), _kept(table))

    def question(self, question_id: str) -> Question | None:
        """One question, withdrawn or not; None where there is none of this id."""
        return next(iter(self._questions(schema.questions.c.question_id == question_id)), None)

    def rounds_of(self, annotator_id: str) -> list[tuple[int, int]]:
        """(round, how many of its questions are open) of this annotator, ascending."""
        with self._with_asked() as asked:
            return asked.rounds_of(annotator_id)

    def first_answers(self, annotator_id: str, round_number: int) -> list[int]:
        """Seqs of the first answers to the questions of this round, ascending; an undo does not take them back."""
        table, event = schema.questions, schema.events
        ids = (table.c.question_id + ".0", "~" + table.c.question_id + ".0")
        first = and_(event.c.project_id == table.c.project_id, event.c.event_id.in_(ids), event.c.kind != "flag")
        mine = and_(self._mine(table), table.c.annotator_id == annotator_id, table.c.round == round_number)
        query = select(event.c.seq).select_from(table.join(event, first)).where(mine, _kept(table))
        return sorted(int(row["seq"]) for row in self._rows(query))

    def questions(self) -> list[Question]:
        """Every question that was not withdrawn, by round and rank."""
        table = schema.questions
        return self._questions(_kept(table))

    def asked(self) -> list[tuple[str, str]]:
        """(image id, purpose) of every question that was not withdrawn."""
        with self._with_asked() as asked:
            return [(place.image_id, place.purpose) for place in asked.all()]

    def last_round(self) -> int:
        """The highest round number that was asked and not withdrawn; 0 before the first."""
        with self._with_asked() as asked:
            return asked.last_round

    def flags(self) -> dict[tuple[str, str], str]:
        """(image id, annotator id) -> comment, of every flag that holds."""
        with self._caught_up() as (log, _):
            return {key: comment for key, comment in log.comments.items() if comment}

    def current(self, through: int | None = None) -> list[Event]:
        """The standing answer of each (image, annotator), by seq; `through` looks back to that event.

        Only what is new since the last call is read: the log is append-only.
        """
        with self._caught_up() as (log, _):
            return log.standing(through)

    def heads(self, annotator_id: str, image_ids: Iterable[str]) -> dict[str, Event]:
        """image id -> the newest event of this annotator's chain for it, an undo included."""
        with self._caught_up() as (log, _):
            found = {image_id: log.heads.get((image_id, annotator_id)) for image_id in image_ids}
        return {image_id: event for image_id, event in found.items() if event is not None}

    # ---- reading

    def _mine(self, table: Any) -> Any:  # Any: SQLAlchemy's table and clause
        return table.c.project_id == self.project_id

    def _of(self, table: Any) -> Any:  # Any: SQLAlchemy's table and select
        return select(table).where(self._mine(table))

    # Made once: with every answer they are asked several times, and putting one together costs as much as running it.

    @cached_property
    def _newer_events(self) -> Any:  # Any: SQLAlchemy's select
        table = schema.events
        return self._of(table).where(table.c.seq > bindparam("seq")).order_by(table.c.seq)

    @cached_property
    def _open_places(self) -> Any:  # Any: SQLAlchemy's select
        return self._places.where(schema.questions.c.closed_at.is_(None))

    @cached_property
    def _answered_places(self) -> Any:  # Any: SQLAlchemy's select
        return self._places.where(schema.questions.c.closed_by == "answer")

    @cached_property
    def _places(self) -> Any:  # Any: SQLAlchemy's select
        table = schema.questions
        columns = (table.c[name] for name in _Place.__dataclass_fields__)
        return select(*columns).where(self._mine(table))

    def _questions(self, *conditions: Any) -> list[Question]:  # Any: SQLAlchemy's clauses
        """Questions by round and rank, each with the number of events that answered it so far."""
        table = schema.questions
        query = self._of(table).where(*conditions).order_by(table.c.round, table.c.rank)
        with self._caught_up() as (log, connection):
            rows = connection.execute(query).mappings().fetchall()
            return [_made(Question, row | {"n_events": log.n_events[row["question_id"]]}) for row in map(dict, rows)]

    @contextmanager
    def _caught_up(self) -> Iterator[tuple[_Log, Connection]]:
        """The log in memory as it is on the disk at this moment, which lasts as long as the connection is held."""
        with self._catching_up, self._database.reading() as connection:
            for row in connection.execute(self._newer_events, {"seq": self._log.seq}).mappings().fetchall():
                self._log.add(_made(Event, row))
            yield self._log, connection

    @contextmanager
    def _with_asked(self) -> Iterator[_Asked]:
        """What was asked as it is on the disk at this moment.

        Without an event a question can only be offered or, while it is open, withdrawn. So those that are open now,
        and those that events speak of since the last time, are all that can be other than they were.
        """
        asked, table = self._asked, schema.questions
        with self._caught_up() as (log, connection):
            open_now = [_Place(*row) for row in connection.execute(self._open_places).fetchall()]
            changed = asked.see_open(open_now, log.questions_since(asked.seq))
            if asked.seq == 0:
                asked.see_answered(_Place(*row) for row in connection.execute(self._answered_places).fetchall())
            for start in range(0, len(changed) if asked.seq else 0, MOST_AT_ONCE):
                some = table.c.question_id.in_(changed[start : start + MOST_AT_ONCE])
                found = connection.execute(self._answered_places.where(some)).fetchall()
                asked.see_answered(_Place(*row) for row in found)
            asked.seq = log.seq
            yield asked

    def _rows(self, query: Any) -> Sequence[Any]:  # Any: SQLAlchemy's select and row mappings
        with self._database.reading() as connection:
            return connection.execute(query).mappings().fetchall()


class _Log:
    """The events read so far; knows no file."""

    def __init__(self) -> None:
        self.seq = 0
        """Of the newest event."""
        self.heads: dict[tuple[str, str], Event] = {}
        """(image id, annotator id) -> the last event of the chain, by seq."""
        self.n_events: Counter[str] = Counter()
        """question id -> how many events answered it."""
        self.class_seqs: list[int] = []
        """Seqs at which a class was added."""
        self.comments: dict[tuple[str, str], str] = {}
        """(image id, annotator id) -> the newest comment, an empty one too."""
        self._chained: list[tuple[Event, Event | None]] = []
        """Each event on an image, with the head of its chain before it."""

    def add(self, event: Event) -> None:
        """The next event."""
        self.seq = event.seq
        if event.image_id is not None:
            key = (event.image_id, str(event.annotator_id))
            self._chained.append((event, self.heads.pop(key, None)))  # so that the order stays that of the seqs
            self.heads[key] = event
            self.n_events[str(event.question_id)] += 1
        elif event.kind == "class" and event.event_id.endswith(".add"):
            self.class_seqs.append(event.seq)
        elif event.kind == "flag":
            payload = json.loads(event.payload)
            self.comments[payload["image_id"], str(event.annotator_id)] = payload["comment"]

    def standing(self, through: int | None) -> list[Event]:
        """The answers that stand, or stood at that event, by seq."""
        first_later = len(self._chained) if through is None else self._place_after(through)
        if first_later == len(self._chained):
            return [event for event in self.heads.values() if event.outcome is not None]
        heads: dict[tuple[str, str], Event | None] = dict(self.heads)
        for event, before in reversed(self._chained[first_later:]):
            heads[str(event.image_id), str(event.annotator_id)] = before
        stood = (event for event in heads.values() if event is not None and event.outcome is not None)
        return sorted(stood, key=lambda event: event.seq)

    def questions_since(self, seq: int) -> list[str]:
        """Ids of the questions that later events answer, or whose answers they change."""
        return [str(event.question_id) for event, _ in self._chained[self._place_after(seq) :]]

    def _place_after(self, seq: int) -> int:
        return bisect_right(self._chained, seq, key=lambda chained: chained[0].seq)


@dataclass(frozen=True)
class _Place:
    """Where and to whom an image was asked."""

    question_id: str
    image_id: str
    purpose: str
    annotator_id: str
    round: int


class _Asked:
    """The questions that were not withdrawn, as far as read; knows no file."""

    def __init__(self) -> None:
        self.seq = 0
        """Of the newest event that is reckoned with."""
        self._open: dict[str, _Place] = {}
        self._answered: dict[str, _Place] = {}
        self._n_answered: dict[str, Counter[int]] = {}
        """annotator id -> round -> answered questions; seeds are in round 0."""

    def all(self) -> list[_Place]:
        """Every question, those with an answer first."""
        return [*self._answered.values(), *self._open.values()]

    @property
    def last_round(self) -> int:
        """The highest; 0 before the first."""
        answered = (max(counts, default=0) for counts in self._n_answered.values())
        return max([*answered, *(place.round for place in self._open.values())], default=0)

    def rounds_of(self, annotator_id: str) -> list[tuple[int, int]]:
        """(round, how many of its questions are open), ascending; without the seeds."""
        n_open = Counter(place.round for place in self._open.values() if place.annotator_id == annotator_id)
        rounds = {*self._n_answered.get(annotator_id, ()), *n_open} - {0}
        return [(number, n_open[number]) for number in sorted(rounds)]

    def see_open(self, places: Sequence[_Place], changed: Sequence[str]) -> list[str]:
        """These are open now; which of those that were `changed` are not, and may have an answer."""
        self._open = {place.question_id: place for place in places}
        for question_id in [*changed, *self._open]:
            self._forget(question_id)
        return [question_id for question_id in dict.fromkeys(changed) if question_id not in self._open]

    def see_answered(self, places: Iterable[_Place]) -> None:
        """These have an answer."""
        for place in places:
            self._answered[place.question_id] = place
            self._n_answered.setdefault(place.annotator_id, Counter())[place.round] += 1

    def _forget(self, question_id: str) -> None:
        place = self._answered.pop(question_id, None)
        if place is not None:
            counts = self._n_answered[place.annotator_id]
            counts[place.round] -= 1
            if not counts[place.round]:
                del counts[place.round]


def _refusal(path: Path, damage: Sequence[str]) -> str:
    return f"The label store {path} is not as it was left, so nothing was stored: {damage[0]} {verify.ADVICE}"


def _kept(_table: Any) -> Any:  # Any: SQLAlchemy's table and clause
    return questions.KEPT
