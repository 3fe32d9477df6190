"""Image ids that are strings only when asked for: as a list of them would be, whatever is in the names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator import ids as ids_module
from annotator.ids import Ids, NumberedIds, ReorderedIds, StoredIds

NAMES = st.lists(st.text(st.characters(), max_size=12), unique=True, max_size=40)
"""Any characters: also lone surrogates, which stand for undecodable bytes."""


def behaves_as(ids: Ids, names: Sequence[str]) -> None:
    """Every way to read a sequence gives what the list gives."""
    assert list(ids) == list(names)
    assert [ids[row] for row in range(-len(names), len(names))] == [*names, *names]
    assert [ids.index(name) for name in names] == list(range(len(names)))
    assert all(name in ids for name in names)
    assert list(ids[1:7:2]) == list(names[1:7:2])
    assert ids == list(names)
    assert ids == tuple(names)
    assert ids != [*names, "one more"]
    for absent in ("/none/", "\ud800/none/", 7, None):
        assert absent not in ids
    for row in (len(names), -len(names) - 1):
        with pytest.raises(IndexError):
            ids[row]
    with pytest.raises(ValueError):
        ids.index("/none/")


@given(NAMES)
def test_stored_ids_are_the_names_they_were_made_of(names: list[str]) -> None:
    """Distinct strings of any characters."""
    behaves_as(StoredIds.from_ids(iter(names)), names)


def test_stored_ids_come_back_from_their_folder(tmp_path: Path) -> None:
    """Bytes that were no UTF-8, empty and long names, more than are gone through at a time, and none at all."""
    odd = ["", "é/😀.png", b"caf\xe9.png".decode("utf-8", "surrogateescape"), "x" * 5000, "a\0b", "\ud83d"]
    for number, names in enumerate([[], odd, [*odd, *(f"photos/{row}.jpg" for row in range(20_000))]]):
        StoredIds.from_ids(names).save(tmp_path / str(number))
        loaded = StoredIds.load(tmp_path / str(number))
        behaves_as(loaded, names)
        assert loaded == StoredIds.from_ids(names)
        assert loaded != StoredIds.from_ids([*names, "z"])


def test_names_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash only says where to look."""
    monkeypatch.setattr(ids_module, "_hash", lambda encoded: len(encoded))
    behaves_as(StoredIds.from_ids(["b", "a", "cc", "c", "dd"]), ["b", "a", "cc", "c", "dd"])


@given(st.text(max_size=8), st.lists(st.integers(0, 10**7), unique=True, max_size=20))
def test_numbered_ids_are_spelt_with_five_digits(name: str, numbers: list[int]) -> None:
    """By the numbers given, or counted."""
    behaves_as(NumberedIds(name, len(numbers)), [f"{name}/{row:05d}" for row in range(len(numbers))])
    given_numbers = np.array(numbers, dtype=np.int64)
    behaves_as(NumberedIds(name, len(numbers), given_numbers), [f"{name}/{number:05d}" for number in numbers])


@pytest.mark.parametrize(
    "name", ["a/7", "a/000007", "a/+0007", "a/-0001", "a/00010", "a/٠٠٠٠٧", "b/00007", "00007", ""]
)
def test_a_number_has_one_spelling(name: str) -> None:
    """Whatever else would be read as the same number is another name."""
    assert name not in NumberedIds("a", 10)


def test_reordered_ids_follow_their_rows() -> None:
    """What was left out is not there."""
    ids = ReorderedIds(NumberedIds("a", 10), np.array([7, 2, 9]))
    behaves_as(ids, ["a/00007", "a/00002", "a/00009"])
    assert "a/00003" not in ids


def test_the_first_row_is_found() -> None:
    """As in a list, also with a start and a stop."""
    for ids in (StoredIds.from_ids(["a", "b", "a"]), ReorderedIds(["b", "a"], np.array([1, 0, 1]))):
        assert ids.index("a") == 0
        assert ids.index("b", 1) == 1
        with pytest.raises(ValueError):
            ids.index("b", 0, 1)
    assert repr(NumberedIds("a", 2)) == "<NumberedIds of 2: 'a/00000', 'a/00001'>"
