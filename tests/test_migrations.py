"""Projects of earlier versions: brought to today's schema in one transaction, with every label and its hash chain."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import op

from annotator.errors import StoreError
from annotator.store import Store, questions
from annotator.store.engine import HEAD_REVISION
from tests import storing

OLD = Path(__file__).parent / "old_projects"
CUT_OFF = """
import os, signal, sys
from pathlib import Path
from alembic import op
from annotator.store import Store
op.drop_table = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Store(Path(sys.argv[1]))
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A project as version 0001 left it."""
    return Path(shutil.copy(OLD / "0001.sqlite", tmp_path / "project.sqlite"))


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute(query).fetchall()


def test_the_log_is_the_same_event_for_event(old: Path) -> None:
    """Ids, payloads and hashes are untouched, both forms of verifying find nothing, and the schema is today's."""
    before = rows(old, "SELECT * FROM events ORDER BY seq"), rows(old, "SELECT head_seq, head_hash FROM projects")
    store = Store(old)
    assert (store.damage, store.verify()) == ((), [])
    store.close()
    after = rows(old, "SELECT * FROM events ORDER BY seq"), rows(old, "SELECT head_seq, head_hash FROM projects")
    assert after == before
    assert rows(old, "SELECT version_num FROM alembic_version") == [(HEAD_REVISION,)]


def test_a_migration_that_fails_has_changed_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: the file stays as it was, to the byte, and opens the next time."""
    before = old.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(op, "drop_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(old)
    assert old.read_bytes() == before
    assert Store(old).verify() == []


def test_a_migration_that_is_killed_has_changed_nothing(old: Path) -> None:
    """The process dies in the middle; the next one finds the old schema and brings it to today's."""
    labels = rows(old, "SELECT count(*) FROM events WHERE outcome = 'label'")
    killed = subprocess.run([sys.executable, "-c", CUT_OFF, str(old)], check=False, capture_output=True)
    assert killed.returncode == -9
    assert rows(old, "SELECT version_num FROM alembic_version") == [("0001",)]
    store = Store(old)
    assert store.verify() == []
    assert rows(old, "SELECT count(*) FROM events WHERE outcome = 'label'") == labels


def test_a_newer_file_is_left_alone(old: Path) -> None:
    """Its version is said, and what to do."""
    with closing(sqlite3.connect(old)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    before = old.read_bytes()
    with pytest.raises(StoreError, match="Update") as refused:
        Store(old)
    assert refused.value.code == "STORE_VERSION"
    assert old.read_bytes() == before


def test_offers_of_before_there_were_leases_expire(old: Path) -> None:
    """Another person may be asked about a batch that nobody has begun."""
    store = Store(old)
    bob = storing.annotator(store, "bob").annotator_id
    waiting = [
        asked for person in store.snapshot().people for asked in storing.open_questions(store, person.annotator_id)
    ]
    not_begun = {asked.round for asked in waiting} - {
        asked.round for asked in storing.questions(store) if asked.closed_by == "answer"
    }
    assert store.read(questions.others_expired, bob) == bool(not_begun)
    store.write(questions.withdraw_expired, bob)
    assert not store.read(questions.others_expired, bob)
