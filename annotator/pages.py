"""A batch as a labeling surface shows it: every card with its guess and its reason, what stands now, possible answers.

Reads the store and the learner; changes nothing. Speaks image ids, class ids and event ids.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from annotator import registry
from annotator.errors import ConfigError
from annotator.learner import Learner
from annotator.store import Event, Question, Store
from annotator.types import GivesReasons

N_TOP = 5
"""How many of the most probable classes go with a card."""


@dataclass(frozen=True)
class PageCard:
    """One asked image, answered or not."""

    image_id: str
    row: int
    question_id: str
    n_events: int
    """How many events its chain has: the next answer's id counts from here."""
    head: Event | None
    """The newest event of its chain; an undo included."""
    purpose: str
    guess: int | None
    """Class id; None before there is a model, and where the guess is hidden."""
    probability: float | None
    entropy: float | None
    top: tuple[int, ...]
    """Class ids, the most probable first; empty where the guess is hidden."""
    flag: str | None
    reason: str
    """Why it was picked, as its strategy says it of its score; empty where that says nothing."""


@dataclass(frozen=True)
class Page:
    """One batch of one annotator."""

    round: int
    strategy: str
    model_version: int | None
    labels_at: int
    """How many labels stood when it was chosen."""
    cards: tuple[PageCard, ...]


def read_pages(store: Store, learner: Learner, annotator_id: str) -> list[Page]:
    """The open batches of this annotator and the one before them, by round."""
    rounds = store.rounds_of(annotator_id)
    first = next((place for place, (_, n_open) in enumerate(rounds) if n_open), len(rounds))
    wanted = [number for place, (number, n_open) in enumerate(rounds) if n_open or place == first - 1]
    questions = store.questions_of(annotator_id, wanted)
    heads = store.heads(annotator_id, [question.image_id for question in questions])
    flags, label_seqs = store.flags(), [event.seq for event in store.current() if event.outcome == "label"]
    pages = []
    for number in wanted:
        asked = [question for question in questions if question.round == number]
        cards = [
            _card(question, learner, heads.get(question.image_id), flags.get((question.image_id, annotator_id)))
            for question in asked
        ]
        pages.append(_page(asked, cards, label_seqs))
    return pages


def _page(asked: list[Question], cards: list[PageCard], label_seqs: list[int]) -> Page:
    picked = next((question for question in asked if question.purpose != "audit"), asked[0])
    return Page(
        round=picked.round,
        strategy=picked.strategy,
        model_version=picked.model_version,
        labels_at=bisect_right(label_seqs, picked.chosen_at_seq),
        cards=tuple(cards),
    )


def _card(question: Question, learner: Learner, head: Event | None, flag: str | None) -> PageCard:
    visible = question.guess_visible and question.guess is not None
    row = learner.row(question.image_id)
    return PageCard(
        image_id=question.image_id,
        row=row,
        question_id=question.question_id,
        n_events=question.n_events,
        head=head,
        purpose=question.purpose,
        guess=question.guess if visible else None,
        probability=question.guess_probability if visible else None,
        entropy=question.guess_entropy if visible else None,
        top=_top(question, learner, row) if visible else (),
        flag=flag,
        reason=reason_for(question.strategy, question.score),
    )


def reason_for(strategy: str, score: float | None) -> str:
    """Why a strategy picked an image of this stored score, in its own words; empty where it has none."""
    if score is None:
        return ""
    try:
        plugin = registry.load("strategy", strategy)
    except ConfigError:  # a strategy that is no longer installed
        return ""
    return plugin.reason(score) if isinstance(plugin, GivesReasons) else ""


def _top(question: Question, learner: Learner, row: int) -> tuple[int, ...]:
    """The stored guess, then what the newest model finds probable beside it."""
    others: list[int] = []
    if learner.is_ready and learner.version is not None:
        others = learner.prediction.probabilities[row].argsort()[::-1][: N_TOP + 1].tolist()
    found = dict.fromkeys([question.guess, *others])
    return tuple(code for code in found if code is not None)[:N_TOP]
