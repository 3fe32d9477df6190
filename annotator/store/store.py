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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from annotator.class_names import check_number_of_classes, checked_class_names
from annotator.errors import StoreError
from annotator.store import schema, verify
from annotator.store import snapshot as snapshots
from annotator.store.engine import Database, replaced
from annotator.store.snapshot import Reader, Snapshot, kept
from annotator.store.values import (
    Annotator,
    Deciding,
    Event,
    ImageRecord,
    LabelClass,
    ModelRecord,
    Question,
)
from annotator.store.verify import GENESIS, canonical_json, event_hash

PAYLOAD_VERSION = 1
CHUNK = 10_000
"""Images that are written or read, and known labels that are written, at a time."""
_EMPTY = dict.fromkeys(("image_id", "class_id", "outcome", "question_id", "supersedes", "undoes", "client_ms"))
"""What not every event has."""


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
        self._log = Reader(self.project_id)

    def _open(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)
        self._database.upgrade()
        self._damage: tuple[str, ...] | None = None
        self._reading = threading.Lock()
        self._people: dict[str, Annotator] = {}
        """By name: whoever was seen once is there for good."""

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

    def snapshot(self) -> Snapshot:
        """What the store says now, read in one transaction; the same object as before where nothing has changed."""
        with self._snapshot() as (snapshot, _):
            return snapshot

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[Snapshot, Connection]]:
        is_damaged = bool(self.damage)
        with self._reading, self._database.reading() as connection:
            yield self._log.read(connection, is_damaged), connection

    @property
    def head_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return int(self._scalar(select(schema.projects.c.head_seq)))

    @property
    def head(self) -> dict[str, Any]:  # Any: JSON
        """Whose log ends where: what an export keeps of it, and `damage_since` holds it against."""
        found = self.snapshot()
        return {
            "project_id": self.project_id,
            "store_head_seq": found.head_seq,
            "store_head_hash": found.head_hash,
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
        if name not in self._people:
            self._people |= {person.name: person for person in self.snapshot().people}
        if name not in self._people:
            self._people[name] = self._added_annotator(name, role)
        return self._people[name]

    def _added_annotator(self, name: str, role: str) -> Annotator:
        table = schema.annotators
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
        return list(self.snapshot().people)

    def classes(self) -> list[LabelClass]:
        """Every class by id, which is its code; of a damaged store as the log has them."""
        return list(self.snapshot().classes)

    def n_classes(self, through: int) -> int:
        """How many classes there were at that event."""
        return snapshots.n_classes(self.snapshot(), through)

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

    def configs(self) -> Mapping[int, dict[str, Any]]:  # Any: JSON
        """Every configuration there was, by version; of a damaged store as the log has them."""
        return self.snapshot().configs

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
        return snapshots.open_of(self.snapshot(), annotator_id)

    def question(self, question_id: str) -> Question | None:
        """One question, withdrawn or not; None where there is none of this id."""
        with self._snapshot() as (snapshot, connection):
            known = snapshot.questions.get(question_id)
            return known or self._log.withdrawn(connection, question_id)

    def questions(self) -> list[Question]:
        """Every question that was not withdrawn, by round and rank."""
        return snapshots.by_place(self.snapshot())

    def asked(self) -> list[tuple[str, str]]:
        """(image id, purpose) of every question that was not withdrawn."""
        return list(self.snapshot().asked.images)

    def last_round(self) -> int:
        """The highest round number that was asked and not withdrawn; 0 before the first."""
        return snapshots.last_round(self.snapshot())

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
        """Note the first time that these, of those that are open, were on a screen."""
        if not question_ids:
            return
        table = schema.questions
        unseen = and_(table.c.question_id.in_(question_ids), table.c.shown_at.is_(None), table.c.closed_at.is_(None))
        with self._database.writing() as connection:
            connection.execute(update(table).where(unseen, self._mine(table)).values(shown_at=now()))

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
        return dict(self.snapshot().flags)

    def event(self, event_id: str) -> Event | None:
        """One event of the log; None where there is none of this id."""
        with self._database.reading() as connection:
            return self._event(connection, event_id)

    def current(self, through: int | None = None) -> list[Event]:
        """The standing answer of each (image, annotator), by seq; `through` looks back to that event."""
        return snapshots.standing(self.snapshot(), through)

    def n_labels(self) -> int:
        """How many labels stand, of all annotators and of the import; counted where they are."""
        table, later = schema.events, schema.events.alias("later")
        superseded = select(later.c.seq).where(
            later.c.project_id == table.c.project_id, later.c.supersedes == table.c.event_id
        )
        labels = self._count(table).where(table.c.image_id.is_not(None), table.c.outcome == "label")
        return int(self._scalar(labels.where(~superseded.exists())))

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
            live = and_(self._mine(table), table.c.round == question.round, kept(table))
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
    def _event_row(self) -> Any:  # Any: SQLAlchemy's select
        return self._of(schema.events).where(schema.events.c.event_id == bindparam("event_id"))

    def _rows(self, query: Any) -> Sequence[Any]:  # Any: SQLAlchemy's select and row mappings
        with self._database.reading() as connection:
            return connection.execute(query).mappings().fetchall()

    def _scalar(self, query: Any) -> Any:  # Any: SQLAlchemy's select and a column value
        with self._database.reading() as connection:
            return connection.execute(query).scalar()


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
