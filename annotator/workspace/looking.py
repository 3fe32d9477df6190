"""Work on a project in a thread of its own, done once more where it was asked for meanwhile. Knows no browser."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from annotator.project import Project


class Looking:
    """One kind of work on the projects of one process; on each of them never two at a time.

    `work` deals with its errors: nobody would hear of them.
    """

    def __init__(self, name: str, work: Callable[[Project], None]) -> None:
        self._name, self._work = name, work
        self._is_asked_again: dict[Path, bool] = {}
        """By the folders of the projects that a thread works on."""
        self._lock = threading.Lock()

    def look(self, project: Project) -> None:
        """Begin with the work; where it is going on, do it once more afterwards."""
        with self._lock:
            is_new = project.folder not in self._is_asked_again
            self._is_asked_again[project.folder] = not is_new
        if is_new:
            threading.Thread(target=self._run, args=(project,), name=self._name, daemon=True).start()

    def is_looking(self, project: Project) -> bool:
        """Whether a thread works on it."""
        return project.folder in self._is_asked_again

    def _run(self, project: Project) -> None:
        try:
            self._work(project)
            while self._goes_on(project):
                self._work(project)
        except BaseException:  # what no work may catch ends the thread
            self._is_asked_again.pop(project.folder, None)
            raise

    def _goes_on(self, project: Project) -> bool:
        with self._lock:
            is_asked = self._is_asked_again.pop(project.folder)
            if is_asked:
                self._is_asked_again[project.folder] = False
            return is_asked
