"""What a project's store says at one moment: a value, read in one transaction, that never changes afterwards.

reader.py makes each from the one before. A changed table is a changed copy: whoever still draws from an older
snapshot, in whichever thread, sees that one. Where nothing has changed it is the same object, so what was worked out
from it holds as well (see `once`). Facts about a snapshot are functions of it. Knows no database, no arrays, no model.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple, Unpack

from annotator.store.log import GENESIS
from annotator.store.values import Annotator, Event, Json, LabelClass, Question

Chain = tuple[str, str]
"""(image id, annotator id): whose answers to what."""
Rounds = Mapping[int, tuple[str, ...]]
"""Round number -> ids of its questions by rank; labels known from the start are round 0."""


class History:
    """Every event read so far. Only grows, so snapshots share it: each looks no further than its own newest event."""

    def __init__(self) -> None:
        self.seq = 0
        """Of the newest event."""
        self.chained: list[tuple[Event, Event | None]] = []
        """Each event on an image, with the head of its chain before it."""
        self.first_answers: dict[str, int] = {}
        """question id -> seq of the first event that answered it."""
        self.class_seqs: list[int] = []
        """Seqs at which a class was added."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Which questions there are: the same object as long as none is offered, withdrawn or moved."""

    rounds: Mapping[str, Rounds] = field(default_factory=dict)
    """annotator id -> that annotator's rounds."""
    images: tuple[tuple[str, str], ...] = ()
    """(image id, purpose) of each."""
    _facts: dict[Any, Any] = field(default_factory=dict, repr=False)  # Any: see `once`


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The standing answers, questions, classes, people and configurations of a project. Compared by identity."""

    head_seq: int = 0
    """The number of the newest event; 0 before the first."""
    head_hash: str = GENESIS
    newest_seq: int = 0
    """Of the newest event that is reckoned with: `head_seq`, where the store is whole."""
    people: tuple[Annotator, ...] = ()
    """By number."""
    classes: tuple[LabelClass, ...] = ()
    """By id, which is their code; retired ones too."""
    configs: Mapping[int, dict[str, Json]] = field(default_factory=dict)
    """By version."""
    n_models: int = 0
    """How many fits were recorded."""
    heads: dict[Chain, Event] = field(default_factory=dict)
    """The newest event of each chain, an undo included, by seq: a dict, since that can be read from its end."""
    questions: Mapping[str, Question] = field(default_factory=dict)
    """Every question that was not withdrawn, by id."""
    asked: Asked = field(default_factory=Asked)
    open: tuple[Question, ...] = ()
    """Questions that wait for an answer, by round and rank."""
    flags: Mapping[Chain, str] = field(default_factory=dict)
    """The comments that hold."""
    labels: Mapping[int, int] = field(default_factory=dict)
    """class id -> how many labels of it stand, of all annotators and of the import."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """annotator id -> how many answers stand, skips included."""
    _history: History = field(default_factory=History, repr=False)
    _facts: dict[Any, Any] = field(default_factory=dict, repr=False)  # Any: see `once`


# ---- facts about a snapshot


_Of = TypeVar("_Of", Asked, Snapshot)
_More = TypeVarTuple("_More")
_Fact = TypeVar("_Fact")


def once(fact: Callable[[_Of, Unpack[_More]], _Fact]) -> Callable[[_Of, Unpack[_More]], _Fact]:
    """Work this function of a snapshot out once for each snapshot, and for each of its other (hashable) arguments."""

    @wraps(fact)
    def remembered(value: _Of, *args: *_More) -> _Fact:
        key = (fact, *args)
        if key not in value._facts:
            value._facts[key] = fact(value, *args)
        found: _Fact = value._facts[key]
        return found

    return remembered


def standing(snapshot: Snapshot, through: int | None = None) -> list[Event]:
    """The answers that stand, by seq; those that stood at event `through`, where it is given."""
    history = snapshot._history.chained
    n_known = bisect_right(history, snapshot.newest_seq, key=_seq)
    first_later = n_known if through is None else bisect_right(history, through, hi=n_known, key=_seq)
    if first_later == n_known:
        return [event for event in snapshot.heads.values() if event.outcome is not None]
    heads: dict[Chain, Event | None] = dict(snapshot.heads)
    for event, before in reversed(history[first_later:n_known]):
        heads[chain_of(event)] = before
    stood = (event for event in heads.values() if event is not None and event.outcome is not None)
    return sorted(stood, key=lambda event: event.seq)


def newest_standing(snapshot: Snapshot, annotator_id: str) -> Iterator[Event]:
    """This annotator's standing answers, the newest first."""
    left = snapshot.answers.get(annotator_id, 0)
    for event in reversed(snapshot.heads.values()) if left else ():
        if event.annotator_id == annotator_id and event.outcome is not None:
            yield event
            left -= 1
            if not left:
                return


def head_at(snapshot: Snapshot, chain: Chain, through: int) -> Event | None:
    """The newest event of the chain at event `through`, an undo included; None where there was none yet."""
    newest = snapshot.heads.get(chain)
    earlier = () if newest is None else _chain(snapshot, newest)
    return next((event for event in earlier if event.seq <= through), None)


def given(snapshot: Snapshot, event: Event) -> Event:
    """The answer that holds by this event: of an undo the one that it brought back, else the event itself."""
    chain = {each.event_id: each for each in _chain(snapshot, event)} if event.kind == "undo" else {}
    held: Event | None = event
    while held is not None and held.kind == "undo":
        undone = chain.get(str(held.undoes))
        held = None if undone is None else chain.get(str(undone.supersedes))
    return event if held is None else held  # of an undo that left nothing, or in a damaged store, the undo itself


def first_given(snapshot: Snapshot, event: Event) -> Event:
    """The first event of the chain that leads to this one."""
    *_, first = _chain(snapshot, event)
    return first


def _chain(snapshot: Snapshot, event: Event) -> Iterator[Event]:
    """This event and those before it on the same image by the same annotator, the newest first."""
    history = snapshot._history.chained
    at: Event | None = event
    while at is not None:
        yield at
        place = bisect_left(history, at.seq, key=_seq)
        at = history[place][1] if place < len(history) and history[place][0].seq == at.seq else None


def answer_times(snapshot: Snapshot) -> list[tuple[int, int]]:
    """(seq, milliseconds it took) of every answer and change for which that was recorded, of anybody, by seq."""
    history = snapshot._history.chained
    n_known = bisect_right(history, snapshot.newest_seq, key=_seq)
    return [(event.seq, event.client_ms) for event, _ in history[:n_known] if event.client_ms is not None]


def class_names(snapshot: Snapshot) -> list[str]:
    """Every class by id, retired ones too."""
    return [known.name for known in snapshot.classes]


def n_classes(snapshot: Snapshot, through: int) -> int:
    """How many classes there were at that event."""
    return bisect_right(snapshot._history.class_seqs, min(through, snapshot.newest_seq))


def n_labels(snapshot: Snapshot) -> int:
    """How many labels stand, of all annotators and of the import."""
    return sum(snapshot.labels.values())


def n_labels_since(snapshot: Snapshot, seq: int) -> int:
    """How many of the labels that stand were given after that event."""
    n_later = 0
    for event in reversed(snapshot.heads.values()):
        if event.seq <= seq:
            break
        n_later += event.outcome == "label"
    return n_later


def open_of(snapshot: Snapshot, annotator_id: str) -> list[Question]:
    """What this annotator was asked and has not answered: reopened ones first, then by rank."""
    return [question for question in snapshot.open if question.annotator_id == annotator_id]


def questions_in(snapshot: Snapshot, annotator_id: str, round_number: int) -> list[Question]:
    """What this annotator was asked in this round and was not withdrawn, by rank."""
    rounds = snapshot.asked.rounds.get(annotator_id, {})
    return [snapshot.questions[question_id] for question_id in rounds.get(round_number, ())]


def rounds_of(snapshot: Snapshot, annotator_id: str) -> list[int]:
    """The rounds in which this annotator was asked, ascending; without the labels known from the start."""
    return sorted(number for number in snapshot.asked.rounds.get(annotator_id, {}) if number)


def first_answers(snapshot: Snapshot, annotator_id: str, round_number: int) -> list[int]:
    """Seqs of the first answers to the questions of this round, ascending; an undo does not take them back."""
    ids = snapshot.asked.rounds.get(annotator_id, {}).get(round_number, ())
    found = (first_answer(snapshot, question_id) for question_id in ids)
    return sorted(seq for seq in found if seq is not None)


def first_answer(snapshot: Snapshot, question_id: str) -> int | None:
    """Seq of the first answer to a question, or None; an undo does not take it back."""
    seq = snapshot._history.first_answers.get(question_id)
    return seq if seq is not None and seq <= snapshot.newest_seq else None


def last_round(snapshot: Snapshot) -> int:
    """The highest round number that was asked and not withdrawn; 0 before the first."""
    return max((max(rounds, default=0) for rounds in snapshot.asked.rounds.values()), default=0)


def by_place(snapshot: Snapshot) -> list[Question]:
    """Every question that was not withdrawn, by round and rank."""
    return sorted(snapshot.questions.values(), key=place_of)


def _seq(chained: tuple[Event, Event | None]) -> int:
    return chained[0].seq


def chain_of(event: Event) -> Chain:
    return str(event.image_id), str(event.annotator_id)


def place_of(question: Question) -> tuple[int, int]:
    return question.round, question.rank
