"""The loop as people live it, in a real browser before a real server: label, undo, come back, export."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person

REFERENCE = json.loads(Path(__file__).parents[1].joinpath("digits_reference.json").read_text())
PhotoFolder = Callable[..., Path]

OUTCOMES = {"skip": "skip", "unsure": "unsure", "none": "none-of-these"}


def typed_as(option: str) -> tuple[str | None, str]:
    """What an export says of an answer: (class, outcome)."""
    return (None, OUTCOMES[option]) if option in OUTCOMES else (option, "label")


def download(person: Person, form: str) -> Path:
    """Through the export view, by its button."""
    person.page.get_by_role("radio", name=form, exact=True).click()
    person.page.wait_for_timeout(200)
    person.button("Write the export").click()
    button = person.button("Download")
    button.wait_for(timeout=30_000)
    with person.page.expect_download() as started:
        button.click()
    return Path(started.value.path())


def test_everything_typed_is_in_the_export(server: Server, new_person: NewPerson, photo_folder: PhotoFolder) -> None:
    """Two batches, an undo across the round, a reload, kill -9 and a restart: not one answer is lost or changed."""
    person = new_person(server)
    photos = photo_folder(45)
    person.open("start")
    person.name_folder(photos)
    person.name_classes("round", "cornered")
    person.choose_parts(encoder="pixels", model="label-propagation", strategy="margin")
    person.create()

    first = person.asked
    assert len(first) == 12
    typed: dict[str, str] = {}
    rounds = dict.fromkeys(first, 1)
    for image_id, option in zip(first, ["round", "cornered", "skip", "unsure", "none", *["round", "cornered"] * 4], strict=False):
        typed[image_id] = option
