"""What was asked of whom: a batch is stored before it is shown, and an image is held by one annotator at a time.

A question is open until it is answered or withdrawn. A batch that nobody has begun is withdrawn on request, or for
somebody else when its lease is over; an answer to a withdrawn question is accepted all the same (see answers.py).
A second look at an image has a slot of its own, so that an undo can open the first question again beside it.
Each change of what was asked moves the project's `asked_version`, so that a batch that was chosen outside a transaction
is claimed only where nothing has changed since.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)

from annotator.store import event_ids, log, schema
from annotator.store.values import Question, made

Text = str | BindParameter[str]
"""A value, or a parameter of a statement that is made once."""
LEASE = timedelta(minutes=30)
"""How long an offer that nobody has begun is kept from others after it was made or shown last."""
SLOTS = {"review": 1}
"""Purpose -> lease slot, 0 where it is not named: an image can have one open question in each."""
_ASKED = (
    "image_id round purpose strategy strategy_version score propensity guess guess_probability guess_entropy"
    " guess_visible model_version config_version chosen_at_seq"
).split()
_table = schema.questions
_projects = schema.projects
KEPT = (_table.c.closed_by.is_(None)) | (_table.c.closed_by != literal_column("'withdrawn'"))
"""Not withdrawn; as the index of places has it, word for word: with a parameter SQLite would not use the index."""
# The statements of a round are made once: putting one together costs as much as running it. In those that change a
# table, parameters that are no column's new value begin with "of_".
_ONE = select(_table).where(
    _table.c.project_id == bindparam("project_id"), _table.c.question_id == bindparam("question_id")
)
_OPEN_ON = (
    select(_table.c.question_id)
    .where(
        _table.c.project_id == bindparam("project_id"),
        _table.c.annotator_id == bindparam("annotator_id"),
        _table.c.image_id == bindparam("image_id"),
        _table.c.closed_at.is_(None),
    )
    .order_by(_table.c.lease_slot)
)
_ADD = insert(_table)
_CLOSE = update(_table).where(
    _table.c.project_id == bindparam("of_project"), _table.c.question_id == bindparam("of_question")
)
_CLOSE_KEPT, _CLOSE_WITHDRAWN = _CLOSE.where(KEPT), _CLOSE.where(_table.c.closed_by == "withdrawn")
_VERSION = select(_projects.c.asked_version).where(_projects.c.project_id == bindparam("project_id"))
_HALF_OVER = (
    select(_table.c.question_id)
    .where(
        _table.c.project_id == bindparam("project_id"),
        _table.c.annotator_id == bindparam("annotator_id"),
        _table.c.closed_at.is_(None),
        func.coalesce(_table.c.lease_expires_at, "") < bindparam("middle"),
    )
    .limit(1)
)
_CLAIM = update(_projects).where(
    _projects.c.project_id == bindparam("of_project"), _projects.c.asked_version == bindparam("of_version")
)


def asked_digest(question: Mapping[str, Any]) -> str:  # Any: column values
    """Of what was asked and why, as its first answer keeps it. Ids, rank and times are left out."""
    return log.sha256(log.canonical_json([question[key] for key in _ASKED]))


def as_asked(question: Question) -> dict[str, str]:
    """What the first answer keeps of its question, so that a question that was changed later is found."""
    return {"asked": asked_digest(vars(question))}


# ---- reading


def question(connection: Connection, project_id: str, question_id: str) -> Question | None:
    """One question without its number of events, withdrawn or not; None where there is none of this id."""
    ids = {"project_id": project_id, "question_id": question_id}
    row = connection.execute(_ONE, ids).mappings().one_or_none()
    return None if row is None else made(Question, row)


def open_on(connection: Connection, project_id: str, annotator_id: str, image_id: str) -> str | None:
    """The id of the question that asks this annotator about this image now; of two the first."""
    ids = {"project_id": project_id, "annotator_id": annotator_id, "image_id": image_id}
    return connection.execute(_OPEN_ON, ids).scalar()


def asked_version(connection: Connection, project_id: str) -> int:
    """How often what is asked has changed; the same number means that nothing did."""
    return int(connection.execute(_VERSION, {"project_id": project_id}).scalar_one())


def others_expired(connection: Connection, project_id: str, annotator_id: str) -> bool:
    """Whether somebody else holds images of a batch not begun whose lease is over."""
    values = {"project_id": project_id, "annotator_id": annotator_id, "now": log.now()}
    return connection.execute(_others_expired(), values).first() is not None


@cache
def _others_expired() -> Select[tuple[str]]:
    which = _expired(bindparam("project_id"), bindparam("annotator_id"), bindparam("now"))
    return select(_table.c.question_id).where(which).limit(1)


# ---- offering


def claim(connection: Connection, project_id: str, annotator_id: str, batch: Sequence[Question], version: int) -> bool:
    """Store a batch chosen when `asked_version` was `version`; False, and nothing stored, where it has moved since."""
    moved = {"of_project": project_id, "of_version": version, "asked_version": version + 1}
    if not connection.execute(_CLAIM, moved).rowcount:
        return False
    _insert(connection, project_id, batch, annotator_id)
    return True


def offer(connection: Connection, project_id: str, batch: Sequence[Question], annotator_id: str) -> None:
    """Store a batch whoever asked meanwhile. An image that somebody holds is left out."""
    query = select(_table.c.image_id).where(_table.c.project_id == project_id, _table.c.closed_at.is_(None))
    held = set(connection.execute(query).scalars())
    free = [asked for asked in batch if asked.image_id not in held]
    if free:
        _insert(connection, project_id, free, annotator_id)
        _moved(connection, project_id)


def _insert(
    connection: Connection, project_id: str, batch: Sequence[Question], annotator_id: str, **closed: str
) -> list[str]:
    """Store questions, at least one; their new ids."""
    fixed = {"project_id": project_id, "annotator_id": annotator_id, "offered_at": log.now()}
    lease = {} if closed else {"lease_expires_at": _lease_end()}
    rows = [vars(asked) | fixed | lease | {"question_id": uuid.uuid4().hex, **closed} for asked in batch]
    for row in rows:
        del row["n_events"]
        row["lease_slot"] = SLOTS.get(row["purpose"], 0)
    connection.execute(_ADD, rows)
    return [str(row["question_id"]) for row in rows]


def seed(connection: Connection, project_id: str, answered: Sequence[tuple[Question, int]], annotator_id: str) -> None:
    """Store labels that were known from the start, each as a question and its answer."""
    for start in range(0, len(answered), log.CHUNK):
        some = answered[start : start + log.CHUNK]
        known = [asked for asked, _ in some]
        ids = _insert(connection, project_id, known, annotator_id, closed_at=log.now(), closed_by="answer")
        events = [
            {
                "event_id": event_ids.answer(question_id, 0),
                "image_id": asked.image_id,
                "question_id": question_id,
                "outcome": "label",
                "class_id": class_id,
                "payload": as_asked(asked),
            }
            for question_id, (asked, class_id) in zip(ids, some, strict=True)
        ]
        log.append_all(connection, project_id, "answer", annotator_id, events)
    _moved(connection, project_id)


# ---- taking back


def withdraw(connection: Connection, project_id: str, annotator_id: str, after_round: int = 0) -> None:
    """Take back what was offered to this annotator and not begun, of rounds after this one; begun batches stay."""
    mine = and_(_table.c.annotator_id == annotator_id, _table.c.round > after_round)
    _withdraw(connection, project_id, and_(_not_begun(project_id), mine))


def withdraw_expired(connection: Connection, project_id: str, annotator_id: str) -> None:
    """Take back what others were offered and have not begun within the lease, for this annotator to be asked."""
    _withdraw(connection, project_id, _expired(project_id, annotator_id, log.now()))


def _withdraw(connection: Connection, project_id: str, which: ColumnElement[bool]) -> None:
    values = {"closed_at": log.now(), "closed_by": "withdrawn"}
    if connection.execute(update(_table).where(which).values(values)).rowcount:
        _moved(connection, project_id)


def _not_begun(project_id: Text) -> ColumnElement[bool]:
    """Open questions of batches without an answer."""
    begun = _table.alias("begun")
    answered = select(begun.c.question_id).where(
        begun.c.project_id == project_id,
        begun.c.annotator_id == _table.c.annotator_id,
        begun.c.round == _table.c.round,
        begun.c.closed_by == "answer",
    )
    return and_(_table.c.project_id == project_id, _table.c.closed_at.is_(None), ~answered.exists())


def _expired(project_id: Text, annotator_id: Text, now: Text) -> ColumnElement[bool]:
    """Of other annotators; an offer of before there were leases ended when it was made."""
    end = func.coalesce(_table.c.lease_expires_at, _table.c.offered_at)
    return and_(_not_begun(project_id), _table.c.annotator_id != annotator_id, end < now)


# ---- on a screen


def to_renew(connection: Connection, project_id: str, annotator_id: str) -> bool:
    """Whether half of a lease of this annotator's open questions is over."""
    middle = (datetime.now(UTC) + LEASE / 2).isoformat(timespec="microseconds")
    values = {"project_id": project_id, "annotator_id": annotator_id, "middle": middle}
    return connection.execute(_HALF_OVER, values).first() is not None


def renew(connection: Connection, project_id: str, annotator_id: str) -> None:
    """Hold the open questions of this annotator for a whole lease from now."""
    mine = and_(_table.c.project_id == project_id, _table.c.annotator_id == annotator_id, _table.c.closed_at.is_(None))
    connection.execute(update(_table).where(mine).values(lease_expires_at=_lease_end()))


def mark_shown(connection: Connection, project_id: str, question_ids: Sequence[str]) -> None:
    """Note the first time that these were on a screen."""
    connection.execute(update(_table).where(_unseen(project_id, question_ids)).values(shown_at=log.now()))


def _unseen(project_id: str, question_ids: Sequence[str]) -> ColumnElement[bool]:
    """Open questions alone: a snapshot reads those anew each time, and others where an event speaks of them."""
    these = and_(_table.c.project_id == project_id, _table.c.question_id.in_(question_ids))
    return and_(these, _table.c.shown_at.is_(None), _table.c.closed_at.is_(None))


# ---- answered


def close(connection: Connection, project_id: str, asked: Question) -> None:
    """It is answered; one that was withdrawn goes behind the batch that may have taken its place."""
    this = {"of_project": project_id, "of_question": asked.question_id}
    values = this | {"closed_at": log.now(), "closed_by": "answer"}
    if not connection.execute(_CLOSE_KEPT, values).rowcount:
        rank = max(asked.rank, 1 + _last_rank(connection, project_id, asked))
        connection.execute(_CLOSE_WITHDRAWN, values | {"rank": rank})
        _moved(connection, project_id)


def _last_rank(connection: Connection, project_id: str, asked: Question) -> int:
    """The last place in the round of this question."""
    batch = and_(_table.c.annotator_id == asked.annotator_id, _table.c.round == asked.round)
    query = select(func.max(_table.c.rank)).where(_table.c.project_id == project_id, batch, KEPT)
    return connection.execute(query).scalar() or 0


def reopen(connection: Connection, project_id: str, question_id: str) -> None:
    """Ask again, unless somebody holds the image by now, or there is another such question about it."""
    this = and_(_table.c.project_id == project_id, _table.c.question_id == question_id)
    image_id = select(_table.c.image_id).where(this).scalar_subquery()
    slot = select(_table.c.lease_slot).where(this).scalar_subquery()
    held = select(_table.c.question_id).where(
        _table.c.project_id == project_id,
        _table.c.image_id == image_id,
        _table.c.lease_slot == slot,
        _table.c.closed_at.is_(None),
    )
    if connection.execute(held).first() is None:
        values = {"closed_at": None, "closed_by": None, "lease_expires_at": _lease_end()}
        connection.execute(update(_table).where(this).values(values))


def _moved(connection: Connection, project_id: str) -> None:
    """What is asked has changed."""
    values = {"asked_version": _projects.c.asked_version + 1}
    connection.execute(update(_projects).where(_projects.c.project_id == project_id).values(values))


def _lease_end() -> str:
    return (datetime.now(UTC) + LEASE).isoformat(timespec="microseconds")
