"""The child: runs a target and says how far it is, until it is done, cancelled, or without a parent."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from annotator.errors import Cancelled
from annotator.jobs.files import (
    FIGURES,
    LOG,
    OUTCOME,
    PROGRESS,
    REQUEST,
    TEMPORARY,
    UNWRITTEN,
    WORKER_NICENESS,
    Json,
    Progress,
    describe,
    write,
)
from annotator.jobs.process import kill_group
from annotator.types import Report, silent

WRITE_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0
STAGE_CHARACTERS = 200

T = TypeVar("T")

_JOB_FOLDER: Path | None = None  # of the job that this process is


def record(figures: Mapping[str, float]) -> None:
    """Numbers for a plot, such as an epoch's losses, to whoever looks at this job; outside of a job nothing happens."""
    if _JOB_FOLDER is not None:
        with contextlib.suppress(OSError), (_JOB_FOLDER / FIGURES).open("a", encoding="ascii") as file:
            file.write(json.dumps(dict(figures)) + "\n")


def main(target: str, folder: Path) -> None:
    """Run one target, leave its outcome in `folder`."""
    global _JOB_FOLDER
    _JOB_FOLDER = folder
    faulthandler.enable()
    receive(_line, partial(_leave, folder))  # nothing is ever sent
    report = _Reporter(folder / PROGRESS)
    signal.signal(signal.SIGTERM, report.cancel)
    request = json.loads((folder / REQUEST).read_bytes())
    _become(request["niceness"], request["memory_limit"])
    outcome = _run(target, request["arguments"], report, folder / LOG)
    report.close()
    try:
        write(folder / OUTCOME, outcome)
    except OSError:
        sys.exit(UNWRITTEN)


def serve(target: str, folder: Path) -> None:
    """Stay, and answer line by line."""
    faulthandler.enable()
    requests = receive(_line, partial(_leave, folder))
    _become(WORKER_NICENESS, None)
    with answers_apart() as answers:
        with contextlib.suppress(Exception):  # whoever asks will hear of it
            import_module(target.partition(":")[0])
        while True:
            answer = _run(target, json.loads(requests.get()), silent, folder / LOG)
            answers.write(answer.encode() + b"\n")
            answers.flush()


def receive(read: Callable[[BinaryIO], T | None], leave: Callable[[], object]) -> queue.SimpleQueue[T]:
    """What the parent sends, read one by one in a thread; once it closes the pipe or dies, `leave` ends this process.

    `read` gives None, or nothing, at the end of the pipe.
    """
    requests: queue.SimpleQueue[T] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(read, requests, leave), name="parent", daemon=True).start()
    return requests


def _line(pipe: BinaryIO) -> bytes:
    return pipe.readline()


def _receive(read: Callable[[BinaryIO], T | None], requests: queue.SimpleQueue[T], leave: Callable[[], object]) -> None:
    with open(0, "rb", closefd=False) as pipe:
        while request := read(pipe):
            requests.put(request)
    leave()


def answers_apart() -> BinaryIO:
    """The pipe up to the parent, for answers alone: what anything else in this process prints goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


class _Reported(NamedTuple):
    """One call of the child's report, and when and where its stage began."""

    stage: str
    done: int
    total: int
    stage_began: float
    first_done: int


class _Reporter:
    """The child's `Report`: it only remembers, and a thread writes, so that calling it often costs nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()
        self._latest = _Reported(Progress.stage, 0, 0, self._began, 0)
        self._cancelled = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write_often, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._cancelled:
            raise Cancelled(f"Stopped on request during {stage!r}, at {done} of {total}.")
        began, first = self._latest.stage_began, self._latest.first_done
        if stage != self._latest.stage:
            began, first = time.monotonic(), done
        self._latest = _Reported(stage, done, total, began, first)

    def cancel(self, *_: object) -> None:
        """Let the next call raise; takes what a signal handler is given."""
        self._cancelled = True

    def close(self) -> None:
        """Write what was reported last."""
        self._closed.set()
        self._thread.join()

    def _write_often(self) -> None:
        written: _Reported | None = None
        at = 0.0
        closing = False
        while not closing:
            closing = self._closed.wait(WRITE_SECONDS)
            now = time.monotonic()
            if self._latest is not written or now - at > HEARTBEAT_SECONDS:
                written, at = self._latest, now
                self._write(written, now)

    def _write(self, latest: _Reported, now: float) -> None:
        gained, elapsed = latest.done - latest.first_done, now - latest.stage_began
        left = elapsed / gained * max(latest.total - latest.done, 0) if gained > 0 and latest.total else None
        progress = Progress(
            latest.stage[:STAGE_CHARACTERS], int(latest.done), int(latest.total), now - self._began, left
        )
        with contextlib.suppress(OSError), self._path.open("a", encoding="ascii") as file:  # work goes on without
            file.write(json.dumps(asdict(progress)) + "\n")


def _leave(folder: Path) -> None:
    """End with whatever this process started; nobody else is left to remove its temporary files."""
    shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
    kill_group(os.getpid())
    os._exit(1)


def _become(niceness: int, memory_limit: int | None) -> None:
    """Give way to the process that serves people, and take no more memory than allowed."""
    if sys.platform == "win32":
        return
    import resource  # only where there is one

    os.nice(niceness)
    with contextlib.suppress(OSError):  # Linux shares out time among sessions first, and a child is one of its own
        Path("/proc/self/autogroup").write_text(str(niceness))
    if memory_limit is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        with contextlib.suppress(ValueError, OSError):  # a system that has the name but not the limit
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit, hard))


def _run(target: str, arguments: Json, report: Report, log: Path) -> str:
    """Call the target; what it returns or raises, as JSON text."""
    module, _, function = target.partition(":")
    try:
        return json.dumps({"result": getattr(import_module(module), function)(arguments, report)})
    except Exception as error:
        traceback.print_exc()
        return json.dumps({"error": describe(error, target, log)})
