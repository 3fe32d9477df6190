"""Better features, tried beside the labeling or between two rounds: judged, swapped in, kept, resumed, told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotator import candidates, improvements
from annotator.config import Config
from annotator.exclusive import Exclusive
from annotator.improvements import Attempt, Improvement, Improving, Task, Trials
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of, play
from annotator.types import silent
from annotator.workspace import Workspace

CONFIG = Config(
    name="ones",
    source="digits",
    limit=110,
    encoder="auto",
    encoder_parameters={"choice": "pixels"},
    batch_size=4,
    rounds=2,
)
BETTER: dict[str, Any] = {"encoder": "auto", "encoder_parameters": {"choice": "hog"}}
SECONDS = 60.0
TARGETS = """
import os, pathlib, signal, time

def judge(arguments, report):
    pathlib.Path(arguments["seen"]).open("a").write("x")
    while pathlib.Path(arguments["wait"]).exists():
        report("Waiting", 1, 2)
        time.sleep(0.02)
    if arguments["kill"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"changes": arguments["changes"], "said": "82 -> 86 % of 72 labels right."}
"""


class Bench:
    """An improvement whose outcome a test decides."""

    def __init__(self, folder: Path) -> None:
        (folder / "improvement_targets.py").write_text(TARGETS)
        self.seen, self.waits = folder / "seen", folder / "wait"
        self.is_due = True
        self.arguments = {"seen": str(self.seen), "wait": str(self.waits), "kill": False, "changes": BETTER}

    def due(self, project: Project, through: int) -> dict[str, object] | None:
        """Of this test's projects: what an earlier test has opened looks a moment after its first page."""
        return self.arguments if self.is_due and self.seen.parents[1] in project.folder.parents else None

    def improvement(self, name: str) -> Improvement:
        return Improvement(name, "improvement_targets:judge", self.due, lambda project: self.is_due)

    @property
    def n_runs(self) -> int:
        return len(self.seen.read_text()) if self.seen.exists() else 0


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    folder = tmp_path / "targets"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    made = Bench(folder)
    monkeypatch.setattr(improvements, "IMPROVEMENTS", (made.improvement("hog"),))
    yield made
    made.is_due = False
    made.waits.unlink(missing_ok=True)


@pytest.fixture
def workspace(projects: Path) -> Iterator[Workspace]:
    opened = Workspace(projects)
    yield opened
    opened.close()


@pytest.fixture
def project(workspace: Workspace) -> Project:
    Project.create(workspace.folder / "ones", CONFIG).close()
    return workspace.open("ones")


def waits_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def labels_a_batch(workspace: Workspace, project: Project) -> None:
    session = project.session("you")
    workspace.look_ahead(project).advance(session)
    answer_batch(session, oracle_of(project))


def begins(project: Project) -> Task:
    """What an earlier process began and did not end."""
    improving = Improving(project)
    task = improving.due()
    assert task is not None
    improving.begin(task)
    return task


def tried(project: Project) -> Attempt:
    waits_for(lambda: "hog" in Trials.read(project.folder).tried)
    return Trials.read(project.folder).tried["hog"]


def test_what_is_better_takes_over_though_no_tab_looks(workspace: Workspace, project: Project, bench: Bench) -> None:
    """Begun when a batch was chosen, in use between two; labels stay; what was found is kept over a restart."""
    labels_a_batch(workspace, project)
    labels = project.session("you").labels
    assert tried(project).is_applied
    assert (project.config.features, len(labels)) == ("hog", 4)
    assert project.session("you").labels == labels
    assert workspace.improvements.trials(project).message == "82 -> 86 % of 72 labels right."
    reopened = Project(project.folder)
    assert reopened.config.features == "hog"
    assert Trials.read(reopened.folder).message == "82 -> 86 % of 72 labels right."
    reopened.close()
    assert bench.n_runs


def test_what_is_not_better_changes_nothing(workspace: Workspace, project: Project, bench: Bench) -> None:
    """It is said, and not tried again before there are half as many labels again."""
    bench.arguments["changes"] = None
    version = project.config_version
    bench.is_due = False
    labels_a_batch(workspace, project)
    bench.is_due = True
    workspace.improvements.look(project)
    attempt = tried(project)
    assert (attempt.is_applied, attempt.n_labels, attempt.message) == (False, 4, "82 -> 86 % of 72 labels right.")
    assert (project.config_version, project.config.features) == (version, "pixels")
    assert Improving(project).due() is None
    Trials(None, {"hog": Attempt(2, "", is_applied=False)}).write(project.folder)
    assert Improving(project).due() is not None


def test_the_next_one_begins_when_the_last_is_over(
    workspace: Workspace, project: Project, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch has to be chosen meanwhile; one that could not be noted is not begun for ever."""
    first, second = map(bench.improvement, ("other", "hog"))
    monkeypatch.setattr(improvements, "IMPROVEMENTS", ())
    labels_a_batch(workspace, project)
    monkeypatch.setattr(improvements, "IMPROVEMENTS", (first, second))
    workspace.improvements.look(project)
    assert tried(project).is_applied
    assert list(Trials.read(project.folder).tried) == ["other", "hog"]
    monkeypatch.setattr(Trials, "write", lambda *_: None)
    monkeypatch.setattr(improvements, "IMPROVEMENTS", (bench.improvement("third"),))
    workspace.improvements.look(project)
    waits_for(lambda: bench.n_runs == 3 and workspace.swaps.running(project) is None)
    time.sleep(0.2)
    assert workspace.swaps.running(project) is None
    assert bench.n_runs == 3


def test_one_at_a_time(workspace: Workspace, project: Project, bench: Bench) -> None:
    """While one is tried no other begins; an encoder that a person asks for takes its place, and nothing is said."""
    bench.waits.touch()
    labels_a_batch(workspace, project)
    waits_for(lambda: bench.n_runs)
    workspace.improvements.look(project)
    time.sleep(0.1)
    trial = workspace.swaps.running(project)
    assert trial is not None
    assert trial.work.is_trial
    assert bench.n_runs == 1
    bench.is_due = False
    workspace.swaps.start(project, {"encoder": "hog", "encoder_parameters": {}})
    assert trial.over.wait(SECONDS)
    waits_for(lambda: project.config.encoder == "hog")
    assert (trial.is_applied, dict(Trials.read(project.folder).tried)) == (False, {})


def test_a_trial_can_be_cancelled(workspace: Workspace, project: Project, bench: Bench) -> None:
    """The features in use stay."""
    bench.waits.touch()
    labels_a_batch(workspace, project)
    waits_for(lambda: workspace.swaps.running(project))
    trial = workspace.swaps.running(project)
    assert trial is not None
    trial.job.cancel()
    assert tried(project).message == "Trying hog was cancelled; the features of pixels are used."
    assert project.config.features == "pixels"


def test_a_killed_trial_says_why_and_costs_no_label(workspace: Workspace, project: Project, bench: Bench) -> None:
    """As where the machine runs out of memory."""
    bench.arguments["kill"] = True
    labels_a_batch(workspace, project)
    message = tried(project).message
    assert message.startswith("Trying hog failed; the features of pixels are used. ")
    assert "was killed, most likely because the machine ran out of memory" in message
    assert (project.config.features, len(project.session("you").labels)) == ("pixels", 4)


def test_a_restart_goes_on_with_what_was_begun(workspace: Workspace, project: Project, bench: Bench) -> None:
    """By the labels that it was begun with, so that a training finds what it has learned."""
    task = begins(project)
    answered = project.session("you")
    answered.advance()
    answer_batch(answered, oracle_of(project))
    resumed = Improving(project).left_unfinished()
    assert resumed == task
    other = Workspace(workspace.folder)
    again = other.open("ones")
    other.improvements.resume(again)
    assert tried(again).is_applied
    assert again.config.features == "hog"
    other.close()


def test_what_was_begun_with_other_features_is_not_taken_up(project: Project, bench: Bench) -> None:
    """A person may have changed the encoder meanwhile."""
    task = begins(project)
    assert Improving(project).left_unfinished() == task
    project.change(**BETTER)
    assert Improving(project).left_unfinished() is None


def test_a_damaged_file_counts_as_none(project: Project) -> None:
    """What was tried is then tried again."""
    for content in (
        "",
        "[]",
        "{}",
        '{"begun": null}',
        '{"begun": 3, "tried": {}}',
        json.dumps({"begun": None, "tried": {"hog": {"a": 1}}}),
    ):
        (project.folder / improvements.NAME).write_text(content)
        assert Trials.read(project.folder) == Trials()


def test_an_oracle_plays_with_improvements_between_two_rounds(projects: Path, bench: Bench) -> None:
    """The same rule and the same job, waited for."""
    project = Project.create(projects / "played", replace(CONFIG, rounds=3))
    rows = list(play(project))
    assert [row["n_labeled"] for row in rows] == [0, 4, 8, 12]
    assert project.config.features == "hog"
    assert bench.n_runs == 2  # after 4 labels, and after 8, which are half as many again; not after the last round
    project.close()


def test_a_failed_one_is_noted_and_the_oracle_plays_on(projects: Path, bench: Bench) -> None:
    """As beside the labeling."""
    bench.arguments["kill"] = True
    project = Project.create(projects / "played", CONFIG)
    assert [row["n_labeled"] for row in play(project)] == [0, 4, 8]
    assert Trials.read(project.folder).message.startswith("Trying hog failed; the features of pixels are used. ")
    project.close()


def test_an_oracle_tries_once_though_nothing_can_be_noted(
    projects: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried is known to the open project; its file is a copy."""
    monkeypatch.setattr(Trials, "write", lambda *_: None)
    project = Project.create(projects / "played", replace(CONFIG, rounds=3))
    list(play(project))
    assert bench.n_runs == 2
    project.close()


def test_all_that_are_due_are_tried_though_one_fails(
    workspace: Workspace, project: Project, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One behind the other, without another batch."""
    bench.arguments["kill"] = True
    monkeypatch.setattr(improvements, "IMPROVEMENTS", tuple(map(bench.improvement, ("one", "two", "hog"))))
    workspace.improvements.look(project)
    tried(project)
    assert list(Trials.read(project.folder).tried) == ["one", "two", "hog"]


def test_a_project_that_was_copied_runs_nothing_of_the_first(project: Project, bench: Bench) -> None:
    """The file names what was begun; target and arguments are those of this program and this folder."""
    begins(project)
    kept = json.loads((project.folder / improvements.NAME).read_text())
    assert set(kept["begun"]) == {"name", "n_labels", "seq", "dataset"}
    assert str(project.folder) not in json.dumps(kept)
    kept["begun"]["name"] = "os:system"
    (project.folder / improvements.NAME).write_text(json.dumps(kept))
    assert Improving(project).left_unfinished() is None


def test_one_process_tries_at_a_time(workspace: Workspace, project: Project, bench: Bench) -> None:
    """The other does nothing, and goes on when the right is free; what the first has tried counts there too."""
    right = Exclusive(project.folder / improvements.LOCK)
    assert right.acquire()
    workspace.improvements.look(project)
    workspace.improvements.resume(project)
    time.sleep(0.3)
    assert workspace.swaps.running(project) is None
    assert bench.n_runs == 0
    right.release()
    workspace.improvements.look(project)
    assert tried(project).is_applied
    waits_for(lambda: workspace.swaps.running(project) is None)
    other = Improving(project)
    right = other.right_to_try()
    waits_for(right.acquire)
    assert other.due() is None
    right.release()


def test_what_breaks_in_a_plug_in_is_said(
    workspace: Workspace, project: Project, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread dies of it, and what is due behind it is looked at with the next batch."""

    def broken(project: Project, through: int) -> None:
        raise ZeroDivisionError("never divide")

    monkeypatch.setattr(improvements, "IMPROVEMENTS", (replace(bench.improvement("hog"), arguments=broken),))
    Trials(improvements.Begun("hog", 1, 1, project.prepared.dataset.version)).write(project.folder)
    workspace.improvements.resume(project)
    assert "never divide" in project.notice
    project.set_notice("")
    workspace.improvements.look(project)
    waits_for(lambda: "never divide" in project.notice)
    assert project.config.features == "pixels"
    monkeypatch.setattr(improvements, "IMPROVEMENTS", (bench.improvement("hog"),))
    workspace.improvements.look(project)
    assert tried(project).is_applied


def test_what_came_of_a_trial_is_told_while_its_features_are_in_use(project: Project, bench: Bench) -> None:
    """Not when a person has chosen others since."""
    improving = Improving(project)
    task = improving.due()
    assert task is not None
    project.change(**BETTER)
    improving.end(task, "The features of hog took over.", is_applied=True)
    assert improving.trials.message_on(project.prepared.dataset.version) == "The features of hog took over."
    project.change(encoder="pixels", encoder_parameters={})
    assert improving.trials.message_on(project.prepared.dataset.version) == ""


def test_nothing_is_waited_for_where_nothing_can_become_due(project: Project) -> None:
    """With a model that hears no opinion, and hog tried beside what is in use, or a pool too small for it."""
    assert Improving(project).may_begin  # hog beside pixels
    project.change(encoder_parameters={"choice": "hog+pixels"})
    assert not Improving(project).may_begin
    project.change(model="vote")
    assert Improving(project).may_begin
    project.change(encoder="hog", encoder_parameters={})
    assert not Improving(project).may_begin


# ---- candidates


def labeled(projects: Path, n: int, **changes: object) -> Project:
    values = {**vars(CONFIG), "initial": str(n), "model": "logistic-regression", **changes}
    return Project.create(projects / f"labeled-{n}", Config(**values))


def test_a_candidate_is_due_when_there_are_labels_to_judge_by(projects: Path) -> None:
    """60 of them; where a person chose the encoder, never; nor on a pool that is too small for it."""
    project = labeled(projects, 60)
    arguments = candidates.to_judge("hog", project)
    assert arguments is not None
    assert (arguments["title"], len(arguments["labels"][0])) == ("hog+pixels", 60)
    assert candidates.to_judge("contrastive", project) is None
    project.change(encoder="hog", encoder_parameters={})
    assert candidates.to_judge("hog", project) is None
    project.close()
    few = labeled(projects, 59)
    assert candidates.to_judge("hog", few) is None
    few.close()


def test_what_learns_from_the_pool_is_begun_before_there_are_labels(projects: Path) -> None:
    """On a pool that is large enough: it is there then when it can be judged."""
    project = labeled(projects, 0, limit=1000, model="label-spreading")
    arguments = candidates.to_prepare("contrastive", project)
    assert arguments is not None
    assert arguments["changes"]["encoder_parameters"] == {"choice": "contrastive+pixels"}
    improving = Improving(project)
    task = improving.due()
    assert task is not None
    assert (task.target, task.title) == (candidates.PREPARE, "contrastive+pixels")
    improving.end(task, "", is_applied=False)
    assert improving.due() is None
    project.close()


def test_a_candidate_is_judged_by_labels_kept_from_it(projects: Path) -> None:
    """The verdict is the same for the same labels; the better features are named with figures, or the others are."""
    project = labeled(projects, 90)
    arguments = candidates.to_judge("hog", project)
    assert arguments is not None
    found = candidates.judge_job(arguments, silent)
    assert found == candidates.judge_job(arguments, silent)
    assert found["said"].endswith("of 90 labels right.")
    took_over = found["changes"] == {"encoder": "auto", "encoder_parameters": {"choice": "hog+pixels"}}
    assert took_over == ("took over" in found["said"])
    project.close()


def test_audit_answers_are_judged_too(projects: Path) -> None:
    """They teach no model, and count here as labels that it has not seen."""
    project = labeled(projects, 70, audit_share=0.3)
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    arguments = candidates.to_judge("hog", project)
    assert arguments is not None
    n_audit = len(arguments["audit"][0])
    assert n_audit > 0
    assert len(arguments["labels"][0]) + n_audit == 74
    assert candidates.judge_job(arguments, silent)["said"].endswith("of 74 labels right.")
    project.close()
