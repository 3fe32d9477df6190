"""scikit-learn's digits active-learning example, reproduced through the app's own Session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotator.cli import main

REFERENCE = json.loads(Path(__file__).with_name("digits_reference.json").read_text())
TIE = (69, 155)
"""The 25th image is a tie to 8e-21; sort order alone decides."""


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("reference") / "rounds.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["annotator", "simulate", "--preset", "digits-reference", "--json", str(path)])
        main()
    written: list[dict[str, Any]] = json.loads(path.read_text())["rounds"]
    return written


@pytest.mark.parametrize("key", ["round", "n_labeled", "n_unlabeled", "confusion"])
def test_each_round_has_the_examples_figures(rounds: list[dict[str, Any]], key: str) -> None:
    """Label counts and all five confusion matrices are the example's, cell by cell."""
    assert [row[key] for row in rounds] == [row[key] for row in REFERENCE["rounds"]]


def test_accuracy_is_the_examples(rounds: list[dict[str, Any]]) -> None:
    """To the six digits that the reference states."""
    assert [round(row["accuracy"], 6) for row in rounds] == [row["accuracy"] for row in REFERENCE["rounds"]]


def test_the_images_asked_are_the_examples(rounds: list[dict[str, Any]]) -> None:
    """24 rows in their order; for the 25th either row of its tie."""
    asked = [row for each in rounds for row in each["asked_rows"]]
    expected = [row for each in REFERENCE["rounds"] for row in each["asked_rows"]]
    assert asked[:24] == expected[:24]
    assert asked[24] in TIE
    assert len(asked) == 25


@pytest.mark.parametrize("key", ["asked_predicted", "asked_true"])
def test_what_was_predicted_for_each_is_the_examples(rounds: list[dict[str, Any]], key: str) -> None:
    """The guess shown over each asked image, and the answer (the tie's two rows agree on both)."""
    assert [row[key] for row in rounds] == [row[key] for row in REFERENCE["rounds"]]
