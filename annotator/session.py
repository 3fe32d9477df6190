"""One annotator's loop: ask, answer, learn, ask again.

Owns nothing that the store does not hold: open it again and the same unanswered images are asked. A batch is a function
of (seed, round, annotator's number, config version, dataset version, seq trained through) and is stored before anyone
sees it. Speaks image ids and class names; rows and codes stay inside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from annotator import __version__, eligible, registry, reports
from annotator.eligible import Eligible
from annotator.errors import ConfigError, StoreError
from annotator.learner import Learner
from annotator.paths import name_of
from annotator.reports import COLD_START, Card, Moment
from annotator.store import OUTCOMES, Annotator, Deciding, Event, Question, Store
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, Choice, IntArray, Pool, Prediction, QueryStrategy


@dataclass(frozen=True)
class Settings:
    """What of the project's configuration a session reads; `version` stands with every question."""

    version: int
    seed: int
    strategy: str
    strategy_parameters: dict[str, Any]  # Any: JSON
    batch_size: int
    audit_share: float
    hidden_share: float = 0.0
    """Share of the questions whose guess is not shown, drawn at random."""


class Session:
    """`label`, `skip`, `undo` and `advance` return nothing; the properties change nothing."""

    def __init__(self, store: Store, learner: Learner, annotator: Annotator, settings: Settings) -> None:
        self.annotator = annotator
        self.settings = settings
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
            return
        self._learner.learn(wait)
        self._offer()

    def look_ahead(self, wait: bool = True) -> None:
        """Choose the batch after the open one when half of that is left, so that nobody waits for it.

        The rule knows no clock: the model learns from the events up to the answer that left half, however late this
        is called. Nothing to do before that, or where the next batch is there already.
        """
        through = self._enough()
        if through is None:
            return
        self._learner.learn(wait, through)
        self._offer()
        if not self._open():
            self._learner.learn(wait)  # nothing is left to ask: the last answers count as well

    def label(
        self, image_id: str, class_name: str, event_id: str | None = None, deciding: Deciding | None = None
    ) -> None:
        """Answer with a class; without an `event_id` an image that was answered before is relabeled.

        `event_id` is that of the card the answer was given to: sent twice it is one event, and an answer to a card
        that was answered differently in another tab is refused (StoreError STORE_CONFLICT).
        """
        self._answer(image_id, "label", self._class_id(class_name), event_id, deciding)

    def skip(
        self, image_id: str, outcome: str = "skip", event_id: str | None = None, deciding: Deciding | None = None
    ) -> None:
        """Answer without a class: "skip", "unsure" or "none-of-these"."""
        if outcome not in OUTCOMES or outcome == "label":
            raise ConfigError(f"No answer {outcome!r}. Choose from: {', '.join(OUTCOMES[1:])}.")
        self._answer(image_id, outcome, None, event_id, deciding)

    def change(
        self, seen_id: str, class_name: str | None, outcome: str = "label", deciding: Deciding | None = None
    ) -> None:
        """Replace the stored answer that a person was looking at; refused where another tab changed it meanwhile."""
        seen = self._store.event(seen_id)
        if seen is None or seen.annotator_id != self.annotator.annotator_id or seen.image_id is None:
            raise StoreError("That answer is not yours, or was never stored; reload the page.", "STORE_AUTHZ")
        if seen.outcome is None:
            raise StoreError("That answer was taken back; reload the page, and answer anew.", "STORE_CONFLICT")
        self._store.relabel(seen, outcome, None if class_name is None else self._class_id(class_name), deciding)

    def undo(self, seen_id: str | None = None) -> None:
        """Take back an answer, and what it replaced holds again or the image is asked again.

        Without `seen_id` it is the newest that stands, across rounds too; with it, the newest of the image whose last
        event that is.
        """
        if seen_id is None:
            self._store.undo(self.annotator.annotator_id)
        else:
            self._store.take_back(seen_id, self.annotator.annotator_id)

    def flag(self, question_id: str, event_id: str, comment: str) -> None:
        """Attach a comment to an image that was asked; an empty one takes it back."""
        question = self._store.question(question_id)
        if question is None:
            raise StoreError("That question was never asked; reload the page.", "STORE_NOT_ASKED")
        self._store.flag(question, self.annotator.annotator_id, event_id, comment)

    def withdraw(self) -> None:
        """Take back what was offered and nobody has begun to answer."""
        self._store.withdraw(self.annotator.annotator_id)

    def withdraw_ahead(self) -> None:
        """Take back the batch that was chosen ahead of the one on the screen, if nobody has begun it."""
        self._store.withdraw(self.annotator.annotator_id, reports.current_round(self.moment()))

    def add_class(self, name: str) -> None:
        """A new class from now on; the model knows it from its first label."""
        self._store.add_classes([name], self.annotator.annotator_id)

    def shown(self, rounds: Sequence[int] | None = None) -> None:
        """Note that the open cards, or those of these rounds, are on a screen."""
        open_now = self._open()
        unseen = (question for question in open_now if question.shown_at is None)
        seen = [question for question in unseen if rounds is None or question.round in rounds]
        self._store.mark_shown([question.question_id for question in seen])

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

    def image_of(self, question_id: str) -> str:
        """The image that this question asks about. Raises StoreError (STORE_NOT_ASKED) where there is none."""
        question = self._store.question(question_id)
        if question is None:
            raise StoreError("That question was never asked; reload the page.", "STORE_NOT_ASKED")
        return question.image_id

    def learn_again(self) -> None:
        """Fit in the background once more, after a fit that failed."""
        self._learner.learn(wait=False)

    # ---- choosing

    def _enough(self) -> int | None:
        """The seq to learn through before the next batch is chosen; None where it is not yet time, or done."""
        return eligible.learn_through(self._store.snapshot(), self.annotator.annotator_id)

    def _offer(self) -> None:
        started = time.perf_counter()
        batch = self._choose()
        self.query_seconds = time.perf_counter() - started
        if batch:
            self._store.offer(batch, self.annotator.annotator_id)

    def _choose(self) -> list[Question]:
        """The next batch: the strategy's images, and the audit slice's share at random places among them."""
        snapshot = self._store.snapshot()
        found = eligible.eligible(snapshot, self._learner)
        asked, audit = found.asked, found.audit_left[: self._audit_due(found)]
        strategy = self._strategy_name()
        round_number = snapshots.last_round(snapshot) + 1
        rng = self._rng(round_number)
        pool = self._pool(found.candidates, np.setdiff1d(list(asked), self._learner.audit_rows).astype(np.int64))
        choice = self._query(strategy, pool, self.settings.batch_size - len(audit), rng)
        places = [
            self._question(int(row), round_number, "train", choice.strategy or strategy, float(score))
            for row, score in zip(choice.rows, choice.scores, strict=True)
        ]
        for row in audit:
            question = self._question(row, round_number, "audit", "uniform", None)
            places.insert(int(rng.integers(len(places) + 1)), question)
        ranked = [replace(question, rank=rank) for rank, question in enumerate(places, start=1)]
        return self._with_hidden_guesses(ranked, rng)

    def _with_hidden_guesses(self, questions: list[Question], rng: np.random.Generator) -> list[Question]:
        """So that agreement can be compared between images whose guess was seen and those whose was not."""
        share = self.settings.hidden_share
        if not share:
            return questions
        hidden = rng.random(len(questions)) < share
        return [
            replace(question, guess_visible=question.guess_visible and not hides)
            for question, hides in zip(questions, hidden, strict=True)
        ]

    def _query(self, strategy: str, pool: Pool, size: int, rng: np.random.Generator) -> Choice:
        if size < 1 or not len(pool.candidates):
            return Choice(np.empty(0, dtype=np.int64), np.empty(0))
        parameters = self.settings.strategy_parameters if strategy == self.settings.strategy else {}
        plugin: QueryStrategy = registry.create("strategy", strategy, parameters)
        return plugin.query(pool, size, rng)

    def _pool(self, candidates: IntArray, asked: IntArray) -> Pool:
        """What is known; an unfitted model's belief is not waited for, and only `COLD_START` is asked then."""
        learner = self._learner
        if learner.is_ready:
            return Pool(learner.dataset, learner.labels, learner.prediction, candidates, asked)
        n_images = len(learner.dataset)
        nothing = Prediction(np.ones((n_images, 1)))
        return Pool(learner.dataset, np.full(n_images, UNLABELED, dtype=np.int64), nothing, candidates, asked)

    def _strategy_name(self) -> str:
        if not self._learner.is_ready:
            return COLD_START
        labels = self._learner.labels
        n_known = len(np.unique(labels[labels != UNLABELED]))
        return self.settings.strategy if n_known >= 2 else COLD_START

    def _audit_due(self, found: Eligible) -> int:
        """How many audit images this batch takes, so that the share holds over all batches."""
        n_audit = len(self._learner.audit_rows) - len(found.audit_left)
        due = round(self.settings.audit_share * (found.n_drawn + self.settings.batch_size)) - n_audit
        return int(np.clip(due, 0, self.settings.batch_size))

    def _rng(self, round_number: int) -> np.random.Generator:
        stream = [
            self.settings.seed,
            round_number,
            self.annotator.number,
            self.settings.version,
            int(self._learner.dataset.version[:12], 16),
            self._learner.trained_through,
        ]
        return np.random.default_rng(stream)

    def _question(self, row: int, round_number: int, purpose: str, strategy: str, score: float | None) -> Question:
        guess, probability, entropy = self._guess(row)
        return Question(
            image_id=self._learner.dataset.ids[row],
            round=round_number,
            rank=0,
            purpose=purpose,
            strategy=strategy,
            strategy_version=__version__,
            guess=guess,
            guess_probability=probability,
            guess_entropy=entropy,
            guess_visible=guess is not None and purpose != "audit",
            score=score,
            propensity=None,
            model_version=self._learner.version,
            config_version=self.settings.version,
            chosen_at_seq=self._learner.trained_through,
        )

    def _guess(self, row: int) -> tuple[int | None, float | None, float | None]:
        if self._learner.version is None or not self._learner.is_ready:
            return None, None, None
        probabilities = self._learner.prediction.probabilities[row]
        positive = probabilities[probabilities > 0]
        entropy = max(0.0, float(-(positive * np.log(positive)).sum()))
        return int(probabilities.argmax()), float(probabilities.max()), entropy

    # ---- answering

    def _answer(
        self, image_id: str, outcome: str, class_id: int | None, event_id: str | None, deciding: Deciding | None
    ) -> None:
        known = None if event_id is None else self._store.event(event_id)
        asked = self.annotator.annotator_id, image_id, outcome, class_id
        if known is not None and (known.annotator_id, known.image_id, known.outcome, known.class_id) == asked:
            return
        question = self._asked_of_me(image_id, event_id)
        if question is not None:
            self._store.answer(question, self.annotator.annotator_id, outcome, class_id, deciding)
            return
        standing = self._standing(image_id)
        if standing is None:
            message = f"{name_of(image_id)} is not asked of you at the moment; reload the page."
            raise StoreError(message, "STORE_NOT_ASKED")
        if (standing.outcome, standing.class_id) == (outcome, class_id):
            return
        if event_id is not None:
            raise StoreError(
                f"{name_of(image_id)} was answered in another tab; change it there or reload.", "STORE_CONFLICT"
            )
        self._store.relabel(standing, outcome, class_id)

    def _asked_of_me(self, image_id: str, event_id: str | None) -> Question | None:
        """The question that this answers: open, or offered once and withdrawn while somebody still looked at it."""
        if event_id is None:
            return next((question for question in self._open() if question.image_id == image_id), None)
        question = self._store.question(event_id.rpartition(".")[0])
        if question is None or question.closed_by == "answer":
            return None
        is_it = (question.image_id, question.annotator_id, question.event_id)
        return question if is_it == (image_id, self.annotator.annotator_id, event_id) else None

    def _standing(self, image_id: str) -> Event | None:
        head = self._store.snapshot().heads.get((image_id, self.annotator.annotator_id))
        return head if head is not None and head.outcome is not None else None

    def _class_id(self, class_name: str) -> int:
        for label_class in self._store.classes():
            if label_class.name == class_name and not label_class.retired:
                return label_class.class_id
        raise ConfigError(f"No class {class_name!r}. Choose from: {', '.join(self.class_names)}; or add it first.")

    # ---- translating

    def _open(self) -> list[Question]:
        return self._store.open_questions(self.annotator.annotator_id)
