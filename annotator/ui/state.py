"""Old names of tab.py and shared.py, for views that are being rewritten meanwhile; goes with the last of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from annotator.project import Project
from annotator.ui.shared import projects_folder, root_folder, workspace
from annotator.ui.tab import (
    LONGEST_NAME,
    ORACLE,
    YOU,
    annotator,
    answers_by,
    guarded,
    is_playing,
    new_export_folder,
    notify,
    pause,
    play,
    play_round,
    session,
    set_annotator,
    set_answers_by,
    take_notices,
)
from annotator.ui.tab import current_project as current

__all__ = ["LONGEST_NAME", "ORACLE", "YOU", "guarded", "is_playing", "pause", "play", "play_round", "projects_folder"]
__all__ += ["current", "root_folder", "session"]
tell, notices, be, who, surface, use_surface = (
    notify,
    take_notices,
    set_annotator,
    annotator,
    answers_by,
    set_answers_by,
)


def open_project(name: str) -> Project:
    return workspace().open(name)


def opened() -> SimpleNamespace:
    return SimpleNamespace(projects=workspace()._projects, jobs=workspace().jobs._jobs)


def job_folder() -> Path:
    return new_export_folder().path
