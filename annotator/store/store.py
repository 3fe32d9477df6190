"""One project's store: a file, whose log may take events only while it says what was stored.

`read`, `write` and `append` run a function of another module of this package, such as `answers.give`, in one
transaction: it gets the connection and the project first. `append` is for those that add events: a store that does not
say what was stored (see verify.py) stays readable, with class names taken from the log, and takes no events, since an
answer added to a broken log would be no safer than the log.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, select

from annotator.errors import StoreError
from annotator.store import answers, artefacts, classes, configs, images, log, people, questions, schema, verify
from annotator.store import snapshot as snapshots
from annotator.store.engine import Database, replaced
from annotator.store.log import BrokenLogError
from annotator.store.reader import Reader
from annotator.store.snapshot import Snapshot
from annotator.store.values import (
    Annotator,
    Event,
    ImageRecord,
    Json,
    LabelClass,
    ModelRecord,
    Question,
)

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
        self._damage: tuple[str, ...] | None = None
        self._reading = threading.Lock()
        self._people: dict[str, Annotator] = {}
        """By name: whoever was seen once is there for good."""
        row = self._project(project_id)
        self.project_id: str = row.project_id
        self.name: str = row.name
        self.project_seed: int = row.seed
        self.created_at: str = row.created_at
        self._reader = Reader(self.project_id)

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

    def snapshot(self) -> Snapshot:
        """What the store says now, read in one transaction; the same object as before where nothing has changed."""
        with self._snapshot() as (snapshot, _):
            return snapshot

    @contextmanager
    def _snapshot(self) -> Iterator[tuple[Snapshot, Connection]]:
        is_damaged = bool(self.damage)
        with self._reading, self._database.read() as connection:
            yield self._reader.read(connection, is_damaged), connection

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
        if log.newest_seq(connection, self.project_id) < self._reader.seq:
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
        if name not in self._people:
            self._people |= {person.name: person for person in self.snapshot().people}
        if name not in self._people:
            self._people[name] = self.write(people.named_or_added, name, role)
        return self._people[name]

    def classes(self) -> list[LabelClass]:
        """Every class by id, which is its code; of a damaged store as the log has them."""
        return list(self.snapshot().classes)

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

    def configs(self) -> Mapping[int, dict[str, Json]]:
        """Every configuration there was, by version; of a damaged store as the log has them."""
        return self.snapshot().configs

    def offer(self, batch: Sequence[Question], annotator_id: str) -> list[Question]:
        """Store a batch before it is shown. An image that somebody holds is left out."""
        self.write(questions.offer, batch, annotator_id)
        return self.open_questions(annotator_id)

    def seed(self, answered: Sequence[tuple[Question, int]], annotator_id: str) -> None:
        """Store labels that were known from the start, each as a question and its answer, in one transaction."""
        self.append(questions.seed, answered, annotator_id)

    def n_labels(self) -> int:
        """How many labels stand, of all annotators and of the import; counted where they are."""
        return self.read(answers.n_labels)

    def record_model(self, record: ModelRecord) -> ModelRecord:
        """Store what a fit was trained on and what was measured; returns it with the version that it got."""
        return self.write(artefacts.record_model, record)

    def models(self) -> list[ModelRecord]:
        """Every fit by version."""
        return self.read(artefacts.models)

    def n_classes(self, through: int) -> int:
        """How many classes there were at that event."""
        return snapshots.n_classes(self.snapshot(), through)

    # ---- questions

    def open_questions(self, annotator_id: str) -> list[Question]:
        """What this annotator was asked and has not answered: reopened ones first, then by rank."""
        return snapshots.open_of(self.snapshot(), annotator_id)

    def question(self, question_id: str) -> Question | None:
        """One question, withdrawn or not; None where there is none of this id."""
        with self._snapshot() as (snapshot, connection):
            return snapshot.questions.get(question_id) or self._reader.withdrawn(connection, question_id)

    def questions(self) -> list[Question]:
        """Every question that was not withdrawn, by round and rank."""
        return snapshots.by_place(self.snapshot())

    def asked(self) -> list[tuple[str, str]]:
        """(image id, purpose) of every question that was not withdrawn."""
        return list(self.snapshot().asked.images)

    def last_round(self) -> int:
        """The highest round number that was asked and not withdrawn; 0 before the first."""
        return snapshots.last_round(self.snapshot())

    def flags(self) -> dict[tuple[str, str], str]:
        """(image id, annotator id) -> comment, of every flag that holds."""
        return dict(self.snapshot().flags)

    def current(self, through: int | None = None) -> list[Event]:
        """The standing answer of each (image, annotator), by seq; `through` looks back to that event."""
        return snapshots.standing(self.snapshot(), through)


def _refusal(path: Path, damage: Sequence[str]) -> str:
    return f"The label store {path} is not as it was left, so nothing was stored: {damage[0]} {verify.ADVICE}"
