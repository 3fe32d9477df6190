"""Arrays as .npy files: a failed write raises, reading maps the file into memory. Knows nothing of their meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def save(path: Path, array: NDArray[Any]) -> None:  # Any: whatever is kept
    """Write an array. Raises OSError where there is no room: `np.save` loses the end of a small file silently."""
    with path.open("wb") as file:
        np.lib.format.write_array(_Plain(file), np.asarray(array), allow_pickle=False)


def load(path: Path) -> NDArray[Any]:  # Any: as above
    """What `save` wrote, memory-mapped and read-only; a plain array, whose elements are quicker to get at."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


class _Plain:
    """Makes numpy write through Python's file object, which raises on errors; its C path loses them."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write
