"""Arrays as .npy files: written whole or with an error, opened memory-mapped. Knows no meaning of any."""

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
    """A file that numpy writes to by Python's buffer, whose errors are told, and not by C's."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write
