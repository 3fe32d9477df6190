"""Images that are one array: ids, truth and reading for every source of that kind. Knows no file format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotator import images
from annotator.ids import NumberedIds
from annotator.types import UNLABELED, ImageArray, ImageSource, IntArray, SetAside

MAX_IMAGES = 2_000_000
"""Most images of one array; a file of more tiny images would exhaust memory with ids."""
MAX_VALUES = 2**30
"""Pixel values of one array at most: 1 GiB as they are kept, 8 bits each."""


class ArrayRows:
    """An `ImageSource` over an array. `Arrays`, `Idx` and `FashionMnist` are this after reading their files."""

    set_aside: Sequence[SetAside] = ()
    left_out: Sequence[str] = ()
    """Names of parts of the file that were ignored."""

    def __init__(
        self,
        name: str,
        array: ImageArray,
        truth: IntArray | None,
        class_names: tuple[str, ...],
        held_out: ImageSource | None = None,
        numbers: IntArray | None = None,
    ) -> None:
        """`array` (n, height, width, n_channels), `truth` (n,) or None.

        Ids are NAME/00042 by `numbers` (n,), the images' places in the whole they were drawn from; 0, 1, 2, ...
        without.
        """
        self.ids: Sequence[str] = NumberedIds(name, len(array), numbers)
        self.array: ImageArray | None = array
        self.truth: IntArray | None = None if truth is None else truth.astype(np.int64)
        self.class_names = class_names
        self.held_out = held_out
        self._images = array

    def read(self, row: int) -> bytes:
        """Image `row` as a PNG file."""
        return images.png(images.from_array(self._images[row]))

    def stamp(self, row: int) -> str:
        """Always the same: the array was read once and does not change."""
        return ""


def name_codes(*codes: IntArray | None) -> tuple[tuple[str, ...], list[IntArray | None]]:
    """Classes for label codes that have no names: each code that occurs is a class, named by its number.

    So labels 1, 2, 5 become the classes "1", "2", "5" with the codes 0, 1, 2; -1 stays unlabeled.
    """
    found = [np.unique(part) for part in codes if part is not None]
    known = np.unique(np.concatenate([*found, [UNLABELED]]))
    named = known[known != UNLABELED]
    renumbered = [part if part is None else _renumbered(part, named) for part in codes]
    return tuple(str(code) for code in named), renumbered


def _renumbered(codes: IntArray, named: IntArray) -> IntArray:
    return np.where(codes == UNLABELED, UNLABELED, np.searchsorted(named, codes)).astype(np.int64)
