"""Whether it is time to choose a batch, and how much is left to choose from: functions of a snapshot and a learner."""

from __future__ import annotations

import numpy as np

from annotator.eligible import Asked, asked_rows, eligible
from annotator.fitted import Newest
from annotator.learner import Learner
from annotator.purposes import AUDIT, SEED, TRAIN
from annotator.store import Snapshot, Store, questions
from annotator.store import snapshot as snapshots
from annotator.store.snapshot import once
from annotator.types import IntArray

N_NEWEST = 200
"""More labels than two batches of the usual size have: a bound on what a strategy looks at, not measured."""
N_RECENT = 2
"""Rounds that are still before the annotator's eyes: a batch is chosen while half of the one before it is open."""


def asked(snapshot: Snapshot, learner: Learner) -> Asked:
    """What was asked of anybody, in rows; worked out again only when questions come or go, not with each answer."""
    return _asked(snapshot.asked, learner)


def n_left(snapshot: Snapshot, learner: Learner) -> int:
    """How many images could still be asked about."""
    return _n_left(snapshot.asked, learner)


def newest_labeled(snapshot: Snapshot, learner: Learner, annotator_id: str, through: int) -> IntArray:
    """Rows whose labels stood at event `through`, as `Pool.newest` has them."""
    recent = snapshots.rounds_of(snapshot, annotator_id)[-N_RECENT:]
    found: list[tuple[int, str]] = []
    for asked in (each for number in recent for each in snapshots.questions_in(snapshot, annotator_id, number)):
        head = snapshots.head_at(snapshot, (asked.image_id, annotator_id), through)
        if head is not None and head.outcome == "label" and asked.purpose != AUDIT.name:
            held = snapshots.given(snapshot, head)
            if held.question_id == asked.question_id:  # an undone second look has shown the image, but labeled nothing
                found.append((held.seq, asked.image_id))
    newest_first = sorted(found, reverse=True)[:N_NEWEST]
    return np.array([learner.row(image_id) for _, image_id in newest_first], dtype=np.int64)


def own_labels(snapshot: Snapshot, learner: Learner, annotator_id: str, newest: Newest) -> IntArray:
    """Rows with labels of this annotator, ascending, that the newest fit knows and that stand unchanged since.

    Left out are those of the newest rounds, and those that other people's labels outvote.
    """
    labels, given = newest.labels, snapshots.standing(snapshot, newest.trained_through)
    if labels is None:
        return np.empty(0, dtype=np.int64)
    recent = set(snapshots.rounds_of(snapshot, annotator_id)[-N_RECENT:])
    rows = []
    for event in given:
        asked = snapshot.questions.get(str(event.question_id))
        stands = event.outcome == "label" and snapshot.heads[snapshots.chain_of(event)].seq == event.seq
        if event.annotator_id == annotator_id and stands and asked is not None and asked.round not in recent:
            rows.append((learner.row(str(event.image_id)), event.class_id))
    return np.array(sorted(row for row, code in rows if labels[row] == code), dtype=np.int64)


@once
def _asked(questions: snapshots.Asked, learner: Learner) -> Asked:
    rows = [learner.row(image_id) for image_id, _ in questions.images]
    return asked_rows(rows, sum(purpose != SEED.name for _, purpose in questions.images))


@once
def _n_left(questions: snapshots.Asked, learner: Learner) -> int:
    done = _asked(questions, learner)
    return sum(len(eligible(learner.dataset, learner.audit_rows, done, purpose)) for purpose in (TRAIN, AUDIT))


def learn_through(snapshot: Snapshot, annotator_id: str) -> int | None:
    """The seq to learn through before this annotator's next batch is chosen; None where it is not yet time."""
    mine = snapshots.rounds_of(snapshot, annotator_id)
    if not mine:
        return snapshot.head_seq
    answered = snapshots.first_answers(snapshot, annotator_id, mine[-1])
    enough = enough_to_look_ahead(len(snapshots.questions_in(snapshot, annotator_id, mine[-1])))
    return answered[enough - 1] if len(answered) >= enough else None


def is_due(snapshot: Snapshot, learner: Learner, annotator_id: str) -> bool:
    """Whether looking ahead has something to do: a batch to choose, or the last answers to learn from."""
    if learn_through(snapshot, annotator_id) is None:
        return False
    if n_left(snapshot, learner):
        return True
    has_all_learned = learner.newest.trained_through == snapshot.head_seq
    is_open = bool(snapshots.open_of(snapshot, annotator_id))
    return not (is_open or has_all_learned or not snapshots.n_labels(snapshot))


def held_by(snapshot: Snapshot, annotator_id: str) -> tuple[str, ...]:
    """Names of the others who were asked what nobody has answered yet, by number."""
    holders = {question.annotator_id for question in snapshot.open} - {annotator_id}
    return tuple(person.name for person in snapshot.people if person.annotator_id in holders)


def can_take_over(store: Store, snapshot: Snapshot, annotator_id: str) -> bool:
    """Whether images that others were offered and have not begun in time can be asked of this annotator now."""
    return not snapshots.open_of(snapshot, annotator_id) and store.read(questions.others_expired, annotator_id)


def enough_to_look_ahead(batch_size: int) -> int:
    """After how many answers the next batch is chosen: when half of the cards, at least three, are left.

    Later, and people who label fast would wait; sooner, and the model would know less than it could.
    """
    return max(1, batch_size - max(3, batch_size // 2))
