"""Runs a plan's cells in child processes, as many beside each other as asked; finished ones are taken as they are.

    OUT/cells/ENCODER--MODEL--STRATEGY--seed0--KEY.json    one for each finished cell
    PROJECTS/.cache/                                       images, features and graphs, shared by all cells
    OUT/.jobs/                                             folders of running children, named after this process

Every dataset is prepared once, before the first cell, in a child that may use all cores. What fails is reported beside
what does not, and tried again by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from annotator import __version__
from annotator.compare.cell import RUN
from annotator.compare.plan import Cell, Json, Plan
from annotator.config import Recipe
from annotator.errors import AnnotatorError, JobError
from annotator.jobs import Job
from annotator.pointer import CACHE
from annotator.types import Report, silent

PREPARE = "annotator.dataset:prepare_job"
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ran:
    """What became of a cell: its file's content, or why there is none."""

    cell: Cell
    result: Json | None
    error: str = ""
    is_new: bool = True
    """Whether it was run now, and not found finished."""

    @property
    def is_of_another_version(self) -> bool:
        """Whether it was written by another version of the package."""
        return self.result is not None and self.result["version"] != __version__


Heard = Callable[[Ran, int, int], None]
"""Called with what became of a cell, how many are done, and how many there are."""


def _nothing(ran: Ran, done: int, total: int) -> None:
    """A `Heard` that shows nothing."""


def run(
    plan: Plan,
    out: Path,
    projects: Path | None = None,
    workers: int = 1,
    report: Report = silent,
    heard: Heard = _nothing,
) -> list[Ran]:
    """Every cell of the plan, in its order. KeyboardInterrupt, or what `report` raises, stops all children first."""
    room = _Room(out, projects or out / "projects")
    cells = plan.cells()
    versions = _prepared(cells, room, report)
    found: dict[int, Ran] = {}

    def take(place: int, ran: Ran) -> None:
        found[place] = ran
        heard(ran, len(found), len(cells))

    waiting = []
    for place, cell in enumerate(cells):
        version = versions[_name(cell.recipe)]
        if isinstance(version, AnnotatorError):
            take(place, Ran(cell, None, str(version)))
        elif (result := _finished(cell, version, room)) is not None:
            take(place, Ran(cell, result, is_new=False))
        else:
            waiting.append((place, cell, version))
    for place, ran in _run_all(waiting, room, workers, report):
        take(place, ran)
    return [found[place] for place in range(len(cells))]


@dataclass(frozen=True)
class _Room:
    """Where things lie."""

    out: Path
    projects: Path

    def file(self, cell: Cell, version: str) -> Path:
        return self.out / "cells" / cell.file_name(version)

    def job(self, name: str) -> Path:
        return self.out / ".jobs" / f"{name}-{os.getpid()}"


def _name(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), sort_keys=True)


def _prepared(cells: Sequence[Cell], room: _Room, report: Report) -> dict[str, str | AnnotatorError]:
    """Recipe -> its dataset's version, or why there is none."""
    recipes = {_name(cell.recipe): cell.recipe for cell in cells}
    return {name: _prepare(recipe, room, report) for name, recipe in recipes.items()}


def _prepare(recipe: Recipe, room: _Room, report: Report) -> str | AnnotatorError:
    cache, job_folder = room.projects / CACHE, room.job("prepare")
    room.projects.mkdir(parents=True, exist_ok=True)
    try:
        job = Job.start(PREPARE, {"recipe": asdict(recipe), "cache": str(cache)}, job_folder, niceness=0)
        folder = job.wait(lambda stage, done, total: report(f"{recipe.encoder}: {stage}", done, total))["folder"]
    except AnnotatorError as error:
        return error
    shutil.rmtree(job_folder, ignore_errors=True)
    return str(json.loads((cache / folder / "dataset.json").read_text())["version"])


def _finished(cell: Cell, version: str, room: _Room) -> Json | None:
    """What an earlier run wrote; None where there is no whole file of exactly this cell."""
    try:
        result = json.loads(room.file(cell, version).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("key") == cell.key(version) else None


_Waiting = tuple[int, Cell, str]


def _run_all(waiting: Sequence[_Waiting], room: _Room, workers: int, report: Report) -> Iterator[tuple[int, Ran]]:
    """(place, what became of it) as they end."""
    left, running = list(reversed(waiting)), dict[int, tuple[Job, Cell, str]]()
    (room.out / "cells").mkdir(parents=True, exist_ok=True)
    n_ended = 0
    try:
        while left or running:
            while left and len(running) < workers:
                place, cell, version = left.pop()
                running[place] = (_start(cell, version, room), cell, version)
            time.sleep(POLL_SECONDS)
            for place in [place for place, (job, _, _) in running.items() if job.status != "running"]:
                ended = _ended(*running.pop(place), room)
                n_ended += 1
                yield place, ended
            report(_said(running), n_ended, len(waiting))
    finally:
        _stop([job for job, _, _ in running.values()])


def _said(running: dict[int, tuple[Job, Cell, str]]) -> str:
    """What is at work, and how far."""
    return "; ".join(f"{cell}: {job.progress.done:,} labels" for job, cell, _ in running.values()) + "; cells"


def _start(cell: Cell, version: str, room: _Room) -> Job:
    key = cell.key(version)
    arguments = {
        "config": asdict(cell.config),
        "system": str(cell.system),
        "steps": cell.steps,
        "error_rate": cell.error_rate,
        "key": key,
        "project": str((room.projects / f"cell-{key}").absolute()),
        "file": str(room.file(cell, version).absolute()),
    }
    return Job.start(RUN, arguments, room.job(key), niceness=0, one_thread=True)


def _ended(job: Job, cell: Cell, version: str, room: _Room) -> Ran:
    try:
        job.result()
        result = _finished(cell, version, room)
        if result is None:
            raise JobError(f"{room.file(cell, version)} is not what was written. Run it again.", "JOB_CRASHED")
    except AnnotatorError as error:
        return Ran(cell, None, str(error))
    shutil.rmtree(job.folder, ignore_errors=True)
    return Ran(cell, result)


def _stop(jobs: Sequence[Job]) -> None:
    """Cancel all of them, and wait until none is left."""
    for job in jobs:
        job.cancel()
    while any(job.status == "running" for job in jobs):
        time.sleep(POLL_SECONDS)
