"""Image ids of large pools: sequences of text that create a string only on access. Knows no images.

`StoredIds` keeps any ids as a few memory-mapped arrays: the text of all (UTF-8, lone surrogates as they are), where
each id ends in it, and the ids' 64-bit hashes in ascending order, by which an id finds its row. `NumberedIds` are
computed, `ReorderedIds` are those of another sequence in another order.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from annotator import npy
from annotator.types import IntArray

CHUNK = 8192
"""Strings that exist at once while all ids are iterated over."""
PARTS = ("text", "offsets", "hashes", "rows")
DIGITS = 5
"""Digits of a number in an id, padded with zeros; a larger number has more."""


class Ids(Sequence[str]):
    """Ids by row. Equal to any sequence of the same ids in the same order."""

    @abstractmethod
    def _at(self, row: int) -> str:
        """The id in row 0 to len - 1."""

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[str, ...]: ...
    def __getitem__(self, row: int | slice) -> str | tuple[str, ...]:
        if isinstance(row, slice):
            return tuple(self._at(place) for place in range(*row.indices(len(self))))
        place = operator.index(row)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"There is no image in row {row} of {len(self):,}.")
        return self._at(place)

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(len(self)))

    def __contains__(self, image_id: object) -> bool:
        try:
            self.index(image_id)
        except ValueError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        shown = ", ".join(repr(image_id) for image_id in self[:3])
        return f"<{type(self).__name__} of {len(self):,}: {shown}{', ...' * (len(self) > 3)}>"


class StoredIds(Ids):
    """Any ids, as arrays; `save` and `load` keep them in a folder."""

    def __init__(
        self, text: NDArray[np.uint8], offsets: IntArray, hashes: NDArray[np.uint64], rows: NDArray[np.integer[Any]]
    ) -> None:
        """`text` of all ids; `offsets` (n_images + 1,) where each begins; `hashes` (n_images,) ascending, with their
        `rows` (n_images,).
        """
        self._text, self._offsets, self._hashes, self._rows = text, offsets, hashes, rows

    @classmethod
    def from_ids(cls, image_ids: Iterable[str]) -> StoredIds:
        """Keep these ids in memory as arrays."""
        text, offsets, hashes = bytearray(), array("q", [0]), array("Q")
        for image_id in image_ids:
            encoded = _encoded(image_id)
            text += encoded
            offsets.append(len(text))
            hashes.append(_hash(encoded))
        hashed = np.frombuffer(hashes, dtype=np.uint64)
        rows = np.argsort(hashed, kind="stable")
        return cls(np.frombuffer(text, dtype=np.uint8), np.frombuffer(offsets, dtype=np.int64), hashed[rows], rows)

    @classmethod
    def load(cls, folder: Path) -> StoredIds:
        """What `save` wrote, memory-mapped."""
        # As plain arrays, whose elements are several times faster to get at.
        return cls(*(npy.load(folder / f"{part}.npy") for part in PARTS))

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            npy.save(folder / f"{part}.npy", getattr(self, f"_{part}"))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            offsets = self._offsets[start : start + CHUNK + 1]
            encoded = self._text[offsets[0] : offsets[-1]].tobytes()
            places = pairwise((offsets - offsets[0]).tolist())
            if encoded.isascii():  # a letter a byte: decoded at once
                text = encoded.decode("ascii")
                yield from [text[begin:end] for begin, end in places]
            else:
                yield from [_decoded(encoded[begin:end]) for begin, end in places]

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and self._find(image_id) is not None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredIds):
            return np.array_equal(self._offsets, other._offsets) and np.array_equal(self._text, other._text)
        return super().__eq__(other)

    __hash__ = None

    def index(self, image_id: Any, start: int = 0, stop: int | None = None) -> int:  # Any: as Sequence has it
        """The first row of this id. Raises ValueError where there is none."""
        row = self._find(image_id) if isinstance(image_id, str) else None
        return _within(image_id, row, range(len(self))[start:stop])

    def _at(self, row: int) -> str:
        begin, end = self._offsets[row : row + 2].tolist()
        return _decoded(self._text[begin:end].tobytes())

    def _find(self, image_id: str) -> int | None:
        hashed = np.uint64(_hash(_encoded(image_id)))
        place = int(self._hashes.searchsorted(hashed))
        while place < len(self._hashes) and self._hashes[place] == hashed:
            row = int(self._rows[place])
            if self._at(row) == image_id:
                return row
            place += 1
        return None


class NumberedIds(Ids):
    """NAME/00042 for each number; 0, 1, 2, ... where none are given."""

    def __init__(self, name: str, n_images: int, numbers: NDArray[np.integer[Any]] | None = None) -> None:
        self._name, self._n_images, self._numbers = name, n_images, numbers

    def __len__(self) -> int:
        return self._n_images

    def __iter__(self) -> Iterator[str]:
        numbers = range(self._n_images) if self._numbers is None else map(int, self._numbers)
        return map(self._spelt, numbers)

    def index(self, image_id: Any, start: int = 0, stop: int | None = None) -> int:  # Any: as Sequence has it
        """The first row of this id. Raises ValueError where there is none."""
        return _within(image_id, self._find(image_id), range(len(self))[start:stop])

    def _find(self, image_id: object) -> int | None:
        digits = image_id.removeprefix(f"{self._name}/") if isinstance(image_id, str) else ""
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19 and self._spelt(int(digits)) == image_id):
            return None
        if self._numbers is None:
            return int(digits)
        return _first(self._numbers == int(digits))

    def _at(self, row: int) -> str:
        return self._spelt(row if self._numbers is None else int(self._numbers[row]))

    def _spelt(self, number: int) -> str:
        return f"{self._name}/{number:0{DIGITS}d}"


class ReorderedIds(Ids):
    """`rows` (n,) of other ids, in that order."""

    def __init__(self, ids: Sequence[str], rows: IntArray) -> None:
        self._ids, self._picked = ids, rows

    def __len__(self) -> int:
        return len(self._picked)

    def index(self, image_id: Any, start: int = 0, stop: int | None = None) -> int:  # Any: as Sequence has it
        """The first row of this id. Raises ValueError where there is none."""
        row = _first(self._picked == self._ids.index(image_id))
        return _within(image_id, row, range(len(self))[start:stop])

    def _at(self, row: int) -> str:
        return self._ids[int(self._picked[row])]


def _within(image_id: object, row: int | None, rows: range) -> int:
    if row is None or row not in rows:
        raise ValueError(f"There is no image {image_id!r}.")
    return row


def _first(holds: NDArray[np.bool_]) -> int | None:
    return int(holds.argmax()) if holds.any() else None


def _encoded(image_id: str) -> bytes:
    return image_id.encode("utf-8", "surrogatepass")


def _decoded(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogatepass")


def _hash(encoded: bytes) -> int:
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")
