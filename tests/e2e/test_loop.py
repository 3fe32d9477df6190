"""The loop as people live it, in a real browser before a real server: label, undo, come back, export."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from playwright.sync_api import expect
from sklearn.datasets import load_digits

from annotator.project import Project
from tests.conftest import PhotoFolder
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

REFERENCE = json.loads(Path(__file__).parents[1].joinpath("digits_reference.json").read_text())
OUTCOMES = {"skip": "skip", "unsure": "unsure", "none": "none-of-these"}
TRUTH = load_digits().target
CURVE = ".surface .curve svg"
VIEWS = ("Label", "Progress", "Export", "Start")


def exported_as(option: str) -> tuple[str, str]:
    """(class, outcome) of an answer in a table."""
    return ("", OUTCOMES[option]) if option in OUTCOMES else (option, "label")


def true_digit(image_id: str) -> str:
    """Of an image such as digits/00042."""
    return str(TRUTH[int(image_id.partition("/")[2])])


def answer_truly(person: Person, tap: bool = False) -> None:
    for image_id in person.asked:
        person.answer(image_id, true_digit(image_id), tap)


def test_everything_typed_is_in_the_export(server: Server, new_person: NewPerson, photo_folder: PhotoFolder) -> None:
    """Batches, an undo across the round, a reload, kill -9 and a restart: the files hold what was typed, only it."""
    person = new_person(server)
    typed: dict[str, str] = {}
    rounds: dict[str, int] = {}
    guesses: dict[str, str | None] = {}

    def answer(image_id: str, option: str) -> None:
        person.answer(image_id, option)
        typed[image_id] = option

    def look() -> list[str]:
        for image_id in person.asked:
            rounds.setdefault(image_id, person.round)
            guesses.setdefault(image_id, person.guess(image_id))
        return person.asked

    person.open("start")
    person.name_folder(photo_folder(45))
    person.name_classes("round", "cornered")
    person.choose_parts(encoder="pixels", model="label-propagation", strategy="margin")
    person.create()

    first = look()
    assert len(first) == 12
    for image_id, option in zip(first, ["round", "cornered", "skip", "unsure", "none"], strict=False):
        answer(image_id, option)
    person.save()
    assert (person.n_saved, person.round, person.asked) == (5, 1, first[5:])

    for number, image_id in enumerate(first[5:]):
        answer(image_id, ("cornered", "round")[number % 2])
    person.save()
    second = look()
    assert (person.n_saved, person.round, len(second)) == (12, 2, 12)
    assert not set(first) & set(second)

    person.undo()
    assert (person.n_saved, person.round, person.asked) == (11, 1, [first[-1]])
    person.reload()
    assert (person.n_saved, person.round, person.asked) == (11, 1, [first[-1]])
    answer(first[-1], "round" if typed[first[-1]] == "cornered" else "cornered")
    guessed = [image_id for image_id in second if guesses[image_id]]
    assert (person.round, person.asked) == (2, second)
    answer(guessed[0], "✓")
    typed[guessed[0]] = str(guesses[guessed[0]])
    answer(guessed[1], "skip")
    person.save("accept")
    typed |= {image_id: str(guesses[image_id]) for image_id in guessed if image_id != guessed[1]}
    unguessed = [image_id for image_id in second if image_id not in guessed]
    assert unguessed, "among twelve images some are drawn to measure with, and show no guess to accept"
    assert (person.n_saved, person.asked) == (24 - len(unguessed), unguessed)

    for image_id in unguessed:
        answer(image_id, "round")
    person.save()
    third = look()
    answer(third[0], "cornered")
    answer(third[4], "none")
    person.save()
    assert person.n_saved == 26
    server.kill()
    with person.offline():
        server.start()
        person.reload()
    left = [image_id for number, image_id in enumerate(third) if number not in (0, 4)]
    assert (person.n_saved, person.round, person.asked) == (26, 3, left)

    exports = {"CSV": read_csv, "JSON Lines": read_json_lines}
    for form, read in exports.items():
        rows = {row["image_id"]: row for row in read(person.export(form))}
        assert {key: (row["class_name"], row["outcome"]) for key, row in rows.items()} == {
            image_id: exported_as(option) for image_id, option in typed.items()
        }
        assert {key: int(row["round"]) for key, row in rows.items()} == {key: rounds[key] for key in typed}
        assert {key: row["guess"] if row["guess_shown"] == "True" else None for key, row in rows.items()} == {
            key: guesses[key] for key in typed
        }
        assert {row["annotator"] for row in rows.values()} == {"you"}
    assert {row["strategy"] for row in rows.values()} == {"typical", "margin", "uniform"}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json_lines(path: Path) -> list[dict[str, str]]:
    """As text, as in the other table: nothing is an empty text."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def test_the_first_start_opens_on_twelve_digits(server: Server, new_person: NewPerson) -> None:
    """No click, no question: images of at least 96 px, pixel by pixel; two rounds later the curve and a sentence."""
    person = new_person(server)
    person.open()
    person.surface.wait_for()
    sizes = person.page.locator(".surface .card img").evaluate_all(
        "images => images.map(image => [image.width, image.height, image.naturalWidth % 8])"
    )
    assert len(sizes) == 12
    assert all(width >= 96 and height >= 96 and not rest for width, height, rest in sizes)
    for n_saved in (12, 24):
        answer_truly(person)
        person.save()
        assert person.n_saved == n_saved
    person.sees(re.compile(r"^18 labels → \d+ guesses changed, accuracy \d+ → \d+ % on 500 held-out images$"))
    expect(person.page.locator(CURVE)).to_have_attribute("aria-label", re.compile("after 18 labels$"))

    asked = person.asked
    person.reload()
    assert (person.n_saved, person.asked) == (24, asked)
    other = new_person(server)
    other.open()
    assert (other.n_saved, other.asked) == (24, asked)


def test_on_a_phone_everything_is_in_one_column(shared: Server, new_person: NewPerson) -> None:
    """390 x 844: a batch is labeled by tapping, the curve lies below the grid, no view scrolls sideways."""
    person = new_person(shared, 390, 844, has_touch=True, is_mobile=True)
    person.open("start")
    person.start_demo("Handwritten digits")
    answer_truly(person, tap=True)
    person.save()
    assert (person.n_saved, person.round) == (12, 2)
    grid = person.page.locator(".surface .page").bounding_box()
    curve = person.page.locator(CURVE).bounding_box()
    assert grid
    assert curve
    assert curve["y"] > grid["y"] + grid["height"]
    for view in VIEWS:
        person.go_to(view)
        widths = person.page.evaluate(
            "[document.scrollingElement, document.querySelector('[data-testid=stMain]')].map(it => it.scrollWidth)"
        )
        assert max(widths) <= 390, view


def test_the_tutorials_run_is_scikit_learns_example(shared: Server, new_person: NewPerson) -> None:
    """Start, Play, and it pauses by itself: the rounds panel holds the example's 25 images, guess by guess."""
    person = new_person(shared)
    person.open("start")
    person.start_demo("The tutorial's run")
    person.button("Play").click()
    person.button("Pause").wait_for()
    expect(person.page.get_by_role("button", name="Pause", exact=True)).to_have_count(0, timeout=120_000)
    person.button("Play").wait_for()
    person.go_to("Progress")
    person.sees("Round 1")
    person.sees("10 neighbours of each image, exact")
    panel = person.page.get_by_test_id("stMain").inner_text().partition("What was asked")[2]
    shown = re.findall(r"^(\d) → (\d)( ✗)?$", panel, re.MULTILINE)
    expected = [
        (str(guess), str(truth), " ✗" if guess != truth else "")
        for each in reversed(REFERENCE["rounds"])
        for guess, truth in zip(each["asked_predicted"], each["asked_true"], strict=True)
    ]
    assert shown == expected
    assert re.findall(r"Round (\d)", panel) == ["5", "4", "3", "2", "1"]


def test_a_class_added_in_the_middle_can_be_used_at_once(shared: Server, new_person: NewPerson) -> None:
    """It has a button at once; the next model knows it; the same name again is refused."""
    person = new_person(shared)
    person.open("start")
    person.start_demo("Handwritten digits")
    person.add_class("smudge")
    asked = person.asked
    for number, image_id in enumerate(asked):
        person.answer(image_id, "smudge" if number % 3 == 0 else true_digit(image_id))
    person.save()
    project = Project(shared.projects / person.project)
    assert sorted(project.session("you").labels) == sorted(asked)
    assert list(project.session("you").labels.values()).count("smudge") == 4
    assert project.learner.prediction.probabilities[:, project.class_names.index("smudge")].max() > 0
    project.close()
    person.add_class("Smudge")
    person.sees("'Smudge' differs from the class 'smudge' in case alone. Is it the same?")
    assert (person.n_saved, person.round) == (12, 2)


def test_a_dark_scheme_is_dark(shared: Server, new_person: NewPerson) -> None:
    """Every view on a dark ground with light text, as the system asks."""
    person = new_person(shared, color_scheme="dark")
    person.open("start")
    person.start_demo("Handwritten digits")
    answer_truly(person)
    person.save()
    for view in VIEWS:
        person.go_to(view)
        assert max(person.ground) < 60, view
        ink = (
            person.page.get_by_test_id("stMain").locator("p, h3, h4").first.evaluate("it => getComputedStyle(it).color")
        )
        assert min(int(part) for part in re.findall(r"\d+", ink)[:3]) > 150, view
