"""Short names for what tests ask a store, and put into one: its transactions, and facts of its snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from annotator import evaluation, pointer, projects, reports
from annotator import store as tables
from annotator.project import Project
from annotator.store import Annotator, Event, ImageRecord, LabelClass, ModelRecord, Question, Store
from annotator.store import snapshot as snapshots


def annotator(store: Store, name: str, role: str = "annotator") -> Annotator:
    return store.write(tables.people.named_or_added, name, role)


def classes(store: Store) -> list[LabelClass]:
    return list(store.snapshot().classes)


def add_classes(store: Store, names: Sequence[str], annotator_id: str | None = None, own: Collection[str] = ()) -> None:
    store.append(tables.classes.add, names, annotator_id, own)


def add_images(store: Store, records: Iterable[ImageRecord]) -> None:
    store.write(tables.images.add, records)


def images(store: Store, status: str | None = None) -> list[ImageRecord]:
    return store.read(tables.images.records, status)


def image_ids(store: Store) -> Iterable[str]:
    return pointer.image_ids(store)


def n_images(store: Store) -> int:
    return store.read(tables.images.count)


def record_config(store: Store, config: dict[str, Any]) -> int:
    return store.append(tables.configs.record, config)


def config(store: Store) -> tuple[int, dict[str, Any]]:
    return projects.newest_config(store)


def offer(store: Store, batch: Sequence[Question], annotator_id: str) -> list[Question]:
    """Store a batch; what its annotator has to answer then."""
    store.write(tables.questions.offer, batch, annotator_id)
    return open_questions(store, annotator_id)


def seed(store: Store, answered: Sequence[tuple[Question, int]], annotator_id: str) -> None:
    store.append(tables.questions.seed, answered, annotator_id)


def n_labels(store: Store) -> int:
    return store.read(tables.answers.n_labels)


def record_model(store: Store, record: ModelRecord) -> ModelRecord:
    return store.write(tables.artefacts.record_model, record)


def models(store: Store) -> list[ModelRecord]:
    return store.read(tables.artefacts.models)


def n_classes(store: Store, through: int) -> int:
    return snapshots.n_classes(store.snapshot(), through)


def open_questions(store: Store, annotator_id: str) -> list[Question]:
    return snapshots.open_of(store.snapshot(), annotator_id)


def question(store: Store, question_id: str) -> Question | None:
    """One question, withdrawn or not; the events of a withdrawn one are counted in the tables.log."""
    known = store.snapshot().questions.get(question_id)
    if known is not None:
        return known
    found = store.read(tables.questions.question, question_id)
    events = [event for event in store.read(tables.log.events) if event.image_id is not None]
    return found and replace(found, n_events=sum(event.question_id == question_id for event in events))


def questions(store: Store) -> list[Question]:
    return snapshots.by_place(store.snapshot())


def asked(store: Store) -> list[tuple[str, str]]:
    return list(store.snapshot().asked.images)


def last_round(store: Store) -> int:
    return snapshots.last_round(store.snapshot())


def flags(store: Store) -> dict[tuple[str, str], str]:
    return dict(store.snapshot().flags)


def current(store: Store, through: int | None = None) -> list[Event]:
    """The standing answers, also those at an earlier event."""
    return snapshots.standing(store.snapshot(), through)


def head_seq(store: Store) -> int:
    return store.snapshot().head_seq


def head(store: Store) -> dict[str, Any]:
    """What an export keeps of where the log ends."""
    found = store.read(tables.log.head)
    return {"project_id": store.project_id, "store_head_seq": found.seq, "store_head_hash": found.hash}


def changes(store: Store) -> Mapping[int, str]:
    return reports.changed_plugins(store.snapshot().configs)


def dropped_labels(project: Project) -> str:
    truth = project.learner.dataset.truth
    return evaluation.dropped_labels(truth, project.prepared.class_names, project.class_names)
