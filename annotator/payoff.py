"""Whether the images that a strategy chose teach more than images drawn at random: measured on the project's own pool.

The project's model is fitted anew on the first n labels that the strategy chose, and on n labels drawn at random,
beside the same labels that were there before; what counts is how many of the same images each gets right.

Where the truth of the pool is known, n images are drawn from it `N_DRAWS` times, and both sides are measured on the
images that neither holds. The interval is that of one more such draw around their mean: the labels that a strategy
chose are one draw as well. Where it is not known, the audit answers are the random labels: they are a uniform sample.
With 5 n / 4 of them, five folds of them in turn are held back; each is judged by a fit on the others, and by the fit on
what the strategy chose. The interval is paired, its variance widened for the fits' common labels (Nadeau & Bengio,
"Inference for the generalization error", Machine Learning 52, 2003). Test images are not looked at.

A strategy is measured again and again as labels grow. So a warning takes the 99 % interval: one that is as good as
random has a chance of 0.5 % to be warned of at a size, and of 5 % at the most at any of the ten sizes up to 960 labels.
Of 350 measurements of labels that were drawn at random themselves (digits and clothes, label spreading, 40 to 160
labels), 6 trailed at 95 %, 1.7 % where 2.5 % were due.

n is one of `sizes`, never what there is by chance, so that the figure does not depend on when it is worked out.
Knows no threads; see workspace/payoffs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from math import sqrt
from typing import Any

import numpy as np

from annotator import registry
from annotator.asking import BESIDE
from annotator.consensus import consensus
from annotator.learner import Learner
from annotator.per_image import BoolArray
from annotator.purposes import TRAIN
from annotator.store import Question, Snapshot
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, Dataset, IntArray, Model, is_asynchronous

LEAST = 40
"""Labels of each side below which nothing is measured: at 40 half of the interval is 10 to 24 points wide already."""
N_DRAWS = 8
"""Each is a fit. With half as many, Student's quantile is 3.2 in the place of 2.4."""
STUDENT = (2.365, 3.499)
"""Quantiles of 95 % and 99 % intervals, of Student's t with `N_DRAWS` - 1 degrees of freedom."""
NORMAL = (1.960, 2.576)
N_FOLDS = 5
"""As is common; each holds out a fifth of the random labels, so that a quarter more of them are asked for."""
WIDENED = 1 + N_FOLDS / (N_FOLDS - 1)
"""Nadeau & Bengio's factor for the variance of folds whose fits share labels: (1/k + 1/(k-1)) / (1/k)."""
LARGEST_SHARE = 0.2
"""Of the images that are not given, on each side: what is left, 120 of them at least, has to stand for all. A choice,
not measured.
"""
LARGEST_POOL = 250_000
"""Images; the model and its prediction are in memory a second time meanwhile. A choice, not measured."""
UNKNOWN_AT_MOST = 0.05
"""Of the pool: with more images whose truth is unknown, those that are known may be special ones. A choice as well."""
TRUTH, AUDIT = "truth", "audit"
BASELINE = "random"
MOST_SPELLS = 5
"""Each is up to a dozen fits after a restart, and a line of the chart."""
PARTS = (0.25, 0.5, 0.75)
"""Of the chosen labels, at which it is asked whether they teach as much as all of those drawn at random."""
Json = Mapping[str, Any]  # Any: a stored configuration


@dataclass(frozen=True, eq=False)
class Labels:
    """Rows of the pool with their class codes."""

    rows: IntArray
    codes: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: IntArray | BoolArray | slice) -> Labels:
        """Some of them."""
        return Labels(self.rows[places], self.codes[places])


@dataclass(frozen=True)
class Spell:
    """Configuration versions in a row with one strategy."""

    first: int
    last: int
    config: Json

    @property
    def strategy(self) -> str:
        """Its name."""
        return str(self.config["strategy"])


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is to be measured. Equal keys are equal measurements of one project."""

    key: tuple[Any, ...]  # Any: names and parameters
    dataset: Dataset
    spell: Spell
    model: tuple[str, dict[str, Any]]  # Any: JSON
    """Name and parameters."""
    n_classes: int
    given: Labels
    """On both sides: known from the start, or chosen before the strategy was."""
    chosen: Labels
    """By the strategy, in the order of their answers."""
    others: Labels
    """Audit answers in the order of the slice, or the images of known truth that are not given."""
    measured_on: str


@dataclass(frozen=True)
class Waiting:
    """Nothing can be measured, or not yet."""

    reason: str
    """A sentence: why, and what it takes."""


@dataclass(frozen=True)
class Payoff:
    """What came of a measurement."""

    strategy: str
    since: int
    """The configuration version from which on the strategy was in use."""
    measured_on: str
    n_each: int
    """Labels on each side."""
    n_given: int
    """Labels that both sides have beside them."""
    n_images: int
    """Images that both were measured on; of several draws the mean."""
    right_chosen: float
    """Share of them, 0 to 1, that the model gets right with the labels that the strategy chose."""
    right_random: float
    low: float
    """95 % interval of `right_chosen` - `right_random`."""
    high: float
    high_99: float
    """Upper end of the 99 % interval."""
    n_enough: int | None = None
    """So many of the chosen labels, the first ones, teach no less than `n_each` drawn at random: on the same images the
    lower end of the 95 % interval is not below zero. None where that was not found.
    """

    @property
    def trails(self) -> bool:
        """Whether the strategy's labels teach less than as many drawn at random."""
        return self.high < 0

    @property
    def warns(self) -> bool:
        """Whether they do so beyond the doubt that comes with measuring at size after size."""
        return self.high_99 < 0

    @property
    def pays(self) -> bool:
        """Whether they teach more."""
        return self.low > 0

    @property
    def in_words(self) -> str:
        """The verdict with its figures."""
        beside = f" beside the {self.n_given:,} that were there before" if self.n_given else ""
        if self.trails or self.pays:
            said = f"those that {self.strategy} chose teach {'less' if self.trails else 'more'}"
        else:
            said = f"it cannot be told yet whether those that {self.strategy} chose teach more or less"
        return (
            f"At {self.n_each:,} labels each{beside}, {said}: {self._right} "
            f"({self._images}, 95 % interval of the difference {self._interval} points).{self._saved}"
        )

    @property
    def _right(self) -> str:
        shares = self.right_chosen, self.right_random
        if self.measured_on == AUDIT:
            chosen, drawn = (f"{share * self.n_images:.0f}" for share in shares)
            return f"{chosen} of {self.n_images:,} right against {drawn} by labels drawn at random"
        chosen, drawn = (f"{100 * share:.1f} %" for share in shares)
        return f"{chosen} right against {drawn} by labels drawn at random"

    @property
    def _images(self) -> str:
        return "audit images" if self.measured_on == AUDIT else f"{self.n_images:,} images that neither has labels of"

    @property
    def _interval(self) -> str:
        """In the direction of the verdict."""
        low, high = (-self.high, -self.low) if self.trails else (self.low, self.high)
        return f"{_points(low)} to {_points(high)}"

    @property
    def _saved(self) -> str:
        if self.n_enough is None:
            return ""
        return (
            f" About {self.n_enough:,} of its labels are as good as {self.n_each:,} drawn at random: it saves about "
            f"{self.n_each - self.n_enough:,}."
        )


@dataclass(frozen=True)
class _Answered:
    """What a snapshot says of every image that has a label; worked out once for all spells."""

    code_of: Mapping[int, int]
    """Row -> class code, by consensus."""
    audit: list[int]
    """Rows of the audit slice, in its order."""
    asked: Mapping[int, Question]
    """Row -> the question to train that was answered first, in the order of those answers."""


def sizes(most: int) -> Iterator[int]:
    """The numbers of labels at which it is measured, up to `most`: 40, 60, 80, 120, 160, 240, ..."""
    size = LEAST
    while size <= most:
        yield size
        if size * 3 // 2 <= most:
            yield size * 3 // 2
        size *= 2


def spells(snapshot: Snapshot) -> list[Spell]:
    """How long each strategy was in use, the newest first: one that was taken up again has several."""
    found: list[Spell] = []
    for version in sorted(snapshot.configs, reverse=True):
        config = snapshot.configs[version]
        if found and _chooses(found[-1].config) == _chooses(config):
            found[-1] = replace(found[-1], first=version)
        else:
            found.append(Spell(version, version, config))
    return found


def measurements_of(snapshot: Snapshot, learner: Learner) -> list[Measurement]:
    """A measurement of each of the strategies that were in use last, the newest first, where one can be made."""
    answered = _answered(snapshot, learner)
    found = (_measurement(snapshot, learner, spell, answered) for spell in spells(snapshot)[:MOST_SPELLS])
    return [measurement for measurement in found if isinstance(measurement, Measurement)]


def measurement_of(snapshot: Snapshot, learner: Learner) -> Measurement | Waiting:
    """The largest measurement that can be made of the strategy in use; else why there is none."""
    return _measurement(snapshot, learner, spells(snapshot)[0], _answered(snapshot, learner))


def _measurement(snapshot: Snapshot, learner: Learner, spell: Spell, answered: _Answered) -> Measurement | Waiting:
    config, dataset = snapshot.configs[max(snapshot.configs)], learner.dataset
    if said := _never(config, spell, dataset):
        return Waiting(said)
    truth = learner.truth_in(tuple(snapshots.class_names(snapshot)))
    pool = _known(dataset, truth)
    if pool is None and not len(learner.audit_rows):
        return Waiting(
            "Nothing to measure it by: the labels of the pool are not known, and this project draws no share of each "
            "batch at random for that."
        )
    given, chosen, audit = _labels(answered, spell)
    if pool is not None and truth is not None:
        given, chosen = _by_truth(given, truth), _by_truth(chosen, truth)
    others = audit if pool is None else pool.at(~np.isin(pool.rows, given.rows))
    most = len(audit) * (N_FOLDS - 1) // N_FOLDS if pool is None else int(LARGEST_SHARE * len(others))
    if said := _not_yet(spell, len(chosen), others, most, pool is None):
        return Waiting(said)
    *_, size = sizes(min(most, len(chosen)))
    others = others.at(slice(size * N_FOLDS // (N_FOLDS - 1))) if pool is None else others
    model = str(config["model"]), dict(config.get("model_parameters") or {})
    measured_on = AUDIT if pool is None else TRUTH
    chosen, n_classes = chosen.at(slice(size)), len(snapshot.classes)
    labels = _digest(given, chosen, others)
    key = (spell.first, model[0], str(sorted(model[1].items())), dataset.version, measured_on, size, n_classes, labels)
    return Measurement(key, dataset, spell, model, n_classes, given, chosen, others, measured_on)


def measured(measurement: Measurement) -> Payoff:
    """Fit a model of its own on both sides: N_DRAWS + 1 fits, or N_FOLDS + 1, and three more where the strategy pays.

    The same measurement gives the same figures. Raises ModelError where the model cannot be fitted.
    """
    fits, chosen = _Fits(measurement), measurement.chosen
    compare = _on_audit(fits) if measurement.measured_on == AUDIT else _on_truth(fits)
    found = compare(chosen)
    first = (round(part * len(chosen)) for part in PARTS) if found.low > 0 else ()
    return Payoff(
        strategy=measurement.spell.strategy,
        since=measurement.spell.first,
        measured_on=measurement.measured_on,
        n_each=len(chosen),
        n_given=len(measurement.given),
        n_images=found.n_images,
        right_chosen=found.right,
        right_random=found.right_random,
        low=found.low,
        high=found.high(0),
        high_99=found.high(1),
        n_enough=next((n for n in first if compare(chosen.at(slice(n))).low >= 0), None),
    )


def _never(config: Json, spell: Spell, dataset: Dataset) -> str:
    """Why a project with this configuration is not measured; empty where it can be."""
    model = registry.create("model", config["model"], config.get("model_parameters"))
    if spell.strategy == BASELINE:
        return f"{BASELINE} is what the other strategies are measured against."
    if is_asynchronous(model):
        return f"Not with the model {config['model']}: to train it {N_DRAWS + 1} times would take too long."
    if len(dataset) > LARGEST_POOL:
        return f"Not with more than {LARGEST_POOL:,} images: the model would be in memory a second time."
    return ""


def _not_yet(spell: Spell, n_chosen: int, others: Labels, most: int, is_audit: bool) -> str:
    """What is missing for the smallest measurement; empty where nothing is."""
    if most < LEAST and not is_audit:
        return (
            f"{len(others):,} images that had no label before {spell.strategy} are too few to measure it: they are "
            "soon labeled."
        )
    if most < LEAST:
        return f"It needs {LEAST * N_FOLDS // (N_FOLDS - 1)} answers to audit images, and has {len(others):,}."
    if n_chosen < LEAST:
        return f"It needs {LEAST} labels of images that {spell.strategy} chose, and has {n_chosen:,}."
    return ""


def _chooses(config: Json) -> tuple[Any, Any]:  # Any: JSON
    return config["strategy"], config.get("strategy_parameters") or {}


def _answered(snapshot: Snapshot, learner: Learner) -> _Answered:
    code_of = {learner.row(image_id): code for image_id, code in consensus(snapshots.standing(snapshot)).items()}
    audit = [row for row in learner.audit_rows.tolist() if row in code_of]
    asked = {learner.row(question.image_id): question for question in _by_first_answer(snapshot)}
    return _Answered(code_of, audit, asked)


def _labels(answered: _Answered, spell: Spell) -> tuple[Labels, Labels, Labels]:
    """Standing labels: those before the strategy, those that it chose by their first answers, and audit as it is asked.

    Images that stood beside the batch, such as those to confirm, are in none: the strategy did not choose them.
    """
    code_of, asked = answered.code_of, answered.asked
    to_train = code_of.keys() - set(answered.audit)
    given = [row for row in sorted(to_train) if row not in asked or asked[row].config_version < spell.first]
    chosen = [row for row, question in asked.items() if row in to_train and _is_chosen(question, spell)]
    return _coded(given, code_of), _coded(chosen, code_of), _coded(answered.audit, code_of)


def _is_chosen(question: Question, spell: Spell) -> bool:
    return spell.first <= question.config_version <= spell.last and question.strategy not in BESIDE


def _by_first_answer(snapshot: Snapshot) -> list[Question]:
    """Questions to train, of each image the one answered first, in the order of those answers: they never change."""
    seqs = {question_id: snapshots.first_answer(snapshot, question_id) for question_id in snapshot.questions}
    answered = ((seq, question_id) for question_id, seq in seqs.items() if seq is not None)
    questions = (snapshot.questions[question_id] for _, question_id in sorted(answered))
    first: dict[str, Question] = {}
    for question in questions:
        if question.purpose == TRAIN.name:
            first.setdefault(question.image_id, question)
    return list(first.values())


def _digest(*parts: Labels) -> str:
    """Of rows and codes."""
    found = sha256()
    for part in parts:
        found.update(len(part).to_bytes(8))
        found.update(part.rows.tobytes() + part.codes.tobytes())
    return found.hexdigest()


def _coded(rows: list[int], code_of: Mapping[int, int]) -> Labels:
    return Labels(np.array(rows, dtype=np.int64), np.array([code_of[row] for row in rows], dtype=np.int64))


def _by_truth(labels: Labels, truth: IntArray) -> Labels:
    """The same images with their true classes, as those that are drawn at random have them."""
    codes = truth[labels.rows]
    return Labels(labels.rows, codes).at(codes != UNLABELED)


def _known(dataset: Dataset, truth: IntArray | None) -> Labels | None:
    """Every distinct image with its truth; None where that is unknown for too many."""
    if truth is None:
        return None
    rows = np.flatnonzero(dataset.is_first)
    known = rows[truth[rows] != UNLABELED]
    return Labels(known, truth[known]) if len(known) >= (1 - UNKNOWN_AT_MOST) * len(rows) else None


class _Fits:
    """A model of its own for one measurement: the project's is not touched."""

    def __init__(self, measurement: Measurement) -> None:
        self.measurement = measurement
        self._model: Model = registry.create("model", *measurement.model)

    def guesses(self, labels: Labels) -> IntArray:
        """(n_images,) class codes by a fit on these labels and those that were given."""
        known = np.full(len(self.measurement.dataset), UNLABELED, dtype=np.int64)
        for part in (self.measurement.given, labels):
            known[part.rows] = part.codes
        return self._model.fit_predict(self.measurement.dataset, known, self.measurement.n_classes).guesses

    def is_right(self, labels: Labels, images: Labels) -> BoolArray:
        """(n,) whether such a fit guesses the class of each of these images."""
        return np.asarray(self.guesses(labels)[images.rows] == images.codes)


@dataclass(frozen=True)
class _Compared:
    """Labels against those drawn at random, on the same images."""

    n_images: int
    right: float
    right_random: float
    error: float
    """Of the difference."""
    quantiles: tuple[float, float]
    """By which it is multiplied for half of the 95 % and of the 99 % interval."""

    @property
    def low(self) -> float:
        return self.right - self.right_random - self.quantiles[0] * self.error

    def high(self, place: int) -> float:
        return self.right - self.right_random + self.quantiles[place] * self.error


def _on_audit(fits: _Fits) -> Callable[[Labels], _Compared]:
    """Fit on the random labels fold by fold, and return what compares labels with that."""
    audit, n_each = fits.measurement.others, len(fits.measurement.chosen)
    drawn = np.zeros(len(audit), dtype=bool)
    fold_of = np.arange(len(audit)) % N_FOLDS  # the slice is in random order already
    for fold in range(N_FOLDS):
        held = fold_of == fold
        drawn[held] = fits.is_right(audit.at(~held).at(slice(n_each)), audit.at(held))
    return partial(_against_folds, fits, drawn)


def _against_folds(fits: _Fits, drawn: BoolArray, labels: Labels) -> _Compared:
    audit = fits.measurement.others
    right = fits.is_right(labels, audit)
    differences = right.astype(np.float64) - drawn
    error = sqrt(WIDENED * float(differences.var(ddof=1)) / len(audit))
    return _Compared(len(audit), float(right.mean()), float(drawn.mean()), error, NORMAL)


def _on_truth(fits: _Fits) -> Callable[[Labels], _Compared]:
    """Draw, and return what compares labels with that."""
    free, chosen = fits.measurement.others, fits.measurement.chosen
    rng, draws = np.random.default_rng([len(chosen), 4]), []
    for _ in range(N_DRAWS):
        places = rng.permutation(len(free))
        drawn, rest = free.at(places[: len(chosen)]), free.at(places[len(chosen) :])
        rest = rest.at(~np.isin(rest.rows, chosen.rows))
        draws.append((rest, float(fits.is_right(drawn, rest).mean())))
    return partial(_against_draws, fits, draws)


def _against_draws(fits: _Fits, draws: Sequence[tuple[Labels, float]], labels: Labels) -> _Compared:
    """`draws`: the images that are left beside each, and the share of them that it gets right."""
    guesses = fits.guesses(labels)
    right = np.array([np.mean(guesses[rest.rows] == rest.codes) for rest, _ in draws])
    drawn = np.array([rate for _, rate in draws])
    error = float(np.std(right - drawn, ddof=1)) * sqrt(1 + 1 / N_DRAWS)
    n_images = round(float(np.mean([len(rest) for rest, _ in draws])))
    return _Compared(n_images, float(right.mean()), float(drawn.mean()), error, STUDENT)


def _points(share: float) -> str:
    """In points of 100; near zero to a tenth, so that an interval that leaves out zero is seen to."""
    points = 100 * share
    said = f"{points:.0f}" if abs(points) >= 1 else f"{points:.1f}"
    return said.replace("-", "−")
