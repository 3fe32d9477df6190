"""Uploaded files on the server's disk: kept while somebody holds one or a project is made from it, then removed.

An upload lies under the hash of its bytes, so the same file is there once. Knows no browser.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

from annotator import durable
from annotator.errors import AnnotatorError, ConfigError
from annotator.paths import safe_join, slug
from annotator.projects import STORE_NAME, folder_names, newest_config
from annotator.store import Store

SUFFIXES = (".zip", ".npz")
FOREIGN_SECONDS = 24 * 3600
"""So long an upload that another process has stored may be in use there."""


@dataclass(eq=False)
class Upload:
    """A file that was uploaded; it stays on the disk as long as somebody holds on to this."""

    file_id: str
    path: Path


class Uploads:
    """The uploads of one projects folder, and which of them this process holds."""

    def __init__(self, projects: Path) -> None:
        self._projects = projects
        self._held: WeakSet[Upload] = WeakSet()
        self._made: set[Path] = set()
        """Folders that this process has made."""
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._projects / ".uploads"

    def add(self, file_id: str, name: str, content: memoryview) -> Upload:
        """Store a file; `file_id` tells it from others. Raises ConfigError for what is no .zip or .npz."""
        with self._lock:
            upload = Upload(file_id, self._stored(name, content))
            self._held.add(upload)
            return upload

    def remove_unused(self) -> None:
        """Remove uploads that nobody holds and no project is made from; where a project cannot be read, none."""
        with self._lock, suppress(AnnotatorError, OSError):
            used = self._used_by_projects() | {upload.path.parent.name for upload in self._held}
            for folder in self.folder.glob("*"):
                is_old = folder in self._made or time.time() - folder.stat().st_mtime > FOREIGN_SECONDS
                if is_old and folder.name not in used:
                    shutil.rmtree(folder, ignore_errors=True)

    def _used_by_projects(self) -> set[str]:
        """Names of the folders of files that projects read their images from, wherever the projects lay then."""
        found = set()
        for name in folder_names(self._projects):
            with closing(Store(self._projects / name / STORE_NAME)) as store:
                _, config = newest_config(store)
                found.add(Path(str(config["source_parameters"].get("path", ""))).parent.name)
        return found

    def _stored(self, name: str, content: memoryview) -> Path:
        """The file under its hash and a safe name; complete or not there at all."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise ConfigError(f"{name} is neither a .zip nor an .npz. Pack the images into a zip, and upload that.")
        folder = safe_join(self.folder, hashlib.sha256(content).hexdigest()[:24])
        target = safe_join(folder, slug(Path(name).stem, "upload") + suffix)
        self._made.add(folder)
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            durable.write(target, content)
        return target
