"""A folder of photos of which nobody chose anything: quick features, what fits in the background, tab open or not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import numpy as np

from annotator.pointer import Pointer
from annotator.project import Project
from annotator.workspace.swaps import PREPARE
from tests.conftest import SHAPES, photo
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person
from tests.e2e.processes import command_of, started_by

N_PHOTOS = 150
MARKS = "marks => marks.map(mark => mark.parentElement.querySelector('title').textContent)"


def make_photos(folder: Path) -> None:
    """Of mixed sizes, upright and lying, a folder for each shape."""
    rng = np.random.default_rng(11)
    for number in range(N_PHOTOS):
        shape = SHAPES[number % 3]
        (folder / shape).mkdir(parents=True, exist_ok=True)
        width, height = (int(length) for length in rng.integers(72, 400, 2))
        photo(shape, rng).resize((width, height)).save(folder / shape / f"{number:03}.jpg")


def job_of(server: Server) -> list[int]:
    """The process in which the features are computed."""
    return [pid for pid in started_by(server.pid) if f"annotator.jobs {PREPARE}" in command_of(pid)]


def kill_the_job(person: Person, server: Server) -> None:
    person.waits_for(lambda: bool(job_of(server)))
    for pid in job_of(server):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def stored(server: Server, name: str) -> tuple[str, dict[str, str]]:
    """Whose features the project uses, and what was answered."""
    project = Project(server.projects / name)
    found = project.config.features, project.session("you").labels
    project.close()
    return found


def answer(person: Person) -> None:
    for image_id in person.asked:
        person.answer(image_id, image_id.partition("/")[0])
    person.save()


def test_photos_with_auto(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """A killed computation is told and costs nothing; started again, it takes over while no tab is open."""
    make_photos(tmp_path / "mixed")
    person = new_person(shared)
    person.open("start")
    person.name_folder(tmp_path / "mixed")
    person.use_sub_folders("use their names as classes")
    person.create()
    name = person.project
    person.sees("Preparing the encoder auto. Labeling goes on meanwhile with the features of hog.")
    kill_the_job(person, shared)
    person.sees(re.compile("Computing the features of auto failed; those of hog are used.* was killed"))
    answer(person)
    before = stored(shared, name)
    assert (before[0], len(before[1])) == ("hog", 12)
    person.change_settings(encoder="auto")
    person.sees("Preparing the encoder auto.")
    person.leave()

    back = new_person(shared)
    back.waits_for(lambda: Pointer.read(shared.projects / name).recipe.get("encoder") == "auto")
    back.open(f"?project={name}")
    back.sees(f"auto chose imagenet, which knows a million photos, since these are {N_PHOTOS} colour photos")
    assert stored(shared, name) == ("imagenet", before[1])
    for _ in range(2):  # the batch that was chosen before the swap, and one after it
        answer(back)
    back.waits_for(lambda: back.page.locator(".surface .mark").count() > 0)
    marks = back.page.locator(".surface line.mark").evaluate_all(MARKS)
    assert any(re.fullmatch(r"encoder: imagenet, at \d+ labels", mark) for mark in marks)
    assert before[1].items() <= stored(shared, name)[1].items()
