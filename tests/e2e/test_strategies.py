"""Strategies as people meet them: each can be chosen and says why it picked what; one that trails random is said."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from annotator import registry, reports
from annotator.config import RECOMMENDED, Config
from annotator.payoff import Payoff, Waiting
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

BEGUN = Config(name="strategies", source="digits", limit=300, batch_size=6, model="label-spreading")
TRAILS = Config(
    name="trails", source="fashion-mnist", limit=1000, batch_size=20, model="label-spreading", strategy="entropy"
)
"""Plain entropy asks what no label reaches: outliers (`entropy` of label spreading is highest there)."""
CARDS = "cards => cards.map(card => [card.dataset.image, card.querySelector('.reason')?.textContent ?? ''])"


@dataclass(frozen=True)
class Seen:
    """A batch on the screen."""

    reasons: dict[str, str]
    """Image id -> what its card says, in their order."""
    why: str


def seen(person: Person) -> Seen:
    person.is_saved()
    cards = person.page.locator(".surface .card").evaluate_all(CARDS)
    return Seen(dict(cards), person.page.locator(".surface .why").inner_text())


def played(folder: Path, config: Config, n_rounds: int) -> Path:
    """A project whose oracle has answered so many rounds, with the next one open."""
    project = Project.create(folder, config)
    session = project.session("you")
    for _ in range(n_rounds):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    project.close()
    return folder


def withdraw(folder: Path) -> None:
    """Nobody has begun with the open batch: it goes back to the pool."""
    project = Project(folder)
    project.session("you").withdraw()
    project.close()


def chosen_anew(folder: Path, place: Path) -> Seen:
    """The open batch once more: asked of the strategy in a copy of the project, by a model fitted again."""
    project = Project(shutil.copytree(folder, place))
    shutil.rmtree(place / "predictions", ignore_errors=True)
    session = project.session("you")
    session.withdraw()
    session.look_ahead()  # as the browser asks: changed settings alone are nothing to learn from
    cards = session.remaining
    for card in cards:
        is_true(card.reason, card.row, project, [other.row for other in cards])
    picked = reports.picked_by(cards[0].strategy, cards[0].model_version)
    project.close()
    return Seen({card.image_id: card.reason for card in cards}, picked)


def is_true(reason: str, row: int, project: Project, batch: list[int]) -> None:
    """What a phrase claims, counted by plain NumPy; phrases that claim no number or class are left out."""
    dataset, prediction, labels = project.learner.dataset, project.learner.prediction, project.learner.labels
    if found := re.fullmatch(r"stands for ([\d,]+) others?", reason):
        taken = np.concatenate([np.flatnonzero(labels >= 0), batch])
        others = np.setdiff1d(np.arange(len(dataset)), taken)
        distances = np.linalg.norm(dataset.features[others, None] - dataset.features[None, taken], axis=2)
        assert int(found[1].replace(",", "")) == (taken[distances.argmin(axis=1)] == row).sum()
    if found := re.fullmatch(r"between (.+) and (.+)", reason):
        likeliest = prediction.probabilities[row].argsort()[::-1][:2]
        assert {project.class_names[code] for code in likeliest} == {found[1], found[2]}


def test_every_strategy_changes_the_batch_and_says_why_truthfully(
    shared: Server, new_person: NewPerson, tmp_path: Path
) -> None:
    """Chosen in Settings one after the other, with the same labels: other images, for the reasons that hold."""
    folder = played(shared.projects / "strategies", BEGUN, 2)
    person = new_person(shared)
    person.open(f"?project={folder.name}")
    before = seen(person)
    others = [name for name in registry.names("strategy") if name not in (RECOMMENDED["strategy"], BEGUN.strategy)]
    for name in [RECOMMENDED["strategy"], *others, BEGUN.strategy]:  # the first hands over to one of the others
        person.change_settings(strategy=name)
        withdraw(folder)
        person.reload()
        now, anew = seen(person), chosen_anew(folder, tmp_path / name)
        assert list(now.reasons) != list(before.reasons), name
        assert now.reasons == anew.reasons, name
        assert now.why.startswith(anew.why), name
        before = now


def test_a_strategy_that_trails_random_is_said_and_left_with_one_click(shared: Server, new_person: NewPerson) -> None:
    """With the figure, on Progress and where images are labeled; the next batch is chosen as recommended."""
    folder = played(shared.projects / "trails", TRAILS, 8)
    project = Project(folder)
    found = reports.strategy_payoff(project.session("you").moment())
    project.close()
    assert isinstance(found, Payoff)
    assert found.warns
    assert (found.n_each, found.right_chosen < found.right_random) == (160, True)
    person = new_person(shared)
    person.open(f"progress?project={folder.name}")
    person.sees("Does the strategy pay?")
    person.sees(found.in_words)
    expect(person.page.locator(".st-key-payoff canvas, .st-key-payoff svg").first).to_be_visible()
    person.go_to("Label")
    person.sees(found.in_words)
    person.press("Change to recommended")
    expect(person.visible(found.in_words)).not_to_be_visible()
    project = Project(folder)
    assert (project.config.strategy, project.config.strategy_parameters) == ("recommended", {})
    answer_batch(project.session("you"), oracle_of(project))
    project.close()
    person.reload()
    person.waits_for(lambda: person.round == 10)
    assert "entropy" not in seen(person).why
    project = Project(folder)
    moment = project.session("you").moment()
    assert {card.strategy for card in reports.remaining(moment)} <= {"recommended", "herding", "margin"}
    waiting = reports.strategy_payoff(moment)
    assert isinstance(waiting, Waiting)
    project.close()
    person.go_to("Progress")
    person.sees(waiting.reason)
    person.sees("strategies used here")


@pytest.mark.parametrize("view", ["", "progress"])
def test_a_wrong_address_says_so_and_names_what_there_is(view: str, shared: Server, new_person: NewPerson) -> None:
    """A name that no project has is no project; the others are one click away."""
    Project.create(shared.projects / f"there-{view}", BEGUN).close()
    person = new_person(shared)
    person.open(f"{view}?project=no-*such*-one")
    person.sees("There is no project named no-*such*-one.")
    person.press(f"there-{view}")
    person.sees("strategies" if not view else "No model yet")
    assert person.project == f"there-{view}"
