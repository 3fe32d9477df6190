"""One grammar of event ids: event_ids.json holds the examples, which the JavaScript that mints them reads too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotator.store import event_ids

EXAMPLES = json.loads(Path(__file__).with_name("event_ids.json").read_text(encoding="utf-8"))
MINT: dict[str, Callable[[dict[str, Any]], str]] = {
    "answer": lambda of: event_ids.answer(of["question"], of["n"]),
    "change": lambda of: event_ids.change(of["seen"], of["outcome"], of["class"]),
    "undo": lambda of: event_ids.undo(of["seen"]),
    "flag": lambda of: event_ids.flag(of["question"], of["unique"]),
    "class": lambda of: event_ids.class_added(of["class"]),
    "config": lambda of: event_ids.config_stored(of["version"]),
}


@pytest.mark.parametrize("example", EXAMPLES["minted"], ids=lambda example: example["id"])
def test_an_id_is_minted_as_the_examples_say_and_read_as_its_kind(example: dict[str, Any]) -> None:
    """What is minted as one kind is read as that kind."""
    assert MINT[example["as"]](example) == example["id"]
    found = event_ids.parse(example["id"])
    assert found is not None
    assert found.kind == example["as"]


@pytest.mark.parametrize("example", EXAMPLES["parsed"], ids=lambda example: example["id"])
def test_an_id_is_taken_apart(example: dict[str, Any]) -> None:
    """Kind, what it is of, number, outcome and class."""
    found = event_ids.parse(example["id"])
    assert found is not None
    assert {
        "id": example["id"],
        "kind": found.kind,
        "of": found.about,
        "number": found.number,
        "outcome": found.outcome,
        "class": found.class_id,
    } == example


@pytest.mark.parametrize("text", EXAMPLES["no_ids"])
def test_what_is_no_id_is_none(text: str) -> None:
    """It is read as nothing, never as something near it."""
    assert event_ids.parse(text) is None


@pytest.mark.parametrize("example", EXAMPLES["escaped"], ids=lambda example: example["id"])
def test_an_id_that_is_taken_is_escaped(example: dict[str, str]) -> None:
    """With one "~" more, which is taken off again."""
    assert event_ids.escaped(example["id"]) == example["escaped"]
    assert event_ids.unescaped(example["escaped"]) == example["id"]
    assert event_ids.variants(example["id"]) == (example["id"], example["escaped"])
