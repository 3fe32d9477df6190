"""Labels as numpy arrays, one entry a row of the export, loadable without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.exporters.rows import COLUMNS, KINDS, Export, ExportRow, Manifest, complete_or_absent, count, sha256_of
from annotator.types import UNLABELED, ImageArray, IntArray, Report, silent

Array = NDArray[Any]  # text, whole numbers or fractions, by column
IMAGES_AT_ONCE = 1024
PLURALS = {
    "class_id": "labels",
    "guess": "guesses",
    "guess_probability": "guess_probabilities",
    "guess_shown": "guess_shown",
    "answered_at": "answered_at",
    "probability": "probabilities",
    "milliseconds": "milliseconds",
}
"""Column -> name of its array, where that is not the column and an s."""


class Npz:
    """NumPy archive: labels as class ids (-1 = none), small views of the images, and who answered what when."""

    suffix = ".npz"
    mime = "application/x-npz"

    def write(self, export: Export, path: Path, report: Report = silent) -> Manifest:
        """Write the archive, its manifest inside as JSON text. Raises ExportError (EXPORT_WRITE)."""
        manifest = count(export, files=1)
        with complete_or_absent(path) as (draft,):
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, array in columns(export).items():
                    _add(archive, name, array)
                if export.images is not None:
                    _add_images(archive, export.images, _rows(export), report)
                _add(archive, "manifest", np.array(manifest.to_json()))
            return replace(manifest, sha256=sha256_of(draft))

    def load_line(self, file_name: str) -> str:
        """Gives an `NpzFile`: each array is read on access."""
        return f"import numpy; labels = numpy.load({file_name!r}, allow_pickle=False)"


def columns(export: Export) -> dict[str, Array]:
    """Every column as an array (n_rows,), and `class_names` (n_classes,), which the labels index.

    Missing values: whole numbers and guess_shown -1, text empty, fractions NaN.
    """
    arrays = {array_name(column): _column(export.rows, column) for column in COLUMNS if column != "class_name"}
    return arrays | {"class_names": _text(export.class_names)}


def array_name(column: str) -> str:
    """The name of a column's array: the plural of the column."""
    return PLURALS.get(column, f"{column}s")


def _column(rows: Sequence[ExportRow], column: str) -> Array:
    values = (getattr(row, column) for row in rows)
    if KINDS[column] is str:
        return _text(values)
    return _fractions(values) if KINDS[column] is float else _whole(values)


def _rows(export: Export) -> IntArray:
    return np.array([row.row for row in export.rows], dtype=np.int64)


def _text(values: Iterable[str | None]) -> Array:
    return np.array([value or "" for value in values], dtype=np.str_)


def _whole(values: Iterable[int | None]) -> Array:
    return np.array([UNLABELED if value is None else value for value in values], dtype=np.int64)


def _fractions(values: Iterable[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _add_images(archive: zipfile.ZipFile, images: ImageArray, rows: IntArray, report: Report) -> None:
    """Write the views of the exported rows, (n_rows, height, width, n_channels), in pieces to bound memory."""
    shape = (len(rows), *images.shape[1:])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with archive.open("images.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, header)
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            report("images", start, len(rows))
            member.write(np.ascontiguousarray(images[rows[start : start + IMAGES_AT_ONCE]]).tobytes())
    report("images", len(rows), len(rows))
