"""source -> decoded images on disk: small views for encoders, thumbnails for people, a hash of each content.

Files are decoded in two worker processes with a memory limit and a time limit: what crashes a decoder is set aside like
any other bad file, and the import goes on. The folder is written under a temporary name and renamed when complete, so
a half-written one is never opened. Knows no features and no labels.

    manifest.json       what is known of some images: those set aside, and why; flags
    columns/            what is known of every image: ids, contents' hashes and groups, rows in the source
    views.npy  thumbnails.bin  thumbnails.npy
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from annotator import images, npy
from annotator.errors import AnnotatorError, ImageError, SourceError
from annotator.ids import StoredIds
from annotator.types import ImageArray, ImageSource, IntArray, Report, SetAside, silent

VIEW_SIDE = 64
"""Pixels a side of what encoders see of a photo that do not ask for more (see views.py)."""
THUMBNAIL_SIDE = 320
"""Longest side of what a card shows of a photo, in pixels."""
LAYOUT = "3"
"""Part of every key: raise it when what is written here changes and folders of before cannot be brought to it."""
COLUMNS = "columns"
"""The sub-folder of what is known of every image."""
HASH_BYTES = 32
N_WORKERS = 2
CHUNK = 16
CHUNK_BYTES = 32 << 20
WORKER_BYTES = 4 << 30
CHUNK_SECONDS = 120.0


@dataclass(frozen=True)
class Decoded:
    """One image as a worker hands it back: its hash, and either its views or why there are none."""

    content_sha256: str
    view: ImageArray | None = None
    thumbnail: bytes = b""
    flags: tuple[str, ...] = ()
    refused: tuple[str, str] | None = None


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

    def thumbnail(self, row: int) -> Image.Image:
        """The card's picture: upright RGB, at most THUMBNAIL_SIDE px a side."""
        if not (self.folder / "thumbnails.bin").exists():
            return images.from_array(self.views[row])
        start, end = self._offsets[row : row + 2]
        with (self.folder / "thumbnails.bin").open("rb") as file:
            file.seek(int(start))
            return Image.open(BytesIO(file.read(int(end - start)))).convert("RGB")

    @property
    def _offsets(self) -> NDArray[np.int64]:
        return npy.load(self.folder / "thumbnails.npy")


def ingest(source: ImageSource, cache: Path, report: Report = silent) -> Ingested:
    """Decode every image once; at the next start with the same content, open what was written.

    Raises SourceError SRC_EMPTY where not one image could be decoded.
    """
    folder = cache / f"images-{_key(source)}"
    if not (folder / "manifest.json").exists():
        with building(folder) as partial_folder:
            if source.array is not None:
                _write_array(source, source.array, partial_folder)
            else:
                _write_files(source, partial_folder, report)
    return open_ingested(folder)


def open_ingested(folder: Path) -> Ingested:
    """What `ingest` wrote, memory-mapped."""
    manifest = json.loads((folder / "manifest.json").read_text())
    columns = _upgraded(folder, manifest) if "ids" in manifest else _Columns.load(folder / COLUMNS)
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
    )


@dataclass(frozen=True)
class _Columns:
    """What an opened folder knows of every image."""

    ids: StoredIds
    source_rows: IntArray
    hashes: ImageArray
    group: IntArray

    @classmethod
    def of(cls, ids: Iterable[str], source_rows: IntArray, hashes: bytes | bytearray) -> _Columns:
        """`hashes` one behind the other."""
        hashed = np.frombuffer(hashes, dtype=np.uint8).reshape(-1, HASH_BYTES)
        return cls(StoredIds.of(ids), source_rows, hashed, first_of_equal(hashed))

    @classmethod
    def of_manifest(cls, manifest: dict[str, Any]) -> _Columns:  # Any: JSON
        """Of an earlier version, whose manifest had an entry for each image."""
        rows = np.asarray(manifest["source_rows"], dtype=np.int64)
        return cls.of(manifest["ids"], rows, bytes.fromhex("".join(manifest["hashes"])))

    @classmethod
    def load(cls, folder: Path) -> _Columns:
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


class building:  # noqa: N801  # reads as a verb: with building(folder) as partial_folder
    """A folder that appears complete or not at all: written under a temporary name, renamed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> Path:
        try:
            self._partial.mkdir(parents=True)
        except OSError as error:
            message = f"Cannot write under {self._folder.parent}: {error.strerror}. Choose another --projects folder."
            raise SourceError(message, "CACHE_READONLY") from error
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with suppress(OSError):  # somebody else finished the same folder first: theirs is as good
                self._partial.rename(self._folder)
        shutil.rmtree(self._partial, ignore_errors=True)


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
    _Columns.of(source.ids, np.arange(len(array)), hashes).save(folder / COLUMNS)
    _write_manifest(folder, list(source.set_aside), {})


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
    _Columns.of((source.ids[row] for row in rows), np.asarray(rows, dtype=np.int64), hashes).save(folder / COLUMNS)
    _write_manifest(folder, set_aside, flags, _n_ignored(source))


def _n_ignored(source: ImageSource) -> int:
    """Entries that are no images, where the source counts them: what systems leave in zips, other files."""
    return int(getattr(source, "n_ignored", 0))


def _none_left(set_aside: list[SetAside]) -> str:
    first = f" The first: {set_aside[0].image_id}: {set_aside[0].reason}" if set_aside else ""
    return f"Not one of {len(set_aside)} files could be used as an image.{first} Choose a folder with images."


def _raw_to_npy(raw: Path, target: Path, shape: tuple[int, ...]) -> None:
    written = np.memmap(raw, dtype=np.uint8, mode="r", shape=shape)
    npy.save(target, written)
    del written
    raw.unlink()


def _write_manifest(folder: Path, set_aside: list[SetAside], flags: dict[str, str], n_ignored: int = 0) -> None:
    manifest = {"set_aside": [asdict(entry) for entry in set_aside], "n_ignored": n_ignored, "flags": flags}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _upgraded(folder: Path, manifest: dict[str, Any]) -> _Columns:  # Any: JSON
    """An earlier version's folder, brought to today's layout where it can be written."""
    columns = _Columns.of_manifest(manifest)
    with suppress(OSError, SourceError):
        with building(folder / COLUMNS) as partial_folder:
            columns.save(partial_folder)
        draft = folder / f".{uuid.uuid4().hex[:8]}.json"
        draft.write_text(json.dumps({key: manifest[key] for key in ("set_aside", "n_ignored", "flags")}))
        draft.replace(folder / "manifest.json")
    return columns


# ---- decoding in worker processes


def _decoded(source: ImageSource) -> Iterator[tuple[int, Decoded]]:
    """Every row in order with what became of it; at most a few chunks are in flight."""
    waiting: deque[tuple[list[int], list[bytes | Decoded], Future[list[Decoded]] | None]] = deque()
    with _Workers() as workers:
        for rows, contents in _chunks(source):
            waiting.append((rows, contents, workers.submit(_bytes_of(contents))))
            while len(waiting) > 2 * N_WORKERS:
                yield from _collect(workers, *waiting.popleft())
        while waiting:
            yield from _collect(workers, *waiting.popleft())


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


def _bytes_of(contents: list[bytes | Decoded]) -> list[bytes]:
    return [content for content in contents if isinstance(content, bytes)]


def _collect(
    workers: _Workers, rows: list[int], contents: list[bytes | Decoded], future: Future[list[Decoded]] | None
) -> Iterator[tuple[int, Decoded]]:
    results = iter(workers.result(future, _bytes_of(contents)))
    for row, content in zip(rows, contents, strict=True):
        yield row, (content if isinstance(content, Decoded) else next(results))


class _Workers:
    """Two decoding processes; a chunk that kills or stalls one is done again, image by image, in a new one."""

    def __enter__(self) -> _Workers:
        self._pool = _new_pool(N_WORKERS)
        return self

    def __exit__(self, *_: object) -> None:
        _stop(self._pool)

    def submit(self, contents: list[bytes]) -> Future[list[Decoded]] | None:
        with suppress(BrokenProcessPool):
            return self._pool.submit(_decode_all, contents)
        return None

    def result(self, future: Future[list[Decoded]] | None, contents: list[bytes]) -> list[Decoded]:
        with suppress(BrokenProcessPool, FutureTimeoutError):
            if future is not None:
                return future.result(timeout=CHUNK_SECONDS)
        _stop(self._pool)
        self._pool = _new_pool(N_WORKERS)
        return [_alone(content) for content in contents]


def _alone(content: bytes) -> Decoded:
    """One image in a process of its own: whatever happens there is about this image."""
    pool = _new_pool(1)
    try:
        return pool.submit(_decode_all, [content]).result(timeout=CHUNK_SECONDS)[0]
    except (BrokenProcessPool, FutureTimeoutError):
        reason = "The decoder crashed or ran out of memory or time on this file. Save it again with another program."
        return Decoded(hashlib.sha256(content).hexdigest(), refused=("IMG_DECODE", reason))
    finally:
        _stop(pool)


def _new_pool(n_workers: int) -> ProcessPoolExecutor:
    limits = partial(_prepare_worker, os.getpid())
    return ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"), initializer=limits)


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _prepare_worker(parent: int) -> None:
    """Limit memory where the platform can, and leave when the parent has gone."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (WORKER_BYTES, WORKER_BYTES))
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _decode_all(contents: list[bytes]) -> list[Decoded]:
    return [_decode(content) for content in contents]


def _decode(content: bytes) -> Decoded:
    digest = hashlib.sha256(content).hexdigest()
    try:
        decoded = images.decode(content, side=THUMBNAIL_SIDE)
        thumbnail = images.thumbnail(decoded.image, THUMBNAIL_SIDE)
        small = max(thumbnail.size) <= VIEW_SIDE
        encoded = images.png(thumbnail) if small else images.jpeg(thumbnail)
        return Decoded(digest, images.letterbox(thumbnail, VIEW_SIDE), encoded, decoded.flags)
    except ImageError as error:
        return Decoded(digest, refused=(error.code, str(error)))
    except MemoryError:
        return Decoded(digest, refused=("IMG_TOO_LARGE", "Decoding it needs more memory than one image may take."))
