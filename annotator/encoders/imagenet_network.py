"""Outputs of the pretrained network's layers, computed in a worker process that holds TensorFlow. Knows no pool."""

from __future__ import annotations

import atexit
from dataclasses import dataclass

import numpy as np

from annotator.encoders.network_worker import NetworkWorker
from annotator.types import FeatureArray, ImageArray

RUN = "annotator.encoders.keras_imagenet:run"
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
    return _shared.run(images, {"side": cut.side, "layers": cut.layers, "batch": cut.batch})


_shared = NetworkWorker(RUN)
atexit.register(_shared.close)
