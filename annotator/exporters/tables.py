"""Labels as a table of text: CSV for spreadsheets, JSON Lines for exact values."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from annotator.exporters.rows import (
    COLUMNS,
    KINDS,
    Cell,
    Export,
    Manifest,
    Record,
    as_record,
    complete_or_absent,
    count,
    manifest_path,
    sha256_of,
    to_json,
)
from annotator.types import Report, silent

FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # the full-width forms start one in some spreadsheets
DTYPES = {str: "str", int: "Int64", bool: "boolean"}
"""Type of a column -> what pandas calls it where values may be missing."""
REPORT_EVERY = 1000
"""Rows between two reports of progress."""

WriteRecords = Callable[[TextIO, tuple[str, ...], Iterable[Record]], None]


class Csv:
    """CSV for spreadsheets and pandas, UTF-8; a text that would start a formula is prefixed with an apostrophe."""

    suffix = ".csv"
    mime = "text/csv"

    def write(self, export: Export, path: Path, report: Report = silent) -> Manifest:
        """Write the table, and its manifest beside it. Raises ExportError (EXPORT_WRITE)."""
        return _write_table(write_csv, export, path, report)

    def load_line(self, file_name: str) -> str:
        """A pandas DataFrame; a text that was neutralised keeps its apostrophe."""
        return f"import pandas; labels = {read_csv_call(file_name)}"


class JsonLines:
    """JSON Lines, one object a line, with every value exactly as it is stored."""

    suffix = ".jsonl"
    mime = "application/jsonl"

    def write(self, export: Export, path: Path, report: Report = silent) -> Manifest:
        """Write the lines, and their manifest beside them. Raises ExportError (EXPORT_WRITE)."""
        return _write_table(write_json_lines, export, path, report)

    def load_line(self, file_name: str) -> str:
        """A list of dicts, by the standard library alone."""
        lines = f"pathlib.Path({file_name!r}).read_text('utf-8').splitlines()"
        return f"import json, pathlib; labels = [json.loads(line) for line in {lines}]"


def read_csv_call(file_name: str) -> str:
    """Text stays text and whole numbers stay whole: a class named 7 or NA is neither a number nor missing."""
    kinds = {name: DTYPES[kind] for name, kind in KINDS.items() if kind in DTYPES}
    return f"pandas.read_csv({file_name!r}, dtype={kinds}, keep_default_na=False, na_values='')"


def neutral(text: str) -> str:
    """Text that no spreadsheet takes for a formula.

    A text that has the apostrophe already gets a second one, so no two texts become equal and `'` + text can be
    undone. Source: OWASP, CSV Injection.
    """
    return "'" + text if text.lstrip("'").startswith(FORMULA_STARTS) else text


def write_csv(stream: TextIO, columns: tuple[str, ...], records: Iterable[Record]) -> None:
    """RFC 4180: comma, CRLF, quotes doubled; None is an empty cell."""
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows([_cell(record[name]) for name in columns] for record in records)


def write_json_lines(stream: TextIO, columns: tuple[str, ...], records: Iterable[Record]) -> None:
    """One JSON object a line; an empty table is an empty file."""
    for record in records:
        stream.write(to_json({name: record[name] for name in columns}) + "\n")


def _write_table(write_records: WriteRecords, export: Export, path: Path, report: Report) -> Manifest:
    # The manifest appears first: a table that is there has its manifest.
    with complete_or_absent(manifest_path(path), path) as (beside, draft):
        # CSV cannot escape a lone surrogate: it is written as \udc80, its exact value stands in JSON.
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            write_records(stream, COLUMNS, _reported(export, report))
        manifest = count(export, files=1, sha256=sha256_of(draft))
        beside.write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    return manifest


def _reported(export: Export, report: Report) -> Iterator[Record]:
    total = len(export.rows)
    for done, row in enumerate(export.rows):
        if done % REPORT_EVERY == 0:
            report("rows", done, total)
        yield as_record(row)
    report("rows", total, total)


def _cell(value: Cell) -> Cell:
    return neutral(value) if isinstance(value, str) else value
