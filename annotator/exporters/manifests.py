"""Where the log ended when an export was written: from its manifest, or from the project folder's list of exports."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from annotator import durable
from annotator.errors import ExportError
from annotator.exporters.folders import MANIFEST
from annotator.exporters.rows import manifest_path

EXPORT_RECORDS = "exports.jsonl"
"""In a project's folder: one line an export, the newest last."""
_KEPT = ("project_id", "store_head_seq", "store_head_hash")

Provenance = Mapping[str, Any]  # Any: JSON


def record_export(folder: Path, name: str, provenance: Provenance) -> None:
    """Record in the project's folder where the log ended at this export; skipped where the disk is full."""
    line = {
        "file": name,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **{key: provenance[key] for key in _KEPT},
    }
    with suppress(OSError), (folder / EXPORT_RECORDS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def recorded_exports(folder: Path) -> dict[str, Provenance]:
    """File and time of each recorded export -> its provenance; lines that cannot be read are skipped."""
    try:
        lines = (folder / EXPORT_RECORDS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, Provenance] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            found[f"{record['file']} of {record['written_at']}"] = {key: record[key] for key in _KEPT}
    return found


def read_provenance(path: Path) -> Provenance:
    """Of an export or of its manifest. Raises ExportError (EXPORT_READ) where there is no manifest."""
    try:
        manifest = json.loads(_manifest_text(path))
        provenance = manifest["provenance"]
    except (OSError, TypeError, *durable.DAMAGED_ZIP) as error:
        raise ExportError(
            f"No manifest of an export in or beside {path}. Name the exported file with its manifest beside it, or the "
            "manifest itself.",
            "EXPORT_READ",
        ) from error
    if not isinstance(provenance, dict):
        raise ExportError(f"The manifest of {path} is damaged. Name another export.", "EXPORT_READ")
    return provenance


def _manifest_text(path: Path) -> str:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return str(arrays["manifest"])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(MANIFEST).decode("utf-8")
    beside = manifest_path(path)
    return (beside if beside.is_file() else path).read_text(encoding="utf-8")
