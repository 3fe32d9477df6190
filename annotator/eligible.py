"""Which images may be asked now, and whether it is time to choose a batch: functions of a snapshot.

    snapshot + dataset + audit slice -> rows

Nobody is asked what somebody was asked already, nor about a second image of the same content; the audit slice is left
to its own share of each batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.learner import Learner
from annotator.store import Snapshot
from annotator.store import snapshot as snapshots
from annotator.store.snapshot import Asked, once
from annotator.types import IntArray


@dataclass(frozen=True)
class Eligible:
    """Rows by what they may be asked for."""

    asked: frozenset[int]
    """Rows that were asked about, labels known from the start included."""
    n_drawn: int
    """How many images were asked about in a batch."""
    candidates: IntArray
    """Rows for a strategy, ascending."""
    audit_left: tuple[int, ...]
    """Rows of the audit slice that nobody was asked about, in the order in which they will be."""

    @property
    def n_left(self) -> int:
        """How many images could still be asked about."""
        return len(self.candidates) + len(self.audit_left)


def eligible(snapshot: Snapshot, learner: Learner) -> Eligible:
    """Of the pool that this learner learns; worked out again only when questions come or go, not with each answer."""
    return _eligible(snapshot.asked, learner)


@once
def _eligible(questions: Asked, learner: Learner) -> Eligible:
    asked = frozenset(learner.row(image_id) for image_id, _ in questions.images)
    free = learner.dataset.is_first.copy()
    free[learner.dataset.group[list(asked)]] = False
    free[learner.audit_rows] = False
    return Eligible(
        asked=asked,
        n_drawn=sum(purpose != "seed" for _, purpose in questions.images),
        candidates=np.flatnonzero(free),
        audit_left=tuple(row for row in learner.audit_rows.tolist() if row not in asked),
    )


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
    if eligible(snapshot, learner).n_left:
        return True
    has_all_learned = learner.trained_through == snapshot.head_seq
    is_open = bool(snapshots.open_of(snapshot, annotator_id))
    return not (is_open or has_all_learned or not snapshots.n_labels(snapshot))


def enough_to_look_ahead(batch_size: int) -> int:
    """After how many answers the next batch is chosen: when half of the cards, at least three, are left.

    Later, and people who label fast would wait; sooner, and the model would know less than it could.
    """
    return max(1, batch_size - max(3, batch_size // 2))
