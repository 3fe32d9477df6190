"""Targets of jobs for test_finetuned.py: they run where Keras may be imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotator.encoders import keras_finetuned
from annotator.errors import Cancelled
from annotator.types import Report


def train_three_times(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Names of the networks of one training: whole, without a place for checkpoints, and stopped and taken up."""

    def stop_late(stage: str, done: int, total: int) -> None:
        if done == arguments["stop_at"]:
            raise Cancelled("Stopped.")

    names = [keras_finetuned.train(arguments | {"folder": arguments["folder"] + "/whole"}, report)["networks"][0]]
    (Path(arguments["folder"]) / "again" / keras_finetuned.CHECKPOINT / "a folder").mkdir(parents=True)
    names.append(keras_finetuned.train(arguments | {"folder": arguments["folder"] + "/again"}, report)["networks"][0])
    stopped = arguments | {"folder": arguments["folder"] + "/stopped"}
    try:
        keras_finetuned.train(stopped, stop_late)
    except Cancelled:
        names.append(keras_finetuned.train(stopped, report)["networks"][0])
    return {"names": names}
