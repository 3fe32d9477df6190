"""The jobs of one process and their folders under the projects folder. Knows no project and no browser.

    projects/.jobs/<process>-<random>/    one job's files, see annotator/jobs

A folder goes when its job is done with. Those of a process that has died are removed a day later, and a week later
what an encoder had learned in a training that nobody took up again.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from annotator.features import TRAINING
from annotator.jobs import Job
from annotator.jobs.process import cannot_start
from annotator.pointer import CACHE

FOLDER = ".jobs"
LEFTOVER_SECONDS = 24 * 3600
UNFINISHED_SECONDS = 7 * LEFTOVER_SECONDS


class Jobs:
    """Jobs by key: the name under which whoever started one finds it again."""

    def __init__(self, projects: Path) -> None:
        self._projects = projects
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, target: str, arguments: Mapping[str, Any], folder: Path | None = None) -> str:  # Any: JSON
        """Start a job, in a new folder where none is given; returns its key. Raises JobError where it cannot start."""
        job = Job.start(target, arguments, folder or self.new_folder())
        key = str(job.folder)
        with self._lock:
            for gone in [known for known, other in self._jobs.items() if not other.folder.exists()]:
                del self._jobs[gone]
            self._jobs[key] = job
        return key

    def get(self, key: str) -> Job | None:
        """The job of that key; None where there is none, or its folder went meanwhile."""
        return self._jobs.get(key)

    def forget(self, key: str) -> None:
        """The job is done with. Its folder is removed, unless it failed: the error names the log in there."""
        with self._lock:
            job = self._jobs.pop(key, None)
        if job is not None and job.status != "failed":
            shutil.rmtree(job.folder, ignore_errors=True)

    def new_folder(self) -> Path:
        """An empty folder named after this process. Raises JobError where none can be made."""
        parent = self._projects / FOLDER
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        except OSError as error:
            raise cannot_start(parent, error) from error

    def remove_leftovers(self) -> None:
        """Remove the folders of jobs, and half-made folders of the cache, that dead processes left a day ago."""
        for folder in [*(self._projects / FOLDER).glob("*"), *(self._projects / CACHE).glob(".*")]:
            owner = folder.name.partition("-")[0]
            is_old = time.time() - _last_change(folder) > LEFTOVER_SECONDS
            if is_old and not (owner.isdecimal() and _is_alive(int(owner))):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self._projects / CACHE).glob(f"{TRAINING}*"):
            if time.time() - _last_change(folder) > UNFINISHED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


class KeptFolder:
    """A folder that is removed when nobody refers to this object any more."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def _last_change(folder: Path) -> float:
    """When anything in the folder was written last; now, where it is being removed at this moment."""
    try:
        return _newest([folder, *folder.rglob("*")])
    except OSError:
        return time.time()


def _newest(paths: Iterable[Path]) -> float:
    return max(path.lstat().st_mtime for path in paths)


def _is_alive(process: int) -> bool:
    """Whether a process of this number runs; Windows has no way to ask without harm."""
    if sys.platform == "win32":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
