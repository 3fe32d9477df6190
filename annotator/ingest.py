"""source -> decoded images on disk: small views for encoders, thumbnails for people, a hash of each content.

Files are decoded in guarded worker processes (jobs/decoders.py): a file that crashes a decoder is set aside like any
other bad file, and the import goes on. The folder is written under a temporary name and renamed when complete, so that
a half-written one is never opened. Knows no features and no labels.

    manifest.json       what is known of some images: those set aside, and why; flags
    columns/            what is known of every image (see pool.py)
    views.npy  thumbnails.bin  thumbnails.npy
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from annotator import durable, images, npy
from annotator.errors import AnnotatorError, SourceError
from annotator.ids import StoredIds
from annotator.jobs.decoders import N_WORKERS, Decoded, Decoders, Sides
from annotator.paths import name_of
from annotator.pool import Columns
from annotator.types import ImageArray, ImageSource, IntArray, Report, SetAside, left_out, n_ignored, silent

VIEW_SIDE = 64
"""Pixels a side of the views of photos, for all encoders that do not want larger ones (see views.py)."""
THUMBNAIL_SIDE = 320
"""Longest side of what a card shows of a photo, in pixels."""
SIDES = Sides(VIEW_SIDE, THUMBNAIL_SIDE)
LAYOUT = "3"
"""Part of every cache key: raise it when the layout changes and older folders cannot be upgraded."""
COLUMNS = "columns"
"""The sub-folder of what is known of every image, see pool.py."""
CHUNK = 16
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Ingested:
    """An opened folder of decoded images; rows are those that could be decoded, in the source's order."""

    folder: Path
    ids: StoredIds
    source_rows: IntArray
    hashes: ImageArray
    """(n_images, 32) SHA-256 of each content."""
    group: IntArray
    """(n_images,) the first row with the same content."""
    set_aside: tuple[SetAside, ...]
    flags: dict[str, str]
    n_ignored: int
    views: ImageArray
    left_out: tuple[str, ...] = ()
    """Names of parts of the source that were ignored."""

    @cached_property
    def has_thumbnails(self) -> bool:
        """Whether the images came from files; an array's views are its images."""
        return (self.folder / "thumbnails.bin").exists()

    def thumbnail(self, row: int) -> Image.Image:
        """The card's picture: upright RGB, at most THUMBNAIL_SIDE px a side."""
        stored = self.thumbnail_bytes(row)
        if stored is None:
            return images.from_array(self.views[row])
        return Image.open(BytesIO(stored)).convert("RGB")

    def thumbnail_bytes(self, row: int) -> bytes | None:
        """The thumbnail as the import encoded it, PNG or JPEG; None where the pool is an array and has none."""
        if not self.has_thumbnails:
            return None
        start, end = self._offsets[row : row + 2].tolist()
        with (self.folder / "thumbnails.bin").open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Where each thumbnail begins, and the last one ends."""
        return npy.load(self.folder / "thumbnails.npy")


def ingest(source: ImageSource, cache: Path, report: Report = silent) -> Ingested:
    """Decode every image once, or open what an earlier call wrote for the same content.

    Raises SourceError SRC_EMPTY where not one image could be decoded.
    """
    folder = cache / f"images-{_key(source)}"
    if not (folder / "manifest.json").exists():
        with durable.building(folder) as partial_folder:
            if source.array is not None:
                _write_array(source, source.array, partial_folder)
            else:
                _write_files(source, partial_folder, report)
    return open_ingested(folder)


def open_ingested(folder: Path) -> Ingested:
    """What `ingest` wrote, memory-mapped."""
    manifest = json.loads((folder / "manifest.json").read_text())
    columns = _upgraded(folder, manifest) if "ids" in manifest else Columns.load(folder / COLUMNS)
    return Ingested(
        folder,
        columns.ids,
        columns.source_rows,
        columns.hashes,
        columns.group,
        tuple(SetAside(**entry) for entry in manifest["set_aside"]),
        manifest["flags"],
        manifest["n_ignored"],
        npy.load(folder / "views.npy"),
        tuple(manifest.get("left_out", ())),
    )


def _key(source: ImageSource) -> str:
    digest = hashlib.sha256(LAYOUT.encode())
    for row, image_id in enumerate(source.ids):
        digest.update(f"{image_id}\0{source.stamp(row)}\0".encode("utf-8", "surrogateescape"))
    if source.array is not None:
        digest.update(np.ascontiguousarray(source.array).data)
        digest.update(repr(source.array.shape).encode())
    return digest.hexdigest()[:24]


def _write_array(source: ImageSource, array: ImageArray, folder: Path) -> None:
    npy.save(folder / "views.npy", np.ascontiguousarray(array))
    hashes = bytearray()
    for image in array:
        hashes += hashlib.sha256(np.ascontiguousarray(image).data).digest()
    Columns.from_hashes(source.ids, np.arange(len(array)), hashes).save(folder / COLUMNS)
    _write_manifest(folder, list(source.set_aside), {}, left_out=left_out(source))


def _write_files(source: ImageSource, folder: Path, report: Report) -> None:
    """Stream decoded images to disk; a few bytes of each stay in memory, and the reasons of those set aside."""
    set_aside, flags = list(source.set_aside), {}
    rows, hashes, offsets = array("q"), bytearray(), array("q", [0])
    with (folder / "views.raw").open("wb") as views, (folder / "thumbnails.bin").open("wb") as thumbnails:
        for done, (row, decoded) in enumerate(_decoded(source)):
            report("Reading images", done, len(source.ids))
            if decoded.refused is not None or decoded.view is None:
                set_aside.append(SetAside(source.ids[row], *(decoded.refused or ("IMG_DECODE", "no image came out"))))
                continue
            views.write(decoded.view.tobytes())
            thumbnails.write(decoded.thumbnail)
            offsets.append(offsets[-1] + len(decoded.thumbnail))
            rows.append(row)
            hashes += bytes.fromhex(decoded.content_sha256)
            if decoded.flags:
                flags[source.ids[row]] = ", ".join(decoded.flags)
    report("Reading images", len(source.ids), len(source.ids))
    if not rows:
        raise SourceError(_none_left(set_aside), "SRC_EMPTY")
    npy.save(folder / "thumbnails.npy", np.asarray(offsets, dtype=np.int64))
    _raw_to_npy(folder / "views.raw", folder / "views.npy", (len(rows), VIEW_SIDE, VIEW_SIDE, 3))
    ids = (source.ids[row] for row in rows)
    Columns.from_hashes(ids, np.asarray(rows, dtype=np.int64), hashes).save(folder / COLUMNS)
    _write_manifest(folder, set_aside, flags, n_ignored(source))


def _none_left(set_aside: list[SetAside]) -> str:
    first = f" The first: {name_of(set_aside[0].image_id)}: {set_aside[0].reason}" if set_aside else ""
    return f"Not one of {len(set_aside)} files could be used as an image.{first} Choose a folder with images."


def _raw_to_npy(raw: Path, target: Path, shape: tuple[int, ...]) -> None:
    written = np.memmap(raw, dtype=np.uint8, mode="r", shape=shape)
    npy.save(target, written)
    del written
    raw.unlink()


def _write_manifest(
    folder: Path,
    set_aside: list[SetAside],
    flags: dict[str, str],
    n_ignored: int = 0,
    left_out: Sequence[str] = (),
) -> None:
    manifest = {
        "set_aside": [asdict(entry) for entry in set_aside],
        "n_ignored": n_ignored,
        "flags": flags,
        "left_out": list(left_out),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _upgraded(folder: Path, manifest: dict[str, Any]) -> Columns:  # Any: JSON
    """An earlier version's folder, brought to today's layout where it can be written."""
    columns = Columns.from_manifest(manifest)
    with suppress(OSError, SourceError):
        with durable.building(folder / COLUMNS) as partial_folder:
            columns.save(partial_folder)
        kept = {key: manifest[key] for key in ("set_aside", "n_ignored", "flags")}
        durable.write(folder / "manifest.json", json.dumps(kept))
    return columns


# ---- decoding in worker processes


def _decoded(source: ImageSource) -> Iterator[tuple[int, Decoded]]:
    """Every row in order with what became of it; at most a few chunks are in flight."""
    waiting: deque[tuple[list[int], list[bytes | Decoded], Future[list[Decoded]]]] = deque()
    with Decoders() as decoders:
        for rows, contents in _chunks(source):
            files = [content for content in contents if isinstance(content, bytes)]
            waiting.append((rows, contents, decoders.submit(files, SIDES)))
            while len(waiting) > 2 * N_WORKERS:
                yield from _collect(*waiting.popleft())
        while waiting:
            yield from _collect(*waiting.popleft())


def _chunks(source: ImageSource) -> Iterator[tuple[list[int], list[bytes | Decoded]]]:
    """Rows with their files' bytes, a few at a time: at most CHUNK images, and no more once CHUNK_BYTES are reached."""
    rows: list[int] = []
    contents: list[bytes | Decoded] = []
    n_bytes = 0
    for row in range(len(source.ids)):
        rows.append(row)
        contents.append(_fetch(source, row))
        n_bytes += len(contents[-1]) if isinstance(contents[-1], bytes) else 0
        if len(rows) == CHUNK or n_bytes >= CHUNK_BYTES:
            yield rows, contents
            rows, contents, n_bytes = [], [], 0
    if rows:
        yield rows, contents


def _fetch(source: ImageSource, row: int) -> bytes | Decoded:
    try:
        return source.read(row)
    except AnnotatorError as error:
        return Decoded("", refused=(error.code, str(error)))


def _collect(
    rows: list[int], contents: list[bytes | Decoded], future: Future[list[Decoded]]
) -> Iterator[tuple[int, Decoded]]:
    results = iter(future.result())
    for row, content in zip(rows, contents, strict=True):
        yield row, (content if isinstance(content, Decoded) else next(results))
