"""Shown probabilities mean what they say: a temperature that keeps guesses and batches, and outlives a restart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from annotator import calibrating, registry, reports
from annotator.calibrating import Calibrator, Temperature
from annotator.evaluation import from_record
from annotator.exporters.gather import _predicted_rows
from annotator.fitted import Fitted
from annotator.metrics import calibration, certainty, row_entropy
from annotator.models import calibration as fitting
from annotator.models import vote
from annotator.models.calibration import Known, Prior, distance, most_likely, no_surer, temperature
from annotator.models.out_of_fold import out_of_fold, spread, without_own_fold
from annotator.project import PREDICTIONS, Project
from annotator.store import ModelRecord
from annotator.types import UNLABELED, Dataset, FloatArray, IntArray, Model, Opinion, Prediction
from tests.builders import tiny_dataset
from tests.test_predictions import labeled, next_batch


def cooled(probabilities: FloatArray, value: float) -> FloatArray:
    powers = probabilities ** (1 / value)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def doubtful(n: int, seed: int, value: float) -> Known:
    """Classes drawn from probabilities, and these at another temperature, from which `value` leads back."""
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet(np.full(4, 0.5), n)
    codes = (honest.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return Known(cooled(honest, 1 / value), codes)


def labels_of(dataset: Dataset, n: int) -> IntArray:
    assert dataset.truth is not None
    return np.where(np.arange(len(dataset)) < n, dataset.truth, UNLABELED)


@pytest.mark.parametrize("value", [0.3, 1.0, 2.5])
def test_the_temperature_is_found_again(value: float) -> None:
    """Of classes drawn from known probabilities; the error in 15 bins is that of chance afterwards."""
    known = doubtful(4000, 0, value)
    found = float(np.exp(most_likely(known, np.ones(4000))))
    assert found == pytest.approx(value, rel=0.06)
    error = calibration(cooled(known.probabilities, found), known.codes).error
    assert error is not None
    assert error < 0.02


def test_few_labels_stay_near_what_is_known_before() -> None:
    """A normal prior for ln T, which many labels outweigh."""
    known = doubtful(3, 1, 0.3)
    assert most_likely(known, np.ones(3), Prior(0.5, 0.01)) == pytest.approx(0.5, abs=0.01)
    assert distance(np.zeros(5), np.ones(5)) == 1
    assert distance(np.arange(5.0), np.arange(5.0)) == 0


def test_what_few_labels_say_faintly_is_taken_for_chance() -> None:
    """A peak at T = 1: near it what labels say is shrunk; what they say clearly is not."""
    few, prior = doubtful(60, 1, 0.85), Prior(peak=fitting.PEAK)
    faintly = most_likely(few, np.ones(60))
    assert abs(most_likely(few, np.ones(60), prior)) < 0.75 * abs(faintly)
    far = doubtful(60, 1, 0.25)
    clearly = most_likely(far, np.ones(60))
    assert most_likely(far, np.ones(60), prior) == pytest.approx(clearly, rel=0.1)


def test_few_labels_show_no_image_surer_than_the_model_is_right() -> None:
    """Under 75 labels: T falls until the mean confidence reaches the accuracy out of fold, and no further."""
    unsure = np.full((50, 3), 0.25) + np.eye(3)[np.arange(50) % 3] * 0.25
    for accuracy, expected in ((0.4, 0.0), (0.99, -1.0)):
        assert no_surer(unsure, accuracy, -1.0) == pytest.approx(expected)
    found = no_surer(unsure, 0.6, -1.0)
    assert 0.55 < cooled(unsure, np.exp(found)).max(axis=1).mean() <= 0.6
    assert no_surer(unsure, 0.4, 0.3) == no_surer(unsure, 0.9, 0.3) == 0.3


@pytest.mark.parametrize("share", [0.35, 0.6])
def test_an_opinion_that_knows_the_labels_makes_nothing_surer(share: float) -> None:
    """A network that was trained on the labels says each of them, and nothing of other images."""
    dataset = tiny_dataset(90)
    assert dataset.truth is not None
    rng = np.random.default_rng(0)
    labels = labels_of(dataset, 60)
    labels[:60] = np.where(rng.random(60) < 0.3, rng.integers(3, size=60), labels[:60])
    said = np.full((90, 3), 1 / 3, dtype=np.float32)
    said[:60] = np.eye(3)[labels[:60]]
    knows = replace(dataset, opinion=Opinion(said, np.arange(3)))
    found, alone = [], []
    folds = spread(labels[:60], dataset.group[:60], 5, rng)
    for each in (dataset, knows):
        model: Model = registry.create("model", "vote", {"opinion": share})
        prediction = model.fit_predict(each, labels, 3)
        alone.append(without_own_fold(model, each, labels, 3, folds))
        found.append(temperature(model, each, labels, prediction.probabilities))
    np.testing.assert_array_equal(alone[0], alone[1])
    assert found[1] >= 0.95 * found[0]


@pytest.mark.parametrize("value", [0.05, 0.5, 1.0, 3.0])
def test_what_is_shown_is_a_power_of_what_the_model_says(value: float) -> None:
    """The guess's share and the entropy of p^(1/T); zeros and certainty included; at 1 they are the model's own."""
    rng = np.random.default_rng(3)
    probabilities = np.vstack([rng.dirichlet(np.ones(5), 40), np.eye(5)[:2], np.full((1, 5), 0.2)])
    shown = certainty(Prediction(probabilities, temperature=value))
    expected = cooled(probabilities, value)
    np.testing.assert_allclose(shown[:, 0], expected.max(axis=1))
    np.testing.assert_allclose(shown[:, 1], row_entropy(expected), atol=1e-12)
    assert np.array_equal(Prediction(probabilities, temperature=value).guesses, probabilities.argmax(axis=1))
    if value == 1:
        assert np.array_equal(shown[:, 0], probabilities.max(axis=1))


@pytest.mark.parametrize(
    "name", ["label-spreading", "label-propagation", "logistic-regression", "kernel-ridge", "vote"]
)
def test_leaving_labels_out_is_a_fit_without_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a fresh model for each fold; and the next fit is as if nobody had asked. Classes have 18, 6 and 6 labels.

    A vote brings each fold to the masses of the fit on all labels: by factors far from 1, here the same for all.
    """
    dataset = tiny_dataset(90)
    assert dataset.truth is not None
    labels = np.full(90, UNLABELED)
    for code, n in enumerate((18, 6, 6)):
        labels[np.flatnonzero(dataset.truth == code)[:n]] = code
    rows = np.flatnonzero(labels != UNLABELED)
    folds = spread(labels[rows], dataset.group[rows], 5, np.random.default_rng(0))

    monkeypatch.setattr(vote, "evening", lambda *_: np.array([0.6, 1.2, 1.5]))
    model: Model = registry.create("model", name)
    before = model.fit_predict(dataset, labels, 3).probabilities.copy()
    found = without_own_fold(model, dataset, labels, 3, folds)
    fresh = out_of_fold(lambda: registry.create("model", name), dataset, labels, 3, 5, np.random.default_rng(0))
    np.testing.assert_allclose(found, fresh.probabilities, atol=1e-8)
    assert np.array_equal(model.fit_predict(dataset, labels, 3).probabilities, before)
    some = np.where(np.arange(30) < 10, folds, UNLABELED)
    rest = without_own_fold(model, dataset, labels, 3, some)[10:]
    np.testing.assert_array_equal(rest, np.full((20, 3), 1 / 3))


def test_a_graph_model_that_pushes_takes_labels_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its residual is copied: what it says afterwards is the same, bit for bit."""
    model: Model = registry.create("model", "label-spreading")
    model._estimator.push_from = 0  # type: ignore[attr-defined]  # as in a pool of 5,000
    dataset = tiny_dataset(90)
    labels = labels_of(dataset, 30)
    folds = spread(labels[:30], dataset.group[:30], 5, np.random.default_rng(0))
    before = model.fit_predict(dataset, labels, 3).probabilities.copy()
    found = without_own_fold(model, dataset, labels, 3, folds)
    fresh = out_of_fold(
        lambda: registry.create("model", "label-spreading"), dataset, labels, 3, 5, np.random.default_rng(0)
    )
    np.testing.assert_allclose(found, fresh.probabilities, atol=0.05)
    assert np.array_equal(model.fit_predict(dataset, labels, 3).probabilities, before)


def test_a_model_without_that_ability_is_fitted_for_each_fold() -> None:
    """A copy of it is: the model stays as it was."""

    class Plain:
        """Says how many labels it saw."""

        def __init__(self) -> None:
            self.n_fits = 0

        def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
            self.n_fits += 1
            return Prediction(np.full((len(labels), n_classes), (labels != UNLABELED).sum(), dtype=np.float64))

        def predict(self, features: FloatArray) -> FloatArray:
            raise NotImplementedError

    dataset, model = tiny_dataset(30), Plain()
    found = without_own_fold(model, dataset, labels_of(dataset, 10), 3, np.arange(10) % 5)  # type: ignore[arg-type]  # a class of this test's
    assert found.tolist() == [[8.0] * 3] * 10
    assert model.n_fits == 0


def test_the_same_labels_give_the_same_temperature_and_few_give_none() -> None:
    """Bit for bit; under 30 labels it is 1, and so it is when no image is left."""
    dataset = tiny_dataset(90)
    model: Model = registry.create("model", "vote")
    found = []
    for n in (29, 40, 40, 90):
        labels = labels_of(dataset, n)
        prediction = model.fit_predict(dataset, labels, 3)
        found.append(temperature(model, dataset, labels, prediction.probabilities))
    assert found[0] == found[3] == 1.0
    assert found[1] == found[2] != 1.0


def test_the_audit_slice_corrects_what_labels_say() -> None:
    """Images that were drawn at random outweigh the others, the more of them there are."""
    dataset = tiny_dataset(90)
    labels = labels_of(dataset, 29)
    model: Model = registry.create("model", "label-spreading")
    prediction = model.fit_predict(dataset, labels, 3).probabilities
    audit = doubtful(2000, 2, 2.0)
    assert temperature(model, dataset, labels, prediction, audit) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("small_pool", "found_with"), [(0, [30, 36, 44]), (90, [30, 35, 36, 42, 44])])
def test_it_is_found_again_after_a_fifth_more_labels(
    small_pool: int, found_with: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First within a fit, later for the next one; by the number of labels, and not twice for one fit. In a small pool
    each fit finds its own.
    """
    monkeypatch.setattr(calibrating, "SMALL_POOL", small_pool)
    asked: list[int] = []

    def counted(model: Model, dataset: Dataset, labels: IntArray, *_: object) -> float:
        asked.append(int((labels != UNLABELED).sum()))
        return 0.5

    monkeypatch.setattr(fitting, "temperature", counted)
    dataset, calibrator, none = tiny_dataset(90), Calibrator(), np.empty(0, dtype=np.int64)
    model: Model = registry.create("model", "label-spreading")
    for n in (29, 30, 35, 36, 42, 44):
        fitted = Fitted(labels_of(dataset, n), Prediction(np.full((90, 3), 1 / 3)))
        fitted = calibrator.calibrated(model, dataset, fitted, none)
        assert fitted.prediction.temperature == (1.0 if n < 30 else 0.5)
        for _ in range(2):
            calibrator.look_at(model, dataset, fitted, none)
    assert asked == found_with
    assert calibrating.GROWTH == 1.2


class Slow:
    """A model that labeling does not wait for, and that is fitted anew for each fold."""

    asynchronous = True

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        return Prediction(np.full((len(labels), n_classes), 1 / n_classes))

    def predict(self, features: FloatArray) -> FloatArray:
        raise NotImplementedError


def test_the_first_fit_of_a_slow_model_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its temperature is found after the fit, for the next one; and never by a fit of the model before it."""
    asked: list[int] = []

    def counted(model: Model, dataset: Dataset, labels: IntArray, *_: object) -> float:
        asked.append(int((labels != UNLABELED).sum()))
        return 0.5

    monkeypatch.setattr(fitting, "temperature", counted)
    dataset, none, model = tiny_dataset(90), np.empty(0, dtype=np.int64), cast("Model", Slow())

    def fitted(n: int) -> Fitted:
        return Fitted(labels_of(dataset, n), Prediction(np.full((90, 3), 1 / 3)))

    calibrator = Calibrator()
    calibrator.look_at(model, dataset, fitted(40), none)
    assert asked == []
    first = calibrator.calibrated(model, dataset, fitted(41), none)
    assert (first.prediction.temperature, asked) == (1.0, [])
    assert calibrator.is_due(first)
    calibrator.look_at(model, dataset, first, none)
    assert asked == [41]
    assert calibrator.calibrated(model, dataset, fitted(42), none).prediction.temperature == 0.5
    restarted = Calibrator(Temperature())
    restarted.look_at(model, dataset, first, none)
    assert asked == [41, 41]


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temperature from the sixth label on."""
    monkeypatch.setattr(fitting, "LEAST", 6)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize(
    ("model", "parameters"),
    [("label-spreading", {}), ("vote", {}), ("vote", {"shares": "labels"}), ("logistic-regression", {})],
)
def test_a_restart_goes_on_with_the_same_temperature(projects: Path, model: str, parameters: dict[str, str]) -> None:
    """With the prediction's file or without it; and so do the temperatures after that, and the batches."""
    project = labeled(projects / "kept", n_rounds=4, model=model, model_parameters=parameters)
    before = project.learner.prediction
    assert before.temperature != 1
    project._predictions.close()
    shutil.copytree(project.folder, projects / "with")
    shutil.copytree(project.folder, projects / "without", ignore=shutil.ignore_patterns(PREDICTIONS))
    copies = [Project(projects / name) for name in ("with", "without")]
    for again in copies:
        assert again.learner.prediction.temperature == before.temperature == again.learner.history[-1].temperature
        np.testing.assert_array_equal(certainty(again.learner.prediction), certainty(before))
    for _ in range(2):
        assert [next_batch(again) for again in copies] == [next_batch(project)] * 2
        found = [again.learner.history[-1].temperature for again in copies]
        assert found == [project.learner.history[-1].temperature] * 2
    for each in (project, *copies):
        each.close()


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("shares", ["fixed", "labels"])
def test_an_interrupted_run_finds_the_temperatures_of_one_that_was_not(
    projects: Path, monkeypatch: pytest.MonkeyPatch, shares: str
) -> None:
    """In a large pool: a temperature that was due when the app was closed is found by the next start's first fit."""
    monkeypatch.setattr(calibrating, "SMALL_POOL", 0)
    monkeypatch.setattr(calibrating, "GROWTH", 1.0)
    project = labeled(projects / "kept", n_rounds=4, model="vote", model_parameters={"shares": shares})
    project._predictions.close()
    shutil.copytree(project.folder, projects / "with")
    shutil.copytree(project.folder, projects / "without", ignore=shutil.ignore_patterns(PREDICTIONS))
    copies = [Project(projects / name) for name in ("with", "without")]
    for _ in range(2):
        assert [next_batch(again) for again in copies] == [next_batch(project)] * 2
        temperatures = [again.learner.history[-1].temperature for again in copies]
        assert temperatures == [project.learner.history[-1].temperature] * 2
    for each in (project, *copies):
        each.close()


def test_a_vote_leaves_labels_out_whatever_it_was_fitted_on_before() -> None:
    """Its masses are of the labels given, with more classes than the last fit had and after no fit at all."""
    dataset = tiny_dataset(90, n_classes=4)
    labels = labels_of(dataset, 40)
    labels[:12] = 1
    fewer = np.where(labels == 3, UNLABELED, labels)
    folds = spread(labels[:40], dataset.group[:40], 5, np.random.default_rng(0))
    found = []
    for fitted, n_classes in ((labels, 4), (fewer, 3), (fewer, 4), (None, 0)):
        model: Model = registry.create("model", "vote")
        if fitted is not None:
            model.fit_predict(dataset, fitted, n_classes)
        found.append(without_own_fold(model, dataset, labels, 4, folds))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_the_same_images_are_asked_whatever_is_shown(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are chosen by what the model says; cards, suggestions and exports show what is calibrated."""
    plain = labeled(projects / "plain", n_rounds=4)
    monkeypatch.setattr(fitting, "LEAST", 6)
    shown = labeled(projects / "shown", n_rounds=4)
    batches = [[card.image_id for card in each.session("ada").remaining] for each in (plain, shown)]
    assert batches[0] == batches[1]
    assert plain.learner.prediction.temperature == 1 != shown.learner.prediction.temperature
    np.testing.assert_array_equal(plain.learner.prediction.probabilities, shown.learner.prediction.probabilities)
    moment = shown.session("ada").moment()
    suggested = reports.suggestions(moment)
    for card in reports.remaining(moment):
        assert (card.guess, card.probability) == suggested[card.image_id]
    exported = _predicted_rows(shown, shown.class_names, set())
    assert {
        row.image_id: (row.class_name, row.probability) for row in exported if row.image_id in suggested
    } == suggested
    highest = cooled(shown.learner.prediction.probabilities, shown.learner.prediction.temperature).max(axis=1)
    np.testing.assert_allclose([row.probability for row in exported if row.probability is not None], highest)
    plain.close()
    shown.close()


def test_records_of_earlier_versions_have_the_temperature_1(projects: Path) -> None:
    """And no calibration: what they kept was not measured."""
    project = labeled(projects / "kept")
    newest = project.learner.history[-1]
    assert newest.calibration is not None
    kept = {key: value for key, value in vars(newest).items() if key not in ("temperature", "temperature_labels")}
    kept = {key: value for key, value in kept.items() if key not in ("version", "trained_through", "config_version")}
    del kept["calibrations"]
    old = from_record(ModelRecord(1, 2, "dataset", 1, kept))
    assert (old.temperature, old.temperature_labels, old.calibration) == (1.0, 0, None)
    assert replace(old, temperature=newest.temperature, calibrations=newest.calibrations).calibration is not None
    project.close()


def test_doubt_falls_as_accuracy_rises(projects: Path) -> None:
    """On digits from the first labels to a hundred; and what is shown is nearer to the truth."""
    project = labeled(projects / "digits", n_rounds=4, limit=None, batch_size=28)
    found = project.learner.history
    assert found[-1].accuracy is not None
    assert found[0].accuracy is not None
    assert found[-1].accuracy > found[0].accuracy
    first, last = found[0].calibration, found[-1].calibration
    assert found[0].pool_entropy is not None
    assert found[-1].pool_entropy is not None
    assert found[-1].pool_entropy < found[0].pool_entropy
    assert first is not None
    assert last is not None
    assert first.error is not None
    assert last.error is not None
    assert last.error < first.error
    project.close()
