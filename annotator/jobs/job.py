"""One run of a target in a process of its own, as its parent sees it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from annotator.durable import UNFINISHED
from annotator.errors import AnnotatorError, Cancelled, JobError
from annotator.jobs.child import record
from annotator.jobs.files import (
    FIGURES,
    LOG,
    NICENESS,
    OUTCOME,
    PROGRESS,
    REQUEST,
    Json,
    Progress,
    revive,
    tail,
    whole_lines,
    write,
)
from annotator.jobs.process import cannot_start, crash, kill_group, spawn
from annotator.types import Report, silent

Status = Literal["running", "done", "failed", "cancelled"]
GRACE_SECONDS = 5.0


class Job:
    """A child process at work, seen from its parent. Any number of threads may look at one."""

    def __init__(self, process: subprocess.Popen[bytes], target: str, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self._process = process
        self._started = time.time()
        self._outcome: Json | None = None
        self._cancelled = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name=f"job {target}", daemon=True).start()

    @classmethod
    def start(
        cls,
        target: str,
        arguments: Mapping[str, Any],  # Any: JSON
        folder: Path,
        niceness: int = NICENESS,
        memory_limit: int | None = None,
        one_thread: bool = False,
    ) -> Job:
        """Start `target` in a process of its own, with `folder` to itself. Raises JobError where that is impossible.

        `memory_limit` is in bytes of address space, where the system knows such a limit (Linux does). Compiled code
        with threads reserves far more space than it uses, so there is none by default. With `one_thread` numerics use
        no more, for several jobs beside each other; a network's training always has as many as elsewhere.
        """
        request = {"arguments": dict(arguments), "niceness": niceness, "memory_limit": memory_limit}
        try:
            _clear(folder)
            write(folder / REQUEST, json.dumps(request))
            process = spawn([target], folder, one_thread=one_thread)
        except OSError as error:
            raise cannot_start(folder, error) from error
        return cls(process, target, folder)

    @property
    def status(self) -> Status:
        """Running until the process has gone; then what it left behind."""
        if not self._ended.is_set():
            return "running"
        if self._outcome is not None and "result" in self._outcome:
            return "done"
        return "cancelled" if isinstance(self._error(), Cancelled) else "failed"

    @property
    def progress(self) -> Progress:
        """The latest that the child said."""
        newest = next(whole_lines(reversed(tail(self.folder / PROGRESS).split(b"\n")[:-1])), None)
        return Progress() if newest is None else Progress(**newest)

    @property
    def figures(self) -> list[Json]:
        """What the child recorded so far, in order."""
        try:
            lines = (self.folder / FIGURES).read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return list(whole_lines(lines))

    @property
    def seconds_silent(self) -> float:
        """Seconds since the child's last sign of life; many times two of them mean that it is stuck or suspended."""
        try:
            seen = (self.folder / PROGRESS).stat().st_mtime
        except FileNotFoundError:
            seen = self._started
        return max(0.0, time.time() - seen)

    def result(self) -> Json:
        """What the target returned. Raises the AnnotatorError that it raised, Cancelled, or JobError."""
        if not self._ended.is_set():
            raise JobError(f"{self.target} is still running. Wait for it, or cancel it.", "JOB_RUNNING")
        if self._outcome is not None and "result" in self._outcome:
            result: Json = self._outcome["result"]
            return result
        raise self._error()

    def cancel(self) -> None:
        """Ask the child to stop at its next report; it is killed where it takes longer than the grace time."""
        if self._cancelled or self._ended.is_set():
            return
        self._cancelled = True
        self._process.terminate()
        threading.Thread(target=self._kill_late, name=f"cancel {self.target}", daemon=True).start()

    def wait(self, report: Report = silent, poll: float = 0.05) -> Json:
        """The result, once it is there; progress goes to `report`. Whatever that raises, the child is stopped first.

        A job that waits for another one passes on the figures which that one records.
        """
        try:
            ended = False
            n_passed_on = 0
            while not ended:
                ended = self._ended.wait(poll)
                progress = self.progress
                report(progress.stage, progress.done, progress.total)
                n_passed_on += _pass_on(self.figures[n_passed_on:])
        except BaseException:
            self.cancel()
            self._ended.wait()
            raise
        return self.result()

    def _watch(self) -> None:
        self._process.wait()
        kill_group(self._process.pid)  # what the child started and left behind
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(OSError, ValueError):  # nothing readable is a crash
            self._outcome = json.loads((self.folder / OUTCOME).read_bytes())
        self._ended.set()

    def _kill_late(self) -> None:
        if not self._ended.wait(GRACE_SECONDS):
            kill_group(self._process.pid)

    def _error(self) -> AnnotatorError:
        if self._outcome is not None:
            return revive(self._outcome["error"])
        if self._cancelled:
            return Cancelled(f"{self.target} was stopped on request.")
        return crash(self.target, self._process.returncode, self.folder / LOG)


def _clear(folder: Path) -> None:
    """Make the folder, without the traces of an earlier job in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OUTCOME, OUTCOME + UNFINISHED, PROGRESS, FIGURES):
        (folder / name).unlink(missing_ok=True)


def _pass_on(figures: list[Json]) -> int:
    """Record what another job recorded -> how many."""
    for one in figures:
        record(one)
    return len(figures)
