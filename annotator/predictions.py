"""Predictions of a project's models as files, so that a restart or an export fits nothing again.

    predictions/<model version>-<first digits of its SHA-256>.prediction

A file holds one `Prediction` bit for bit, with the model version, seq, config and dataset version that it belongs to.
Its SHA-256 stands beside the model's record in the store and is written last: a file that is damaged, foreign or half
written is not read, and the model is fitted again. Only the newest few are kept. Knows no model and no labels.

Files are written in a thread that no round waits for, the newest prediction only, for at most a tenth of the time, and
while rounds pause: an array that is being written cannot be used again, and the disk is needed for answers.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator import durable
from annotator.errors import AnnotatorError
from annotator.store import ModelRecord, Store
from annotator.store.artefacts import newest_files, record_prediction
from annotator.types import Prediction

SUFFIX = ".prediction"
N_KEPT = 3
"""Files: the newest, and what another process may be reading."""
N_DIGITS = 16
REST = 9
"""Times what a file took, until the next one is written."""
QUIET = 20
"""Times what the last file took, without a newer prediction, until one is written ..."""
MOST_QUIET = 2.0
"""... or these seconds, where that is less."""
LONGEST = 20.0
"""Seconds after which one is written however fast rounds follow each other."""
ABANDONED = 3600.0
"""Seconds after which nobody is writing a draft any more."""
ALIGNED = 64
"""Bytes: a multiple of them stands before the first array, so that numbers lie where processors like them."""

BoolArray = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]  # Any: numbers


class PredictionFiles:
    """The predictions of one project on disk; safe between threads and processes."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._waiting: tuple[ModelRecord, Prediction] | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._took = 0.0
        """Seconds, for the last file."""
        self._newest_at = 0.0
        """When the waiting prediction came, on the monotonic clock."""
        self._changed: BoolArray | None = None
        """(n_images,) whether a row changed since the last file; None = any may have."""
        self._since: int | None = None

    def keep(self, record: ModelRecord, prediction: Prediction) -> None:
        """Write it soon, or a newer one in its place; returns at once, and where that fails nothing is kept."""
        with self._lock:
            self._waiting, self._newest_at = (record, prediction), time.monotonic()
            if prediction.changed is None:
                self._changed = None
            elif self._changed is not None:
                self._changed[prediction.changed] = True
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._write_all, name="predictions", daemon=True)
                self._thread.start()

    def load(self, record: ModelRecord) -> Prediction | None:
        """The prediction of this model; None where there is no whole file of it."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = self._path(record.version, record.sha256 or "").read_bytes()
            if hashlib.sha256(content).hexdigest() == record.sha256:
                header, arrays = _read(content)
                return _prediction(arrays, header.get("temperature", 1.0)) if header["of"] == _own(record) else None
        return None

    def close(self) -> None:
        """Write what is waiting; nothing is kept from then on."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _write_all(self) -> None:
        while True:
            self._wait_for_quiet()
            with self._lock:
                waiting, self._waiting = self._waiting, None
                if waiting is None:
                    self._thread = None
                    return
                changed, self._changed = self._changed, np.zeros(len(waiting[1].probabilities), dtype=bool)
            started = time.perf_counter()
            self._write_or_forget(*waiting, changed)
            del waiting  # an array that somebody holds is not written again
            self._took = time.perf_counter() - started
            self._closing.wait(REST * self._took)

    def _wait_for_quiet(self) -> None:
        """Until rounds pause, or for as long as a file may be put off."""
        began, quiet = time.monotonic(), min(QUIET * self._took, MOST_QUIET)
        while self._waiting is not None and not self._closing.is_set():
            left = min(self._newest_at + quiet, began + LONGEST) - time.monotonic()
            if left <= 0:
                return
            self._closing.wait(left)

    def _write_or_forget(self, record: ModelRecord, prediction: Prediction, changed: BoolArray | None) -> None:
        """Where that fails, any row may differ from the last file; another error ends this thread, not the next."""
        try:
            self._write(record, prediction, changed)
        except BaseException as error:
            with self._lock:
                self._changed = None
                if not isinstance(error, OSError | AnnotatorError | MemoryError):
                    self._thread = None
                    raise

    def _write(self, record: ModelRecord, prediction: Prediction, changed: BoolArray | None) -> None:
        arrays = _arrays(prediction)
        if changed is not None and self._since is not None:
            arrays["changed"] = np.flatnonzero(changed)
        since = self._since if "changed" in arrays else None
        header = {"of": _own(record), "since": since, "temperature": prediction.temperature}
        pieces = _pieces(header, arrays)
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        sha256 = digest.hexdigest()
        self._folder.mkdir(exist_ok=True)
        # Not forced to the disk, for which answers would have to wait: after a loss of power the hash tells.
        with durable.drafts(self._path(record.version, sha256), synced=False) as (draft,), draft.open("wb") as file:
            file.writelines(pieces)
        self._store.write(record_prediction, record, sha256, self._pruned(self._path(record.version, sha256)))
        self._since = record.version

    def _pruned(self, own: Path) -> list[int]:
        """Remove all but the newest files, and what was left by a process that was killed; the versions that stay.

        This one and those that the store knows stay before those of another process whose models were not recorded.
        """
        known = {own, *(self._path(*recorded) for recorded in self._store.read(newest_files, N_KEPT))}
        found = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: (path in known, _version(path)), reverse=True)
        for path in found[N_KEPT:]:
            with suppress(OSError):  # Windows removes no file that is being read
                path.unlink()
        for path in self._folder.glob(f".*{durable.UNFINISHED}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
        return [_version(path) for path in found[:N_KEPT]]

    def _path(self, version: int, sha256: str) -> Path:
        return self._folder / f"{version:06d}-{sha256[:N_DIGITS]}{SUFFIX}"


def _version(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _own(record: ModelRecord) -> dict[str, Any]:  # Any: JSON
    """What of a model's record says whose prediction it is."""
    kept = vars(record)
    return {key: kept[key] for key in ("version", "trained_through", "config_version", "dataset_version")}


def _arrays(prediction: Prediction) -> Arrays:
    found = {name: vars(prediction)[name] for name in ("probabilities", "evidence", "embedding")}
    found |= {f"member {number}": member for number, member in enumerate(prediction.members)}
    return {name: array for name, array in found.items() if array is not None}


def _prediction(arrays: Arrays, temperature: float) -> Prediction:
    members = (f"member {number}" for number in range(len(arrays)))
    return Prediction(
        arrays["probabilities"],
        arrays.get("evidence"),
        arrays.get("embedding"),
        tuple(arrays[name] for name in members if name in arrays),
        temperature=temperature,
    )


def _pieces(header: dict[str, Any], arrays: Arrays) -> list[bytes | memoryview]:  # Any: JSON
    """A file's content: a line of JSON, and the arrays one after the other."""
    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, part.dtype.str, list(part.shape)] for name, part in parts.items()]
    first = json.dumps({**header, "arrays": layout}).encode()
    first += b" " * (-(len(first) + 1) % ALIGNED) + b"\n"
    return [first, *(part.reshape(-1).view(np.uint8).data for part in parts.values())]


def _read(content: bytes) -> tuple[dict[str, Any], Arrays]:  # Any: JSON
    """What `_pieces` made; read-only arrays that share the memory of `content`."""
    start = content.index(b"\n") + 1
    header, arrays = json.loads(content[:start]), {}
    for name, kind, shape in header["arrays"]:
        dtype, size = np.dtype(kind), int(np.prod(shape))
        arrays[name] = np.frombuffer(content, dtype, size, start).reshape(shape)
        start += dtype.itemsize * size
    return header, arrays
