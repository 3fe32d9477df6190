"""What labeling costs in seconds: a scripted person's times, recorded with the answers, and what each minute brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotator import reports
from annotator.config import Config
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.reports import PAUSE_SECONDS
from annotator.simulate import Clock, Pace, oracle_of, play
from annotator.store import Deciding

DIGITS = Config(
    name="cost",
    source="digits",
    source_parameters={"held_out": 100},
    limit=150,
    encoder="pixels",
    batch_size=6,
    rounds=3,
)
PACE = Pace(look=1000, repeat=100, confirm=300, change=1500)


@pytest.mark.parametrize(
    ("cards", "took"),
    [
        ([(None, "a"), (None, "a"), (None, "b")], [1000, 100, 1000]),
        ([("a", "a"), ("a", "a"), ("b", "b")], [300, 100, 300]),
        ([("a", "b"), ("a", "b"), ("b", "b")], [1500, 1500, 100]),
        ([(None, None), (None, None)], [1000, 1000]),
    ],
)
def test_a_scripted_person_takes_time(cards: list[tuple[str | None, str | None]], took: list[int]) -> None:
    """A class once more repeats its key; a right guess is confirmed, a wrong one read first; a skip is no class."""
    clock = Clock(PACE)
    decided = [clock.decide(guess, answer) for guess, answer in cards]
    assert [each.milliseconds for each in decided] == took
    assert [each.guess_shown for each in decided] == [guess is not None for guess, _ in cards]


def test_no_answer_takes_less_than_no_time() -> None:
    with pytest.raises(ConfigError):
        Pace(look=-1)


def played(folder: Path, pace: Pace | None) -> tuple[Project, list[dict[str, Any]]]:  # Any: JSON
    project = Project.create(folder, DIGITS)
    return project, list(play(project, pace=pace))


def test_rows_count_the_recorded_seconds(projects: Path) -> None:
    """Cumulative; the rest of a row is as without a clock, which adds nothing to it."""
    timed, rows = played(projects / "timed", PACE)
    plain, others = played(projects / "plain", None)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert rows[0]["seconds"] == 0
    recorded = [
        answered.event.client_ms for answered in reports.recent(timed.session("oracle").moment()) if answered.event
    ]
    assert rows[-1]["seconds"] == pytest.approx(sum(ms for ms in recorded if ms is not None) / 1000)
    assert "seconds" not in others[0]
    assert [row["asked_rows"] for row in rows[:-1]] == [row["asked_rows"] for row in others[:-1]]
    timed.close()
    plain.close()


def test_gains_are_points_by_the_minutes_between_two_models(projects: Path) -> None:
    """Computed anew from accuracy and recorded times; the first model is compared with none."""
    project, rows = played(projects / "timed", PACE)
    first, second, third = reports.gains(project.session("oracle").moment())
    assert (first.points_per_minute, first.n_labeled, third.n_labeled) == (None, 6, 18)
    assert second.accuracy is not None
    assert first.accuracy is not None
    minutes = (rows[2]["seconds"] - rows[1]["seconds"]) / 60
    assert second.points_per_minute == pytest.approx(100 * (second.accuracy - first.accuracy) / minutes)
    assert rows[-1]["points_per_minute"] == third.points_per_minute
    project.close()


def test_a_pause_is_no_work(projects: Path) -> None:
    """Of an answer that took an hour a minute is counted; one without a time counts nothing."""
    project = Project.create(projects / "paused", replace(DIGITS, name="paused"))
    session, oracle = project.session("ada"), oracle_of(project)
    session.advance()
    for card, milliseconds in zip(session.remaining, (3_600_000, 500, None), strict=False):
        name = str(oracle.answer(card.image_id))
        session.label(card.image_id, name, event_id=card.event_id, deciding=Deciding(milliseconds, False))
    assert reports.seconds_spent(session.moment()) == PAUSE_SECONDS + 0.5
    project.close()
