"""What people say: answers, changes, undos and flags, each one event in one transaction.

An id that is known is the same event, so what is sent twice is stored once. A change or an undo is compare-and-set: it
names the newest event that the person saw, and is refused (STORE_CONFLICT) where another tab was faster. What is
somebody else's is refused (STORE_AUTHZ), and so is what was never asked (STORE_NOT_ASKED).

An image that was asked again has one chain of answers for all its questions: the newest answer stands, and an undo of
it brings back the one before and asks its question again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, func, select

from annotator.errors import StoreError
from annotator.paths import name_of
from annotator.store import classes, event_ids, log, questions, schema
from annotator.store.values import Answer, Deciding, Event, Json, Question, made

_events = schema.events


def give(connection: Connection, project_id: str, annotator_id: str, given: Answer) -> Event:
    """Store what a person did; returns the event, the one of before where it was sent already."""
    if given.kind == "answer":
        return _give_answer(connection, project_id, annotator_id, given)
    if given.kind == "change":
        return _give_change(connection, project_id, annotator_id, given)
    if given.kind == "undo":
        return take_back(connection, project_id, annotator_id, given.seen_id)
    asked = _asked_once(connection, project_id, given.question_id)
    return flag(connection, project_id, asked, annotator_id, given.event_id, given.comment)


def say(
    connection: Connection,
    project_id: str,
    annotator_id: str,
    image_id: str,
    given: Answer,
    class_name: str | None = None,
) -> Event | None:
    """Answer an image by its id, with a class by its name; None where that stands already.

    With the id of an event it is the answer to that card; without, to the open question, else a change of what stands.
    """
    if class_name is not None:
        given = replace(given, class_id=classes.offered(connection, project_id, class_name).class_id)
    event_id = given.event_id or _open_id(connection, project_id, annotator_id, image_id)
    if event_id is None:
        return _say_again(connection, project_id, annotator_id, image_id, given)
    given = replace(given, event_id=event_id, question_id=event_id.rpartition(".")[0], image_id=image_id)
    return _give_answer(connection, project_id, annotator_id, given)


def _open_id(connection: Connection, project_id: str, annotator_id: str, image_id: str) -> str | None:
    """The id of the answer that this image waits for; None where it waits for none of this annotator."""
    question_id = questions.open_on(connection, project_id, annotator_id, image_id)
    if question_id is None:
        return None
    chain = log.chain(connection, project_id, image_id, annotator_id)
    return event_ids.answer(question_id, sum(event.question_id == question_id for event in chain))


def _say_again(
    connection: Connection, project_id: str, annotator_id: str, image_id: str, given: Answer
) -> Event | None:
    chain = log.chain(connection, project_id, image_id, annotator_id)
    if not chain or chain[-1].outcome is None:
        raise _not_asked_of_you(image_id)
    if (chain[-1].outcome, chain[-1].class_id) == (given.outcome, given.class_id):
        return None
    return _change(connection, project_id, chain[-1], given)


def _give_answer(connection: Connection, project_id: str, annotator_id: str, given: Answer) -> Event:
    asked = _asked_once(connection, project_id, given.question_id)
    if asked.annotator_id != annotator_id or given.image_id not in ("", asked.image_id):
        raise _not_asked_of_you(given.image_id or asked.image_id)
    chain = log.chain(connection, project_id, asked.image_id, annotator_id)
    stored = _stored_already(chain, asked, given)
    if stored is not None:
        return stored
    n_events = sum(event.question_id == asked.question_id for event in chain)
    if asked.closed_by == "answer" or given.event_id != event_ids.answer(asked.question_id, n_events):
        raise _not_asked_of_you(asked.image_id)
    check_outcome(connection, project_id, given)
    return _append_answer(connection, project_id, asked, chain, given)


def _stored_already(chain: list[Event], asked: Question, given: Answer) -> Event | None:
    """The event that says this already; None where the question waits for an answer."""
    said = (given.outcome, given.class_id)
    for event in chain:
        if event.event_id in event_ids.variants(given.event_id) and (event.outcome, event.class_id) == said:
            return event
    if _waits(chain, asked):
        return None
    if (chain[-1].outcome, chain[-1].class_id) == said:
        return chain[-1]
    told = name_of(str(chain[-1].image_id))
    raise StoreError(f"{told} was answered in another tab; change it there or reload.", "STORE_CONFLICT")


def _waits(chain: list[Event], asked: Question) -> bool:
    """Whether the question waits for an answer: also where one stands that was known when it was chosen.

    That is so of second looks alone: other questions are about images without an answer.
    """
    if asked.closed_by is None or not chain or chain[-1].outcome is None:
        return True
    return asked.closed_by == "withdrawn" and chain[-1].seq <= asked.chosen_at_seq


def check_outcome(connection: Connection, project_id: str, given: Answer) -> None:
    """Raises ConfigError (CLASS_UNKNOWN) for a label with a class that is not offered."""
    if given.outcome == "label":
        classes.check_offered(connection, project_id, given.class_id)


def _append_answer(
    connection: Connection, project_id: str, asked: Question, chain: list[Event], given: Answer
) -> Event:
    event = log.append(
        connection,
        project_id,
        "answer",
        asked.annotator_id,
        log.free_id(connection, project_id, given.event_id),
        image_id=asked.image_id,
        question_id=asked.question_id,
        supersedes=chain[-1].event_id if chain else None,
        outcome=given.outcome,
        class_id=given.class_id,
        **_deciding(given, questions.as_asked(asked)),
    )
    questions.close(connection, project_id, asked)
    return event


def _give_change(connection: Connection, project_id: str, annotator_id: str, given: Answer) -> Event:
    seen = log.event(connection, project_id, given.seen_id)
    if seen is None or seen.annotator_id != annotator_id or seen.image_id is None:
        raise _not_yours()
    if seen.outcome is None:
        raise StoreError("That answer was taken back; reload the page, and answer anew.", "STORE_CONFLICT")
    return _change(connection, project_id, seen, given)


def _change(connection: Connection, project_id: str, seen: Event, given: Answer) -> Event:
    minted = event_ids.change(seen.event_id, given.outcome, given.class_id)
    event_id = log.free_id(connection, project_id, minted)
    known = log.event(connection, project_id, event_id)
    if known is not None:
        return known
    check_outcome(connection, project_id, given)
    if _successor(connection, project_id, seen.event_id):
        raise StoreError("That answer was changed in another tab meanwhile; reload to see it.", "STORE_CONFLICT")
    return log.append(
        connection,
        project_id,
        "answer",
        seen.annotator_id,
        event_id,
        image_id=seen.image_id,
        question_id=seen.question_id,
        supersedes=seen.event_id,
        outcome=given.outcome,
        class_id=given.class_id,
        **_deciding(given),
    )


def _successor(connection: Connection, project_id: str, event_id: str) -> bool:
    """Whether an event superseded this one."""
    query = select(_events.c.seq).where(_events.c.project_id == project_id, _events.c.supersedes == event_id)
    return connection.execute(query).first() is not None


# ---- undo


def undo(connection: Connection, project_id: str, annotator_id: str) -> Event | None:
    """Take back this annotator's newest answer that stands; what it replaced holds again. None: nothing to undo."""
    target = _last_standing(connection, project_id, annotator_id)
    if target is None:
        return None
    head = log.chain(connection, project_id, str(target.image_id), annotator_id)[-1]
    return _take_back(connection, project_id, head)


def take_back(connection: Connection, project_id: str, annotator_id: str, head_id: str) -> Event:
    """Undo the newest answer of the chain that ends in this event."""
    known = log.event(connection, project_id, log.free_id(connection, project_id, event_ids.undo(head_id)))
    if known is not None and known.annotator_id == annotator_id:
        return known
    head = log.event(connection, project_id, head_id)
    if head is None or head.annotator_id != annotator_id or head.image_id is None:
        raise _not_yours()
    if head.outcome is None or _successor(connection, project_id, head_id):
        raise StoreError("That answer was changed in another tab; reload to see it.", "STORE_CONFLICT")
    return _take_back(connection, project_id, head)


def _take_back(connection: Connection, project_id: str, head: Event) -> Event:
    """Undo the newest answer of this chain that still stands."""
    target = _last_standing(connection, project_id, str(head.annotator_id), head.image_id)
    assert target is not None  # the head has an outcome, so some answer gave it
    before = None if target.supersedes is None else log.event(connection, project_id, target.supersedes)
    event = log.append(
        connection,
        project_id,
        "undo",
        head.annotator_id,
        log.free_id(connection, project_id, event_ids.undo(head.event_id)),
        image_id=target.image_id,
        question_id=target.question_id,
        supersedes=head.event_id,
        undoes=target.event_id,
        outcome=None if before is None else before.outcome,
        class_id=None if before is None else before.class_id,
    )
    stands = _last_standing(connection, project_id, str(head.annotator_id), head.image_id)
    is_answered = stands is not None and stands.question_id == target.question_id
    if target.question_id is not None and not is_answered:
        questions.reopen(connection, project_id, target.question_id)
    return event


def _last_standing(
    connection: Connection, project_id: str, annotator_id: str, image_id: str | None = None
) -> Event | None:
    """The newest answer that was not undone: of one image, or of all of this annotator's."""
    later = _events.alias("later")
    undone = select(later.c.seq).where(later.c.project_id == project_id, later.c.undoes == _events.c.event_id)
    mine = select(_events).where(
        _events.c.project_id == project_id,
        _events.c.annotator_id == annotator_id,
        _events.c.kind == "answer",
        ~undone.exists(),
    )
    if image_id is not None:
        mine = mine.where(_events.c.image_id == image_id)
    row = connection.execute(mine.order_by(_events.c.seq.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else made(Event, row)


# ---- flags


def flag(
    connection: Connection, project_id: str, asked: Question, annotator_id: str, event_id: str, comment: str
) -> Event:
    """Attach a comment to an image; the newest of an annotator holds, an empty one takes it back.

    The id begins with the question's and "!", as no other event's does: a flag never takes the place of one.
    """
    if asked.annotator_id != annotator_id or not event_ids.is_flag_of(event_id, asked.question_id):
        raise StoreError("That question was asked of somebody else; reload the page.", "STORE_AUTHZ")
    known = log.event(connection, project_id, event_id)
    if known is not None:
        return known
    payload = {"image_id": asked.image_id, "comment": comment}
    return log.append(connection, project_id, "flag", annotator_id, event_id, payload, question_id=asked.question_id)


# ---- counting


def n_labels(connection: Connection, project_id: str) -> int:
    """How many labels stand, of all annotators and of the import; counted where they are."""
    later = _events.alias("later")
    superseded = select(later.c.seq).where(later.c.project_id == project_id, later.c.supersedes == _events.c.event_id)
    counted = select(func.count()).select_from(_events).where(_events.c.project_id == project_id)
    labels = counted.where(_events.c.image_id.is_not(None), _events.c.outcome == "label", ~superseded.exists())
    return connection.execute(labels).scalar_one()


# ---- with a question or an event at hand


def answer(
    connection: Connection,
    project_id: str,
    asked: Question,
    annotator_id: str,
    outcome: str,
    class_id: int | None = None,
    deciding: Deciding | None = None,
) -> Event:
    """Answer a question as it was read before; sent twice, the first answer stands."""
    if asked.annotator_id != annotator_id:
        raise StoreError("That question was asked of somebody else; reload the page.", "STORE_AUTHZ")
    given = _as_answer(outcome, class_id, deciding, asked.event_id)
    known = log.event(connection, project_id, log.free_id(connection, project_id, given.event_id))
    if known is not None:
        return known
    chain = log.chain(connection, project_id, asked.image_id, annotator_id)
    if not _waits(chain, _asked_once(connection, project_id, asked.question_id)):
        raise StoreError("That image was answered already in another tab; reload to see it.", "STORE_CONFLICT")
    return _append_answer(connection, project_id, asked, chain, given)


def relabel(
    connection: Connection,
    project_id: str,
    seen: Event,
    outcome: str,
    class_id: int | None = None,
    deciding: Deciding | None = None,
) -> Event:
    """Change a stored answer, compare-and-set on the event that the person saw."""
    return _change(connection, project_id, seen, _as_answer(outcome, class_id, deciding))


def _as_answer(outcome: str, class_id: int | None, deciding: Deciding | None, event_id: str = "") -> Answer:
    how = Deciding(None, None) if deciding is None else deciding
    return Answer(
        "answer",
        event_id,
        outcome=outcome,
        class_id=class_id,
        milliseconds=how.milliseconds,
        guess_shown=how.guess_shown,
    )


def _deciding(given: Answer, payload: Mapping[str, Json] | None = None) -> dict[str, Any]:  # Any: column values
    """How an answer came about, and what else it carries, as column values."""
    shown = {} if given.guess_shown is None else {"guess_shown": given.guess_shown}
    return {"client_ms": given.milliseconds, "payload": {**(payload or {}), **shown}}


def _asked_once(connection: Connection, project_id: str, question_id: str) -> Question:
    asked = questions.question(connection, project_id, question_id)
    if asked is None:
        raise StoreError("That question was never asked; reload the page.", "STORE_NOT_ASKED")
    return asked


def _not_asked_of_you(image_id: str) -> StoreError:
    return StoreError(f"{name_of(image_id)} is not asked of you at the moment; reload the page.", "STORE_NOT_ASKED")


def _not_yours() -> StoreError:
    return StoreError("That answer is not yours, or was never stored; reload the page.", "STORE_AUTHZ")
