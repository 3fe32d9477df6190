"""Trainings one after the other in one process of TensorFlow, whose start takes longer than a short training does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from annotator.jobs import Worker
from annotator.types import Report, silent

SECONDS = 600.0


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """The target of the process: call another one."""
    module, _, function = arguments["target"].partition(":")
    result: dict[str, Any] = getattr(import_module(module), function)(arguments["arguments"], report)
    return result


class Shared:
    """In the place of `Job`: what is started is done by a process that stays."""

    def __init__(self, folder: Path) -> None:
        self.worker = Worker(f"{__name__}:run", folder)

    def start(self, target: str, arguments: dict[str, Any], folder: Path) -> _Started:
        """Remember it; it is done once somebody waits for it."""
        return _Started(self.worker, {"target": target, "arguments": arguments})


class _Started:
    def __init__(self, worker: Worker, request: dict[str, Any]) -> None:
        self._worker, self._request = worker, request

    def wait(self, report: Report = silent) -> Any:  # Any: JSON
        """What the target returns. Raises what it raised."""
        return self._worker.call(self._request, SECONDS)
