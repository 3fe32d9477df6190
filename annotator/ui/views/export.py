"""The export view: choose a format, get a file, a manifest that counts it, and the line that loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st

from annotator import registry, reports
from annotator.jobs import Job
from annotator.paths import readable
from annotator.project import Project
from annotator.ui import panels, tab
from annotator.ui.shared import workspace
from annotator.ui.words import count, plain

SHORT = {"csv": "CSV", "jsonl": "JSON Lines", "npz": "NumPy .npz", "folders": "Zip of class folders"}


def render(project: Project) -> None:
    """The form; once written, the download."""
    moment = tab.session(project).moment()
    st.markdown(f"#### Export {plain(project.config.name)}")
    standing = count(reports.n_labels(moment), "label")
    st.caption(f"{standing} stand. Every row says who answered, when, in which round and why.")
    running = st.session_state.get("exporting")
    job = None if running is None else workspace().jobs.get(running[0])
    if job is not None:
        _writing(job)
        return
    names = registry.names("exporter")
    chosen = st.segmented_control(
        "Format",
        names,
        default=names[0],
        key="export-format",
        required=True,
        format_func=lambda name: SHORT.get(name, name),
    )
    st.caption(plain(registry.summary("exporter", chosen)))
    st.toggle(
        "Also the model's class for every image without a label",
        key="export-predictions",
        disabled=not reports.history(moment),
        help="Marked `predicted`, with the probability, so that they can be told apart.",
    )
    st.button(
        "Write the export",
        type="primary",
        key="write-export",
        icon=":material/save:",
        on_click=tab.guarded(_start),
        args=(project,),
    )
    written = st.session_state.get("exported")
    if written is not None and written["project"] == project.folder.name:
        _download(written)


def _start(project: Project) -> None:
    """By what the fields hold at the click: the run that drew the button may have seen another format."""
    name, predictions = str(st.session_state["export-format"]), bool(st.session_state["export-predictions"])
    exporter = registry.create("exporter", name)
    folder = tab.new_export_folder().path
    path = folder / f"{readable(project.config.name, 'labels')}{exporter.suffix}"
    arguments = {"project": str(project.folder), "format": name, "predictions": predictions, "path": str(path)}
    key = workspace().jobs.start("annotator.exporters.gather:export_job", arguments, folder / "job")
    st.session_state["exporting"] = (key, arguments)
    st.session_state.pop("exported", None)


def _writing(job: Job) -> None:
    def done() -> None:
        _, arguments = st.session_state.pop("exporting")
        name = Path(arguments["project"]).name
        st.session_state["exported"] = {**arguments, "project": name, "manifest": job.result()}

    panels.running_job(job, done, lambda: st.session_state.pop("exporting", None))


def _download(written: dict[str, Any]) -> None:  # Any: JSON
    exporter = registry.create("exporter", written["format"])
    path, manifest = Path(written["path"]), written["manifest"]
    with st.container(border=True, key="written"):
        predicted = f", {count(manifest['n_predictions'], 'prediction')}" if manifest["n_predictions"] else ""
        rows, files = count(manifest["n_rows"], "row"), count(manifest["files"], "file")
        st.markdown(f"**{count(manifest['n_labels'], 'label')}{predicted}** in {rows}, {files}")
        with st.container(horizontal=True):
            with path.open("rb") as file:
                st.download_button(
                    "Download",
                    file,
                    path.name,
                    exporter.mime,
                    type="primary",
                    on_click="ignore",
                    key="download",
                    icon=":material/download:",
                )
            st.download_button(
                "Manifest",
                json.dumps(manifest, indent=1),
                f"{path.name}.manifest.json",
                "application/json",
                on_click="ignore",
                key="download-manifest",
            )
        panels.damage(manifest["provenance"]["damage"])
        st.code(exporter.load_line(path.name), language="python", wrap_lines=True)
        if manifest["failed"]:
            st.warning(f"{count(len(manifest['failed']), 'image')} could not be written; the manifest says why.")
