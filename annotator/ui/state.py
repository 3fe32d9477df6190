"""What a run of the script needs to find again: the open projects of this process, and which one this tab looks at.

The browser tab holds one key, the project's folder name (also in the address, so a reload finds it). Open projects and
running jobs are one plain object of the process, shared by every tab and by the addresses the server answers itself.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import streamlit as st

from annotator import registry
from annotator.dataset import open_source
from annotator.errors import AnnotatorError, ConfigError, JobError, ModelError
from annotator.jobs import Job
from annotator.project import (
    CACHE,
    IMPORTER,
    QUICK_ENCODER,
    RECOMMENDED,
    RECOMMENDED_FROM,
    Config,
    Project,
    default_projects,
    folder_names,
    free_folder,
    is_slow,
    list_projects,
    presets,
    project_folder,
)
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.ui import uploads
from annotator.ui.server import PROJECTS, ROOT

YOU, ORACLE = "you", "oracle"
NO_PERSON = {ORACLE: "the one who knows the truth", IMPORTER: "the import of known labels"}
LONGEST_NAME = 100
QUICK_BYTES = 32 << 20
"""Sources that are an array of at most this size are prepared at once; anything else is a job."""
JOBS = ".jobs"
LEFTOVER_SECONDS = 24 * 3600
PAINTED_SECONDS = 2.0
_OPENING = threading.Lock()


@dataclass(frozen=True)
class Switch:
    """Another encoder on its way into a project: the job that encodes with it, and the config that waits for it."""

    job: Job
    changes: dict[str, Any]  # Any: fields of Config


@dataclass
class Opened:
    """What this process holds open."""

    projects: dict[str, Project] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    switches: dict[str, Switch] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


def opened() -> Opened:
    """One for all tabs and threads; Streamlit's "Clear cache" leaves it alone."""
    with _OPENING:
        return _opened()


@cache
def _opened() -> Opened:
    threading.Thread(target=_remove_leftovers, args=(projects_folder(),), name="leftovers", daemon=True).start()
    return Opened()


def projects_folder() -> Path:
    """Where projects live."""
    return Path(os.environ.get(PROJECTS) or default_projects())


def root_folder() -> Path:
    """Folders of images must lie under this one."""
    return Path(os.environ.get(ROOT) or Path.home())


# ---- which project


def current() -> Project | None:
    """The project of this tab: the one in the address, else the newest, else the preset that opens first.

    None where there is none, and for a name that is not in the list.
    """
    name = st.session_state.get("project") or st.query_params.get("project")
    if name is None:
        found = [summary for summary in list_projects(projects_folder()) if not summary.error]
        name = found[0].folder.name if found else _first_preset()
    if name is None or name not in folder_names(projects_folder()):
        return None
    look_at(name)
    return open_project(name)


def look_at(name: str) -> None:
    """This tab shows that project from now on."""
    st.session_state["project"] = name
    if st.query_params.get("project") != name:
        st.query_params["project"] = name


def open_project(name: str) -> Project:
    """The project in the folder of that name, the same object for every tab and thread.

    Raises ConfigError for a name that is not in the list, StoreError or SourceError where it cannot be opened. One that
    is open is had without waiting for another.
    """
    found = opened().projects.get(name)
    return found if found is not None else _open(name)


def _open(name: str) -> Project:
    projects = opened().projects
    with opened().lock:
        if name not in projects:
            folder = project_folder(projects_folder(), name)
            projects[name] = _open_under_another_name(folder) or _open_first(folder)
        return projects[name]


def _open_under_another_name(folder: Path) -> Project | None:
    """The open project that lies in the same folder: a link to it in the list is no second project."""
    return next((project for project in opened().projects.values() if _same(project.folder, folder)), None)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is gone
        return False


def _open_first(folder: Path) -> Project:
    project = Project(folder)
    _soon(project.learner.warm_up)
    _soon(partial(_take_up, project))
    _rest_what_stays()
    return project


def _take_up(project: Project) -> None:
    """Go on with the encoder that was being computed when an earlier server stopped; at once, where that was done."""
    with opened().lock:
        if not project.wanted or switching(project) is not None:
            return
        try:
            start_switch(project, **project.wanted)
        except AnnotatorError as error:
            project.note(f"The encoder {project.wanted['encoder']} was not taken up again. {error}")


def _soon(work: Callable[[], None]) -> None:
    """In a thread, once the first page has been drawn: imports at the same time would hold it up for seconds."""
    timer = threading.Timer(PAINTED_SECONDS, work)
    timer.daemon = True
    timer.start()


@cache
def _rest_what_stays() -> None:
    """What is imported by now stays: the garbage collector need not look at it again."""
    gc.freeze()


def _first_preset() -> str | None:
    first = next((preset for preset in presets().values() if preset.opens_first), None)
    return None if first is None else create_quickly(first.config)


# ---- creating


def is_quick(config: Config) -> bool:
    """Whether the source is so small that nobody would notice a job."""
    if getattr(registry.load("source", config.source), "array", ...) is None:
        return False  # ... a large folder is not even listed here
    array = open_source(config.recipe).array
    return array is not None and array.nbytes <= QUICK_BYTES


def create_quickly(config: Config) -> str:
    """Create a project here and now; returns its name. A slow encoder is computed while labeling has begun."""
    folder = free_folder(projects_folder(), config.name)
    with opened().lock:
        Project.create(folder, quick(config)).close()
    if is_slow(config.encoder):
        _switch_or_say(open_project(folder.name), config)
    return folder.name


def _switch_or_say(project: Project, config: Config) -> None:
    """Compute the slow encoder that was asked for; where the pool is too small, the project says so from now on."""
    n_images, encoder = len(project.prepared.dataset), config.encoder
    if encoder == RECOMMENDED["encoder"] and n_images < RECOMMENDED_FROM:
        project.note(
            f"{n_images:,} images are soon labeled: the quick features of {project.config.encoder} are used. "
            f"Settings has {encoder}, which pays from about {RECOMMENDED_FROM} images on."
        )
        return
    try:
        start_switch(project, encoder=config.encoder, encoder_parameters=config.encoder_parameters)
    except ModelError as error:
        project.note(str(error))


def quick(config: Config) -> Config:
    """The config to begin with: features that are there at once in place of those that take minutes."""
    return replace(config, encoder=QUICK_ENCODER, encoder_parameters={}) if is_slow(config.encoder) else config


def start_preparing(config: Config) -> None:
    """Decode, encode and connect in a child process; `preparing` shows how far it is."""
    job = _prepare(quick(config), own_classes=not config.classes)
    opened().jobs[job.folder.name] = job
    st.session_state["preparing"] = (job.folder.name, asdict(config))


def start_switch(project: Project, **changes: Any) -> None:  # Any: fields of Config
    """Encode with another encoder in a child process; labeling goes on meanwhile, and a restart takes it up again.

    Raises ModelError (MODEL_TOO_SMALL) where the encoder cannot be trained on so few images.
    """
    config = replace(project.config, **changes)
    project.check_pool(config)
    before = switching(project)
    if before is not None:
        before.job.cancel()
    opened().switches[project.folder.name] = Switch(_prepare(config), changes)
    project.want(changes)


def switching(project: Project) -> Switch | None:
    """The other encoder on its way, if there is one."""
    return opened().switches.get(project.folder.name)


def finish_switch(project: Project) -> None:
    """Its features are in the cache: use them from the next batch on."""
    switch = _take_switch(project)
    if switch is not None:
        with opened().lock:
            project.change(**switch.changes)
        tell(f"The encoder {project.config.encoder} is ready; the next batch uses it.")


def forget_switch(project: Project) -> None:
    """It was cancelled or failed: the project stays as it is, and says so from now on."""
    switch = _take_switch(project)
    if switch is not None:
        how = "was cancelled" if switch.job.status == "cancelled" else "failed"
        project.note(
            f"Computing the features of {switch.changes['encoder']} {how}; those of {project.config.encoder} are used. "
            "Settings starts it again."
        )


def _take_switch(project: Project) -> Switch | None:
    """The other encoder, now that its job has ended; one that is still on its way stays, whichever tab asks."""
    switch = switching(project)
    if switch is None or switch.job.status == "running":
        return None
    _discard(switch.job)
    return opened().switches.pop(project.folder.name, None)


def _prepare(config: Config, own_classes: bool = False) -> Job:
    arguments: dict[str, Any] = {"recipe": asdict(config.recipe), "cache": str(projects_folder() / CACHE)}
    arguments["own_classes"] = own_classes
    return Job.start("annotator.dataset:prepare_job", arguments, _new_folder())


def preparing() -> tuple[Job, Config] | None:
    """The job of this tab and the project it is for."""
    if "preparing" not in st.session_state:
        return None
    key, values = st.session_state["preparing"]
    return opened().jobs[key], Config.from_json(values)


def forget_preparing() -> None:
    """The job of this tab is done with."""
    key, _ = st.session_state.pop("preparing", ("", None))
    job = opened().jobs.pop(key, None)
    if job is not None:
        _discard(job)


# ---- folders of jobs


class _Kept:
    """A folder that stays as long as somebody holds on to this: a tab, or a tab's next export."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def job_folder() -> Path:
    """A folder for an export; it is there until this tab exports again or is closed."""
    folder = _new_folder()
    st.session_state["export-folder"] = _Kept(folder)
    jobs = opened().jobs
    for key in [key for key, job in jobs.items() if not job.folder.exists()]:
        del jobs[key]
    return folder


def _new_folder() -> Path:
    """A folder of its own for a job, named after this process."""
    parent = projects_folder() / JOBS
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    except OSError as error:
        message = f"Cannot start work in {parent}: {error.strerror}. Free some space there, or allow writing to it."
        raise JobError(message, "JOB_START") from error


def _discard(job: Job) -> None:
    """Remove a job's folder, unless it failed: the error that was shown names the log in there."""
    if job.status != "failed":
        shutil.rmtree(job.folder, ignore_errors=True)


def _remove_leftovers(projects: Path) -> None:
    """What dead processes left a day ago or earlier: folders of jobs, half-made folders of the cache, uploads."""
    for folder in [*(projects / JOBS).glob("*"), *(projects / CACHE).glob(".*")]:
        owner = folder.name.partition("-")[0]
        if time.time() - _last_change(folder) > LEFTOVER_SECONDS and not (owner.isdecimal() and _runs(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)
    uploads.empty(projects)


def _last_change(folder: Path) -> float:
    """When anything in the folder was written last; now, where it goes at this moment."""
    try:
        return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    except OSError:
        return time.time()


def _runs(process: int) -> bool:
    """Whether a process of this number is alive; Windows has no way to ask without harm."""
    if sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# ---- sessions


def session(project: Project) -> Session:
    """Whose loop this tab shows: yours, or the oracle's while it plays."""
    return project.session(ORACLE if is_playing() else who())


def who() -> str:
    """The annotator of this tab: the name in the address, so that a reload finds it, where it may be a person's."""
    name = str(st.session_state.get("as") or st.query_params.get("as") or YOU)[:LONGEST_NAME]
    return YOU if name in NO_PERSON else name


def be(name: str) -> None:
    """Answer under this name from now on."""
    name = name.strip() or YOU
    if name in NO_PERSON:
        raise ConfigError(f"{name!r} is the name of {NO_PERSON[name]}; choose another.")
    _remember("as", name, YOU)


def surface() -> str:
    """How images are answered in this tab: "keys" or "form"."""
    return "form" if (st.session_state.get("surface") or st.query_params.get("surface")) == "form" else "keys"


def use_surface(name: str) -> None:
    """Answer by keys or by a form from now on."""
    _remember("surface", name, "keys")


def _remember(key: str, value: str, usual: str) -> None:
    """For this tab, and in its address where it is not as usual."""
    st.session_state[key] = value
    if value != usual:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]


def is_playing() -> bool:
    """Whether the oracle answers in this tab."""
    return bool(st.session_state.get("playing"))


def play(project: Project) -> None:
    """Let the oracle answer from here; what you were offered and did not begin goes back to the pool."""
    project.session(who()).withdraw()
    st.session_state["playing"] = True


def pause(project: Project) -> None:
    """You answer again; the oracle's open batch goes back to the pool."""
    project.session(ORACLE).withdraw()
    st.session_state["playing"] = False


def play_round(project: Project) -> None:
    """The oracle answers its open batch and asks for the next, until its rounds are done."""
    oracle_session = project.session(ORACLE)
    answer_batch(oracle_session, oracle_of(project))
    oracle_session.advance()
    if oracle_session.round > project.config.rounds or not oracle_session.remaining:
        pause(project)
        tell(f"The oracle has answered its {project.config.rounds} rounds. Now it is your turn.")


# ---- notices


def tell(message: str, kind: str = "success") -> None:
    """Show this once, at the top of the next run."""
    st.session_state.setdefault("notices", []).append((kind, message))


def notices() -> list[tuple[str, str]]:
    """What is to be shown once; taken by reading."""
    found: list[tuple[str, str]] = st.session_state.pop("notices", [])
    return found


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A callback whose typed errors become a notice instead of a traceback."""

    def run(*args: Any) -> None:  # Any: the callback's own arguments
        try:
            command(*args)
        except AnnotatorError as error:
            tell(str(error), "error")

    return run
