"""Larger views of photos than those that the import makes, for encoders that want them; made once, when first needed.

They come from the thumbnails in the cache: no source is read and nothing is imported again. Pools of arrays are seen as
they are at any size, and a pool of small pictures gains nothing by being enlarged: both keep the views that they have.

    cache/images-<key of the source>/views-<side>.npy
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from annotator import durable, images, npy
from annotator.ingest import VIEW_SIDE, Ingested
from annotator.types import ImageArray, Report, silent

N_THREADS = 2
CHUNK = 64


def views_of(pool: Ingested, side: int, report: Report = silent) -> ImageArray:
    """(n_images, side, side, 3), memory-mapped; the pool's own views where larger ones would show no more.

    Raises SourceError (CACHE_READONLY) where they cannot be written.
    """
    path = pool.folder / f"views-{side}.npy"
    if not path.exists():
        if not _show_more(pool, side):
            return pool.views
        _make(pool, side, path, report)
    views: ImageArray = npy.load(path)
    return views


def _show_more(pool: Ingested, side: int) -> bool:
    """Whether any image has more to show than the pool's views do."""
    if side <= VIEW_SIDE or not pool.has_thumbnails:
        return False
    return any(max(pool.thumbnail(row).size) > VIEW_SIDE for row in range(len(pool.ids)))


def _make(pool: Ingested, side: int, path: Path, report: Report) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(pool.ids), side, side, 3)}
    try:
        with durable.drafts(path) as (draft,), draft.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in _chunks(pool, side, report):
                file.write(chunk.data)
    except OSError as error:
        if durable.no_room(error):
            raise
        raise durable.unwritable(pool.folder, error) from error


def _chunks(pool: Ingested, side: int, report: Report) -> Iterator[ImageArray]:
    """Every view in order, some at a time."""
    n_images = len(pool.ids)
    with ThreadPoolExecutor(N_THREADS) as threads:
        for start in range(0, n_images, CHUNK):
            rows = range(start, min(start + CHUNK, n_images))
            report("Enlarging views", start, n_images)
            yield np.stack(list(threads.map(lambda row: images.letterbox(pool.thumbnail(row), side), rows)))
    report("Enlarging views", n_images, n_images)
