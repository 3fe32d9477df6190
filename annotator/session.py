"""One annotator's loop: ask, answer, learn, ask again.

Owns nothing that the store does not hold: open it again and the same unanswered images are asked. A batch is a function
of (seed, round, annotator's number, config version, dataset version, seq trained through) and is stored before anyone
sees it (see asking.py): it is chosen outside the store's lock, and claimed only where nothing was asked meanwhile.
Speaks image ids and class names; rows and codes stay inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from annotator import due, reports
from annotator.asking import COLD_START, Settings, Situation, choose
from annotator.errors import ConfigError
from annotator.learner import Learner
from annotator.reports import Card, Moment
from annotator.store import (
    OUTCOMES,
    Annotator,
    Answer,
    Deciding,
    Question,
    Snapshot,
    Store,
    answers,
    classes,
    questions,
)
from annotator.store import snapshot as snapshots

__all__ = ["COLD_START", "Card", "Session", "Settings"]
N_FREE_TRIES = 3
"""How often a batch is chosen outside the store's lock before it is chosen inside."""


class Session:
    """`label`, `skip`, `undo` and `advance` return nothing; the properties change nothing."""

    def __init__(self, store: Store, learner: Learner, annotator: Annotator, settings: Settings) -> None:
        self.annotator = annotator
        self._settings = settings
        self._store = store
        self._learner = learner
        self.query_seconds: float | None = None
        """How long the last batch took to choose; None before this session chose one."""

    # ---- commands

    def advance(self, wait: bool = True) -> None:
        """Learn from what was answered and ask the next batch; nothing to do while questions are open.

        Without `wait`, a slow model learns in the background, and the batch is chosen by what is known by now.
        """
        if self._open():
            self._renew()
            return
        self._learner.learn(wait)
        self._offer(lambda snapshot: not snapshots.open_of(snapshot, self.annotator.annotator_id))

    def look_ahead(self, wait: bool = True) -> None:
        """Choose the batch after the open one when half of that is left, so that nobody waits for it.

        The rule knows no clock: the model learns from the events up to the answer that left half, however late this
        is called. Nothing to do before that, or where the next batch is there already.
        """
        through = self._enough(self._store.snapshot())
        if through is None:
            return
        self._learner.learn(wait, through)
        self._offer(lambda snapshot: self._enough(snapshot) is not None)
        if not self._open():
            self._learner.learn(wait)  # nothing is left to ask: the last answers count as well

    def give(self, answer: Answer) -> None:
        """Store what was done with a card: an answer, a change of one, an undo, or a flag. One write and no read.

        Sent twice it is one event. Raises StoreError STORE_CONFLICT where another tab was faster, STORE_AUTHZ for what
        is somebody else's, STORE_NOT_ASKED; ConfigError for a class that is not offered.
        """
        self._store.append(answers.give, self.annotator.annotator_id, answer)

    def label(
        self, image_id: str, class_name: str, event_id: str | None = None, deciding: Deciding | None = None
    ) -> None:
        """Answer with a class; without an `event_id` an image that was answered before is relabeled.

        `event_id` is that of the card the answer was given to: sent twice it is one event, and an answer to a card
        that was answered differently in another tab is refused (StoreError STORE_CONFLICT).
        """
        self._say(image_id, _answer("label", event_id, deciding), class_name)

    def skip(
        self, image_id: str, outcome: str = "skip", event_id: str | None = None, deciding: Deciding | None = None
    ) -> None:
        """Answer without a class: "skip", "unsure" or "none-of-these"."""
        if outcome not in OUTCOMES or outcome == "label":
            raise ConfigError(f"No answer {outcome!r}. Choose from: {', '.join(OUTCOMES[1:])}.")
        self._say(image_id, _answer(outcome, event_id, deciding))

    def undo(self, seen_id: str | None = None) -> None:
        """Take back an answer, and what it replaced holds again or the image is asked again.

        Without `seen_id` it is the newest that stands, across rounds too; with it, the newest of the image whose last
        event that is.
        """
        if seen_id is None:
            self._store.append(answers.undo, self.annotator.annotator_id)
        else:
            self.give(Answer("undo", seen_id=seen_id))

    def withdraw(self, ahead_only: bool = False) -> None:
        """Take back what was offered and nobody has begun to answer; or of it only what comes after the open round."""
        after = reports.current_round(self.moment()) if ahead_only else 0
        self._store.write(questions.withdraw, self.annotator.annotator_id, after)

    def add_class(self, name: str) -> None:
        """A new class from now on; the model knows it from its first label."""
        self._store.append(classes.add, [name], self.annotator.annotator_id)

    def shown(self, rounds: Sequence[int] | None = None) -> None:
        """Note that the open cards, or those of these rounds, are on a screen; they are held for longer then."""
        if rounds is not None and not rounds:
            return
        unseen = (asked for asked in self._open() if asked.shown_at is None)
        if seen := [asked.question_id for asked in unseen if rounds is None or asked.round in rounds]:
            self._store.write(questions.mark_shown, seen)
        self._renew()

    # ---- what is known

    def moment(self) -> Moment:
        """The project as it is now, as this annotator sees it: what annotator/reports.py is asked about."""
        return Moment(self._store.snapshot(), self._learner, self.annotator)

    @property
    def class_names(self) -> list[str]:
        """The classes to choose from, in order of creation."""
        return reports.class_names(self.moment())

    @property
    def remaining(self) -> list[Card]:
        """The cards that wait for an answer, reopened ones first."""
        return reports.remaining(self.moment())

    @property
    def labels(self) -> dict[str, str]:
        """image id -> class name, as this annotator's standing labels have it."""
        return reports.labels(self.moment())

    # ---- choosing

    def _enough(self, snapshot: Snapshot) -> int | None:
        """The seq to learn through before the next batch is chosen; None where it is not yet time, or done."""
        return due.learn_through(snapshot, self.annotator.annotator_id)

    def _offer(self, is_due: Callable[[Snapshot], bool]) -> None:
        """Choose the next batch and claim it; where others were asked meanwhile, choose again.

        A strategy may take long, so it runs outside the store's lock, and answers are stored meanwhile; the last try
        runs inside, where nobody can be faster.
        """
        me = self.annotator.annotator_id
        if self._store.read(questions.others_expired, me):
            self._store.write(questions.withdraw_expired, me)
        for _ in range(N_FREE_TRIES):
            version = self._store.read(questions.asked_version)
            snapshot = self._store.snapshot()
            if not is_due(snapshot):
                return
            batch = self._choose(snapshot)
            if not batch or self._store.write(questions.claim, me, batch, version):
                return
        self._store.write(self._choose_inside, is_due)

    def _choose_inside(self, connection: Connection, project_id: str, is_due: Callable[[Snapshot], bool]) -> None:
        """Choose and claim in one transaction; what is read on other connections cannot change while it lasts."""
        version = questions.asked_version(connection, project_id)
        snapshot = self._store.snapshot()
        if is_due(snapshot) and (batch := self._choose(snapshot)):
            questions.claim(connection, project_id, self.annotator.annotator_id, batch, version)

    def _choose(self, snapshot: Snapshot) -> list[Question]:
        started = time.perf_counter()
        batch = choose(self._situation(snapshot))
        self.query_seconds = time.perf_counter() - started
        return batch

    def _situation(self, snapshot: Snapshot) -> Situation:
        """All that the next batch depends on."""
        learner, newest, me = self._learner, self._learner.newest, self.annotator.annotator_id
        return Situation(
            settings=self._settings,
            annotator_number=self.annotator.number,
            round=snapshots.last_round(snapshot) + 1,
            dataset=learner.dataset,
            audit_rows=learner.audit_rows,
            asked=due.asked(snapshot, learner),
            labels=newest.labels,
            prediction=newest.prediction,
            model_version=newest.version,
            trained_through=newest.trained_through,
            newest=due.newest_labeled(snapshot, learner, me, newest.trained_through),
            own=due.own_labels(snapshot, learner, me, newest) if self._settings.ask_again_share else None,
        )

    def _renew(self) -> None:
        """Hold the open batches for longer where half of the time is over."""
        if self._store.read(questions.to_renew, self.annotator.annotator_id):
            self._store.write(questions.renew, self.annotator.annotator_id)

    def _say(self, image_id: str, given: Answer, class_name: str | None = None) -> None:
        """Answer an image by its id, with a class by its name: one write and no read."""
        self._store.append(answers.say, self.annotator.annotator_id, image_id, given, class_name)

    def _open(self) -> list[Question]:
        return snapshots.open_of(self._store.snapshot(), self.annotator.annotator_id)


def _answer(outcome: str, event_id: str | None, deciding: Deciding | None) -> Answer:
    how = Deciding(None, None) if deciding is None else deciding
    return Answer("answer", event_id or "", outcome=outcome, milliseconds=how.milliseconds, guess_shown=how.guess_shown)
