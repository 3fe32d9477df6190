"""Predictions on disk: a restart fits nothing, gives the same bits and the same next batch; a bad file is not read."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import predictions
from annotator.config import Config
from annotator.models.kernel_ridge import KernelRidge
from annotator.models.sparse_graph import _GraphModel
from annotator.predictions import N_KEPT, PredictionFiles
from annotator.project import PREDICTIONS, Project
from annotator.projects import STORE_NAME
from annotator.simulate import answer_batch, oracle_of
from annotator.store import ModelRecord, Store
from annotator.types import Prediction
from tests import storing

CONFIG = Config(
    name="kept", source="digits", source_parameters={"held_out": 50}, limit=120, encoder="pixels", batch_size=6
)
MODELS = ("label-spreading", "vote", "logistic-regression")


def labeled(folder: Path, n_rounds: int = 3, **changes: Any) -> Project:  # Any: fields of Config
    """A project with some rounds of answers and the batch after them."""
    project = Project.create(folder, replace(CONFIG, **changes))
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(n_rounds):
        session.advance()
        answer_batch(session, oracle)
    session.advance()
    return project


def next_batch(project: Project) -> list[tuple[str, float | None]]:
    """Answer the open batch and choose another."""
    session = project.session("ada")
    answer_batch(session, oracle_of(project))
    session.advance()
    return [(card.image_id, card.score) for card in session.remaining]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose `fit_predict` was called."""
    from annotator.models.classifiers import Classifier
    from annotator.models.vote import Vote

    called: list[str] = []
    for kind in (_GraphModel, KernelRidge, Vote, Classifier):

        def counted(self: Any, *given: Any, fit: Any = kind.fit_predict, name: str = kind.__name__) -> Prediction:
            called.append(name)
            return fit(self, *given)

        monkeypatch.setattr(kind, "fit_predict", counted)
    return called


@pytest.mark.parametrize("model", MODELS)
def test_a_restart_fits_nothing_and_goes_on_alike(projects: Path, fits: list[str], model: str) -> None:
    """The same probabilities and evidence bit for bit, and the next batch of one that was never closed."""
    project = labeled(projects / "kept", model=model)
    before = project.learner.prediction
    project._predictions.close()
    shutil.copytree(project.folder, projects / "copy")
    fits.clear()
    again = Project(projects / "copy")
    after = again.learner.prediction
    assert fits == []
    assert after.probabilities.dtype == np.float64
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert (after.evidence is None) == (before.evidence is None)
    if before.evidence is not None and after.evidence is not None:
        np.testing.assert_array_equal(after.evidence, before.evidence)
    assert all(map(np.array_equal, after.members, before.members))
    assert len(after.members) == len(before.members)
    np.testing.assert_array_equal(again.learner.labels, project.learner.labels)
    session = again.session("ada")
    session.advance()
    assert fits == []
    assert next_batch(again) == next_batch(project)
    np.testing.assert_array_equal(again.learner.prediction.probabilities, project.learner.prediction.probabilities)
    project.close()
    again.close()


def test_a_stateful_model_takes_its_steps_again_before_the_next_fit(projects: Path) -> None:
    """The vote's kernel columns stand in the order in which labels came: with a file or without one."""
    project = labeled(projects / "kept", n_rounds=4, model="vote")
    project._predictions.close()
    shutil.copytree(project.folder, projects / "with")
    shutil.copytree(project.folder, projects / "without", ignore=shutil.ignore_patterns(PREDICTIONS))
    batches = []
    for name in ("with", "without"):
        again = Project(projects / name)
        batches.append(next_batch(again))
        again.close()
    assert batches == [next_batch(project)] * 2
    project.close()


def test_the_rehearsal_reads_the_file_and_takes_the_steps(projects: Path) -> None:
    """Nobody waits for them later, and the batch is the same."""
    project = labeled(projects / "kept")
    project._predictions.close()
    shutil.copytree(project.folder, projects / "copy")
    again = Project(projects / "copy")
    again.learner._rehearse()
    assert again.learner.is_ready
    assert not again.learner._is_behind
    assert next_batch(again) == next_batch(project)
    project.close()
    again.close()


def files_of(project: Project) -> list[Path]:
    return sorted((project.folder / PREDICTIONS).iterdir())


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "foreign", "gone"])
def test_a_file_that_is_not_whole_is_not_read(projects: Path, fits: list[str], damage: str) -> None:
    """The model is fitted again, to the same bits; nobody is told."""
    project = labeled(projects / "kept")
    before = project.learner.prediction.probabilities
    project.close()
    newest = files_of(project)[-1]
    content = newest.read_bytes()
    if damage == "gone":
        newest.unlink()
    else:
        changed = bytearray(content)
        changed[-9] ^= 1
        other = labeled(projects / "other", seed=1)
        other.close()
        bad = {
            "flipped": bytes(changed),
            "short": content[:-8],
            "empty": b"",
            "foreign": files_of(other)[-1].read_bytes(),
        }
        newest.write_bytes(bad[damage])
    fits.clear()
    again = Project(project.folder)
    np.testing.assert_array_equal(again.learner.prediction.probabilities, before)
    assert fits
    again.close()


def test_a_file_of_another_seq_or_dataset_is_not_read(projects: Path) -> None:
    """The hash alone does not make it this model's prediction."""
    project = labeled(projects / "kept")
    project.close()
    record = storing.models(project.store)[-1]
    assert project._predictions.load(record) is not None
    for changes in ({"trained_through": 1}, {"dataset_version": "other"}, {"config_version": 9}, {"sha256": None}):
        assert project._predictions.load(replace(record, **changes)) is None
    project.store.close()


def test_the_newest_few_are_kept_and_the_store_says_which(projects: Path) -> None:
    """A model's status is "kept" while its prediction is a file."""
    project = labeled(projects / "kept", n_rounds=1)
    session, oracle = project.session("ada"), oracle_of(project)
    for _ in range(N_KEPT + 2):
        answer_batch(session, oracle)
        session.advance()
        wait_for_files(project._predictions)
    versions = [int(path.name[:6]) for path in files_of(project)]
    assert len(versions) == N_KEPT
    assert versions[-1] == project.learner.version
    project.close()
    with closing(sqlite3.connect(project.folder / STORE_NAME)) as store:
        kept = store.execute("SELECT version FROM models WHERE status = 'kept' ORDER BY version").fetchall()
    assert [version for (version,) in kept] == versions


def test_a_round_waits_for_no_file_and_only_the_newest_is_written(
    projects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is written the others wait in one place; what nobody wrote is no loss."""
    gate, written = threading.Event(), []

    def slow(self: PredictionFiles, record: ModelRecord, *_: Any) -> None:
        written.append(record.version)
        assert gate.wait(timeout=30)

    monkeypatch.setattr(PredictionFiles, "_write", slow)
    project = labeled(projects / "kept", n_rounds=4)
    gate.set()
    project.close()
    assert written[-1] == 4
    assert len(written) <= 2


def test_files_are_written_while_rounds_pause(projects: Path) -> None:
    """A file that took long waits until no newer prediction has come for a while; closing waits for nothing."""
    folder = projects / "f"
    folder.mkdir(parents=True)
    store = Store.create(projects / "s" / "project.sqlite", "s", 0)
    files = PredictionFiles(folder, store)
    files._took = 60.0
    for version in range(1, 4):
        files.keep(ModelRecord(version, version, "d", 1, {}), Prediction(np.full((5, 2), 0.5)))
    assert files._thread is not None
    files._thread.join(timeout=0.2)
    assert not list(folder.iterdir())
    files.close()
    assert [int(path.name[:6]) for path in folder.iterdir()] == [3]
    store.close()


def test_what_cannot_be_written_stops_nobody(projects: Path) -> None:
    """Without a place there is no file, and labeling goes on."""
    project = labeled(projects / "kept", n_rounds=0)
    (project.folder / PREDICTIONS).write_text("in the way")
    assert len(next_batch(project)) == CONFIG.batch_size
    project.close()
    assert storing.models(project.store)[-1].sha256 is None
    project.store.close()


@pytest.mark.parametrize("error", [MemoryError(), OSError("no room")])
def test_after_a_file_that_could_not_be_written_the_next_one_is(
    projects: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """P1: the thread goes on; against the last file any row may have changed by then."""
    projects.mkdir(parents=True, exist_ok=True)
    store = Store.create(projects / "s" / "project.sqlite", "s", 0)
    files, pieces, failing = PredictionFiles(projects, store), predictions._pieces, [2]

    def failed(header: dict[str, Any], arrays: Any) -> Any:
        if header["of"]["version"] in failing:
            raise error
        return pieces(header, arrays)

    monkeypatch.setattr(predictions, "_pieces", failed)
    for version, changed in enumerate((None, np.array([1]), np.array([3])), start=1):
        files.keep(ModelRecord(version, version, "d", 1, {}), Prediction(np.full((5, 2), 0.5), changed=changed))
        wait_for_files(files)
    headers = {path.name[:6]: predictions._read(path.read_bytes())[0] for path in projects.glob("*.prediction")}
    assert {version: header["since"] for version, header in headers.items()} == {"000001": None, "000003": None}
    files.close()
    store.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_foresaw_ends_one_file_only(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: the next prediction is kept, by another thread."""
    projects.mkdir(parents=True, exist_ok=True)
    store = Store.create(projects / "s" / "project.sqlite", "s", 0)
    files = PredictionFiles(projects, store)
    with monkeypatch.context() as patched:
        patched.setattr(predictions, "_pieces", lambda *_: 1 / 0)
        files.keep(ModelRecord(1, 1, "d", 1, {}), Prediction(np.full((5, 2), 0.5)))
        wait_for_files(files)
    files.keep(ModelRecord(2, 2, "d", 1, {}), Prediction(np.full((5, 2), 0.5)))
    wait_for_files(files)
    assert [path.name[:6] for path in projects.glob("*.prediction")] == ["000002"]
    store.close()


def wait_for_files(files: PredictionFiles) -> None:
    thread = files._thread
    if thread is not None:
        thread.join(timeout=30)


def test_changed_rows_stand_in_the_file(projects: Path) -> None:
    """Against the file before it: where nothing is named any row may differ."""
    folder = projects / "f"
    folder.mkdir(parents=True)
    store = Store.create(projects / "s" / "project.sqlite", "s", 0)
    files = PredictionFiles(folder, store)
    for version, changed in enumerate((None, np.array([1, 3])), start=1):
        files.keep(ModelRecord(version, version, "d", 1, {}), Prediction(np.full((5, 2), 0.5), changed=changed))
        wait_for_files(files)
    headers = [predictions._read(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert [header["since"] for header, _ in headers] == [None, 1]
    np.testing.assert_array_equal(headers[1][1]["changed"], [1, 3])
    store.close()
