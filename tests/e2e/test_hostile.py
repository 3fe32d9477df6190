"""What people type and bring along, by mistake or on purpose: shown as text, refused with a reason, nothing lost."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from annotator.config import Config
from annotator.project import Project
from annotator.projects import STORE_NAME, list_projects
from annotator.simulate import answer_batch, oracle_of
from tests.conftest import PhotoFolder, photo
from tests.e2e.conftest import NewPerson, Server, running
from tests.e2e.person import Person

NAMES = {
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "**bold** _it_": "**bold** _it_",
    "[x](javascript:alert(1))": "[x](javascript:alert(1))",
    ":red[x] :material/home:": ":red[x] :material/home:",
    "$x^2$ `code`": "$x^2$ `code`",
    "\u202egnp": "�gnp",
    "🐈": "🐈",
}
"""What is typed -> what is shown."""
INJECTED = "[src='x'], [onerror], a[href^='javascript'], .stMain script, .katex, .stMain code:not(pre code)"


def holds_nothing_injected(person: Person) -> None:
    assert person.page.locator(INJECTED).count() == 0


def test_hostile_names_are_shown_as_text(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """Class, file and folder names with HTML, Markdown, formulas and direction marks stand on every view as typed."""
    folder_name = "**fat** <img src=x onerror=alert(1)> :red[x]"
    folder = tmp_path / folder_name
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = {f"{typed}.png".replace("/", "∕"): f"{shown}.png".replace("/", "∕") for typed, shown in NAMES.items()}
    files |= {"new\nline.png": "new⏎line.png", "=1+1.png": "=1+1.png", "100%.png": "100%.png"}
    for number, name in enumerate(files):
        photo(("circle", "square")[number % 2], rng).save(folder / name)
        (folder / f"bad {name}").write_bytes(b"<html>")
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.name_classes(*NAMES)
    person.create()

    assert sorted(person.asked) == sorted(files.values())
    person.sees(folder_name)
    assert person.page.locator(".surface .classes .name").all_inner_texts() == list(NAMES.values())
    person.page.get_by_text("set aside").click()
    assert sorted(person.table("file")) == sorted(f"bad {shown}" for shown in files.values())
    holds_nothing_injected(person)

    for image_id, shown in zip(person.asked, [*NAMES.values(), "skip", "skip", "unsure"], strict=True):
        person.answer(image_id, shown)
    person.save()
    person.undo()
    person.add_class("<b>late</b> **x**")
    person.sees("Class <b>late</b> **x** added.")
    person.page.locator(".surface .class[data-class='<b>late</b> **x**']").wait_for()
    holds_nothing_injected(person)

    person.go_to("Progress")
    longest = person.page.locator("[aria-roledescription=bar][aria-label^='labels: 1;']")
    for bar in longest.all():
        bar.hover()
        told = person.page.locator("#vg-tooltip-element").inner_text()
        assert any(shown in told for shown in NAMES.values())
    assert longest.count() == len(NAMES)
    holds_nothing_injected(person)
    for view in ("Export", "Start"):
        person.go_to(view)
        person.sees(re.compile(re.escape(folder_name)))
        holds_nothing_injected(person)


def test_many_classes_are_a_list_to_search(shared: Server, new_person: NewPerson, photo_folder: PhotoFolder) -> None:
    """Above ten classes one types the name; hostile ones are text here too."""
    person = new_person(shared)
    person.open("start")
    person.name_folder(photo_folder(6))
    names = [*NAMES, *(f"class {number}" for number in range(8))]
    person.name_classes(*names)
    person.create()
    first, second = person.asked[:2]
    for image_id, name in ((first, "class 7"), (second, "**bold** _it_")):
        person.card(image_id).click()
        person.key("/")
        person.page.keyboard.type(name)
        person.key("Enter")
    person.save()
    assert person.n_saved == 2
    project = Project(shared.projects / person.project)
    assert project.session("you").labels == {first: "class 7", second: "**bold** _it_"}
    project.close()
    holds_nothing_injected(person)


def test_what_cannot_be_used_is_refused_with_a_reason(
    shared: Server, new_person: NewPerson, tmp_path: Path, photo_folder: PhotoFolder
) -> None:
    """Paths outside the root, missing, empty; classes twice or none: a sentence each, and the next try works."""
    before = len(list_projects(shared.projects))
    empty, notes = tmp_path / "empty", tmp_path / "notes.txt"
    empty.mkdir()
    notes.write_text("not images")
    person = new_person(shared)
    person.open("start")
    for path, reason in {
        "/etc": "is not under",
        f"{tmp_path}/../../../../etc": "is not under",
        f"{tmp_path}/missing": "is not there",
        str(notes): "notes.txt",
    }.items():
        person.name_folder(path)
        person.is_told(reason)
    person.name_folder(empty)
    person.name_classes("a", "b")
    person.press("Create the project")
    person.is_told("No images in")
    person.name_folder(photo_folder(6))
    person.name_classes("a", "A")
    person.press("Create the project")
    person.is_told("'A' differs from the class 'a' in case alone")
    person.name_classes("")
    person.button("Create the project").click()
    person.is_told("give at least one")
    assert len(list_projects(shared.projects)) == before
    person.name_folder(tmp_path / "photos")
    person.name_classes("only")
    person.create()
    for image_id in person.asked:
        person.answer(image_id, "only")
    person.save()
    person.sees("Finished: every image has been asked about.")


def test_bad_files_are_listed_and_the_rest_is_there(
    shared: Server, new_person: NewPerson, photo_folder: PhotoFolder
) -> None:
    """Three bad files among the photos: counted, each with its reason, and labeling begins."""
    folder = photo_folder(12)
    whole = (folder / "0000.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html><script>alert(1)</script></html>")
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.name_classes("round", "cornered")
    person.create()
    assert len(person.asked) == 12
    person.page.get_by_text("Imported 12 of 15 images, 3 set aside").click()
    reasons = dict(zip(person.table("file"), person.table("code"), strict=True))
    assert reasons == {"cut.jpg": "IMG_TRUNCATED", "empty.png": "IMG_EMPTY", "page.jpg": "IMG_FORMAT"}
    assert all(person.table("reason"))


def test_a_cancelled_preparation_leaves_nothing(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """Cancel while images are read: no project, no half-made cache, and the form is there again."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "0.jpg")
    for number in range(1, 400):
        shutil.copy(folder / "0.jpg", folder / f"{number}.jpg")
    before = contents(shared.projects)
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.name_classes("a", "b")
    person.button("Create the project").click()
    person.sees(re.compile(r"Reading images \d+ of 400"))
    person.button("Cancel").click()
    person.is_told("stopped")
    expect(person.field("folder-path")).to_be_visible()
    person.waits_for(lambda: contents(shared.projects) == before)


def contents(projects: Path) -> set[str]:
    """Names of projects and of what is cached, half-made ones included."""
    return {str(path.relative_to(projects)) for path in [*projects.glob("*"), *projects.glob(".cache/*")]}


def test_a_projects_folder_that_cannot_be_written_says_so(tmp_path: Path, new_person: NewPerson) -> None:
    """It lies under a file: one sentence with what to do, and the app stays up."""
    (tmp_path / "file").write_text("in the way")
    with running(Server(tmp_path / "file" / "projects", tmp_path)) as server:
        person = new_person(server)
        person.open()
        person.is_told("Choose another --projects folder")
        person.go_to("Start")
        person.press_start("Handwritten digits")
        person.is_told("Choose another --projects folder")


def test_a_project_deleted_under_the_app_says_so(
    server: Server, new_person: NewPerson, photo_folder: PhotoFolder
) -> None:
    """Nothing is said to be saved that is not on the disk; the other views still work."""
    person = new_person(server)
    person.open("start")
    person.name_folder(photo_folder(12))
    person.name_classes("round", "cornered")
    person.create()
    assert len(person.asked) == 12
    shutil.rmtree(server.projects / person.project)
    person.key("1")
    person.sees("kept in this browser")
    assert person.surface.get_attribute("data-saved") == "0"
    person.go_to("Start")
    person.start_demo("Handwritten digits")
    assert len(person.asked) == 12


def test_a_damaged_project_says_so_and_exports_what_it_has(shared: Server, new_person: NewPerson) -> None:
    """S4: two class names were swapped in the file: no image is asked, and labels are exported as they were meant."""
    project = Project.create(shared.projects / "swapped", Config(source="digits", limit=30, encoder="pixels"))
    session = project.session("ada")
    session.advance()
    answer_batch(session, oracle_of(project))
    expected = session.labels
    project.close()
    with closing(sqlite3.connect(shared.projects / "swapped" / STORE_NAME)) as file, file:
        for name, code in (("x", 1), ("1", 2), ("2", 1)):
            file.execute("UPDATE classes SET name = ? WHERE class_id = ?", (name, code))
    person = new_person(shared)
    person.open("?project=swapped")
    person.is_told("Class 1 was added as '1', and is called '2' now.")
    person.is_told("Restore the project's folder from a backup")
    assert person.surface.count() == 0
    rows = [json.loads(line) for line in person.export("JSON Lines").read_text().splitlines()]
    assert {row["image_id"]: row["class_name"] for row in rows} == expected
    expect(person.page.get_by_test_id("stAlert").filter(has_text="is called '2' now")).to_have_count(2)
