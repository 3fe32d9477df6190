"""An SQLite file opened so that what it acknowledges is on the disk; faults become typed errors. Knows no tables.

Four verbs are all that the rest of the store uses: `read`, `write`, `is_conflict`, `explain`. Another database can
stand behind the same four.

SQLite's WAL mode can lose committed writes in versions before 3.51.3 (fixed also in 3.44.6 and 3.50.7), so it is used
only with a fixed version; otherwise a rollback journal with `synchronous=EXTRA`. Every write begins IMMEDIATE: a
deferred transaction that upgrades to a write fails at once, whatever the busy timeout.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DisconnectionError, IntegrityError, SQLAlchemyError

from annotator.errors import StoreError

HEAD_REVISION = "0003"
OLDEST_SQLITE = (3, 35, 0)
"""The first that can take a column away, as migration 0002 does."""
BUSY_TIMEOUT_MS = 5_000
_FIXED_BRANCHES = {(3, 44): 6, (3, 50): 7}
_FAULTS = (
    ("readonly", "STORE_READONLY", "The label store {path} is read-only; give write permission and reload."),
    ("unable to open", "STORE_READONLY", "The label store {path} cannot be opened for writing; check its folder."),
    ("disk i/o", "STORE_IO", "The disk refused {path}: no room, or a fault; nothing new was stored. Free some space."),
    ("is full", "STORE_FULL", "The disk with {path} is full; nothing new was stored. Free some space, then retry."),
    ("locked", "STORE_BUSY", "The label store {path} is busy with another writer; nothing was stored. Retry."),
    ("busy", "STORE_BUSY", "The label store {path} is busy with another writer; nothing was stored. Retry."),
    ("malformed", "STORE_CORRUPT", "The label store {path} is damaged; restore it from a backup."),
    ("not a database", "STORE_CORRUPT", "{path} is not a label store; restore it from a backup."),
    ("no such table", "STORE_CORRUPT", "{path} is not a label store; restore it from a backup."),
)


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite keeps every committed write in WAL mode with several connections."""
    branch = (version[0], version[1])
    return version >= (3, 51, 3) or (branch in _FIXED_BRANCHES and version[2] >= _FIXED_BRANCHES[branch])


class Database:
    """One SQLite file; `read` and `write` give connections, `note` says how it is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wal = wal_is_safe(sqlite3.sqlite_version_info)
        self._engine = _engine(path, self._wal)
        weakref.finalize(self, self._engine.dispose)  # where nobody closes it, and where opening it failed
        self._inode: int | None = None

    @property
    def note(self) -> str:
        """Engine, version and mode, for the status line."""
        mode = "WAL, synchronous FULL" if self._wal else "DELETE journal, synchronous EXTRA"
        return f"SQLite {sqlite3.sqlite_version}, {mode}"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose queries all see the same moment; fetch all inside, an open cursor would block a commit."""
        with self._faults(), self._engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement; leaving it commits.

        Raises StoreError (STORE_MISSING, STORE_REPLACED) where the file is not the one that was opened: an open
        connection would go on writing to a file that nobody finds again.
        """
        self._check_file()
        with self._faults(), self._engine.connect() as plain:
            connection = plain.execution_options(immediate=True)
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        self._check_file()

    def upgrade(self) -> None:
        """Bring the schema to this version's. Raises StoreError for a store made by a newer version."""
        with self.read() as connection:
            found = _revision(connection)
        if found == HEAD_REVISION:
            return
        if found is not None and (not str(found).isdecimal() or found > HEAD_REVISION):
            raise StoreError(
                f"{self.path} was written by a newer version (schema {found}, this one knows {HEAD_REVISION}). Update.",
                "STORE_VERSION",
            )
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            message = f"SQLite {sqlite3.sqlite_version} is too old for {self.path}; use one from {oldest} on."
            raise StoreError(message, "STORE_VERSION")
        from alembic import command  # slow to import, and seldom needed
        from alembic.config import Config as AlembicConfig

        with self.write() as connection:
            config = AlembicConfig()
            config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def stop_syncing(self) -> None:
        """From now on a commit does not wait for the disk."""
        event.listen(self._engine, "connect", _not_synchronous)
        self._engine.dispose()

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def _check_file(self) -> None:
        try:
            found = self.path.stat().st_ino
        except OSError as error:
            if self._inode is None:
                return  # it is about to be made
            raise StoreError(
                f"The label store {self.path} is gone; nothing was stored. Put it back, then retry.", "STORE_MISSING"
            ) from error
        if self._inode not in (None, found):
            raise StoreError(replaced(self.path), "STORE_REPLACED")
        self._inode = found

    def is_conflict(self, error: BaseException) -> bool:
        """Whether the database refused a row because of one that was stored meanwhile."""
        return isinstance(error, IntegrityError)

    def explain(self, error: SQLAlchemyError) -> StoreError:
        """The database's error as ours: what happened, whether anything was stored, and what to do."""
        if self.is_conflict(error):
            message = "Somebody else stored the same at this moment; nothing was stored here. Reload, then retry."
            return StoreError(message, "STORE_CONFLICT")
        cause = getattr(error, "orig", None) or error
        for words, code, message in _FAULTS:
            if words in str(cause).lower():
                return StoreError(message.format(path=self.path), code)
        return StoreError(f"The label store {self.path} failed: {cause}. Nothing was stored; retry.")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """No error of the driver leaves untyped; after any but a conflict no connection is trusted again."""
        try:
            yield
        except SQLAlchemyError as error:
            if not self.is_conflict(error):
                self._engine.dispose()
            raise self.explain(error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            # The driver's, which SQLAlchemy passes on as they are: an integer above 64 bits, half a character.
            message = f"A value cannot be stored ({error}); nothing was stored. Use a smaller number, or plain text."
            raise StoreError(message, "STORE_VALUE") from error


def replaced(path: Path) -> str:
    """What is said where another file, or an older state of it, stands in the store's place."""
    return f"The label store {path} was replaced or restored while the app ran; nothing was stored. Restart the app."


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _engine(path: Path, wal: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    )
    owner = os.getpid()

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:  # Any: the driver's own objects
        connection.isolation_level = None  # transactions are begun by `read` and `write`, not by the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        cursor.execute(f"PRAGMA synchronous={'FULL' if wal else 'EXTRA'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "checkout")
    def _same_process(_connection: Any, _record: Any, _proxy: Any) -> None:  # Any: the driver's own objects
        if os.getpid() != owner:
            raise DisconnectionError("A connection of the parent process is not inherited.")

    return engine


def _not_synchronous(connection: Any, _record: Any) -> None:  # Any: the driver's own objects
    connection.execute("PRAGMA synchronous=OFF")
