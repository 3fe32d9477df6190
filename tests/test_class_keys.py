"""Which key answers with which class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator.class_keys import KEYS, MOST_CLASSES, checked_class_keys, class_keys
from annotator.errors import ConfigError


def test_a_digit_is_its_own_key() -> None:
    """Who labels digits presses what they see."""
    assert class_keys([str(digit) for digit in range(10)], {}) == {str(digit): str(digit) for digit in range(10)}


def test_classes_are_counted_from_one() -> None:
    """In the order of their creation, as they stand on the screen."""
    assert class_keys(["cat", "dog", "12"], {}) == {"cat": "1", "dog": "2", "12": "3"}


def test_a_chosen_key_wins_and_the_others_give_way() -> None:
    """A person's own choice holds, and nobody else gets that key."""
    assert class_keys(["cat", "dog", "bird"], {"dog": "1", "cat": "c"}) == {"dog": "1", "cat": "c", "bird": "2"}


def test_many_classes_have_no_keys_but_the_chosen_ones() -> None:
    """Nobody remembers thirty keys."""
    names = [f"class {number}" for number in range(30)]
    assert class_keys(names, {"class 3": "t"}) == {"class 3": "t"}


@pytest.mark.parametrize("key", ["s", "u", "n", "f", "z", "A", "12", "", "é", " ", "Enter"])
def test_a_key_that_means_something_else_is_refused(key: str) -> None:
    """Commands, capital letters and anything longer are no keys of classes."""
    with pytest.raises(ConfigError) as refused:
        checked_class_keys({"cat": key})
    assert refused.value.code == "CLASS_KEY"


def test_two_classes_never_share_a_key() -> None:
    """Which of the two would it be?"""
    with pytest.raises(ConfigError) as refused:
        checked_class_keys({"cat": "c", "cow": "c"})
    assert refused.value.code == "CLASS_KEY"


@given(
    names=st.lists(st.text(max_size=3), max_size=MOST_CLASSES, unique=True),
    chosen=st.dictionaries(st.text(max_size=3), st.sampled_from(KEYS), max_size=5),
)
def test_every_class_has_a_key_of_its_own(names: list[str], chosen: dict[str, str]) -> None:
    """Up to ten classes: each has one, no two the same, whatever was chosen."""
    unique = {key: name for name, key in chosen.items()}
    keys = class_keys(names, {name: key for key, name in unique.items()})
    assert sorted(keys) == sorted(names)
    assert len(set(keys.values())) == len(names)
    assert set(keys.values()) <= set(KEYS)
