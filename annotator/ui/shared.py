"""The workspace of this process, one for every tab and for the addresses the server answers itself.

Which folders the app may touch comes from the environment: Streamlit starts the script, see server.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from annotator.paths import default_projects
from annotator.ui.server import PROJECTS, ROOT
from annotator.workspace import Workspace, workspace_of


def workspace() -> Workspace:
    """The open projects of this process; Streamlit's "Clear cache" leaves it alone."""
    return workspace_of(projects_folder())


def projects_folder() -> Path:
    """Where projects live."""
    return Path(os.environ.get(PROJECTS) or default_projects())


def root_folder() -> Path:
    """Folders of images must lie under this one."""
    return Path(os.environ.get(ROOT) or Path.home())
