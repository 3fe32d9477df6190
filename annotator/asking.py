"""A situation -> the next batch of questions. Pure: the same situation gives the same questions, bit for bit.

A batch is a function of (seed, round, annotator's number, config version, dataset version, seq trained through) and of
what was asked before. Knows no database: whoever chooses also claims (see session.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from annotator import __version__, registry, second_looks
from annotator.config import ALIKE, AS_CHOSEN
from annotator.eligible import Asked, audit_due, eligible
from annotator.groups import first_distinct, short_path
from annotator.metrics import certainty
from annotator.purposes import AUDIT, REVIEW, TRAIN, Purpose
from annotator.reasons import to_json
from annotator.store import Question
from annotator.strategies import confirm
from annotator.strategies.confirm import nearest_to_newest
from annotator.types import UNLABELED, Choice, Dataset, IntArray, Pool, Prediction, QueryStrategy

COLD_START = "typical"
"""Chooses while the model knows fewer than two classes (all images look alike to it) or is not fitted again yet."""
TIMES = (1, 1, 2, 4, 8, 16, 32)
"""Of the images missing in a batch without its near-duplicates: as many are asked for, try by try.

Doubled, so that 64 copies of every picture leave a full batch of different ones; not measured.
"""
TIMES_OF_FAMILIES = (1, 1, 1)
"""The same for the strategies of other packages: what one answer of theirs takes grows with its size times the pool's,
so none is larger than the first.
"""
MOST_ASKED_FOR = 2_000
"""In one try, and so many images at most are compared with each other: about half a second for 64 px; a bound."""
UNIFORM = "uniform"
BESIDE = (UNIFORM, confirm.NAME, second_looks.NAME)
"""Strategies of images that stand in a batch beside those it was chosen for."""
Placed = tuple[int, Question]
"""A question with the row of its image."""


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
    """Share of the questions whose guess is not shown, drawn at random; with 1 nothing is asked to be confirmed."""
    ask_again_share: float = 0.0
    """Of a batch, at most, for labels that what surrounds them contradicts."""
    batch_order: str = AS_CHOSEN
    """As in config.BATCH_ORDERS."""
    confirm_share: float = 0.0
    """Share of a batch that is filled with the nearest neighbours of what was just labeled."""


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
    """The next batch: what the strategy picks, what is to be confirmed or asked again, and the audit slice's share.

    As chosen: the strategy's images, best first, then those to confirm; second looks and those of the audit at random
    places among them.
    """
    rng, settings = _rng(situation), situation.settings
    audit = _audit_rows(situation)
    again = _again(situation, settings.batch_size - len(audit))
    n_free = settings.batch_size - len(audit) - len(again.rows)
    n_confirmed = round(settings.confirm_share * n_free) if settings.hidden_share < 1 else 0  # no guess, no nod
    confirmed = _confirmed(situation, n_confirmed, audit)
    beside = [*audit.tolist(), *(row for row, _ in confirmed)]
    places = _drawn(situation, n_free - len(confirmed), beside, rng) + confirmed
    others = [(row, _question(situation, row, AUDIT, UNIFORM)) for row in audit.tolist()]
    if places or others:  # with nothing else to ask it is the end: labels are not asked about for ever
        others += zip(again.rows.tolist(), _questions(situation, again, second_looks.NAME, REVIEW), strict=True)
    for one in others:
        places.insert(int(rng.integers(len(places) + 1)), one)
    hidden = _with_hidden_guesses([question for _, question in places], settings.hidden_share, rng)
    placed = [(row, question) for (row, _), question in zip(places, hidden, strict=True)]
    if settings.batch_order == ALIKE:
        placed = _alike_together(situation.dataset, placed, rng)
    return [replace(question, rank=rank) for rank, (_, question) in enumerate(placed, start=1)]


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
    """Those of this batch: the next of the slice in its order; a near-duplicate of one of them waits for the next."""
    rows, asked, settings = situation.audit_rows, situation.asked, situation.settings
    n_due = audit_due(rows, asked, settings.audit_share, settings.batch_size)
    waiting = eligible(situation.dataset, rows, asked, AUDIT)
    found, passed = first_distinct(situation.dataset.images, waiting[:MOST_ASKED_FOR], waiting[:0], n_due)
    return waiting[_filled(found, passed, n_due)]


def _again(situation: Situation, size: int) -> Choice:
    """Which labels to ask about again, in a batch with room for `size` images: never as many as that."""
    labels, prediction, share = situation.labels, situation.prediction, situation.settings.ask_again_share
    most = min(round(share * situation.settings.batch_size), size - 1)
    if most < 1 or labels is None or prediction is None or situation.own is None:
        return Choice(np.empty(0, dtype=np.int64), np.empty(0))
    once = eligible(situation.dataset, situation.audit_rows, situation.asked, REVIEW)
    return second_looks.second_looks(prediction, labels, np.intersect1d(situation.own, once), most)


def _filled(found: IntArray, passed: IntArray, n_wanted: int) -> IntArray:
    """What was found, and where that is not enough what was passed over."""
    return np.concatenate([found, passed[: n_wanted - len(found)]])


def _knows_classes(situation: Situation) -> bool:
    """Whether the model knows two classes: before that all images look alike to it."""
    labels = situation.labels
    return labels is not None and len(np.unique(labels[labels != UNLABELED])) >= 2


def _confirmed(situation: Situation, n_wanted: int, audit: IntArray) -> list[Placed]:
    """Images whose guess is likely to be right, as many as there are and are wanted."""
    if n_wanted < 1 or not _knows_classes(situation):
        return []
    candidates = _candidates(situation)
    choice = nearest_to_newest(_pool(situation, candidates), 2 * n_wanted)
    found, _ = first_distinct(situation.dataset.images, choice.rows, audit, n_wanted)
    questions = _questions(situation, choice, confirm.NAME)
    return [(int(choice.rows[place]), questions[place]) for place in found.tolist()]


def _candidates(situation: Situation) -> IntArray:
    return eligible(situation.dataset, situation.audit_rows, situation.asked, TRAIN)


def _drawn(situation: Situation, n_wanted: int, beside: Sequence[int], rng: np.random.Generator) -> list[Placed]:
    """What the strategy picks, without near-duplicates of each other and of `beside`.

    Where it picks some, it is asked again for as many as are missing, then for TIMES as many; what was picked or passed
    over counts as asked then. Near-duplicates fill the batch only where nothing else is left, or was found in the end.
    A strategy's propensities are those of its draw: they are kept only where nothing was passed over.
    """
    strategy = situation.settings.strategy if _knows_classes(situation) else COLD_START
    images = situation.dataset.images
    known = np.array(beside, dtype=np.int64)
    left = _without(_candidates(situation), known)
    found: list[Placed] = []
    passed: list[Placed] = []
    for times in TIMES_OF_FAMILIES if ":" in strategy else TIMES:
        n_missing = n_wanted - len(found)
        if n_missing < 1 or not len(left):
            break
        choice = _query(situation, strategy, _pool(situation, left, known), min(times * n_missing, MOST_ASKED_FOR), rng)
        placed = list(zip(choice.rows.tolist(), _questions(situation, choice, strategy), strict=True))
        so_far = np.array([*beside, *(row for row, _ in found)], dtype=np.int64)
        distinct, near = first_distinct(images, choice.rows, so_far, n_missing)
        found += [placed[place] for place in distinct.tolist()]
        passed += [placed[place] for place in near.tolist()]
        known = np.concatenate([known, choice.rows])
        if len(found) < n_wanted:
            left = _without(left, choice.rows)
    drawn = found + passed[: n_wanted - len(found)]
    return [(row, replace(one, propensity=None)) for row, one in drawn] if passed else drawn


def _without(candidates: IntArray, rows: IntArray) -> IntArray:
    """Ascending candidates minus some rows, without sorting a million of them."""
    places = np.searchsorted(candidates, rows)
    is_there = places < len(candidates)
    is_there[is_there] = candidates[places[is_there]] == rows[is_there]
    return np.delete(candidates, places[is_there]) if is_there.any() else candidates


def _query(situation: Situation, strategy: str, pool: Pool, size: int, rng: np.random.Generator) -> Choice:
    settings = situation.settings
    parameters = settings.strategy_parameters if strategy == settings.strategy else {}
    plugin: QueryStrategy = registry.create("strategy", strategy, parameters)
    return plugin.query(pool, size, rng)


def _pool(situation: Situation, candidates: IntArray, beside: IntArray | None = None) -> Pool:
    """What is known, with `beside` counted as asked; without a model every image looks alike."""
    dataset, labels, prediction = situation.dataset, situation.labels, situation.prediction
    asked = np.setdiff1d(situation.asked.rows, situation.audit_rows)
    if beside is not None and len(beside):
        asked = np.union1d(asked, np.setdiff1d(beside, situation.audit_rows))
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
    """So that agreement can be compared between images whose guess was seen and those whose was not.

    Images to confirm are never hidden: without a guess there is nothing to confirm, and their place would tell it.
    """
    if not share:
        return questions
    hidden = rng.random(len(questions)) < share
    return [
        replace(question, guess_visible=question.guess_visible and (question.strategy == confirm.NAME or not hides))
        for question, hides in zip(questions, hidden, strict=True)
    ]


def _alike_together(dataset: Dataset, placed: list[Placed], rng: np.random.Generator) -> list[Placed]:
    """By visible guess, and within a guess by a short path through the features.

    Audit images, and those whose guess is hidden, come first, in random order: their place says nothing of their guess,
    and nobody comes to them with the key of a row of images in the hand.
    """
    is_blind = [asked.purpose == AUDIT.name or asked.hides_guess for _, asked in placed]
    blind = [one for one, hides in zip(placed, is_blind, strict=True) if hides]
    ordered = [blind[place] for place in rng.permutation(len(blind))]
    shown = [one for one, hides in zip(placed, is_blind, strict=True) if not hides]
    for guess in sorted({-1 if asked.guess is None else asked.guess for _, asked in shown}):
        same = [(row, asked) for row, asked in shown if guess == (-1 if asked.guess is None else asked.guess)]
        path = short_path(dataset.features[[row for row, _ in same]])
        ordered += [same[place] for place in path.tolist()]
    return ordered
