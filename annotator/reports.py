"""What views, exports and programs show: functions of a project at one moment. Reads no file and changes nothing.

    session.moment() -> Moment        one transaction
    reports.rounds(moment), ...       values, as often as one likes

Speaks image ids and class names; rows stand beside the ids for whoever draws the image. The work is that of what is
shown, or is done once for a snapshot.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate, islice, pairwise
from typing import Any

import numpy as np

from annotator import due, evaluation, payoff
from annotator.asking import BESIDE, COLD_START
from annotator.batches import ShownBatch, read_batches
from annotator.config import plugin_names
from annotator.errors import AnnotatorError
from annotator.evaluation import Measured
from annotator.learner import Learner
from annotator.metrics import certainty
from annotator.payoff import Measurement, Payoff, Waiting
from annotator.purposes import REVIEW, SEED, TRAIN
from annotator.reasons import on_card
from annotator.store import Annotator, Event, LabelClass, Question, Snapshot
from annotator.store import snapshot as snapshots
from annotator.store.snapshot import once
from annotator.strategies import confirm
from annotator.types import UNLABELED

NETWORK, UNSEEN = "network", {"choice", "base"}
"""Parameters of an encoder: the network that was trained on labels, and what is said by its name."""
PAUSE_SECONDS = 60.0
"""An answer that took longer was a pause: no more than this is counted of it."""
N_PACE = 50
"""Answers, the newest, that `pace` looks at."""


@dataclass(frozen=True)
class Moment:
    """A project at one moment, for one annotator: what its store says, and the learner that belongs to it."""

    snapshot: Snapshot
    learner: Learner
    annotator: Annotator

    @property
    def me(self) -> str:
        """The annotator's id."""
        return self.annotator.annotator_id


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
    hides_guess: bool
    probability: float | None
    entropy: float | None
    model_version: int | None
    labels_ago: int
    """How many labels came after the model that picked this image."""
    event_id: str
    reason: str
    """Why it was picked; empty where its strategy says nothing, or where that would tell a hidden guess."""


@dataclass(frozen=True)
class Answered:
    """A question and what stands as its answer, with the names of the classes. One of the two may be missing."""

    image_id: str
    row: int
    question: Question | None
    """None where a damaged store has lost it."""
    event: Event | None
    """None where nothing stands."""
    guess: str | None
    answer: str | None
    drawn: Question | None = None
    """What the image was picked for: `question`, or where that asks again the one before it. Of `answers` alone."""

    @property
    def outcome(self) -> str | None:
        """What stands: "label", "skip", "unsure" or "none-of-these"; None where nothing does."""
        return None if self.event is None else self.event.outcome


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


@dataclass(frozen=True)
class Gain:
    """What a model version knows for the time that people spent on its labels."""

    version: int
    n_labeled: int
    seconds: float
    """From the first answer to the newest that it was trained on, as they were recorded, everybody's together."""
    accuracy: float | None
    """The headline measure's, 0 to 1."""
    points_per_minute: float | None
    """Percentage points of accuracy since the version before, by the minutes that were spent between the two."""


@dataclass(frozen=True)
class Learning:
    """Whether a model is being fitted in the background, and why the last such fit failed."""

    is_running: bool
    failure: AnnotatorError | None


# ---- classes


def classes(moment: Moment) -> tuple[LabelClass, ...]:
    """Every class, retired ones too, in order of creation."""
    return moment.snapshot.classes


def class_names(moment: Moment) -> list[str]:
    """The classes to choose from, in order of creation."""
    return [known.name for known in moment.snapshot.classes if not known.retired]


def dropped_labels(moment: Moment, source_names: Sequence[str]) -> str:
    """A sentence on the source's labels that match no class of the project; empty where there are none.

    `source_names` are the classes that the truth of the dataset counts in.
    """
    names = snapshots.class_names(moment.snapshot)
    return evaluation.dropped_labels(moment.learner.dataset.truth, source_names, names)


def class_counts(moment: Moment) -> dict[str, int]:
    """class name -> standing labels of all annotators and of the import together."""
    given = moment.snapshot.labels
    return {known.name: given.get(known.class_id, 0) for known in moment.snapshot.classes}


# ---- how far


def n_labels(moment: Moment) -> int:
    """How many labels stand, of all annotators and of the import."""
    return snapshots.n_labels(moment.snapshot)


def n_answered(moment: Moment) -> int:
    """How many answers of this annotator stand, skips included."""
    return moment.snapshot.answers.get(moment.me, 0)


def n_left(moment: Moment) -> int:
    """How many images could still be asked about."""
    return due.n_left(moment.snapshot, moment.learner)


def n_open(moment: Moment) -> int:
    """How many cards of this annotator wait for an answer."""
    return len(snapshots.open_of(moment.snapshot, moment.me))


def n_events(moment: Moment) -> int:
    """How many events the log has."""
    return moment.snapshot.head_seq


def is_due(moment: Moment) -> bool:
    """Whether `Session.look_ahead` has something to do."""
    return due.is_due(moment.snapshot, moment.learner, moment.me)


def current_round(moment: Moment) -> int:
    """The round whose cards are open, not counting single ones reopened; the last one asked where none are."""
    open_now = snapshots.open_of(moment.snapshot, moment.me)
    fresh = [question.round for question in open_now if not question.n_events]
    reopened = max((question.round for question in open_now), default=snapshots.last_round(moment.snapshot))
    return min(fresh, default=reopened)


def pace(moment: Moment) -> float | None:
    """Median seconds that the newest answers took, as the browser measured them; None where it did not yet."""
    newest = islice(snapshots.newest_standing(moment.snapshot, moment.me), N_PACE)
    took = [event.client_ms for event in newest if event.client_ms is not None]
    return float(np.median(took)) / 1000 if took else None


def seconds_per_label(moment: Moment) -> float | None:
    """Median over rounds of the time from shown to answered, per image; None before the first round was done."""
    return _seconds_per_label(moment.snapshot, moment.me)


@once
def _seconds_per_label(snapshot: Snapshot, me: str) -> float | None:
    rounds = (_spans(snapshot, me, ids) for ids in snapshot.asked.rounds.get(me, {}).values())
    each = [_seconds_each(spans) for spans in rounds if spans]
    return float(np.median(each)) if each else None


def seconds_spent(moment: Moment) -> float:
    """What all answers took together, changes of answers included, as the browser or an oracle's clock recorded it."""
    return sum(_seconds(milliseconds) for _, milliseconds in snapshots.answer_times(moment.snapshot))


def gains(moment: Moment) -> list[Gain]:
    """The learning curve by the time that people spent, and what each minute of it brought."""
    times, history = snapshots.answer_times(moment.snapshot), moment.learner.history
    spent = list(accumulate((_seconds(milliseconds) for _, milliseconds in times), initial=0.0))
    seconds = [spent[bisect_right(times, point.trained_through, key=_first)] for point in history]
    before: list[tuple[float, float | None]] = [(0.0, None), *zip(seconds, (p.accuracy for p in history), strict=True)]
    return [
        Gain(point.version, point.n_labeled, now, point.accuracy, _per_minute(point.accuracy, known, now - then))
        for point, now, (then, known) in zip(history, seconds, before[:-1], strict=True)
    ]


def _seconds(milliseconds: int) -> float:
    return min(milliseconds / 1000, PAUSE_SECONDS)


def _first(pair: tuple[int, int]) -> int:
    return pair[0]


def _per_minute(accuracy: float | None, before: float | None, seconds: float) -> float | None:
    if accuracy is None or before is None or seconds <= 0:
        return None
    return 100 * (accuracy - before) / (seconds / 60)


def _spans(snapshot: Snapshot, me: str, ids: Sequence[str]) -> list[tuple[str, str]]:
    """(shown, answered) of the questions of a round whose answers stand."""
    spans = []
    for asked in map(snapshot.questions.__getitem__, ids):
        event = snapshot.heads.get((asked.image_id, me)) if asked.shown_at else None
        if event is not None and event.outcome is not None and event.question_id == asked.question_id:
            spans.append((str(asked.shown_at), event.created_at))
    return spans


def _seconds_each(spans: Sequence[tuple[str, str]]) -> float:
    """Seconds an image took, from the (shown, answered) times of one round."""
    first, last = min(shown for shown, _ in spans), max(answered for _, answered in spans)
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / len(spans)


# ---- what is asked


def batches(moment: Moment) -> list[ShownBatch]:
    """The open batches with all of their cards, and the batch before them: what can be answered and taken back."""
    return read_batches(moment.snapshot, moment.learner, moment.me)


def remaining(moment: Moment) -> list[Card]:
    """The cards that wait for an answer, reopened ones first."""
    names, open_now = _names(moment.snapshot), snapshots.open_of(moment.snapshot, moment.me)
    ago = {seq: snapshots.n_labels_since(moment.snapshot, seq) for seq in {asked.chosen_at_seq for asked in open_now}}
    return [_card(asked, moment.learner.row(asked.image_id), names, ago[asked.chosen_at_seq]) for asked in open_now]


def _card(question: Question, row: int, names: Mapping[int, str], labels_ago: int) -> Card:
    visible = question.guess_visible and question.guess is not None
    return Card(
        image_id=question.image_id,
        row=row,
        round=question.round,
        purpose=question.purpose,
        strategy=question.strategy,
        score=question.score,
        guess=names.get(question.guess) if visible and question.guess is not None else None,
        hides_guess=question.hides_guess,
        probability=question.guess_probability if visible else None,
        entropy=question.guess_entropy if visible else None,
        model_version=question.model_version,
        labels_ago=labels_ago,
        event_id=question.event_id,
        reason=on_card(question, names),
    )


def chosen_for(cards: Sequence[Card]) -> Card:
    """One of the images that a batch was chosen for, where it is not all audit and images to confirm."""
    return next((card for card in cards if card.strategy not in BESIDE), cards[0])


def picked_by(strategy: str, model_version: int | None) -> str:
    """How a batch came about."""
    if strategy == COLD_START:
        return "Typical of all images" + (", until the model knows two classes" if model_version is None else "")
    if model_version is None:
        return "Drawn at random until the model knows two classes"
    return f"Picked by model {model_version} with {strategy}"


# ---- what was answered


def labels(moment: Moment) -> dict[str, str]:
    """image id -> class name, as this annotator's standing labels have it."""
    names = _names(moment.snapshot)
    mine = (event for event in snapshots.standing(moment.snapshot) if event.annotator_id == moment.me)
    return {
        str(event.image_id): names[event.class_id]
        for event in mine
        if event.outcome == "label" and event.class_id is not None
    }


def answers(snapshot: Snapshot, learner: Learner) -> Iterator[Answered]:
    """Every standing answer of everyone, by seq; after an undo it is the answer that this brought back."""
    names = _names(snapshot)
    for event in sorted((snapshots.given(snapshot, head) for head in snapshots.standing(snapshot)), key=_seq):
        found = _answered(learner, names, snapshot.questions.get(str(event.question_id)), event)
        yield replace(found, drawn=_drawn_for(snapshot, event, found.question))


def _drawn_for(snapshot: Snapshot, event: Event, asked: Question | None) -> Question | None:
    if asked is None or asked.purpose != REVIEW.name:
        return asked
    return snapshot.questions.get(str(snapshots.first_given(snapshot, event).question_id), asked)


def _seq(event: Event) -> int:
    return event.seq


def recent(moment: Moment, most: int | None = None) -> list[Answered]:
    """This annotator's standing answers, newest first; the first `most` of them."""
    names, questions = _names(moment.snapshot), moment.snapshot.questions
    mine = snapshots.newest_standing(moment.snapshot, moment.me)
    asked = ((questions.get(str(snapshots.given(moment.snapshot, event).question_id)), event) for event in mine)
    found = (pair for pair in asked if pair[0] is not None)
    return [_answered(moment.learner, names, question, event) for question, event in islice(found, most)]


def n_rounds(moment: Moment) -> int:
    """How many rounds were asked, of all annotators."""
    return len(_round_numbers(moment.snapshot))


def rounds(moment: Moment) -> list[list[Answered]]:
    """Every round asked so far, images in the order they were asked."""
    return [_round(moment, number) for number in _round_numbers(moment.snapshot)]


def answered_rounds(moment: Moment, most: int) -> list[tuple[int, list[Answered]]]:
    """The newest rounds in which anything was answered, newest first: number, and the images with an answer."""
    newest_first = ((number, _round(moment, number)) for number in reversed(_round_numbers(moment.snapshot)))
    answered = ((number, [image for image in asked if image.outcome]) for number, asked in newest_first)
    return list(islice((found for found in answered if found[1]), most))


@once
def _round_numbers(snapshot: Snapshot) -> list[int]:
    return sorted({number for rounds in snapshot.asked.rounds.values() for number in rounds if number})


def _round(moment: Moment, number: int) -> list[Answered]:
    """Images of one round of everyone, by rank, with the newest answer to each that is not open, whoever gave it."""
    snapshot, names = moment.snapshot, _names(moment.snapshot)
    ids = [one for rounds in snapshot.asked.rounds.values() for one in rounds.get(number, ())]
    asked = sorted((snapshot.questions[one] for one in ids), key=lambda question: question.rank)
    return [
        _answered(moment.learner, names, question, _newest(snapshot, question.image_id) if question.closed_by else None)
        for question in asked
        if question.purpose != SEED.name
    ]


def _newest(snapshot: Snapshot, image_id: str) -> Event | None:
    heads = (snapshot.heads.get((image_id, who)) for who in snapshot.answers)
    stand = (event for event in heads if event is not None and event.outcome is not None)
    return max(stand, key=lambda event: event.seq, default=None)


def _answered(learner: Learner, names: Mapping[int, str], question: Question | None, event: Event | None) -> Answered:
    image_id = str(event.image_id if event is not None else question.image_id if question is not None else "")
    guess = None if question is None or question.guess is None else names.get(question.guess)
    answer = None if event is None or event.class_id is None else names.get(event.class_id)
    return Answered(image_id, learner.row(image_id), question, event, guess, answer)


def agreement(moment: Moment) -> Agreement:
    """Agreement of this annotator's labels with the model's guess, for visible and for hidden guesses.

    Without audit images, and without those to confirm: they are likely to agree, and their guess is never hidden.
    """
    return _agreement(moment.snapshot, moment.me)


@once
def _agreement(snapshot: Snapshot, me: str) -> Agreement:
    n_of = {True: [0, 0], False: [0, 0]}
    for head in snapshots.newest_standing(snapshot, me):
        event = snapshots.given(snapshot, head)
        asked = snapshot.questions.get(str(event.question_id)) if event.outcome == "label" else None
        is_compared = asked is not None and asked.purpose == TRAIN.name and asked.strategy != confirm.NAME
        if asked is not None and asked.guess is not None and is_compared:
            n_of[asked.guess_visible][0] += 1
            n_of[asked.guess_visible][1] += event.class_id == asked.guess
    return Agreement(*n_of[True], *n_of[False])


# ---- what the model says


def history(moment: Moment) -> tuple[Measured, ...]:
    """The learning curve."""
    return moment.learner.history


def news(moment: Moment) -> str:
    """What the newest model changed, in one sentence; empty before the first."""
    return evaluation.describe(moment.learner.history)


def learning(moment: Moment) -> Learning:
    """What the model does in the background."""
    return Learning(moment.learner.is_learning, moment.learner.failure)


def measurement(moment: Moment) -> Measurement | Waiting:
    """What can be measured of the strategy in use, or what is missing for that; fits nothing."""
    return payoff.measurement_of(moment.snapshot, moment.learner)


def strategy_payoff(moment: Moment) -> Payoff | Waiting:
    """Whether the strategy in use pays, measured here and now, which takes some ten fits of the model.

    Raises ModelError where the model cannot be fitted.
    """
    found = measurement(moment)
    return found if isinstance(found, Waiting) else payoff.measured(found)


def in_use_since(moment: Moment) -> int:
    """The configuration version from which on the strategy in use was."""
    return payoff.spells(moment.snapshot)[0].first


def suggestions(moment: Moment) -> dict[str, tuple[str, float]]:
    """image id -> (class name, calibrated probability) by the newest model, for every image without a label."""
    names, ids = _names(moment.snapshot), moment.learner.dataset.ids
    unlabeled = np.flatnonzero(moment.learner.labels == UNLABELED)
    prediction = moment.learner.prediction
    codes, highest = prediction.guesses[unlabeled].tolist(), certainty(prediction)[unlabeled, 0].tolist()
    best = zip(unlabeled.tolist(), codes, highest, strict=True)
    return {ids[row]: (names[code], probability) for row, code, probability in best}


def changes(moment: Moment) -> dict[int, str]:
    """config version -> what it changed of model, encoder, strategy and their parameters; others are left out."""
    return changed_plugins(moment.snapshot.configs)


def changed_plugins(configs: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:  # Any: JSON
    """As `changes`, of configurations by version."""
    said = {}
    for (_, before), (version, after) in pairwise(configs.items()):
        parts = [_changed(kind, name, before, after) for kind, name in plugin_names(after).items()]
        if any(parts):
            said[version] = ", ".join(filter(None, parts))
    return said


def _changed(kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:  # Any: JSON
    """What a config has changed of a kind of plug-in, of which it now uses `name`; empty for nothing."""
    if plugin_names(before)[kind] != name:
        return f"{kind}: {name}"
    old, new = (one.get(f"{kind}_parameters") or {} for one in (before, after))
    differing = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    if NETWORK in differing and new.get(NETWORK):
        return "network trained"
    return f"{kind}: {name} with other parameters" if differing - UNSEEN else ""


def _names(snapshot: Snapshot) -> dict[int, str]:
    return {known.class_id: known.name for known in snapshot.classes}
