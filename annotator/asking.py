"""A situation -> the next batch of questions. Pure: the same situation gives the same questions, bit for bit.

A batch is a function of (seed, round, annotator's number, config version, dataset version, seq trained through) and of
what was asked before. Knows no database: whoever chooses also claims (see session.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from annotator import __version__, registry
from annotator.eligible import Asked, audit_due, eligible
from annotator.metrics import certainty
from annotator.purposes import AUDIT, REVIEW, TRAIN, Purpose
from annotator.reasons import to_json
from annotator.second_looks import NAME, second_looks
from annotator.store import Question
from annotator.types import UNLABELED, Choice, Dataset, IntArray, Pool, Prediction, QueryStrategy

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
    ask_again_share: float = 0.0
    """Of a batch, at most, for labels that what surrounds them contradicts."""


@dataclass(frozen=True)
class Situation:
    """All that a batch depends on."""

    settings: Settings
    annotator_number: int
    round: int
    """Of the batch to choose."""
    dataset: Dataset
    audit_rows: IntArray
    asked: Asked
    labels: IntArray | None
    """(n_images,) what the model was trained on; None while it is not fitted again after a restart."""
    prediction: Prediction | None
    """What the model believes; None as above, and it is not waited for."""
    model_version: int | None
    """None before the first label was learned."""
    trained_through: int
    newest: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """As `Pool.newest`."""
    own: IntArray | None = None
    """Rows whose labels this annotator gave and can be asked about again, ascending; None where nothing is."""


def choose(situation: Situation) -> list[Question]:
    """The next batch: the strategy's images, and at random places among them the audit slice's and second looks."""
    rng, settings = _rng(situation), situation.settings
    audit = _audit_rows(situation)
    strategy, again = _strategy(situation), _again(situation, settings.batch_size - len(audit))
    choice = _query(situation, strategy, settings.batch_size - len(audit) - len(again.rows), rng)
    places = _questions(situation, choice, strategy)
    beside = [_question(situation, row, AUDIT, "uniform") for row in audit.tolist()]
    if places or beside:  # with nothing else to ask it is the end: labels are not asked about for ever
        beside += _questions(situation, again, NAME, REVIEW)
    for question in beside:
        places.insert(int(rng.integers(len(places) + 1)), question)
    ranked = [replace(question, rank=rank) for rank, question in enumerate(places, start=1)]
    return _with_hidden_guesses(ranked, settings.hidden_share, rng)


def _rng(situation: Situation) -> np.random.Generator:
    stream = [
        situation.settings.seed,
        situation.round,
        situation.annotator_number,
        situation.settings.version,
        int(situation.dataset.version[:12], 16),
        situation.trained_through,
    ]
    return np.random.default_rng(stream)


def _audit_rows(situation: Situation) -> IntArray:
    """Those of this batch."""
    rows, asked, settings = situation.audit_rows, situation.asked, situation.settings
    n_due = audit_due(rows, asked, settings.audit_share, settings.batch_size)
    return eligible(situation.dataset, rows, asked, AUDIT)[:n_due]


def _again(situation: Situation, size: int) -> Choice:
    """Which labels to ask about again, in a batch with room for `size` images: never as many as that."""
    labels, prediction, share = situation.labels, situation.prediction, situation.settings.ask_again_share
    most = min(round(share * situation.settings.batch_size), size - 1)
    if most < 1 or labels is None or prediction is None or situation.own is None:
        return Choice(np.empty(0, dtype=np.int64), np.empty(0))
    once = eligible(situation.dataset, situation.audit_rows, situation.asked, REVIEW)
    return second_looks(prediction, labels, np.intersect1d(situation.own, once), most)


def _strategy(situation: Situation) -> str:
    """The name of the strategy that chooses."""
    labels = situation.labels
    n_known = 0 if labels is None else len(np.unique(labels[labels != UNLABELED]))
    return situation.settings.strategy if n_known >= 2 else COLD_START


def _query(situation: Situation, strategy: str, size: int, rng: np.random.Generator) -> Choice:
    candidates = eligible(situation.dataset, situation.audit_rows, situation.asked, TRAIN)
    if size < 1 or not len(candidates):
        return Choice(np.empty(0, dtype=np.int64), np.empty(0))
    settings = situation.settings
    parameters = settings.strategy_parameters if strategy == settings.strategy else {}
    plugin: QueryStrategy = registry.create("strategy", strategy, parameters)
    return plugin.query(_pool(situation, candidates), size, rng)


def _pool(situation: Situation, candidates: IntArray) -> Pool:
    """What is known; without a model every image looks alike."""
    dataset, labels, prediction = situation.dataset, situation.labels, situation.prediction
    asked = np.setdiff1d(situation.asked.rows, situation.audit_rows)
    if labels is None or prediction is None:
        labels = np.full(len(dataset), UNLABELED, dtype=np.int64)
        prediction = Prediction(np.ones((len(dataset), 1)))
    return Pool(dataset, labels, prediction, candidates, asked, situation.newest)


def _questions(situation: Situation, choice: Choice, strategy: str, purpose: Purpose = TRAIN) -> list[Question]:
    """One for each row that was chosen, in their order."""
    asked = [_question(situation, row, purpose, choice.strategy or strategy) for row in choice.rows.tolist()]
    asked = [replace(one, score=score) for one, score in zip(asked, choice.scores.tolist(), strict=True)]
    if choice.reasons:
        said = map(to_json, choice.reasons)
        asked = [replace(one, reason=reason) for one, reason in zip(asked, said, strict=True)]
    if choice.propensities is not None:
        drawn = choice.propensities.tolist()
        asked = [replace(one, propensity=propensity) for one, propensity in zip(asked, drawn, strict=True)]
    return asked


def _question(situation: Situation, row: int, purpose: Purpose, strategy: str) -> Question:
    guess, probability, entropy = _guess(situation, row)
    return Question(
        image_id=situation.dataset.ids[row],
        round=situation.round,
        rank=0,
        purpose=purpose.name,
        strategy=strategy,
        strategy_version=__version__,
        guess=guess,
        guess_probability=probability,
        guess_entropy=entropy,
        guess_visible=guess is not None and purpose.shows_guess,
        score=None,
        propensity=None,
        model_version=situation.model_version,
        config_version=situation.settings.version,
        chosen_at_seq=situation.trained_through,
    )


def _guess(situation: Situation, row: int) -> tuple[int | None, float | None, float | None]:
    """Class code, its calibrated probability, entropy in nats."""
    if situation.model_version is None or situation.prediction is None:
        return None, None, None
    probability, entropy = certainty(situation.prediction)[row].tolist()
    return int(situation.prediction.guesses[row]), probability, entropy


def _with_hidden_guesses(questions: list[Question], share: float, rng: np.random.Generator) -> list[Question]:
    """So that agreement can be compared between images whose guess was seen and those whose was not."""
    if not share:
        return questions
    hidden = rng.random(len(questions)) < share
    return [
        replace(question, guess_visible=question.guess_visible and not hides)
        for question, hides in zip(questions, hidden, strict=True)
    ]
