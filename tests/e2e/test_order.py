"""The order of a batch and images to confirm, as a person meets them: chosen in the settings, seen on the screen."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from annotator.config import Config
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

GUESSES = "cards => cards.map(card => card.querySelector('.chip .name').textContent)"
REASON = "looks like {}, which you just labeled"


def made(server: Server, name: str) -> Path:
    """Digits of which 24 are labeled."""
    config = Config(name=name, source="digits", encoder="pixels", strategy="margin", batch_size=12, seed=1)
    project = Project.create(server.projects / name, config)
    session = project.session("you")
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle_of(project))
    project.close()
    return project.folder


def guesses(person: Person) -> list[str]:
    """On the chips, card by card."""
    person.is_saved()
    found: list[str] = person.page.locator(".surface .card").evaluate_all(GUESSES)
    return found


def n_changes(shown: list[str]) -> int:
    return sum(one != other for one, other in itertools.pairwise(shown))


def set_in_the_settings(person: Person, **choices: str) -> None:
    person.button_like("Settings").click()
    for key, option in choices.items():
        person.choose(f"set-{key.replace('_', '-')}", option)
    person.press("Apply")
    person.page.keyboard.press("Escape")


def test_alike_side_by_side(shared: Server, new_person: NewPerson) -> None:
    """Best first, guesses are mixed; chosen in the settings, the next batch has each guess in one piece."""
    person = new_person(shared)
    person.open(f"?project={made(shared, 'ordered').name}")
    mixed = guesses(person)
    assert n_changes(mixed) > len(set(mixed)) - 1
    set_in_the_settings(person, batch_order="alike side by side")
    person.save("accept")
    person.waits_for(lambda: person.round == 4)
    sorted_ones = guesses(person)
    assert len(set(sorted_ones)) > 1
    assert n_changes(sorted_ones) == len(set(sorted_ones)) - 1


def test_one_key_confirms(shared: Server, new_person: NewPerson) -> None:
    """Half of the next batch looks like what was just labeled and says so; Enter takes the guess and goes on."""
    person = new_person(shared)
    folder = made(shared, "confirmed")
    person.open(f"?project={folder.name}")
    person.is_saved()
    set_in_the_settings(person, confirm_share="50 % of a batch")
    person.save("accept")
    person.waits_for(lambda: person.round == 4)
    person.is_saved()
    nods = person.page.locator(".surface .card", has=person.page.get_by_text(re.compile("which you just labeled")))
    assert nods.count() == 6
    image_id = str(nods.first.get_attribute("data-image"))
    guess = str(person.guess(image_id))
    assert person.card(image_id).locator(".reason").inner_text() == REASON.format(guess)
    others = [one for one in person.asked if one != image_id]
    person.card(image_id).click()
    person.key("Enter")
    person.waits_for(lambda: person.asked == others)
    assert person.page.locator(".surface .card[data-cursor=true]").get_attribute("data-image") in others
    project = Project(folder)
    labels = project.session("you").labels
    assert labels[image_id] == guess
    assert guess in [name for known, name in labels.items() if known != image_id]
    project.close()
