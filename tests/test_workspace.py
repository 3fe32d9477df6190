"""What one process holds open, without any browser: swaps that nobody watches, one object a project, a list by time."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from annotator.config import Config
from annotator.errors import ConfigError, JobError, ModelError
from annotator.jobs import Job
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.projects import Summary, folder_names
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Store
from annotator.workspace import KeptFolder, LookAhead, Workspace, workspace_of
from annotator.workspace import listing as listing_module
from annotator.workspace.looking import Looking
from tests import storing

CONFIG = Config(name="ones", source="digits", limit=80, encoder="pixels", batch_size=4)
SECONDS = 60.0
HOG = {"encoder": "hog", "encoder_parameters": {}}


@pytest.fixture
def workspace(projects: Path) -> Iterator[Workspace]:
    opened = Workspace(projects)
    yield opened
    opened.close()


@pytest.fixture
def project(workspace: Workspace) -> Project:
    return workspace.open(workspace.create(CONFIG))


def stored_encoder(project: Project) -> str:
    """As whoever opens the project next will find it."""
    store = Store(project.folder / "project.sqlite")
    _, config = storing.config(store)
    store.close()
    return str(config["encoder"])


def waits(workspace: Workspace, project: Project) -> None:
    swap = workspace.swaps.newest(project)
    assert swap is not None
    assert swap.over.wait(SECONDS)


# ---- encoders


def test_a_computed_encoder_is_swapped_in_though_no_tab_looks(workspace: Workspace, project: Project) -> None:
    """When the job ends, between two batches: the next one is asked with it, a restart too; its folder goes."""
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    workspace.swaps.start(project, HOG)
    assert project.wanted == HOG
    waits(workspace, project)
    swap = workspace.swaps.newest(project)
    assert swap is not None
    assert swap.is_applied
    assert workspace.swaps.running(project) is None
    assert (project.config.encoder, stored_encoder(project)) == ("hog", "hog")
    assert (project.wanted, project.notice) == ({}, "")
    project.session("you").advance()
    assert {question.config_version for question in storing.questions(project.store) if question.round == 2} == {2}
    assert not swap.job.folder.exists()


def test_a_copied_project_is_a_project_of_its_own(workspace: Workspace, project: Project) -> None:
    """It has the id of the one it was copied from; look-ahead and encoders on their way are kept apart all the same."""
    copied = workspace.open(shutil.copytree(project.folder, project.folder.with_name("copied")).name)
    assert copied.store.project_id == project.store.project_id
    workspace.look_ahead(project)
    workspace.look_ahead(copied).run(copied.session("you"))
    assert len(copied.session("you").remaining) == CONFIG.batch_size
    assert project.session("you").remaining == []
    workspace.swaps.start(project, HOG)
    assert workspace.swaps.newest(copied) is None
    waits(workspace, project)


def test_no_batch_is_chosen_while_an_encoder_is_swapped_in(workspace: Workspace, project: Project) -> None:
    """The swap waits for the batch that is being chosen."""
    with workspace.look_ahead(project).paused():
        workspace.swaps.start(project, HOG)
        swap = workspace.swaps.newest(project)
        assert swap is not None
        deadline = time.monotonic() + SECONDS
        while swap.job.status == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not swap.over.wait(0.3)
        assert project.config.encoder == "pixels"
    waits(workspace, project)
    assert project.config.encoder == "hog"


def test_a_batch_that_waited_for_a_swap_is_asked_with_it(workspace: Workspace, project: Project) -> None:
    """Its session was made before: the batch is of the configuration that holds when it is chosen."""
    before, offered = project.session("you"), threading.Event()
    with workspace.look_ahead(project).paused():
        workspace.look_ahead(project).start(before, offered.set)
        project.change(**HOG)
    assert offered.wait(SECONDS)
    assert {question.config_version for question in storing.questions(project.store)} == {2}


def test_a_setting_changed_meanwhile_stays_changed(workspace: Workspace, project: Project) -> None:
    """A swap changes the encoder alone."""
    workspace.swaps.start(project, HOG)
    project.change(batch_size=7)
    waits(workspace, project)
    assert (project.config.encoder, project.config.batch_size) == ("hog", 7)


def test_a_failed_swap_is_noted_on_the_project(
    workspace: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens it next reads what happened and what to do; nothing is on its way any more."""

    def failing(self: Job, *_: object, **__: object) -> None:
        self._ended.wait()
        raise JobError("The disk was full. Free some space.", "JOB_NO_ROOM")

    monkeypatch.setattr(Job, "wait", failing)
    workspace.swaps.start(project, HOG)
    waits(workspace, project)
    assert project.config.encoder == "pixels"
    said = (
        "Computing the features of hog failed; those of pixels are used. Settings starts it again. "
        "The disk was full. Free some space."
    )
    assert (project.notice, project.wanted) == (said, {})
    reopened = Project(project.folder)
    assert (reopened.notice, reopened.wanted) == (said, {})
    reopened.close()


def test_a_cancelled_swap_is_noted_too(workspace: Workspace, project: Project) -> None:
    """By whoever it was cancelled."""
    workspace.swaps.start(project, HOG)
    swap = workspace.swaps.running(project)
    assert swap is not None
    swap.job.cancel()
    waits(workspace, project)
    if not swap.is_applied:  # it may have been through just before
        assert "was cancelled; those of pixels are used" in project.notice


def test_the_newest_swap_counts(workspace: Workspace, project: Project) -> None:
    """One that another took the place of neither changes the project nor says anything on it."""
    workspace.swaps.start(project, {"encoder": "hog", "encoder_parameters": {}})
    first = workspace.swaps.newest(project)
    workspace.swaps.start(project, {"encoder": "pixels", "encoder_parameters": {}})
    assert first is not None
    assert first.over.wait(SECONDS)
    assert not first.is_applied
    waits(workspace, project)
    assert project.config.encoder == "pixels"
    assert project.notice == ""


def test_an_encoder_that_the_pool_is_too_small_for_is_refused_at_once(workspace: Workspace, project: Project) -> None:
    """Before anything is started."""
    with pytest.raises(ModelError, match="too small"):
        workspace.swaps.start(project, {"encoder": "autoencoder", "encoder_parameters": {}})
    assert workspace.swaps.newest(project) is None


def test_a_swap_that_a_dead_process_began_is_taken_up_again(workspace: Workspace) -> None:
    """A moment after the project was opened."""
    created = Project.create(workspace.folder / "again", CONFIG)
    created.set_wanted(HOG)
    created.close()
    project = workspace.open("again")
    deadline = time.monotonic() + SECONDS
    while project.wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (project.config.encoder, project.wanted) == ("hog", {})


def test_a_swap_that_was_stored_already_is_over(workspace: Workspace) -> None:
    """A process was killed after it had stored the new encoder, before it noted that: nothing is on its way."""
    created = Project.create(workspace.folder / "again", CONFIG)
    created.change(**HOG)
    created.set_wanted(HOG)
    created.close()
    project = workspace.open("again")
    workspace.swaps.resume(project)
    waits(workspace, project)
    assert (project.wanted, project.notice) == ({}, "")
    reopened = Project(project.folder)
    assert (reopened.wanted, reopened.notice) == ({}, "")
    reopened.close()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("features")])
def test_a_swap_that_fails_in_any_way_is_noted(
    workspace: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also where the error is none of ours: no page goes on saying that the encoder comes in a moment."""

    def failing(**_: object) -> None:
        raise error

    monkeypatch.setattr(project, "change", failing)
    workspace.swaps.start(project, HOG)
    waits(workspace, project)
    assert project.wanted == {}
    assert "hog failed" in project.notice
    assert type(error).__name__ in project.notice or str(error) in project.notice


# ---- projects


def test_a_project_is_one_object_for_every_thread(workspace: Workspace) -> None:
    """However many open it at once."""
    Project.create(workspace.folder / "one", CONFIG).close()
    found: list[Project] = []
    threads = [threading.Thread(target=lambda: found.append(workspace.open("one"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert workspace.opened() == ["one"]
    with pytest.raises(ConfigError):
        workspace.open("../one")


def test_two_projects_of_one_name_get_a_folder_each(workspace: Workspace) -> None:
    """Created at once by two people."""
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(workspace.create(CONFIG))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["ones", "ones-2"]


def test_a_process_has_one_workspace_a_folder(projects: Path) -> None:
    """Whoever asks."""
    assert workspace_of(projects) is workspace_of(Path(str(projects)))
    assert workspace_of(projects) is not workspace_of(projects / "other")


def test_damage_is_what_the_store_says_now(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what it said when the project was opened."""
    assert project.store.damage == ()
    monkeypatch.setattr(Store, "damage", ("event 3 is gone",))
    assert project.store.damage == ("event 3 is gone",)


# ---- the list


def test_the_list_reads_a_project_again_only_when_its_file_has_changed(
    workspace: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its summary is never older than its file; one that has just changed is not trusted."""
    read: list[Path] = []
    summarize = listing_module.summarize
    monkeypatch.setattr(listing_module, "summarize", lambda folder: (read.append(folder), summarize(folder))[1])
    assert [summary.n_labels for summary in workspace.summaries()] == [0]
    workspace.summaries()
    assert len(read) == 2
    before = time.time() - 100
    for path in project.folder.glob("project.sqlite*"):
        os.utime(path, (before, before))
    for _ in range(3):
        workspace.summaries()
    assert len(read) == 3
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    assert [summary.n_labels for summary in workspace.summaries()] == [4]


def test_the_list_reads_on_where_a_file_goes_while_it_looks(
    workspace: Workspace, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite removes the write-ahead log when its last connection is closed, at any moment."""
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    assert listing_module._stamp(workspace.folder / "gone" / "project.sqlite") == ()
    assert [summary.folder.name for summary in workspace.summaries()] == [project.folder.name]


def test_tabs_that_open_first_at_once_make_one_demo(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks whether there is a project: the second finds the one that the first has made."""
    tabs = threading.Barrier(2)
    summaries = workspace.summaries

    def both_look() -> list[Summary]:
        found = summaries()
        with suppress(threading.BrokenBarrierError):
            tabs.wait(1.0)
        return found

    monkeypatch.setattr(workspace, "summaries", both_look)
    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda _: workspace.default_project(), range(2)))
    assert names == ["Digits", "Digits"]
    assert folder_names(workspace.folder) == ["Digits"]


def test_the_newest_project_opens_first_and_else_a_preset(workspace: Workspace) -> None:
    """A first start has something to label."""
    assert workspace.default_project() == "Digits"
    assert workspace.has("Digits")
    Project.create(workspace.folder / "later", CONFIG).close()
    assert workspace.default_project() == "later"


# ---- jobs


def test_a_kept_folder_goes_with_its_holder(workspace: Workspace) -> None:
    """As a tab's export does when the tab is closed."""
    kept = KeptFolder(workspace.jobs.new_folder())
    folder = kept.path
    assert folder.is_dir()
    del kept
    assert not folder.exists()


def test_leftovers_of_dead_processes_go_after_a_day(workspace: Workspace) -> None:
    """Folders of jobs and half-made folders of the cache; not those of a process that is alive, nor young ones."""
    mine, dead, young = f"{os.getpid()}-x", "999999999-x", "999999999-y"
    names = (mine, f".{dead}", dead, young)
    folders = [workspace.folder / parent / name for parent in (".jobs", CACHE) for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
        if young not in folder.name:
            os.utime(folder, (time.time() - 2 * 86400,) * 2)
    workspace.jobs.remove_leftovers()
    left = {f"{folder.parent.name}/{folder.name}" for folder in folders if folder.exists()}
    kept_in_cache = {f"{CACHE}/{name}" for name in (mine, dead, young)}
    assert left == {f".jobs/{mine}", f".jobs/{young}"} | kept_in_cache


def test_looking_ahead_runs_one_at_a_time(project: Project) -> None:
    """And says why it failed; it rests a moment before it is tried again."""
    planner = LookAhead()
    offered = threading.Event()
    planner.start(project.session("you"), offered.set)
    assert offered.wait(SECONDS)
    assert project.session("you").remaining

    class Failing:
        def look_ahead(self, wait: bool) -> None:
            raise ModelError("no model")

    planner.start(Failing(), offered.set)  # type: ignore[arg-type]  # all that is called of a session
    deadline = time.monotonic() + SECONDS
    while planner.failure is None and time.monotonic() < deadline:
        planner.start(Failing(), offered.set)  # type: ignore[arg-type]  # as above
        time.sleep(0.01)
    assert str(planner.failure) == "no model"


def test_looking_ahead_says_what_a_plug_in_raised(project: Project) -> None:
    """Whatever it is: a thread that ends without a word would be waited for for ever."""
    planner = LookAhead()

    class Failing:
        def look_ahead(self, wait: bool) -> None:
            raise KeyError("colour")

    planner.start(Failing(), lambda: None)  # type: ignore[arg-type]  # all that is called of a session
    deadline = time.monotonic() + SECONDS
    while planner.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "KeyError('colour')" in str(planner.failure)


def test_looking_is_done_once_more_where_it_was_asked_for_meanwhile(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often; and what ends the thread does not leave the project waited for."""
    monkeypatch.setattr(threading, "excepthook", lambda ended: None)
    begun, goes_on, n_done = threading.Event(), threading.Event(), []

    def work(project: Project) -> None:
        begun.set()
        assert goes_on.wait(SECONDS)
        n_done.append(1)
        if len(n_done) == 3:
            raise SystemExit

    looking = Looking("test", work)

    def wait() -> None:
        deadline = time.monotonic() + SECONDS
        while looking.is_looking(project) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not looking.is_looking(project)

    looking.look(project)
    assert begun.wait(SECONDS)
    for _ in range(3):
        looking.look(project)
    goes_on.set()
    wait()
    assert len(n_done) == 2
    looking.look(project)
    wait()
    assert len(n_done) == 3
