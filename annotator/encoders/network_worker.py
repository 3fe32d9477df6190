"""A pretrained network in a worker process that holds TensorFlow: images in, numbers out. Knows no network.

The first call starts the worker, which takes seconds; later calls use it. It ends after a while without a call, since
it holds half a gigabyte. Images and outputs are passed as files in the worker's folder.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from annotator.encoders import stored
from annotator.errors import ModelError
from annotator.jobs import Worker
from annotator.types import FeatureArray, ImageArray

CALL_SECONDS = 600.0
"""Seconds that a call may take, TensorFlow's start included; a call alone takes about one."""
IDLE_SECONDS = 20.0


class NetworkWorker:
    """The one worker of this process for a target, behind a lock."""

    def __init__(self, target: str) -> None:
        """`target` is called with what `run` is given, and the paths of `images` and of the `answer` that it writes."""
        self._target = target
        self._turn = threading.Lock()
        self._worker: Worker | None = None
        self._idle = threading.Timer(IDLE_SECONDS, self.close)

    def run(self, images: ImageArray, request: Mapping[str, Any]) -> FeatureArray:  # Any: JSON
        """(n, height, width, 1 or 3) uint8 -> (n, n_values) float32.

        Raises JobError where the worker fails (the next call starts another), and what the target raises.
        """
        with self._turn:
            self._idle.cancel()
            worker = self._worker = self._worker or Worker.start(self._target, stored.new_folder())
            try:
                return _exchange(worker, images, request)
            except ModelError:  # the target's answer: the worker is well
                raise
            except BaseException:
                worker.close()  # its folder stays: the message names its log
                self._worker = None
                raise
            finally:
                self._close_when_idle()

    def close(self) -> None:
        """End the worker, if there is one; the next call starts another."""
        with self._turn:
            self._idle.cancel()
            if self._worker is not None:
                self._worker.close()
                shutil.rmtree(self._worker.folder, ignore_errors=True)
                self._worker = None

    def _close_when_idle(self) -> None:
        self._idle = threading.Timer(IDLE_SECONDS, self.close)
        self._idle.daemon = True
        self._idle.start()


def _exchange(worker: Worker, images: ImageArray, request: Mapping[str, Any]) -> FeatureArray:  # Any: JSON
    given, answer = worker.folder / "images.npy", worker.folder / "layers.npy"
    stored.write_npy(given, images)
    worker.call({**request, "images": str(given.absolute()), "answer": str(answer.absolute())}, CALL_SECONDS)
    return np.asarray(np.load(answer, allow_pickle=False), dtype=np.float32)
