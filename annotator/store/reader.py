"""Reads snapshots, each from the one before: what can differ from it, and no more.

    Reader.read(connection) -> Snapshot

Read are events that are newer, questions that are open now, and questions that newer events speak of. That is enough,
since without an event a question can only be offered, marked as shown while it is open, or withdrawn while it is open.
People and models are counted, and people read where there are more of them than before; classes and configurations are
read again with each event that speaks of any. Where nothing differs the same Snapshot comes back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from sys import intern
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from annotator.store import schema, verify
from annotator.store.log import MOST_AT_ONCE
from annotator.store.questions import KEPT
from annotator.store.snapshot import Asked, History, Snapshot, chain_of, place_of
from annotator.store.values import Annotator, Event, Json, LabelClass, Question

Select = Any  # SQLAlchemy's generic selects: their parameters say nothing that is checked here
_QUESTION = [name for name in Question.__dataclass_fields__ if name != "n_events"]
_REPEATED = ("purpose", "strategy", "strategy_version", "annotator_id", "closed_by")


class Reader:
    """Makes the snapshots of one project, each from the one before. Not for two threads at once."""

    def __init__(self, project_id: str) -> None:
        self._project_id = project_id
        self._forget()

    def _forget(self) -> None:
        self._history = History()
        self._n_events: defaultdict[str, int] = defaultdict(int)
        """question id -> how many events answered it, or changed an answer to it; withdrawn ones too."""
        self._is_damaged: bool | None = None
        """Of the last snapshot; None before the first."""
        self._snapshot = Snapshot(_history=self._history)

    @property
    def seq(self) -> int:
        """Of the newest event that was read."""
        return self._history.seq

    def read(self, connection: Connection, is_damaged: bool = False) -> Snapshot:
        """The snapshot of this read transaction; of a damaged store with classes and configurations as its log has."""
        try:
            return self._read(connection, is_damaged)
        except BaseException:  # half of it may be remembered: begin anew
            self._forget()
            raise

    @verify.typed()
    def _read(self, connection: Connection, is_damaged: bool) -> Snapshot:
        head_seq, head_hash, n_people, n_models = connection.execute(self._marks).one()
        events = self._newer_events(connection)
        changed = {
            **self._changed_head(head_seq, head_hash, n_models),
            **self._changed_answers(events),
            **self._changed_questions(connection, events),
            **self._changed_tables(connection, events, n_people, is_damaged),
        }
        if changed:
            self._snapshot = replace(self._snapshot, **changed, _facts={})
        return self._snapshot

    def _changed_head(self, head_seq: int, head_hash: str, n_models: int) -> dict[str, Any]:  # Any: fields of Snapshot
        found = {"head_seq": head_seq, "head_hash": head_hash, "n_models": n_models}
        return {name: value for name, value in found.items() if value != getattr(self._snapshot, name)}

    # ---- answers

    def _newer_events(self, connection: Connection) -> list[Event]:
        rows = connection.execute(self._events_after, {"seq": self._history.seq}).fetchall()
        return [Event(*row) for row in rows]

    def _changed_answers(self, events: Sequence[Event]) -> dict[str, Any]:  # Any: fields of Snapshot
        """The tables that events on images, flags and new classes change."""
        if not events:
            return {}
        before = self._snapshot
        tally = _Tally(before)
        for event in events:
            self._history.seq = event.seq
            if event.image_id is not None:
                self._count_answer(event, tally.take(event))
            elif event.kind == "flag":
                tally.take_flag(event)
            elif event.kind == "class" and event.event_id.endswith(".add"):
                self._history.class_seqs.append(event.seq)
        return {"newest_seq": self._history.seq, **vars(tally)}

    def _count_answer(self, event: Event, before: Event | None) -> None:
        self._history.chained.append((event, before))
        self._history.first_answers.setdefault(str(event.question_id), event.seq)
        self._n_events[str(event.question_id)] += 1

    # ---- questions

    def _changed_questions(
        self, connection: Connection, events: Sequence[Event]
    ) -> dict[str, Any]:  # Any: fields of Snapshot
        before, is_first = self._snapshot, self._is_damaged is None
        open_now = tuple(self._made(connection.execute(self._open_questions).fetchall()))
        spoken_of = {str(event.question_id) for event in events if event.image_id is not None}
        if not is_first and not spoken_of and open_now == before.open:
            return {}
        if is_first or len(spoken_of) > len(before.questions):
            found = self._made(connection.execute(self._kept_questions).fetchall())
        else:
            found = [*open_now, *self._by_id(connection, spoken_of - {asked.question_id for asked in open_now})]
        touched = spoken_of.union(question.question_id for question in (*before.open, *open_now))
        fresh = {question.question_id: question for question in found}
        questions = dict(before.questions)
        for question_id in touched - fresh.keys():  # no others: a copy of a dict without gaps is ten times as fast
            questions.pop(question_id, None)
        questions |= fresh
        asked = _moved(before, questions, found, touched)
        return {"questions": questions, "open": open_now, "asked": asked}

    def _by_id(self, connection: Connection, ids: Iterable[str]) -> list[Question]:
        """Those of these that were not withdrawn."""
        wanted, found = list(ids), list[Question]()
        for start in range(0, len(wanted), MOST_AT_ONCE):
            some = schema.questions.c.question_id.in_(wanted[start : start + MOST_AT_ONCE])
            found += self._made(connection.execute(self._kept_questions.where(some)).fetchall())
        return found

    def _made(self, rows: Sequence[Row[Any]]) -> list[Question]:  # Any: the columns of a question
        """Questions from their rows; words that stand in thousands of rows are kept once."""
        questions = []
        for row in rows:
            values = dict(zip(_QUESTION, row, strict=True))
            for name in _REPEATED:
                if type(values[name]) is str:  # a damaged file may hold bytes
                    values[name] = intern(values[name])
            questions.append(Question(**values, n_events=self._n_events.get(values["question_id"], 0)))
        return questions

    # ---- people, classes, configurations

    def _changed_tables(
        self, connection: Connection, events: Sequence[Event], n_people: int, is_damaged: bool
    ) -> dict[str, Any]:  # Any: fields of Snapshot
        kinds = {event.kind for event in events}
        changed: dict[str, Any] = {}  # Any: as above
        if n_people != len(self._snapshot.people):
            changed["people"] = tuple(Annotator(*row) for row in connection.execute(self._people).fetchall())
        if "class" in kinds or is_damaged is not self._is_damaged:
            changed["classes"] = tuple(self._classes(connection, is_damaged))
        if "config" in kinds or is_damaged is not self._is_damaged:
            changed["configs"] = self._configs(connection, is_damaged)
        self._is_damaged = is_damaged
        return changed

    def _classes(self, connection: Connection, is_damaged: bool) -> list[LabelClass]:
        if is_damaged:
            return [LabelClass(*pair) for pair in enumerate(verify.class_names(connection, self._project_id))]
        rows = connection.execute(self._class_rows).fetchall()
        return [LabelClass(row.class_id, row.name, row.retired_at is not None) for row in rows]

    def _configs(self, connection: Connection, is_damaged: bool) -> dict[int, dict[str, Json]]:
        if is_damaged:
            return verify.configs(connection, self._project_id)
        return {int(row.version): json.loads(row.config) for row in connection.execute(self._config_rows).fetchall()}

    # ---- selects, made once: putting one together costs as much as running it

    @cached_property
    def _marks(self) -> Select:
        """Head, and how many people and models there are."""
        project, counts = schema.projects, []
        for table in (schema.annotators, schema.models):
            mine = table.c.project_id == self._project_id
            counts.append(select(func.count()).select_from(table).where(mine).scalar_subquery())
        return select(project.c.head_seq, project.c.head_hash, *counts).where(project.c.project_id == self._project_id)

    @cached_property
    def _events_after(self) -> Select:
        table = schema.events
        columns = (table.c[name] for name in Event.__dataclass_fields__)
        mine = table.c.project_id == self._project_id
        return select(*columns).where(mine, table.c.seq > bindparam("seq")).order_by(table.c.seq)

    @cached_property
    def _open_questions(self) -> Select:
        table = schema.questions
        return self._questions.where(table.c.closed_at.is_(None)).order_by(table.c.round, table.c.rank)

    @cached_property
    def _kept_questions(self) -> Select:
        return self._questions.where(KEPT)

    @cached_property
    def _questions(self) -> Select:
        table = schema.questions
        columns = (table.c[name] for name in _QUESTION)
        return select(*columns).where(table.c.project_id == self._project_id)

    @cached_property
    def _people(self) -> Select:
        table = schema.annotators
        columns = (table.c[name] for name in Annotator.__dataclass_fields__)
        return select(*columns).where(table.c.project_id == self._project_id).order_by(table.c.number)

    @cached_property
    def _class_rows(self) -> Select:
        table = schema.classes
        return select(table).where(table.c.project_id == self._project_id).order_by(table.c.class_id)

    @cached_property
    def _config_rows(self) -> Select:
        table = schema.configs
        return select(table).where(table.c.project_id == self._project_id).order_by(table.c.version)


class _Tally:
    """Copies of a snapshot's tables of answers, which the events after it change."""

    def __init__(self, before: Snapshot) -> None:
        self.heads = dict(before.heads)
        self.labels = dict(before.labels)
        self.answers = dict(before.answers)
        self.flags = dict(before.flags)

    def take(self, event: Event) -> Event | None:
        """The next event on an image; the head of its chain before it."""
        before = self.heads.pop(chain_of(event), None)  # taken out, so that the order stays that of the seqs
        self.heads[chain_of(event)] = event
        self._count(before, -1)
        self._count(event, 1)
        return before

    def take_flag(self, event: Event) -> None:
        """The newest comment of an annotator on an image holds; an empty one, or a damaged one, takes it back."""
        payload = verify.payload_of(event.payload)
        chain = (str(payload.get("image_id")), str(event.annotator_id))
        self.flags.pop(chain, None)
        if comment := payload.get("comment"):
            self.flags[chain] = str(comment)

    def _count(self, event: Event | None, step: int) -> None:
        if event is None or event.outcome is None:
            return
        who = str(event.annotator_id)
        self.answers[who] = self.answers.get(who, 0) + step
        if event.outcome == "label" and event.class_id is not None:
            self.labels[event.class_id] = self.labels.get(event.class_id, 0) + step


def _moved(
    before: Snapshot, questions: Mapping[str, Question], found: Sequence[Question], touched: Iterable[str]
) -> Asked:
    """Rounds with the questions that are there now; the `Asked` of before where no question came, went or moved."""
    stale: dict[tuple[str, int], set[str]] = defaultdict(set)
    fresh: dict[tuple[str, int], list[str]] = defaultdict(list)
    for question_id in touched:
        known, now = before.questions.get(question_id), questions.get(question_id)
        if known is not None and (now is None or place_of(now) != place_of(known)):
            stale[known.annotator_id, known.round].add(question_id)
    for question in found:
        known = before.questions.get(question.question_id)
        if known is None or place_of(known) != place_of(question):
            fresh[question.annotator_id, question.round].append(question.question_id)
    if not stale and not fresh:
        return before.asked
    rounds = {who: dict(theirs) for who, theirs in before.asked.rounds.items()}
    for who, number in {*stale, *fresh}:
        theirs = rounds.setdefault(who, {})
        stay = [one for one in theirs.pop(number, ()) if one not in stale[who, number]]
        ids = sorted([*stay, *fresh[who, number]], key=lambda one: (questions[one].rank, one))
        if ids:
            theirs[number] = tuple(ids)
    return Asked(rounds, tuple((question.image_id, question.purpose) for question in questions.values()))
