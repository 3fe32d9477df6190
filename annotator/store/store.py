"""One project's store: a file, whose log may take events only while it says what was stored.

`read`, `write` and `append` run a function of another module of this package, such as `answers.give`, in one
transaction: it gets the connection and the project first. What is true of answers, questions, classes and settings is a
function of `snapshot()` (snapshot.py), which costs no more than what is new since the last one. `append` is for those
that add events: a store that does not say what was stored (see verify.py) stays readable, with class names taken from
the log, and takes no events, since an answer added to a broken log would be no safer than the log.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, select

from annotator.errors import StoreError
from annotator.store import log, schema, verify
from annotator.store.engine import Database, replaced
from annotator.store.log import BrokenLogError
from annotator.store.reader import Reader
from annotator.store.snapshot import Snapshot
from annotator.store.values import Json

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

    def stop_syncing(self) -> None:
        """From now on nothing waits for the disk: for a project that is thrown away, and made anew after a crash."""
        self._database.stop_syncing()

    def close(self) -> None:
        """Give back the file."""
        self._database.close()

    # ---- one transaction each

    def snapshot(self) -> Snapshot:
        """What the store says now, read in one transaction; the same object as before where nothing has changed."""
        is_damaged = bool(self.damage)
        with self._reading, self._database.read() as connection:
            return self._reader.read(connection, is_damaged)

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
        """What of the head that an export's manifest has is not so any more; empty when all is well."""
        return self.read(verify.against_export, provenance)


def _refusal(path: Path, damage: Sequence[str]) -> str:
    return f"The label store {path} is not as it was left, so nothing was stored: {damage[0]} {verify.ADVICE}"
