"""One label an image by a named rule, and how far people agree."""

from __future__ import annotations

import pytest

from annotator.consensus import agreement, consensus
from annotator.errors import ConfigError
from annotator.store import Event


def labels(*given: tuple[str, str, int]) -> list[Event]:
    """Events of (image, person, class code)."""
    return [
        Event(seq, f"e{seq}", "answer", person, image, code, "label")
        for seq, (image, person, code) in enumerate(given, start=1)
    ]


def test_an_unknown_rule_names_those_there_are() -> None:
    """An error says what to choose from."""
    with pytest.raises(ConfigError, match="majority"):
        consensus([], "loudest")


def test_agreement_is_krippendorffs() -> None:
    """By hand: two people, four images, one disagreement; values 0,0 1,1 1,1 0,1 give alpha 1 - 7 * 2 / 30."""
    pairs = [(0, 0), (1, 1), (1, 1), (0, 1)]
    both = [(f"i{place}", who, code) for place, pair in enumerate(pairs) for who, code in zip("ab", pair, strict=True)]
    found = agreement(labels(*both, ("alone", "a", 1)))
    assert (found.n_images, found.n_unanimous) == (4, 3)
    assert found.alpha == pytest.approx(1 - 7 * 2 / 30)


def test_without_shared_images_there_is_no_alpha() -> None:
    """Nothing was labeled twice, or always as the same class."""
    assert agreement(labels(("i", "a", 0), ("j", "b", 1))).alpha is None
    assert agreement(labels(("i", "a", 0), ("i", "b", 0))).alpha is None
