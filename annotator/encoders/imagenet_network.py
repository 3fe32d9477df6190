"""Outputs of the pretrained network's layers, computed in a worker process that holds TensorFlow. Knows no pool.

The first call starts the worker, which takes seconds; later calls use it. It ends after a while without a call, since
it holds half a gigabyte. Images and outputs are passed as files in the worker's folder.
"""

from __future__ import annotations

import atexit
import shutil
import threading
from dataclasses import dataclass

import numpy as np

from annotator.encoders import stored
from annotator.jobs import Worker
from annotator.types import FeatureArray, ImageArray

RUN = "annotator.encoders.keras_imagenet:run"
CALL_SECONDS = 600.0
"""Seconds that a call may take, TensorFlow's start included; a call alone takes about one."""
IDLE_SECONDS = 20.0
GRID = 4
"""Cells a side to which a block's layout is averaged."""
WIDTHS = {"block4": GRID * GRID * 40, "block7": GRID * GRID * 80, "block11": GRID * GRID * 192, "head": 1280}
WIDTHS["classes"] = 1000
"""Numbers of an image in each layer that can be asked for."""


@dataclass(frozen=True)
class Cut:
    """Which layers of the network, of images at which size."""

    side: int
    layers: tuple[str, ...]
    """"block4", "block7", "block11" with their layout; "head", the 1,280 means; "classes", the 1,000 of ImageNet."""
    batch: int
    """Images a batch, always this many: an image's features do not depend on the number of images."""
    chunk: int
    """Images of one call, a multiple of `batch`: about a second's work."""

    @property
    def columns(self) -> list[slice]:
        """Where each layer's numbers are in a row of `layers_of`."""
        ends = np.cumsum([WIDTHS[layer] for layer in self.layers]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def layers_of(images: ImageArray, cut: Cut) -> FeatureArray:
    """(n, height, width, 1 or 3) uint8 -> (n, n_values) float32, one layer after the other.

    Raises JobError where the worker fails (the next call starts another), ModelError (MODEL_WEIGHTS).
    """
    return _shared.run(images, cut)


class _Shared:
    """The one worker of this process, behind a lock."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._worker: Worker | None = None
        self._idle = threading.Timer(IDLE_SECONDS, self.close)

    def run(self, images: ImageArray, cut: Cut) -> FeatureArray:
        with self._turn:
            self._idle.cancel()
            worker = self._worker = self._worker or Worker.start(RUN, stored.new_folder())
            try:
                return _exchange(worker, images, cut)
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


def _exchange(worker: Worker, images: ImageArray, cut: Cut) -> FeatureArray:
    given, answer = worker.folder / "images.npy", worker.folder / "layers.npy"
    stored.write_npy(given, images)
    request = {"images": str(given.absolute()), "answer": str(answer.absolute())}
    worker.call({**request, "side": cut.side, "layers": cut.layers, "batch": cut.batch}, CALL_SECONDS)
    return np.asarray(np.load(answer, allow_pickle=False), dtype=np.float32)


_shared = _Shared()
atexit.register(_shared.close)
