"""The state of one tab: which project it shows, who answers, what it waits for, what it has to say once.

A tab's state is gone after a reload, but for what its address holds: the project's folder name and the annotator's.
What is open, and what runs in the background, belongs to the process (shared.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from annotator.config import Config
from annotator.errors import AnnotatorError, ConfigError
from annotator.jobs import Job
from annotator.project import IMPORTER, Project
from annotator.reports import current_round
from annotator.session import Session
from annotator.simulate import answer_batch, oracle_of
from annotator.ui.shared import workspace
from annotator.workspace import KeptFolder, Upload

YOU, ORACLE = "you", "oracle"
NO_PERSON = {ORACLE: "the one who knows the truth", IMPORTER: "the import of known labels"}
LONGEST_NAME = 100
UPLOADER = "upload"
"""The key of the field where files are dropped."""


# ---- which project


def current_project() -> Project | None:
    """The project of this tab: the one in the address, else the newest, else the preset that opens first.

    None where there is none, and for a name that is not in the list.
    """
    name = wanted_project()
    if name is None:
        name = workspace().default_project()
    if name is None or not workspace().has(name):
        return None
    show_project(name)
    return workspace().open(name)


def wanted_project() -> str | None:
    """The folder name of the project that this tab is to show, whether or not there is one."""
    return st.session_state.get("project") or st.query_params.get("project")


def project_names() -> list[str]:
    """The folder names of all projects, in the order of the start view's list."""
    return [summary.folder.name for summary in workspace().summaries() if not summary.error]


def has_open_project() -> bool:
    """Whether the project of this tab is open in this process, so that `current_project` has it at once."""
    return wanted_project() in workspace().opened()


def show_project(name: str) -> None:
    """This tab shows that project from now on."""
    st.session_state["project"] = name
    if st.query_params.get("project") != name:
        st.query_params["project"] = name


# ---- who answers, and how


def session(project: Project) -> Session:
    """Whose loop this tab shows: yours, or the oracle's while it plays."""
    return project.session(ORACLE if is_playing() else annotator())


def annotator() -> str:
    """The annotator of this tab: the name in the address, so that a reload finds it, where it may be a person's."""
    name = str(st.session_state.get("as") or st.query_params.get("as") or YOU)[:LONGEST_NAME]
    return YOU if name in NO_PERSON else name


def set_annotator(name: str) -> None:
    """Answer under this name from now on. Raises ConfigError for a name of the program's own."""
    name = name.strip() or YOU
    if name in NO_PERSON:
        raise ConfigError(f"{name!r} is the name of {NO_PERSON[name]}; choose another.")
    _remember("as", name, YOU)


def answers_by() -> str:
    """How images are answered in this tab: "keys" or "form"."""
    return "form" if (st.session_state.get("answers") or st.query_params.get("answers")) == "form" else "keys"


def set_answers_by(way: str) -> None:
    """Answer by "keys" or by a "form" from now on."""
    _remember("answers", way, "keys")


def _remember(key: str, value: str, usual: str) -> None:
    """For this tab, and in its address where it is not as usual."""
    st.session_state[key] = value
    if value != usual:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]


# ---- the oracle at play


def is_playing() -> bool:
    """Whether the oracle answers in this tab."""
    return bool(st.session_state.get("playing"))


def play(project: Project) -> None:
    """Let the oracle answer from here; what you were offered and did not begin goes back to the pool."""
    project.session(annotator()).withdraw()
    st.session_state["playing"] = True


def pause(project: Project) -> None:
    """You answer again; the oracle's open batch goes back to the pool."""
    project.session(ORACLE).withdraw()
    st.session_state["playing"] = False


def play_round(project: Project) -> None:
    """The oracle answers its open batch and asks for the next, until its rounds are done."""
    oracle_session = project.session(ORACLE)
    answer_batch(oracle_session, oracle_of(project))
    workspace().look_ahead(project).advance(oracle_session)
    if current_round(oracle_session.moment()) > project.config.rounds or not oracle_session.remaining:
        pause(project)
        notify(f"The oracle has answered its {project.config.rounds} rounds. Now it is your turn.")


# ---- what this tab waits for


def start_preparing(config: Config) -> None:
    """Prepare the project's images in a child process; `preparing` shows how far it is."""
    st.session_state["preparing"] = (workspace().prepare(config), asdict(config))


def preparing() -> tuple[Job, Config] | None:
    """The import of this tab and the project it is for; None where there is none."""
    if "preparing" not in st.session_state:
        return None
    key, values = st.session_state["preparing"]
    job = workspace().jobs.get(key)
    return None if job is None else (job, Config.from_json(values))


def forget_preparing() -> None:
    """The import of this tab is done with."""
    key, _ = st.session_state.pop("preparing", ("", None))
    workspace().jobs.forget(key)


def new_export_folder() -> KeptFolder:
    """A folder for an export; it is there until this tab exports again or is closed."""
    folder = KeptFolder(workspace().jobs.new_folder())
    st.session_state["export-folder"] = folder
    return folder


def uploaded(file: Any) -> Upload | None:  # Any: Streamlit's UploadedFile, or None
    """What the uploader of this tab shows, on the disk. Raises ConfigError for what is no .zip or .npz."""
    shown = getattr(st.session_state.get(UPLOADER), "file_id", None)  # also where its bytes were given back
    known: Upload | None = st.session_state.get("uploaded")
    if known is not None and known.file_id == shown:
        return known
    st.session_state.pop("uploaded", None)
    if file is None:
        return None
    upload = workspace().uploads.add(file.file_id, file.name, file.getbuffer())
    st.session_state["uploaded"] = upload
    del known  # the upload before it: held on to, its file would be kept
    _give_back(upload.file_id)
    workspace().uploads.remove_unused()
    return upload


def _give_back(file_id: str) -> None:
    """Streamlit keeps an upload's bytes in memory until the tab has been gone for minutes."""
    context = get_script_run_ctx()
    remove = getattr(context.uploaded_file_mgr, "remove_file", None) if context else None
    if context and remove:
        remove(session_id=context.session_id, file_id=file_id)


# ---- notices


def notify(message: str, kind: str = "success") -> None:
    """Show this once, at the top of the next run."""
    st.session_state.setdefault("notices", []).append((kind, message))


def take_notices() -> list[tuple[str, str]]:
    """(kind, message) of what is to be shown once; taken by reading."""
    found: list[tuple[str, str]] = st.session_state.pop("notices", [])
    return found


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A callback whose typed errors become a notice instead of a traceback."""

    def run(*args: Any) -> None:  # Any: the callback's own arguments
        try:
            command(*args)
        except AnnotatorError as error:
            notify(str(error), "error")

    return run
