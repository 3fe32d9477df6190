"""The next batch, chosen in a thread while the open one is labeled; one thread a project. Knows no browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from annotator.errors import AnnotatorError, ModelError
from annotator.session import Session

SECONDS_BEFORE_RETRY = 3.0


def _same(session: Session) -> Session:
    return session


def _nothing() -> None:
    return


class LookAhead:
    """Runs `look_ahead` of one project's sessions, one at a time.

    `renewed` gives a session anew, by the settings of this moment: they may have changed while another was run.
    `afterwards` is called when one was run, wherever that was; it must not take long.
    """

    def __init__(
        self, renewed: Callable[[Session], Session] = _same, afterwards: Callable[[], None] = _nothing
    ) -> None:
        self._renewed = renewed
        self._afterwards = afterwards
        self.failure: AnnotatorError | None = None
        """Why the last one failed; None after one that did not."""
        self._starting = threading.Lock()
        self._choosing = threading.RLock()
        self._thread: threading.Thread | None = None
        self._rests_until = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a batch is being chosen in the background."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, session: Session, on_offered: Callable[[], None]) -> None:
        """Let the session look ahead in a thread; `on_offered` is called there afterwards.

        Does nothing while one is running, and for a moment after one that failed.
        """
        with self._starting:
            if not self.is_running and time.monotonic() >= self._rests_until:
                arguments = (session, on_offered)
                self._thread = threading.Thread(target=self._run, args=arguments, name="look-ahead", daemon=True)
                self._thread.start()

    def run(self, session: Session) -> None:
        """Let the session look ahead here and now."""
        with self._choosing:
            self._renewed(session).look_ahead(wait=False)
        self._afterwards()

    def advance(self, session: Session, wait: bool = True) -> None:
        """Let the session learn and ask its next batch here and now."""
        with self._choosing:
            self._renewed(session).advance(wait)
        self._afterwards()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Between two batches: waits for the one that is being chosen; none is begun meanwhile."""
        with self._choosing:
            yield

    def _run(self, session: Session, on_offered: Callable[[], None]) -> None:
        try:
            self.run(session)
            on_offered()
            self.failure = None
        except AnnotatorError as error:
            self._fail(error)
        except Exception as error:  # a plug-in raises whatever it likes; said to people, as nobody waits for the thread
            self._fail(ModelError(f"The next images could not be chosen ({error!r}). Your labels are safe."))

    def _fail(self, error: AnnotatorError) -> None:
        self.failure = error
        self._rests_until = time.monotonic() + SECONDS_BEFORE_RETRY
