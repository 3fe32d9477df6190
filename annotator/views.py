"""Views of a pool that the import did not make: larger ones, and in grey, for encoders that want them.

They come from the thumbnails in the cache: no source is read and nothing is imported again. They are made once and
kept, or, where they would take more than `MOST_BYTES`, made anew from chunk to chunk as an encoder reads them. Images
of an array are seen at their own size, and a pool of small pictures gains nothing by being enlarged.

    cache/images-<key of the source>/views-<side>.npy, views-<side>-grey.npy, sides.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from annotator import durable, images, npy
from annotator.ingest import VIEW_SIDE, Ingested
from annotator.types import ImageArray, IntArray, Report, View, silent

N_THREADS = 2
CHUNK = 64
MORE = "sides.json"
"""Whether any image is larger than the import's views, in the pool's folder."""
MOST_BYTES = 2 << 30
"""Of views that are kept on the disk: 43,000 photos in colour at 128 px a side, 14,000 at 224."""
RED, GREEN, BLUE, HALF, BITS = 19595, 38470, 7471, 1 << 15, 16
"""Shares of luminance (ITU-R BT.601) in whole numbers that sum to 2^16, as Pillow has them: grey stays as it is."""


def views_of(pool: Ingested, view: View, report: Report = silent) -> ImageArray:
    """(n_images, height, width, n_channels), memory-mapped; the pool's own views where others would show no more.

    Where it would be too large to keep it is an `UnstoredViews`, which has an array's shape and is sliced like one.
    Raises SourceError (CACHE_READONLY) where views cannot be written.
    """
    is_larger, is_grey = view.side > VIEW_SIDE, view.n_channels == 1 and pool.views.shape[3] == 3
    path = pool.folder / f"views-{view.side if is_larger else VIEW_SIDE}{'-grey' if is_grey else ''}.npy"
    if path.exists():
        return npy.load(path)
    is_larger = is_larger and _show_more(pool)
    if not is_larger and not is_grey:
        return pool.views
    unstored = UnstoredViews(pool, view.side if is_larger else None, is_grey)
    if prod(unstored.shape) > MOST_BYTES:
        return cast(ImageArray, unstored)  # encoders slice and index arrays, and nothing else
    _make(unstored, path, report)
    return npy.load(path)


class UnstoredViews:
    """Views that are made where they are read: an array of (n_images, height, width, n_channels) that is nowhere."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, pool: Ingested, side: int | None, is_grey: bool) -> None:
        """`side` px of the pool's thumbnails, or the pool's own views where it is None."""
        self._pool = pool
        self._side = side
        self._is_grey = is_grey
        height, width, n_channels = pool.views.shape[1:] if side is None else (side, side, 3)
        self.shape = (len(pool.ids), height, width, 1 if is_grey else n_channels)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice | int | IntArray) -> ImageArray:
        """One image, or those of a slice or of an array of rows."""
        rows = np.arange(len(self))[which]
        found = self._of_rows(np.atleast_1d(rows))
        return found if np.ndim(rows) else found[0]

    def __array__(self, dtype: np.dtype[np.uint8] | None = None, copy: bool | None = None) -> ImageArray:
        """All of them, in memory."""
        return np.asarray(self[:], dtype=dtype)

    def _of_rows(self, rows: IntArray) -> ImageArray:
        views = self._pool.views[rows] if self._side is None else self._enlarged(rows, self._side)
        return grey(views) if self._is_grey else views

    def _enlarged(self, rows: IntArray, side: int) -> ImageArray:
        views = np.empty((len(rows), side, side, 3), dtype=np.uint8)

        def make(place: int) -> None:
            views[place] = images.letterbox(self._pool.thumbnail(int(rows[place])), side)

        with ThreadPoolExecutor(N_THREADS) as threads:
            for _ in threads.map(make, range(len(rows))):
                pass
        return views


def grey(colours: ImageArray) -> ImageArray:
    """Luminance: (n, height, width, 3) -> (n, height, width, 1); what is grey already keeps its values."""
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray((RED * red + GREEN * green + BLUE * blue + HALF) >> BITS, dtype=np.uint8)[..., None]


def _show_more(pool: Ingested) -> bool:
    """Whether any image has more to show than the pool's views do; found out once, and kept beside them."""
    if not pool.has_thumbnails:
        return False
    path = pool.folder / MORE
    with suppress(OSError, ValueError):
        return bool(json.loads(path.read_text())["larger"])
    found = any(max(_size(pool, row)) > VIEW_SIDE for row in range(len(pool.ids)))
    with suppress(OSError):
        durable.write(path, json.dumps({"larger": found}))
    return found


def _size(pool: Ingested, row: int) -> tuple[int, int]:
    """(width, height) of a thumbnail, which is not decoded for it."""
    with Image.open(BytesIO(pool.thumbnail_bytes(row) or b"")) as image:
        return image.size


def _make(unstored: UnstoredViews, path: Path, report: Report) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": unstored.shape}
    try:
        with durable.drafts(path) as (draft,), draft.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in _chunks(unstored, report):
                file.write(np.ascontiguousarray(chunk).data)
    except OSError as error:
        if durable.no_room(error):
            raise
        raise durable.unwritable(path.parent, error) from error


def _chunks(unstored: UnstoredViews, report: Report) -> Iterator[ImageArray]:
    """Every view in order, some at a time."""
    n_images = len(unstored)
    for start in range(0, n_images, CHUNK):
        report("Making views", start, n_images)
        yield unstored[start : start + CHUNK]
    report("Making views", n_images, n_images)
