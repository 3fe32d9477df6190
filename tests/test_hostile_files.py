"""Files made to harm come out as an image, as set aside with a reason, or as a typed error; see hostile_files.py."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests import hostile_files
from tests.hostile_files import CHANGES, KINDS, MEGABYTES, Hostile, TookTooLong, at_most, attempt, make, megabytes, run

SEED, COUNT = 2025, 40


def test_no_hostile_file_gets_past_the_typed_errors(tmp_path: Path) -> None:
    """Through every source: no traceback, no hang, memory within limits; good images beside come through."""
    before = max(megabytes().values())
    outcomes = list(run(COUNT, SEED, tmp_path))
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    assert {outcome.source for outcome in outcomes} == {"folder", "zip", "arrays", "idx"}
    assert sum(outcome.n_imported for outcome in outcomes) > 0
    assert max(megabytes().values()) <= max(before, MEGABYTES)


def test_equal_seeds_make_equal_files(tmp_path: Path) -> None:
    """A fault is made again by its number and seed."""
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(len(KINDS)):
            make(number, SEED, tmp_path / name / str(number))
        files = (
            path for path in sorted((tmp_path / name).rglob("*")) if path.suffix == ".npz" or path.parent.name == "0"
        )
        contents.append([path.read_bytes() for path in files if path.is_file()])
    assert contents[0] == contents[1]
    assert len(contents[0]) > len(KINDS)


@pytest.mark.parametrize("change", CHANGES)
def test_changes_take_any_bytes(change: hostile_files.Change) -> None:
    """The shortest too."""
    rng = np.random.default_rng(0)
    for content in (b"\0", b"ab", bytes(100)):
        for _ in range(20):
            assert isinstance(change(content, rng), bytes)


def test_what_is_looked_for_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, a hang and a lost good image are faults; a refusal is none."""
    npz = tmp_path / "a.npz"
    npz.write_bytes(b"")
    assert attempt(Hostile("arrays", npz), 0).fault == ""
    assert "did not come through" in attempt(Hostile("arrays", npz, n_good=1), 0).fault
    monkeypatch.setattr(hostile_files, "imported", lambda made: 1 / 0)
    assert "ZeroDivisionError" in attempt(Hostile("arrays", npz), 0).fault
    monkeypatch.setattr(hostile_files, "SECONDS", 0.05)
    monkeypatch.setattr(hostile_files, "imported", lambda made: time.sleep(5))
    assert "TookTooLong" in attempt(Hostile("arrays", npz), 0).fault
    with pytest.raises(TookTooLong), at_most(0.01):
        time.sleep(5)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
