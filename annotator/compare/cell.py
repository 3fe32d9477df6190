"""One cell of a comparison: a simulation in a project of its own, written to one file. The target of a job."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from annotator import __version__, durable
from annotator.compare.plan import Json
from annotator.config import Config
from annotator.exclusive import Exclusive
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.simulate import Step, play
from annotator.types import Report

RUN = "annotator.compare.cell:run"
WAIT_SECONDS = 0.5
LEFT_OUT = ("asked_rows", "asked_predicted", "asked_true", "confusion", "per_class")
"""Of a round's row: what is large, and no part of a curve."""


def run(arguments: Json, report: Report) -> Json:
    """Play the cell to its end and write its file, whole or not at all. Raises what playing raises.

    Where another comparison plays the same cell at this moment, its project is left alone: this one waits for it, and
    plays only what that has not finished.
    """
    with _alone(Path(arguments["project"]), report) as had_to_wait:
        if not (had_to_wait and Path(arguments["file"]).exists()):
            _play(arguments, report)
    return {}


def _play(arguments: Json, report: Report) -> None:
    config = Config.from_json(arguments["config"])
    steps = [Step(*step) for step in arguments["steps"]]
    started = time.perf_counter()
    with _project(Path(arguments["project"]), config, report) as project:
        rounds = []
        for row in play(project, arguments["error_rate"], schedule=steps):
            rounds.append({name: value for name, value in row.items() if name not in LEFT_OUT})
            report("Labeling", row["n_labeled"], steps[-1].until)
    written = {
        "key": arguments["key"],
        "system": arguments["system"],
        "version": __version__,
        "config": arguments["config"],
        "steps": steps,
        "error_rate": arguments["error_rate"],
        "rounds": rounds,
        "seconds": round(time.perf_counter() - started, 2),
        **_used(),
    }
    durable.write(Path(arguments["file"]), json.dumps(written) + "\n")


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[bool]:
    """The right to the cell's project folder; whether somebody else had it before."""
    right, had_to_wait = Exclusive(folder.parent / CACHE / f"{folder.name}.lock"), False
    while not right.acquire():
        had_to_wait = True
        report("Waiting for another comparison", 0, 0)
        time.sleep(WAIT_SECONDS)
    try:
        yield had_to_wait
    finally:
        right.release()


@contextmanager
def _project(folder: Path, config: Config, report: Report) -> Iterator[Project]:
    """A new project, thrown away at the end; what a killed run left in its place goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    project = Project.create(folder, config, report)
    try:
        project.store.stop_syncing()
        yield project
    finally:
        project.close()
        shutil.rmtree(folder, ignore_errors=True)


def _used() -> Json:
    """CPU seconds of this process, without those of its workers, and its peak memory; nothing where none is known."""
    if sys.platform == "win32":
        return {}
    import resource  # only where there is one

    used, unit = resource.getrusage(resource.RUSAGE_SELF), 1024 if sys.platform == "darwin" else 1
    return {"cpu_seconds": round(used.ru_utime + used.ru_stime, 2), "peak_mb": used.ru_maxrss // unit // 1024}
