"""What parent and child tell each other, through files in the job's folder.

request.json      arguments, niceness, memory limit
progress.jsonl    one line a few times a second, and at least every two as a sign of life
figures.jsonl     numbers for a plot, such as losses, a line each time the target calls `record`
outcome.json      the result or a typed error, put there by rename: whole or not at all
log.txt           whatever the child printed
tmp/              the child's own temporary folder: what it leaves there goes with the job's folder
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator import durable, errors
from annotator.errors import AnnotatorError

Json = dict[str, Any]  # Any: whatever JSON can hold

REQUEST, PROGRESS, FIGURES = "request.json", "progress.jsonl", "figures.jsonl"
OUTCOME, LOG, TEMPORARY = "outcome.json", "log.txt", "tmp"
NICENESS, WORKER_NICENESS = 10, 5
"""Of a run, which works for minutes, and of a worker that stays, whose short answers a person waits for."""
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


def write(path: Path, text: str) -> None:
    """For the other process, whole or not at all; both have ended after a loss of power."""
    durable.write(path, text, synced=False, alone=True)


def whole_lines(lines: Iterable[bytes]) -> Iterator[Json]:
    """Each line's JSON; where the disk was full for a while, a line may lack its end, and the next one follows it."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def tail(path: Path) -> bytes:
    """The end of a file, nothing where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""


def describe(error: BaseException, target: str, log: Path) -> Json:
    """An exception as JSON: an AnnotatorError as it is, another as the JobError that it amounts to."""
    if isinstance(error, AnnotatorError):
        ours = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
        return {"class": ours.__name__, "code": error.code, "message": str(error)}
    if isinstance(error, MemoryError):
        message = f"{target} ran out of memory. Close other programs, or choose smaller images or fewer of them."
        return {"class": "JobError", "code": "JOB_MEMORY", "message": message}
    if isinstance(error, OSError) and durable.no_room(error):
        message = f"{target} could not write its files ({error}). {durable.advice(error)}, and start it again."
        return {"class": "JobError", "code": "JOB_NO_ROOM", "message": message}
    message = f"{target} failed: {type(error).__name__}: {error}. Start it again; the details are in {log}."
    return {"class": "JobError", "code": "JOB_FAILED", "message": message}


def revive(error: Mapping[str, str]) -> AnnotatorError:
    """What `describe` wrote, as an exception again."""
    kind: type[AnnotatorError] = getattr(errors, error["class"])
    return kind(error["message"], error["code"])
