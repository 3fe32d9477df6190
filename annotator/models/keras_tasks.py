"""What the resident worker can be asked for, by name; the only process that imports Keras for it."""

from __future__ import annotations

from typing import Any

from annotator.models import keras_head, keras_pictures
from annotator.types import Report

TASKS = {"fit-head": keras_head.fit, "fit-pictures": keras_pictures.fit, "classify-pictures": keras_pictures.classify}


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Do `arguments["task"]`, which is handed all of them."""
    return TASKS[arguments["task"]](arguments, report)
