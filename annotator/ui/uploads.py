"""Uploads on the server's disk: kept while a tab shows them or a project is made from them, and removed after that.

An upload lies under the hash of its bytes, so the same file is there once. Its bytes in memory are given back as soon
as it is stored.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from annotator import durable
from annotator.errors import AnnotatorError, ConfigError
from annotator.paths import safe_join, slug
from annotator.project import STORE_NAME, folder_names
from annotator.store import Store

UPLOADER = "upload"
"""The key of the field where files are dropped."""
FOREIGN_SECONDS = 24 * 3600
"""So long an upload that another process has stored may be in use there."""


@dataclass(eq=False)
class Upload:
    """A file that a tab has uploaded; it stays on the disk as long as somebody holds on to this."""

    file_id: str
    path: Path


_HELD: WeakSet[Upload] = WeakSet()
_MADE: set[Path] = set()
"""Folders that this process has made."""


def uploads_folder(projects: Path) -> Path:
    """Where they lie."""
    return projects / ".uploads"


def take(uploaded: Any, projects: Path) -> Upload | None:  # Any: Streamlit's UploadedFile, or None
    """What the uploader of this tab shows, on the disk. Raises ConfigError for what is no .zip or .npz."""
    shown = getattr(st.session_state.get(UPLOADER), "file_id", None)  # also where its bytes were given back
    known: Upload | None = st.session_state.get("uploaded")
    if known is not None and known.file_id == shown:
        return known
    st.session_state.pop("uploaded", None)
    if uploaded is None:
        return None
    upload = Upload(uploaded.file_id, _stored(uploaded.name, uploaded.getbuffer(), projects))
    _HELD.add(upload)
    st.session_state["uploaded"] = upload
    del known  # the upload before it: held on to, `empty` would keep its file
    _give_back(upload.file_id)
    empty(projects)
    return upload


def empty(projects: Path) -> None:
    """Remove uploads that no tab shows and no project is made from; where a project cannot be read, none."""
    try:
        needed = _made_from(projects) | {upload.path.parent.name for upload in _HELD}
        for folder in uploads_folder(projects).glob("*"):
            is_old = folder in _MADE or time.time() - folder.stat().st_mtime > FOREIGN_SECONDS
            if is_old and folder.name not in needed:
                shutil.rmtree(folder, ignore_errors=True)
    except (AnnotatorError, OSError):
        return


def _made_from(projects: Path) -> set[str]:
    """Names of the folders of files that projects read their images from, wherever the projects lay then."""
    found = set()
    for name in folder_names(projects):
        with closing(Store(projects / name / STORE_NAME)) as store:
            _, config = store.config()
            found.add(Path(str(config["source_parameters"].get("path", ""))).parent.name)
    return found


def _stored(name: str, content: memoryview, projects: Path) -> Path:
    """An upload on the server's disk, under its hash and a safe name; complete or not there at all."""
    suffix = Path(name).suffix.lower()
    if suffix not in (".zip", ".npz"):
        raise ConfigError(f"{name} is neither a .zip nor an .npz. Pack the images into a zip, and upload that.")
    folder = safe_join(uploads_folder(projects), hashlib.sha256(content).hexdigest()[:24])
    target = safe_join(folder, slug(Path(name).stem, "upload") + suffix)
    _MADE.add(folder)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        durable.write(target, content)
    return target


def _give_back(file_id: str) -> None:
    """Streamlit keeps the bytes until the tab has been gone for minutes."""
    context = get_script_run_ctx()
    remove = getattr(context.uploaded_file_mgr, "remove_file", None) if context else None
    if context and remove:
        remove(session_id=context.session_id, file_id=file_id)
