"""A label that the model doubts comes back on a card that waits, and takes a key like any other."""

from __future__ import annotations

from playwright.sync_api import expect

from annotator.config import Config
from annotator.project import Project
from tests import storing
from tests.e2e.conftest import NewPerson, Server
from tests.test_second_looks import until_asked_again

NOISY = Config(
    name="noisy", source="digits", source_parameters={"held_out": 100}, limit=150, encoder="pixels", batch_size=6,
    model="label-spreading", strategy="margin", seed=3, ask_again_share=0.2,
)  # fmt: skip


def test_a_doubted_label_is_asked_again_in_the_browser(shared: Server, new_person: NewPerson) -> None:
    """Its card is open, says why and shows no guess; a key replaces the label, and undo brings back card and label."""
    project = Project.create(shared.projects / "noisy", NOISY)
    asked = until_asked_again(project, project.session("you"))
    [before] = [event for event in storing.current(project.store) if event.image_id == asked.image_id]
    person = new_person(shared)
    person.open("?project=noisy")
    card = person.card(asked.image_id).locator("visible=true").last
    expect(card).to_have_attribute("data-state", "open")
    expect(card).to_contain_text("asked again")
    expect(card).to_contain_text("guess hidden")
    other = (int(before.class_id or 0) + 1) % 10
    card.click()
    person.key(str(other))
    person.is_saved()
    [after] = [event for event in storing.current(project.store) if event.image_id == asked.image_id]
    assert (after.class_id, after.question_id, after.supersedes) == (other, asked.question_id, before.event_id)
    person.undo()
    expect(card).to_have_attribute("data-state", "open")
    [again] = [event for event in storing.current(project.store) if event.image_id == asked.image_id]
    assert (again.kind, again.class_id) == ("undo", before.class_id)
    card.click()
    person.key(str(other))
    person.is_saved()
    assert storing.n_labels(project.store) == len(storing.current(project.store))
    assert project.store.verify() == []
    project.close()


def test_asking_again_is_chosen_in_the_settings(shared: Server, new_person: NewPerson) -> None:
    """Off at first; one choice puts it on from the next batch on, as an event."""
    project = Project.create(shared.projects / "asking", Config(**{**NOISY.__dict__, "ask_again_share": 0.0}))
    project.close()
    person = new_person(shared)
    person.open("?project=asking")
    person.surface.wait_for()
    person.change_settings(**{"ask-again-share": "at most one image in ten"})
    project = Project(shared.projects / "asking")
    assert project.config.ask_again_share == 0.1
    project.close()
