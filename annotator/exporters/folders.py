"""Labels as a zip of class folders, the shape that image loaders of most frameworks read.

    cat-3/beach_IMG-41.png   images under their class: slug of the name, class id; slug of the file name, row
    labels.csv               one line a row of the export, as in the table, with the image's `file`
    labels.jsonl             the same with exact values
    manifest.json            what was written, and the images that could not be

Images are turned upright and encoded anew, without the camera's metadata: as PNG, pixel for pixel, where no side
is longer than 512 px, else as JPEG of quality 95. Answers without a class (none of these, unsure, skip) stand in
the tables alone. Predicted images lie with the labeled ones; `outcome` in the tables tells them apart.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from PIL.Image import Image

from annotator.errors import AnnotatorError
from annotator.exporters.rows import (
    COLUMNS,
    Export,
    ExportRow,
    FailedImage,
    Manifest,
    Record,
    as_record,
    complete_or_absent,
    count,
    reason_of,
    sha256_of,
)
from annotator.exporters.tables import WriteRecords, read_csv_call, write_csv, write_json_lines
from annotator.images import jpeg, png
from annotator.paths import slug
from annotator.types import Report, silent

LONGEST_PNG_SIDE = 512
JPEG_QUALITY = 95
TABLES: dict[str, WriteRecords] = {"labels.csv": write_csv, "labels.jsonl": write_json_lines}

Placed = Mapping[str, str | FailedImage]
"""Place of an image (class folder and name without suffix) -> its file in the zip, or why there is none."""


class ClassFolders:
    """Zip with one folder a class and the images in it, for tools that read labels from folder names."""

    suffix = ".zip"
    mime = "application/zip"

    def write(self, export: Export, path: Path, report: Report = silent) -> Manifest:
        """Write the zip; its manifest lists images that could not be opened. Raises ExportError (EXPORT_WRITE)."""
        with complete_or_absent(path) as (draft,):
            with zipfile.ZipFile(draft, "w") as archive:
                placed = _add_images(archive, export, report)
                for name, write_records in TABLES.items():
                    _add_table(archive, name, write_records, export, placed)
                manifest = _count(export, placed)
                archive.writestr(_entry("manifest.json", zipfile.ZIP_DEFLATED), manifest.to_json())
            return replace(manifest, sha256=sha256_of(draft))

    def load_line(self, file_name: str) -> str:
        """Unpacks the folders beside the zip and reads the table; its column `file` leads to the images."""
        folder = str(PurePosixPath(file_name).with_suffix(""))
        unpack = f"shutil.unpack_archive({file_name!r}, {folder!r}, 'zip')"
        return f"import pandas, shutil; {unpack}; labels = {read_csv_call(f'{folder}/labels.csv')}"


def place(row: ExportRow) -> str | None:
    """Class folder and file name without suffix; None for an answer without a class.

    The class id and the dataset's row make both unique, whatever the slugs and the disk's case rules make equal.
    """
    if row.class_name is None or row.class_id is None:
        return None
    folder = f"{_plain(row.class_name, 'class')}-{row.class_id}"
    return f"{folder}/{_plain(PurePosixPath(row.image_id).stem, 'image')}-{row.row}"


def encode(image: Image) -> tuple[bytes, str]:
    """The bytes of an image file, and its suffix."""
    if max(image.size) <= LONGEST_PNG_SIDE:
        return png(image), ".png"
    return jpeg(image, JPEG_QUALITY), ".jpg"


def _plain(text: str, fallback: str) -> str:
    """A slug without "..": unpackers, the standard library's among them, silently leave out such members."""
    return slug(text, fallback).replace("..", "-")


def _add_images(archive: zipfile.ZipFile, export: Export, report: Report) -> Placed:
    """Every image once under each of its classes, one at a time: memory holds a single image."""
    placed: dict[str, str | FailedImage] = {}
    for done, row in enumerate(export.rows):
        report("images", done, len(export.rows))
        where = place(row)
        if where is not None and where not in placed:
            placed[where] = _add_image(archive, where, row, export.open_image)
    report("images", len(export.rows), len(export.rows))
    return placed


def _add_image(
    archive: zipfile.ZipFile, where: str, row: ExportRow, open_image: Callable[[int], Image]
) -> str | FailedImage:
    try:
        content, suffix = encode(open_image(row.row))
    except (AnnotatorError, OSError, ValueError) as error:
        return FailedImage(row.image_id, reason_of(error))
    archive.writestr(_entry(where + suffix), content)
    return where + suffix


def _add_table(
    archive: zipfile.ZipFile, name: str, write_records: WriteRecords, export: Export, placed: Placed
) -> None:
    with (
        archive.open(_entry(name, zipfile.ZIP_DEFLATED), "w", force_zip64=True) as member,
        io.TextIOWrapper(member, encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        write_records(stream, (*COLUMNS, "file"), _records(export, placed))


def _records(export: Export, placed: Placed) -> Iterator[Record]:
    for row in export.rows:
        file = placed.get(place(row) or "")
        yield as_record(row) | {"file": file if isinstance(file, str) else None}


def _count(export: Export, placed: Placed) -> Manifest:
    n_images = sum(isinstance(file, str) for file in placed.values())
    # Under two classes an image may have failed twice: it is one failure.
    failed = dict.fromkeys(file for file in placed.values() if isinstance(file, FailedImage))
    return count(export, files=n_images + len(TABLES), failed=tuple(failed))


def _entry(name: str, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """A file of the zip, readable by everyone and with a fixed time: equal exports differ in their manifest alone."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16
    return entry
