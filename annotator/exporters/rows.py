"""The values of an export, its manifest, and the writing of its files: whole or not at all.

An exporter gets an `Export` and writes files. It knows no store, no session and no model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, get_args, get_type_hints

from PIL.Image import Image

from annotator import durable
from annotator.durable import reason_of as reason_of  # what an exporter tells of an image it could not write
from annotator.errors import ExportError
from annotator.types import ImageArray, Report, silent

FORMAT_VERSION = 1
"""Increased whenever a column or a key changes its meaning."""

Cell = str | int | float | bool | None
Record = dict[str, Cell]
"""One row as a table holds it: column -> value."""


def _kind(hint: Any) -> type:  # Any: a type, or a union of one with None
    """The type of a column's values where they are not missing."""
    kinds: list[type] = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return kinds[0]


@dataclass(frozen=True)
class ExportRow:
    """One image with one annotator's answer, or with what the model predicts for it."""

    image_id: str
    class_name: str | None
    class_id: int | None
    """None where the outcome names no class."""
    annotator: str
    round: int | None
    purpose: str
    """Of the question that was answered, as the guess and whether it was shown: "review" after a second look."""
    strategy: str
    """Which picked the image: also after a second look, as round, score, propensity and reason."""
    score: float | None
    guess: str | None
    guess_probability: float | None
    guess_shown: bool | None
    answered_at: str
    """ISO 8601 in UTC; empty for a prediction."""
    outcome: str
    """label, none-of-these, unsure, skip or predicted."""
    probability: float | None
    """Probability of the exported class, for a prediction."""
    event_id: str
    row: int
    """Row of the image in the project's dataset."""
    milliseconds: int | None = None
    """From when the person could decide until they did, as the browser measured it."""
    comment: str = ""
    """What the annotator flagged the image with."""
    propensity: float | None = None
    """The probability with which the image was drawn; missing where it was not, or near-duplicates were passed over."""
    reason: str = ""
    """Why it was picked, as its card said."""


COLUMNS = tuple(column.name for column in fields(ExportRow))
"""Columns of every export: a field added to ExportRow is in all formats."""
KINDS: dict[str, type] = {name: _kind(hint) for name, hint in get_type_hints(ExportRow).items()}
"""Column -> str, int, float or bool; any may also be missing."""


@dataclass(frozen=True)
class Export:
    """Everything an exporter may write."""

    project: str
    class_names: tuple[str, ...]
    """By class id."""
    rows: tuple[ExportRow, ...]
    open_image: Callable[[int], Image] = field(repr=False)
    """Row in the dataset -> upright RGB image in full size. Raises ImageError or SourceError."""
    images: ImageArray | None = None
    """(n_images, height, width, n_channels) small views of the dataset, by `ExportRow.row`."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """Versions of configuration, model and dataset: whatever JSON can hold."""


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be exported, and why; its row stands in the tables all the same."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What an export holds, counted while it was written."""

    project: str
    class_names: tuple[str, ...]
    n_rows: int
    n_labels: int
    """Rows with the outcome `label`."""
    n_predictions: int
    per_class: dict[str, int]
    """Labels and predictions by class name, classes without any included."""
    per_outcome: dict[str, int]
    files: int
    """Files of the export, the manifest not counted: 1, or all images and tables in a zip."""
    failed: tuple[FailedImage, ...]
    sha256: str
    """Of the exported file; empty in a copy inside that file, which cannot hold its own hash."""
    written_at: str
    """ISO 8601 in UTC."""
    provenance: Mapping[str, object]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The manifest as an indented JSON object."""
        return to_json(asdict(self), indent=2) + "\n"


class Exporter(Protocol):
    """Labels -> one file, and how a program reads it again."""

    @property
    def suffix(self) -> str:
        """Of the file's name, with its dot."""

    @property
    def mime(self) -> str:
        """Media type for a download."""

    def write(self, export: Export, path: Path, report: Report = silent) -> Manifest:
        """Write the file at `path`, complete or not at all. Raises ExportError (EXPORT_WRITE)."""

    def load_line(self, file_name: str) -> str:
        """One line of Python that loads the export."""


def as_record(row: ExportRow) -> Record:
    """A row by column name; numbers that are not finite become None, which every format can hold."""
    values = {name: getattr(row, name) for name in COLUMNS}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def count(export: Export, *, files: int, sha256: str = "", failed: tuple[FailedImage, ...] = ()) -> Manifest:
    """The manifest of an export whose rows have all been written."""
    outcomes = Counter(row.outcome for row in export.rows)
    classes = Counter(row.class_name for row in export.rows if row.class_name is not None)
    return Manifest(
        project=export.project,
        class_names=export.class_names,
        n_rows=len(export.rows),
        n_labels=outcomes["label"],
        n_predictions=outcomes["predicted"],
        per_class=dict.fromkeys(export.class_names, 0) | dict(classes),
        per_outcome=dict(outcomes),
        files=files,
        failed=failed,
        sha256=sha256,
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=export.provenance,
    )


def to_json(value: object, indent: int | None = None) -> str:
    """JSON that any reader splits into the right lines and any codec can write.

    Letters of all scripts stay readable. Escaped are lone surrogates, which UTF-8 cannot hold, and the three
    characters besides newline at which `str.splitlines` would cut a line.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = text.translate({code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)})
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def manifest_path(path: Path) -> Path:
    """Where the manifest of a table stands: beside it, as NAME.manifest.json."""
    return path.with_name(f"{path.name}.manifest.json")


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def complete_or_absent(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Drafts of an export's files, see `durable.drafts`. An OSError becomes an ExportError."""
    try:
        with durable.drafts(*paths) as drafts:
            yield drafts
    except OSError as error:
        raise ExportError(
            f"The export could not be written to {str(paths[-1])!r}: {durable.reason_of(error)}. "
            f"{durable.advice(error)}, then export again. No label is lost, and no half-written file was left."
        ) from error
