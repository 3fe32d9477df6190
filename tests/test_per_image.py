"""Arrays that change in a few rows: always the right ones, and what somebody holds stays as it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator.metrics import row_entropy
from annotator.per_image import CHUNK, Measure, Renewed, RowFigures
from annotator.strategies.uncertainty import entropy, least_confidence, margin
from annotator.types import likeliest

N = 12
steps = st.lists(st.tuples(st.lists(st.integers(0, N - 1), max_size=8), st.booleans()), min_size=1, max_size=12)


@given(steps)
def test_each_value_is_right_and_stays_so(turns: list[tuple[list[int], bool]]) -> None:
    """Rows change; some values are held on to, whole or in part, others are dropped."""
    newest, kept, held = np.zeros((N, 2)), Renewed(), []
    for number, (rows, is_held) in enumerate(turns, start=1):
        newest[rows] = number
        value = kept.renewed(newest, np.array(rows, dtype=np.int64))
        assert np.array_equal(value, newest)
        assert not value.flags.writeable
        if is_held:
            held.append((value[1:], newest[1:].copy()))
    assert all(np.array_equal(part, was) for part, was in held)


def test_a_value_nobody_holds_is_written_again() -> None:
    """Two arrays take turns, so that a million rows are not copied for a few."""
    newest, kept = np.zeros(N), Renewed()
    addresses = []
    value = None
    for number in range(1, 7):
        newest[number] = number
        value = kept.renewed(newest, np.array([number]))
        addresses.append(value.ctypes.data)
    assert value is not None
    assert len(set(addresses)) == 2


def doubled(probabilities: np.ndarray) -> np.ndarray:
    return 2 * probabilities[:, 0]


@given(steps)
def test_figures_of_each_fit_are_those_of_its_rows(turns: list[tuple[list[int], bool]]) -> None:
    """Asked at every fit or only now and then, of the newest or of one before it."""
    probabilities = np.zeros((N, 2))
    figures = RowFigures(probabilities)
    made = [(figures, probabilities)]
    for number, (rows, asks) in enumerate(turns, start=1):
        probabilities = probabilities.copy()
        probabilities[rows] = number
        figures = figures.after(probabilities, np.array(rows, dtype=np.int64))
        made.append((figures, probabilities))
        if asks:
            assert np.array_equal(figures.measured(doubled), doubled(probabilities))
    for figures, probabilities in made:
        assert np.array_equal(figures.measured(doubled), doubled(probabilities))


def test_only_changed_rows_are_measured_again() -> None:
    """A round costs what has changed."""
    sizes = []

    def counted(probabilities: np.ndarray) -> np.ndarray:
        sizes.append(len(probabilities))
        return probabilities[:, 0].copy()

    figures = RowFigures(np.zeros((N, 2)))
    figures.measured(counted)
    for _ in range(3):
        figures = figures.after(np.zeros((N, 2)), np.array([1, 2]))
        figures.measured(counted)
        figures.measured(counted)
    assert sizes == [N, 2, 2, 2]


def test_two_threads_ask_at_once() -> None:
    """Both get the same array."""
    figures, found = RowFigures(np.random.default_rng(0).random((1000, 3))), []
    threads = [threading.Thread(target=lambda: found.append(figures.measured(doubled))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(value) for value in found}) == 1


@pytest.mark.parametrize("measure", [row_entropy, entropy, margin, least_confidence, likeliest])
@pytest.mark.parametrize("n_classes", [1, 2, 10, 33])
def test_figures_are_measured_a_chunk_at_a_time(measure: Measure, n_classes: int) -> None:
    """To the same bits as all at once, where all have changed and where a few have."""
    rng = np.random.default_rng(n_classes)
    before, after = (rng.dirichlet(np.full(n_classes, 0.05), CHUNK + 777) for _ in range(2))
    changed = np.flatnonzero(rng.random(len(after)) < 0.3)
    figures = RowFigures(before)
    assert figures.measured(measure).tobytes() == measure(before).tobytes()
    before = before.copy()
    before[changed] = after[changed]
    figures = figures.after(before, changed)
    assert figures.measured(measure).tobytes() == measure(before).tobytes()
    figures = figures.after(after, np.arange(len(after)))
    assert figures.measured(measure).tobytes() == measure(after).tobytes()
