"""The same Session as the browser's, answered by an oracle; yields the figures of every round.

Knows no other loop: `answer_batch` does with a session what a person does with a page. Improvements that are due are
tried between two rounds, which wait for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from annotator import reports
from annotator.config import Config
from annotator.due import enough_to_look_ahead
from annotator.errors import AnnotatorError, Cancelled, ConfigError
from annotator.evaluation import Measured
from annotator.improvements import Improving, Task, is_for
from annotator.jobs import Job
from annotator.project import Project
from annotator.reports import Card, current_round
from annotator.session import Session
from annotator.store import Deciding
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, IntArray, Report, silent


class Oracle:
    """Answers with the source's truth, or, for a share of its answers, with another class drawn at random."""

    def __init__(
        self, truth: Mapping[str, str], class_names: Sequence[str], error_rate: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= error_rate <= 1:
            raise ConfigError(f"The oracle's error rate must lie between 0 and 1, not {error_rate}.")
        self._truth = truth
        self._class_names = list(class_names)
        self._error_rate = error_rate
        self._rng = np.random.default_rng([seed, 3])

    def answer(self, image_id: str) -> str | None:
        """The class to type for this image; None where the truth is unknown."""
        name = self._truth.get(image_id)
        if name is None or not self._error_rate or self._rng.random() >= self._error_rate:
            return name
        others = [other for other in self._class_names if other != name]
        return str(self._rng.choice(others)) if others else name


def oracle_of(project: Project, error_rate: float = 0.0) -> Oracle:
    """The oracle of a project whose source knows the truth. Raises ConfigError for one that does not."""
    truth, names = project.learner.truth, project.class_names
    if truth is None:
        raise ConfigError("This source does not know the truth, so no oracle can answer. Use class sub-folders.")
    known = _KnownTruth(project.learner.dataset.ids, truth, names)
    return Oracle(known, names, error_rate, project.config.seed)


class _KnownTruth(Mapping[str, str]):
    """image id -> class name, of the images whose truth is known."""

    def __init__(self, ids: Sequence[str], codes: IntArray, names: Sequence[str]) -> None:
        self._ids, self._codes, self._names = ids, codes, names

    def __getitem__(self, image_id: str) -> str:
        try:
            code = int(self._codes[self._ids.index(image_id)])
        except ValueError:
            raise KeyError(image_id) from None
        if code == UNLABELED:
            raise KeyError(image_id)
        return self._names[code]

    def __iter__(self) -> Iterator[str]:
        return (self._ids[row] for row in np.flatnonzero(self._codes != UNLABELED).tolist())

    def __len__(self) -> int:
        return int((self._codes != UNLABELED).sum())


@dataclass(frozen=True)
class Pace:
    """How many milliseconds a scripted person takes for an image.

    The defaults are sums of the operators of Card, Moran and Newell ("The Psychology of Human-Computer Interaction",
    1983), for the average person; they give ranges of a factor of two each way. Perceiving takes 100 ms, each step of
    thought 70, a movement 70; a mental preparation takes 1,350 and a key that is looked for 200.
    """

    look: int = 1550
    """An image that shows no guess: a mental preparation, then the key of its class."""
    repeat: int = 310
    """The class of the image before it once more, with or without a guess: perceive, two steps (it is the same kind, so
    it is the same key), press. Also with a hand that need not move."""
    confirm: int = 450
    """A guess that is right: perceive, four steps (the image's class, and whether that is the name shown), press."""
    change: int = 2000
    """A guess that is wrong: as to confirm one, and then as to look."""

    def __post_init__(self) -> None:
        """Raises ConfigError for less than no time."""
        if min(self.look, self.repeat, self.confirm, self.change) < 0:
            raise ConfigError("The milliseconds of an answer must not be negative.")


class Clock:
    """What each answer of a scripted person takes, one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._last: str | None = None

    def decide(self, guess: str | None, answer: str | None) -> Deciding:
        """On a card with this guess (None = none is seen) this answer (None = a skip) was given."""
        is_same, self._last = answer is not None and answer == self._last, answer
        pace = self._pace
        took = pace.look if guess is None else pace.confirm if guess == answer else pace.change
        if is_same and guess in (None, answer):
            took = min(took, pace.repeat)
        return Deciding(took, guess is not None)


def answer_batch(
    session: Session, oracle: Oracle, cards: Sequence[Card] | None = None, clock: Clock | None = None
) -> None:
    """Answer the open cards as a person would: a class, or a skip where the oracle knows none.

    With a `clock` what each answer takes is recorded with it; nothing is waited for.
    """
    for card in session.remaining if cards is None else cards:
        answer = oracle.answer(card.image_id)
        deciding = None if clock is None else clock.decide(card.guess, answer)
        if answer is None:
            session.skip(card.image_id, event_id=card.event_id, deciding=deciding)
        else:
            session.label(card.image_id, answer, event_id=card.event_id, deciding=deciding)


def simulate(
    config: Config,
    folder: Path,
    error_rate: float = 0.0,
    annotator: str = "oracle",
    report: Report = silent,
    lookahead: bool = False,
    pace: Pace | None = None,
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """A new project in `folder`, played by an oracle for `config.rounds` rounds; the rows of `play`."""
    project = Project.create(folder, config, report)
    try:
        yield from play(project, error_rate, annotator, lookahead, pace=pace)
    finally:
        project.close()


class Step(NamedTuple):
    """A part of a schedule: batches of this size while there are fewer labels than `until`."""

    batch_size: int
    until: int


def play(
    project: Project,
    error_rate: float = 0.0,
    annotator: str = "oracle",
    lookahead: bool = False,
    schedule: Sequence[Step] = (),
    pace: Pace | None = None,
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Let an oracle answer `config.rounds` batches, or those of the schedule; one row a round, as JSON-able figures.

    A row is what holds when the batch is asked, before it is answered. `accuracy` and `confusion` are on the images
    without a label, `accuracy_test` on held-out images, `accuracy_audit` on the audit slice; F1 and the per-class
    figures are on the most trustworthy of the three, named by `measured_on`, and so is `calibration_error`, the
    expected error of the probabilities shown in 15 bins, 0 to 1. None where nothing could be measured.
    The last row, of round None, is what holds after the last answer. With `lookahead` each batch is chosen when
    half of the one before it is left, as for a person in the browser, who would not like to wait. With a `pace` the
    answers record what they took, and rows have `seconds`, all answers so far, and `points_per_minute`, what the newest
    of them brought in accuracy (None where there is nothing to compare with).
    """
    oracle, clock = oracle_of(project, error_rate), None if pace is None else Clock(pace)
    for session in _sessions(project, annotator, schedule):
        ask = session.look_ahead if lookahead else session.advance
        ask()
        cards = session.remaining
        if not cards:
            break
        yield round_row(project, session, cards) | _cost(session, clock)
        enough = enough_to_look_ahead(len(cards))
        answer_batch(session, oracle, cards[:enough], clock)
        if lookahead:
            ask()
        answer_batch(session, oracle, cards[enough:], clock)
    if lookahead:
        project.learner.learn()
    else:
        project.session(annotator).advance()
    yield final_row(project) | _cost(project.session(annotator), clock)


def _cost(session: Session, clock: Clock | None) -> dict[str, Any]:  # Any: JSON
    """The seconds that all answers took, and the points of accuracy a minute that the newest of them brought."""
    if clock is None:
        return {}
    moment = session.moment()
    newest = reports.gains(moment)[-1:]
    return {
        "seconds": round(reports.seconds_spent(moment), 3),
        "points_per_minute": newest[0].points_per_minute if newest else None,
    }


def _sessions(project: Project, annotator: str, schedule: Sequence[Step]) -> Iterator[Session]:
    """The session of each round, by the settings of that moment; the schedule's batch sizes are set before it.

    Between two of them improvements are tried, not after the last one: no batch would use them.
    """
    opened: dict[int, Session] = {}
    improving = Improving(project)

    def now() -> Session:
        if opened:
            try_improvements(improving)
        if project.config_version not in opened:
            opened[project.config_version] = project.session(annotator)
        return opened[project.config_version]

    yield from (now() for _ in range(0 if schedule else project.config.rounds))
    for step in schedule:
        project.change(batch_size=step.batch_size)
        while snapshots.n_labels(project.store.snapshot()) < step.until:
            yield now()


def try_improvements(improving: Improving) -> None:
    """Try all improvements that are due here and now, one by one; nothing while another process tries one.

    One that fails is noted, as beside the labeling, and costs nothing. Raises Cancelled.
    """
    right = improving.right_to_try()
    if not is_for(improving.project) or not right.acquire():
        return
    try:
        while (task := improving.due()) is not None:
            _try(improving, task)
    finally:
        right.release()


def _try(improving: Improving, task: Task) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="annotator-") as folder:
            result = Job.start(task.target, task.arguments, Path(folder)).wait()
        if result["changes"] is not None:
            improving.project.change(**result["changes"])
    except Cancelled:
        raise
    except AnnotatorError as error:
        improving.fail(task, error)
    else:
        improving.end(task, result["said"], result["changes"] is not None)


def round_row(project: Project, session: Session, cards: Sequence[Card]) -> dict[str, Any]:  # Any: JSON
    """The figures of the round that is being asked."""
    learner, names = project.learner, project.class_names
    truth = learner.truth
    asked = [card.row for card in cards]
    predicted = learner.prediction.probabilities[asked].argmax(axis=1).tolist() if learner.version else []
    newest = learner.history[-1] if learner.history else None
    return {
        "round": current_round(session.moment()),
        "n_labeled": newest.n_labeled if newest else 0,
        "n_unlabeled": newest.n_unlabeled if newest else len(learner.dataset),
        "asked_rows": asked,
        "asked_predicted": predicted,
        "asked_true": [] if truth is None else truth[asked].tolist(),
        "asked_strategy": reports.chosen_for(cards).strategy,
        "query_seconds": session.query_seconds,
        **figures(newest, names),
    }


def final_row(project: Project) -> dict[str, Any]:  # Any: JSON
    """What holds after the last answer; asks nothing."""
    newest = project.learner.history[-1] if project.learner.history else None
    return {"round": None, "n_labeled": newest.n_labeled if newest else 0, **figures(newest, project.class_names)}


def figures(newest: Measured | None, names: Sequence[str]) -> dict[str, Any]:  # Any: JSON
    """Everything measured of one model version."""
    measures = newest.measures if newest else {}
    rest, test, audit = (measures.get(name) for name in ("rest", "test", "audit"))
    best = newest.scores(newest.headline) if newest and newest.headline else None
    calibration = newest.calibration if newest else None
    return {
        "accuracy": rest["accuracy"] if rest else None,
        "confusion": newest.scores("rest").confusion.tolist() if newest and rest else None,
        "accuracy_test": test["accuracy"] if test else None,
        "accuracy_audit": _with_interval(audit),
        "measured_on": newest.headline if newest else None,
        "macro_f1": best.macro_f1 if best else None,
        "weighted_f1": best.weighted_f1 if best else None,
        "per_class": {names[entry.code]: vars(entry) for entry in best.per_class} if best else None,
        "calibration_error": calibration.error if calibration else None,
        "temperature": newest.temperature if newest else None,
        "pool_entropy": newest.pool_entropy if newest else None,
        "n_changed": newest.n_changed if newest else None,
        "fit_seconds": newest.fit_seconds if newest else None,
    }


def _with_interval(measure: Mapping[str, Any] | None) -> dict[str, Any] | None:  # Any: JSON
    if not measure or not measure["n"]:
        return None
    low, high = measure["interval"]
    return {"accuracy": measure["accuracy"], "low": low, "high": high, "n": measure["n"]}
