"""A child process that stays: requests go down its pipe and answers come up another, a line of JSON each.

Whatever else the child prints goes to log.txt.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annotator.errors import JobError
from annotator.jobs.files import LOG, Json, revive
from annotator.jobs.process import cannot_start, crash, kill_group, spawn


class Worker:
    """A child process that stays, and answers one request at a time. Any number of threads may call it.

    It ends with its parent. Where it crashes, or takes too long and is stopped, the next call starts another.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._closed = False
        self._turn = threading.Lock()

    @classmethod
    def start(cls, target: str, folder: Path) -> Worker:
        """A worker whose process is loading `target` by now. Raises JobError where none can be started.

        `folder` is its own: its log is there.
        """
        worker = cls(target, folder)
        with worker._turn:
            worker._begin()
        return worker

    def call(self, arguments: Mapping[str, Any], timeout: float) -> Json:  # Any: JSON
        """What the target returns, waited for at most `timeout` seconds, loading included.

        Raises the AnnotatorError that the target raised, or JobError: JOB_TIMEOUT, JOB_KILLED, JOB_CRASHED, JOB_CLOSED.
        """
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            try:
                answer = self._exchange(json.dumps(dict(arguments)), timeout)
            except BaseException:  # an answer that comes too late must not be taken for the next one's
                self._stop()
                raise
        if "error" in answer:
            raise revive(answer["error"])
        result: Json = answer["result"]
        return result

    def close(self) -> None:
        """End the process, whatever it is doing; calls are refused from now on."""
        self._closed = True
        process = self._process
        if process is not None:  # a call that waits for it ends, and so does its turn
            kill_group(process.pid)
        with self._turn:
            self._stop()

    def _begin(self) -> None:
        self._stop()
        if self._closed:
            raise JobError(f"The process for {self.target} was closed. Open the project again.", "JOB_CLOSED")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._process = spawn(["--worker", self.target], self.folder, subprocess.PIPE)
        except OSError as error:
            raise cannot_start(self.folder, error) from error
        self._answers = queue.SimpleQueue()
        arguments = (self._process, self._answers)
        threading.Thread(target=_read_answers, args=arguments, name=f"worker {self.target}", daemon=True).start()

    def _exchange(self, request: str, timeout: float) -> Json:
        """Send one line, wait for one line."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has gone: there will be no answer
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise JobError(
                f"{self.target} gave no answer in {timeout:g} seconds and was stopped. Try again; the details are in "
                f"{self.folder / LOG}.",
                "JOB_TIMEOUT",
            ) from None
        if not line:
            raise crash(self.target, self._process.wait(), self.folder / LOG)
        answer: Json = json.loads(line)
        return answer

    def _stop(self) -> None:
        """Leave no process and no open pipe; nothing happens where there are none."""
        if self._process is None:
            return
        kill_group(self._process.pid)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what was not read any more
                self._process.stdin.close()
        self._process = None


def _read_answers(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Every line of a worker, then an empty one when it has gone."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            answers.put(line)
    answers.put(b"")
