"""Labels as a zip of class folders, the shape that image loaders of most frameworks read.

    cat/beach_IMG-41.png   images under their class: its name; the file's name, row in the dataset
    classes.txt            the classes' folders in the order of their ids, one a line
    labels.csv             one line a row of the export, as in the table, with the image's `file`
    labels.jsonl           the same with exact values
    manifest.json          what was written, and the images that could not be

A folder has the name of its class, in any script. Characters that disks or spreadsheets refuse are left out; where
two classes would then share a folder (also on a disk that ignores case), the later folder ends in its class id. With
predictions, people's labels lie in `labeled/cat/` and the model's in `predicted/cat/`.

Images are upright and re-encoded, without the camera's metadata: as PNG, pixel for pixel, where no side
is longer than 512 px, else as JPEG of quality 95. Answers without a class (none of these, unsure, skip) stand in
the tables alone.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from annotator.paths import name_of, readable, same_on_disk
from annotator.types import Report, silent

LONGEST_PNG_SIDE = 512
JPEG_QUALITY = 95
TABLES: dict[str, WriteRecords] = {"labels.csv": write_csv, "labels.jsonl": write_json_lines}
CLASSES, MANIFEST = "classes.txt", "manifest.json"
FILES = (*TABLES, CLASSES, MANIFEST)
"""Beside the folders."""
PREDICTED = "predicted"
"""The outcome of a row that no person answered, and the folder of its image."""

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
                places = Places.for_export(export)
                placed = _add_images(archive, export, places, report)
                for name, write_records in TABLES.items():
                    _add_table(archive, name, write_records, _records(export, places, placed))
                archive.writestr(_entry(CLASSES), "".join(f"{folder}\n" for folder in places.folders))
                manifest = _count(export, placed)
                archive.writestr(_entry(MANIFEST, zipfile.ZIP_DEFLATED), manifest.to_json())
            return replace(manifest, sha256=sha256_of(draft))

    def load_line(self, file_name: str) -> str:
        """Unpacks the folders beside the zip and reads the table; its column `file` leads to the images."""
        folder = str(PurePosixPath(file_name).with_suffix(""))
        unpack = f"shutil.unpack_archive({file_name!r}, {folder!r}, 'zip')"
        return f"import pandas, shutil; {unpack}; labels = {read_csv_call(f'{folder}/labels.csv')}"


@dataclass(frozen=True)
class Places:
    """Where each row's image lies in the zip."""

    folders: tuple[str, ...]
    """By class id."""
    are_apart: bool
    """Predictions have a folder of their own, and so have people's labels."""

    @classmethod
    def for_export(cls, export: Export) -> Places:
        """Folders for people's labels and for predictions; one set of folders where nothing is predicted."""
        return cls(class_folders(export.class_names), any(row.outcome == PREDICTED for row in export.rows))

    def place(self, row: ExportRow) -> str | None:
        """Folder and file name without suffix; None for an answer without a class. The row makes it unique."""
        if row.class_id is None:
            return None
        by_whom = f"{PREDICTED if row.outcome == PREDICTED else 'labeled'}/" if self.are_apart else ""
        stem = readable(PurePosixPath(name_of(row.image_id)).stem, "image")
        return f"{by_whom}{self.folders[row.class_id]}/{stem}-{row.row}"


def class_folders(class_names: Sequence[str]) -> tuple[str, ...]:
    """A folder for each class, by class id: its readable name; on a clash with one before it, its id behind that."""
    taken = {same_on_disk(name) for name in FILES}
    folders = []
    for class_id, class_name in enumerate(class_names):
        name = readable(class_name, "class")
        more = (f"{name}-{class_id}-{number}" for number in itertools.count(2))
        candidates = itertools.chain((name, f"{name}-{class_id}"), more)
        folders.append(next(folder for folder in candidates if same_on_disk(folder) not in taken))
        taken.add(same_on_disk(folders[-1]))
    return tuple(folders)


def encode(image: Image) -> tuple[bytes, str]:
    """The bytes of an image file, and its suffix."""
    if max(image.size) <= LONGEST_PNG_SIDE:
        return png(image), ".png"
    return jpeg(image, JPEG_QUALITY), ".jpg"


def _add_images(archive: zipfile.ZipFile, export: Export, places: Places, report: Report) -> Placed:
    """Every image once under each of its classes, one at a time: memory holds a single image."""
    placed: dict[str, str | FailedImage] = {}
    for done, row in enumerate(export.rows):
        report("images", done, len(export.rows))
        where = places.place(row)
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


def _add_table(archive: zipfile.ZipFile, name: str, write_records: WriteRecords, records: Iterable[Record]) -> None:
    with (
        archive.open(_entry(name, zipfile.ZIP_DEFLATED), "w", force_zip64=True) as member,
        io.TextIOWrapper(member, encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        write_records(stream, (*COLUMNS, "file"), records)


def _records(export: Export, places: Places, placed: Placed) -> Iterator[Record]:
    for row in export.rows:
        file = placed.get(places.place(row) or "")
        yield as_record(row) | {"file": file if isinstance(file, str) else None}


def _count(export: Export, placed: Placed) -> Manifest:
    n_images = sum(isinstance(file, str) for file in placed.values())
    # Under two classes an image may have failed twice: it is one failure.
    failed = dict.fromkeys(file for file in placed.values() if isinstance(file, FailedImage))
    return count(export, files=n_images + len(TABLES) + 1, failed=tuple(failed))


def _entry(name: str, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """A file of the zip, readable by everyone and with a fixed time: equal exports differ in their manifest alone."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16
    return entry
