"""The next batch, chosen in the background while the open one is labeled; one thread a project."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache

from annotator.errors import AnnotatorError
from annotator.session import Session

SECONDS_BEFORE_RETRY = 3.0


class Ahead:
    """Runs `look_ahead` of sessions, one at a time; knows whether one is on its way and why the last one failed."""

    def __init__(self) -> None:
        self.failure: AnnotatorError | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._rests_until = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being chosen."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, session: Session, offered: Callable[[], None]) -> None:
        """Let the session look ahead if it is time for that; `offered` is called afterwards, in the thread too."""
        with self._starting:
            if not self.is_busy and time.monotonic() >= self._rests_until:
                self._thread = threading.Thread(
                    target=self._look, args=(session, offered), name="look-ahead", daemon=True
                )
                self._thread.start()

    def _look(self, session: Session, offered: Callable[[], None]) -> None:
        try:
            session.look_ahead(wait=False)
            offered()
            self.failure = None
        except AnnotatorError as error:
            self.failure = error
            self._rests_until = time.monotonic() + SECONDS_BEFORE_RETRY


@cache
def ahead(project_id: str) -> Ahead:
    """The one of this project, for every tab."""
    return Ahead()
