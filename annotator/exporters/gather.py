"""A project's standing answers as rows to export, with the model's predictions for the rest where asked for.

The command line, the app and its jobs call `write_export`, which also verifies the project and records the export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotator import __version__, registry
from annotator.exporters.manifests import note_export
from annotator.exporters.rows import Export, Exporter, ExportRow, Manifest
from annotator.project import Project
from annotator.store import Event, Question
from annotator.types import Report, silent


def write_export(
    project: Project, exporter: Exporter, path: Path, predictions: bool = False, report: Report = silent
) -> Manifest:
    """Verify the project, export it, and record in its folder where its log ended, for `annotator verify`.

    A damaged project is exported too; the manifest's provenance says under `damage` what is wrong.
    """
    manifest = exporter.write(gather(project, predictions), path, report)
    note_export(project.folder, path.name, manifest.provenance)
    return manifest


def gather(project: Project, predictions: bool = False) -> Export:
    """Every standing answer by image and annotator; with `predictions` also the newest model's class for the rest."""
    provenance = _provenance(project)  # read first: the manifest may count fewer events than are exported, never more
    dataset = project.learner.dataset
    rows = _answered_rows(project)
    if predictions and project.learner.version is not None:
        rows += _predicted_rows(project, {row.row for row in rows if row.outcome == "label"})
    return Export(
        project=project.store.name,
        class_names=tuple(project.class_names),
        rows=tuple(sorted(rows, key=lambda row: (row.row, row.annotator))),
        open_image=partial(_full_size, project),
        images=dataset.images,
        provenance=provenance,
    )


def _full_size(project: Project, row: int) -> Any:  # Any: a PIL image, as Dataset.open_image has it
    return project.learner.dataset.open_image(row, 0)


def _answered_rows(project: Project) -> list[ExportRow]:
    asked = {question.question_id: question for question in project.store.questions()}
    people = {person.annotator_id: person.name for person in project.store.annotators()}
    flags, names = project.store.flags(), project.class_names
    return [
        _answered_row(
            project,
            names,
            event,
            asked.get(str(event.question_id)),
            people.get(str(event.annotator_id), str(event.annotator_id)),
            flags.get((str(event.image_id), str(event.annotator_id)), ""),
        )
        for event in project.store.current()
    ]


def _answered_row(
    project: Project, names: Sequence[str], event: Event, question: Question | None, annotator: str, comment: str
) -> ExportRow:
    """By the event, whose values the log's hashes cover; a question that a damaged store has lost is left empty."""
    guess = None if question is None else question.guess
    return ExportRow(
        image_id=str(event.image_id),
        class_name=None if event.class_id is None else names[event.class_id],
        class_id=event.class_id,
        annotator=annotator,
        round=None if question is None else question.round,
        purpose="" if question is None else question.purpose,
        strategy="" if question is None else question.strategy,
        score=None if question is None else question.score,
        guess=None if guess is None else names[guess],
        guess_probability=None if question is None else question.guess_probability,
        guess_shown=None if question is None else question.guess_visible,
        answered_at=event.created_at,
        outcome=str(event.outcome),
        probability=None,
        event_id=event.event_id,
        row=project.learner.row(str(event.image_id)),
        milliseconds=event.client_ms,
        comment=comment,
    )


def _predicted_rows(project: Project, labeled: set[int]) -> list[ExportRow]:
    names, ids = project.class_names, project.learner.dataset.ids
    probabilities = project.learner.prediction.probabilities
    codes, highest = probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()
    unlabeled = np.setdiff1d(np.arange(len(ids)), np.fromiter(labeled, dtype=np.int64, count=len(labeled)))
    return [
        ExportRow(
            image_id=ids[row],
            class_name=names[codes[row]],
            class_id=codes[row],
            annotator=f"model {project.learner.version}",
            round=None,
            purpose="predict",
            strategy=project.config.model,
            score=None,
            guess=None,
            guess_probability=None,
            guess_shown=None,
            answered_at="",
            outcome="predicted",
            probability=highest[row],
            event_id="",
            row=row,
        )
        for row in unlabeled.tolist()
    ]


def _provenance(project: Project) -> dict[str, object]:
    return {
        **project.store.head,
        "damage": project.store.verify(),
        "annotator_version": __version__,
        "config": asdict(project.config),
        "config_version": project.config_version,
        "dataset_version": project.learner.dataset.version,
        "model_version": project.learner.version,
        "model_trained_through": project.learner.trained_through,
        "store": project.store.note,
    }


def export_job(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """An export as a job's target: {"project", "format", "predictions", "path"} -> the manifest."""
    project = Project(Path(arguments["project"]))
    try:
        exporter: Exporter = registry.create("exporter", arguments["format"])
        return asdict(write_export(project, exporter, Path(arguments["path"]), arguments["predictions"], report))
    finally:
        project.close()
