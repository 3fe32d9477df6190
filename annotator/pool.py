"""What is known of every image of a pool, on disk and memory-mapped: ids, places in the source, hashes, groups.

    columns/ids/  source_rows.npy  hashes.npy  group.npy

Opening it takes no step per image. Plain arrays and not Arrow, which has no index from an id to its row: see
docs/decisions.md for the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator import npy
from annotator.ids import StoredIds
from annotator.types import ImageArray, IntArray

HASH_BYTES = 32


@dataclass(frozen=True)
class Columns:
    """An element for each image."""

    ids: StoredIds
    source_rows: IntArray
    hashes: ImageArray
    group: IntArray

    @classmethod
    def from_hashes(cls, ids: Iterable[str], source_rows: IntArray, hashes: bytes | bytearray) -> Columns:
        """`hashes` one behind the other."""
        hashed = np.frombuffer(hashes, dtype=np.uint8).reshape(-1, HASH_BYTES)
        return cls(StoredIds.from_ids(ids), source_rows, hashed, first_of_equal(hashed))

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Columns:  # Any: JSON
        """Of an earlier version, whose manifest had an entry for each image."""
        rows = np.asarray(manifest["source_rows"], dtype=np.int64)
        return cls.from_hashes(manifest["ids"], rows, bytes.fromhex("".join(manifest["hashes"])))

    @classmethod
    def load(cls, folder: Path) -> Columns:
        """What `save` wrote, memory-mapped."""
        columns = (npy.load(folder / f"{part}.npy") for part in ("source_rows", "hashes", "group"))
        return cls(StoredIds.load(folder / "ids"), *columns)

    def save(self, folder: Path) -> None:
        """Write everything under `folder`."""
        self.ids.save(folder / "ids")
        npy.save(folder / "source_rows.npy", self.source_rows)
        npy.save(folder / "hashes.npy", self.hashes)
        npy.save(folder / "group.npy", self.group)


def first_of_equal(hashes: ImageArray) -> IntArray:
    """For each row the first row with the same content: (n_images, 32) -> (n_images,)."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    order = np.lexsort(words.T)  # equal ones stay in the order of their rows
    starts = np.zeros(len(order), dtype=bool)
    starts[:1] = True
    for word in words.T:
        starts[1:] |= np.diff(word[order]) != 0
    group = np.empty(len(order), dtype=np.int64)
    group[order] = order[starts][starts.cumsum() - 1]
    return group
