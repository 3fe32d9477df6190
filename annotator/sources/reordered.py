"""A source in another order, or only its first images. Knows no kind of source in particular."""

from __future__ import annotations

import numpy as np

from annotator.errors import ConfigError
from annotator.ids import ReorderedIds
from annotator.types import ImageSource, IntArray, keeps, left_out, n_ignored

MAX_SEED = 2**32 - 1
"""The largest seed that `numpy.random.RandomState` takes."""


class Reordered:
    """Rows of another source, in the order given; its test set and what it set aside stay as they are."""

    def __init__(self, source: ImageSource, rows: IntArray) -> None:
        self._source = source
        self._rows = rows
        self.ids = ReorderedIds(source.ids, rows)
        self.array = None if source.array is None else source.array[rows]
        self.class_names = source.class_names
        self.truth = None if source.truth is None else source.truth[rows]
        self.held_out = source.held_out
        self.set_aside = source.set_aside
        self.n_ignored = n_ignored(source)
        self.left_out = left_out(source)
        self.keeps = keeps(source)

    def read(self, row: int) -> bytes:
        """The bytes of image `row` of this order. Raises SourceError (SRC_...)."""
        return self._source.read(int(self._rows[row]))

    def stamp(self, row: int) -> str:
        """What the source says of the image that is `row` in this order."""
        return self._source.stamp(int(self._rows[row]))


def reorder(source: ImageSource, limit: int | None = None, order_seed: int | None = None) -> ImageSource:
    """The source shuffled by `order_seed`, then cut to its first `limit` images; the source itself with neither.

    The shuffle is the one of scikit-learn's examples, `numpy.random.RandomState(order_seed).shuffle` of the row
    numbers, whose result numpy has promised to keep. Raises ConfigError.
    """
    if limit is None and order_seed is None:
        return source
    if limit is not None and limit < 1:
        raise ConfigError(f"The limit must keep at least 1 image, not {limit}.")
    if order_seed is not None and not 0 <= order_seed <= MAX_SEED:
        raise ConfigError(f"The order seed must be 0 to {MAX_SEED}, not {order_seed}.")
    rows = np.arange(len(source.ids))
    if order_seed is not None:
        np.random.RandomState(order_seed).shuffle(rows)  # its own state, nothing global
    return Reordered(source, rows[:limit])
