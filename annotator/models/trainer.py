"""The resident worker that trains the Keras models of this process, all of them: TensorFlow is loaded once.

The first fit or `warm_up` starts it; it ends with this process. Knows no TensorFlow itself, and no model.
"""

from __future__ import annotations

import atexit
import shutil
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from annotator.encoders import stored
from annotator.jobs import Worker

RUN = "annotator.models.keras_tasks:run"
CALL_SECONDS = 600.0
"""Seconds that a call may take, TensorFlow's start included; a fit of a head alone takes about one."""

_first_use = threading.Lock()


def call(task: str, arguments: Mapping[str, Any]) -> None:  # Any: JSON
    """Have one of the tasks in keras_tasks.py done; what it makes is in files that `arguments` name.

    Raises the AnnotatorError that the task raised, or JobError where the worker fails; the next call starts another.
    """
    shared().call({"task": task, **arguments}, CALL_SECONDS)


def shared() -> Worker:
    """The worker, started in the background where there is none yet."""
    with _first_use:  # two threads may be the first
        return start()


@cache
def start() -> Worker:
    """The same worker at each call; only tests forget it (`start.cache_clear`)."""
    folder = stored.new_folder()
    worker = Worker.start(RUN, folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(worker.close)  # exit handlers run in reverse order
    return worker
