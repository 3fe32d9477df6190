"""A batch as the labeling grid shows it: every card with its guess and its reason, what stands now, possible answers.

Functions of a snapshot and a learner; they change nothing. Speaks image ids, class ids and event ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from annotator.asking import BESIDE
from annotator.learner import Learner
from annotator.reasons import on_card
from annotator.store import Event, Question, Snapshot
from annotator.store import snapshot as snapshots

N_TOP = 5
"""How many of the most probable classes go with a card."""


@dataclass(frozen=True)
class ShownCard:
    """One asked image, answered or not."""

    image_id: str
    row: int
    question_id: str
    n_events: int
    """How many events its chain has: the next answer's id counts from here."""
    head: Event | None
    """The newest event of its chain, an undo included; None where it asks again and waits for an answer."""
    purpose: str
    guess: int | None
    """Class id; None before there is a model, and where the guess is hidden."""
    hides_guess: bool
    probability: float | None
    entropy: float | None
    top: tuple[int, ...]
    """Class ids, the most probable first; empty where the guess is hidden."""
    flag: str | None
    reason: str
    """Why it was picked; empty where its strategy says nothing, or where that would tell a hidden guess."""


@dataclass(frozen=True)
class ShownBatch:
    """One batch of one annotator."""

    round: int
    strategy: str
    model_version: int | None
    labels_at: int
    """How many labels stood when it was chosen."""
    cards: tuple[ShownCard, ...]


def read_batches(snapshot: Snapshot, learner: Learner, annotator_id: str) -> list[ShownBatch]:
    """The open batches of this annotator and the one before them, by round."""
    waiting = {question.round for question in snapshots.open_of(snapshot, annotator_id)}
    rounds = snapshots.rounds_of(snapshot, annotator_id)
    first = next((place for place, number in enumerate(rounds) if number in waiting), len(rounds))
    wanted = [number for place, number in enumerate(rounds) if number in waiting or place == first - 1]
    return [_shown(snapshot, learner, snapshots.questions_in(snapshot, annotator_id, number)) for number in wanted]


def _shown(snapshot: Snapshot, learner: Learner, asked: list[Question]) -> ShownBatch:
    names = {known.class_id: known.name for known in snapshot.classes}
    picked = next((question for question in asked if question.strategy not in BESIDE), asked[0])
    return ShownBatch(
        round=picked.round,
        strategy=picked.strategy,
        model_version=picked.model_version,
        labels_at=snapshots.n_labels(snapshot) - snapshots.n_labels_since(snapshot, picked.chosen_at_seq),
        cards=tuple(_card(snapshot, learner, question, names) for question in asked),
    )


def _card(snapshot: Snapshot, learner: Learner, question: Question, names: Mapping[int, str]) -> ShownCard:
    chain = question.image_id, question.annotator_id
    visible = question.guess_visible and question.guess is not None
    row = learner.row(question.image_id)
    return ShownCard(
        image_id=question.image_id,
        row=row,
        question_id=question.question_id,
        n_events=question.n_events,
        head=_head(question, snapshot.heads.get(chain)),
        purpose=question.purpose,
        guess=question.guess if visible else None,
        hides_guess=question.hides_guess,
        probability=question.guess_probability if visible else None,
        entropy=question.guess_entropy if visible else None,
        top=_top(question, learner, row) if visible else (),
        flag=snapshot.flags.get(chain),
        reason=on_card(question, names),
    )


def _head(question: Question, newest: Event | None) -> Event | None:
    """What the card shows: an open question waits, also where an earlier answer to another one stands."""
    stands = newest is not None and newest.outcome is not None
    return None if question.closed_by is None and stands else newest


def _top(question: Question, learner: Learner, row: int) -> tuple[int, ...]:
    """The stored guess, then what the newest model finds probable beside it."""
    others: list[int] = []
    if learner.is_ready and learner.version is not None:
        others = learner.prediction.probabilities[row].argsort()[::-1][: N_TOP + 1].tolist()
    found = dict.fromkeys([question.guess, *others])
    return tuple(code for code in found if code is not None)[:N_TOP]
