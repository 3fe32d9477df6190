"""Measures beside the labeling whether the strategy of a project pays (see annotator/payoff.py). Knows no browser.

After each batch that was chosen, and when a project is opened, a thread looks whether there are labels for a
measurement that was not made yet, and makes it with a model of its own: the project's model, and whoever waits for it,
is not touched. What was found is kept in memory; after a restart the same labels give the same figures again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from annotator.errors import AnnotatorError
from annotator.payoff import Measurement, Payoff, Waiting, measured, measurements_of
from annotator.project import Project
from annotator.workspace.looking import Looking

Key = tuple[Any, ...]  # Any: see Measurement


class Payoffs:
    """What was found in the projects of one process."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[Key, Payoff | Waiting]] = {}
        """By the project's folder and the measurement; of each spell the newest, and what could not be measured."""
        self._failures: dict[Path, Waiting] = {}
        """Why the last look found no measurements to make."""
        self._looking = Looking("payoffs", self._measure_or_say)

    def look(self, project: Project) -> None:
        """Make in a thread the measurements that there are labels for."""
        self._looking.look(project)

    def is_looking(self, project: Project) -> bool:
        """Whether a thread measures."""
        return self._looking.is_looking(project)

    def found(self, project: Project) -> tuple[Payoff | Waiting, ...]:
        """What is known of the strategies in use last, the newest first; Waiting says why a measurement failed."""
        known = self._known.get(project.folder, {})
        return tuple(known[key] for key in sorted(known, key=_since, reverse=True))

    def of_spell(self, project: Project, since: int) -> Payoff | Waiting | None:
        """What is known of the strategy in use since that configuration version, or why nothing could be measured.

        None where nobody has looked yet. After a failure only the next batch looks again.
        """
        known = self._known.get(project.folder, {})
        found = next((value for key, value in known.items() if _since(key) == since), None)
        return found or self._failures.get(project.folder)

    def _measure_or_say(self, project: Project) -> None:
        try:
            self._measure(project)
            self._failures.pop(project.folder, None)
        except Exception as error:  # the store is in trouble, a model of a third party, no memory left
            self._failures[project.folder] = _why(error)

    def _measure(self, project: Project) -> None:
        """Each measurement as it is done, beside what is known of the others so far."""
        measurements = measurements_of(project.store.snapshot(), project.learner)
        known = self._known.get(project.folder, {})
        for measurement in measurements:
            if measurement.key not in known:
                before = {key: found for key, found in known.items() if _since(key) != measurement.spell.first}
                known = before | {measurement.key: _measured(measurement)}
                self._known[project.folder] = known
        self._known[project.folder] = {measurement.key: known[measurement.key] for measurement in measurements}


def _since(key: Key) -> int:
    return int(key[0])


def _measured(measurement: Measurement) -> Payoff | Waiting:
    try:
        return measured(measurement)
    except Exception as error:  # a model of a third party raises whatever it likes
        return _why(error)


def _why(error: Exception) -> Waiting:
    said = f": {error}" if isinstance(error, AnnotatorError) else f" ({error!r})."
    return Waiting(f"It could not be measured{said}")
