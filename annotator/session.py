"""One annotator's loop: ask, answer, learn, ask again.

Owns nothing that the store does not hold: open it again and the same unanswered images are asked. A batch is a function
of (seed, round, annotator's number, config version, dataset version, seq trained through) and is stored before anyone
sees it. Speaks image ids and class names; rows and codes stay inside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from annotator import __version__, registry
from annotator.errors import ConfigError, StoreError
from annotator.evaluation import Measured, describe
from annotator.learner import Learner
from annotator.pages import Page, read_pages
from annotator.paths import name_of
from annotator.store import OUTCOMES, Annotator, Deciding, Event, LabelClass, Question, Store
from annotator.types import UNLABELED, Choice, IntArray, Pool, Prediction, QueryStrategy

COLD_START = "typical"
"""Chooses while the model knows fewer than two classes (all images look alike to it) or is not fitted again yet."""


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
        self._store.withdraw(self.annotator.annotator_id, self.round)

    def add_class(self, name: str) -> None:
        """A new class from now on; the model knows it from its first label."""
        self._store.add_classes([name], self.annotator.annotator_id)

    def shown(self, rounds: Sequence[int] | None = None) -> None:
        """Note that the open cards, or those of these rounds, are on a screen."""
        open_now = self._open()
        seen = [question for question in open_now if rounds is None or question.round in rounds]
        self._store.mark_shown([question.question_id for question in seen])

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
        asked, _ = self._asked()
        return len(self._candidates(asked)) + len(self._audit_left(asked))

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

    def _offer(self) -> None:
        started = time.perf_counter()
        batch = self._choose()
        self.query_seconds = time.perf_counter() - started
        if batch:
            self._store.offer(batch, self.annotator.annotator_id)

    def _choose(self) -> list[Question]:
        """The next batch: the strategy's images, and the audit slice's share at random places among them."""
        asked, n_drawn = self._asked()
        audit = self._audit_left(asked)[: self._audit_due(n_drawn, asked)]
        candidates = self._candidates(asked)
        strategy = self._strategy_name()
        round_number = self._store.last_round() + 1
        rng = self._rng(round_number)
        pool = self._pool(candidates, np.setdiff1d(list(asked), self._learner.audit_rows).astype(np.int64))
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

    def _candidates(self, asked: set[int]) -> IntArray:
        """Rows nobody was asked about, one of each group of identical images, the audit slice left out."""
        dataset = self._learner.dataset
        free = dataset.is_first.copy()
        free[dataset.group[list(asked)]] = False
        free[self._learner.audit_rows] = False
        return np.flatnonzero(free)

    def _audit_left(self, asked: set[int]) -> list[int]:
        return [int(row) for row in self._learner.audit_rows if row not in asked]

    def _audit_due(self, n_drawn: int, asked: set[int]) -> int:
        """How many audit images this batch takes, so that the share holds over all batches."""
        n_audit = sum(int(row) in asked for row in self._learner.audit_rows)
        due = round(self.settings.audit_share * (n_drawn + self.settings.batch_size)) - n_audit
        return int(np.clip(due, 0, self.settings.batch_size))

    def _asked(self) -> tuple[set[int], int]:
        """Rows that were asked about, and how many of them in a batch (seeds were not)."""
        asked = self._store.asked()
        n_drawn = sum(purpose != "seed" for _, purpose in asked)
        return {self._learner.row(image_id) for image_id, _ in asked}, n_drawn

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


def _seconds_each(span: Sequence[tuple[str, str]]) -> float:
    """Seconds an image took, from the (shown, answered) times of one round."""
    first, last = min(shown for shown, _ in span), max(answered for _, answered in span)
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / len(span)
