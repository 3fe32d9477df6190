"""What is recommended, as people meet it: quick features, better ones behind, reasons that are true, a curve to see."""

from __future__ import annotations

import re

from annotator.config import Config
from annotator.project import Project
from annotator.reasons import in_words
from annotator.simulate import simulate
from tests import storing
from tests.conftest import SHAPES, PhotoFolder
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

CARD_REASONS = "cards => cards.map(card => [card.dataset.image, card.querySelector('.reason').textContent])"


def starts_quickly(person: Person, shared: Server) -> None:
    """Cards are there on hog; what auto chooses is on its way, and the page says so."""
    person.sees("Preparing the encoder auto. Labeling goes on meanwhile with the features of hog.")
    project = Project(shared.projects / person.project)
    assert (project.config.encoder, project.wanted["encoder"]) == ("hog", "auto")
    project.close()


def sees_the_switch(person: Person, seen: str) -> None:
    """It ends by itself, and is said, with the reason that is in what `auto` has seen of the pool."""
    ready = person.visible("The features of imagenet are ready; the next batch uses them.")
    person.waits_for(lambda: ready.is_visible())
    person.waits_for(lambda: not person.visible("Preparing the encoder").is_visible())
    person.sees(f"auto chose imagenet, which knows a million photos, since these are {seen}")


def reasons(person: Person) -> dict[str, str]:
    """Image id -> what the card says, for every card on the screen."""
    person.is_saved()
    return dict(person.page.locator(".surface .card").evaluate_all(CARD_REASONS))


def stored_reasons(project: Project, image_ids: set[str]) -> dict[str, str]:
    """Image id -> what the newest stored question's score says."""
    asked = {question.image_id: question for question in storing.questions(project.store)}
    return {image_id: in_words(asked[image_id], {}) for image_id in image_ids}


def n_saved_by_the_oracle(person: Person) -> int:
    said = re.search(r"([\d,]+) saved", person.page.inner_text("body"))
    return int(said[1].replace(",", "")) if said else 0


def accuracy_of_random(shared: Server, n_labels: int) -> float:
    """Of label spreading on hog with so many labels drawn at random from the same images, on the held-out ones."""
    config = Config(name="random", source="fashion-mnist", strategy="random", initial=str(n_labels), rounds=0)
    *_, last = simulate(config, shared.projects / "random")
    assert last["n_labeled"] == n_labels
    return float(last["accuracy_test"])


def test_clothes_learn_more_than_at_random(shared: Server, new_person: NewPerson) -> None:
    """From Start to over 100 labels: quick features first, the better ones said, true reasons, a better model."""
    person = new_person(shared)
    person.open("start")
    person.start_demo("Clothes")
    starts_quickly(person, shared)
    shown = reasons(person)
    project = Project(shared.projects / person.project)
    assert len(shown) == 12
    assert all(re.fullmatch(r"stands for [\d,]+ others?", reason) for reason in shown.values())
    assert shown == stored_reasons(project, set(shown))
    project.close()
    sees_the_switch(person, "5,000 small grey pictures.")
    person.press("Play")
    person.waits_for(lambda: n_saved_by_the_oracle(person) > 100)
    person.press("Pause")
    person.sees("held-out images")
    project = Project(shared.projects / person.project)
    newest = project.learner.history[-1]
    assert (project.config.encoder, len(project.learner.dataset)) == ("auto", 5000)
    assert "imagenet" in project.config.features  # alone, or with what the labels showed to be better beside it
    assert (newest.n_labeled > 100, newest.headline) == (True, "test")
    assert newest.accuracy is not None
    assert newest.accuracy > accuracy_of_random(shared, newest.n_labeled)
    project.close()


def test_a_folder_of_colour_photos(shared: Server, new_person: NewPerson, photo_folder: PhotoFolder) -> None:
    """Classes from the folders, quick features first, the swap seen, the accuracy shown."""
    folder = photo_folder(120, SHAPES)
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.use_sub_folders("use their names as classes")
    person.create()
    starts_quickly(person, shared)
    sees_the_switch(person, "120 colour photos, too few to train a network on.")
    for image_id in person.asked:
        person.answer(image_id, image_id.partition("/")[0])
    person.save()
    person.sees(re.compile(r"Accuracy [\d.]+ % .* unlabeled images"))
    shown = reasons(person)
    project = Project(shared.projects / person.project)
    assert project.class_names == sorted(SHAPES)
    assert (project.config.features, len(project.session("you").labels)) == ("imagenet", 12)
    assert shown == stored_reasons(project, set(shown))
    project.close()
