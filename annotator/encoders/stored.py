"""Arrays on disk: with a hash that is checked when they are read, or as .npy for another process to map."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from annotator import durable
from annotator.errors import ModelError
from annotator.types import IntArray, Report, silent

Array = NDArray[Any]  # any numeric kind
HASH = ".sha256"
CHUNK = 64
"""Rows of an array that are copied at a time."""


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz and its sha256 beside it, whole or not at all. Raises ModelError (MODEL_SAVE)."""
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for `allow_pickle`
    with _saving(path), durable.drafts(path, hash_of(path), alone=True) as (arrays_draft, hash_draft):
        arrays_draft.write_bytes(content.getvalue())
        hash_draft.write_text(hashlib.sha256(content.getvalue()).hexdigest())


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises ModelError (MODEL_SAVE)."""
    with _saving(path):
        durable.write(path, text, alone=True)


def new_folder() -> Path:
    """An empty temporary folder, which the caller removes. Raises ModelError (MODEL_SAVE)."""
    with _saving(Path(tempfile.gettempdir())):
        return Path(tempfile.mkdtemp(prefix="annotator-"))


def write_npy(path: Path, array: Array) -> None:
    """Write an .npy, whole or absent, for another process to read now; not synced. Raises ModelError (MODEL_SAVE)."""
    with _saving(path), durable.drafts(path, synced=False, alone=True) as (draft,), draft.open("wb") as file:
        np.save(file, array)


def read(path: Path) -> dict[str, Array]:
    """What `write` wrote. Raises ModelError (MODEL_HASH) for a file that is missing, cut short or changed."""
    try:
        content, expected = path.read_bytes(), hash_of(path).read_bytes()
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
    if not isinstance(array, np.ndarray):
        return copy_of(array, np.arange(len(array)), folder)
    path = _mapped_from(array)
    if path is not None and _is_whole(array, path):
        return path
    copy = folder / f"array-{digest(array)}.npy"
    if not copy.exists():
        write_npy(copy, array)
    return copy


def copy_of(array: Array, rows: IntArray, folder: Path, report: Report = silent) -> Path:
    """A new .npy in `folder` with these rows of an array, which may be one that is made where it is read.

    Some rows are in memory at a time. Raises ModelError (MODEL_SAVE), and what `report` raises.
    """
    shape = (len(rows), *array.shape[1:])
    found = _hash_of(array.dtype, shape)
    draft = durable.draft_of(folder / "array.npy")
    with _saving(draft):
        try:
            with draft.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, _header(array.dtype, shape))
                for start in range(0, len(rows), CHUNK):
                    report("Reading images", start, len(rows))
                    part = np.ascontiguousarray(array[rows[start : start + CHUNK]])
                    found.update(part.data)
                    file.write(part.data)
            path = folder / f"array-{found.hexdigest()[:12]}.npy"
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:  # Any: any numeric kind
    return {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}


def _hash_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> hashlib._Hash:  # Any: any numeric kind
    """To which the numbers are added."""
    return hashlib.sha256(f"{dtype.str}{shape}".encode())


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
        raise ModelError(f"{durable.refusal(path, error)}; then try again.", "MODEL_SAVE") from error


def hash_of(path: Path) -> Path:
    """The file beside `path` that holds its sha256."""
    return path.with_name(path.name + HASH)


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The weights in {path} cannot be used: {why}. Delete the folder {path.parent}; they are trained again then.",
        "MODEL_HASH",
    )
