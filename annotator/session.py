"""One annotator's loop: ask, answer, learn, ask again.

Owns nothing that the store does not hold: open it again and the same unanswered images are asked. A batch is a function
of (seed, round, annotator's number, config version, dataset version, seq trained through) and is stored before anyone
sees it (see asking.py): it is chosen outside the store's lock, and claimed only where nothing was asked meanwhile.
Speaks image ids and class names; rows and codes stay inside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection

from annotator.asking import COLD_START, Settings, Situation, choose
from annotator.eligible import Asked, asked_rows, eligible
from annotator.errors import ConfigError, StoreError
from annotator.evaluation import Measured, describe
from annotator.learner import Learner
from annotator.pages import Page, read_pages
from annotator.paths import name_of
from annotator.purposes import AUDIT, SEED, TRAIN
from annotator.store import (
    OUTCOMES,
    Annotator,
    Answer,
    Deciding,
    Event,
    LabelClass,
    Question,
    Store,
    answers,
    classes,
    questions,
)
from annotator.types import UNLABELED

__all__ = ["COLD_START", "Agreement", "Answered", "Card", "Session", "Settings", "enough_to_look_ahead"]
N_FREE_TRIES = 3
"""How often a batch is chosen outside the store's lock before it is chosen inside."""


@dataclass(frozen=True)
class Card:
    """An asked image as a view shows it."""

    image_id: str
    row: int
    round: int
    purpose: str
    strategy: str
    score: float | None
    guess: str | None
    """The model's class; None before there is a model, and where the guess is hidden."""
    probability: float | None
    entropy: float | None
    model_version: int | None
    labels_ago: int
    """How many labels came after the model that picked this image."""
    event_id: str


@dataclass(frozen=True)
class Answered:
    """An image that was asked in some round, what the model had guessed and what stands now."""

    image_id: str
    row: int
    round: int
    purpose: str
    guess: str | None
    answer: str | None
    outcome: str | None
    truth: str | None
    event: Event | None


@dataclass(frozen=True)
class Agreement:
    """How often answers were what the model had guessed, where people saw the guess and where they did not."""

    n_shown: int
    n_shown_agreed: int
    n_hidden: int
    n_hidden_agreed: int

    @property
    def gap(self) -> float | None:
        """Share agreed where shown, minus where hidden: how much a guess on the screen sways people."""
        if not self.n_shown or not self.n_hidden:
            return None
        return self.n_shown_agreed / self.n_shown - self.n_hidden_agreed / self.n_hidden


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
            self._renew()
            return
        self._learner.learn(wait)
        self._offer(lambda: not self._open())

    def look_ahead(self, wait: bool = True) -> None:
        """Choose the batch after the open one when half of that is left, so that nobody waits for it.

        The rule knows no clock: the model learns from the events up to the answer that left half, however late this
        is called. Nothing to do before that, or where the next batch is there already.
        """
        through = self._enough()
        if through is None:
            return
        self._learner.learn(wait, through)
        self._offer(lambda: self._enough() is not None)
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
        self._say(image_id, "label", self._class_id(class_name), event_id, deciding)

    def skip(
        self, image_id: str, outcome: str = "skip", event_id: str | None = None, deciding: Deciding | None = None
    ) -> None:
        """Answer without a class: "skip", "unsure" or "none-of-these"."""
        if outcome not in OUTCOMES or outcome == "label":
            raise ConfigError(f"No answer {outcome!r}. Choose from: {', '.join(OUTCOMES[1:])}.")
        self._say(image_id, outcome, None, event_id, deciding)

    def change(
        self, seen_id: str, class_name: str | None, outcome: str = "label", deciding: Deciding | None = None
    ) -> None:
        """Replace the stored answer that a person was looking at; refused where another tab changed it meanwhile."""
        class_id = None if class_name is None else self._class_id(class_name)
        self.give(_answer("change", outcome, class_id, deciding, seen_id=seen_id))

    def undo(self, seen_id: str | None = None) -> None:
        """Take back an answer, and what it replaced holds again or the image is asked again.

        Without `seen_id` it is the newest that stands, across rounds too; with it, the newest of the image whose last
        event that is.
        """
        if seen_id is None:
            self._store.append(answers.undo, self.annotator.annotator_id)
        else:
            self.give(Answer("undo", seen_id=seen_id))

    def flag(self, question_id: str, event_id: str, comment: str) -> None:
        """Attach a comment to an image that was asked; an empty one takes it back."""
        self.give(Answer("flag", event_id, question_id, comment=comment))

    def withdraw(self) -> None:
        """Take back what was offered and nobody has begun to answer."""
        self._store.write(questions.withdraw, self.annotator.annotator_id)

    def withdraw_ahead(self) -> None:
        """Take back the batch that was chosen ahead of the one on the screen, if nobody has begun it."""
        self._store.write(questions.withdraw, self.annotator.annotator_id, self.round)

    def add_class(self, name: str) -> None:
        """A new class from now on; the model knows it from its first label."""
        self._store.append(classes.add, [name], self.annotator.annotator_id)

    def shown(self, rounds: Sequence[int] | None = None) -> None:
        """Note that the open cards, or those of these rounds, are on a screen; they are held for longer then."""
        open_now = self._open()
        seen = [asked.question_id for asked in open_now if rounds is None or asked.round in rounds]
        if self._store.read(questions.to_mark, seen):
            self._store.write(questions.mark_shown, seen)
        self._renew()

    # ---- properties

    @property
    def class_names(self) -> list[str]:
        """The classes to choose from, in order of creation."""
        return [label_class.name for label_class in self.classes if not label_class.retired]

    @property
    def classes(self) -> list[LabelClass]:
        """Every class, retired ones too, in order of creation."""
        return self._store.classes()

    @property
    def pages(self) -> list[Page]:
        """The open batches with all of their cards, and the batch before them: what can be answered and taken back."""
        return read_pages(self._store, self._learner, self.annotator.annotator_id)

    def image_of(self, question_id: str) -> str:
        """The image that this question asks about. Raises StoreError (STORE_NOT_ASKED) where there is none."""
        question = self._store.question(question_id)
        if question is None:
            raise StoreError("That question was never asked; reload the page.", "STORE_NOT_ASKED")
        return question.image_id

    @property
    def n_labels(self) -> int:
        """How many labels stand, of all annotators and of the import."""
        return sum(event.outcome == "label" for event in self._store.current())

    @property
    def pace(self) -> float | None:
        """Median seconds that the newest answers took, as the browser measured them; None where it did not yet."""
        mine = [event for event in self._store.current() if event.annotator_id == self.annotator.annotator_id]
        took = [event.client_ms for event in mine[-50:] if event.client_ms is not None]
        return float(np.median(took)) / 1000 if took else None

    @property
    def is_due(self) -> bool:
        """Whether `look_ahead` has something to do."""
        if self._enough() is None:
            return False
        has_all_learned = self._learner.trained_through == self._store.head_seq
        return bool(self.n_left) or not (self._open() or has_all_learned or not self.n_labels)

    @property
    def remaining(self) -> list[Card]:
        """The cards that wait for an answer, reopened ones first."""
        names, label_seqs = self._names(), self._label_seqs()
        return [self._card(question, names, label_seqs) for question in self._open()]

    @property
    def labels(self) -> dict[str, str]:
        """image id -> class name, as this annotator's standing labels have it."""
        names = self._names()
        mine = (event for event in self._store.current() if event.annotator_id == self.annotator.annotator_id)
        return {
            str(event.image_id): names[event.class_id]
            for event in mine
            if event.outcome == "label" and event.class_id is not None
        }

    @property
    def class_counts(self) -> dict[str, int]:
        """class name -> standing labels of all annotators and of the import together."""
        names = self._names()
        given = Counter(event.class_id for event in self._store.current() if event.outcome == "label")
        return {name: given[class_id] for class_id, name in names.items()}

    @property
    def suggestions(self) -> dict[str, tuple[str, float]]:
        """image id -> (class name, probability) by the newest model, for every image without a label."""
        names, labels = self._names(), self._learner.labels
        probabilities = self._learner.prediction.probabilities
        return {
            self._learner.dataset.ids[int(row)]: (
                names[int(probabilities[row].argmax())],
                float(probabilities[row].max()),
            )
            for row in np.flatnonzero(labels == UNLABELED)
        }

    @property
    def round(self) -> int:
        """The round whose cards are open, not counting single ones reopened; the last one asked where none are."""
        open_now = self._open()
        fresh = [question.round for question in open_now if not question.n_events]
        return min(fresh, default=max((question.round for question in open_now), default=self._store.last_round()))

    @property
    def n_answered(self) -> int:
        """How many answers of this annotator stand, skips included."""
        return sum(event.annotator_id == self.annotator.annotator_id for event in self._store.current())

    @property
    def n_left(self) -> int:
        """How many images could still be asked about."""
        learner, asked = self._learner, self._asked()
        return sum(len(eligible(learner.dataset, learner.audit_rows, asked, purpose)) for purpose in (TRAIN, AUDIT))

    @property
    def history(self) -> tuple[Measured, ...]:
        """The learning curve."""
        return self._learner.history

    @property
    def news(self) -> str:
        """What the newest model changed, in one sentence."""
        return describe(self._learner.history)

    @property
    def rounds(self) -> list[list[Answered]]:
        """Every round asked so far, images in the order they were asked."""
        standing = {event.image_id: event for event in self._store.current()}
        asked = [question for question in self._store.questions() if question.purpose != "seed"]
        rounds: dict[int, list[Answered]] = {}
        for answered in self._answered([(question, standing.get(question.image_id)) for question in asked]):
            rounds.setdefault(answered.round, []).append(answered)
        return list(rounds.values())

    @property
    def agreement(self) -> Agreement:
        """This annotator's labels against the guesses they were, or were not, shown; audit images are not counted."""
        answered = {
            event.question_id: event.class_id
            for event in self._store.current()
            if event.annotator_id == self.annotator.annotator_id and event.outcome == "label"
        }
        asked = [question for question in self._store.questions() if question.question_id in answered]
        guessed = [question for question in asked if question.guess is not None and question.purpose == "train"]
        agreed = [(question.guess_visible, answered[question.question_id] == question.guess) for question in guessed]
        shown = [same for visible, same in agreed if visible]
        hidden = [same for visible, same in agreed if not visible]
        return Agreement(len(shown), sum(shown), len(hidden), sum(hidden))

    @property
    def recent(self) -> list[Answered]:
        """This annotator's standing answers, newest first."""
        mine = [event for event in self._store.current() if event.annotator_id == self.annotator.annotator_id]
        asked = {question.question_id: question for question in self._store.questions()}
        newest_first = sorted((event for event in mine if event.question_id in asked), key=lambda event: -event.seq)
        return self._answered([(asked[str(event.question_id)], event) for event in newest_first])

    @property
    def seconds_per_label(self) -> float | None:
        """Median over rounds of the time from shown to answered, per image; None before the first round was done."""
        mine = self.annotator.annotator_id
        answered = {event.question_id: event.created_at for event in self._store.current()}
        spans: dict[int, list[tuple[str, str]]] = {}
        for asked in self._store.questions():
            if asked.shown_at and asked.annotator_id == mine and asked.question_id in answered:
                spans.setdefault(asked.round, []).append((asked.shown_at, answered[asked.question_id]))
        return float(np.median([_seconds_each(span) for span in spans.values()])) if spans else None

    # ---- choosing

    def _enough(self) -> int | None:
        """The seq to learn through before the next batch is chosen; None where it is not yet time, or done."""
        mine = self._store.rounds_of(self.annotator.annotator_id)
        if not mine:
            return self._store.head_seq
        newest, _ = mine[-1]
        size = len(self._store.questions_of(self.annotator.annotator_id, [newest]))
        answered = self._store.first_answers(self.annotator.annotator_id, newest)
        enough = enough_to_look_ahead(size)
        return answered[enough - 1] if len(answered) >= enough else None

    def _offer(self, is_due: Callable[[], bool]) -> None:
        """Choose the next batch and claim it; where others were asked meanwhile, choose again.

        A strategy may take long, so it runs outside the store's lock, and answers are stored meanwhile; the last try
        runs inside, where nobody can be faster.
        """
        me = self.annotator.annotator_id
        if self._store.read(questions.others_expired, me):
            self._store.write(questions.withdraw_expired, me)
        for _ in range(N_FREE_TRIES):
            version = self._store.read(questions.asked_version)
            if not is_due():
                return
            batch = self._choose()
            if not batch or self._store.write(questions.claim, me, batch, version):
                return
        self._store.write(self._choose_inside, is_due)

    def _choose_inside(self, connection: Connection, project_id: str, is_due: Callable[[], bool]) -> None:
        """Choose and claim in one transaction; what is read on other connections cannot change while it lasts."""
        version = questions.asked_version(connection, project_id)
        if is_due() and (batch := self._choose()):
            questions.claim(connection, project_id, self.annotator.annotator_id, batch, version)

    def _choose(self) -> list[Question]:
        started = time.perf_counter()
        batch = choose(self._situation())
        self.query_seconds = time.perf_counter() - started
        return batch

    def _situation(self) -> Situation:
        """All that the next batch depends on, at this moment."""
        learner = self._learner
        return Situation(
            settings=self.settings,
            annotator_number=self.annotator.number,
            round=self._store.last_round() + 1,
            dataset=learner.dataset,
            audit_rows=learner.audit_rows,
            asked=self._asked(),
            labels=learner.labels if learner.is_ready else None,
            prediction=learner.prediction if learner.is_ready else None,
            model_version=learner.version,
            trained_through=learner.trained_through,
        )

    def _asked(self) -> Asked:
        """What was asked of anybody."""
        asked = self._store.asked()
        rows = [self._learner.row(image_id) for image_id, _ in asked]
        return asked_rows(rows, sum(purpose != SEED.name for _, purpose in asked))

    def _renew(self) -> None:
        """Hold the open batches for longer where half of the time is over."""
        if self._store.read(questions.to_renew, self.annotator.annotator_id):
            self._store.write(questions.renew, self.annotator.annotator_id)

    # ---- answering

    def _say(
        self, image_id: str, outcome: str, class_id: int | None, event_id: str | None, deciding: Deciding | None
    ) -> None:
        """Answer an image by its id; what stands already is not said again."""
        if event_id is None:
            event_id = next((asked.event_id for asked in self._open() if asked.image_id == image_id), None)
        if event_id is not None:
            question_id = event_id.rpartition(".")[0]
            ids = {"event_id": event_id, "question_id": question_id, "image_id": image_id}
            self.give(_answer("answer", outcome, class_id, deciding, **ids))
            return
        standing = self._standing(image_id)
        if standing is None:
            message = f"{name_of(image_id)} is not asked of you at the moment; reload the page."
            raise StoreError(message, "STORE_NOT_ASKED")
        if (standing.outcome, standing.class_id) != (outcome, class_id):
            self.give(_answer("change", outcome, class_id, deciding, seen_id=standing.event_id))

    def _standing(self, image_id: str) -> Event | None:
        mine = self.annotator.annotator_id
        return next(
            (event for event in self._store.current() if event.image_id == image_id and event.annotator_id == mine),
            None,
        )

    def _class_id(self, class_name: str) -> int:
        for label_class in self._store.classes():
            if label_class.name == class_name and not label_class.retired:
                return label_class.class_id
        raise ConfigError(f"No class {class_name!r}. Choose from: {', '.join(self.class_names)}; or add it first.")

    # ---- translating

    def _open(self) -> list[Question]:
        return self._store.open_questions(self.annotator.annotator_id)

    def _names(self) -> dict[int, str]:
        return {label_class.class_id: label_class.name for label_class in self._store.classes()}

    def _label_seqs(self) -> list[int]:
        return [event.seq for event in self._store.current() if event.outcome == "label"]

    def _card(self, question: Question, names: dict[int, str], label_seqs: Sequence[int]) -> Card:
        visible = question.guess_visible and question.guess is not None
        return Card(
            image_id=question.image_id,
            row=self._learner.row(question.image_id),
            round=question.round,
            purpose=question.purpose,
            strategy=question.strategy,
            score=question.score,
            guess=names.get(question.guess) if visible and question.guess is not None else None,
            probability=question.guess_probability if visible else None,
            entropy=question.guess_entropy if visible else None,
            model_version=question.model_version,
            labels_ago=sum(seq > question.chosen_at_seq for seq in label_seqs),
            event_id=question.event_id,
        )

    def _answered(self, pairs: Sequence[tuple[Question, Event | None]]) -> list[Answered]:
        """Questions with the events that answer them, in the words of a view."""
        names: dict[int | None, str] = dict(self._names().items())
        truth = self._learner.truth
        rows = [self._learner.row(question.image_id) for question, _ in pairs]
        return [
            Answered(
                image_id=question.image_id,
                row=row,
                round=question.round,
                purpose=question.purpose,
                guess=names.get(question.guess),
                answer=names.get(event.class_id) if event is not None else None,
                outcome=event.outcome if event is not None else None,
                truth=None if truth is None else names.get(int(truth[row])),
                event=event,
            )
            for (question, event), row in zip(pairs, rows, strict=True)
        ]


def enough_to_look_ahead(batch_size: int) -> int:
    """After how many answers the next batch is chosen: when half of the cards, at least three, are left.

    Later, and people who label fast would wait; sooner, and the model would know less than it could.
    """
    return max(1, batch_size - max(3, batch_size // 2))


def _answer(kind: str, outcome: str, class_id: int | None, deciding: Deciding | None, **ids: str) -> Answer:
    how = Deciding(None, None) if deciding is None else deciding
    return Answer(
        kind,
        outcome=outcome,
        class_id=class_id,
        milliseconds=how.milliseconds,
        guess_shown=how.guess_shown,
        **ids,
    )


def _seconds_each(span: Sequence[tuple[str, str]]) -> float:
    """Seconds an image took, from the (shown, answered) times of one round."""
    first, last = min(shown for shown, _ in span), max(answered for _, answered in span)
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / len(span)
