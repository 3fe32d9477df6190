"""The learner with a slow model: labeling never waits, a failed fit changes nothing, a restart finds its way back."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotator import registry
from annotator.config import Config
from annotator.errors import ModelError
from annotator.learner import Learner
from annotator.models.sparse_graph import SparseLabelSpreading
from annotator.models.vote import Vote
from annotator.project import PREDICTIONS, Project
from annotator.simulate import answer_batch, oracle_of
from annotator.types import Dataset, IntArray, Prediction
from tests import storing

CONFIG = Config(
    name="slow", source="digits", source_parameters={"held_out": 50}, limit=120, encoder="pixels", batch_size=6
)


class Slow(SparseLabelSpreading):
    """Label spreading that waits for a gate, or fails on request."""

    asynchronous = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.fails = False

    def fit_predict(self, dataset: Dataset, labels: IntArray, n_classes: int) -> Prediction:
        assert self.gate.wait(timeout=30)
        if self.fails:
            raise ModelError("It failed as asked. Try again.")
        return super().fit_predict(dataset, labels, n_classes)


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "slow", CONFIG)
    yield opened
    opened.close()


@pytest.fixture
def slow(project: Project) -> Slow:
    model = Slow()
    project.learner.use(model, project.config_version)
    return model


def finish(project: Project) -> None:
    """Wait for the fit in the background."""
    thread = project.learner._thread
    assert thread is not None
    thread.join(timeout=30)
    assert not project.learner.is_learning


def without_files(project: Project) -> None:
    """As a project that was killed before its predictions were written."""
    project._predictions.close()
    shutil.rmtree(project.folder / PREDICTIONS, ignore_errors=True)


def test_labeling_goes_on_while_a_slow_model_learns(project: Project, slow: Slow) -> None:
    """Batch after batch is asked without a fit; once one is there, the next batch is picked by it."""
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(3):
        session.advance(wait=False)
        assert [card.strategy for card in session.remaining] == ["typical"] * 6
        answer_batch(session, oracle)
    assert project.learner.is_learning
    slow.gate.set()
    finish(project)
    slow.gate.clear()
    session.advance(wait=False)
    assert session.remaining[0].model_version == 1
    assert session.remaining[0].strategy == "entropy"
    slow.gate.set()
    finish(project)


def test_labeling_goes_on_while_a_member_of_a_vote_learns(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: a vote with one slow member is as slow, and nobody waits for it."""
    slow = Slow()
    monkeypatch.setitem(registry.BUILT_IN["model"], "slow", f"{__name__}:Slow")
    monkeypatch.setattr(Slow, "__new__", lambda cls: slow)
    monkeypatch.setattr(Slow, "__init__", lambda self: None)
    project.learner.use(Vote(classifier="slow"), project.config_version)
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(2):
        session.advance(wait=False)
        answer_batch(session, oracle)
    session.advance(wait=False)
    assert session.remaining
    assert project.learner.is_learning
    slow.gate.set()
    finish(project)
    assert project.learner.version == 1


def test_a_vote_after_a_restart_is_the_one_from_before(projects: Path) -> None:
    """R6: members that go on from their last answer take every step again; the same bits."""
    config = replace(CONFIG, name="vote", model="vote")
    first = Project.create(projects / "vote", config)
    session, oracle = first.session("ada"), oracle_of(first)
    for _ in range(4):
        session.advance()
        answer_batch(session, oracle)
    session.advance()
    without_files(first)
    again = Project(first.folder)
    np.testing.assert_array_equal(again.learner.prediction.probabilities, first.learner.prediction.probabilities)
    first.close()
    again.close()


def test_a_batch_is_chosen_by_one_fit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: a fit that ends while a batch is chosen counts as a whole for it, or not at all."""
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle)
    was_read = Learner.version.fget
    assert was_read is not None

    def fitted_meanwhile(learner: Learner) -> int | None:
        learner._learn(None)
        return was_read(learner)

    monkeypatch.setattr(Learner, "version", property(fitted_meanwhile))
    situation = session._situation(project.store.snapshot())
    point = project.learner.history[(situation.model_version or 0) - 1]
    assert situation.labels is not None
    assert (situation.labels != -1).sum() == point.n_labeled
    assert situation.trained_through == point.trained_through


def test_two_processes_give_their_models_different_numbers(projects: Path) -> None:
    """R2: what a question says of its model is what the store has recorded under that version."""
    first = Project.create(projects / "two", replace(CONFIG, name="two"))
    second = Project(first.folder)
    ada, oracle = first.session("ada"), oracle_of(first)
    ada.advance()
    answer_batch(ada, oracle)
    ada.advance()
    answer_batch(ada, oracle)
    bob = second.session("bob")
    bob.advance()
    for project, session in ((first, ada), (second, bob)):
        session.advance()
        asked = storing.open_questions(project.store, session.annotator.annotator_id)[0]
        recorded = {record.version: record.trained_through for record in storing.models(project.store)}
        assert recorded[asked.model_version or 0] == asked.chosen_at_seq == project.learner.newest.trained_through
    assert len(recorded) == 2
    first.close()
    second.close()


def test_the_card_says_how_old_its_guess_is(project: Project, slow: Slow) -> None:
    """A batch picked by a model that has not seen the last labels counts them."""
    session, oracle = project.session("ada"), oracle_of(project)
    slow.gate.set()
    session.advance()
    answer_batch(session, oracle)
    session.advance()
    answer_batch(session, oracle)
    slow.gate.clear()
    session.advance(wait=False)
    assert session.remaining[0].model_version == 1
    assert session.remaining[0].labels_ago == 6
    slow.gate.set()
    finish(project)


def test_a_fit_that_fails_leaves_the_last_model_standing(project: Project, slow: Slow) -> None:
    """The failure can be read, labels are kept, and trying again works."""
    session, oracle = project.session("ada"), oracle_of(project)
    slow.gate.set()
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle)
    before = project.learner.prediction
    slow.fails = True
    session.advance(wait=False)
    finish(project)
    assert project.learner.failure is not None
    assert project.learner.prediction is before
    assert len(session.labels) == 12
    slow.fails = False
    project.learner.learn(wait=False)
    finish(project)
    assert project.learner.failure is None
    assert project.learner.history[-1].n_labeled == 12


def test_after_a_restart_without_its_file_the_last_fit_is_made_again(project: Project, slow: Slow) -> None:
    """Until then typical images are asked; afterwards the prediction is the one from before."""
    session, oracle = project.session("ada"), oracle_of(project)
    slow.gate.set()
    for _ in range(3):
        session.advance()
        answer_batch(session, oracle)
    session.advance()
    before = project.learner.prediction.probabilities
    without_files(project)
    again = Project(project.folder)
    reborn = Slow()
    again.learner.use(reborn, again.config_version)
    assert not again.learner.is_ready
    again.learner.learn(wait=False)
    assert not again.learner.is_ready
    reborn.gate.set()
    finish(again)
    np.testing.assert_array_equal(again.learner.prediction.probabilities, before)
    assert len(again.learner.history) == len(project.learner.history)
    again.close()


def test_all_labels_taken_back_leaves_a_model_that_knows_nothing(projects: Path) -> None:
    """After undoing everything the guesses are even again, and typical images are asked."""
    tiny = Project.create(projects / "tiny", replace(CONFIG, batch_size=3))
    session, oracle = tiny.session("ada"), oracle_of(tiny)
    session.advance()
    answer_batch(session, oracle)
    session.advance()
    for _ in range(3):
        session.undo()
    for card in session.remaining:
        session.skip(card.image_id)
    session.advance()
    assert (tiny.learner.prediction.probabilities == 0.1).all()
    assert {card.strategy for card in session.remaining} == {"typical"}
    tiny.close()


class Uncopied(np.ndarray):  # type: ignore[type-arg]  # any array of the dataset
    """An array too large to be copied."""

    def __deepcopy__(self, memo: dict[int, object]) -> Uncopied:
        raise AssertionError("The dataset was copied into memory.")


def test_a_restart_after_another_config_copies_no_dataset(project: Project) -> None:
    """R5: with a test set the model holds the dataset before it is fitted again; its arrays stay on the disk."""
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle)
    session.advance()
    project.change(model_parameters={"alpha": 0.5})
    without_files(project)
    again = Project(project.folder)
    learner, dataset = again.learner, again.learner.dataset
    assert dataset.held_out is not None
    held_out = replace(dataset.held_out, features=dataset.held_out.features.view(Uncopied))
    uncopied = replace(
        dataset, features=dataset.features.view(Uncopied), images=dataset.images.view(Uncopied), held_out=held_out
    )
    learner.use(learner._model, again.config_version, (uncopied, again.prepared.class_names))
    learner._rehearse()
    assert learner.is_ready
    assert learner.prediction.probabilities.shape == (120, 10)
    again.close()
