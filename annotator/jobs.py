"""Long work in a child process: progress, cancel, result. Knows no images.

    Job.start("annotator.dataset:build", {...}, folder)      in the app or the command line
      └─ python -m annotator.jobs TARGET FOLDER              a process of its own, never a fork
           └─ build(arguments, report) -> result             JSON in, JSON out

A target is `module:function` and takes (arguments: dict, report: Report). It is named by code, never by what a person
typed: whoever names it chooses what is run. Parent and child speak through files in the job's folder:

    request.json      arguments, niceness, memory limit
    progress.jsonl    one line a few times a second, and at least every two as a sign of life
    figures.jsonl     numbers for a plot, such as losses, a line each time the target calls `record`
    outcome.json      the result or a typed error, put there by rename: whole or not at all
    log.txt           whatever the child printed
    tmp/              the child's own temporary folder: what it leaves there goes with the job's folder

The child holds the reading end of a pipe whose writing end only its parent has: when the parent dies, by whatever
death, the pipe closes and the child goes too, with everything it started.

    Worker.start("annotator.models.keras_head:fit", folder).call({...}, timeout)
      └─ python -m annotator.jobs --worker TARGET FOLDER     one that stays, for what is slow to load and quick to run

A worker's requests come down that pipe and its answers go up another, a line of JSON each. Whatever else the child
prints goes to log.txt.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from annotator import durable, errors
from annotator.durable import UNFINISHED, no_room
from annotator.errors import AnnotatorError, Cancelled, JobError
from annotator.types import Report, silent

Json = dict[str, Any]  # Any: whatever JSON can hold
Status = Literal["running", "done", "failed", "cancelled"]

REQUEST, PROGRESS, FIGURES = "request.json", "progress.jsonl", "figures.jsonl"
OUTCOME, LOG, TEMPORARY = "outcome.json", "log.txt", "tmp"
NICENESS = 5
GRACE_SECONDS = 5.0
WRITE_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0
STAGE_CHARACTERS = 200
TAIL_BYTES = 16384
UNWRITTEN = 74
"""The exit code of a child that could not even write its outcome (EX_IOERR)."""


@dataclass(frozen=True)
class Progress:
    """How far a job is. `seconds` counts from its start, `seconds_left` is for the current stage alone."""

    stage: str = "starting"
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None


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
    ) -> Job:
        """Start `target` in a process of its own, with `folder` to itself. Raises JobError where that is impossible.

        `memory_limit` is in bytes of address space, where the system knows such a limit (Linux does). Compiled code
        with threads reserves far more space than it uses, so there is none by default.
        """
        request = {"arguments": dict(arguments), "niceness": niceness, "memory_limit": memory_limit}
        try:
            _clear(folder)
            _write(folder / REQUEST, json.dumps(request))
            process = _spawn([target], folder)
        except OSError as error:
            raise _cannot_start(folder, error) from error
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
        newest = next(_whole_lines(reversed(_tail(self.folder / PROGRESS).split(b"\n")[:-1])), None)
        return Progress() if newest is None else Progress(**newest)

    @property
    def figures(self) -> list[Json]:
        """What the child recorded so far, in order."""
        try:
            lines = (self.folder / FIGURES).read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return list(_whole_lines(lines))

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
        _kill_group(self._process.pid)  # what the child started and left behind
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(OSError, ValueError):  # nothing readable is a crash
            self._outcome = json.loads((self.folder / OUTCOME).read_bytes())
        self._ended.set()

    def _kill_late(self) -> None:
        if not self._ended.wait(GRACE_SECONDS):
            _kill_group(self._process.pid)

    def _error(self) -> AnnotatorError:
        if self._outcome is not None:
            return _revive(self._outcome["error"])
        if self._cancelled:
            return Cancelled(f"{self.target} was stopped on request.")
        return _crash(self.target, self._process.returncode, self.folder / LOG)


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
            raise _revive(answer["error"])
        result: Json = answer["result"]
        return result

    def close(self) -> None:
        """End the process, whatever it is doing; calls are refused from now on."""
        self._closed = True
        process = self._process
        if process is not None:  # a call that waits for it ends, and so does its turn
            _kill_group(process.pid)
        with self._turn:
            self._stop()

    def _begin(self) -> None:
        self._stop()
        if self._closed:
            raise JobError(f"The process for {self.target} was closed. Open the project again.", "JOB_CLOSED")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._process = _spawn(["--worker", self.target], self.folder, subprocess.PIPE)
        except OSError as error:
            raise _cannot_start(self.folder, error) from error
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
            raise _crash(self.target, self._process.wait(), self.folder / LOG)
        answer: Json = json.loads(line)
        return answer

    def _stop(self) -> None:
        """Leave no process and no open pipe; nothing happens where there are none."""
        if self._process is None:
            return
        _kill_group(self._process.pid)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what was not read any more
                self._process.stdin.close()
        self._process = None


def record(figures: Mapping[str, float]) -> None:
    """Numbers for a plot, such as an epoch's losses, to whoever looks at this job; outside of a job nothing happens."""
    if _JOB_FOLDER is not None:
        with contextlib.suppress(OSError), (_JOB_FOLDER / FIGURES).open("a", encoding="ascii") as file:
            file.write(json.dumps(dict(figures)) + "\n")


_JOB_FOLDER: Path | None = None  # of the job that this process is


def _pass_on(figures: list[Json]) -> int:
    """Record what another job recorded -> how many."""
    for one in figures:
        record(one)
    return len(figures)


def _read_answers(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Every line of a worker, then an empty one when it has gone."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            answers.put(line)
    answers.put(b"")


def _clear(folder: Path) -> None:
    """Make the folder, without the traces of an earlier job in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (OUTCOME, OUTCOME + UNFINISHED, PROGRESS, FIGURES):
        (folder / name).unlink(missing_ok=True)


def _spawn(what: list[str], folder: Path, output: int | None = None) -> subprocess.Popen[bytes]:
    """-P: what lies in the current folder is not imported. A session of its own: Ctrl-C reaches the parent alone."""
    command = [sys.executable, "-P", "-u", "-X", "utf8", "-m", "annotator.jobs", *what, str(folder.absolute())]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(_new_temporary(folder)))}
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output or log, stderr=log, start_new_session=True, env=environment
        )


def _new_temporary(folder: Path) -> Path:
    """An empty temporary folder for a child: a killed TensorFlow leaves files behind."""
    temporary = folder.absolute() / TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(exist_ok=True)
    return temporary


def _cannot_start(folder: Path, error: OSError) -> JobError:
    told = f"Cannot start work in {folder}: {durable.reason_of(error)}. {durable.advice(error)}."
    return JobError(told, "JOB_START")


def _kill_group(leader: int) -> None:
    """End a child and whatever it started. Nothing happens where they are gone."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(leader, signal.SIGTERM)
        else:
            os.killpg(leader, signal.SIGKILL)


def _write(path: Path, text: str) -> None:
    """For the other process, whole or not at all; both have ended after a loss of power."""
    durable.write(path, text, synced=False, alone=True)


def _whole_lines(lines: Iterable[bytes]) -> Iterator[Json]:
    """Each line's JSON; where the disk was full for a while, a line may lack its end, and the next one follows it."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _tail(path: Path) -> bytes:
    """The end of a file, nothing where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""


def _describe(error: BaseException, target: str, log: Path) -> Json:
    """An exception as JSON: an AnnotatorError as it is, another as the JobError that it amounts to."""
    if isinstance(error, AnnotatorError):
        ours = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
        return {"class": ours.__name__, "code": error.code, "message": str(error)}
    if isinstance(error, MemoryError):
        message = f"{target} ran out of memory. Close other programs, or choose smaller images or fewer of them."
        return {"class": "JobError", "code": "JOB_MEMORY", "message": message}
    if isinstance(error, OSError) and no_room(error):
        message = f"{target} could not write its files ({error}). {durable.advice(error)}, and start it again."
        return {"class": "JobError", "code": "JOB_NO_ROOM", "message": message}
    message = f"{target} failed: {type(error).__name__}: {error}. Start it again; the details are in {log}."
    return {"class": "JobError", "code": "JOB_FAILED", "message": message}


def _revive(error: Mapping[str, str]) -> AnnotatorError:
    """What `_describe` wrote, as an exception again."""
    kind: type[AnnotatorError] = getattr(errors, error["class"])
    return kind(error["message"], error["code"])


def _crash(target: str, code: int, log: Path) -> JobError:
    """The error for a child that died before it could say why; `code` as subprocess gives it, -9 for signal 9."""
    spoken = _last_words(log)
    if code == -9:  # SIGKILL, which has no name where the system has no such signal
        return JobError(
            f"{target} was killed, most likely because the machine ran out of memory. "
            f"Close other programs, or choose smaller images or fewer of them, and start it again.{spoken}",
            "JOB_KILLED",
        )
    if code == UNWRITTEN:
        message = f"{target} could not write its result into {log.parent}. {durable.FULL}, and start it again."
        return JobError(f"{message}{spoken}", "JOB_NO_ROOM")
    how = f"crashed ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code} and no result"
    return JobError(f"{target} {how}. Start it again; the details are in {log}.{spoken}", "JOB_CRASHED")


def _last_words(log: Path) -> str:
    """The last lines a child printed by itself, in front of the stack that faulthandler adds."""
    printed = _tail(log).decode("utf-8", "replace").partition("Fatal Python error: ")[0]
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f" Its last words: {' / '.join(lines[-3:])}" if lines else ""


# From here on: the child.


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


def _die_with_parent(folder: Path) -> None:
    """Wait for the pipe from the parent to close: nothing is ever sent on it."""
    while os.read(0, 1):
        pass
    _leave(folder)


def _leave(folder: Path) -> None:
    """End with whatever this process started; nobody else is left to remove its temporary files."""
    shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
    _kill_group(os.getpid())
    os._exit(1)


def _become(niceness: int, memory_limit: int | None) -> None:
    """Give way to the process that serves people, and take no more memory than allowed."""
    if sys.platform == "win32":
        return
    import resource  # only where there is one

    os.nice(niceness)
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
        return json.dumps({"error": _describe(error, target, log)})


def main(target: str, folder: Path) -> None:
    """Be the child: run one target, leave its outcome in `folder`."""
    global _JOB_FOLDER
    _JOB_FOLDER = folder
    faulthandler.enable()
    threading.Thread(target=_die_with_parent, args=(folder,), name="parent", daemon=True).start()
    report = _Reporter(folder / PROGRESS)
    signal.signal(signal.SIGTERM, report.cancel)
    request = json.loads((folder / REQUEST).read_bytes())
    _become(request["niceness"], request["memory_limit"])
    outcome = _run(target, request["arguments"], report, folder / LOG)
    report.close()
    try:
        _write(folder / OUTCOME, outcome)
    except OSError:
        sys.exit(UNWRITTEN)


def serve(target: str, folder: Path) -> None:
    """Be the child that stays: answer line by line, until the parent closes the pipe or dies."""
    faulthandler.enable()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, folder), name="parent", daemon=True).start()
    _become(NICENESS, None)
    with answers_apart() as answers:
        with contextlib.suppress(Exception):  # whoever asks will hear of it
            import_module(target.partition(":")[0])
        while True:
            answer = _run(target, json.loads(requests.get()), silent, folder / LOG)
            answers.write(answer.encode() + b"\n")
            answers.flush()


def _read_requests(requests: queue.SimpleQueue[bytes], folder: Path) -> None:
    """The lines of the parent; when there will be no more, the process ends with whatever it started."""
    with open(0, "rb", closefd=False) as lines:
        for line in lines:
            requests.put(line)
    _leave(folder)


def answers_apart() -> BinaryIO:
    """The pipe up to the parent, for answers alone: what anything else in this process prints goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    from annotator import jobs  # this file by the name that targets import it by, so that `record` knows its job

    if sys.argv[1] == "--worker":
        jobs.serve(sys.argv[2], Path(sys.argv[3]))
    else:
        jobs.main(sys.argv[1], Path(sys.argv[2]))
