"""Whether a pool is grey, though it may be stored in colour. Knows no encoder."""

from __future__ import annotations

import numpy as np

from annotator.types import ImageArray, IntArray

SPREAD, SHARE = 16, 0.95
"""How far apart the channels of a grey pixel may be, of 255, and how many of a pool's images have to be grey."""
CHUNK = 1024
"""Images that are looked at together."""


def is_grey(images: ImageArray, rows: IntArray) -> bool:
    """Whether nearly all of these rows of (n, height, width, 1 or 3) have nearly equal channels in every pixel."""
    if images.shape[3] == 1:
        return True
    parts = np.array_split(rows, -(-len(rows) // CHUNK))
    return float(np.concatenate([_are_grey(images[part]) for part in parts]).mean()) >= SHARE


def _are_grey(images: ImageArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,)"""
    return np.asarray((images.max(axis=3) - images.min(axis=3)).max(axis=(1, 2)) <= SPREAD)
