"""Text on the screen: what was typed is seen, and nothing that is not."""

from __future__ import annotations

import pytest

from annotator.ui.words import held, plain, visible


@pytest.mark.parametrize("name", ["می\u200cخواهم", "क्\u200dष", "👩\u200d🔬"])
def test_joiners_stay_in_names(name: str) -> None:
    """They say which letters are joined, and make one picture of several emoji: replaced, a name is misspelled."""
    assert visible(name) == plain(name) == name


@pytest.mark.parametrize("code", [0x00, 0x1B, 0xAD, 0x61C, 0x200B, 0x200E, 0x202E, 0x2060, 0x2066, 0xFEFF, 0xE0041])
def test_other_controls_are_made_visible(code: int) -> None:
    """Among them all that turn the direction of a text, or hide in it."""
    assert visible(f"a{chr(code)}b") == "a�b"


def test_line_ends_and_undecodable_characters_are_made_visible() -> None:
    """One sign for each, in one line."""
    assert visible("a\nb\u2028c\ud800d") == "a⏎b⏎c�d"


@pytest.mark.parametrize(
    ("names", "whom"),
    [(["eve"], "with eve."), (["eve", "bob"], "with eve and bob."), (list("abc"), "with a, b and c.")],
)
def test_who_holds_the_last_images_is_named(names: list[str], whom: str) -> None:
    """All of them; nothing is said where nobody does."""
    assert whom in held(names)
    assert held([]) == ""
