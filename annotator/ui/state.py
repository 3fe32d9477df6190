"""What a run of the script needs to find again: the open projects of this process, and which one this tab looks at.

The browser tab holds one key, the project's folder name (also in the address, so a reload finds it). Open projects and
running jobs are shared by every tab through `st.cache_resource`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st

from annotator.dataset import open_source
from annotator.errors import AnnotatorError
from annotator.jobs import Job
from annotator.project import (
    QUICK_ENCODER,
    Config,
    Project,
    default_projects,
    free_folder,
    is_slow,
    list_projects,
    presets,
)
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.ui.server import PROJECTS, ROOT

YOU, ORACLE = "you", "oracle"
QUICK_BYTES = 32 << 20
"""Sources that are an array of at most this size are prepared at once; anything else is a job."""


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


@st.cache_resource
def opened() -> Opened:
    """One for all tabs."""
    return Opened()


def projects_folder() -> Path:
    """Where projects live."""
    return Path(os.environ.get(PROJECTS) or default_projects())


def root_folder() -> Path:
    """Folders of images must lie under this one."""
    return Path(os.environ.get(ROOT) or Path.home())


# ---- which project


def current() -> Project | None:
    """The project of this tab: the one in the address, else the newest, else the preset that opens first."""
    name = st.session_state.get("project") or st.query_params.get("project")
    if name is None:
        found = [summary for summary in list_projects(projects_folder()) if not summary.error]
        name = found[0].folder.name if found else _first_preset()
    if name is None or not (projects_folder() / name).is_dir():
        return None
    look_at(name)
    return _open(name)


def look_at(name: str) -> None:
    """This tab shows that project from now on."""
    st.session_state["project"] = name
    if st.query_params.get("project") != name:
        st.query_params["project"] = name


def _open(name: str) -> Project:
    with opened().lock:
        if name not in opened().projects:
            opened().projects[name] = Project(projects_folder() / name)
            opened().projects[name].learner.warm_up()
        return opened().projects[name]


def _first_preset() -> str | None:
    first = next((preset for preset in presets().values() if preset.opens_first), None)
    return None if first is None else create_quickly(first.config)


# ---- creating


def is_quick(config: Config) -> bool:
    """Whether the source is so small that nobody would notice a job."""
    if is_slow(config.encoder):
        return False
    array = open_source(config.recipe).array
    return array is not None and array.nbytes <= QUICK_BYTES


def create_quickly(config: Config) -> str:
    """Create a project here and now; returns its name. A slow encoder is trained while labeling has begun."""
    folder = free_folder(projects_folder(), config.name)
    with opened().lock:
        Project.create(folder, quick(config)).close()
    if is_slow(config.encoder):
        start_switch(_open(folder.name), encoder=config.encoder, encoder_parameters=config.encoder_parameters)
    return folder.name


def quick(config: Config) -> Config:
    """The config to begin with: features that are there at once in place of those that are trained for minutes."""
    return replace(config, encoder=QUICK_ENCODER, encoder_parameters={}) if is_slow(config.encoder) else config


def start_preparing(config: Config) -> None:
    """Decode, encode and connect in a child process; `preparing` shows how far it is."""
    job = _prepare(quick(config))
    opened().jobs[job.folder.name] = job
    st.session_state["preparing"] = (job.folder.name, asdict(config))


def start_switch(project: Project, **changes: Any) -> None:  # Any: fields of Config
    """Encode with another encoder in a child process; labeling goes on meanwhile."""
    config = replace(project.config, **changes)
    opened().switches[project.folder.name] = Switch(_prepare(config), changes)


def switching(project: Project) -> Switch | None:
    """The other encoder on its way, if there is one."""
    return opened().switches.get(project.folder.name)


def finish_switch(project: Project) -> None:
    """Its features are in the cache: use them from the next batch on."""
    switch = opened().switches.pop(project.folder.name, None)
    if switch is not None:
        with opened().lock:
            project.change(**switch.changes)
        tell(f"The encoder {project.config.encoder} is ready; the next batch uses it.")


def forget_switch(project: Project) -> None:
    """It was cancelled or failed: the project stays as it is."""
    opened().switches.pop(project.folder.name, None)


def _prepare(config: Config) -> Job:
    arguments = {"recipe": asdict(config.recipe), "cache": str(projects_folder() / ".cache")}
    return Job.start("annotator.dataset:prepare_job", arguments, job_folder())


def preparing() -> tuple[Job, Config] | None:
    """The job of this tab and the project it is for."""
    if "preparing" not in st.session_state:
        return None
    key, values = st.session_state["preparing"]
    return opened().jobs[key], Config.from_json(values)


def forget_preparing() -> None:
    """The job of this tab is done with."""
    st.session_state.pop("preparing", None)


def job_folder() -> Path:
    """A folder of its own for a job."""
    parent = projects_folder() / ".jobs"
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


# ---- sessions


def session(project: Project) -> Session:
    """Whose loop this tab shows: yours, or the oracle's while it plays."""
    return project.session(ORACLE if is_playing() else YOU)


def is_playing() -> bool:
    """Whether the oracle answers in this tab."""
    return bool(st.session_state.get("playing"))


def play(project: Project) -> None:
    """Let the oracle answer from here; what you were offered and did not begin goes back to the pool."""
    project.session(YOU).withdraw()
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
