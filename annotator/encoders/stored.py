"""Arrays on disk: with a hash that is checked when they are read, or as .npy for another process to map."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from annotator.errors import ModelError

Array = NDArray[Any]  # any numeric kind
UNFINISHED = ".part"
HASH = ".sha256"


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """An .npz and its sha256 beside it, each under a temporary name, synced, then renamed.

    Raises ModelError (MODEL_SAVE) where they cannot be written.
    """
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for `allow_pickle`
    written = {path: content.getvalue(), _hash_of(path): hashlib.sha256(content.getvalue()).hexdigest().encode()}
    with _saving(path):
        for target, part in written.items():
            _write_synced(_unfinished(target), part)
        for target in written:
            _unfinished(target).replace(target)


def write_text(path: Path, text: str) -> None:
    """A text file as `write` writes arrays. Raises ModelError (MODEL_SAVE)."""
    with _saving(path):
        _write_synced(_unfinished(path), text.encode())
        _unfinished(path).replace(path)


def new_folder() -> Path:
    """An empty temporary folder, which the caller removes. Raises ModelError (MODEL_SAVE)."""
    with _saving(Path(tempfile.gettempdir())):
        return Path(tempfile.mkdtemp(prefix="annotator-"))


def write_npy(path: Path, array: Array) -> None:
    """An .npy by rename, for another process to read now: not synced. Raises ModelError (MODEL_SAVE)."""
    with _saving(path):
        with _unfinished(path).open("wb") as file:
            np.save(file, array)
        _unfinished(path).replace(path)


def read(path: Path) -> dict[str, Array]:
    """What `write` wrote. Raises ModelError (MODEL_HASH) for a file that is missing, cut short or changed."""
    try:
        content, expected = path.read_bytes(), _hash_of(path).read_bytes()
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    if hashlib.sha256(content).hexdigest().encode() != expected:
        raise _refused(path, "it is not the file that was written")
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, BadZipFile) as error:
        raise _refused(path, f"it holds no plain arrays ({error})") from error


def digest(*arrays: Array) -> str:
    """Twelve hexadecimal digits that differ where the numbers or shapes do."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:12]


def path_of(array: Array, folder: Path) -> Path:
    """The .npy that another process may map to see `array`: the one it is mapped from, else a copy in `folder`."""
    path = _mapped_from(array)
    if path is not None and _is_whole(array, path):
        return path
    copy = folder / f"array-{digest(array)}.npy"
    if not copy.exists():
        write_npy(copy, array)
    return copy


def _mapped_from(array: Array) -> Path | None:
    """The file that an array or its base is mapped from; None where memory may differ from the file."""
    behind: object = array
    while isinstance(behind, np.ndarray):
        if isinstance(behind, np.memmap) and behind.filename is not None:
            return None if behind.mode == "c" else Path(behind.filename)
        behind = behind.base
    return None


def _is_whole(array: Array, path: Path) -> bool:
    """Whether the file holds this array and nothing else; a view of a mapped array names its file too."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return bool(stored.shape == array.shape and stored.dtype == array.dtype and stored.strides == array.strides)


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        message = (
            f"Cannot write {path}: {error.strerror or error}. "
            "Free some space there, or allow writing to it; then try again."
        )
        raise ModelError(message, "MODEL_SAVE") from error


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _hash_of(path: Path) -> Path:
    return path.with_name(path.name + HASH)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The weights in {path} cannot be used: {why}. Delete the folder {path.parent}; they are trained again then.",
        "MODEL_HASH",
    )
