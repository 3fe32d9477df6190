"""Every plug-in that can be chosen in the browser does something there: the next batch or the accuracy is another."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from annotator import registry
from annotator.config import Config
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from tests import storing
from tests.e2e.conftest import NewPerson, Server
from tests.random_weights import random_weights

DEFAULT = Config(name="begun", source="digits", limit=510, batch_size=6)
CHOICES = [
    (kind, name)
    for kind in ("encoder", "model", "strategy")
    for name in registry.names(kind)
    if name != getattr(DEFAULT, kind)
]
PARAMETERS = {name: {"max_epochs": "1"} for name in ("autoencoder", "contrastive", "lstm", "gan")}
"""Typed into the fields of an encoder: short trainings do for another batch."""
N_LABELS, N_LEARNED = 18, 15
"""Saved, and known to the model that picks the next batch: it is chosen when three cards are left."""
TRUTH = load_digits().target


@dataclass(frozen=True)
class Seen:
    """What came of the same 18 labels: the batch after them, and the accuracy of the model that picked it."""

    asked: list[str]
    accuracy: float | None


@pytest.fixture(scope="module")
def begun(shared: Server) -> Path:
    """A project two rounds old, with a third batch open: each test goes on from a copy of it."""
    project = Project.create(shared.projects / "begun", DEFAULT)
    session = project.session("you")
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    project.close()
    return project.folder


@pytest.fixture(scope="module")
def by_default(begun: Path) -> Seen:
    """What the third batch leads to where nobody chooses anything."""
    project = Project(shutil.copytree(begun, begun.with_name("default")))
    session = project.session("you")
    answer_batch(session, oracle_of(project), session.remaining[: N_LEARNED - 12])
    session.look_ahead()
    project.close()
    return seen(project.folder)


def seen(folder: Path) -> Seen:
    project = Project(folder)
    asked = [question.image_id for question in storing.questions(project.store) if question.round == 4]
    accuracy = next((point.accuracy for point in project.learner.history if point.n_labeled == N_LEARNED), None)
    project.close()
    return Seen(asked, accuracy)


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_a_choice_in_the_settings_changes_what_comes_next(
    kind: str, name: str, shared: Server, new_person: NewPerson, begun: Path, by_default: Seen
) -> None:
    """From the batch after it on; a slow one takes its time in the background, and labeling goes on."""
    folder = shutil.copytree(begun, begun.with_name(f"{kind}-{name}"))
    person = new_person(shared)
    person.open(f"?project={folder.name}")
    person.change_settings(parameters(kind, name), **{kind: name})
    person.waits_for(lambda: getattr(stored_config(folder), kind) == name)
    for image_id in person.asked:
        person.answer(image_id, str(TRUTH[int(image_id.partition("/")[2])]))
    person.save()
    assert (person.n_saved, person.round) == (N_LABELS, 4)
    person.waits_for(lambda: seen(folder).accuracy is not None)
    found = seen(folder)
    assert found != by_default
    assert kind != "strategy" or found.asked != by_default.asked


def parameters(kind: str, name: str) -> dict[str, str]:
    """What is typed into the fields; the weights of a network of keras.applications are a file."""
    if (kind, name) == ("encoder", "keras-application"):
        return {"weights": str(random_weights() / "small.weights.h5"), "side": "75"}
    return PARAMETERS.get(name, {}) if kind == "encoder" else {}


def stored_config(folder: Path) -> Config:
    project = Project(folder)
    project.close()
    return project.config
