"""A project's standing answers as rows to export, with the model's predictions for the rest where asked for.

The command line, the app and its jobs call `write_export`, which also verifies the project and records the export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotator import __version__, registry, reports
from annotator.exporters.manifests import record_export
from annotator.exporters.rows import Export, Exporter, ExportRow, Manifest
from annotator.metrics import certainty
from annotator.project import Project
from annotator.reasons import in_words
from annotator.reports import Answered
from annotator.store import Snapshot
from annotator.types import Report, silent


def write_export(
    project: Project, exporter: Exporter, path: Path, predictions: bool = False, report: Report = silent
) -> Manifest:
    """Verify the project, export it, and record in its folder where its log ended, for `annotator verify`.

    A damaged project is exported too; the manifest's provenance says under `damage` what is wrong.
    """
    manifest = exporter.write(gather(project, predictions), path, report)
    record_export(project.folder, path.name, manifest.provenance)
    return manifest


def gather(project: Project, predictions: bool = False) -> Export:
    """Every standing answer by image and annotator; with `predictions` also the newest model's class for the rest."""
    snapshot = project.store.snapshot()
    names = tuple(known.name for known in snapshot.classes)
    people = {person.annotator_id: person.name for person in snapshot.people}
    rows = [_answered_row(found, people, snapshot) for found in reports.answers(snapshot, project.learner)]
    if predictions and project.learner.version is not None:
        rows += _predicted_rows(project, names, {row.row for row in rows if row.outcome == "label"})
    return Export(
        project=project.store.name,
        class_names=names,
        rows=tuple(sorted(rows, key=lambda row: (row.row, row.annotator))),
        open_image=partial(_full_size, project),
        images=project.learner.dataset.images,
        provenance=_provenance(project, snapshot),
    )


def _full_size(project: Project, row: int) -> Any:  # Any: a PIL image, as Dataset.open_image has it
    return project.learner.dataset.open_image(row, 0)


def _answered_row(answered: Answered, people: Mapping[str, str], snapshot: Snapshot) -> ExportRow:
    """By the event, whose values the log's hashes cover; a question that a damaged store has lost is left empty.

    Of an image that was asked again, purpose and guess are those of the question that was answered; round, strategy,
    score, propensity and reason stay those of its draw.
    """
    event, question, drawn = answered.event, answered.question, answered.drawn
    assert event is not None  # a standing answer has one
    who = str(event.annotator_id)
    return ExportRow(
        image_id=answered.image_id,
        class_name=answered.answer,
        class_id=event.class_id,
        annotator=people.get(who, who),
        round=None if drawn is None else drawn.round,
        purpose="" if question is None else question.purpose,
        strategy="" if drawn is None else drawn.strategy,
        score=None if drawn is None else drawn.score,
        guess=answered.guess,
        guess_probability=None if question is None else question.guess_probability,
        guess_shown=None if question is None else question.guess_visible,
        answered_at=event.created_at,
        outcome=str(event.outcome),
        probability=None,
        event_id=event.event_id,
        row=answered.row,
        milliseconds=event.client_ms,
        comment=snapshot.flags.get((answered.image_id, who), ""),
        propensity=None if drawn is None else drawn.propensity,
        reason="" if drawn is None else in_words(drawn, {each.class_id: each.name for each in snapshot.classes}),
    )


def _predicted_rows(project: Project, names: Sequence[str], labeled: set[int]) -> list[ExportRow]:
    ids = project.learner.dataset.ids
    prediction = project.learner.prediction
    codes, highest = prediction.guesses.tolist(), certainty(prediction)[:, 0].tolist()
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


def _provenance(project: Project, snapshot: Snapshot) -> dict[str, object]:
    return {
        "project_id": project.store.project_id,
        "store_head_seq": snapshot.head_seq,
        "store_head_hash": snapshot.head_hash,
        "damage": project.store.verify(),
        "annotator_version": __version__,
        "config": asdict(project.config),
        "config_version": project.config_version,
        "dataset_version": project.learner.dataset.version,
        "model_version": project.learner.version,
        "model_trained_through": project.learner.newest.trained_through,
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
