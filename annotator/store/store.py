"""What was asked and what was answered, durably. Speaks image ids, class ids and annotators; knows no arrays.

Questions are stored before they are shown. Answers are events: appended, numbered without gaps inside the transaction,
each with the hash of its own bytes chained to the one before it. Nothing deletes or overwrites an event: an undo or a
changed answer *supersedes* the head of the chain of its (image, annotator), compare-and-set by a unique index, so two
tabs can never both change the same answer. An event id is minted when an image is shown; sent twice it is one event.

A store that does not say what was stored (see verify.py) stays readable, with class names taken from the log, and takes
no events: an answer added to a broken log would be no safer than the log.
"""

from __future__ import annotations

import json
import threading
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from annotator.class_names import check_number_of_classes, checked_class_names
from annotator.errors import StoreError
from annotator.store import schema, verify
from annotator.store.engine import Database, replaced
from annotator.store.verify import GENESIS, MOST_AT_ONCE, canonical_json, event_hash

PAYLOAD_VERSION = 1
CHUNK = 10_000
"""Images that are written or read, and known labels that are written, at a time."""
OUTCOMES = ("label", "skip", "unsure", "none-of-these")
_EMPTY = dict.fromkeys(("image_id", "class_id", "outcome", "question_id", "supersedes", "undoes", "client_ms"))
"""What not every event has."""


@dataclass(frozen=True)
class Annotator:
    """Who answers; `number` is stable and part of every batch's random stream."""

    annotator_id: str
    number: int
    name: str
    role: str = "annotator"


@dataclass(frozen=True)
class LabelClass:
    """A class: its id is its code, never reused; its name may change."""

    class_id: int
    name: str
    retired: bool = False


@dataclass(frozen=True)
class ImageRecord:
    """One entry of the source: in the pool at `row`, or set aside with a reason."""

    image_id: str
    row: int | None
    content_sha256: str = ""
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Question:
    """An image that was, or is about to be, asked about, and everything known when it was chosen."""

    image_id: str
    round: int
    rank: int
    purpose: str
    strategy: str
    strategy_version: str
    guess: int | None
    guess_probability: float | None
    guess_entropy: float | None
    guess_visible: bool
    score: float | None
    propensity: float | None
    model_version: int | None
    config_version: int
    chosen_at_seq: int
    annotator_id: str = ""
    question_id: str = ""
    n_events: int = 0
    shown_at: str | None = None
    closed_by: str | None = None

    @property
    def event_id(self) -> str:
        """The id of the next answer to this question: the same however often it is sent."""
        return f"{self.question_id}.{self.n_events}"


@dataclass(frozen=True)
class Event:
    """One row of the log."""

    seq: int
    event_id: str
    kind: str
    annotator_id: str | None = None
    image_id: str | None = None
    class_id: int | None = None
    outcome: str | None = None
    question_id: str | None = None
    supersedes: str | None = None
    undoes: str | None = None
    client_ms: int | None = None
    payload: str = "{}"
    created_at: str = ""


@dataclass(frozen=True)
class Deciding:
    """How an answer came about, as the browser measured it."""

    milliseconds: int | None
    """From when the person could decide until they did."""
    guess_shown: bool | None
    """Whether the model's guess was on the screen."""


@dataclass(frozen=True)
class ModelRecord:
    """One fit: what it was trained on and what was measured."""

    version: int
    trained_through: int
    dataset_version: str
    config_version: int
    metrics: dict[str, Any]  # Any: JSON
    sha256: str | None = None
    """Of the file with its prediction; None where there is none yet."""


class Store:
    """One project's file. Every method is one transaction; what returned is on the disk."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StoreError(f"There is no project at {path}. Create one, or check the folder.", "STORE_MISSING")
        self._open(path)
        with self._database.reading() as connection:
            row = connection.execute(select(schema.projects)).mappings().one()
        self.project_id: str = row["project_id"]
        self.name: str = row["name"]
        self.project_seed: int = row["seed"]
        self.created_at: str = row["created_at"]

    def _open(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)
        self._database.upgrade()
        self._log = _Log()
        self._asked = _Asked()
        self._damage: tuple[str, ...] | None = None
        self._catching_up = threading.Lock()

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
        database = Database(path)
        database.upgrade()
        with database.writing() as connection:
            connection.execute(
                insert(schema.projects).values(
                    project_id=uuid.uuid4().hex, name=name, seed=seed, head_seq=0, head_hash=GENESIS, created_at=now()
                )
            )
        database.close()
        return cls(path)

    def close(self) -> None:
        """Give back the file."""
        self._database.close()

    @property
    def note(self) -> str:
        """Engine, version and mode, for the status line."""
        return self._database.note

    @property
    def head_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return int(self._scalar(select(schema.projects.c.head_seq)))

    @property
    def head(self) -> dict[str, Any]:  # Any: JSON
        """Whose log ends where: what an export keeps of it, and `damage_since` holds it against."""
        table = schema.projects
        row = self._rows(select(table.c.head_seq, table.c.head_hash).where(self._mine(table)))[0]
        return {
            "project_id": self.project_id,
            "store_head_seq": row["head_seq"],
            "store_head_hash": row["head_hash"],
        }

    # ---- whether it says what was stored

    @property
    def damage(self) -> tuple[str, ...]:
        """What the quick form of verify.py found when the store was first used; while it is damaged it takes no events.

        Empty when all is well.
        """
        if self._damage is None:
            with self._database.reading() as connection:
                self._damage = tuple(verify.quick(connection, self.project_id))
        return self._damage

    def verify(self) -> list[str]:
        """What the whole form of verify.py finds at this moment; empty when all is well."""
        with self._database.reading() as connection:
            return verify.whole(connection, self.project_id)

    def damage_since(self, provenance: Mapping[str, Any]) -> list[str]:  # Any: JSON
        """What of the `head` that an export's manifest has is not so any more; empty when all is well."""
        with self._database.reading() as connection:
            return verify.against_export(connection, self.project_id, provenance)

    def damaged(self) -> list[int]:
        """Seqs of events whose stored bytes do not match the hash chain; empty when all is well."""
        with self._database.reading() as connection:
            return verify.broken_links(connection, self.project_id)

    # ---- people and classes

    def annotator(self, name: str, role: str = "annotator") -> Annotator:
        """The annotator of this name, added when new."""
        table = schema.annotators
        known = next((person for person in self.annotators() if person.name == name), None)
        if known is not None:
            return known
        with self._database.writing() as connection:
            found = connection.execute(self._of(table).where(table.c.name == name)).mappings().one_or_none()
            if found is not None:
                return Annotator(found["annotator_id"], found["number"], found["name"], found["role"])
            number = 1 + (connection.execute(self._count(table)).scalar() or 0)
            added = Annotator(uuid.uuid4().hex, number, name, role)
            connection.execute(insert(table).values(project_id=self.project_id, created_at=now(), **asdict(added)))
        return added

    def annotators(self) -> list[Annotator]:
        """Everyone, by number."""
        rows = self._rows(self._of(schema.annotators).order_by(schema.annotators.c.number))
        return [Annotator(row["annotator_id"], row["number"], row["name"], row["role"]) for row in rows]

    def classes(self) -> list[LabelClass]:
        """Every class by id, which is its code; of a damaged store as the log has them."""
        if self.damage:
            with self._database.reading() as connection:
                return [LabelClass(*pair) for pair in enumerate(verify.class_names(connection, self.project_id))]
        rows = self._rows(self._class_rows)
        return [LabelClass(row["class_id"], row["name"], row["retired_at"] is not None) for row in rows]

    def n_classes(self, through: int) -> int:
        """How many classes there were at that event."""
        with self._caught_up() as (log, _):
            return bisect_right(log.class_seqs, through)

    def add_classes(self, names: Sequence[str], annotator_id: str | None = None, own: Collection[str] = ()) -> None:
        """Add classes in this order, each an event.

        Raises ConfigError as `checked_class_names` does, and for more than `MOST_CLASSES` (CLASS_TOO_MANY).
        """
        with self._database.writing() as connection:
            taken = [row.name for row in connection.execute(self._of(schema.classes)).fetchall()]
            added = list(enumerate(checked_class_names(names, taken, own), start=len(taken)))
            check_number_of_classes(len(taken) + len(added))
            if not added:
                return
            events = [
                {
                    "event_id": self._free_id(connection, f"class.{code}.add"),
                    "class_id": code,
                    "payload": {"action": "add", "name": name},
                }
                for code, name in added
            ]
            self._append_all(connection, "class", annotator_id, events)
            fixed = {"project_id": self.project_id, "created_at": now()}
            rows = [{"class_id": code, "name": name, **fixed} for code, name in added]
            connection.execute(insert(schema.classes), rows)

    # ---- images and configs

    def add_images(self, records: Iterable[ImageRecord]) -> None:
        """Register the pool and what was set aside; images that are known already stay as they are."""
        with self._database.writing() as connection:
            known = set(connection.execute(select(schema.images.c.image_id).where(self._mine(schema.images))).scalars())
            fresh = (self._image_row(record) for record in records if record.image_id not in known)
            while rows := list(islice(fresh, CHUNK)):
                connection.execute(insert(schema.images), rows)

    def images(self, status: str | None = None) -> list[ImageRecord]:
        """Every image in row order, those set aside last; or only those of one status."""
        table = schema.images
        query = self._of(table).order_by(table.c.row.is_(None), table.c.row, table.c.image_id)
        if status is not None:
            query = query.where(table.c.status == status)
        return [_made(ImageRecord, row) for row in self._rows(query)]

    def image_ids(self) -> Iterator[str]:
        """The ids of the pool in row order, some thousands read at a time."""
        table = schema.images
        in_order = select(table.c.row, table.c.image_id).where(self._mine(table)).order_by(table.c.row).limit(CHUNK)
        after = -1
        while rows := self._rows(in_order.where(table.c.row > after)):
            yield from (row["image_id"] for row in rows)
            after = rows[-1]["row"]

    def n_images(self) -> int:
        """How many images the pool has."""
        return int(self._scalar(self._count(schema.images).where(schema.images.c.row.is_not(None))))

    def record_config(self, config: dict[str, Any], annotator_id: str | None = None) -> int:
        """Store a new configuration as an event; returns its version, counted from 1."""
        with self._database.writing() as connection:
            version = 1 + (connection.execute(self._count(schema.configs)).scalar() or 0)
            event_id = self._free_id(connection, f"config.{version}")
            event = self._append(
                connection, event_id, "config", annotator_id, payload={"version": version, "config": config}
            )
            row = {
                "version": version,
                "seq": event.seq,
                "config": canonical_json(config),
                "created_at": event.created_at,
            }
            connection.execute(insert(schema.configs).values(project_id=self.project_id, **row))
        return version

    def config(self) -> tuple[int, dict[str, Any]]:
        """The newest configuration and its version."""
        known = self.configs()
        if not known:
            raise StoreError(
                f"{self.path} has no configuration; its creation was cut off. Create it anew.", "STORE_INCOMPLETE"
            )
        version = max(known)
        return version, known[version]

    def configs(self) -> dict[int, dict[str, Any]]:  # Any: JSON
        """Every configuration there was, by version; of a damaged store as the log has them."""
        if self.damage:
            with self._database.reading() as connection:
                return verify.configs(connection, self.project_id)
        rows = self._rows(self._of(schema.configs).order_by(schema.configs.c.version))
        return {int(row["version"]): json.loads(row["config"]) for row in rows}

    # ---- questions

    def offer(self, questions: Sequence[Question], annotator_id: str) -> list[Question]:
        """Store a batch before it is shown. An image that somebody else holds is left out."""
        with self._database.writing() as connection:
            held = self._held(connection)
            offered = [question for question in questions if question.image_id not in held]
            self._insert(connection, offered, annotator_id)
        return self.open_questions(annotator_id)

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

    def seed(self, answered: Sequence[tuple[Question, int]], annotator_id: str) -> None:
        """Store labels that were known from the start, each as a question and its answer, in one transaction."""
        with self._database.writing() as connection:
            for start in range(0, len(answered), CHUNK):
                some = answered[start : start + CHUNK]
                questions = [question for question, _ in some]
                ids = self._insert(connection, questions, annotator_id, closed_at=now(), closed_by="answer")
                events = [
                    {
                        "event_id": f"{stored}.0",
                        "image_id": question.image_id,
                        "question_id": stored,
                        "outcome": "label",
                        "class_id": class_id,
                        "payload": _as_asked(question),
                    }
                    for stored, (question, class_id) in zip(ids, some, strict=True)
                ]
                self._append_all(connection, "answer", annotator_id, events)

    def withdraw(self, annotator_id: str, after_round: int = 0) -> None:
        """Take back what was offered to this annotator and not begun, of rounds after this one; begun batches stay."""
        table = schema.questions
        mine = and_(self._mine(table), table.c.annotator_id == annotator_id, table.c.round > after_round)
        with self._database.writing() as connection:
            begun = select(table.c.round).where(mine, table.c.closed_by == "answer")
            withdrawn = and_(mine, table.c.closed_at.is_(None), table.c.round.not_in(begun))
            connection.execute(update(table).where(withdrawn).values(closed_at=now(), closed_by="withdrawn"))

    def mark_shown(self, question_ids: Sequence[str]) -> None:
        """Note the first time that these were on a screen."""
        table = schema.questions
        unseen = and_(table.c.question_id.in_(question_ids), table.c.shown_at.is_(None), self._mine(table))
        with self._database.reading() as connection:
            if not connection.execute(select(func.count()).select_from(table).where(unseen)).scalar():
                return
        with self._database.writing() as connection:
            connection.execute(update(table).where(unseen).values(shown_at=now()))

    # ---- answers

    def answer(
        self,
        question: Question,
        annotator_id: str,
        outcome: str,
        class_id: int | None = None,
        deciding: Deciding | None = None,
    ) -> Event:
        """Store an answer to a question; sent twice it is one event. A question withdrawn meanwhile is answered too.

        Raises StoreError STORE_CONFLICT where another tab answered it meanwhile, STORE_AUTHZ for somebody else's.
        """
        if question.annotator_id != annotator_id:
            raise StoreError("That question was asked of somebody else; reload the page.", "STORE_AUTHZ")
        with self._database.writing() as connection:
            event_id = self._free_id(connection, question.event_id)
            known = self._event(connection, event_id)
            if known is not None:
                return known
            head = self._head(connection, question.image_id, annotator_id)
            if head is not None and head.outcome is not None:
                raise StoreError("That image was answered already in another tab; reload to see it.", "STORE_CONFLICT")
            supersedes = head.event_id if head else None
            event = self._append(
                connection,
                event_id,
                "answer",
                annotator_id,
                image_id=question.image_id,
                question_id=question.question_id,
                supersedes=supersedes,
                outcome=outcome,
                class_id=class_id,
                **_deciding(deciding, _as_asked(question)),
            )
            self._close(connection, question)
        return event

    def relabel(
        self, expected: Event, outcome: str, class_id: int | None = None, deciding: Deciding | None = None
    ) -> Event:
        """Change a stored answer, compare-and-set on the event that the person saw."""
        minted = f"{expected.event_id}>{outcome}{'' if class_id is None else class_id}"
        with self._database.writing() as connection:
            event_id = self._free_id(connection, minted)
            known = self._event(connection, event_id)
            if known is not None:
                return known
            try:
                return self._append(
                    connection,
                    event_id,
                    "answer",
                    expected.annotator_id,
                    image_id=expected.image_id,
                    question_id=expected.question_id,
                    supersedes=expected.event_id,
                    outcome=outcome,
                    class_id=class_id,
                    **_deciding(deciding),
                )
            except IntegrityError as error:
                message = "That answer was changed in another tab meanwhile; reload to see it."
                raise StoreError(message, "STORE_CONFLICT") from error

    def undo(self, annotator_id: str) -> Event | None:
        """Take back this annotator's newest answer that stands; what it replaced holds again. None: nothing to undo."""
        with self._database.writing() as connection:
            target = self._last_standing(connection, annotator_id)
            head = self._head(connection, str(target.image_id), annotator_id) if target is not None else None
            return self._take_back(connection, head) if head is not None else None

    def take_back(self, head_id: str, annotator_id: str) -> Event:
        """Undo the newest answer of the chain that ends in this event; sent twice it is one undo.

        Raises StoreError STORE_CONFLICT where the chain goes on in another tab, STORE_AUTHZ for somebody else's.
        """
        with self._database.writing() as connection:
            known = self._event(connection, self._free_id(connection, f"{head_id}<"))
            head = self._event(connection, head_id)
            if known is not None and known.annotator_id == annotator_id:
                return known
            if head is None or head.annotator_id != annotator_id or head.image_id is None:
                raise StoreError("That answer is not yours, or was never stored; reload the page.", "STORE_AUTHZ")
            newest = self._head(connection, head.image_id, annotator_id)
            if newest != head or head.outcome is None:
                raise StoreError("That answer was changed in another tab; reload to see it.", "STORE_CONFLICT")
            return self._take_back(connection, head)

    def flag(self, question: Question, annotator_id: str, event_id: str, comment: str) -> Event:
        """Attach a comment to an image; the newest of an annotator holds, an empty one takes it back.

        The id begins with the question's and "!", as no other event's does: a flag never takes the place of one.
        """
        if question.annotator_id != annotator_id or not event_id.startswith(f"{question.question_id}!"):
            raise StoreError("That question was asked of somebody else; reload the page.", "STORE_AUTHZ")
        payload = {"image_id": question.image_id, "comment": comment}
        with self._database.writing() as connection:
            known = self._event(connection, event_id)
            if known is not None:
                return known
            return self._append(
                connection, event_id, "flag", annotator_id, payload=payload, question_id=question.question_id
            )

    def flags(self) -> dict[tuple[str, str], str]:
        """(image id, annotator id) -> comment, of every flag that holds."""
        with self._caught_up() as (log, _):
            return {key: comment for key, comment in log.comments.items() if comment}

    def event(self, event_id: str) -> Event | None:
        """One event of the log; None where there is none of this id."""
        with self._database.reading() as connection:
            return self._event(connection, event_id)

    def current(self, through: int | None = None) -> list[Event]:
        """The standing answer of each (image, annotator), by seq; `through` looks back to that event.

        Only what is new since the last call is read: the log is append-only.
        """
        with self._caught_up() as (log, _):
            return log.standing(through)

    def n_labels(self) -> int:
        """How many labels stand, of all annotators and of the import; counted where they are."""
        table, later = schema.events, schema.events.alias("later")
        superseded = select(later.c.seq).where(
            later.c.project_id == table.c.project_id, later.c.supersedes == table.c.event_id
        )
        labels = self._count(table).where(table.c.image_id.is_not(None), table.c.outcome == "label")
        return int(self._scalar(labels.where(~superseded.exists())))

    def heads(self, annotator_id: str, image_ids: Iterable[str]) -> dict[str, Event]:
        """image id -> the newest event of this annotator's chain for it, an undo included."""
        with self._caught_up() as (log, _):
            found = {image_id: log.heads.get((image_id, annotator_id)) for image_id in image_ids}
        return {image_id: event for image_id, event in found.items() if event is not None}

    def events(self) -> list[Event]:
        """The whole log in order."""
        return [_made(Event, row) for row in self._rows(self._of(schema.events).order_by(schema.events.c.seq))]

    # ---- models

    def record_model(self, record: ModelRecord) -> None:
        """Store what a fit was trained on and what was measured; a version that is known stays."""
        values = vars(record) | {"metrics": canonical_json(record.metrics), "status": "ready", "created_at": now()}
        with self._database.writing() as connection:
            known = select(schema.models.c.version).where(schema.models.c.version == record.version)
            if connection.execute(known).first() is None:
                connection.execute(insert(schema.models).values(project_id=self.project_id, **values))

    def models(self) -> list[ModelRecord]:
        """Every fit by version."""
        rows = self._rows(self._of(schema.models).order_by(schema.models.c.version))
        return [_made(ModelRecord, dict(row) | {"metrics": json.loads(row["metrics"])}) for row in rows]

    # ---- inside a transaction

    def _append(
        self,
        connection: Connection,
        event_id: str,
        kind: str,
        annotator_id: str | None,
        payload: dict[str, Any] | None = None,  # Any: JSON
        **fields: Any,  # Any: column values
    ) -> Event:
        """The next event of the chain."""
        row = {"event_id": event_id, "payload": payload or {}, **fields}
        event: Event = _made(Event, self._append_all(connection, kind, annotator_id, [row])[0])
        return event

    def _append_all(
        self,
        connection: Connection,
        kind: str,
        annotator_id: str | None,
        events: Sequence[Mapping[str, Any]],  # Any: column values
    ) -> list[dict[str, Any]]:  # Any: as above
        """The next events of the chain, at least one; the only place that writes any. Their rows.

        Raises StoreError (STORE_REPLACED, STORE_DAMAGED) where the log is not the one that was written so far.
        """
        head_seq, previous = self._checked_head(connection)
        rows = []
        for seq, event in enumerate(events, start=head_seq + 1):
            row = _event_row(event, seq, kind, annotator_id)
            previous = row["hash"] = event_hash(previous, row)
            rows.append({"project_id": self.project_id, **row})
        connection.execute(insert(schema.events), rows)
        table = schema.projects
        head = {"head_seq": head_seq + len(rows), "head_hash": previous}
        connection.execute(update(table).where(self._mine(table)).values(head))
        return rows

    def _checked_head(self, connection: Connection) -> tuple[int, str]:
        """Number and hash of the newest event, which the log itself must confirm before another one follows it."""
        head = connection.execute(self._head_row).one()
        newest = (head.newest or 0, GENESIS if head.newest is None else head.newest_hash)
        if newest[0] < self._log.seq:
            raise StoreError(replaced(self.path), "STORE_REPLACED")
        if self._damage is None or newest != (head.head_seq, head.head_hash):
            self._damage = tuple(verify.quick(connection, self.project_id))
        if self._damage:
            raise StoreError(_refusal(self.path, self._damage), "STORE_DAMAGED")
        return newest

    def _insert(
        self, connection: Connection, questions: Sequence[Question], annotator_id: str, **closed: str
    ) -> list[str]:
        """Store questions; their new ids."""
        fixed = {"project_id": self.project_id, "annotator_id": annotator_id, "lease_slot": 0, "offered_at": now()}
        rows = [vars(asked) | fixed | {"question_id": uuid.uuid4().hex, **closed} for asked in questions]
        for row in rows:
            del row["n_events"]
        if rows:
            connection.execute(insert(schema.questions), rows)
        return [str(row["question_id"]) for row in rows]

    def _image_row(self, record: ImageRecord) -> dict[str, Any]:  # Any: column values
        return {"project_id": self.project_id, **vars(record)}

    def _event(self, connection: Connection, event_id: str) -> Event | None:
        row = connection.execute(self._event_row, {"event_id": event_id}).mappings().one_or_none()
        return _made(Event, row) if row else None

    def _free_id(self, connection: Connection, event_id: str) -> str:
        """This id for an event that is no flag; with "~" before it where a flag has it.

        Earlier versions took the id of a flag from the browser as it came.
        """
        taken = self._event(connection, event_id)
        return f"~{event_id}" if taken is not None and taken.kind == "flag" else event_id

    def _head(self, connection: Connection, image_id: str, annotator_id: str) -> Event | None:
        """The newest event of the chain of this (image, annotator), from its first on: each step is one look-up."""
        table = schema.events
        chain = and_(table.c.image_id == image_id, table.c.annotator_id == annotator_id)
        head, query = None, self._of(table).where(chain, table.c.supersedes.is_(None))
        while row := connection.execute(query).mappings().one_or_none():
            head = _made(Event, row)
            query = self._of(table).where(table.c.supersedes == head.event_id)
        return head

    def _take_back(self, connection: Connection, head: Event) -> Event:
        """Undo the newest answer of this chain that still stands."""
        target = self._last_standing(connection, str(head.annotator_id), head.image_id)
        assert target is not None  # the head has an outcome, so some answer gave it
        before = self._restored(connection, target)
        event = self._append(
            connection,
            self._free_id(connection, f"{head.event_id}<"),
            "undo",
            head.annotator_id,
            image_id=target.image_id,
            question_id=target.question_id,
            supersedes=head.event_id,
            undoes=target.event_id,
            outcome=before.outcome if before else None,
            class_id=before.class_id if before else None,
        )
        if event.outcome is None and target.question_id is not None:
            self._reopen(connection, target.question_id)
        return event

    def _last_standing(self, connection: Connection, annotator_id: str, image_id: str | None = None) -> Event | None:
        """The newest answer that was not undone: of one image, or of all of this annotator's."""
        table, later = schema.events, schema.events.alias("later")
        undone = select(later.c.seq).where(later.c.project_id == table.c.project_id, later.c.undoes == table.c.event_id)
        mine = self._of(table).where(table.c.annotator_id == annotator_id, table.c.kind == "answer", ~undone.exists())
        if image_id is not None:
            mine = mine.where(table.c.image_id == image_id)
        row = connection.execute(mine.order_by(table.c.seq.desc()).limit(1)).mappings().one_or_none()
        return _made(Event, row) if row else None

    def _restored(self, connection: Connection, undone: Event) -> Event | None:
        """What held before the event that is being undone."""
        return self._event(connection, undone.supersedes) if undone.supersedes else None

    def _close(self, connection: Connection, question: Question) -> None:
        """It is answered; one that was withdrawn goes behind the batch that may have taken its place."""
        table = schema.questions
        values: dict[str, Any] = {"closed_at": now(), "closed_by": "answer"}  # Any: column values
        this = table.c.question_id == question.question_id
        if connection.execute(select(table.c.closed_by).where(this)).scalar() == "withdrawn":
            live = and_(self._mine(table), table.c.round == question.round, _kept(table))
            last = connection.execute(select(func.max(table.c.rank)).where(live)).scalar()
            values["rank"] = max(question.rank, 1 + (last or 0))
        connection.execute(update(table).where(this).values(values))

    def _reopen(self, connection: Connection, question_id: str) -> None:
        """Ask again, unless somebody else holds the image by now."""
        table = schema.questions
        image_id = connection.execute(select(table.c.image_id).where(table.c.question_id == question_id)).scalar()
        if image_id not in self._held(connection):
            connection.execute(
                update(table).where(table.c.question_id == question_id).values(closed_at=None, closed_by=None)
            )

    def _held(self, connection: Connection) -> set[str]:
        table = schema.questions
        query = select(table.c.image_id).where(self._mine(table), table.c.closed_at.is_(None))
        return set(connection.execute(query).scalars().fetchall())

    # ---- reading

    def _mine(self, table: Any) -> Any:  # Any: SQLAlchemy's table and clause
        return table.c.project_id == self.project_id

    def _of(self, table: Any) -> Any:  # Any: SQLAlchemy's table and select
        return select(table).where(self._mine(table))

    def _count(self, table: Any) -> Any:  # Any: SQLAlchemy's table and select
        return select(func.count()).select_from(table).where(self._mine(table))

    # Made once: with every answer they are asked several times, and putting one together costs as much as running it.

    @cached_property
    def _head_row(self) -> Any:  # Any: SQLAlchemy's select
        table, event = schema.projects, schema.events
        newest = select(func.max(event.c.seq)).where(self._mine(event)).scalar_subquery()
        at_newest = select(event.c.hash).where(self._mine(event), event.c.seq == newest).scalar_subquery()
        columns = (table.c.head_seq, table.c.head_hash, newest.label("newest"), at_newest.label("newest_hash"))
        return select(*columns).where(self._mine(table)).with_for_update()

    @cached_property
    def _class_rows(self) -> Any:  # Any: SQLAlchemy's select
        return self._of(schema.classes).order_by(schema.classes.c.class_id)

    @cached_property
    def _event_row(self) -> Any:  # Any: SQLAlchemy's select
        return self._of(schema.events).where(schema.events.c.event_id == bindparam("event_id"))

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

    def _scalar(self, query: Any) -> Any:  # Any: SQLAlchemy's select and a column value
        with self._database.reading() as connection:
            return connection.execute(query).scalar()


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


def now() -> str:
    """This moment as ISO 8601 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _refusal(path: Path, damage: Sequence[str]) -> str:
    return f"The label store {path} is not as it was left, so nothing was stored: {damage[0]} {verify.ADVICE}"


def _as_asked(question: Question) -> dict[str, Any]:  # Any: JSON
    """What the first answer keeps of its question, so that a question that was changed later is found."""
    return {"asked": verify.asked_digest(vars(question))}


def _event_row(
    event: Mapping[str, Any],  # Any: column values
    seq: int,
    kind: str,
    annotator_id: str | None,
) -> dict[str, Any]:  # Any: as above
    """All columns of an event but its project and its hash."""
    return {
        **_EMPTY,
        **event,
        "seq": seq,
        "kind": kind,
        "annotator_id": annotator_id,
        "payload": canonical_json(event["payload"]),
        "payload_version": PAYLOAD_VERSION,
        "created_at": now(),
    }


def _deciding(
    deciding: Deciding | None,
    payload: Mapping[str, Any] | None = None,  # Any: JSON
) -> dict[str, Any]:  # Any: column values
    """How an answer came about, and what else it carries, as column values."""
    carried = dict(payload or {})
    if deciding is None:
        return {"payload": carried}
    shown = {} if deciding.guess_shown is None else {"guess_shown": deciding.guess_shown}
    return {"client_ms": deciding.milliseconds, "payload": carried | shown}


def _kept(table: Any) -> Any:  # Any: SQLAlchemy's table and clause
    """As the index of places has it, word for word: with a parameter it would not be used."""
    return (table.c.closed_by.is_(None)) | (table.c.closed_by != literal_column("'withdrawn'"))


def _made(kind: type[Any], row: Any) -> Any:  # Any: one of the dataclasses above from a row mapping
    return kind(**{key: row[key] for key in kind.__dataclass_fields__ if key in row})


# ---- predictions, which are files beside the store


def record_prediction(store: Store, record: ModelRecord, sha256: str, kept: Sequence[int]) -> None:
    """Note that there is a file of this model's prediction, and of which versions files are kept.

    A model's `status` is "kept" while there is a file of its prediction, else "ready". Another model's record of the
    same version is left as it is.
    """
    table = schema.models
    mine = table.c.project_id == store.project_id
    this = and_(*(table.c[key] == value for key, value in vars(record).items() if key not in ("metrics", "sha256")))
    with store._database.writing() as connection:
        connection.execute(update(table).where(mine, this).values(sha256=sha256, status="kept"))
        gone = and_(table.c.status == "kept", table.c.version.not_in(kept))
        connection.execute(update(table).where(mine, gone).values(status="ready"))
